//! What a partner may do wrong on a delivery stream: each is refused with its rule, and the next session is served.

use crate::hostile_peer::{alice_and_gopher, ended, good_one_arrives, raw};
use oc_testkit::{Federation, resource};
use serde_json::json;

const CREATE: &str = "create_resource";
const DELIVERY: &str = "/opencloud/resource/delivery/1.1";
const TOKEN: &str = "000102030405060708090a0b0c0d0e0f";

#[tokio::test]
async fn lines_without_sense_end_the_session_and_are_counted() {
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, net.peer("alice")).await else {
        return;
    };
    let place = |tag: &str, seq: &str| {
        format!("{{\"{tag}\":{{\"lineage\":\"{TOKEN}\",\"incarnation\":\"{TOKEN}\",\"{seq}\":5}}}}\n")
    };
    let line =
        "{\"line\":{\"seq\":1,\"as\":\"/opencloud/resource/create/1.0\",\"datatype\":4,\"id\":\"r\",\"payload\":{}}}\n";
    let wrong = [
        ("not json\n".to_owned(), "not_json"),
        ("{\"greet\":{}}\n".to_owned(), "unknown_line"),
        (
            "{\"list\":{\"keys\":true,\"to\":[99,\"a\"]}}\n".to_owned(),
            "unknown_datatype",
        ),
        // She said that she knows nothing: there is no place to go on from.
        (place("begin", "from"), "broken_session"),
        (place("end", "seq"), "broken_session"),
        (line.to_owned(), "broken_session"),
        ("{\"list\":{}}\n{\"list\":{}}\n".to_owned(), "broken_session"),
        ("x".repeat(2 << 20), "line_too_long"),
    ];
    for (text, rule) in wrong {
        let before = alice.metrics().await.refused(rule);
        let answer = raw(&go, &alice, json!({"protocol": DELIVERY, "text": text})).await;
        alice
            .wait_metrics(rule, |metrics| metrics.refused(rule) >= before + 1.0)
            .await;
        if answer["stream"].is_number() {
            ended(&go, &answer).await;
        }
    }
    good_one_arrives(&go, &alice).await;
}

#[tokio::test]
async fn a_session_that_says_nothing_ends_and_a_newer_one_takes_its_turn_at_once() {
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, net.peer("alice")).await else {
        return;
    };
    // Half a line, and nothing more.
    let silent = raw(&go, &alice, json!({"protocol": DELIVERY, "text": "{"})).await;
    let newer = raw(&go, &alice, json!({"protocol": DELIVERY, "text": "{"})).await;
    ended(&go, &silent).await;
    alice
        .wait_metrics("the newer one, too", |metrics| metrics.refused("line_too_slow") >= 1.0)
        .await;
    ended(&go, &newer).await;
    good_one_arrives(&go, &alice).await;
}

#[tokio::test]
async fn what_stands_before_a_line_without_sense_counts() {
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, net.peer("alice")).await else {
        return;
    };
    let good = json!({"line": {
        "seq": 1, "as": "/opencloud/resource/create/1.0", "datatype": 4, "id": "before",
        "payload": resource(go.did(), "before", "Before"),
    }});
    let text = format!("{{\"list\":{{}}}}\n{good}\nnot json\n");
    raw(&go, &alice, json!({"protocol": DELIVERY, "text": text})).await;
    alice
        .wait_metrics("the end of the session", |metrics| metrics.refused("not_json") >= 1.0)
        .await;
    alice.expect_document(CREATE, "before").await;
}
