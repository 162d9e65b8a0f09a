//! What goes into the store and comes out of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Room, SEARCH_TEXT_MAX, StoreError};
use crate::model::{Asker, Document, Peer};
use crate::wire::DataType;

/// The peers of the store.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    /// Those that could be read.
    pub peers: Vec<Peer>,
    /// Id and reason of those that could not.
    pub unreadable: Vec<(String, String)>,
    /// Whether there are more than were asked for.
    pub truncated: bool,
}

/// One change of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its kind.
    pub datatype: DataType,
    /// Its id.
    pub id: String,
    /// What happens to it.
    pub change: Change,
    /// Applied only when nothing is stored under the id, or the stored `creator_id` is this DID.
    pub only_if_owner: Option<String>,
}

/// What happens to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is stored, in place of what was there.
    Put(Bytes),
    /// It is removed.
    Remove,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Done.
    Done,
    /// Refused: the stored document is somebody else's.
    NotOwner,
    /// The store was already so, byte for byte.
    Unchanged,
    /// The database refuses this document, for a reason that stays however often it is tried.
    Refused(String),
}

/// Who asks, owned. See [`Asker`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskerId {
    /// Its DID.
    pub did: String,
    /// Its libp2p peer id, when known.
    pub peer_id: Option<String>,
    /// Whether its peer document is in our store and not blacklisted.
    pub trusted: bool,
}

impl AskerId {
    /// As the access rule takes it.
    pub fn as_asker(&self) -> Asker<'_> {
        Asker {
            did: &self.did,
            peer_id: self.peer_id.as_deref(),
            trusted: self.trusted,
        }
    }
}

/// A question to the store.
#[derive(Debug, Clone)]
pub struct SearchQuery {
    /// What to look for; empty matches everything.
    pub text: String,
    /// Kinds to look through; kinds that are no resources are left out. Empty: all resource kinds.
    pub datatypes: Vec<DataType>,
    /// Only documents of this organisation are shown.
    pub own_did: String,
    /// Who asks.
    pub asker: AskerId,
    /// Most documents to send.
    pub limit: usize,
    /// When to stop.
    pub deadline: Instant,
    /// Stops it before.
    pub cancel: CancellationToken,
    /// What may be found and not taken, beside the bound of the channel: the search takes it, whoever listens gives it back.
    pub room: Option<Room>,
}

impl SearchQuery {
    /// The query, to run for `longest` at most, whatever its deadline.
    ///
    /// # Errors
    /// [`StoreError::TextTooLong`].
    pub(super) fn within(mut self, longest: Duration) -> Result<Self, StoreError> {
        let size = self.text.len();
        if size > SEARCH_TEXT_MAX {
            return Err(StoreError::TextTooLong {
                size,
                limit: SEARCH_TEXT_MAX,
            });
        }
        self.deadline = self.deadline.min(Instant::now() + longest);
        Ok(self)
    }
}

/// One document found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its kind.
    pub datatype: DataType,
    /// The document.
    pub document: Document,
}

/// How a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchDone {
    /// Whether it stopped before its end: limit, deadline, cancelled, or nobody listened any more.
    pub truncated: bool,
    /// Documents sent.
    pub results: usize,
}
