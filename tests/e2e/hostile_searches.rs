//! Searches that are meant to wear others out: answers to nothing, under DIDs that nobody has, and askers that cannot be reached.

use crate::discovery::{indexer, keeps, knowing};
use crate::hostile::refused;
use oc_testkit::{DataType, Federation, Identity, Relation, partners, public, resource, until};
use serde_json::json;
use tokio::net::TcpListener;

const SEARCH: &str = "/opencloud/resource/search/1.0";

#[tokio::test]
async fn answers_of_strangers_to_nothing_are_not_looked_up() {
    let net = Federation::new();
    let _index = indexer(&net, "index", &[]).start().await;
    let alice = knowing(&net, "alice", &["index"]).start().await;
    keeps(&alice, 1).await;
    let Some(mallory) = net.go_peer("mallory").start().await else {
        return;
    };
    let address = alice.identity().stream_address();
    mallory.tell("connect", json!({"addr": address})).await;
    let looked_up = || async {
        let metrics = alice.metrics().await;
        metrics.sum("ocd_lookups_total", &[("way", "indexer")])
    };
    // It was looked up itself.
    until("mallory to be looked up", || async {
        (looked_up().await > 0.0).then_some(())
    })
    .await;
    let before = looked_up().await;
    for count in 1..=40 {
        let line = format!("{{\"type\":\"search_response\",\"from\":\"did:{count}\",\"payload\":{{\"id\":\"a\"}}}}\n");
        let fields = json!({"addr": address, "protocol": SEARCH, "text": line});
        mallory.try_tell("raw", fields).await;
        refused(&alice, "unknown_peer", count).await;
    }
    // It may be looked up itself again, once in ten seconds; its forty DIDs are not.
    let more = looked_up().await - before;
    assert!(more < 20.0, "{more}");
}

#[tokio::test]
async fn askers_that_cannot_be_reached_hold_no_turn_of_others() {
    let net = Federation::new();
    let apart = |name| net.peer(name).set("discovery.dht", false);
    let alice = apart("alice").partner_of("bob").start().await;
    let bob = apart("bob").partner_of("alice").partner_of("carol").start().await;
    let carol = apart("carol").partner_of("bob").set("limits.search_concurrency", 1);
    let carol = carol.start().await;
    partners(&[&alice, &bob]).await;
    partners(&[&carol, &bob]).await;
    let gpu = public(resource(carol.did(), "far-gpu", "GPU"));
    carol.create_resource(DataType::Compute, &gpu).await;
    // For carol, alice is where somebody takes connections and says nothing.
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = Identity {
        address: format!("/ip4/127.0.0.1/tcp/{}", hole.local_addr().unwrap().port()),
        ..alice.identity().clone()
    };
    carol.tell_peer(&nowhere, Relation::None).await;
    carol.settled().await;
    let request = json!({"type": "all", "search": "gpu", "id": "mine", "timeout_ms": 600_000});
    alice.publish_search(DataType::Compute, request).await;
    // Carol begins to reach her; it takes some seconds until she gives up.
    let (_held, _) = hole.accept().await.unwrap();
    let request = json!({"type": "partner", "search": "gpu", "limit": 1, "timeout_ms": 4_000});
    let (results, end) = bob.search(DataType::Compute, request).await;
    assert_eq!((results.len(), &end["results"]), (1, &json!(1)), "{end}");
}
