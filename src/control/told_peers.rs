//! The words of the door about peers: who there is, who somebody is, and what became of a change. Pure data.

use serde::{Deserialize, Serialize};

/// Who there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerList {
    /// The peers of our store, but ourselves.
    pub peers: Vec<PeerRow>,
    /// The indexers that are known.
    pub indexers: Vec<IndexerRow>,
    /// How many records are kept for others, where the daemon is an indexer.
    #[serde(default)]
    pub records: Option<u64>,
}

/// The records that an indexer keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordList {
    /// Those told, by name.
    pub records: Vec<RecordRow>,
    /// How many are kept.
    pub total: u64,
    /// How many can be.
    pub capacity: u64,
    /// There are more than were told.
    pub more: bool,
}

/// A record: what a peer says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRow {
    /// Its DID.
    pub did: String,
    /// What it calls itself.
    pub name: String,
    /// Its libp2p identity.
    pub peer_id: String,
    /// Where it says that it listens.
    pub addresses: Vec<String>,
    /// When it came, in milliseconds since 1970; it is kept for two minutes from then.
    pub received: u64,
}

/// A peer of our store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRow {
    /// Its DID.
    pub did: String,
    /// Its name, as its document says.
    pub name: String,
    /// `none`, `partner` or `blacklist`.
    pub relation: String,
    /// Its libp2p identity; empty when it is not known.
    pub peer_id: String,
    /// Whether it has a connection.
    pub connected: bool,
    /// Where its document says that it listens.
    pub addresses: Vec<String>,
    /// Why its document is not used; empty when it is.
    pub not_used: String,
}

/// An indexer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexerRow {
    /// Its libp2p identity.
    pub peer_id: String,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// From `discovery.indexers`; else learnt.
    pub seed: bool,
    /// Whether it has our record.
    pub kept: bool,
    /// What came of it last.
    pub last: String,
}

/// What the daemon does with a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Everybody that is meant: a name may be borne by several.
    pub peers: Vec<ExplainedPeer>,
}

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedPeer {
    /// Its DID; empty when nobody knows one.
    pub did: String,
    /// Its name.
    pub name: String,
    /// Its libp2p identity; empty when it is not known.
    pub peer_id: String,
    /// What it is to us: `self`, `partner`, `none`, `blacklist`; `unknown` when our store has no document of it.
    pub relation: String,
    /// Whether it may be connected.
    pub allowed: bool,
    /// The rule that decides that, in one word.
    pub rule: String,
    /// Where what decides comes from.
    pub source: String,
    /// All of it in sentences.
    pub says: Vec<String>,
}

/// A peer to add: the fields of its document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPeer {
    /// Its DID.
    pub did: String,
    /// Its name.
    pub name: String,
    /// Its libp2p identity.
    pub peer_id: String,
    /// Its key, as documents hold it.
    pub public_key: String,
    /// Where it listens.
    pub stream_address: String,
    /// Where its API is.
    pub api_url: String,
    /// `partner`, `none` or `blacklist`.
    pub relation: String,
}

/// What became of a change of a peer document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerChanged {
    /// Whose document.
    pub did: String,
    /// Their name, as that says.
    #[serde(default)]
    pub name: String,
    /// The daemon owns the store and has written it.
    pub written: bool,
    /// Else the subject on which the apps have to hear of it.
    pub subject: String,
    /// And the message to publish there.
    pub message: String,
}

/// Where others reach us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnAddresses {
    /// As they are told to everybody.
    pub addresses: Vec<String>,
}
