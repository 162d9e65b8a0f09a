//! Everything wrong that another organisation's program can do on its streams: refused by its rule, counted, told once,
//! and without harm to what the same peer, or another, sends after it. The wrong-doer is the Go peer.

use crate::hostile::{refused, resident, stays_below, still_crosses, told_once};
use oc_testkit::{
    Action, DataType, Federation, Foreign, NatsOptions, PATIENCE, Peer, PeerBuilder, Relation, partners, resource,
    until, until_within,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

const CREATE: &str = "create_resource";
const REMOVE: &str = "remove_resource";
const EVENT: &str = "propalgation_event";
const HEARTBEAT: &str = "/opencloud/resource/heartbeat/partner/1.0";

/// Alice, made so, and a Go peer that is her partner, heartbeats both ways.
pub async fn alice_and_gopher(net: &Federation, alice: PeerBuilder<'_>) -> Option<(Peer, Foreign)> {
    let go = net
        .go_peer("gopher")
        .argument("--limits")
        .argument("none")
        .start()
        .await?;
    let alice = alice.partner_of("gopher").start().await;
    alice.wait_partner_up(go.identity()).await;
    become_partner(&alice, &go).await;
    Some((alice, go))
}

/// The Go peer keeps its heartbeats to Alice from now on.
async fn become_partner(alice: &Peer, go: &Foreign) {
    let fields = json!({"addr": alice.identity().stream_address(), "retry": true});
    go.tell("partner", fields).await;
    alice
        .wait_metric("ocd_streams_open", &[("protocol", HEARTBEAT)], |open| open == 1.0)
        .await;
}

/// A good event of the Go peer comes out at Alice's NATS.
pub async fn good_one_arrives(go: &Foreign, alice: &Peer) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = format!("good-of-go-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let good = resource(go.did(), &id, "Good");
    // Its stream may have been reset, which it learns by writing: written again until it comes.
    until(format!("{id} to come out"), || async {
        let event = json!({"addr": alice.peer_id(), "protocol": "create", "datatype": 4, "payload": good});
        go.try_tell("send", event).await;
        let here = alice.heard(CREATE);
        here.iter().any(|message| message.document()["id"] == *id).then_some(())
    })
    .await;
}

/// Writes bytes on a stream of their own, and returns the stream's number when it was reset.
pub async fn raw(go: &Foreign, alice: &Peer, mut fields: Value) -> Value {
    fields["addr"] = json!(alice.identity().stream_address());
    go.try_tell("raw", fields).await
}

/// Waits for the end of the stream of a `raw` answer.
pub async fn ended(go: &Foreign, answer: &Value) -> Value {
    let stream = answer["stream"].clone();
    go.expect(|event| event["event"] == "raw_end" && event["stream"] == stream)
        .await
}

#[tokio::test]
async fn a_peer_of_another_network_is_kept_out_and_the_log_says_why() {
    let (net, elsewhere) = (Federation::new(), Federation::new());
    let Some(go) = elsewhere.go_peer("gopher").start().await else {
        return;
    };
    let alice = net
        .peer("alice")
        .set("limits.handshake_timeout", "2s")
        .partner_of("bob")
        .start()
        .await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    alice.tell_peer(go.identity(), Relation::Partner).await;
    let away = alice.wait_log(&["partner is away", go.did()]).await;
    assert!(away.contains("PSK"), "{away}");
    let fields = json!({"addr": alice.identity().stream_address()});
    for _ in 0..2 {
        assert_eq!(go.try_tell("connect", fields.clone()).await["event"], "error");
    }
    alice
        .wait_metric("ocd_dials_total", &[("result", "inbound_failed")], |failed| {
            failed >= 2.0
        })
        .await;
    still_crosses(&alice, &bob).await;
    still_crosses(&bob, &alice).await;
}

#[tokio::test]
async fn a_line_that_comes_a_byte_at_a_time_or_never_ends_is_cut_off() {
    let net = Federation::new();
    let hasty = net
        .peer("alice")
        .argument("--set")
        .argument("limits.line_timeout=300ms");
    let Some((alice, go)) = alice_and_gopher(&net, hasty).await else {
        return;
    };
    let peer = &go.identity().peer_id;
    let good = resource(go.did(), "slow", "Slow").to_string();
    for _ in 0..2 {
        let answer = raw(
            &go,
            &alice,
            json!({"protocol": "create", "text": good, "delay_ms_per_byte": 100}),
        )
        .await;
        assert_ne!(
            answer["written"],
            good.len(),
            "it was reset before it was done: {answer}"
        );
        assert_eq!(ended(&go, &answer).await["how"], "reset");
    }
    refused(&alice, "line_too_slow", 2).await;
    told_once(&alice, "line_too_slow", peer).await;
    good_one_arrives(&go, &alice).await;
    for protocol in ["create", "considers", "search"] {
        let answer = raw(&go, &alice, json!({"protocol": protocol, "text": "{\"type\":"})).await;
        assert_eq!(ended(&go, &answer).await["how"], "reset", "{protocol}");
    }
    refused(&alice, "line_too_slow", 5).await;
    for _ in 0..2 {
        let answer = raw(&go, &alice, json!({"protocol": "create", "text": good, "close": true})).await;
        ended(&go, &answer).await;
    }
    refused(&alice, "cut_off", 2).await;
    told_once(&alice, "cut_off", peer).await;
    good_one_arrives(&go, &alice).await;
}

#[tokio::test]
async fn a_gigabyte_in_one_line_is_cut_at_the_bound() {
    const ROUNDS: usize = 16 << 10;
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, net.peer("alice")).await else {
        return;
    };
    let before = resident(&alice).await;
    let piece = "x".repeat(64 << 10);
    for protocol in ["create", "create", "search", "search"] {
        let answer = raw(
            &go,
            &alice,
            json!({"protocol": protocol, "text": piece, "repeat": ROUNDS}),
        )
        .await;
        assert_eq!(answer["event"], "error", "it cannot write it all: {answer}");
        // The bound, and what the connection holds on its way.
        assert!(answer["written"].as_u64().unwrap() < 8 << 20, "{answer}");
        assert_eq!(ended(&go, &answer).await["how"], "reset");
    }
    refused(&alice, "line_too_long", 4).await;
    told_once(&alice, "line_too_long", &go.identity().peer_id).await;
    stays_below(&alice, before + 16e6).await;
    good_one_arrives(&go, &alice).await;
}

#[tokio::test]
async fn ten_thousand_streams_are_bounded() {
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, net.peer("alice").set("limits.streams_per_protocol", 16)).await
    else {
        return;
    };
    let before = resident(&alice).await;
    let peer = &go.identity().peer_id;
    let fields = json!({"addr": alice.identity().stream_address(), "protocol": "create", "count": 10_000});
    let answer = go.try_tell("open_many", fields).await;
    let (opened, refused_by_go) = (answer["opened"].as_u64().unwrap(), answer["refused"].as_u64().unwrap());
    assert_eq!(opened + refused_by_go, 10_000, "{answer}");
    let metrics = alice
        .wait_metrics("dropped streams", |metrics| {
            metrics.sum("ocd_dropped_total", &[("reason", "too_many_streams")]) > 1.0
        })
        .await;
    let open = metrics.sum("ocd_streams_open", &[("protocol", "/opencloud/resource/create/1.0")]);
    assert!(open <= 128.0, "limits.streams_per_protocol: {open}");
    told_once(&alice, "too_many_streams", peer).await;
    stays_below(&alice, before + 32e6).await;
    // All places of this protocol are taken by silent streams; the other ones are free, and the connection lives or is
    // made anew.
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "there", "There"))
        .await;
    go.expect(|event| event["event"] == "received" && event["payload"]["id"] == "there")
        .await;
    let send = json!({"addr": alice.peer_id(), "protocol": "update", "datatype": 4,
        "payload": resource(go.did(), "back", "Back")});
    until("an update to come out", || async {
        go.try_tell("send", send.clone()).await;
        let here = alice.heard(CREATE);
        here.iter()
            .any(|message| message.document()["id"] == "back")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn lines_that_are_no_event_of_the_sender_are_refused() {
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, net.peer("alice")).await else {
        return;
    };
    let (did, peer) = (go.did(), &go.identity().peer_id);
    let payload = resource(did, "bad", "Bad");
    let line = |from: &str, extra: &str| {
        format!("{{\"type\":\"create\",\"from\":\"{from}\",\"datatype\":4,\"payload\":{payload}{extra}}}\n")
    };
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let lines = [
        ("not_json", "hello\n".to_owned()),
        ("wrong_type", "[]\n".to_owned()),
        ("missing", "{}\n".to_owned()),
        ("missing", "{\"type\":\"create\"}\n".to_owned()),
        ("unknown_action", line(did, "").replace("\"create\"", "\"explode\"")),
        ("unknown_datatype", line(did, "").replace(":4,", ":99,")),
        ("unknown_datatype", line(did, "").replace(":4,", ":0,")),
        ("too_deep", line(did, &format!(",\"more\":{nested}"))),
        ("duplicate_key", line(did, ",\"FROM\":\"somebody else\"")),
        ("bad_base64", line(did, ",\"sig\":\"%%%\"")),
        ("bad_signature", line(did, ",\"sig\":\"AAAA\"")),
        ("from_is_not_sender", line(alice.did(), "")),
        ("from_is_not_sender", line("somebody else", "")),
    ];
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for (rule, line) in &lines {
        for _ in 0..2 {
            raw(&go, &alice, json!({"protocol": "create", "text": line, "close": true})).await;
        }
        let count = counts.entry(rule).or_default();
        *count += 2;
        println!("{rule}: {line:.200}");
        refused(&alice, rule, *count).await;
        good_one_arrives(&go, &alice).await;
    }
    for rule in counts.keys() {
        told_once(&alice, rule, did).await;
    }
    // Bytes that are no text at all, and more bad lines than anybody makes by mistake.
    raw(
        &go,
        &alice,
        json!({"protocol": "create", "base64": "//8K", "close": true}),
    )
    .await;
    refused(&alice, "bad_utf8", 1).await;
    for _ in 0..2 {
        let answer = raw(
            &go,
            &alice,
            json!({"protocol": "create", "text": "hello\n", "repeat": 200}),
        )
        .await;
        assert_eq!(ended(&go, &answer).await["how"], "reset");
    }
    refused(&alice, "bad_lines", 2).await;
    told_once(&alice, "bad_lines", peer).await;
    good_one_arrives(&go, &alice).await;
    assert!(
        alice
            .heard(CREATE)
            .iter()
            .all(|message| message.document()["name"] == "Good")
    );
}

#[tokio::test]
async fn a_document_that_our_nats_cannot_take_is_refused() {
    let net = Federation::new();
    let small = NatsOptions {
        max_payload: Some(64 * 1024),
        ..NatsOptions::default()
    };
    let Some((alice, go)) = alice_and_gopher(&net, net.peer("alice").nats(small)).await else {
        return;
    };
    let mut large = resource(go.did(), "large", "Large");
    large["description"] = json!("x".repeat(100 * 1024));
    let event = json!({"addr": alice.peer_id(), "protocol": "create", "datatype": 4, "payload": large});
    go.tell("send", event).await;
    refused(&alice, "too_large", 1).await;
    good_one_arrives(&go, &alice).await;
    assert_eq!(alice.metrics().await.dropped(), 0.0);
}

#[tokio::test]
async fn nobody_writes_what_is_somebody_elses() {
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, net.peer("alice")).await else {
        return;
    };
    let third = net.identity("carol").did;
    alice
        .create_resource(DataType::Compute, &resource(alice.did(), "alices", "Of Alice"))
        .await;
    alice
        .create_resource(DataType::Compute, &resource(&third, "carols", "Of Carol"))
        .await;
    alice.settled().await;
    let peer_document = json!({"id": third, "name": "Carol", "relation": 2, "creator_id": go.did()});
    let offences = [
        ("not_owner", "create", 4, resource(go.did(), "alices", "Stolen")),
        ("not_owner", "update", 4, resource(go.did(), "carols", "Stolen")),
        ("not_owner", "delete", 4, resource(go.did(), "alices", "Stolen")),
        ("not_owner", "delete", 4, json!({"id": "alices"})),
        ("not_owner", "delete", 4, json!({"id": "carols"})),
        ("not_creator", "create", 4, resource(alice.did(), "alices", "Stolen")),
        ("not_creator", "update", 4, resource(&third, "new", "Stolen")),
        ("not_creator", "delete", 4, resource(&third, "carols", "Stolen")),
        ("datatype_peer", "create", 9, peer_document.clone()),
        ("datatype_peer", "delete", 9, peer_document.clone()),
        ("datatype_peer", "considers", 9, peer_document),
        ("missing", "create", 4, json!({"id": "nobodys"})),
        (
            "case_variant",
            "create",
            4,
            json!({"id": "a", "ID": "alices", "creator_id": go.did()}),
        ),
        (
            "duplicate_key",
            "create",
            4,
            json!({"id": "a", "abstractobject": {}, "creator_id": go.did()}),
        ),
    ];
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for (rule, protocol, datatype, payload) in &offences {
        let mut event = json!({"protocol": protocol, "datatype": datatype, "payload": payload});
        if *rule == "duplicate_key" {
            let text = format!("{{\"id\":\"a\",\"id\":\"alices\",\"creator_id\":\"{}\"}}", go.did());
            use base64::Engine;
            event["payload_b64"] = json!(base64::engine::general_purpose::STANDARD.encode(text));
        }
        for _ in 0..2 {
            go.tell("send", event.clone()).await;
        }
        let count = counts.entry(rule).or_default();
        *count += 2;
        refused(&alice, rule, *count).await;
        good_one_arrives(&go, &alice).await;
    }
    for rule in counts.keys() {
        told_once(&alice, rule, go.did()).await;
    }
    assert!(alice.heard(REMOVE).is_empty() && alice.heard(EVENT).is_empty());
    assert!(
        alice
            .heard(CREATE)
            .iter()
            .all(|message| message.document()["name"] == "Good")
    );
    // What is stored is as it was: each still belongs to its owner, who may change it.
    alice.publish_delete(DataType::Compute, &json!({"id": "alices"})).await;
    go.expect(|event| event["event"] == "received" && event["payload"]["id"] == "alices")
        .await;
}

#[tokio::test]
async fn a_peer_without_the_right_to_it_writes_nothing() {
    let net = Federation::new();
    let Some(go) = net.go_peer("gopher").start().await else {
        return;
    };
    let alice = net.peer("alice").partner_of("bob").start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    let peer = &go.identity().peer_id;
    let address = alice.identity().stream_address();
    go.tell("connect", json!({"addr": address})).await;
    let line = json!({"type": "create", "from": go.did(), "datatype": 4, "payload": resource(go.did(), "bad", "Bad")});
    let line = format!("{line}\n");
    // Nobody has told Alice of it.
    let (mut strangers, mut refusals) = (0, 0);
    for protocol in [
        "create",
        "update",
        "delete",
        "considers",
        "planner",
        "heartbeat",
        "probe",
    ] {
        for _ in 0..2 {
            let answer = raw(&go, &alice, json!({"protocol": protocol, "text": line})).await;
            assert_eq!(ended(&go, &answer).await["how"], "reset", "{protocol}");
            strangers += 1;
        }
        refused(&alice, "unknown_peer", strangers).await;
    }
    told_once(&alice, "unknown_peer", peer).await;
    still_crosses(&alice, &bob).await;
    // Alice knows it, and no more than that.
    alice.tell_peer(go.identity(), Relation::None).await;
    alice.settled().await;
    for protocol in ["create", "update", "delete", "heartbeat"] {
        for _ in 0..2 {
            let answer = raw(&go, &alice, json!({"protocol": protocol, "text": line})).await;
            assert_eq!(ended(&go, &answer).await["how"], "reset", "{protocol}");
            refusals += 1;
        }
        refused(&alice, "not_partner", refusals).await;
    }
    told_once(&alice, "not_partner", peer).await;
    still_crosses(&alice, &bob).await;
    assert!(alice.heard(CREATE).is_empty() && alice.heard(REMOVE).is_empty());
}

#[tokio::test]
async fn a_heartbeat_must_name_its_connection() {
    let net = Federation::new();
    let Some(go) = net.go_peer("gopher").start().await else {
        return;
    };
    let alice = net.peer("alice").partner_of("gopher").start().await;
    alice.wait_partner_up(go.identity()).await;
    let address = alice.identity().stream_address();
    let (did, peer) = (go.did().to_owned(), go.identity().peer_id.clone());
    let other = net.identity("carol");
    for (rule, claim) in [
        ("heartbeat_of_another_did", json!({"did": other.did})),
        ("heartbeat_of_another_did", json!({"did": alice.did()})),
        ("heartbeat_of_another_peer", json!({"peer_id": other.peer_id})),
        ("heartbeat_of_another_peer", json!({"peer_id": alice.peer_id()})),
    ] {
        let mut fields = claim;
        fields["addr"] = json!(address);
        go.try_tell("partner", fields).await;
        go.expect(|event| event["event"] == "partner_down" && event["dir"] == "out")
            .await;
        println!("{rule}");
    }
    for rule in ["heartbeat_of_another_did", "heartbeat_of_another_peer"] {
        refused(&alice, rule, 2).await;
        told_once(&alice, rule, &did).await;
    }
    for _ in 0..2 {
        let answer = raw(&go, &alice, json!({"protocol": "heartbeat", "text": "hello\n"})).await;
        assert_eq!(ended(&go, &answer).await["how"], "reset");
    }
    refused(&alice, "not_json", 2).await;
    told_once(&alice, "not_json", &did).await;
    // Right at first, and then another's.
    let beat = |did: &str| format!("{}\n", json!({"name": "gopher", "did": did, "peer_id": peer}));
    for _ in 0..2 {
        let answer = raw(&go, &alice, json!({"protocol": "heartbeat", "text": beat(&did)})).await;
        alice
            .wait_metric("ocd_streams_open", &[("protocol", HEARTBEAT)], |open| open == 1.0)
            .await;
        let more = json!({"protocol": "heartbeat", "stream": answer["stream"], "text": beat(&other.did)});
        raw(&go, &alice, more).await;
        assert_eq!(ended(&go, &answer).await["how"], "reset");
    }
    refused(&alice, "heartbeat_of_another_did", 4).await;
    told_once(&alice, "heartbeat_of_another_did", &did).await;
    become_partner(&alice, &go).await;
    good_one_arrives(&go, &alice).await;
}

#[tokio::test]
async fn a_challenge_answered_wrongly_is_failed() {
    let net = Federation::new();
    let Some(go) = net.go_peer("gopher").start().await else {
        return;
    };
    let alice = net.peer("alice").partner_of("gopher").start().await;
    alice.wait_partner_up(go.identity()).await;
    let before = resident(&alice).await;
    let modes = ["corrupt", "short", "long", "endless", "reset", "silent"];
    for (failed, mode) in modes.iter().enumerate() {
        go.tell("configure", json!({"probe": mode})).await;
        go.try_tell("partner", json!({"addr": alice.identity().stream_address()}))
            .await;
        go.expect(|event| event["event"] == "partner_down" && event["dir"] == "out")
            .await;
        refused(&alice, "challenge_failed", failed + 1).await;
    }
    told_once(&alice, "challenge_failed", go.did()).await;
    let metrics = alice.metrics().await;
    let challenges = |result| metrics.sum("ocd_challenges_total", &[("result", result)]);
    assert_eq!((challenges("failed"), challenges("passed")), (modes.len() as f64, 0.0));
    assert_eq!(metrics.sum("ocd_streams_open", &[("protocol", HEARTBEAT)]), 0.0);
    stays_below(&alice, before + 16e6).await;
    go.tell("configure", json!({"probe": "echo"})).await;
    become_partner(&alice, &go).await;
    good_one_arrives(&go, &alice).await;
}

#[tokio::test]
async fn we_echo_no_more_than_a_challenge_needs() {
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, net.peer("alice")).await else {
        return;
    };
    let peer = &go.identity().peer_id;
    let piece = "x".repeat(32 << 10);
    for _ in 0..2 {
        let answer = raw(&go, &alice, json!({"protocol": "probe", "text": piece, "repeat": 1000})).await;
        let end = ended(&go, &answer).await;
        assert_eq!(end["how"], "reset", "{end}");
        assert!(end["read"].as_u64().unwrap() <= 64 << 10, "{end}");
    }
    refused(&alice, "probe_too_large", 2).await;
    told_once(&alice, "probe_too_large", peer).await;
    // Some in a row are echoed, for a peer that reconnects often; then no more.
    let mut echoed = 0;
    loop {
        let answer = raw(
            &go,
            &alice,
            json!({"protocol": "probe", "text": "hello", "close": true}),
        )
        .await;
        if ended(&go, &answer).await["read"] == 0 {
            break;
        }
        echoed += 1;
        assert!(echoed < 10, "it is echoed without end");
    }
    let answer = raw(
        &go,
        &alice,
        json!({"protocol": "probe", "text": "hello", "close": true}),
    )
    .await;
    ended(&go, &answer).await;
    refused(&alice, "too_many_probes", 2).await;
    told_once(&alice, "too_many_probes", peer).await;
    good_one_arrives(&go, &alice).await;
}

#[tokio::test]
async fn half_read_lines_of_all_streams_are_bounded() {
    let net = Federation::new();
    let bounded = net.peer("alice").set("limits.half_read_bytes", "2MiB");
    // Half a line is here for as long as the test looks.
    let bounded = bounded.set("limits.line_timeout", "10m");
    let Some((alice, go)) = alice_and_gopher(&net, bounded).await else {
        return;
    };
    let before = resident(&alice).await;
    let half = format!("{{\"type\":\"{}", "x".repeat(200 << 10));
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(raw(&go, &alice, json!({"protocol": "create", "text": half})).await);
    }
    // One peer may hold one line of the largest size here, so that another may hold one, too; the others are reset.
    refused(&alice, "half_read", 3).await;
    told_once(&alice, "half_read", &go.identity().peer_id).await;
    stays_below(&alice, before + 16e6).await;
    good_one_arrives(&go, &alice).await;
    // When it is gone, long lines are read again.
    for answer in &streams {
        let reset = json!({"protocol": "create", "stream": answer["stream"], "text": " ", "reset": true});
        raw(&go, &alice, reset).await;
    }
    let mut long = resource(go.did(), "long", "Long");
    long["description"] = json!("y".repeat(300 << 10));
    until("a long event to come out", || async {
        let event = json!({"protocol": "update", "datatype": 4, "payload": long});
        go.try_tell("send", event).await;
        let here = alice.heard(CREATE);
        here.iter()
            .any(|message| message.document()["id"] == "long")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_partner_that_never_reads_delays_nobody() {
    const COUNT: usize = 200;
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, net.peer("alice").partner_of("bob")).await else {
        return;
    };
    let bob = net.peer("bob").partner_of("alice").start().await;
    alice.wait_partner_up(bob.identity()).await;
    let before = resident(&alice).await;
    go.freeze();
    for n in 0..COUNT {
        let mut big = resource(alice.did(), &format!("big-{n}"), "Big");
        big["description"] = json!("z".repeat(200_000));
        alice.publish_create(DataType::Data, &big).await;
        bob.expect_document(CREATE, &format!("big-{n}")).await;
    }
    stays_below(&alice, before + 48e6).await;
    go.thaw();
    // It reads again, and gets what it has missed.
    let last = format!("big-{}", COUNT - 1);
    let here = until_within(3 * PATIENCE, "the Go peer to get the last event", || async {
        let here: BTreeSet<String> = go.gather(|event| {
            let received = event["event"] == "received";
            received.then(|| event["payload"]["id"].as_str().map(str::to_owned))?
        });
        here.contains(&last).then_some(here)
    })
    .await;
    for n in 0..COUNT {
        assert!(here.contains(&format!("big-{n}")), "big-{n} is missing");
    }
    good_one_arrives(&go, &alice).await;
    let considered = json!({"peer_ids": [bob.did()]});
    alice
        .app()
        .propagate(Action::Considers, DataType::Execution, &considered)
        .await;
    bob.expect(EVENT, |_| true).await;
}

#[tokio::test]
async fn questions_beyond_the_rate_and_answers_nobody_waits_for_are_dropped() {
    const FLOOD: usize = 40;
    let net = Federation::new();
    let slow = net
        .peer("alice")
        .set("limits.questions_burst", 5)
        .set("limits.questions_per_second", 1);
    let Some((alice, go)) = alice_and_gopher(&net, slow).await else {
        return;
    };
    let peer = &go.identity().peer_id;
    for _ in 0..FLOOD {
        let question = json!({"protocol": "search", "payload": {"search": "gpu"}, "user": "flood"});
        go.tell("send", question).await;
    }
    alice
        .wait_metrics("all the questions", |metrics| {
            metrics.sum("ocd_events_received_total", &[("action", "question")]) == FLOOD as f64
                && metrics.refused("question_rate") >= 2.0
        })
        .await;
    told_once(&alice, "question_rate", go.did()).await;
    good_one_arrives(&go, &alice).await;
    // Each of these ends its stream, on which nothing good can follow.
    let offences = [
        ("not_a_search", json!({"type": "create"}), peer.as_str()),
        ("from_is_not_sender", json!({"from": alice.did()}), peer),
        ("bad_signature", json!({"forge": true}), peer),
        (
            "not_creator",
            json!({"payload": resource(alice.did(), "found", "Not its own")}),
            go.did(),
        ),
        ("missing", json!({"payload": {"id": "found"}}), go.did()),
    ];
    for (rule, mut fields, source) in offences {
        fields["protocol"] = json!("search");
        if fields["payload"].is_null() {
            fields["payload"] = resource(go.did(), "found", "Found");
        }
        for count in 1..=2 {
            go.try_tell("close_stream", json!({"protocol": "search"})).await;
            go.tell("send", fields.clone()).await;
            refused(&alice, rule, count).await;
        }
        told_once(&alice, rule, source).await;
        good_one_arrives(&go, &alice).await;
    }
    for count in 1..=2 {
        go.try_tell("close_stream", json!({"protocol": "search"})).await;
        let answer = json!({"protocol": "search", "payload": resource(go.did(), "found", "Found")});
        go.tell("send", answer).await;
        let labels = [("where", "search_answer")];
        alice
            .wait_metric("ocd_dropped_total", &labels, |dropped| dropped == f64::from(count))
            .await;
    }
    good_one_arrives(&go, &alice).await;
    assert!(alice.heard("search_event").is_empty());
}
