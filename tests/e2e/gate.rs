//! Who gets in: a crowd of strangers keeps no partner out, unknown peers get what the settings say, and a document alone
//! moves nobody's DID to another key.

use crate::hostile::{still_crosses, told_once};
use crate::hostile_peer::alice_and_gopher;
use crate::strangers::Crowd;
use oc_testkit::{Action, DataType, Federation, Identity, Peer, Relation, partners, peer_document, resource, until};
use rusqlite::Connection;
use serde_json::json;
use std::net::SocketAddr;
use tokio::net::{TcpSocket, TcpStream};

const STRANGERS: usize = 200;

/// Waits until this holds of the crowd.
async fn crowd_is(what: &str, crowd: &Crowd, wanted: impl Fn(&Crowd) -> bool) {
    until(what, || async { wanted(crowd).then_some(()) }).await;
}

#[tokio::test]
async fn two_hundred_strangers_who_take_every_place_keep_no_partner_out() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").set("limits.connections", 100);
    let alice = alice.start().await;
    let crowd = Crowd::knock(&net, &alice, STRANGERS);
    crowd_is("strangers to take every place", &crowd, |crowd| {
        crowd.connected() >= 100
    })
    .await;
    alice
        .wait_metrics("further ones to be given up", |metrics| {
            metrics.sum("ocd_dropped_total", &[("where", "inbound_connection")]) > 0.0
        })
        .await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    still_crosses(&bob, &alice).await;
    drop(crowd);
}

#[tokio::test]
async fn unknown_peers_are_dropped_where_they_are_refused() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob");
    let alice = alice.set("discovery.unknown_peers", "refuse").start().await;
    let crowd = Crowd::knock(&net, &alice, STRANGERS);
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    still_crosses(&bob, &alice).await;
    crowd_is("every stranger to be dropped", &crowd, |crowd| {
        crowd.dropped() >= STRANGERS
    })
    .await;
    let refused = alice.wait_metrics("refusals", |metrics| {
        metrics.refused("unknown_peer") >= STRANGERS as f64
    });
    refused.await;
    still_crosses(&bob, &alice).await;
}

#[tokio::test]
async fn where_unknown_peers_are_allowed_they_stay() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let crowd = Crowd::knock(&net, &alice, 20);
    alice
        .wait_metric("ocd_connections", &[], |connections| connections == 20.0)
        .await;
    assert_eq!(alice.metrics().await.refused("unknown_peer"), 0.0);
    drop(crowd);
}

/// Holds connections open that never say a word.
async fn silent(from: &str, to: u16, count: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        open.push(
            socket
                .connect(SocketAddr::new([127, 0, 0, 1].into(), to))
                .await
                .unwrap(),
        );
    }
    open
}

#[tokio::test]
async fn who_says_nothing_takes_the_places_of_its_own_address_alone() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob");
    let alice = alice.set("limits.handshake_timeout", "1h").start().await;
    // As many as there are places in all.
    let silence = silent("127.0.0.2", alice.identity().port(), 256).await;
    alice
        .wait_metrics("all but sixteen of them to be given up", |metrics| {
            let labels = [("where", "inbound_connection"), ("reason", "pending_of_address")];
            metrics.sum("ocd_dropped_total", &labels) == 240.0
        })
        .await;
    told_once(&alice, "pending_of_address", "127.0.0.2").await;
    let crowd = Crowd::knock(&net, &alice, 1);
    crowd_is("one of another address to get in", &crowd, |crowd| {
        crowd.connected() > 0
    })
    .await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    still_crosses(&bob, &alice).await;
    drop(silence);
}

fn store(of: &Peer) -> Connection {
    Connection::open(of.dir().join("documents.db")).unwrap()
}

/// What an app of the same store writes there without a word on NATS.
fn write_peer(at: &Peer, who: &Identity, relation: Relation) {
    let document = peer_document(who, relation);
    let written = store(at).execute(
        "UPDATE document SET doc = ?2, peer_id = ?3 WHERE datatype = 9 AND id = ?1",
        (&who.did, document.to_string().into_bytes(), &who.peer_id),
    );
    assert_eq!(written.unwrap(), 1);
}

#[tokio::test]
async fn a_partner_that_only_the_store_knows_yet_is_known_at_once() {
    let net = Federation::new();
    let mut alice = net
        .peer("alice")
        .partner_of("bob")
        .set("discovery.unknown_peers", "refuse")
        .start()
        .await;
    assert_eq!(alice.stop().await, 0);
    // His document is put aside, and comes back while the daemon runs.
    let bob = net.identity("bob");
    let aside = "CREATE TABLE aside AS SELECT * FROM document WHERE datatype = 9 AND id = ?1";
    store(&alice)
        .execute(&aside.replace("?1", &format!("'{}'", bob.did)), [])
        .unwrap();
    let gone = store(&alice).execute("DELETE FROM document WHERE id = ?1", [&bob.did]);
    assert_eq!(gone.unwrap(), 1);
    alice.restart().await;
    let nothing = alice.metrics().await;
    assert_eq!(nothing.sum("ocd_partners", &[]), 0.0);
    // He comes right after his document, before the store is read again by its own time.
    let bob = net.peer("bob").start().await;
    store(&alice)
        .execute("INSERT INTO document SELECT * FROM aside", [])
        .unwrap();
    bob.tell_peer(alice.identity(), Relation::Partner).await;
    alice
        .wait_log(&["found in the store before its next reading", bob.did()])
        .await;
    partners(&[&alice, &bob]).await;
    still_crosses(&bob, &alice).await;
    assert_eq!(alice.metrics().await.refused("unknown_peer"), 0.0);
}

#[tokio::test]
async fn what_waits_for_a_peer_outlives_a_document_of_it_that_does_not_count() {
    let net = Federation::new();
    let mut alice = net.peer("alice").partner_of("bob").start().await;
    let mut bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    bob.kill9();
    for n in 0..3 {
        alice
            .publish_considers(DataType::Execution, &[bob.did()], json!({ "n": n }))
            .await;
    }
    alice.settled().await;
    let (real, mallory) = (net.identity("bob"), net.identity("mallory"));
    let moved = Identity {
        did: real.did.clone(),
        ..mallory
    };
    alice.tell_peer(&moved, Relation::Partner).await;
    alice
        .wait_metrics("the document to be refused", |metrics| {
            metrics.refused("pinned_to_another_peer") > 0.0
        })
        .await;
    // Also over a start at which it does not count.
    assert_eq!(alice.stop().await, 0);
    alice.restart().await;
    alice.tell_peer(&real, Relation::Partner).await;
    bob.restart().await;
    for _ in 0..3 {
        bob.expect("propalgation_event", |_| true).await;
    }
    assert_eq!(alice.metrics().await.sum("ocd_dropped_total", &[]), 0.0);
}

#[tokio::test]
async fn what_waits_for_a_peer_that_the_store_does_not_name_yet_waits_on() {
    let net = Federation::new();
    let mut alice = net.peer("alice").knows("bob", Relation::None).start().await;
    let mut bob = net.peer("bob").knows("alice", Relation::None).start().await;
    bob.kill9();
    alice
        .publish_considers(DataType::Execution, &[bob.did()], json!({ "n": 1 }))
        .await;
    alice.settled().await;
    assert_eq!(alice.stop().await, 0);
    // As where an app tells first and stores later, and the daemon starts in between.
    let store = Connection::open(alice.dir().join("documents.db")).unwrap();
    let gone = store
        .execute("DELETE FROM document WHERE id = ?1", [bob.did()])
        .unwrap();
    assert_eq!(gone, 1);
    drop(store);
    alice.restart().await;
    alice.tell_peer(bob.identity(), Relation::None).await;
    bob.restart().await;
    bob.expect("propalgation_event", |_| true).await;
}

#[tokio::test]
async fn a_pin_outlives_the_process() {
    let net = Federation::new();
    let mut alice = net.peer("alice").partner_of("bob").start().await;
    let mut bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    let (real, mallory) = (net.identity("bob"), net.identity("mallory"));
    assert_eq!(alice.stop().await, 0);
    let moved = Identity {
        did: real.did.clone(),
        ..mallory
    };
    write_peer(&alice, &moved, Relation::Partner);
    alice.run();
    alice.wait_ready().await;
    alice
        .wait_metrics("the document to be refused", |metrics| {
            metrics.refused("pinned_to_another_peer") > 0.0
        })
        .await;
    told_once(&alice, "pinned_to_another_peer", &real.did).await;
    assert_eq!(alice.metrics().await.sum("ocd_partners", &[]), 0.0);
    assert_eq!(alice.stop().await, 0);
    write_peer(&alice, &real, Relation::Partner);
    alice.restart().await;
    partners(&[&alice, &bob]).await;
    still_crosses(&bob, &alice).await;
    // Removed and added again, it may be anybody's.
    assert_eq!(bob.stop().await, 0);
    alice.forget_peer(&real).await;
    alice.settled().await;
    alice.tell_peer(&moved, Relation::Partner).await;
    alice.settled().await;
    alice
        .wait_metrics("the other one to be a partner", |metrics| {
            metrics.sum("ocd_partners", &[]) == 1.0
        })
        .await;
    assert_eq!(alice.metrics().await.refused("pinned_to_another_peer"), 0.0);
}

#[tokio::test]
async fn a_partner_over_its_rate_is_read_later_and_loses_nothing() {
    const EVENTS: usize = 60;
    let net = Federation::new();
    let alice = net
        .peer("alice")
        .partner_of("bob")
        .set("limits.partner_events_per_second", 20)
        .set("limits.partner_events_burst", 10);
    let alice = alice.start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    // In one go: one by one they might be slower than the rate.
    for n in 0..EVENTS {
        let document = resource(bob.did(), &format!("r{n}"), "Many");
        let inner = Peer::propalgation(Action::Create, DataType::Compute, &document);
        let body = Peer::envelope("oc-catalog", DataType::Compute, &inner);
        bob.nats().publish("propalgation_event", body.into()).await.unwrap();
    }
    bob.app().flush().await;
    for n in 0..EVENTS {
        alice.expect_document("create_resource", &format!("r{n}")).await;
    }
    alice
        .wait_metrics("pauses to be counted", |metrics| {
            metrics.sum("ocd_throttled_total", &[]) > 0.0
        })
        .await;
    assert_eq!(alice.metrics().await.dropped(), 0.0);
    assert_eq!(bob.metrics().await.dropped(), 0.0);
}

#[tokio::test]
async fn so_is_a_partner_that_speaks_the_first_protocols_only() {
    const EVENTS: usize = 60;
    let net = Federation::new();
    let slow = net
        .peer("alice")
        .set("limits.partner_events_per_second", 20)
        .set("limits.partner_events_burst", 10);
    let Some((alice, go)) = alice_and_gopher(&net, slow).await else {
        return;
    };
    let burst = json!({
        "addr": alice.peer_id(), "protocol": "create", "count": EVENTS, "size": 100, "id_prefix": "r", "datatype": 4,
    });
    go.tell("burst", burst).await;
    until("all of them to come", || async {
        (alice.heard("create_resource").len() == EVENTS).then_some(())
    })
    .await;
    alice
        .wait_metric("ocd_throttled_total", &[("where", "events")], |pauses| pauses > 0.0)
        .await;
    assert_eq!(alice.metrics().await.dropped(), 0.0);
}
