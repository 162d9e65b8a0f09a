//! Delivery: what was taken from NATS reaches every partner, whoever is away or dies meanwhile.
//!
//! Owns the journal and the rules of one ordered stream for each partner and direction. Never decides who is a partner
//! nor what an event means. Always holds: what was acknowledged was published at the far NATS, in the order of its key and
//! never older after newer; the receiver owns the position and states it first; nothing is promised before it is durable.
//!
//! `journal` is the trait, `types` what it keeps, `sqlite` the file, `log` the threads around it, `contract` what every
//! journal must do, `convert` their spelling on the wire. The pure rules: `position` judges where a partner stands, `digest`
//! compares lists, `sender` is the courier of one destination, `receiver` one session of an origin, `reconcile` the journal
//! against the document store, `legacy` the pace of the `/1.0` protocols; `simulation` runs them all against each other
//! (tests). Their I/O: `intake`, `courier`, `session`, `publisher`, `stored`, and `desk` over them all.

mod absent;
mod commit;
#[cfg(test)]
pub(crate) mod contract;
pub mod convert;
mod courier;
mod desk;
pub mod digest;
mod intake;
pub mod journal;
pub mod legacy;
pub mod log;
#[cfg(test)]
pub(crate) mod memory;
mod noting;
pub mod position;
mod publisher;
pub mod receiver;
mod recent;
pub mod reconcile;
pub mod sender;
mod session;
#[cfg(test)]
mod simulation;
pub mod sqlite;
mod status;
mod stored;
pub mod types;

pub use commit::{Committer, now};
pub use desk::{Delivery, PARKED_COUNTED, Parts, Resynced};
pub use intake::{Batch, Intake};
pub use journal::{Journal, JournalError};
pub use log::Log;
pub use publisher::{Outlet, Put, Stuck};
pub use receiver::Refusal;
pub use session::Examiner;
pub use sqlite::SqliteJournal;
pub use status::PartnerStatus;
pub use types::{
    Change, Cursor, Feed, Hash, Held, Incarnation, Key, OwnKey, Parked, PartnerNote, Pin, Position, Received, Row,
    Todo, Token, Verdict,
};
