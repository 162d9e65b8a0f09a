//! The documents and enums of the federation as an app knows them, written from the wire description.

use crate::federation::Identity;
use serde_json::{Value, json};

/// The kinds of documents that tests use, with their numbers on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum DataType {
    Invalid = 0,
    Data = 1,
    Processing = 2,
    Storage = 3,
    Compute = 4,
    WorkflowResource = 5,
    Workflow = 6,
    Execution = 7,
    Workspace = 8,
    Peer = 9,
    CollaborativeArea = 10,
    Rule = 11,
    Booking = 12,
    Order = 15,
    Purchase = 16,
}

/// The actions of a PROPALGATION_EVENT, with their numbers on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Action {
    Search = 0,
    Create = 2,
    Update = 3,
    Delete = 4,
    Planner = 5,
    ClosePlanner = 6,
    Considers = 7,
    CloseSearch = 8,
}

/// What one peer is to another, with its number in a peer document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Relation {
    None = 0,
    Own = 1,
    Partner = 2,
    Blacklist = 3,
}

/// The peer document by which an app tells who somebody is.
pub fn peer_document(who: &Identity, relation: Relation) -> Value {
    json!({
        "id": who.did,
        "name": who.name,
        "is_draft": false,
        "creator_id": who.did,
        "access_mode": 0,
        "api_url": "",
        "stream_address": who.stream_address(),
        "nats_address": "",
        "wallet_address": "",
        "public_key": who.public_key,
        "peer_id": who.peer_id,
        "relation": relation as u8,
    })
}

/// A resource document; private, as documents are unless they say otherwise.
pub fn resource(creator: &str, id: &str, name: &str) -> Value {
    json!({
        "id": id,
        "name": name,
        "is_draft": false,
        "creator_id": creator,
        "access_mode": 0,
        "description": "",
        "short_description": "",
        "instances": [],
    })
}

/// The same document, for everybody to find.
pub fn public(mut document: Value) -> Value {
    document["access_mode"] = json!(1);
    document
}

/// A partnership that lets the peer `who` (DID, PeerId or `*`) find a resource.
pub fn partnership(who: &str) -> Value {
    json!({"peer_groups": {who: ["everyone"]}})
}

/// The same document, for the peer `who` to find by a partnership.
pub fn shared_with(mut document: Value, who: &str) -> Value {
    document["instances"] = json!([{"name": "one", "partnerships": [partnership(who)]}]);
    document
}
