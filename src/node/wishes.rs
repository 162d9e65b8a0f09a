//! What is asked of the search desk: by the apps through the node, and by operators through their door.
//!
//! Owns the words of it. Never searches.

use super::searches::SearchOver;
use crate::wire::{DataType, SearchRequest};
use bytes::Bytes;
use tokio::sync::mpsc;

/// Results that wait for somebody at the operators' door; what comes while it is full is dropped, counted, and the end says
/// that there was more.
const TOLD: usize = 256;

/// What somebody who asks at the operators' door hears.
#[derive(Debug)]
pub enum SearchTold {
    /// One result.
    Result {
        /// Whose it is.
        did: String,
        /// Its kind.
        datatype: DataType,
        /// The document, whole.
        document: Bytes,
    },
    /// The end, and who had which part in it.
    Over(SearchOver),
    /// Nothing was asked, by this rule.
    Refused(&'static str),
}

/// To ask at the desk, for operators. Clones share it.
#[derive(Debug, Clone)]
pub struct Search {
    // The node's end is the desk's end, whoever else could still ask.
    wishes: mpsc::WeakSender<Wish>,
}

impl Search {
    pub(super) fn new(wishes: mpsc::WeakSender<Wish>) -> Self {
        Self { wishes }
    }

    /// Asks; the results and the end come back. None when the desk has ended.
    pub async fn ask(&self, mut request: SearchRequest) -> Option<(String, mpsc::Receiver<SearchTold>)> {
        let id = uuid::Uuid::new_v4().to_string();
        request.id = Some(id.clone());
        let (told, hears) = mpsc::channel(TOLD);
        self.wishes
            .upgrade()?
            .send(Wish::Operator { request, told })
            .await
            .ok()?;
        Some((id, hears))
    }

    /// Ends a search before its time.
    pub async fn close(&self, id: String) {
        // Ended, it is closed anyhow.
        if let Some(wishes) = self.wishes.upgrade() {
            let _ = wishes.send(Wish::Close { id }).await;
        }
    }
}

/// What the node asks of the desk.
#[derive(Debug)]
pub enum Wish {
    /// PB_SEARCH.
    Search {
        /// What and whom.
        request: SearchRequest,
        /// The message's datatype.
        datatype: DataType,
        /// Who asks here.
        user: String,
    },
    /// PB_SEARCH with datatype PEER.
    Peer {
        /// DID, PeerId or name, in `text`.
        request: SearchRequest,
        /// Who asks here.
        user: String,
    },
    /// A search at the operators' door; its id is set.
    Operator {
        /// What and whom.
        request: SearchRequest,
        /// Whom to tell.
        told: mpsc::Sender<SearchTold>,
    },
    /// PB_CLOSE_SEARCH.
    Close {
        /// The search's id.
        id: String,
    },
}
