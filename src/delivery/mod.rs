//! Delivery: what was taken from NATS reaches every partner, whoever is away or dies meanwhile.
//!
//! Owns the journal and the rules of one ordered stream for each partner and direction. Never decides who is a partner
//! nor what an event means. Always holds: what was acknowledged was published at the far NATS, in the order of its key and
//! never older after newer; the receiver owns the position and states it first; nothing is promised before it is durable.
//!
//! `journal` is the trait, `types` what it keeps, `convert` their spelling on the wire. The pure rules: `position` judges where
//! a partner stands, `digest` compares lists, `sender` is the courier of one destination, `receiver` one session of an origin,
//! `reconcile` the journal against the document store, `legacy` the pace of the `/1.0` protocols. `simulation` runs them
//! all against each other (tests).

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
