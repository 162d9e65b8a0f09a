//! Everything wrong that can be gossiped: judged, counted, told once, answered by nobody, and without harm to the next
//! good question. The wrong-doer is the JavaScript peer.

use crate::hostile::{refused, still_crosses, told_once};
use oc_testkit::{DataType, Federation, Foreign, Peer, PeerBuilder, Relation, public, resource, until};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Alice, made so, who has something to find, and a JavaScript peer that she knows, in one gossip mesh.
async fn alice_and_jay(net: &Federation, alice: PeerBuilder<'_>) -> Option<(Peer, Foreign)> {
    let js = net.js_peer("jay").start().await?;
    let alice = alice.knows("jay", Relation::None).start().await;
    let gpu = public(resource(alice.did(), "gpu", "GPU"));
    alice.create_resource(DataType::Compute, &gpu).await;
    alice.settled().await;
    js.tell("connect", json!({"addr": alice.identity().stream_address()}))
        .await;
    js.expect(|event| event["event"] == "graft" && event["topic"] == "search")
        .await;
    Some((alice, js))
}

fn unique(word: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{word}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A question, asked with these fields; returns the user whose it is, by which its answer is known, and the answer of
/// the command.
async fn ask(js: &Foreign, mut fields: Value) -> (String, Value) {
    let user = unique("user");
    fields["user"] = json!(user);
    fields["topic"] = json!("search");
    if fields["payload"].is_null() {
        fields["payload"] = json!({"search": "gpu"});
    }
    let published = js.tell("publish", fields).await;
    assert_eq!(published["recipients"].as_array().unwrap().len(), 1, "{published}");
    (user, published)
}

fn answers(js: &Foreign, user: &str) -> usize {
    let answer = |event: &&Value| event["event"] == "received" && event["user"] == user;
    js.events().iter().filter(answer).count()
}

/// A good question is answered.
async fn good_one_is_answered(js: &Foreign) {
    is_answered(js, json!({})).await;
}

async fn is_answered(js: &Foreign, fields: Value) {
    let (user, _) = ask(js, fields).await;
    js.expect(|event| event["event"] == "received" && event["user"] == *user)
        .await;
}

#[tokio::test]
async fn false_questions_are_rejected_and_good_ones_answered() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").set("limits.gossip_burst", 1000);
    let Some((alice, js)) = alice_and_jay(&net, alice).await else {
        return;
    };
    let bob = net.peer("bob").partner_of("alice").start().await;
    let source = &js.identity().peer_id;
    good_one_is_answered(&js).await;
    // Keys of another version are no offence.
    is_answered(&js, json!({"payload": {"search": "gpu", "type": "all"}})).await;
    let offences = [
        // First, while alice is younger than that.
        ("gossip_before_start", json!({"age_ms": 55_000})),
        ("bad_signature", json!({"forge": "sig"})),
        ("bad_signature", json!({"forge": "payload"})),
        ("not_signed", json!({"sign": false})),
        ("gossip_out_of_window", json!({"age_ms": 61_000})),
        ("gossip_out_of_window", json!({"age_ms": 1_000_000_000})),
        ("gossip_out_of_window", json!({"age_ms": -3_600_000})),
        ("bad_timestamp", json!({"ts": "yesterday"})),
        ("bad_timestamp", json!({"ts": ""})),
        ("from_is_not_source", json!({"from": alice.did()})),
        ("from_is_not_source", json!({"from": bob.did()})),
        ("from_is_not_source", json!({"from": "nobody that is known"})),
        (
            "not_a_search",
            json!({"type": "create", "payload": resource(&js.identity().did, "a", "A")}),
        ),
        ("no_question", json!({"payload": {"find": "gpu"}})),
        ("no_question", json!({"payload": []})),
        ("unknown_action", json!({"type": "explode"})),
        ("unknown_datatype", json!({"datatype": 99})),
        ("missing", json!({"from": ""})),
        ("too_large", json!({"from": "z".repeat(257)})),
        ("gossip_too_large", json!({"payload": {"search": "x".repeat(40_000)}})),
    ];
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for (rule, fields) in &offences {
        println!("{rule}: {fields}");
        for _ in 0..2 {
            let (user, _) = ask(&js, fields.clone()).await;
            let count = counts.entry(rule).or_default();
            *count += 1;
            refused(&alice, rule, *count).await;
            good_one_is_answered(&js).await;
            // An answer to the false one would have left before that of the good one, or beside it.
            assert_eq!(answers(&js, &user), 0, "{rule}");
        }
    }
    // "hello", "[]", half an object, deep nesting, no text at all.
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let garbage: [(&str, &[u8]); 6] = [
        ("not_json", b"hello"),
        ("not_json", b"{\"type\":\"search\""),
        ("not_json", b" "),
        ("wrong_type", b"[]"),
        ("too_deep", nested.as_bytes()),
        ("bad_utf8", b"{\"type\":\"\xff\"}"),
    ];
    for (rule, bytes) in garbage {
        for _ in 0..2 {
            let raw = json!({"topic": "search", "raw_b64": STANDARD.encode(bytes)});
            js.tell("publish", raw).await;
            let count = counts.entry(rule).or_default();
            *count += 1;
            refused(&alice, rule, *count).await;
        }
        good_one_is_answered(&js).await;
    }
    for rule in counts.keys() {
        told_once(&alice, rule, source).await;
    }
    still_crosses(&alice, &bob).await;
}

#[tokio::test]
async fn a_question_heard_before_is_not_answered_again() {
    let net = Federation::new();
    let Some((alice, js)) = alice_and_jay(&net, net.peer("alice")).await else {
        return;
    };
    let (user, published) = ask(&js, json!({})).await;
    js.expect(|event| event["event"] == "received" && event["user"] == *user)
        .await;
    for again in 1..=2 {
        // The same bytes in a new message, as somebody else could send them who heard them.
        js.tell(
            "publish",
            json!({"topic": "search", "replay": published["publication"]}),
        )
        .await;
        refused(&alice, "gossip_replayed", again).await;
    }
    // Also by the other name of the topic.
    js.tell(
        "publish",
        json!({"topic": "search#", "replay": published["publication"]}),
    )
    .await;
    refused(&alice, "gossip_replayed", 3).await;
    told_once(&alice, "gossip_replayed", &js.identity().peer_id).await;
    good_one_is_answered(&js).await;
    assert_eq!(answers(&js, &user), 1);
}

#[tokio::test]
async fn a_flood_of_questions_is_held_to_its_rate() {
    const FLOOD: usize = 60;
    let net = Federation::new();
    let slow = net
        .peer("alice")
        .partner_of("bob")
        .set("limits.gossip_burst", 5)
        .set("limits.gossip_per_second", 1);
    let Some((alice, js)) = alice_and_jay(&net, slow).await else {
        return;
    };
    let bob = net.peer("bob").partner_of("alice").start().await;
    for _ in 0..FLOOD {
        ask(&js, json!({})).await;
    }
    let metrics = alice
        .wait_metrics("a judgement on each", |metrics| {
            let asked = metrics.sum("ocd_events_received_total", &[("action", "question")]);
            asked + metrics.refused("gossip_rate") == FLOOD as f64
        })
        .await;
    assert!(metrics.refused("gossip_rate") >= 2.0);
    told_once(&alice, "gossip_rate", &js.identity().peer_id).await;
    still_crosses(&alice, &bob).await;
    // Whoever asks at a decent rate is answered again.
    let asked = RefCell::new(Vec::new());
    until("an answer", || async {
        let (user, _) = ask(&js, json!({})).await;
        asked.borrow_mut().push(user);
        alice.settled().await;
        // It may be on its way while the next one is put.
        let answered = asked.borrow().iter().any(|user| answers(&js, user) > 0);
        answered.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stranger_is_not_answered() {
    let net = Federation::new();
    let Some(js) = net.js_peer("jay").start().await else {
        return;
    };
    let alice = net.peer("alice").start().await;
    let gpu = public(resource(alice.did(), "gpu", "GPU"));
    alice.create_resource(DataType::Compute, &gpu).await;
    alice.settled().await;
    js.tell("connect", json!({"addr": alice.identity().stream_address()}))
        .await;
    js.expect(|event| event["event"] == "graft" && event["topic"] == "search")
        .await;
    let (stranger, _) = ask(&js, json!({})).await;
    alice.wait_log(&["not answered", &js.identity().peer_id]).await;
    // Blacklisted, it is cut off; taken off the list again, it is answered.
    alice.tell_peer(js.identity(), Relation::Blacklist).await;
    js.expect(|event| event["event"] == "disconnected").await;
    alice.tell_peer(js.identity(), Relation::None).await;
    alice.settled().await;
    js.tell("connect", json!({"addr": alice.identity().stream_address()}))
        .await;
    js.expect(|event| event["event"] == "graft" && event["topic"] == "search")
        .await;
    good_one_is_answered(&js).await;
    assert_eq!(answers(&js, &stranger), 0);
}
