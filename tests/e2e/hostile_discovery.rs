//! Indexers that lie, peers that claim the DIDs of others, and a crowd: who looks for others is not led astray.

use crate::discovery::{LONG, finds, found, indexer, keeps, knowing};
use crate::hostile::{refused, resident, stays_below, still_crosses, told_once};
use crate::strangers::Crowd;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libp2p::identity::Keypair;
use oc_testkit::{Federation, Foreign, PATIENCE, Peer, partners, until, until_within};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

const GET: &str = "/opencloud/record/get/1.0";
const PUBLISH: &str = "/opencloud/record/publish/1.0";
const HEARTBEAT: &str = "/opencloud/heartbeat/1.0";

fn rfc3339(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    time::OffsetDateTime::from_unix_timestamp(seconds.try_into().unwrap())
        .unwrap()
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap()
}

/// A record as any implementation may make it, signed by `key`.
pub fn record(key: &Keypair, did: &str, name: &str, expires: SystemTime) -> String {
    let address = format!("/ip4/127.0.0.1/tcp/9/p2p/{}", key.public().to_peer_id());
    record_at(key, did, name, &address, expires)
}

/// The same with an address of one's own; name and address are written as JSON has them between quotes.
pub fn record_at(key: &Keypair, did: &str, name: &str, address: &str, expires: SystemTime) -> String {
    let peer = key.public().to_peer_id();
    let public = STANDARD.encode(key.public().encode_protobuf());
    let unsigned = format!(
        r#"{{"name":"{name}","did":"{did}","pub_key":"{public}","expiry_date":"{}","peer_id":"{peer}","api_url":"","stream_address":"{address}","nats_address":"","wallet_address":"","signature":null}}"#,
        rfc3339(expires)
    );
    let signature = STANDARD.encode(key.sign(unsigned.as_bytes()).unwrap());
    unsigned.replace("\"signature\":null", &format!("\"signature\":\"{signature}\""))
}

pub fn soon() -> SystemTime {
    SystemTime::now() + Duration::from_secs(110)
}

/// A peer that takes every heartbeat, and answers each question with `text`, so often.
async fn liar(net: &Federation, text: &str, repeat: u32) -> Option<Foreign> {
    let liar = net.go_peer("liar").start().await?;
    liar.tell("reply", json!({"protocol": HEARTBEAT, "text": "{\"ok\":true}\n"}))
        .await;
    liar.tell("reply", json!({"protocol": GET, "text": text, "repeat": repeat}))
        .await;
    Some(liar)
}

/// Alice knows the liar and an honest indexer, bob the honest one alone.
async fn alice_and_bob(net: &Federation) -> (Peer, Peer, Peer) {
    let index = indexer(net, "index", &[]).start().await;
    let alice = knowing(net, "alice", &["index", "liar"]).start().await;
    let bob = knowing(net, "bob", &["index"]).start().await;
    // A lie may be found out before anybody looks.
    alice
        .wait_metric("ocd_indexers", &[("state", "kept")], |kept| kept >= 1.0)
        .await;
    keeps(&bob, 1).await;
    (index, alice, bob)
}

#[tokio::test]
async fn what_an_indexer_makes_up_is_refused_and_it_is_not_asked_again() {
    let net = Federation::new();
    let (squatter, bob) = (Keypair::generate_ed25519(), net.identity("bob"));
    let true_one = record(&squatter, &bob.did, "bob", soon());
    let another = record(&squatter, "did:nobody", "nobody", soon());
    let changed = true_one.replace("tcp/9", "tcp/8");
    let huge = format!("{{\"records\":[{}]}}\n", vec!["{}"; 101].join(","));
    let lies = [
        (format!("{{\"found\":true,\"records\":[{changed}]}}\n"), "bad_signature"),
        (
            format!("{{\"found\":true,\"records\":[{another}]}}\n"),
            "record_of_another",
        ),
        ("{\"found\":true,\"records\":[{\"did\":7}]}\n".to_owned(), "unreadable"),
        // More than may be listed is no answer, but no proof of a lie either.
        (huge, ""),
    ];
    for (lie, rule) in lies {
        let net = Federation::new();
        let Some(liar) = liar(&net, &lie, 1).await else { return };
        let (_index, alice, bob) = alice_and_bob(&net).await;
        let document = finds(&alice, bob.did(), bob.did()).await;
        assert_eq!(document["peer_id"], *bob.peer_id(), "{rule}");
        if !rule.is_empty() {
            // Until the answer of the liar comes in, too.
            let probes = AtomicU64::new(0);
            until("the lie to be refused", || async {
                // Another one each time: that somebody was not found is remembered, and nobody is asked.
                let probe = probes.fetch_add(1, Ordering::Relaxed);
                found(&alice, &format!("somebody else {probe}")).await;
                (alice.metrics().await.refused(rule) > 0.0).then_some(())
            })
            .await;
            told_once(&alice, rule, &liar.identity().peer_id).await;
            // What cannot be read is left out, and no lie: an indexer of another version may list it.
            keeps(&alice, if rule == "unreadable" { 2 } else { 1 }).await;
        }
    }
}

#[tokio::test]
async fn old_records_and_floods_and_silence_keep_nobody_from_being_found() {
    let old = record(
        &Keypair::generate_ed25519(),
        "did:old",
        "old",
        SystemTime::now() - Duration::from_secs(3600),
    );
    let answers = [
        (format!("{{\"found\":true,\"records\":[{old}]}}\n"), 1),
        ("x".repeat(1 << 16), 1000),
        (String::new(), 1),
    ];
    for (answer, repeat) in answers {
        let net = Federation::new();
        let Some(_liar) = liar(&net, &answer, repeat).await else {
            return;
        };
        let (_index, alice, bob) = alice_and_bob(&net).await;
        finds(&alice, bob.did(), bob.did()).await;
        assert!(found(&alice, "did:old").await.is_empty());
        finds(&alice, "bob", bob.did()).await;
        still_finds_after_silence(&alice, &bob).await;
    }
}

#[tokio::test]
async fn an_indexer_that_answers_its_first_heartbeat_late_is_kept_and_one_that_answers_twice_is_tried_again() {
    let net = Federation::new();
    let Some(liar) = liar(&net, "", 1).await else { return };
    let alice = knowing(&net, "alice", &["liar"]);
    let late = json!({"protocol": HEARTBEAT, "text": "{\"ok\":true}\n", "after_ms": 6_500});
    liar.tell("reply", late).await;
    let alice = alice.start().await;
    let answered = |text: String| !text.contains("has not answered") && text.contains("kept");
    let shown = || async { alice.types(&["peer", "ls", "--json"]).await.json()["indexers"].to_string() };
    until("the late answer to be taken", || async {
        answered(shown().await).then_some(())
    })
    .await;
    keeps(&alice, 1).await;
    let twice = json!({"protocol": HEARTBEAT, "text": "{\"ok\":true}\n", "repeat": 2});
    liar.tell("reply", twice).await;
    liar.tell("disconnect", json!({"addr": alice.identity().stream_address()}))
        .await;
    let what = "the answer to nothing to be said";
    until(what, || async { shown().await.contains("not asked").then_some(()) }).await;
    assert!(!shown().await.contains("left alone"));
}

/// Whoever leaves questions unanswered is let go, and nobody waits for it any more.
async fn still_finds_after_silence(alice: &Peer, bob: &Peer) {
    for n in 0..4 {
        found(alice, &format!("nobody-{n}")).await;
    }
    finds(alice, bob.peer_id(), bob.did()).await;
}

/// Publishes a line at an indexer, and returns its answer.
async fn published(by: &Foreign, at: &Peer, line: &str) -> Value {
    let address = at.identity().stream_address();
    let told = by
        .tell(
            "raw",
            json!({"addr": address, "protocol": PUBLISH, "text": format!("{line}\n")}),
        )
        .await;
    let stream = told["stream"].clone();
    let read = by
        .expect(|event| event["event"] == "raw_read" && event["stream"] == stream)
        .await;
    let bytes = STANDARD.decode(read["base64"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_squatter_gets_no_did_of_another() {
    let net = Federation::new();
    let index = indexer(&net, "index", &[]).start().await;
    let Some(mallory) = net.go_peer("mallory").start().await else {
        return;
    };
    let key = Keypair::generate_ed25519();
    let bob = net.identity("bob");
    // Before bob was ever here nobody can tell; when he comes, his DID proves itself.
    let answer = published(&mallory, &index, &record(&key, &bob.did, "bob", soon())).await;
    assert_eq!(answer["ok"], true, "{answer}");
    let real = knowing(&net, "bob", &["index"]).start().await;
    keeps(&real, 1).await;
    let alice = knowing(&net, "alice", &["index"]).start().await;
    keeps(&alice, 1).await;
    let document = finds(&alice, &bob.did, &bob.did).await;
    assert_eq!(document["peer_id"], *bob.peer_id);
    let later = SystemTime::now() + Duration::from_secs(115);
    let answer = published(&mallory, &index, &record(&key, &bob.did, "bob", later)).await;
    assert_eq!(
        (&answer["ok"], &answer["why"]),
        (&json!(false), &json!("did_taken")),
        "{answer}"
    );
    // A DID that proves nothing stays with the first key that brought it.
    let (first, second) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    assert_eq!(
        published(&mallory, &index, &record(&first, "did:plain", "p", soon())).await["ok"],
        true
    );
    let answer = published(&mallory, &index, &record(&second, "did:plain", "p", later)).await;
    assert_eq!(answer["why"], "did_taken", "{answer}");
    // What our store says of a DID stands above what anybody publishes.
    let carol = net.identity("carol");
    alice.tell_peer(&carol, oc_testkit::Relation::Partner).await;
    alice.settled().await;
    let name = "no-other-has-this-name";
    assert_eq!(
        published(&mallory, &index, &record(&key, &carol.did, name, later)).await["ok"],
        true
    );
    assert!(found(&alice, name).await.is_empty());
    refused(&alice, "did_of_another", 1).await;
    told_once(&alice, "did_of_another", &carol.did).await;
    let told = alice.types(&["peer", "explain", &carol.did, "--json"]).await.json();
    assert!(
        told["peers"][0]["says"]
            .to_string()
            .contains("was refused (did_of_another)"),
        "{told}"
    );
}

#[tokio::test]
async fn wrong_records_are_not_taken() {
    let net = Federation::new();
    let index = indexer(&net, "index", &[]).start().await;
    let Some(mallory) = net.go_peer("mallory").start().await else {
        return;
    };
    let key = Keypair::generate_ed25519();
    let good = record(&key, "did:m", "m", soon());
    let table = [
        (good.replace("did:m", "did:n"), "bad_signature"),
        (
            record(&key, "did:m", "m", SystemTime::now() - Duration::from_secs(90)),
            "record_expired",
        ),
        (
            record(&key, "did:m", "m", soon() + Duration::from_secs(3600)),
            "record_expiry",
        ),
        ("{\"did\":\"d\"}".to_owned(), "missing"),
        ("{\"did\"".to_owned(), "not_json"),
    ];
    for (line, rule) in table {
        let answer = published(&mallory, &index, &line).await;
        assert_eq!(
            (&answer["ok"], answer["why"].as_str()),
            (&json!(false), Some(rule)),
            "{line}"
        );
    }
    assert_eq!(index.metrics().await.sum("ocd_records_taken_total", &[]), 0.0);
}

#[tokio::test]
async fn what_is_far_too_large_is_cut_off_and_the_indexer_goes_on() {
    let net = Federation::new();
    let index = indexer(&net, "index", &[]).start().await;
    let Some(mallory) = net.go_peer("mallory").start().await else {
        return;
    };
    let address = index.identity().stream_address();
    let huge = "x".repeat(1 << 20);
    for (count, protocol) in [HEARTBEAT, PUBLISH, GET].into_iter().enumerate() {
        let fields = json!({"addr": address, "protocol": protocol, "text": format!("{{\"did\":\"{huge}\"}}\n")});
        // It is cut off while it writes, or after it.
        mallory.try_tell("raw", fields).await;
        refused(&index, "line_too_long", count + 1).await;
    }
    // Thousands of questions at once take from nobody else.
    let ask = json!({"addr": address, "protocol": GET, "text": "{\"key\":\"nobody\"}\n", "repeat": 20_000});
    mallory.try_tell("raw", ask).await;
    index
        .wait_metrics("questions over the rate", |metrics| {
            metrics.refused("record_rate") > 0.0
        })
        .await;
    let alice = knowing(&net, "alice", &["index"]).start().await;
    keeps(&alice, 1).await;
    let bob = knowing(&net, "bob", &["index"]).start().await;
    finds(&alice, bob.did(), bob.did()).await;
}

#[tokio::test]
async fn what_is_no_kademlia_ends_its_stream_and_nothing_else() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let Some(mallory) = net.go_peer("mallory").start().await else {
        return;
    };
    let address = alice.identity().stream_address();
    let before = resident(&alice).await;
    // No message; a length without an end; one that is too large; a message that never ends.
    let garbage: [(&[u8], u32); 4] = [
        (b"\x05hello", 1),
        (&[0xff; 64], 1),
        (&[0xff, 0xff, 0x7f, 1, 2, 3], 1),
        (&[0x80, 0x7f, 7, 7, 7, 7], 100_000),
    ];
    for protocol in ["/oc/kad/1.0.0", "oc/kad/1.0.0"] {
        for (bytes, repeat) in garbage {
            let fields =
                json!({"addr": address, "protocol": protocol, "base64": STANDARD.encode(bytes), "repeat": repeat});
            let told = mallory.try_tell("raw", fields).await;
            if let Some(stream) = told["stream"].as_u64() {
                mallory
                    .expect(|event| event["event"] == "raw_end" && event["stream"] == stream)
                    .await;
            }
        }
        let asked = json!({"addr": address, "protocol": protocol, "type": "find_node", "key": "anybody"});
        assert_eq!(mallory.tell("kad_ask", asked).await["type"], "find_node");
    }
    stays_below(&alice, before + f64::from(32 << 20)).await;
}

#[tokio::test]
async fn an_indexer_that_is_full_says_so_and_another_is_found() {
    let net = Federation::new();
    let _full = indexer(&net, "full", &["roomy"])
        .set("discovery.records", 1)
        .start()
        .await;
    let roomy = indexer(&net, "roomy", &["full"]).start().await;
    keeps(&roomy, 1).await;
    let alice = knowing(&net, "alice", &["full"]).start().await;
    alice
        .wait_metrics("the full one to refuse", |metrics| {
            metrics.sum("ocd_beats_refused_total", &[]) > 0.0
        })
        .await;
    // It told of the other one.
    keeps(&alice, 1).await;
    finds(&roomy, alice.did(), alice.did()).await;
}

#[tokio::test]
async fn a_crowd_that_takes_every_connection_keeps_no_indexer_out() {
    let net = Federation::new();
    let mut index = indexer(&net, "index", &[]).start().await;
    let alice = knowing(&net, "alice", &["index"]).set("limits.connections", 8);
    let alice = alice.start().await;
    keeps(&alice, 1).await;
    index.kill9();
    keeps(&alice, 0).await;
    let crowd = Crowd::knock(&net, &alice, 200);
    alice
        .wait_metric("ocd_dropped_total", &[("reason", "too_many")], |dropped| {
            dropped > 100.0
        })
        .await;
    index.restart().await;
    // Pauses between two tries have grown meanwhile.
    alice
        .wait_metric_within(LONG, "ocd_indexers", &[("state", "kept")], |kept| kept == 1.0)
        .await;
    drop(crowd);
}

const STRANGERS: usize = 2_000;

#[tokio::test]
async fn two_thousand_strangers_at_the_door_keep_nobody_out_who_has_a_record() {
    let net = Federation::new();
    let index = indexer(&net, "index", &[]).start().await;
    let alice = knowing(&net, "alice", &["index"]).partner_of("bob");
    let alice = alice.set("discovery.unknown_peers", "refuse").start().await;
    keeps(&alice, 1).await;
    let crowd = Crowd::knock(&net, &alice, STRANGERS);
    // Each of them has a handshake, on whatever machine there is.
    until_within(6 * PATIENCE, "strangers to be dropped", || async {
        (crowd.dropped() >= 500).then_some(())
    })
    .await;
    let bob = knowing(&net, "bob", &["index"]).partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    still_crosses(&bob, &alice).await;
    drop(crowd);
    drop(index);
}
