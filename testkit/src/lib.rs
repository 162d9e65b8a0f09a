//! Federations of real processes: each peer is a `nats-server` and a daemon of its own, driven from outside only, the
//! way apps, operators and other organisations do it.
//!
//! ```no_run
//! # async fn example() {
//! use oc_testkit::{Action, DataType, Federation, resource};
//!
//! let net = Federation::new();
//! let alice = net.peer("alice").partner_of("bob").start().await;
//! let bob = net.peer("bob").partner_of("alice").start().await;
//! oc_testkit::partners(&[&alice, &bob]).await;
//!
//! let gpu = resource(alice.did(), "gpu-1", "A graphics processor");
//! alice.publish_create(DataType::Compute, &gpu).await;
//! let taken = bob.expect("create_resource", |message| message.document()["id"] == "gpu-1").await;
//! assert_eq!(taken.envelope().from_app, "oc-discovery");
//! # }
//! ```
//!
//! Nothing here uses the daemon's own code: envelopes are written as a Go app writes them, keys are made by
//! `oc-discovery init`, and what the daemon did is seen on NATS, in `/metrics` and in its log.
//!
//! Rules of the kit:
//! - **Waits are conditions**, never pauses: [`until`] and what is built on it look again and again for at most
//!   [`PATIENCE`], then panic with a sentence that says what was waited for.
//! - **Everything ends with its owner**: processes are killed and directories removed when the value is dropped. When a
//!   test panics, the last lines of every process it owned are printed.
//! - **Tests do not know of each other**: own directories, own ports, own pre-shared key. Many run at once in a process.

mod app;
mod documents;
mod federation;
mod foreign;
mod jwt;
mod link;
mod metrics;
mod mongo;
mod nats;
mod peer;
mod ports;
mod process;
mod tools;
mod wait;

pub use app::{App, Envelope, Message, Payload, Propalgation};
pub use documents::{Action, DataType, Relation, partnership, peer_document, public, resource, shared_with};
pub use federation::{Federation, Identity};
pub use foreign::{Foreign, ForeignBuilder};
pub use link::SlowLink;
pub use metrics::Metrics;
pub use mongo::{Mongo, MongoDatabase, connect, store_as_oc_lib};
pub use nats::{NatsOptions, NatsServer};
pub use peer::{Peer, PeerBuilder, Typed, linked, partners};
pub use ports::free_port;
pub use process::Process;
pub use tools::{Missing, daemon_binary, tool};
pub use wait::{PATIENCE, until, until_within};
