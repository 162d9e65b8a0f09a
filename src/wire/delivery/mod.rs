//! The lines of the delivery stream: what a sender writes, and what a receiver answers.
//!
//! Owns their spelling. Never decides what a position is worth. Always holds: one JSON object a line with one key that
//! names it; unknown keys are skipped, an unknown line is an error; a payload's bytes come out as they went in.

mod read;
mod write;

use super::datatype::DataType;
use super::names::Action;
use bytes::Bytes;

/// Most keys of one `keys` line; a range has at most 256, and room is left for other writers.
pub const KEYS_MAX: usize = 1024;

/// A document's key: sorted by its kind's code, then by its id's bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeliveryKey {
    /// The kind.
    pub datatype: DataType,
    /// The id, at most 1 KiB.
    pub id: String,
}

/// A place in a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryPosition {
    /// Of the feed's journal.
    pub lineage: [u8; 16],
    /// The life of it.
    pub incarnation: [u8; 16],
    /// Everything up to here.
    pub seq: u64,
}

/// One change on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryLine {
    /// Its place in the sender's feed; 0 for a delete that has none.
    pub seq: u64,
    /// Create, update, delete or considers; on the wire the name of its `/1.0` protocol. None: one not known here.
    pub action: Option<Action>,
    /// The kind; [`DataType::Invalid`] when it is not known here.
    pub datatype: DataType,
    /// The document's id; of a directed event its message's own.
    pub id: String,
    /// The user it was done for, may be empty.
    pub user: String,
    /// JSON, as it was; empty when there is none.
    pub payload: Bytes,
}

/// What a sender writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderLine {
    /// Lines behind the place follow.
    Begin {
        /// The position is one of this life from now on.
        position: DeliveryPosition,
        /// Only directed lines follow: each is acknowledged, and the receiver's position stays what it is.
        directed: bool,
    },
    /// Asks for summaries of everything held of this sender.
    List,
    /// Asks for the keys of a range: behind `after`, up to `to` (included).
    ListKeys {
        /// None: from the first.
        after: Option<DeliveryKey>,
        /// None: to the end.
        to: Option<DeliveryKey>,
    },
    /// A change.
    Line(DeliveryLine),
    /// The comparison is done: everything up to here is taken.
    End(DeliveryPosition),
}

/// What a receiver writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverLine {
    /// Where it stands; written first.
    Have {
        /// None: it knows nothing.
        position: Option<DeliveryPosition>,
        /// Whether it asks for a comparison of everything, whatever the position.
        full: bool,
        /// Whether it takes only what is directed at it: the sender is no partner here.
        directed: bool,
    },
    /// Summary of one range, which begins where the one before ended.
    Page {
        /// The last key of the range; none: it is open-ended.
        to: Option<DeliveryKey>,
        /// Keys held in it.
        count: u64,
        /// The hash over them.
        sum: [u8; 16],
        /// Whether no further one follows.
        last: bool,
    },
    /// The keys held in a range.
    Keys {
        /// Each with the hash of its document, at most [`KEYS_MAX`].
        keys: Vec<(DeliveryKey, [u8; 16])>,
        /// Whether the range ends with them.
        last: bool,
    },
    /// Everything up to here is published.
    Ack {
        /// The place in the sender's feed.
        seq: u64,
    },
    /// A line is refused, for good.
    Reject {
        /// Which.
        seq: u64,
        /// Why, in one word.
        code: String,
        /// The limit it broke, in bytes.
        max: Option<u64>,
    },
    /// Nothing is taken now.
    Stop {
        /// Why, in one word.
        code: String,
        /// When to ask again, in seconds.
        retry_after: u64,
    },
}

#[cfg(test)]
mod tests;
