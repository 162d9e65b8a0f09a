//! The daemon's life: NATS that comes and goes, signals, a second daemon, addresses.

use crate::{alice_and_bob, crosses};
use oc_testkit::{Action, DataType, Federation, Identity, Peer, Relation, free_port, partners, public, resource};
use rustix::process::Signal;
use serde_json::{Value, json};

const CREATE: &str = "create_resource";

#[tokio::test]
async fn nats_may_be_down_at_start() {
    let net = Federation::new();
    let mut alice = net.peer("alice").nats_down().launch().await;
    let why = alice.wait_not_ready().await;
    assert!(why.contains("[-] nats"), "{why}");
    assert_eq!(alice.http("/livez").await.map(|(status, _)| status), Some(200));
    alice.start_nats().await;
    alice.wait_ready().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    alice.tell_peer(bob.identity(), Relation::Partner).await;
    partners(&[&alice, &bob]).await;
    crosses(&alice, &bob, "a").await;
}

#[tokio::test]
async fn what_comes_while_our_nats_is_down_is_published_when_it_is_back() {
    let net = Federation::new();
    let (alice, mut bob) = alice_and_bob(&net).await;
    crosses(&alice, &bob, "before").await;
    // Acknowledged, so that bob knows it to be published and does not do it again.
    let has_it = |told: &Value| told["partners"][0]["lag_rows"] == 0;
    alice.outbox("that bob has everything", &[], has_it).await;
    bob.kill_nats();
    let why = bob.wait_not_ready().await;
    assert!(why.contains("[-] nats"), "{why}");
    for n in 0..50 {
        alice
            .publish_create(
                DataType::Compute,
                &resource(alice.did(), &format!("meanwhile-{n}"), "Waits"),
            )
            .await;
    }
    bob.wait_metrics("what alice sent", |metrics| metrics.received("create") == 51.0)
        .await;
    // The daemon may be back before its apps are, and core NATS keeps nothing for those who do not listen.
    bob.freeze();
    bob.start_nats().await;
    bob.thaw();
    for n in 0..50 {
        bob.expect_document(CREATE, &format!("meanwhile-{n}")).await;
    }
    bob.wait_ready().await;
    crosses(&bob, &alice, "after").await;
    assert_eq!(bob.heard(CREATE).len(), 51, "each once");
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_hand() {
    const EVENTS: usize = 2000;
    let net = Federation::new();
    // A disk that stands still for seconds is no partner that takes nothing.
    let alice = net.peer("alice").partner_of("bob").set("shutdown_grace", "2m");
    let mut alice = alice.start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    publish_many(&alice, EVENTS).await;
    assert_eq!(alice.stop().await, 0);
    bob.expect_document(CREATE, &format!("in-hand-{}", EVENTS - 1)).await;
    assert_eq!(bob.heard(CREATE).len(), EVENTS);
}

#[tokio::test]
async fn sigterm_takes_what_nats_had_sent_before() {
    const EVENTS: usize = 500;
    let net = Federation::new();
    let (mut alice, bob) = alice_and_bob(&net).await;
    // Not read yet, but no longer at NATS: whoever does not read it now loses it.
    alice.freeze();
    publish_many(&alice, EVENTS).await;
    alice.signal(Signal::TERM);
    alice.thaw();
    assert_eq!(alice.exit_code().await, 0);
    // What is taken and not yet acknowledged when she leaves goes on in her next life; what was not taken has none.
    alice.restart().await;
    bob.expect_document(CREATE, &format!("in-hand-{}", EVENTS - 1)).await;
    assert_eq!(bob.heard(CREATE).len(), EVENTS);
}

/// PB_CREATE of so many documents, as fast as NATS takes them.
async fn publish_many(peer: &Peer, count: usize) {
    for n in 0..count {
        let document = resource(peer.did(), &format!("in-hand-{n}"), "In hand");
        let inner = Peer::propalgation(Action::Create, DataType::Compute, &document);
        let body = Peer::envelope("oc-catalog", DataType::Compute, &inner);
        peer.nats().publish("propalgation_event", body.into()).await.unwrap();
    }
    peer.app().flush().await;
}

#[tokio::test]
async fn sigterm_at_the_receiver_finishes_what_is_in_hand() {
    const EVENTS: usize = 1000;
    let net = Federation::new();
    let (alice, mut bob) = alice_and_bob(&net).await;
    publish_many(&alice, EVENTS).await;
    let received = bob
        .wait_metrics("events of alice", |metrics| metrics.received("create") >= 1.0)
        .await;
    assert_eq!(bob.stop().await, 0);
    // What it had read is out; what it had not, alice still has and brings to its next life.
    assert!(bob.heard(CREATE).len() as f64 >= received.received("create"));
    bob.restart().await;
    bob.expect_document(CREATE, &format!("in-hand-{}", EVENTS - 1)).await;
}

#[tokio::test]
async fn sigint_ends_it_and_sigterm_twice_ends_it_at_once() {
    let net = Federation::new();
    let mut alice = net.peer("alice").start().await;
    alice.signal(Signal::INT);
    assert_eq!(alice.exit_code().await, 0);
    alice.restart().await;
    // Bob's NATS stands still, so that there is something that cannot be finished.
    let mut bob = net
        .peer("bob")
        .partner_of("alice")
        .set("shutdown_grace", "1h")
        .start()
        .await;
    alice.tell_peer(bob.identity(), Relation::Partner).await;
    partners(&[&alice, &bob]).await;
    bob.kill_nats();
    bob.wait_not_ready().await;
    // A planner line is live: nothing keeps it for a later life.
    let line = json!({"peer_id": bob.did(), "step": 1});
    alice.app().propagate(Action::Planner, DataType::Execution, &line).await;
    bob.wait_metrics("the line", |metrics| metrics.received("planner") == 1.0)
        .await;
    bob.signal(Signal::TERM);
    bob.wait_log(&["told to stop"]).await;
    bob.signal(Signal::TERM);
    let status = bob.daemon().ended().await;
    assert_eq!(status.code(), Some(1), "by itself, not by the signal: {status}");
}

#[tokio::test]
async fn sighup_takes_what_may_change_and_keeps_the_old_on_a_mistake() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob");
    let mut alice = alice.set("search.max_results", 3).start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    for n in 0..6 {
        let gpu = public(resource(bob.did(), &format!("gpu-{n}"), "GPU"));
        bob.create_resource(DataType::Compute, &gpu).await;
    }
    bob.settled().await;
    let found = async |alice: &Peer| {
        alice
            .search(DataType::Compute, json!({"type": "partner", "search": "gpu"}))
            .await
            .0
            .len()
    };
    assert_eq!(found(&alice).await, 3);
    alice.set("search.max_results", 5);
    alice.hang_up();
    alice.wait_log(&["settings read again"]).await;
    assert_eq!(found(&alice).await, 5);
    // A mistake beside a change: nothing is taken.
    alice.set("search.max_results", 4);
    alice.set("search.timeout", "soon");
    alice.hang_up();
    alice.wait_log(&["the old ones stay"]).await;
    assert_eq!(found(&alice).await, 5);
    alice.set("search.timeout", "5s");
    alice.set("network.listen", json!(["/ip4/127.0.0.1/tcp/1"]));
    alice.hang_up();
    alice.wait_log(&["network.listen", "restart"]).await;
    assert_eq!(found(&alice).await, 4);
    assert!(alice.is_ready().await);
}

#[tokio::test]
async fn a_second_daemon_of_the_same_did_on_one_nats_leaves() {
    let net = Federation::new();
    let mut first = net.peer("alice").start().await;
    let mut began = true;
    let mut left = Vec::new();
    // The first one has half a second to say that it is there; a machine that is busy then may need another try.
    for n in 0..3 {
        let name = format!("alice-again-{n}");
        let mut second = net.peer(&name).key_of(&first).nats_of(&first).launch().await;
        assert_eq!(second.exit_code().await, 1);
        assert!(
            second.logs().join("\n").contains("already runs for this DID"),
            "it says why"
        );
        began = second.logs().iter().any(|line| line.contains("taking from"));
        left.push(second);
        if !began {
            break;
        }
    }
    assert!(!began, "it leaves before anybody hears of it");
    let mut second = left.pop().unwrap();
    first.settled().await;
    assert_eq!(first.stop().await, 0);
    // With the first gone there is room.
    second.restart().await;
    second.settled().await;
}

#[tokio::test]
async fn stream_address_may_name_a_host() {
    dialled_at("/ip4/127.0.0.1", "/dns4/localhost").await;
}

#[tokio::test]
async fn stream_address_may_be_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    dialled_at("/ip6/::1", "/ip6/::1").await;
}

/// Alice reaches bob, who listens on `listen`, by an address that begins with `told`; he has no way to reach her.
async fn dialled_at(listen: &str, told: &str) {
    let net = Federation::new();
    let port = free_port();
    let alice = net.peer("alice").start().await;
    let bob = net
        .peer("bob")
        .set("network.listen", json!([format!("{listen}/tcp/{port}")]))
        .start()
        .await;
    let nowhere = Identity {
        address: "/ip4/127.0.0.1/tcp/1".to_owned(),
        ..alice.identity().clone()
    };
    bob.tell_peer(&nowhere, Relation::Partner).await;
    bob.settled().await;
    let there = Identity {
        address: format!("{told}/tcp/{port}"),
        ..bob.identity().clone()
    };
    alice.tell_peer(&there, Relation::Partner).await;
    partners(&[&alice, &bob]).await;
    crosses(&alice, &bob, "a").await;
    crosses(&bob, &alice, "b").await;
}
