//! Where documents are: behind one trait, embedded (SQLite) or shared with the apps.
//!
//! Owns what a stored document is found by. Never decides who is a partner or what is forwarded. Always holds: documents
//! stay whole (in the embedded store byte for byte), every call ends within a bound, with an error if it must, and that a store
//! is away is an error, never an absence.

pub(crate) mod copy;
mod error;
pub(crate) mod file;
mod mongodb;
mod room;
mod sqlite;
mod types;
mod words;

use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

pub use self::mongodb::{MongoOptions, MongoStore};
pub use crate::wire::SEARCH_TEXT_MAX;
pub use error::StoreError;
pub use room::Room;
pub use sqlite::SqliteStore;
pub use types::{Applied, AskerId, Change, Found, Peers, SearchDone, SearchQuery, Write};

use crate::model::{Document, ModelError, Peer};
use crate::wire::DataType;

/// Most peers one look-up by DID, peer id or name returns; a name may be borne by many.
pub const FIND_PEERS_MAX: usize = 100;

/// The documents of this organisation, and what partners shared with it.
#[async_trait]
pub trait Store: Send + Sync {
    /// Whether documents can be read, and written when the daemon writes them.
    async fn ready(&self) -> Result<(), StoreError>;

    /// The peer document whose relation is self.
    ///
    /// # Errors
    /// [`StoreError::SeveralSelf`] when there are two: choosing one would speak in a wrong name.
    async fn self_peer(&self) -> Result<Option<Peer>, StoreError>;

    /// All peers, at most `limit` documents of them; those that cannot be read are listed, not fatal.
    async fn peers(&self, limit: usize) -> Result<Peers, StoreError>;

    /// The peers whose DID, peer id or exact name is `key`: all of them, since a name is no identity, but at most
    /// [`FIND_PEERS_MAX`]. Documents that cannot be read are not among them.
    async fn find_peers(&self, key: &str) -> Result<Vec<Peer>, StoreError>;

    /// One document.
    async fn get(&self, datatype: DataType, id: &str) -> Result<Option<Document>, StoreError>;

    /// What is stored under each key, in the order of the keys.
    async fn documents(&self, keys: &[(DataType, String)]) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// The `creator_id` of what is stored under each key, in the order of the keys; empty when it does not say, which
    /// makes it nobody's, and none when nothing is stored there.
    async fn owners(&self, keys: &[(DataType, String)]) -> Result<Vec<Option<String>>, StoreError>;

    /// Applies all writes, those of one document in their order, and says of each what became of it. The embedded store does it
    /// in one transaction; a MongoDB that stands alone has none.
    ///
    /// # Errors
    /// Of a document that cannot be read: nothing was written. (One that the database refuses for good is no error: its write is
    /// [`Applied::Refused`], and holds up no other.) Else some may be, or may yet be after
    /// [`StoreError::Timeout`]: writes are idempotent, and whoever asked for them repeats all.
    async fn apply(&self, writes: Vec<Write>) -> Result<Vec<Applied>, StoreError>;

    /// Whether the store can keep such a document at all; asked before it is taken from a partner.
    ///
    /// # Errors
    /// Why not.
    fn can_hold(&self, _document: &[u8]) -> Result<(), ModelError> {
        Ok(())
    }

    /// Changes whenever peer documents may have been changed by somebody else; none when nobody else writes, or nothing tells.
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Makes what was applied outlive a power cut. A store that does so with every write does nothing here.
    async fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Copies everything, as of one moment and while it is used, to a new file. False when the documents are no file of ours
    /// to copy.
    ///
    /// # Errors
    /// The name is taken, or the copy cannot be written.
    async fn backup(&self, _to: &Path) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Sends every matching document the asker may see to `out`, as found, until the limit, the deadline, the cancelling of
    /// `cancel` or the closing of `out`.
    ///
    /// A document matches when each word of the text is the beginning of a word of its name, description, short description or
    /// one of its kind's attributes, whatever the case and accents in any alphabet; words written together (`a-b`) must stand together. An empty text matches all, a text
    /// of nothing but signs matches nothing. No character of it is ever an operator.
    ///
    /// # Errors
    /// [`StoreError::TextTooLong`] beside those of reading. Running out of time is none.
    async fn search(&self, query: SearchQuery, out: mpsc::Sender<Found>) -> Result<SearchDone, StoreError>;
}

#[cfg(test)]
pub(crate) mod contract;
