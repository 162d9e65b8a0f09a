//! What the journal keeps, and the words of the rules about it.
//!
//! Pure data. Always holds: two keys compare as the journal sorts them, so that two daemons can compare their lists.

use crate::wire::{Action, DataType};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fmt;

/// 16 random bytes that name a journal file (its lineage) or one life of it (an incarnation). Hex on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Token(pub [u8; 16]);

/// What two versions of a document are told apart by: the first 16 bytes of its SHA-256. Hex on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 16]);

impl Hash {
    /// No document's.
    pub const NONE: Self = Self([0; 16]);

    /// The hash of a document's bytes, untouched.
    #[must_use]
    pub fn of(document: &[u8]) -> Self {
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(Sha256::digest(document)) {
            *to = from;
        }
        Self(short)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

/// What a change is of: a later one of the same key takes the place of the earlier. Sorted by the kind's code, then by
/// the bytes of the id. The id of a directed event is its message's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The document's kind.
    pub datatype: DataType,
    /// Its id.
    pub id: String,
}

/// A change to be journaled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What changed.
    pub key: Key,
    /// Empty: every partner. Else the DID of the one peer it is for, and nothing takes its place.
    pub dest: String,
    /// Create, update or delete; considers when directed.
    pub action: Action,
    /// Who did it here.
    pub user: String,
    /// The document, or what a delete or a directed event says.
    pub payload: Bytes,
    /// When it was taken: milliseconds since 1970.
    pub at: u64,
}

/// A journaled change: one row a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place in the feed.
    pub seq: u64,
    /// What was journaled.
    pub change: Change,
    /// Of the payload.
    pub hash: Hash,
}

/// How far the intake has come in a JetStream stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The stream's name.
    pub source: String,
    /// When it was made, as the server says: another time is another stream.
    pub created: String,
    /// The newest message that is journaled, or was decided to be no concern of ours.
    pub last_seq: u64,
}

/// One life of a journal file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation {
    /// Its name.
    pub id: Token,
    /// The first seq that it may give; the one before ends there.
    pub first_seq: u64,
}

/// The state of our own feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// Made with the file.
    pub lineage: Token,
    /// The newest seq.
    pub head: u64,
    /// The highest seq of a purged tombstone: a position below it cannot be caught up by the feed alone.
    pub floor: u64,
    /// All lives, the oldest first; the last one is this one.
    pub incarnations: Vec<Incarnation>,
}

/// A place in somebody's feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Of the feed's journal.
    pub lineage: Token,
    /// The life of it in which this place was adopted.
    pub incarnation: Token,
    /// Everything up to here is taken.
    pub seq: u64,
}

/// For people: the ids are told as far as is needed to see that two differ.
impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |token: &Token| hex::encode(token.0.get(..4).unwrap_or_default());
        let (journal, life) = (short(&self.lineage), short(&self.incarnation));
        write!(out, "{} (journal {journal}, life {life})", self.seq)
    }
}

/// One of our own keys, for a comparison of lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnKey {
    /// The key.
    pub key: Key,
    /// The seq of its row.
    pub seq: u64,
    /// Of the document; none when the row is a tombstone.
    pub hash: Option<Hash>,
    /// Of its payload.
    pub bytes: usize,
}

/// One key that we hold of an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The key.
    pub key: Key,
    /// Of the document held.
    pub hash: Hash,
}

/// A line that passed the checks, to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its seq in the origin's feed.
    pub seq: u64,
    /// What it is of; of a directed event, its message id.
    pub key: Key,
    /// Whether it is for us alone (considers): never coalesced, known again by its id.
    pub directed: bool,
    /// It was sent once, by a peer that compares nothing: published also when it changes nothing here.
    pub once: bool,
    /// What happened.
    pub action: Action,
    /// Who did it there.
    pub user: String,
    /// The payload, untouched.
    pub payload: Bytes,
    /// Of the payload.
    pub hash: Hash,
}

/// What became of a received line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To be published, under this number.
    Todo(u64),
    /// Held like this already, or a directed event seen before.
    Known,
    /// The delete of what is not held.
    NotHeld,
    /// Refused: the key is ours, or another origin's.
    NotOwner,
}

/// What is committed and not known to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Todo {
    /// Its place in the order of publishing.
    pub n: u64,
    /// DID of the sender.
    pub origin: String,
    /// What it is of.
    pub key: Key,
    /// What happened.
    pub action: Action,
    /// Who did it there.
    pub user: String,
    /// The payload, untouched.
    pub payload: Bytes,
    /// Of the payload.
    pub hash: Hash,
}

/// What is noted of a partner for people, and to begin with after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartnerNote {
    /// Its DID.
    pub did: String,
    /// Everything up to here was acknowledged (or, by a `/1.0` peer, sent).
    pub acked_seq: u64,
    /// When: milliseconds since 1970; 0 is never.
    pub acked_at: u64,
    /// It knows only the `/1.0` protocols: sent, not confirmed.
    pub legacy: bool,
    /// Why it takes nothing now; empty when it does.
    pub hold_code: String,
}

/// The first PeerId that was seen with a DID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The DID.
    pub did: String,
    /// The PeerId, in text.
    pub peer_id: String,
    /// When it was pinned: milliseconds since 1970.
    pub at: u64,
}

/// A change that a partner did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The partner's DID; empty for what could not be read at the intake.
    pub dest: String,
    /// What it is of.
    pub key: Key,
    /// Its row when it was parked.
    pub seq: u64,
    /// Why, in one word.
    pub code: String,
    /// For people.
    pub detail: String,
    /// When: milliseconds since 1970.
    pub at: u64,
}
