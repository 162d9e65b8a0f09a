//! Peer documents.

use libp2p::PeerId;
use libp2p::identity::Keypair;
use serde_json::json;

use super::{put, remove, store_all};
use crate::model::{Peer, Relation};
use crate::store::{FIND_PEERS_MAX, Store, StoreError};
use crate::wire::DataType;

fn peer_id() -> PeerId {
    Keypair::generate_ed25519().public().to_peer_id()
}

async fn dids(store: &dyn Store, key: &str) -> Vec<String> {
    let mut dids: Vec<String> = store
        .find_peers(key)
        .await
        .unwrap()
        .into_iter()
        .map(|peer| peer.did)
        .collect();
    dids.sort();
    dids
}

pub(crate) async fn self_peer_is_found(store: &dyn Store) {
    store_all(store, DataType::DataResource, &[json!({ "id": "trap", "relation": 1 })]).await;
    store_all(store, DataType::Peer, &[json!({ "id": "a", "relation": 2 })]).await;
    assert_eq!(store.self_peer().await, Ok(None));
    store_all(
        store,
        DataType::Peer,
        &[json!({ "abstractobject": { "id": "me" }, "id": "me", "relation": "self" })],
    )
    .await;
    let me = store.self_peer().await.unwrap().unwrap();
    assert_eq!((me.did.as_str(), me.relation), ("me", Relation::SelfPeer));
    store
        .apply(vec![put(DataType::Peer, "me", "{\"id\":\"me\",\"relation\":0}")])
        .await
        .unwrap();
    assert_eq!(store.self_peer().await, Ok(None), "it follows the document");
}

pub(crate) async fn two_selves_are_refused(store: &dyn Store) {
    store_all(
        store,
        DataType::Peer,
        &[
            json!({ "id": "me", "relation": 1 }),
            json!({ "id": "me2", "relation": 1 }),
        ],
    )
    .await;
    assert!(matches!(store.self_peer().await, Err(StoreError::SeveralSelf(_))));
    store.apply(vec![remove(DataType::Peer, "me2")]).await.unwrap();
    assert_eq!(store.self_peer().await.unwrap().unwrap().did, "me");
    store
        .apply(vec![put(
            DataType::Peer,
            "me",
            "{\"id\":\"me\",\"relation\":1,\"peer_id\":\"?\"}",
        )])
        .await
        .unwrap();
    assert!(matches!(store.self_peer().await, Err(StoreError::Document { .. })));
}

/// By DID, peer id wherever it stands, or exact name; a name may be several peers'.
pub(crate) async fn peers_by_any_key(store: &dyn Store) {
    let [one, two] = [peer_id(), peer_id()];
    let docs = [
        json!({ "id": "a", "name": "Site", "peer_id": one.to_string() }),
        json!({ "id": "b", "name": "Site", "stream_address": format!("/ip4/10.0.0.1/tcp/1/p2p/{two}") }),
        json!({ "id": "c", "abstractobject": { "name": "a" } }),
        json!({ "id": "d" }),
    ];
    store_all(store, DataType::Peer, &docs).await;
    store_all(store, DataType::Workspace, &[json!({ "id": "w", "name": "Site" })]).await;
    assert_eq!(dids(store, "Site").await, ["a", "b"]);
    assert_eq!(dids(store, &one.to_string()).await, ["a"]);
    assert_eq!(dids(store, &two.to_string()).await, ["b"]);
    assert_eq!(
        dids(store, "a").await,
        ["a", "c"],
        "a DID and a name may be the same word"
    );
    assert_eq!(dids(store, "d").await, ["d"]);
    let long = "1".repeat(1 << 20);
    for nobody in [long.as_str(), "", "site", "Sit", "%", "w", &peer_id().to_string()] {
        assert!(dids(store, nobody).await.is_empty(), "{nobody}");
    }
}

/// A document that is no usable peer is named with its reason, and hides no other.
pub(crate) async fn unreadable_ones_are_told(store: &dyn Store) {
    let docs = [
        json!({ "id": "good", "relation": 2, "name": "n" }),
        json!({ "id": "odd", "relation": 99, "name": "n" }),
        json!({ "id": "clash", "relation": 3, "name": "n", "peer_id": peer_id().to_string(),
            "stream_address": format!("/ip4/10.0.0.1/tcp/1/p2p/{}", peer_id()) }),
        json!({ "id": "far", "stream_address": "nowhere" }),
    ];
    store_all(store, DataType::Peer, &docs).await;
    let peers = store.peers(100).await.unwrap();
    let mut read: Vec<&str> = peers.peers.iter().map(|peer: &Peer| peer.did.as_str()).collect();
    let mut unread: Vec<&str> = peers.unreadable.iter().map(|(id, _)| id.as_str()).collect();
    read.sort_unstable();
    unread.sort_unstable();
    assert_eq!(
        (read, unread, peers.truncated),
        (vec!["far", "good"], vec!["clash", "odd"], false)
    );
    assert!(peers.unreadable.iter().all(|(_, why)| !why.is_empty()));
    assert_eq!(dids(store, "n").await, ["good"]);
}

pub(crate) async fn limits_are_told(store: &dyn Store) {
    let docs: Vec<_> = (0..FIND_PEERS_MAX + 5)
        .map(|n| json!({ "id": format!("p{n}"), "name": "n" }))
        .collect();
    store_all(store, DataType::Peer, &docs).await;
    for (limit, truncated) in [(0, true), (10, true), (docs.len(), false), (usize::MAX, false)] {
        let peers = store.peers(limit).await.unwrap();
        assert_eq!((peers.peers.len(), peers.truncated), (limit.min(docs.len()), truncated));
    }
    assert_eq!(dids(store, "n").await.len(), FIND_PEERS_MAX);
}
