//! The words of the door about the daemon as a whole.
//!
//! Pure data. Always: no secret is among them.

use super::told::Destination;
use super::told_peers::IndexerRow;
use serde::{Deserialize, Serialize};

/// How the daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What partners see.
    pub name: String,
    /// None before it is known: the daemon is starting.
    pub did: Option<String>,
    /// Our libp2p identity.
    pub peer_id: String,
    /// Of the program.
    pub version: String,
    /// Since the start of the process.
    pub uptime_seconds: u64,
    /// Whether all checks are good.
    pub ready: bool,
    /// What makes it ready.
    pub checks: Vec<Check>,
    /// How messages are taken from NATS.
    pub intake: IntakePlace,
    /// What partners have sent and is not published on our NATS yet.
    #[serde(default)]
    pub to_publish: ToPublish,
    /// What each partner has received.
    pub partners: Vec<Destination>,
    /// What is parked, in all.
    pub parked: ParkedCount,
    /// The indexers that are known.
    #[serde(default)]
    pub indexers: Vec<IndexerRow>,
    /// Records kept for others; of an indexer only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

/// One check of readiness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Whether it is good.
    pub ok: bool,
    /// Why not; empty when it is.
    pub why: String,
}

/// How messages are taken from NATS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntakePlace {
    /// `starting`, `choosing` (neither yet, see `why`), `core` or `stream`.
    pub mode: String,
    /// Why it is neither yet.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub why: String,
    /// The stream's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stream: Option<String>,
    /// The newest message of it that is journaled.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<u64>,
    /// How often messages were gone from it before they were taken, in this life.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gaps: Option<u64>,
}

/// Partners' changes that are committed here, and not yet published on our NATS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToPublish {
    /// How many wait.
    pub waiting: u64,
    /// Why they have waited for a while, in the word that their senders are told: `nats` or `store`.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub code: String,
    /// The same for people.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub why: String,
}

/// How many changes are parked; counting ends at a thousand for each destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedCount {
    /// Messages of our apps that could not be taken.
    pub intake: u64,
    /// Changes that partners did not take.
    pub partners: u64,
}
