//! What an app hears of its own words: that they are safe, that something of them does not count, or which rule refused them.

use oc_testkit::{DataType, Federation, Peer, Relation, peer_document, resource};
use serde_json::{Value, json};

/// The daemon's word on a message.
async fn answer(at: &Peer, subject: &'static str, message: Vec<u8>) -> Value {
    let answer = at.nats().request(subject, message.into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

async fn told(at: &Peer, datatype: DataType, document: &Value) -> Value {
    answer(
        at,
        "create_resource",
        Peer::envelope("oc-api", datatype, &document.to_string()),
    )
    .await
}

#[tokio::test]
async fn a_peer_document_that_is_not_used_is_told_to_its_app_and_kept_for_people() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let (bob, carol) = (net.identity("bob"), net.identity("carol"));
    let document = |relation| peer_document(&bob, relation);
    assert_eq!(
        told(&alice, DataType::Peer, &document(Relation::Partner)).await,
        json!({"ok": true})
    );
    // The DID of bob, the key of carol.
    let mut moved = peer_document(&carol, Relation::Partner);
    moved["id"] = json!(bob.did);
    let word = told(&alice, DataType::Peer, &moved).await;
    assert_eq!(
        (&word["ok"], &word["warning"]),
        (&json!(true), &json!("pinned_to_another_peer"))
    );
    assert!(word["why"].as_str().unwrap().contains("not used"), "{word}");
    let shown = alice.types(&["outbox", "intake"]).await;
    assert!(shown.out.contains("pinned_to_another_peer"), "{}", shown.out);
    // It stands like that, and counts once however often it is looked at.
    let counted = alice.metrics().await.refused("pinned_to_another_peer");
    assert_eq!(counted, 1.0);
    let mut nowhere = document(Relation::Partner);
    nowhere["stream_address"] = json!("bob.example:4001");
    let word = told(&alice, DataType::Peer, &nowhere).await;
    assert_eq!((&word["ok"], &word["warning"]), (&json!(true), &json!("bad_address")));
    // What Go would read as another relation than we do is refused.
    let mut variant = document(Relation::Partner);
    variant["Relation"] = json!(3);
    let word = told(&alice, DataType::Peer, &variant).await;
    assert_eq!((&word["ok"], &word["error"]), (&json!(false), &json!("case_variant")));
}

#[tokio::test]
async fn every_search_that_is_not_begun_gets_its_end() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    for (nth, (request, rule)) in [
        (json!({"search": "x".repeat(1025)}), "too_large"),
        (json!({"search": "x", "limit": -1}), "wrong_type"),
        (json!({"search": "x", "type": "nobody"}), "unknown_scope"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("refused-{nth}");
        let mut request = request;
        request["id"] = json!(id);
        alice.publish_search(DataType::Compute, request).await;
        let end = alice.expect("search_end", |end| end.json()["search_id"] == *id).await;
        let end = end.json();
        assert_eq!((&end["error"], &end["asked"]), (&json!(rule), &json!(0)), "{end}");
    }
    // Go leaves an empty text out.
    let (results, end) = alice.search(DataType::Compute, json!({"type": "known"})).await;
    assert_eq!((results.len(), end["error"].is_null()), (0, true), "{end}");
}

#[tokio::test]
async fn a_user_too_long_for_the_way_is_refused_and_holds_up_nobody() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    oc_testkit::partners(&[&alice, &bob]).await;
    let inner = Peer::propalgation(
        oc_testkit::Action::Create,
        DataType::Compute,
        &resource(alice.did(), "long", "Of a token for a user"),
    );
    let mut envelope: Value = serde_json::from_slice(&Peer::envelope("oc-catalog", DataType::Compute, &inner)).unwrap();
    envelope["user"] = json!("u".repeat(1025));
    let word = answer(&alice, "propalgation_event", envelope.to_string().into_bytes()).await;
    assert_eq!((&word["ok"], &word["error"]), (&json!(false), &json!("too_large")));
    envelope["user"] = json!("u".repeat(1024));
    let word = answer(&alice, "propalgation_event", envelope.to_string().into_bytes()).await;
    assert_eq!(word, json!({"ok": true}));
    let heard = bob.expect_document("create_resource", "long").await;
    assert_eq!(heard.json()["user"].as_str().map(str::len), Some(1024));
    // Who calls itself what the daemon calls itself is taken for it.
    envelope["from_app"] = json!("oc-discovery");
    let word = answer(&alice, "propalgation_event", envelope.to_string().into_bytes()).await;
    assert_eq!((&word["ok"], &word["warning"]), (&json!(true), &json!("ignored")));
}
