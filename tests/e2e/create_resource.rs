//! CREATE_RESOURCE of a PEER: "Pair A découvre Pair B et établit le stream", and how a partnership ends.

use crate::{alice_and_bob, crosses};
use oc_testkit::{DataType, Federation, Metrics, Peer, Relation, partners, resource, until_within};
use serde_json::json;
use std::time::Duration;

const CREATE: &str = "create_resource";
const HEARTBEAT: [(&str, &str); 1] = [("protocol", "/opencloud/resource/heartbeat/partner/1.0")];

fn connections(metrics: &Metrics) -> f64 {
    metrics.sum("ocd_connections", &[])
}

/// A resource of `from` comes out at `to`.
/// Of two that are no partners to `from`, nothing is written.
async fn nothing_leaves(from: &Peer, id: &str) {
    let before = from.metrics().await.sent("create");
    from.publish_create(DataType::Compute, &resource(from.did(), id, "Must not cross"))
        .await;
    from.settled().await;
    assert_eq!(from.metrics().await.sent("create"), before);
}

#[tokio::test]
async fn connect_to_partner_keeps_heartbeats_both_ways_after_the_bandwidth_challenge() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    for peer in [&alice, &bob] {
        // The partner's stream is kept; of two connections, for a moment one more.
        peer.wait_metric("ocd_streams_open", &HEARTBEAT, |open| open == 1.0)
            .await;
        assert!(
            peer.metrics().await.sum("ocd_challenges_total", &[]) >= 1.0,
            "the link was challenged"
        );
        peer.wait_metric("ocd_partners", &[("state", "connected")], |count| count == 1.0)
            .await;
    }
    crosses(&alice, &bob, "a").await;
    crosses(&bob, &alice, "b").await;
}

#[tokio::test]
async fn a_peer_that_does_not_take_us_for_a_partner_refuses_our_heartbeat_and_our_data() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").start().await;
    let bob = net.peer("bob").knows("alice", Relation::None).start().await;
    bob.wait_metrics("a refused heartbeat", |metrics| metrics.refused("not_partner") >= 1.0)
        .await;
    assert_eq!(bob.metrics().await.sum("ocd_streams_open", &HEARTBEAT), 0.0);
    let before = bob.metrics().await.refused("not_partner");
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "a", "A"))
        .await;
    bob.wait_metrics("refused data", |metrics| metrics.refused("not_partner") > before)
        .await;
    assert_eq!(bob.heard(CREATE).len(), 0);
    // As soon as he does, the opener finds out by itself.
    bob.tell_peer(alice.identity(), Relation::Partner).await;
    partners(&[&alice, &bob]).await;
    crosses(&alice, &bob, "b").await;
}

#[tokio::test]
async fn revoked_every_stream_is_closed_and_nothing_more_crosses() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    crosses(&alice, &bob, "before-a").await;
    crosses(&bob, &alice, "before-b").await;
    alice.tell_peer(bob.identity(), Relation::None).await;
    let streams = |metrics: &Metrics| metrics.sum("ocd_streams_open", &[]) == 0.0;
    alice.wait_metrics("no stream of bob", streams).await;
    bob.wait_metrics("no stream of alice", streams).await;
    nothing_leaves(&alice, "after-a").await;
    // Bob does not know: he sends, and alice refuses.
    bob.publish_create(DataType::Compute, &resource(bob.did(), "after-b", "Refused"))
        .await;
    alice
        .wait_metrics("bob's refused event", |metrics| metrics.refused("not_partner") >= 1.0)
        .await;
    alice.settled().await;
    assert_eq!((alice.heard(CREATE).len(), bob.heard(CREATE).len()), (1, 1));
    // Re-admitted, everything goes again, both ways.
    alice.tell_peer(bob.identity(), Relation::Partner).await;
    partners(&[&alice, &bob]).await;
    crosses(&alice, &bob, "again-a").await;
    crosses(&bob, &alice, "again-b").await;
}

#[tokio::test]
async fn blacklisted_the_connection_is_dropped_and_refused_both_ways() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    alice.tell_peer(bob.identity(), Relation::Blacklist).await;
    alice
        .wait_metrics("no connection", |metrics| connections(metrics) == 0.0)
        .await;
    nothing_leaves(&alice, "after-a").await;
    // Bob dials again, since to him alice still is a partner; she does not let him in.
    let refused = |metrics: &Metrics| metrics.sum("ocd_dials_total", &[("result", "inbound_failed")]) >= 1.0;
    alice.wait_metrics("bob's refused dial", refused).await;
    assert_eq!(alice.metrics().await.sum("ocd_streams_open", &[]), 0.0);
    // She does not go to him either, whatever an app asks.
    let dialled = alice.metrics().await.sum("ocd_dials_total", &[("result", "outbound")]);
    alice
        .publish_considers(DataType::Compute, &[bob.did()], json!({}))
        .await;
    alice.settled().await;
    let metrics = alice.metrics().await;
    assert_eq!((metrics.refused("blacklisted"), metrics.sent("considers")), (1.0, 0.0));
    assert_eq!(metrics.sum("ocd_dials_total", &[("result", "outbound")]), dialled);
    // And back.
    alice.tell_peer(bob.identity(), Relation::Partner).await;
    partners(&[&alice, &bob]).await;
    crosses(&alice, &bob, "again-a").await;
    crosses(&bob, &alice, "again-b").await;
}

#[tokio::test]
async fn remove_resource_of_a_peer_ends_the_partnership() {
    let net = Federation::new();
    // Without the DHT, in which bob's record stays for everybody: only alice's store can still know him.
    let alice = net.peer("alice").partner_of("bob").set("discovery.dht", false);
    let alice = alice.start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    alice.forget_peer(bob.identity()).await;
    let streams = |metrics: &Metrics| metrics.sum("ocd_streams_open", &[]) == 0.0;
    alice.wait_metrics("no stream of bob", streams).await;
    nothing_leaves(&alice, "after-a").await;
    let (found, _) = alice.search(DataType::Peer, json!({"search": bob.did()})).await;
    assert_eq!(found.len(), 0, "the store forgot it, too");
    alice.tell_peer(bob.identity(), Relation::Partner).await;
    partners(&[&alice, &bob]).await;
    crosses(&alice, &bob, "again").await;
}

#[tokio::test]
async fn partners_stay_partners_over_a_restart_of_either_side() {
    let net = Federation::new();
    let (mut alice, mut bob) = alice_and_bob(&net).await;
    assert_eq!(bob.stop().await, 0);
    alice.wait_partner_down(bob.identity()).await;
    bob.restart().await;
    partners(&[&alice, &bob]).await;
    crosses(&alice, &bob, "one").await;
    assert_eq!(alice.stop().await, 0);
    bob.wait_partner_down(alice.identity()).await;
    alice.restart().await;
    partners(&[&alice, &bob]).await;
    crosses(&alice, &bob, "two").await;
    crosses(&bob, &alice, "three").await;
}

#[tokio::test]
async fn an_event_waits_for_a_partner_that_was_killed_and_comes_back() {
    let net = Federation::new();
    let (alice, mut bob) = alice_and_bob(&net).await;
    crosses(&alice, &bob, "before").await;
    bob.kill9();
    alice.wait_partner_down(bob.identity()).await;
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "meanwhile", "Waits"))
        .await;
    bob.restart().await;
    bob.expect_document(CREATE, "meanwhile").await;
    partners(&[&alice, &bob]).await;
    crosses(&bob, &alice, "after").await;
}

#[tokio::test]
async fn a_partner_that_is_there_and_silent_expires_and_returns() {
    let net = Federation::new();
    let (alice, mut bob) = alice_and_bob(&net).await;
    bob.freeze();
    alice.wait_partner_down(bob.identity()).await;
    alice
        .wait_metric("ocd_streams_open", &HEARTBEAT, |open| open == 0.0)
        .await;
    assert!(alice.is_ready().await, "a partner that is away is no fault of ours");
    bob.thaw();
    partners(&[&alice, &bob]).await;
    crosses(&alice, &bob, "a").await;
    crosses(&bob, &alice, "b").await;
}

#[tokio::test]
async fn a_missed_event_heals_by_the_store() {
    let net = Federation::new();
    // The apps of alice own her store. They are played by a second daemon with her key, on a NATS of its own, that
    // writes into the same store: what it is told, alice never hears.
    let store = format!("sqlite:{}", net.dir().join("shared.db").display());
    let alice = net
        .peer("alice")
        .set("store.url", store.clone())
        .set("store.writes", "apps")
        .launch()
        .await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    let why = alice.wait_not_ready().await;
    assert!(why.contains("identity"), "no peer document of its own yet: {why}");
    assert!(
        why.contains("another program has to write it into the SQLite file"),
        "{why}"
    );
    let told = alice.types(&["peer", "ls"]).await;
    let waits = "still starting (identity: the store has no peer document with relation SELF yet";
    assert!(told.status == 1 && told.err.contains(waits), "{told:?}");
    let apps = net.peer("apps").key_of(&alice).set("store.url", store).start().await;
    alice.wait_ready().await;
    alice.settled().await;
    apps.tell_peer(bob.identity(), Relation::Partner).await;
    apps.settled().await;
    drop(apps);
    let what = "alice to find her partner in the store";
    until_within(Duration::from_secs(60), what, || async {
        let up = alice.metrics().await.sum("ocd_partner_up", &[("partner", bob.did())]);
        (up == 1.0).then_some(())
    })
    .await;
    crosses(&alice, &bob, "healed").await;
}
