//! Peers in this process that know no protocol of ours: strangers by the hundred, each with a key of its own and the network's
//! pre-shared key, that knock again whenever they are let go; and one that is known.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::pnet::{PnetConfig, PreSharedKey};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{Swarm, SwarmEvent};
use libp2p::{Multiaddr, Transport, identify, noise, ping, swarm, tcp, yamux};
use oc_testkit::{DataType, Federation, Identity, Peer, Relation};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

#[derive(swarm::NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// How often they got in, and how often they were let go after it.
#[derive(Default)]
pub struct Counts {
    pub connected: AtomicUsize,
    pub dropped: AtomicUsize,
}

/// Strangers at one peer's door, until they are dropped.
pub struct Crowd {
    pub counts: Arc<Counts>,
    _strangers: JoinSet<()>,
}

impl Crowd {
    /// So many begin to knock at `at`.
    pub fn knock(net: &Federation, at: &Peer, count: usize) -> Self {
        let psk = psk_of(net);
        let address: Multiaddr = at.identity().stream_address().parse().unwrap();
        let counts = Arc::new(Counts::default());
        let mut strangers = JoinSet::new();
        for _ in 0..count {
            strangers.spawn(knock(psk, address.clone(), Arc::clone(&counts)));
        }
        Self {
            counts,
            _strangers: strangers,
        }
    }

    pub fn connected(&self) -> usize {
        self.counts.connected.load(Ordering::Relaxed)
    }

    pub fn dropped(&self) -> usize {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

fn psk_of(net: &Federation) -> PreSharedKey {
    let text = std::fs::read_to_string(net.psk_file()).unwrap();
    text.parse().unwrap()
}

/// One that listens where `who` would, and knows no protocol of ours. It lives as long as the second part.
fn deaf_and_dumb(net: &Federation, who: &Identity) -> (Identity, JoinSet<()>) {
    let key = Keypair::generate_ed25519();
    let mut swarm = stranger(psk_of(net), &key);
    swarm.listen_on(who.address.parse().unwrap()).unwrap();
    let mut alive = JoinSet::new();
    alive.spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let identity = Identity {
        peer_id: key.public().to_peer_id().to_string(),
        public_key: STANDARD.encode(key.public().encode_protobuf()),
        ..who.clone()
    };
    (identity, alive)
}

fn stranger(psk: PreSharedKey, key: &Keypair) -> Swarm<Behaviour> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default());
    let transport = tcp
        .and_then(move |socket, _| PnetConfig::new(psk).handshake(socket))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).unwrap())
        .multiplex(yamux::Config::default())
        .boxed();
    let behaviour = Behaviour {
        identify: identify::Behaviour::new(identify::Config::new("opencloud/1.0".into(), key.public())),
        ping: ping::Behaviour::default(),
    };
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(3600));
    Swarm::new(transport, behaviour, key.public().to_peer_id(), config)
}

async fn knock(psk: PreSharedKey, address: Multiaddr, counts: Arc<Counts>) {
    let mut swarm = stranger(psk, &Keypair::generate_ed25519());
    let dial = || DialOpts::unknown_peer_id().address(address.clone()).build();
    swarm.dial(dial()).unwrap();
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. } => {
                counts.connected.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            SwarmEvent::ConnectionClosed { .. } => {
                counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
            SwarmEvent::OutgoingConnectionError { .. } => {}
            _ => continue,
        }
        // Two cores are shared by all: whoever was let go takes a breath.
        tokio::time::sleep(Duration::from_millis(500)).await;
        swarm.dial(dial()).unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_knows_no_searches_has_failed_and_is_not_waited_for() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let (bob, _alive) = deaf_and_dumb(&net, &net.identity("bob"));
    alice.tell_peer(&bob, Relation::None).await;
    alice.settled().await;
    let request = json!({"type": "known", "search": "gpu", "timeout_ms": 600_000});
    let (_, end) = alice.search(DataType::Compute, request).await;
    assert_eq!(
        (&end["asked"], &end["answered"], &end["failed"]),
        (&json!(1), &json!(0), &json!(1)),
        "{end}"
    );
}
