//! The DHT with a peer of another make: js-libp2p's own Kademlia, under the federation's protocol and its pre-shared key.

use crate::discovery::{finds, found, indexer, keeps};
use oc_testkit::{Federation, Foreign, Peer, until};
use serde_json::{Value, json};

const INDEXERS: &str = "/opencloud/indexers";

/// A js peer in the DHT of `with`, and nothing between them but the DHT.
async fn jay(net: &Federation, with: &Peer) -> Option<Foreign> {
    let jay = net.js_peer("jay").start().await?;
    jay.tell("connect", json!({"addr": with.identity().stream_address()}))
        .await;
    Some(jay)
}

/// Puts a value until it is taken: Kademlia needs a moment to learn who is there.
async fn puts(jay: &Foreign, fields: Value) {
    until("the daemon to be asked to keep it", || async {
        let told = jay.tell("dht_put", fields.clone()).await;
        (told["taken"].as_u64() >= Some(1)).then_some(())
    })
    .await;
}

async fn refused_more(at: &Peer, rule: &str, than: f64) {
    at.wait_metrics(&format!("{rule} to be counted"), |metrics| metrics.refused(rule) > than)
        .await;
}

#[tokio::test]
async fn a_record_that_our_daemon_puts_is_kept_and_got_by_a_js_peer() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let Some(jay) = jay(&net, &alice).await else { return };
    let kept = jay
        .expect(|event| event["event"] == "dht_kept" && event["did"] == alice.did())
        .await;
    assert_eq!(kept["verified"], true, "{kept}");
    assert_eq!(kept["key"], format!("/node/{}", alice.did()));
    // Also one that it does not hold itself.
    let carol = net.peer("carol").partner_of("alice").start().await;
    alice.tell_peer(carol.identity(), oc_testkit::Relation::Partner).await;
    let got = until("the record of carol to be got", || async {
        let told = jay.tell("dht_get", json!({"did": carol.did()})).await;
        told["values"].as_array().and_then(|values| values.first()).cloned()
    })
    .await;
    assert_eq!(got["verified"], true, "{got}");
    let record = &got["record"];
    assert_eq!(
        (&record["peer_id"], &record["stream_address"]),
        (&json!(carol.peer_id()), &json!(carol.identity().stream_address()))
    );
}

#[tokio::test]
async fn a_record_that_a_js_peer_puts_is_found_by_our_daemons_without_any_indexer() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let Some(jay) = jay(&net, &alice).await else { return };
    puts(&jay, json!({})).await;
    let document = finds(&alice, jay.did(), jay.did()).await;
    assert_eq!(document["peer_id"], *jay.identity().peer_id);
    assert_eq!(document["stream_address"], jay.identity().stream_address());
    // Who knows alice alone asks her, or whom she tells of.
    let bob = net.peer("bob").partner_of("alice").start().await;
    alice.tell_peer(bob.identity(), oc_testkit::Relation::Partner).await;
    let document = finds(&bob, jay.did(), jay.did()).await;
    assert_eq!(document["peer_id"], *jay.identity().peer_id);
}

#[tokio::test]
async fn what_is_wrong_is_neither_kept_nor_believed() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let Some(jay) = jay(&net, &alice).await else { return };
    let whose = alice.did();
    // Under a key, with a claim, and the rule that refuses it.
    let table = [
        (
            json!({"key": "did:1", "fields": {"did": "did:1"}, "change": ["/ip4/127", "/ip4/128"]}),
            "did:1",
            "bad_signature",
        ),
        (
            json!({"key": "did:2", "fields": {"did": "did:other"}}),
            "did:2",
            "dht_other_key",
        ),
        (
            json!({"key": "did:3", "fields": {"did": "did:3"}, "life_ms": -3_600_000}),
            "did:3",
            "record_expired",
        ),
        (
            json!({"key": "did:4", "fields": {"did": "did:4"}, "life_ms": 3_600_000}),
            "did:4",
            "record_expiry",
        ),
        (json!({"key": "did:5", "text": "no record at all"}), "did:5", "not_json"),
        (json!({"key": "did:6", "text": "{}"}), "did:6", "missing"),
    ];
    for (put, did, rule) in table {
        let before = alice.metrics().await.refused(rule);
        puts(&jay, put).await;
        refused_more(&alice, rule, before).await;
        // It is still on the js peer, which gives it to whoever asks.
        let kept = alice.metrics().await.refused(rule);
        assert!(found(&alice, did).await.is_empty(), "{rule}");
        refused_more(&alice, rule, kept).await;
    }
    // A DID of another.
    let told = jay.tell("dht_put", json!({"fields": {"did": whose}})).await;
    assert!(told["taken"].as_u64() >= Some(1), "{told}");
    refused_more(&alice, "did_of_another", 0.0).await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    alice.tell_peer(bob.identity(), oc_testkit::Relation::Partner).await;
    let document = finds(&bob, whose, whose).await;
    assert_eq!(document["peer_id"], *alice.peer_id());
    // And what is right goes on.
    puts(&jay, json!({})).await;
    finds(&alice, jay.did(), jay.did()).await;
}

#[tokio::test]
async fn a_js_peer_finds_our_indexers_by_their_provider_record() {
    let net = Federation::new();
    let index = indexer(&net, "index", &[]).start().await;
    let alice = crate::discovery::knowing(&net, "alice", &["index"]).start().await;
    keeps(&alice, 1).await;
    let Some(jay) = jay(&net, &alice).await else { return };
    let provider = until("the indexer to be found", || async {
        let told = jay.tell("dht_providers", json!({"of": INDEXERS})).await;
        let list = told["providers"].as_array().cloned().unwrap_or_default();
        list.into_iter()
            .find(|provider| provider["peer_id"] == *index.peer_id() && provider["addrs"] != json!([]))
    })
    .await;
    let address = provider["addrs"][0].as_str().unwrap();
    assert!(address.starts_with(&index.identity().address), "{provider}");
}
