//! Partners with a slow link between them: what is sent takes its time, and nothing is lost.

use oc_testkit::{
    DataType, Federation, Identity, Metrics, PATIENCE, Peer, Relation, SlowLink, partners, resource, until_within,
};

/// Bytes a second. What one stream may have under way (256 KiB) takes 13 s, and every heartbeat waits behind it;
/// the challenges of both sides (64 KiB) take 3.3 of the 5 s that they have.
const RATE: usize = 20_000;
const COUNT: usize = 40;

/// A link to `peer`, and `peer` as it is known by those who dial through it.
async fn behind(peer: &Peer, rate: usize) -> (SlowLink, Identity) {
    let own = peer.identity().clone();
    let link = SlowLink::new(own.address.rsplit('/').next().unwrap().parse().unwrap(), rate).await;
    let address = link.address();
    (link, Identity { address, ..own })
}

#[tokio::test]
async fn a_slow_link_that_makes_progress_is_kept() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let bob = net.peer("bob").start().await;
    // He cannot dial her: all goes on the connection that she dials.
    let nowhere = Identity {
        address: "/ip4/127.0.0.1/tcp/1".to_owned(),
        ..alice.identity().clone()
    };
    bob.tell_peer(&nowhere, Relation::Partner).await;
    bob.settled().await;
    let (_link, there) = behind(&bob, RATE).await;
    alice.tell_peer(&there, Relation::Partner).await;
    partners(&[&alice, &bob]).await;
    for n in 0..COUNT {
        let mut large = resource(alice.did(), &format!("large-{n}"), "Large");
        large["description"] = "z".repeat(10_000).into();
        alice.publish_create(DataType::Data, &large).await;
    }
    for n in 0..COUNT {
        bob.expect_document("create_resource", &format!("large-{n}")).await;
    }
    // The scene is what it says; and both sides still have the streams that they had before.
    bob.wait_log(&["a heartbeat is late", "something else comes"]).await;
    for peer in [&alice, &bob] {
        let ended = |line: &String| line.contains("heartbeat stream") && line.contains("ended");
        assert_eq!(peer.logs().into_iter().find(ended), None, "{}", peer.name());
    }
}

/// Both dial at once: his dial stands first and carries the first streams, then hers, the preferred one, takes over.
#[tokio::test]
async fn of_two_connections_one_is_closed_and_nothing_is_lost() {
    let net = Federation::new();
    // Preferred is what the smaller PeerId dials; of texts of one length the smaller is that of the smaller PeerId.
    let (one, other) = (net.identity("alice"), net.identity("bob"));
    let (small, large) = if one.peer_id < other.peer_id {
        ("alice", "bob")
    } else {
        ("bob", "alice")
    };
    // A dial by the slow link needs its time.
    let patient = |name| {
        let builder = net.peer(name).set("limits.handshake_timeout", "60s");
        builder.set("limits.dial_timeout", "60s")
    };
    let small = patient(small).start().await;
    let large = patient(large).start().await;
    let (link, there) = behind(&large, 1_000).await;
    // The challenges of the partners are bound to pass by the direct connection: no other one is there before.
    link.stall(true);
    small.tell_peer(&there, Relation::Partner).await;
    // Before he is there: whoever is connected dials no more.
    link.wait_dialled().await;
    large.tell_peer(small.identity(), Relation::Partner).await;
    partners(&[&small, &large]).await;
    link.stall(false);
    let mut sent = 0;
    crosses(&small, &large, sent).await;
    let connections = |metrics: &Metrics| metrics.sum("ocd_connections", &[]);
    small
        .wait_metrics("two connections", |metrics| connections(metrics) == 2.0)
        .await;
    until_within(3 * PATIENCE, "the spare connection to be closed on both sides", || {
        sent += 1;
        let (small, large) = (&small, &large);
        async move {
            crosses(small, large, sent).await;
            let (here, there) = (connections(&small.metrics().await), connections(&large.metrics().await));
            (here == 1.0 && there == 1.0).then_some(())
        }
    })
    .await;
    partners(&[&small, &large]).await;
    for peer in [&small, &large] {
        let away = |line: &String| line.contains("partner is away") || line.contains("heartbeat stream of ours ended");
        assert_eq!(peer.logs().into_iter().find(away), None, "{}", peer.name());
    }
}

/// An event each way.
async fn crosses(one: &Peer, other: &Peer, number: usize) {
    for (from, to) in [(one, other), (other, one)] {
        let id = format!("{}-{number}", from.name());
        let small = resource(from.did(), &id, "Small");
        from.publish_create(DataType::Compute, &small).await;
        to.expect_document("create_resource", &id).await;
    }
}
