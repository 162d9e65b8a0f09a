//! Whole federations of real processes. One module a subject, named after the diagrams; one program, so that it is
//! linked once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod app_answers;
mod app_script;
mod create_resource;
mod delivery;
mod discovery;
mod discovery_hosts;
mod foreign;
mod foreign_dht;
mod gate;
mod history;
mod hostile;
mod hostile_delivery;
mod hostile_discovery;
mod hostile_gossip;
mod hostile_invites;
mod hostile_nats;
mod hostile_peer;
mod hostile_searches;
mod hostile_setup;
mod intake;
mod kills;
mod life;
mod lost;
mod mongo;
mod mongo_refuses;
mod nats_log_in;
mod operator_search;
mod operator_words;
mod outbox;
mod peers;
mod propagation;
mod search;
mod slow_link;
mod strangers;

use oc_testkit::{DataType, Federation, Peer, partners, resource};

/// Two partners, connected.
async fn alice_and_bob(net: &Federation) -> (Peer, Peer) {
    let alice = net.peer("alice").partner_of("bob").start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    (alice, bob)
}

/// A resource of `from` reaches the apps of `to`.
async fn crosses(from: &Peer, to: &Peer, id: &str) {
    from.publish_create(DataType::Compute, &resource(from.did(), id, "Crosses"))
        .await;
    to.expect_document("create_resource", id).await;
}

/// Text of everything that JSON writers escape in their own ways, or leave alone.
fn tricky() -> String {
    "a<b>&c \"q\" \\ / \u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}\u{2028}\u{2029} é 😀".to_owned()
}
