//! Peers that know nothing of one another but an indexer's address find each other.

use oc_testkit::{DataType, Federation, Peer, PeerBuilder, until};
use serde_json::{Value, json};

/// An indexer, not started yet, that begins with these others.
fn indexer<'a>(net: &'a Federation, name: &str, others: &[&str]) -> PeerBuilder<'a> {
    knowing(net, name, others).set("discovery.role", "indexer")
}

/// A peer, not started yet, that begins with these indexers.
fn knowing<'a>(net: &'a Federation, name: &str, indexers: &[&str]) -> PeerBuilder<'a> {
    let addresses: Vec<String> = indexers.iter().map(|name| net.identity(name).stream_address()).collect();
    net.peer(name).set("discovery.indexers", json!(addresses))
}

/// What one search for a peer finds at `at`.
async fn found(at: &Peer, key: &str) -> Vec<Value> {
    let (results, _) = at.search(DataType::Peer, json!({"search": key})).await;
    results.iter().map(oc_testkit::Message::document).collect()
}

/// Searches until somebody with this DID is among what is found.
async fn finds(at: &Peer, key: &str, did: &str) -> Value {
    until(format!("{} to find {did} by {key}", at.name()), || async {
        found(at, key).await.into_iter().find(|document| document["did"] == did)
    })
    .await
}

async fn is_kept_by(peer: &Peer, count: usize) {
    peer.wait_metric("ocd_indexers", &[("state", "kept")], |kept| kept >= count as f64).await;
}

#[tokio::test]
async fn two_peers_that_know_one_indexer_find_each_other() {
    let net = Federation::new();
    let _index = indexer(&net, "index", &[]).start().await;
    let alice = knowing(&net, "alice", &["index"]).start().await;
    let bob = knowing(&net, "bob", &["index"]).start().await;
    for (one, other) in [(&alice, &bob), (&bob, &alice)] {
        let who = other.identity();
        for key in [&who.did, &who.peer_id, &who.name] {
            let document = finds(one, key, &who.did).await;
            assert_eq!(document["peer_id"], *who.peer_id);
            assert_eq!(document["stream_address"], who.stream_address());
            assert_eq!(document["public_key"], *who.public_key);
            assert_eq!(document["relation"], 0);
        }
    }
    is_kept_by(&alice, 1).await;
}
