//! Everything wrong that an app can put on NATS: refused by its rule, counted, told once, and without harm to what
//! comes after it.

use crate::alice_and_bob;
use crate::hostile::{refused, stays_below, still_crosses, told, told_once};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use oc_testkit::{Action, DataType, Federation, NatsOptions, Peer, Relation, peer_document, until, until_within};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::net::TcpListener;

const EVENT: &str = "propalgation_event";
const CREATE: &str = "create_resource";
const REMOVE: &str = "remove_resource";

/// An envelope around an event of `action` with these bytes as payload.
fn event(action: Action, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let inner = Peer::propalgation(action, DataType::Compute, payload.as_ref());
    Peer::envelope("oc-catalog", DataType::Compute, &inner)
}

/// An envelope around a document.
fn document(datatype: DataType, payload: impl AsRef<[u8]>) -> Vec<u8> {
    Peer::envelope("oc-catalog", datatype, payload.as_ref())
}

/// An envelope around this text, in place of an event.
fn enveloped(inner: &str) -> Vec<u8> {
    document(DataType::Compute, inner)
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// Publishes each message two times; then each rule has counted its messages, and has told once for each subject.
async fn each_is_refused(alice: &Peer, bob: &Peer, messages: Vec<(&'static str, &'static str, Vec<u8>)>) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (subject, rule, bytes) in &messages {
        for _ in 0..2 {
            alice.app().publish_bytes(subject, bytes.clone()).await;
        }
        let count = counts.entry(rule).or_default();
        *count += 2;
        let shown: String = String::from_utf8_lossy(bytes).chars().take(200).collect();
        println!("{rule}: {shown}");
        refused(alice, rule, *count).await;
        still_crosses(alice, bob).await;
    }
    for (subject, rule, _) in &messages {
        told_once(alice, rule, subject).await;
    }
    let metrics = alice.metrics().await;
    assert_eq!(
        metrics.sum("ocd_refused_total", &[]),
        counts.values().sum::<usize>() as f64,
        "nothing was refused by another rule too"
    );
    assert_eq!(metrics.dropped(), 0.0);
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let raw = |text: &str| text.as_bytes().to_vec();
    let messages = vec![
        (EVENT, "not_json", raw("hello")),
        (EVENT, "not_json", raw("")),
        (EVENT, "not_json", raw("{\"from_app\":\"a\"")),
        (EVENT, "not_json", raw("{}{}")),
        (CREATE, "not_json", raw("\0\0\0")),
        (REMOVE, "not_json", raw("nil")),
        (EVENT, "bad_utf8", b"{\"user\":\"\xff\"}".to_vec()),
        (EVENT, "wrong_type", raw("[]")),
        (EVENT, "wrong_type", raw("17")),
        (EVENT, "wrong_type", raw(r#"{"from_app":7,"payload":"e30="}"#)),
        (EVENT, "wrong_type", raw(r#"{"groups":"all","payload":"e30="}"#)),
        (EVENT, "wrong_type", raw(r#"{"datatype":[4],"payload":"e30="}"#)),
        (
            EVENT,
            "duplicate_key",
            raw(r#"{"from_app":"a","FromApp":"oc-discovery","payload":"e30="}"#),
        ),
        (EVENT, "duplicate_key", raw(r#"{"payload":"e30=","payload":"e30="}"#)),
        // No base64, so it is itself: a text, where an object must be.
        (
            EVENT,
            "wrong_type",
            raw(r#"{"from_app":"a","datatype":4,"payload":"%%%"}"#),
        ),
        (
            EVENT,
            "wrong_type",
            raw(r#"{"from_app":"a","datatype":4,"payload":"e30"}"#),
        ),
        (
            CREATE,
            "wrong_type",
            raw(r#"{"from_app":"a","datatype":4,"payload":"%%%"}"#),
        ),
        (
            REMOVE,
            "wrong_type",
            raw(r#"{"from_app":"a","datatype":4,"payload":"%%%"}"#),
        ),
        (
            EVENT,
            "unknown_datatype",
            raw(r#"{"from_app":"a","datatype":99,"payload":"e30="}"#),
        ),
        (
            EVENT,
            "unknown_datatype",
            raw(r#"{"from_app":"a","datatype":-1,"payload":"e30="}"#),
        ),
        (
            EVENT,
            "unknown_datatype",
            raw(r#"{"from_app":"a","datatype":"gpu","payload":"e30="}"#),
        ),
        (
            CREATE,
            "unknown_datatype",
            raw(r#"{"from_app":"a","datatype":99,"payload":"e30="}"#),
        ),
        (EVENT, "too_deep", raw(&nested(100_000))),
        (
            EVENT,
            "too_deep",
            raw(&format!(r#"{{"from_app":"a","more":{}}}"#, nested(65))),
        ),
        (CREATE, "too_deep", raw(&"{\"a\":".repeat(50_000))),
    ];
    each_is_refused(&alice, &bob, messages).await;
}

#[tokio::test]
async fn what_is_no_event_is_refused() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let own = |extra: &str| format!(r#"{{"id":"bad","creator_id":"{}"{extra}}}"#, alice.did());
    let peer_ids = json!({"peer_ids": vec!["p"; 100_000]}).to_string();
    let fat = own(&format!(r#","pad":"{}""#, "x".repeat(540_000)));
    let deep = own(&format!(r#","x":{}"#, nested(70)));
    let deep_in_two = STANDARD.encode(&deep);
    let plain_deep = format!(r#"{{"datatype":4,"action":2,"payload":{deep}}}"#);
    let peer = json!({"id": "bad", "creator_id": alice.did()}).to_string();
    let peer_event = Peer::propalgation(Action::Create, DataType::Peer, &peer);
    let no_kind = Peer::propalgation(Action::Create, DataType::Invalid, own("").as_str());
    let messages = vec![
        (EVENT, "missing", enveloped("{}")),
        (
            EVENT,
            "unknown_action",
            enveloped(r#"{"action":42,"datatype":4,"payload":"e30="}"#),
        ),
        (
            EVENT,
            "unknown_action",
            enveloped(r#"{"action":-1,"datatype":4,"payload":"e30="}"#),
        ),
        (
            EVENT,
            "unknown_action",
            enveloped(r#"{"action":"PB_EXPLODE","datatype":4,"payload":"e30="}"#),
        ),
        (
            EVENT,
            "unknown_action",
            enveloped(r#"{"action":1,"datatype":4,"payload":"e30="}"#),
        ),
        (
            EVENT,
            "unknown_datatype",
            enveloped(r#"{"action":2,"datatype":99,"payload":"e30="}"#),
        ),
        (EVENT, "unknown_datatype", document(DataType::Invalid, no_kind)),
        (
            EVENT,
            "datatype_peer",
            enveloped(&String::from_utf8(peer_event).unwrap()),
        ),
        (EVENT, "not_object", event(Action::Create, "[]")),
        (
            EVENT,
            "not_object",
            enveloped(r#"{"action":2,"datatype":4,"payload":"%%%"}"#),
        ),
        (EVENT, "not_json", event(Action::Create, "")),
        (EVENT, "missing", event(Action::Create, r#"{"id":"bad"}"#)),
        (
            EVENT,
            "missing",
            event(Action::Update, r#"{"id":"bad","creator_id":""}"#),
        ),
        (
            EVENT,
            "missing",
            event(Action::Create, r#"{"id":"bad","creator_id":null}"#),
        ),
        (
            EVENT,
            "missing",
            event(Action::Create, format!(r#"{{"creator_id":"{}"}}"#, alice.did())),
        ),
        (EVENT, "missing", event(Action::Delete, "{}")),
        (
            EVENT,
            "wrong_type",
            event(Action::Create, r#"{"id":"bad","creator_id":7}"#),
        ),
        (
            EVENT,
            "wrong_type",
            event(Action::Create, r#"{"id":["bad"],"creator_id":"a"}"#),
        ),
        (EVENT, "wrong_type", event(Action::Create, own(r#","name":{}"#))),
        (
            EVENT,
            "bad_id",
            event(
                Action::Create,
                format!(r#"{{"id":"{}","creator_id":"a"}}"#, "x".repeat(257)),
            ),
        ),
        (
            EVENT,
            "bad_id",
            event(Action::Create, r#"{"id":"a\u0000b","creator_id":"a"}"#),
        ),
        (EVENT, "duplicate_key", event(Action::Create, own(r#","id":"other""#))),
        (
            EVENT,
            "duplicate_key",
            event(Action::Update, own(r#","creator_id":"other""#)),
        ),
        (EVENT, "case_variant", event(Action::Create, own(r#","ID":"other""#))),
        (
            EVENT,
            "case_variant",
            event(Action::Delete, own(r#","Creator_ID":"other""#)),
        ),
        (
            EVENT,
            "nested_differs",
            event(Action::Create, own(r#","abstractobject":{"id":"other"}"#)),
        ),
        (
            EVENT,
            "not_creator",
            event(Action::Create, r#"{"id":"bad","creator_id":"somebody else"}"#),
        ),
        (EVENT, "not_creator", event(Action::Delete, r#"{"id":"never seen"}"#)),
        (EVENT, "too_deep", event(Action::Create, &deep)),
        // A text in a text stays a text.
        (EVENT, "not_object", event(Action::Create, format!("\"{deep_in_two}\""))),
        (EVENT, "too_deep", enveloped(&plain_deep)),
        (EVENT, "too_large", event(Action::Create, fat)),
        (EVENT, "too_large", event(Action::Considers, peer_ids)),
        (
            EVENT,
            "too_large",
            event(Action::Planner, json!({"peer_id": "p".repeat(300)}).to_string()),
        ),
        (EVENT, "missing", event(Action::Considers, "{}")),
        (EVENT, "missing", event(Action::Planner, r#"{"peer_id":""}"#)),
        (EVENT, "wrong_type", event(Action::Considers, r#"{"peer_ids":"bob"}"#)),
        (EVENT, "wrong_type", event(Action::Considers, r#"{"peer_ids":[1,2]}"#)),
        (EVENT, "wrong_type", event(Action::Planner, r#"{"peer_id":["bob"]}"#)),
        (
            EVENT,
            "wrong_type",
            event(Action::Search, r#"{"search":"gpu","limit":-1}"#),
        ),
        (EVENT, "wrong_type", event(Action::Search, "\"gpu\"")),
        (
            EVENT,
            "unknown_scope",
            event(Action::Search, r#"{"search":"gpu","type":"universe"}"#),
        ),
        (EVENT, "missing", event(Action::CloseSearch, "{}")),
    ];
    each_is_refused(&alice, &bob, messages).await;
    assert!(
        bob.heard(CREATE)
            .iter()
            .all(|message| message.document()["name"] == "Good")
    );
}

#[tokio::test]
async fn what_is_no_document_is_refused() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let bob_as = |change: fn(&mut Value)| {
        let mut changed = peer_document(bob.identity(), Relation::Partner);
        change(&mut changed);
        document(DataType::Peer, changed.to_string())
    };
    let mine = |relation| document(DataType::Peer, peer_document(alice.identity(), relation).to_string());
    let other_key = net.identity("carol").public_key;
    let mut conflict = peer_document(bob.identity(), Relation::Partner);
    conflict["public_key"] = json!(other_key);
    let messages = vec![
        (CREATE, "missing", document(DataType::Compute, "{}")),
        (CREATE, "wrong_type", document(DataType::Compute, r#"{"id":7}"#)),
        (
            CREATE,
            "unknown_datatype",
            document(DataType::Invalid, r#"{"id":"bad"}"#),
        ),
        (CREATE, "not_object", document(DataType::Peer, "[]")),
        (CREATE, "missing", bob_as(|peer| peer["id"] = json!(""))),
        (CREATE, "bad_id", bob_as(|peer| peer["id"] = json!("b\nb"))),
        (CREATE, "unknown_relation", bob_as(|peer| peer["relation"] = json!(9))),
        (
            CREATE,
            "bad_peer_id",
            bob_as(|peer| peer["peer_id"] = json!("12D3KooWnobody")),
        ),
        (CREATE, "conflict", document(DataType::Peer, conflict.to_string())),
        (CREATE, "self_relation", mine(Relation::Partner)),
        (CREATE, "self_relation", mine(Relation::Blacklist)),
        (CREATE, "self_relation", bob_as(|peer| peer["relation"] = json!(1))),
        (REMOVE, "self_relation", mine(Relation::Own)),
        (REMOVE, "missing", document(DataType::Compute, "{}")),
        (
            REMOVE,
            "unknown_datatype",
            document(DataType::Invalid, r#"{"id":"bad"}"#),
        ),
    ];
    each_is_refused(&alice, &bob, messages).await;
}

#[tokio::test]
async fn a_message_of_twenty_megabytes_is_refused() {
    let net = Federation::new();
    let wide = NatsOptions {
        max_payload: Some(64 << 20),
        ..NatsOptions::default()
    };
    let alice = net.peer("alice").nats(wide).partner_of("bob").start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    oc_testkit::partners(&[&alice, &bob]).await;
    let text = json!({"id": "big", "creator_id": alice.did(), "pad": "x".repeat(11 << 20)}).to_string();
    let big = event(Action::Create, text);
    assert!(big.len() > 19 << 20, "{}", big.len());
    for _ in 0..2 {
        alice.app().publish_bytes(EVENT, big.clone()).await;
    }
    refused(&alice, "too_large", 2).await;
    told_once(&alice, "too_large", EVENT).await;
    still_crosses(&alice, &bob).await;
    assert!(alice.metrics().await.dropped() == 0.0);
}

#[tokio::test]
async fn a_flood_beyond_the_intake_is_dropped_counted_and_told() {
    let net = Federation::new();
    let alice = net
        .peer("alice")
        .set("limits.intake_messages", 16)
        .partner_of("bob")
        .start()
        .await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    oc_testkit::partners(&[&alice, &bob]).await;
    let message = event(Action::Create, "[]");
    let mut sent = 0;
    // As fast as NATS takes them, until some came while the queue was full.
    loop {
        for _ in 0..5_000 {
            alice.nats().publish(EVENT, message.clone().into()).await.unwrap();
            sent += 1;
        }
        alice.app().flush().await;
        let metrics = alice.metrics().await;
        if metrics.sum("ocd_dropped_total", &[("where", "intake")]) >= 2.0 {
            break;
        }
    }
    told_once(&alice, "messages", EVENT).await;
    // Once the flood is over, everything is as before.
    alice
        .wait_metrics("all of the flood handled", |metrics| {
            metrics.refused("not_object") + metrics.sum("ocd_dropped_total", &[("where", "intake")]) == f64::from(sent)
        })
        .await;
    still_crosses(&alice, &bob).await;
}

#[tokio::test]
async fn unknown_peers_in_a_list_do_not_keep_it_from_the_others() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let mut to: Vec<String> = (0..5_000).map(|n| format!("nobody-{n}")).collect();
    to.insert(2_500, bob.did().to_owned());
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    for run in 1..=2 {
        alice
            .publish_considers(DataType::Execution, &to, json!({"run": run}))
            .await;
        let heard = bob.expect(EVENT, |_| true).await.propalgation();
        assert_eq!(serde_json::from_slice::<Value>(&heard.payload).unwrap()["run"], run);
    }
    refused(&alice, "unknown_peer", 10_000).await;
    told_once(&alice, "unknown_peer", "considers").await;
    for _ in 0..2 {
        alice
            .publish_planner(DataType::Execution, "nobody", json!({"step": 1}))
            .await;
        alice.publish_close_planner(DataType::Execution, "nobody").await;
    }
    refused(&alice, "unknown_peer", 10_004).await;
    told_once(&alice, "unknown_peer", "planner").await;
    told_once(&alice, "unknown_peer", "close_planner").await;
    assert_eq!(told(&alice, "unknown_peer").len(), 3);
    still_crosses(&alice, &bob).await;
}

#[tokio::test]
async fn a_peer_whose_address_cannot_be_read() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let carol = net.identity("carol");
    let mut peer = peer_document(&carol, Relation::Partner);
    peer["stream_address"] = json!("carol.example:4001");
    for _ in 0..2 {
        alice.create_resource(DataType::Peer, &peer).await;
    }
    refused(&alice, "bad_address", 2).await;
    told_once(&alice, "bad_address", &carol.did).await;
    alice.wait_log(&["partner is away", &carol.did, "address"]).await;
    still_crosses(&alice, &bob).await;
    // Mended, it works.
    let carol = net.peer("carol").partner_of("alice").start().await;
    alice.tell_peer(carol.identity(), Relation::Partner).await;
    alice.wait_partner_up(carol.identity()).await;
    still_crosses(&alice, &carol).await;
}

/// The pauses that `peer` announced before it tries `did` again.
fn pauses(peer: &Peer, did: &str) -> Vec<f64> {
    let lines = peer.logs().into_iter().filter(|line| line.contains(did));
    lines
        .filter_map(|line| {
            let (_, rest) = line.split_once("retry_in_s=")?;
            rest.split_whitespace().next()?.parse().ok()
        })
        .collect()
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_tried_again_with_growing_pauses() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    // An address on which nothing listens.
    let carol = net.identity("carol");
    alice.tell_peer(&carol, Relation::Partner).await;
    still_crosses(&alice, &bob).await;
    let pauses = until("three attempts", || async {
        Some(pauses(&alice, &carol.did)).filter(|pauses| pauses.len() >= 3)
    })
    .await;
    assert!(pauses.windows(2).all(|two| two[0] <= two[1]), "{pauses:?}");
    assert!(pauses[2] >= 2.0, "{pauses:?}");
    let away = alice.logs().into_iter().filter(|line| line.contains("partner is away"));
    assert_eq!(
        away.filter(|line| line.contains(&carol.did)).count(),
        1,
        "an outage is told once"
    );
    still_crosses(&alice, &bob).await;
}

#[tokio::test]
async fn a_peer_that_takes_the_connection_and_says_nothing_is_tried_with_growing_pauses_too() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let mut carol = net.identity("carol");
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    carol.address = format!("/ip4/127.0.0.1/tcp/{}", mute.local_addr().unwrap().port());
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok(connection) = mute.accept().await {
            held.push(connection);
        }
    });
    alice.tell_peer(&carol, Relation::Partner).await;
    still_crosses(&alice, &bob).await;
    let pauses = until_within(
        Duration::from_secs(60),
        "two attempts that ran into their time",
        || async { Some(pauses(&alice, &carol.did)).filter(|pauses| pauses.len() >= 2) },
    )
    .await;
    assert!(pauses[1] >= 1.0, "the second pause is the longer one: {pauses:?}");
    still_crosses(&alice, &bob).await;
    held.abort();
}

/// The next claim on a DID of an instance that is not among these.
async fn claim(from: &mut async_nats::Subscriber, known: &[&str]) -> (async_nats::Message, Value) {
    let next = async {
        loop {
            let heard = from.next().await.expect("the subscription lasts");
            let claim = serde_json::from_slice::<Value>(&heard.payload).unwrap_or_default();
            let instance = claim["claim"]["instance"].as_str();
            if instance.is_some_and(|instance| !known.contains(&instance)) {
                return (heard, claim);
            }
        }
    };
    tokio::time::timeout(oc_testkit::PATIENCE, next)
        .await
        .expect("a claim is announced")
}

#[tokio::test]
async fn a_forged_or_old_claim_on_the_did_sends_no_daemon_away() {
    let net = Federation::new();
    let (mut alice, bob) = alice_and_bob(&net).await;
    let mut claims = alice.nats().subscribe("oc_discovery.lease.*").await.unwrap();
    alice.app().flush().await;
    alice.stop().await;
    alice.restart().await;
    let (genuine, mut forged) = claim(&mut claims, &[]).await;
    let old = forged["claim"]["instance"].as_str().unwrap().to_owned();
    let others = [old.as_str(), "the-only-one"];
    forged["claim"]["started_ms"] = json!(1);
    forged["claim"]["instance"] = json!("the-only-one");
    let mut garbage = vec![forged.to_string(), "{}".into(), "hello".into(), nested(100_000)];
    garbage.push(json!({"claim": forged["claim"], "sig": "zz"}).to_string());
    for text in &garbage {
        alice
            .nats()
            .publish(genuine.subject.clone(), text.clone().into())
            .await
            .unwrap();
    }
    refused(&alice, "forged_lease", garbage.len()).await;
    told_once(&alice, "forged_lease", &genuine.subject).await;
    // What the daemon itself said before it was started again is older than what it says now, and genuine.
    alice.stop().await;
    alice.restart().await;
    claim(&mut claims, &others).await;
    for _ in 0..2 {
        alice
            .nats()
            .publish(genuine.subject.clone(), genuine.payload.clone())
            .await
            .unwrap();
        // It asks whether the older one lives; nobody answers.
        while claim(&mut claims, &others).await.1["answers"] != *old {}
    }
    oc_testkit::partners(&[&alice, &bob]).await;
    still_crosses(&alice, &bob).await;
    assert!(alice.daemon().exit_status().is_none());
}

#[tokio::test]
async fn memory_stays_small_under_what_is_refused() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let before = crate::hostile::resident(&alice).await;
    let fat = event(
        Action::Create,
        json!({"id": "fat", "creator_id": alice.did(), "pad": "x".repeat(560_000)}).to_string(),
    );
    const PIECE: usize = 10;
    // In pieces, since a NATS server leaves a reader behind by too many bytes.
    for piece in 1..=30 {
        for _ in 0..PIECE {
            alice.nats().publish(EVENT, fat.clone().into()).await.unwrap();
        }
        refused(&alice, "too_large", piece * PIECE).await;
    }
    told_once(&alice, "too_large", EVENT).await;
    stays_below(&alice, before + 48e6).await;
    still_crosses(&alice, &bob).await;
}
