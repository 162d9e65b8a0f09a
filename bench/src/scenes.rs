//! The set-ups that are measured: two NATS servers joined by a leafnode, and federations of daemons.

use crate::measure::Way;
use anyhow::Result;
use oc_testkit::{Federation, NatsOptions, NatsServer, Peer, Relation, free_port, partners};
use std::path::Path;

/// Two servers of one binary, B a leaf of A.
pub struct Leafnode {
    a: NatsServer,
    b: NatsServer,
}

impl Leafnode {
    /// Starts both.
    pub async fn start(dir: &Path) -> Self {
        let port = free_port();
        let listens = format!("leafnodes {{ host: 127.0.0.1, port: {port} }}\n");
        let connects = format!("leafnodes {{ remotes: [ {{ url: \"nats-leaf://127.0.0.1:{port}\" }} ] }}\n");
        let server = |name: &str, extra| {
            NatsServer::new(
                name,
                &dir.join(name),
                NatsOptions {
                    extra,
                    ..NatsOptions::default()
                },
            )
        };
        let (mut a, mut b) = (server("hub", listens), server("leaf", connects));
        a.start().await;
        b.start().await;
        Self { a, b }
    }

    /// From A to B.
    pub async fn way(&self) -> Result<Way> {
        Way::between(&self.a, &self.b, "propalgation_event", "propalgation_event", "somebody").await
    }
}

/// A daemon as it runs in production, but for the ports.
pub async fn daemon(net: &Federation, name: &str) -> Peer {
    net.peer(name).deaf().set("log.level", "info").start().await
}

/// Who writes the documents that arrive.
#[derive(Debug, Clone, Copy)]
pub enum Writes {
    /// The apps: the daemon only carries, as a leafnode does.
    Apps,
    /// The daemon, into its embedded store, with its word index.
    Daemon,
}

/// Two daemons that are partners and only carry: the apps write the store. `a` has a NATS server like this.
pub async fn apps_pair(net: &Federation, a: NatsOptions) -> (Peer, Peer) {
    let alice = net.peer("alice").deaf().set("log.level", "info").nats(a).start().await;
    carry_only(alice, daemon(net, "bob").await).await
}

/// Two daemons that are partners.
pub async fn pair(net: &Federation, writes: Writes) -> (Peer, Peer) {
    let (a, b) = (daemon(net, "alice").await, daemon(net, "bob").await);
    if matches!(writes, Writes::Apps) {
        return carry_only(a, b).await;
    }
    make_partners(&[&a, &b]).await;
    (a, b)
}

async fn carry_only(mut a: Peer, mut b: Peer) -> (Peer, Peer) {
    make_partners(&[&a, &b]).await;
    // The store knows both by now; from here on nobody but the apps would write it.
    for peer in [&mut a, &mut b] {
        peer.stop().await;
        peer.set("store.writes", "apps");
        peer.restart().await;
    }
    partners(&[&a, &b]).await;
    (a, b)
}

/// Makes the first a partner of each of the others.
pub async fn make_partners(peers: &[&Peer]) {
    let [first, others @ ..] = peers else { return };
    for other in others {
        first.tell_peer(other.identity(), Relation::Partner).await;
        other.tell_peer(first.identity(), Relation::Partner).await;
    }
    for other in others {
        first.wait_partner_up(other.identity()).await;
        other.wait_partner_up(first.identity()).await;
    }
}

/// From an app at `a` to an app at `b`.
pub async fn way(a: &mut Peer, b: &mut Peer) -> Result<Way> {
    let did = a.did().to_owned();
    Way::between(
        a.nats_server(),
        b.nats_server(),
        "propalgation_event",
        "create_resource",
        &did,
    )
    .await
}
