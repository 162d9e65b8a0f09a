//! What a courier is told, and what it wants done.

use crate::delivery::digest::Difference;
use crate::delivery::types::{Hash, Held, Key, Row};
use crate::wire::{ReceiverLine, SenderLine};

/// What a courier is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// What the peer is entitled to now.
    Rights {
        /// It is a partner.
        partner: bool,
        /// There are rows for it alone.
        directed: bool,
    },
    /// Time has passed.
    Tick,
    /// A try is worth while.
    Nudge {
        /// An operator asks; else the peer was heard.
        asked: bool,
    },
    /// Whether the intake has caught up with what was there when the daemon started.
    IntakeReady(bool),
    /// The stream is open.
    Opened,
    /// It could not be opened.
    NotOpened {
        /// The peer does not know the protocol.
        unsupported: bool,
    },
    /// The peer wrote a line.
    Line(ReceiverLine),
    /// Something was journaled or purged.
    Head {
        /// The newest seq.
        head: u64,
        /// The highest purged one.
        floor: u64,
    },
    /// The answer to [`Effect::Read`].
    Rows {
        /// As asked.
        ticket: u64,
        /// In order.
        rows: Vec<Row>,
        /// Everything up to here was looked at: the last row, or the head when there are no more.
        upto: u64,
        /// The floor, read in the same transaction.
        floor: u64,
    },
    /// The answer to [`Effect::Sum`].
    Summed {
        /// As asked.
        ticket: u64,
        /// Keys.
        count: u64,
        /// The hash over them.
        sum: Hash,
    },
    /// The answer to [`Effect::Compare`].
    RangeCompared {
        /// As asked.
        ticket: u64,
        /// What differs, checked against the store, in key order.
        lines: Vec<Difference>,
        /// Up to where was compared; none: to the end of the range.
        upto: Option<Key>,
    },
    /// A question could not be answered.
    Failed {
        /// As asked.
        ticket: u64,
    },
    /// The stream took everything that was given.
    Written,
    /// The session ended. Not said of one that was closed by [`Effect::Close`].
    Ended {
        /// The connection to the peer lives.
        alive: bool,
    },
    /// What became of [`Effect::LegacySend`].
    LegacySent {
        /// Of the row.
        seq: u64,
        /// Whether the peer's connection took it.
        taken: bool,
    },
    /// The stream is better opened anew, on another connection.
    Move,
    /// An operator wants everything compared.
    Compare,
    /// An operator allows the deletes that wait, in the next comparison.
    AllowDeletes,
}

/// What a courier wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Open the stream.
    Open,
    /// Reset it; nothing more is said of it.
    Close,
    /// Write a line; [`Input::Written`] when the stream took all that was given.
    Write(SenderLine),
    /// Read rows.
    Read {
        /// For the answer.
        ticket: u64,
        /// Behind this seq.
        after: u64,
        /// Only rows for this peer alone.
        directed_only: bool,
        /// At most so many.
        max_rows: usize,
        /// At most so many bytes of payload, one row at the least.
        max_bytes: usize,
    },
    /// The sum of our own keys in a range. The intake is drained first.
    Sum {
        /// For the answer.
        ticket: u64,
        /// Behind this one.
        after: Option<Key>,
        /// Up to this one.
        to: Option<Key>,
    },
    /// Compare a range: `digest::compare`, the store asked about each key found, `digest::lines`. The intake is drained first.
    Compare {
        /// For the answer.
        ticket: u64,
        /// Behind this one.
        after: Option<Key>,
        /// Up to this one.
        to: Option<Key>,
        /// What the peer holds there.
        held: Vec<Held>,
    },
    /// Note: everything up to here was acknowledged, or was sent to a `/1.0` peer.
    Acked {
        /// In our feed.
        seq: u64,
    },
    /// A comparison brought these, and they are not parked any more.
    Arrived {
        /// Of the lines that the peer took.
        keys: Vec<Key>,
    },
    /// Directed rows up to here leave the journal.
    DirectedDone {
        /// In our feed.
        seq: u64,
    },
    /// Park a row.
    Park {
        /// Its seq.
        seq: u64,
        /// Its key.
        key: Key,
        /// Why, in one word.
        code: String,
        /// For people.
        detail: String,
    },
    /// Note why nothing is taken; empty when something is.
    Hold {
        /// In one word.
        code: String,
    },
    /// Note whether the peer knows only the `/1.0` protocols.
    Legacy(bool),
    /// Forget the destination: note, rows, parked. To be done in the transaction that finds nothing waiting for it alone;
    /// something may have been journaled for it meanwhile, and then nothing is forgotten.
    Forget,
    /// Send the row by its `/1.0` protocol; [`Input::LegacySent`] when done.
    LegacySend {
        /// The row.
        row: Row,
    },
}
