//! The words of the door: what is asked, and what is answered. Programs lean on them (`--json` prints them as they are).
//!
//! Pure data. Always: no secret is among them, and no payload but what a search was for.

use super::told_peers::NewPeer;
pub use super::told_status::{Check, IntakePlace, ParkedCount, Status, ToPublish};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// What the daemon can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the daemon is.
    Status {},
    /// What each partner has received.
    Outbox {
        /// This one only; `intake`: what our own intake could not take.
        #[serde(default)]
        partner: Option<String>,
        /// With each parked change.
        #[serde(default)]
        parked: bool,
        /// Of those only the ones of this id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// Of those not the first so many.
        #[serde(default, skip_serializing_if = "is_none")]
        skip: usize,
    },
    /// Send parked changes again.
    OutboxRetry {
        /// Whose.
        partner: String,
        /// Of this id only.
        #[serde(default)]
        id: Option<String>,
    },
    /// Forget parked changes.
    OutboxDrop {
        /// Whose.
        partner: String,
        /// Of this id only.
        #[serde(default)]
        id: Option<String>,
    },
    /// Compare everything with a partner.
    Resync {
        /// With whom.
        partner: String,
        /// Let the many deletes through that the last comparison held back.
        #[serde(default)]
        allow_deletes: bool,
    },
    /// Compare what was propagated with our store.
    Reconcile {
        /// Let the many deletes through that this holds back, to every partner.
        #[serde(default)]
        allow_deletes: bool,
    },
    /// Who there is.
    PeerList {},
    /// The records that this daemon keeps of others: it is an indexer.
    PeerRecords {
        /// Most records.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// What the daemon does with a peer, and why.
    PeerExplain {
        /// A DID, PeerId or name.
        who: String,
    },
    /// Add a peer.
    PeerAdd {
        /// Its document.
        peer: NewPeer,
    },
    /// Remove a peer.
    PeerRemove {
        /// A DID, PeerId or name.
        who: String,
        /// Only tell who that is, and what there would be to publish.
        #[serde(default)]
        look: bool,
    },
    /// Where others reach us.
    OwnAddresses {},
    /// Search what others have. The answer is many lines: the results as they come, then the end.
    Search {
        /// What to look for; empty matches everything.
        #[serde(default)]
        text: String,
        /// `all`, `known` or `partner`; all when it does not say.
        #[serde(default)]
        scope: Option<String>,
        /// Only this kind.
        #[serde(default)]
        datatype: Option<String>,
        /// Most results.
        #[serde(default)]
        limit: Option<usize>,
        /// Milliseconds until it ends.
        #[serde(default)]
        timeout_ms: Option<u64>,
    },
    /// Copy journal and documents.
    Backup {
        /// The directory to make; absolute.
        to: PathBuf,
        /// With the private key and the network's key.
        #[serde(default)]
        with_keys: bool,
    },
}

/// The verbs that [`Request`] knows.
pub(super) const VERBS: [&str; 14] = [
    "status",
    "outbox",
    "outbox_retry",
    "outbox_drop",
    "resync",
    "reconcile",
    "peer_list",
    "peer_records",
    "peer_explain",
    "peer_add",
    "peer_remove",
    "own_addresses",
    "search",
    "backup",
];

fn is_none(count: &usize) -> bool {
    *count == 0
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// In one word.
    pub code: String,
    /// For people.
    pub text: String,
}

impl Refused {
    pub(super) fn new(code: &str, text: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            text: text.into(),
        }
    }
}

/// One line of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done; what was asked for.
    Ok(Value),
    /// Not done.
    Error(Refused),
}

/// How one destination stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Its DID.
    pub did: String,
    /// Its name, as its document says.
    pub name: String,
    /// Its libp2p identity; empty when it is not known.
    pub peer_id: String,
    /// `off`, `wait`, `greet`, `digest`, `tail` or `legacy`.
    pub state: String,
    /// The same for people.
    pub state_says: String,
    /// Everything up to here was acknowledged, or sent to a `/1.0` peer.
    pub acked_seq: u64,
    /// When: milliseconds since 1970; 0 is never.
    pub acked_at: u64,
    /// The newest change there is.
    pub head: u64,
    /// Changes that it does not have yet.
    pub lag_rows: u64,
    /// The age of the oldest of them.
    pub lag_seconds: u64,
    /// It knows only the `/1.0` protocols: sent, not confirmed.
    pub legacy: bool,
    /// Why it takes nothing now; empty when it does.
    pub hold_code: String,
    /// The same for people.
    pub hold_says: String,
    /// Why the last session ended, or could not begin.
    pub last_error: String,
    /// Changes parked for it.
    pub parked: u64,
}

/// What each partner has received.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// Every destination.
    pub partners: Vec<Destination>,
    /// Who was asked about is known and nothing is delivered to it, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub not_delivered: String,
    /// Messages of our apps that could not be taken.
    pub intake_parked: u64,
    /// What is parked, the oldest first, when it was asked for.
    pub parked: Vec<ParkedChange>,
    /// There is more parked than told.
    pub more: bool,
    /// How much is parked in all of what was asked for.
    #[serde(default)]
    pub parked_total: u64,
}

/// A change that a partner did not take, or a message that our intake could not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedChange {
    /// The partner's DID; empty: our own intake.
    pub dest: String,
    /// The partner's name.
    pub name: String,
    /// The document's kind.
    pub datatype: String,
    /// Its id; of our own intake, the message's.
    pub id: String,
    /// Its place when it was parked.
    pub seq: u64,
    /// When: milliseconds since 1970.
    pub at: u64,
    /// Why, in one word.
    pub code: String,
    /// The same for people.
    pub says: String,
    /// More of it.
    pub detail: String,
}

/// What became of a retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// Sent again, as they are now.
    pub again: u64,
    /// Gone for good: there is nothing left to send.
    pub gone: u64,
}

/// What became of a drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Forgotten.
    pub dropped: u64,
}

/// What became of a resync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resync {
    /// With whom everything is compared now; empty: with our store.
    pub did: String,
}

/// What became of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// The directory.
    pub path: PathBuf,
    /// The files in it.
    pub files: Vec<String>,
}

/// A peer, as a search names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its DID.
    pub did: String,
    /// Its name; empty when we do not know it.
    pub name: String,
    /// The name is what its record claims: our store does not name it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_record: bool,
}

/// One line of the answer to a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchLine {
    /// One result.
    Result {
        /// Whose it is.
        peer: Named,
        /// Its kind's name.
        datatype: String,
        /// The document, as its owner wrote it.
        document: Value,
    },
    /// The last line.
    End {
        /// How many were asked; for a gossiped question, how many listened at the least.
        asked: usize,
        /// How many results there were.
        results: usize,
        /// There was more than was wanted, or than could be told in time.
        truncated: bool,
        /// Who answered.
        answered: Vec<Named>,
        /// Who could not be asked, or broke off.
        failed: Vec<Named>,
        /// Who was asked and said nothing in time. A gossiped question names nobody.
        silent: Vec<Named>,
        /// Who was not asked: blacklisted, or without a PeerId.
        skipped: Vec<Named>,
    },
}
