//! Daemons and servers killed at random under load, with a seed that is printed. `SOAK=1` makes it longer (`make soak`).

use crate::history::History;
use oc_testkit::{Federation, Identity, NatsOptions, Peer, Relation, SlowLink, partners};
use std::collections::HashMap;

/// Kills of a short run, and of a long one.
const KILLS: (usize, usize) = (10, 50);

fn kills() -> usize {
    if std::env::var_os("SOAK").is_some() {
        KILLS.1
    } else {
        KILLS.0
    }
}

fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("SEED={seed}");
    seed
}

async fn edits(history: &mut History, alice: &Peer, count: usize) {
    for _ in 0..count {
        history.edit(alice).await;
    }
    alice.app().flush().await;
}

/// The versions of each resource that bob's apps heard never go back, but for the removal in between.
fn never_goes_back(bob: &Peer) {
    let mut newest: HashMap<String, u64> = HashMap::new();
    for message in bob.heard("create_resource") {
        let document = message.document();
        let Some(version) = document["version"].as_u64() else {
            continue;
        };
        let id = document["id"].as_str().unwrap_or_default().to_owned();
        let known = newest.entry(id.clone()).or_default();
        assert!(version >= *known, "{id} went back from {known} to {version}");
        *known = version;
    }
}

#[tokio::test]
async fn daemons_are_killed_at_random_and_the_stores_end_the_same() {
    let net = Federation::new();
    let mut alice = net.peer("alice").partner_of("bob").nats(with_jetstream()).start().await;
    let mut bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    let mut history = History::new(seed());
    for kill in 0..kills() {
        let count = 20 + history.roll(200);
        edits(&mut history, &alice, count).await;
        match history.roll(4) {
            0 => {
                alice.kill9();
                edits(&mut history, &alice, 30).await;
                alice.restart().await;
            }
            1 => {
                bob.kill9();
                edits(&mut history, &alice, 30).await;
                bob.restart().await;
            }
            2 => {
                alice.kill9();
                bob.kill9();
                edits(&mut history, &alice, 30).await;
                bob.restart().await;
                alice.restart().await;
            }
            _ => {
                bob.freeze();
                edits(&mut history, &alice, 30).await;
                bob.thaw();
            }
        }
        if kill % 5 == 4 {
            history.arrives_at(&bob, &alice).await;
        }
    }
    history.arrives_at(&bob, &alice).await;
    never_goes_back(&bob);
}

#[tokio::test]
async fn the_link_is_stalled_and_cut_and_the_stores_end_the_same() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let bob = net.peer("bob").start().await;
    let own = bob.identity().clone();
    let link = SlowLink::new(own.port(), 2_000_000).await;
    let there = Identity {
        address: link.address(),
        ..own
    };
    // He cannot dial her: all goes through the link.
    let nowhere = Identity {
        address: "/ip4/127.0.0.1/tcp/1".to_owned(),
        ..alice.identity().clone()
    };
    bob.tell_peer(&nowhere, Relation::Partner).await;
    bob.settled().await;
    alice.tell_peer(&there, Relation::Partner).await;
    partners(&[&alice, &bob]).await;
    let mut history = History::new(seed());
    for _ in 0..kills() {
        edits(&mut history, &alice, 100).await;
        match history.roll(3) {
            0 => link.cut(),
            1 => {
                link.stall(true);
                edits(&mut history, &alice, 50).await;
                link.stall(false);
            }
            _ => {
                link.stall(true);
                edits(&mut history, &alice, 50).await;
                link.cut();
                link.stall(false);
            }
        }
    }
    history.arrives_at(&bob, &alice).await;
    never_goes_back(&bob);
}

#[tokio::test]
async fn a_partner_is_back_after_very_many_changes() {
    let net = Federation::new();
    let mut alice = net.peer("alice").partner_of("bob").nats(with_jetstream()).start().await;
    let mut bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    bob.kill9();
    let mut history = History::new(seed());
    let changes = if std::env::var_os("SOAK").is_some() {
        50_000
    } else {
        3_000
    };
    edits(&mut history, &alice, changes / 2).await;
    alice.kill9();
    edits(&mut history, &alice, changes / 2).await;
    alice.restart().await;
    bob.restart().await;
    history.arrives_at(&bob, &alice).await;
    assert!(bob.heard("create_resource").len() < changes / 10, "coalesced");
}

fn with_jetstream() -> NatsOptions {
    NatsOptions {
        jetstream: true,
        ..NatsOptions::default()
    }
}

#[tokio::test]
async fn nats_servers_are_killed_and_the_stores_end_the_same() {
    let net = Federation::new();
    let mut alice = net.peer("alice").partner_of("bob").start().await;
    let mut bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    let mut history = History::new(seed());
    for _ in 0..kills() / 3 {
        edits(&mut history, &alice, 100).await;
        match history.roll(3) {
            0 => {
                // What an app says to a server that dies is the app's to say again: first it is taken.
                alice.settled().await;
                alice.kill_nats();
                alice.wait_not_ready().await;
                alice.start_nats().await;
                alice.wait_ready().await;
            }
            1 => {
                bob.kill_nats();
                edits(&mut history, &alice, 50).await;
                bob.start_nats().await;
            }
            _ => {
                alice.settled().await;
                alice.kill_nats();
                bob.kill_nats();
                bob.kill9();
                alice.wait_not_ready().await;
                alice.start_nats().await;
                alice.wait_ready().await;
                edits(&mut history, &alice, 50).await;
                bob.start_nats().await;
                bob.restart().await;
            }
        }
    }
    history.arrives_at(&bob, &alice).await;
    never_goes_back(&bob);
}
