//! What is asked of the search desk: by the apps through the node, and by operators through their door.
//!
//! Owns the words of it. Never searches.

use super::searches::SearchOver;
use crate::wire::{DataType, SearchRequest};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Results that wait for somebody at the operators' door, and their bytes: they come faster than a person's terminal takes
/// them. What comes while it is full is dropped, counted, and the end says that there was more.
const TOLD: usize = 16 * 1024;
const TOLD_BYTES: usize = 4 << 20;

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
        /// Its part of what may wait, given back when this is dropped.
        room: OwnedSemaphorePermit,
    },
    /// The end, and who had which part in it.
    Over(SearchOver),
    /// Nothing was asked, by this rule.
    Refused(&'static str),
}

/// Who asked at the operators' door.
#[derive(Debug)]
pub(super) struct Listener {
    told: mpsc::Sender<SearchTold>,
    room: Arc<Semaphore>,
}

impl Listener {
    /// False when it does not fit any more. Never waits.
    pub(super) fn result(&self, did: &str, datatype: DataType, document: Bytes) -> bool {
        let bytes = u32::try_from(document.len()).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else {
            return false;
        };
        let result = SearchTold::Result {
            did: did.to_owned(),
            datatype,
            document,
            room,
        };
        self.told.try_send(result).is_ok()
    }

    /// The last word, whatever waits before it.
    pub(super) async fn last(self, word: SearchTold) {
        let _ = self.told.send(word).await;
    }
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
        let room = Arc::new(Semaphore::new(TOLD_BYTES));
        let listener = Listener { told, room };
        self.wishes
            .upgrade()?
            .send(Wish::Operator { request, listener })
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
        listener: Listener,
    },
    /// A PB_SEARCH that was refused: its end is told.
    Refused {
        /// The search's id.
        id: String,
        /// The rule.
        rule: &'static str,
    },
    /// PB_CLOSE_SEARCH.
    Close {
        /// The search's id.
        id: String,
    },
}
