//! PROPALGATION_EVENT: "Peer A propalgate to Peer B". Each test is an arrow, or a box, of that diagram.

use crate::{alice_and_bob, tricky};
use oc_testkit::{Action, DataType, Federation, Peer, Relation, partners, resource};
use serde_json::json;

const CREATE: &str = "create_resource";
const REMOVE: &str = "remove_resource";
const EVENT: &str = "propalgation_event";

#[tokio::test]
async fn pb_create_comes_out_as_create_resource() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let gpu = resource(alice.did(), "gpu-1", &tricky());
    alice.publish_create(DataType::Compute, &gpu).await;
    let out = bob.expect_document(CREATE, "gpu-1").await;
    let envelope = out.envelope();
    assert_eq!(envelope.from_app, "oc-discovery");
    assert_eq!(envelope.datatype, DataType::Compute as u64);
    assert_eq!(envelope.user, "user-of-the-app");
    assert_eq!(envelope.payload, gpu.to_string().into_bytes(), "byte for byte");
    assert_eq!(
        out.origin().as_deref(),
        Some(bob.did()),
        "Oc-Origin names the daemon that published"
    );
}

#[tokio::test]
async fn pb_update_comes_out_as_create_resource() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    // Spaces, order and number forms that no JSON library would write again: the bytes are passed on untouched.
    let text = format!(
        r#"{{ "name" : "\u0041 name", "n":1.50e3, "big":123456789012345678901234567890,
             "id":"job-1" ,"creator_id":"{}" }}"#,
        alice.did()
    );
    alice.publish_update(DataType::Workflow, &text).await;
    let out = bob.expect_document(CREATE, "job-1").await.envelope();
    assert_eq!(out.datatype, DataType::Workflow as u64);
    assert_eq!(String::from_utf8(out.payload).unwrap(), text);
}

#[tokio::test]
async fn pb_delete_comes_out_as_remove_resource() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let disk = resource(alice.did(), "disk-1", "A disk");
    alice.publish_create(DataType::Storage, &disk).await;
    bob.expect_document(CREATE, "disk-1").await;
    alice.publish_delete(DataType::Storage, &disk).await;
    let out = bob.expect_document(REMOVE, "disk-1").await;
    assert_eq!(out.envelope().datatype, DataType::Storage as u64);
    assert_eq!(out.envelope().payload, disk.to_string().into_bytes());
    assert_eq!(out.origin().as_deref(), Some(bob.did()));
}

#[tokio::test]
async fn pb_delete_may_name_only_the_id_of_what_went_out_before() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    alice
        .publish_create(DataType::Storage, &resource(alice.did(), "disk-1", "A disk"))
        .await;
    bob.expect_document(CREATE, "disk-1").await;
    alice.publish_delete(DataType::Storage, &json!({"id": "disk-1"})).await;
    let out = bob.expect_document(REMOVE, "disk-1").await;
    assert_eq!(out.envelope().payload, br#"{"id":"disk-1"}"#);
    // What was never ours is not ours to delete.
    alice.publish_delete(DataType::Storage, &json!({"id": "disk-2"})).await;
    alice.settled().await;
    let metrics = alice.metrics().await;
    assert_eq!((metrics.sent("delete"), metrics.refused("not_creator")), (1.0, 1.0));
}

#[tokio::test]
async fn edits_of_a_resource_arrive_in_their_order_and_the_last_one_always() {
    const VERSIONS: u64 = 300;
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    for version in 0..VERSIONS {
        let mut document = resource(alice.did(), "much-edited", "One");
        document["version"] = json!(version);
        alice.publish_update(DataType::Data, &document).await;
    }
    bob.expect(CREATE, |message| message.document()["version"] == VERSIONS - 1)
        .await;
    let versions: Vec<u64> = bob
        .heard(CREATE)
        .iter()
        .filter_map(|m| m.document()["version"].as_u64())
        .collect();
    // What a newer edit took the place of before it left need not cross.
    assert!(versions.is_sorted_by(|one, next| one < next), "{versions:?}");
}

#[tokio::test]
async fn a_partner_told_right_before_an_event_gets_it() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    let partner = oc_testkit::peer_document(bob.identity(), Relation::Partner);
    let document = Peer::envelope("oc-peer", DataType::Peer, &partner);
    let gpu = resource(alice.did(), "gpu-1", "A graphics processor");
    let create = Peer::propalgation(Action::Create, DataType::Compute, &gpu);
    let event = Peer::envelope("oc-catalog", DataType::Compute, &create);
    // In one breath: no pause and no flush between the two.
    alice.nats().publish(CREATE, document.into()).await.unwrap();
    alice.nats().publish(EVENT, event.into()).await.unwrap();
    bob.expect_document(CREATE, "gpu-1").await;
}

#[tokio::test]
async fn only_our_proper_resources_go_out() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let foreign = resource(bob.did(), "not-ours", "Of somebody else");
    alice.publish_create(DataType::Compute, &foreign).await;
    alice.publish_update(DataType::Compute, &foreign).await;
    alice.publish_delete(DataType::Compute, &foreign).await;
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "ours", "Ours"))
        .await;
    bob.expect_document(CREATE, "ours").await;
    let metrics = alice.metrics().await;
    assert_eq!(
        (metrics.sent("create"), metrics.sent("update"), metrics.sent("delete")),
        (1.0, 0.0, 0.0)
    );
    assert_eq!(metrics.refused("not_creator"), 3.0);
    assert_eq!((bob.heard(CREATE).len(), bob.heard(REMOVE).len()), (1, 0));
}

#[tokio::test]
async fn peer_documents_never_leave() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let ours = oc_testkit::peer_document(alice.identity(), Relation::Partner);
    alice.publish_create(DataType::Peer, &ours).await;
    alice.publish_delete(DataType::Peer, &ours).await;
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "after", "After"))
        .await;
    bob.expect_document(CREATE, "after").await;
    assert_eq!(alice.metrics().await.refused("datatype_peer"), 2.0);
    assert_eq!((bob.heard(CREATE).len(), bob.heard(REMOVE).len()), (1, 0));
}

#[tokio::test]
async fn to_partner_publish_event_goes_to_every_partner_and_to_nobody_else() {
    let net = Federation::new();
    let alice = net
        .peer("alice")
        .partner_of("bob")
        .partner_of("carol")
        .knows("dave", Relation::None)
        .start()
        .await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    let carol = net.peer("carol").partner_of("alice").start().await;
    // To dave, alice is a partner; what counts is what he is to her.
    let dave = net.peer("dave").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    partners(&[&alice, &carol]).await;
    let gpu = resource(alice.did(), "gpu-1", "A graphics processor");
    alice.publish_create(DataType::Compute, &gpu).await;
    bob.expect_document(CREATE, "gpu-1").await;
    carol.expect_document(CREATE, "gpu-1").await;
    // Considers may go to any known peer: it arrives after all that was sent to dave before it.
    alice
        .publish_considers(DataType::Compute, &[dave.did()], json!({}))
        .await;
    dave.expect(EVENT, |_| true).await;
    assert_eq!(dave.heard(CREATE).len(), 0);
    assert_eq!(alice.metrics().await.sent("create"), 2.0);
}

#[tokio::test]
async fn pb_considers_goes_to_the_listed_peers_and_comes_out_as_propalgation_event() {
    let net = Federation::new();
    let alice = net
        .peer("alice")
        .partner_of("bob")
        .knows("carol", Relation::None)
        .partner_of("dave")
        .start()
        .await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    let carol = net.peer("carol").knows("alice", Relation::None).start().await;
    let dave = net.peer("dave").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    partners(&[&alice, &dave]).await;
    let mut payload = json!({"execution": "run-7", "text": tricky()});
    // By DID and by PeerId; ourselves, a stranger and somebody twice are not in the way.
    let to = [bob.did(), carol.peer_id(), alice.did(), "did:nobody", bob.peer_id()];
    alice.publish_considers(DataType::Execution, &to, payload.clone()).await;
    payload["peer_ids"] = json!(to);
    for peer in [&bob, &carol] {
        let out = peer.expect(EVENT, |_| true).await;
        assert_eq!(out.envelope().from_app, "oc-discovery");
        assert_eq!(out.envelope().datatype, DataType::Execution as u64);
        assert_eq!(out.origin().as_deref(), Some(peer.did()));
        let inner = out.propalgation();
        assert_eq!(
            (inner.action, inner.datatype),
            (Action::Considers as u64, DataType::Execution as u64)
        );
        assert_eq!(inner.payload, payload.to_string().into_bytes(), "byte for byte");
    }
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "after", "After"))
        .await;
    dave.expect_document(CREATE, "after").await;
    bob.expect_document(CREATE, "after").await;
    bob.settled().await;
    assert_eq!((dave.heard(EVENT).len(), bob.heard(EVENT).len()), (0, 1));
    let (alice, bob) = (alice.metrics().await, bob.metrics().await);
    assert_eq!((alice.sent("considers"), alice.refused("unknown_peer")), (2.0, 1.0));
    assert_eq!(
        bob.sent("considers"),
        0.0,
        "what a daemon publishes, its own listener ignores"
    );
}

#[tokio::test]
async fn pb_planner_uses_one_long_lived_stream_until_pb_close_planner() {
    const PLANNER: [(&str, &str); 1] = [("protocol", "/opencloud/resource/planner/1.0")];
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    for step in 0..3 {
        alice
            .publish_planner(DataType::Booking, bob.did(), json!({"step": step}))
            .await;
    }
    for step in 0..3 {
        let inner = bob.expect(EVENT, |_| true).await.propalgation();
        assert_eq!(
            (inner.action, inner.datatype),
            (Action::Planner as u64, DataType::Booking as u64)
        );
        let expected = json!({"step": step, "peer_id": bob.did()});
        assert_eq!(inner.payload, expected.to_string().into_bytes());
    }
    assert_eq!(bob.metrics().await.sum("ocd_streams_open", &PLANNER), 1.0);
    alice.publish_close_planner(DataType::Booking, bob.did()).await;
    bob.wait_metric("ocd_streams_open", &PLANNER, |open| open == 0.0).await;
    // It was forgotten, too: the next line opens another.
    alice
        .publish_planner(DataType::Booking, bob.peer_id(), json!({"step": "again"}))
        .await;
    bob.expect(EVENT, |message| {
        String::from_utf8_lossy(&message.propalgation().payload).contains("again")
    })
    .await;
}

#[tokio::test]
async fn propalgate_from_himself_is_ignored() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let send = async |subject: &str, name: &str, from_app: &str| {
        let gpu = resource(alice.did(), name, "Ours, but not from an app");
        let inner = Peer::propalgation(Action::Create, DataType::Compute, &gpu);
        alice
            .app()
            .publish_bytes(subject, Peer::envelope(from_app, DataType::Compute, &inner))
            .await;
    };
    send(EVENT, "from-himself", "oc-discovery").await;
    send(EVENT, "from-an-app", "oc-catalog").await;
    bob.expect_document(CREATE, "from-an-app").await;
    assert_eq!(bob.heard(CREATE).len(), 1);
    // The same for a peer document: a daemon's own word makes nobody a partner, and ends no partnership.
    let revoked = oc_testkit::peer_document(bob.identity(), Relation::None);
    alice
        .app()
        .publish_bytes(CREATE, Peer::envelope("oc-discovery", DataType::Peer, &revoked))
        .await;
    send(EVENT, "still-partners", "oc-catalog").await;
    bob.expect_document(CREATE, "still-partners").await;
}

#[tokio::test]
async fn what_another_daemon_published_on_a_shared_nats_is_ignored() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let gpu = resource(alice.did(), "with-origin", "Came from a daemon");
    let inner = Peer::propalgation(Action::Create, DataType::Compute, &gpu);
    let body = Peer::envelope("oc-catalog", DataType::Compute, &inner);
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Oc-Origin", "did:some-daemon");
    alice
        .nats()
        .publish_with_headers(EVENT, headers, body.into())
        .await
        .unwrap();
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "after", "After"))
        .await;
    bob.expect_document(CREATE, "after").await;
    assert_eq!(bob.heard(CREATE).len(), 1);
}

#[tokio::test]
async fn a_partner_may_change_its_own_resources_and_nobody_elses() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").partner_of("carol").start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    let carol = net.peer("carol").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    partners(&[&alice, &carol]).await;
    bob.publish_create(DataType::Compute, &resource(bob.did(), "bobs", "Of bob"))
        .await;
    alice.expect_document(CREATE, "bobs").await;
    // Carol claims bob's id, and one of alice's own documents.
    alice
        .create_resource(DataType::Compute, &resource(alice.did(), "alices", "Of alice"))
        .await;
    alice.settled().await;
    for id in ["bobs", "alices"] {
        carol
            .publish_update(DataType::Compute, &resource(carol.did(), id, "Taken over"))
            .await;
        carol
            .publish_delete(DataType::Compute, &resource(carol.did(), id, "Taken over"))
            .await;
    }
    // The newest word about each id is refused; an older one may have left before it, or not.
    carol
        .publish_create(DataType::Compute, &resource(carol.did(), "carols", "Of carol"))
        .await;
    alice.expect_document(CREATE, "carols").await;
    assert!((2.0..=4.0).contains(&alice.metrics().await.refused("not_owner")));
    assert_eq!((alice.heard(CREATE).len(), alice.heard(REMOVE).len()), (2, 0));
}

#[tokio::test]
async fn a_document_too_big_for_the_far_nats_stops_only_itself() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").start().await;
    let small = oc_testkit::NatsOptions {
        max_payload: Some(64 * 1024),
        ..Default::default()
    };
    let bob = net.peer("bob").partner_of("alice").nats(small).start().await;
    partners(&[&alice, &bob]).await;
    let mut big = resource(alice.did(), "big", "Too big");
    big["description"] = json!("x".repeat(100 * 1024));
    alice.publish_create(DataType::Data, &big).await;
    alice
        .publish_create(DataType::Data, &resource(alice.did(), "after", "After"))
        .await;
    bob.expect_document(CREATE, "after").await;
    bob.wait_metrics("the big one to be refused", |metrics| {
        metrics.refused("too_large") == 1.0
    })
    .await;
    assert_eq!(bob.heard(CREATE).len(), 1);
}
