//! The `/1.0` protocols with peers of another make: go-libp2p and js-libp2p, which share no code with the daemon.

use crate::tricky;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oc_testkit::{Action, DataType, Federation, Foreign, Peer, Relation, public, resource, until};
use serde_json::{Value, json};

const CREATE: &str = "create_resource";
const REMOVE: &str = "remove_resource";
const EVENT: &str = "propalgation_event";

/// Alice and a Go peer that takes her for a partner, heartbeats both ways.
async fn alice_and_gopher(net: &Federation, arguments: &[&str]) -> Option<(Peer, Foreign)> {
    let mut builder = net.go_peer("gopher");
    for argument in arguments {
        builder = builder.argument(argument);
    }
    let go = builder.start().await?;
    let alice = net.peer("alice").partner_of("gopher").start().await;
    alice.wait_partner_up(go.identity()).await;
    go.tell(
        "partner",
        json!({"addr": alice.identity().stream_address(), "retry": true}),
    )
    .await;
    for direction in ["in", "out"] {
        go.expect(|event| event["event"] == "partner_up" && event["dir"] == direction)
            .await;
    }
    let inbound = [("protocol", "/opencloud/resource/heartbeat/partner/1.0")];
    alice
        .wait_metric("ocd_streams_open", &inbound, |open| open == 1.0)
        .await;
    Some((alice, go))
}

fn received<'a>(protocol: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |event| event["event"] == "received" && event["protocol"] == protocol
}

fn payload_of(event: &Value) -> Vec<u8> {
    STANDARD.decode(event["payload_b64"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_go_peer_reads_every_event_of_ours() {
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, &[]).await else {
        return;
    };
    let gpu = resource(alice.did(), "gpu-1", &tricky());
    for (protocol, action) in [
        ("create", Action::Create),
        ("update", Action::Update),
        ("delete", Action::Delete),
    ] {
        alice.app().propagate(action, DataType::Compute, &gpu).await;
        let event = go.expect(received(protocol)).await;
        assert_eq!(
            (&event["signed"], &event["verified"]),
            (&json!(true), &json!(true)),
            "{event}"
        );
        assert_eq!(payload_of(&event), gpu.to_string().into_bytes(), "byte for byte");
        assert_eq!(
            (&event["type"], &event["from"]),
            (&json!(protocol), &json!(alice.did()))
        );
        assert_eq!(
            (&event["user"], &event["datatype"]),
            (&json!("user-of-the-app"), &json!(4))
        );
        assert_eq!(event["remote"], alice.peer_id());
    }
    let payload = json!({"execution": tricky()});
    alice
        .publish_considers(DataType::Execution, &[go.did()], payload.clone())
        .await;
    let event = go.expect(received("considers")).await;
    assert_eq!(
        (&event["verified"], &event["payload"]["execution"]),
        (&json!(true), &payload["execution"])
    );
    alice
        .publish_planner(DataType::Booking, go.did(), payload.clone())
        .await;
    let event = go.expect(received("planner")).await;
    assert_eq!(
        (&event["verified"], &event["payload"]["execution"]),
        (&json!(true), &payload["execution"])
    );
    alice.publish_close_planner(DataType::Booking, go.did()).await;
    let ended = |event: &Value| event["event"] == "stream_end" && event["protocol"] == "planner";
    let event = go.expect(ended).await;
    assert_eq!(event["how"], "eof", "closed, not broken off: {event}");
}

#[tokio::test]
async fn every_event_of_a_go_peer_comes_out() {
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, &[]).await else {
        return;
    };
    for signed in [true, false] {
        let id = format!("gpu-{signed}");
        let gpu = resource(go.did(), &id, &tricky());
        let send = async |protocol: &str, datatype: DataType, payload: &Value| {
            let payload = STANDARD.encode(payload.to_string());
            let fields = json!({"protocol": protocol, "datatype": datatype as u8, "user": tricky(),
                "payload_b64": payload, "sign": signed});
            go.tell("send", fields).await;
        };
        for protocol in ["create", "update"] {
            send(protocol, DataType::Compute, &gpu).await;
            let out = alice.expect_document(CREATE, &id).await.envelope();
            assert_eq!((out.datatype, out.user), (DataType::Compute as u64, tricky()));
            assert_eq!(out.payload, gpu.to_string().into_bytes(), "byte for byte");
        }
        send("delete", DataType::Compute, &gpu).await;
        let out = alice.expect_document(REMOVE, &id).await.envelope();
        assert_eq!(out.payload, gpu.to_string().into_bytes());
        let considered = json!({"peer_ids": [alice.did()], "run": tricky()});
        for (protocol, action) in [("considers", Action::Considers), ("planner", Action::Planner)] {
            send(protocol, DataType::Execution, &considered).await;
            let out = alice.expect(EVENT, |_| true).await.propalgation();
            assert_eq!((out.action, out.datatype), (action as u64, DataType::Execution as u64));
            assert_eq!(out.payload, considered.to_string().into_bytes());
        }
    }
    let metrics = alice.metrics().await;
    assert_eq!(metrics.sum("ocd_refused_total", &[]), 0.0);
    // A broken signature is worse than none.
    let gpu = resource(go.did(), "forged", "Forged");
    go.tell(
        "send",
        json!({"protocol": "create", "datatype": 4, "payload": gpu, "forge": true}),
    )
    .await;
    alice
        .wait_metrics("a refused signature", |metrics| {
            metrics.sum("ocd_refused_total", &[]) == 1.0
        })
        .await;
    assert_eq!(alice.heard(CREATE).len(), 4);
}

#[tokio::test]
async fn a_go_peer_that_speaks_only_tls() {
    both_ways(&["--security", "tls"]).await;
}

#[tokio::test]
async fn a_go_peer_that_speaks_only_noise() {
    both_ways(&["--security", "noise"]).await;
}

async fn both_ways(arguments: &[&str]) {
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, arguments).await else {
        return;
    };
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "there", "There"))
        .await;
    assert_eq!(go.expect(received("create")).await["payload"]["id"], "there");
    let back = resource(go.did(), "back", "Back");
    go.tell("send", json!({"protocol": "create", "datatype": 4, "payload": back}))
        .await;
    alice.expect_document(CREATE, "back").await;
    // And when the Go peer is the one that dials.
    go.tell("disconnect", json!({"addr": alice.peer_id()})).await;
    go.tell("connect", json!({"addr": alice.identity().stream_address()}))
        .await;
    let again = resource(go.did(), "again", "Again");
    go.tell("send", json!({"protocol": "create", "datatype": 4, "payload": again}))
        .await;
    alice.expect_document(CREATE, "again").await;
}

#[tokio::test]
async fn a_revoked_go_peer_sees_its_streams_end() {
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, &[]).await else {
        return;
    };
    let send = async |id: &str| {
        let document = resource(go.did(), id, "Of gopher");
        go.tell(
            "send",
            json!({"protocol": "create", "datatype": 4, "payload": document}),
        )
        .await;
    };
    send("before").await;
    alice.expect_document(CREATE, "before").await;
    alice.tell_peer(go.identity(), Relation::None).await;
    for direction in ["in", "out"] {
        go.expect(|event| event["event"] == "partner_down" && event["dir"] == direction)
            .await;
    }
    alice.tell_peer(go.identity(), Relation::Partner).await;
    go.expect(|event| event["event"] == "partner_up" && event["dir"] == "in")
        .await;
    go.expect(|event| event["event"] == "partner_up" && event["dir"] == "out")
        .await;
    send("after").await;
    alice.expect_document(CREATE, "after").await;
}

#[tokio::test]
async fn a_thousand_events_each_way_at_once() {
    const COUNT: usize = 1000;
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, &[]).await else {
        return;
    };
    go.tell("configure", json!({"quiet": true})).await;
    let there = async {
        for n in 0..COUNT {
            let document = resource(alice.did(), &format!("there-{n}"), "There");
            let inner = Peer::propalgation(Action::Create, DataType::Data, &document);
            let body = Peer::envelope("oc-catalog", DataType::Data, &inner);
            alice.nats().publish(EVENT, body.into()).await.unwrap();
        }
        until("the Go peer to count them all", || async {
            let counts = go.tell("counts", json!({})).await;
            (counts["counts"]["create"]["verified"] == COUNT).then_some(())
        })
        .await;
    };
    let back = async {
        let fields = json!({"protocol": "create", "count": COUNT, "size": 1024, "id_prefix": "back-", "datatype": 1});
        go.tell("burst", fields).await;
        until("all of them at the app", || async {
            (alice.heard(CREATE).len() == COUNT).then_some(())
        })
        .await;
    };
    tokio::join!(there, back);
    assert_eq!(alice.metrics().await.dropped(), 0.0);
}

#[tokio::test]
async fn a_new_stream_for_each_event_loses_none_uncounted() {
    const COUNT: usize = 300;
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, &[]).await else {
        return;
    };
    let fields = json!({"protocol": "create", "count": COUNT, "size": 300, "id_prefix": "new-", "datatype": 1,
        "new_streams": true});
    go.tell("burst", fields).await;
    // Beyond limits.streams_per_protocol at once a stream is refused; that is counted.
    until("each event, or its count", || async {
        let refused = [("reason", "too_many_streams")];
        let dropped = alice.metrics().await.sum("ocd_dropped_total", &refused) as usize;
        (alice.heard(CREATE).len() + dropped == COUNT).then_some(())
    })
    .await;
}

#[tokio::test]
async fn direct_questions_and_answers_with_a_go_peer() {
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, &[]).await else {
        return;
    };
    let far = resource(go.did(), "far-gpu", &format!("GPU {}", tricky()));
    let list =
        json!([{"datatype": 4, "resource": far}, {"datatype": 3, "resource": resource(go.did(), "disk", "Disk")}]);
    go.tell("resources", json!({"list": list, "match": true})).await;
    // It knows no search ids and no end marks; it answers with the user.
    let (results, end) = alice
        .search(DataType::Compute, json!({"type": "known", "search": "gpu"}))
        .await;
    assert_eq!(
        (results.len(), &end["results"], &end["answered"]),
        (1, &json!(1), &json!(1)),
        "{end}"
    );
    assert_eq!(results[0].document()["id"], "far-gpu");
    assert_eq!(results[0].envelope().user, "user-of-the-app");
    // The other way round.
    let near = public(resource(alice.did(), "near-gpu", &format!("GPU {}", tricky())));
    alice.create_resource(DataType::Compute, &near).await;
    alice
        .create_resource(DataType::Compute, &resource(alice.did(), "private-gpu", "GPU"))
        .await;
    alice.settled().await;
    go.tell(
        "send",
        json!({"protocol": "search", "user": "gopher's user", "payload": {"search": "gpu"}}),
    )
    .await;
    let answer = go
        .expect(|event| received("search")(event) && event["user"] == "gopher's user")
        .await;
    assert_eq!(payload_of(&answer), near.to_string().into_bytes());
    assert_eq!((&answer["datatype"], &answer["verified"]), (&json!(4), &json!(true)));
    let end = |event: &Value| event["event"] == "stream_end" && event["protocol"] == "search" && event["dir"] == "in";
    go.expect(end).await;
    let answers = |event: &&Value| received("search")(event) && event["user"] == "gopher's user";
    assert_eq!(go.events().iter().filter(answers).count(), 1);
}

#[tokio::test]
async fn a_go_peer_that_writes_each_answer_on_a_stream_of_its_own_is_heard_to_the_last() {
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, &[]).await else {
        return;
    };
    let answer = |datatype: u8, id: &str| json!({"datatype": datatype, "resource": resource(go.did(), id, "GPU")});
    // Whatever was asked for, it writes what it has; the first is of another kind.
    let list = json!([
        answer(3, "disk"),
        answer(4, "one"),
        answer(4, "two"),
        answer(4, "three")
    ]);
    go.tell("resources", json!({"list": list, "apart": true})).await;
    let wanted = json!({"type": "known", "search": "gpu"});
    let (results, end) = alice.search(DataType::Compute, wanted).await;
    let mut ids: Vec<String> = results
        .iter()
        .map(|result| result.document()["id"].to_string())
        .collect();
    ids.sort();
    assert_eq!(ids, [r#""one""#, r#""three""#, r#""two""#], "{end}");
    assert_eq!(
        (&end["results"], &end["answered"], &end["truncated"]),
        (&json!(3), &json!(1), &json!(false)),
        "{end}"
    );
}

#[tokio::test]
async fn gossip_search_with_a_js_peer() {
    let net = Federation::new();
    let Some(js) = net.js_peer("jay").start().await else {
        return;
    };
    let alice = net.peer("alice").knows("jay", Relation::None).start().await;
    js.tell("connect", json!({"addr": alice.identity().stream_address()}))
        .await;
    js.expect(|event| event["event"] == "graft" && event["topic"] == "search")
        .await;
    // Its question, our answer.
    let near = public(resource(alice.did(), "near-gpu", &format!("GPU {}", tricky())));
    alice.create_resource(DataType::Compute, &near).await;
    alice.settled().await;
    js.tell(
        "publish",
        json!({"topic": "search", "payload": {"search": "gpu"}, "user": tricky()}),
    )
    .await;
    let answer = js.expect(received("search")).await;
    assert_eq!(payload_of(&answer), near.to_string().into_bytes());
    assert_eq!((&answer["user"], &answer["verified"]), (&json!(tricky()), &json!(true)));
    // Our question, its answer.
    let far = resource(&js.identity().did, "far-gpu", "GPU far away");
    js.tell(
        "resources",
        json!({"list": [{"datatype": 4, "resource": far}], "match": true}),
    )
    .await;
    let request = json!({"type": "all", "search": "gpu", "limit": 1});
    let (results, end) = alice.search(DataType::Compute, request).await;
    assert_eq!((results.len(), &end["results"]), (1, &json!(1)), "{end}");
    assert_eq!(results[0].document()["id"], "far-gpu");
    let heard = js.expect(|event| event["event"] == "gossip").await;
    assert_eq!(
        (&heard["verified"], &heard["from"]),
        (&json!(true), &json!(alice.did())),
        "{heard}"
    );
    assert_eq!(
        (&heard["topic"], &heard["payload"]["search"]),
        (&json!("search"), &json!("gpu"))
    );
}
