//! Delivery: what was taken from NATS reaches every partner, whoever is away or dies meanwhile.
//!
//! Owns the journal and the rules of one ordered stream for each partner and direction. Never decides who is a partner
//! nor what an event means. Always holds: what was acknowledged was published at the far NATS, in the order of its key and
//! never older after newer; the receiver owns the position and states it first; nothing is promised before it is durable.
//!
//! `journal` is the trait, `types` what it keeps. `sender`, `receiver` and `digest` are the pure rules.

pub mod convert;
pub mod digest;
pub mod journal;
pub mod legacy;
#[cfg(test)]
pub(crate) mod memory;
pub mod position;
pub mod receiver;
pub mod reconcile;
pub mod sender;
#[cfg(test)]
mod simulation;
pub mod types;

pub use journal::{Journal, JournalError};
pub use types::{
    Change, Cursor, Feed, Hash, Held, Incarnation, Key, OwnKey, Parked, PartnerNote, Position, Received, Row, Todo,
    Token, Verdict,
};
