//! The DHT with peers of another make: js-libp2p's own Kademlia, under the federation's protocol and its pre-shared key, and a
//! go-libp2p peer that spells the protocol without its slash.

use crate::discovery::{finds, found, indexer, keeps};
use crate::hostile_discovery::{record, soon};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libp2p::identity::Keypair;
use oc_testkit::{Federation, Foreign, Peer, until};
use serde_json::{Value, json};

const INDEXERS: &str = "/opencloud/indexers";

/// A js peer in the DHT of `with`, and nothing between them but the DHT.
async fn jay(net: &Federation, with: &Peer) -> Option<Foreign> {
    let jay = net.js_peer("jay").argument("--dht").start().await?;
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
async fn one_node_cannot_fill_what_we_keep_for_the_dht() {
    const DIDS: usize = 80;
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let Some(jay) = jay(&net, &alice).await else { return };
    puts(&jay, json!({})).await;
    for n in 0..DIDS {
        jay.tell("dht_put", json!({"fields": {"did": format!("did:{n}")}}))
            .await;
    }
    refused_more(&alice, "dht_too_many", 0.0).await;
    let kept = alice.metrics().await.sum("ocd_dht_records", &[]);
    assert!(kept < DIDS as f64, "{kept}");
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

/// As a Go daemon spells it whose prefix is `oc`.
const OTHER: &str = "oc/kad/1.0.0";

#[tokio::test]
async fn a_go_peer_that_spells_kademlia_without_the_slash_is_heard() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let Some(go) = net.go_peer("gopher").start().await else {
        return;
    };
    go.tell("connect", json!({"addr": alice.identity().stream_address()}))
        .await;
    // By what we list it takes us for a server.
    let listed = go.tell("protocols", json!({})).await["protocols"].clone();
    for spelling in [OTHER, "/oc/kad/1.0.0"] {
        assert!(listed.as_array().unwrap().contains(&json!(spelling)), "{listed}");
    }
    let ask = async |kind: &str, key: &str, value: &str| {
        let fields = json!({"protocol": OTHER, "type": kind, "key": key, "base64": STANDARD.encode(value)});
        let answer = go.tell("kad_ask", fields).await;
        assert_eq!(answer["type"], kind, "{answer}");
        String::from_utf8(STANDARD.decode(answer["base64"].as_str().unwrap()).unwrap()).unwrap()
    };
    ask("find_node", "anybody", "").await;
    let key = Keypair::generate_ed25519();
    let value = record(&key, "did:gopher", "gopher", soon());
    ask("put_value", "/node/did:gopher", &value).await;
    until("it to be kept", || async {
        (ask("get_value", "/node/did:gopher", "").await == value).then_some(())
    })
    .await;
    let document = finds(&alice, "did:gopher", "did:gopher").await;
    assert_eq!(document["peer_id"], key.public().to_peer_id().to_string());
    // The spelling with the slash is heard beside it, and no third one.
    let ours = json!({"protocol": "/oc/kad/1.0.0", "type": "find_node", "key": "anybody"});
    go.tell("kad_ask", ours).await;
    let third = json!({"protocol": "oc/kad/2.0.0", "type": "find_node", "key": "anybody"});
    assert_eq!(go.try_tell("kad_ask", third).await["event"], "error");
}

#[tokio::test]
async fn it_is_spoken_to_in_its_own_spelling() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let Some(go) = net.go_peer("gopher").start().await else {
        return;
    };
    go.tell("kad_serve", json!({"protocol": OTHER})).await;
    go.tell("connect", json!({"addr": alice.identity().stream_address()}))
        .await;
    let put = go
        .expect(|event| event["event"] == "kad_asked" && event["type"] == "put_value")
        .await;
    assert_eq!(
        (&put["protocol"], &put["key"]),
        (&json!(OTHER), &json!(format!("/node/{}", alice.did())))
    );
    let value: Value = serde_json::from_slice(&STANDARD.decode(put["base64"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(value["peer_id"], *alice.peer_id());
    // What it has is found.
    let key = Keypair::generate_ed25519();
    let value = record(&key, "did:held", "held", soon());
    go.tell(
        "kad_keep",
        json!({"key": "/node/did:held", "base64": STANDARD.encode(&value)}),
    )
    .await;
    finds(&alice, "did:held", "did:held").await;
}
