//! Builds the swarm: behaviours with their bounds, listeners, and the actor that will own it all.
//!
//! Owns what the network is started with and how. Always: a port in use is an error at start and not later.

use super::accepting::Untaken;
use super::dht::{self, Dht};
use super::dial;
use super::gate::{Gate, LOOK_UPS};
use super::gossip::{self, Gossip, Waiting};
use super::limits::{Bounds, Limits};
use super::pending::Pending;
use super::quarantine::{Bars, Quarantined};
use super::streams::{Inbox, Streams};
use super::swarm::{Actor, Behaviour};
use super::transport::{self, TransportError};
use super::{COMMANDS, Connected, Network, OFFERED, Offered, SeenAt, Stranger};
use crate::identity::Psk;
use crate::telemetry::{Metrics, Refusals};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use libp2p::allow_block_list::{self};
use libp2p::core::upgrade::Version;
use libp2p::gossipsub::IdentTopic;
use libp2p::identity::Keypair;
use libp2p::swarm::{StreamProtocol, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, ping};
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Gossip messages waiting to be judged. Past it new ones are dropped and counted: a question asked again is better
/// than a swarm that stands still.
const GOSSIP_WAITING: usize = 1024;
/// A connection on which nothing is open and that nobody keeps is closed after this long: three partner heartbeats.
pub(super) const IDLE: Duration = Duration::from_secs(10);
/// How often a connection is pinged, and how long the answer may take before the connection counts as dead.
const PING_EVERY: Duration = Duration::from_secs(5);
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at once, each way. A flood of half-open connections costs at most this many.
const PENDING: usize = 256;

/// What the swarm is started with.
pub struct Config {
    /// Our key; the PeerId follows from it.
    pub keypair: Keypair,
    /// The private network's key; `None` only by the operator's explicit wish.
    pub psk: Option<Psk>,
    /// Where to listen.
    pub listen: Vec<Multiaddr>,
    /// Whether we take part in the DHT.
    pub dht: bool,
    /// Protocols served, each with its inbox.
    pub inboxes: Vec<(StreamProtocol, Inbox)>,
    /// Inbound streams a peer may hold of one protocol.
    pub streams_per_protocol: usize,
    /// Connections in all.
    pub connections: u32,
    /// Connections with one peer.
    pub connections_per_peer: u32,
    /// Bound of one dial over all addresses.
    pub dial_timeout: Duration,
    /// Bound of one handshake.
    pub handshake_timeout: Duration,
    /// Gossip topics listened to.
    pub topics: Vec<&'static str>,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to refuse.
    pub refusals: Refusals,
}

/// Why the swarm could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The transport could not be built.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// GossipSub refused its settings.
    #[error("gossip: {0}")]
    Gossip(String),
    /// An address of `network.listen` cannot be listened on.
    #[error("network.listen: cannot listen on {address}: {why}")]
    Listen {
        /// The address as configured.
        address: Multiaddr,
        /// What the system said.
        why: String,
    },
}

/// A network that runs.
pub struct Started {
    /// Its handle.
    pub network: Network,
    /// What arrives by gossip.
    pub gossip: mpsc::Receiver<Gossip>,
    /// Peers that somebody must say something about.
    pub strangers: mpsc::Receiver<Stranger>,
    /// Records that others want kept in our part of the DHT.
    pub offered: mpsc::Receiver<Offered>,
}

/// Starts listening and runs the actor until `shutdown`.
///
/// # Errors
/// See [`StartError`].
pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Started, StartError> {
    let local = config.keypair.public().to_peer_id();
    let transport = transport::build(&config.keypair, config.psk, config.handshake_timeout)?;
    let bars = Bars::default();
    let behaviour = behaviour(&config, local, &bars)?;
    let swarm_config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE)
        // The last name offered is not waited for: see `by_name`.
        .with_substream_upgrade_protocol_override(Version::V1Lazy);
    let mut swarm = Swarm::new(transport, behaviour, local, swarm_config);
    for topic in &config.topics {
        let subscribed = swarm.behaviour_mut().gossip.inner.subscribe(&IdentTopic::new(*topic));
        subscribed.map_err(|error| StartError::Gossip(error.to_string()))?;
    }
    let addresses = listen(&mut swarm, &config.listen).await?;

    let (commands_tx, commands) = mpsc::channel(COMMANDS);
    let (connected, connected_rx) = watch::channel(Connected::default());
    let (listening, listening_rx) = watch::channel(addresses);
    let (gossip, gossip_rx) = mpsc::channel(GOSSIP_WAITING);
    let (strangers, strangers_rx) = mpsc::channel(LOOK_UPS);
    let (offered, offered_rx) = mpsc::channel(OFFERED);
    let (seen_at, seen_at_rx) = watch::channel(SeenAt::default());
    let actor = Actor {
        dht: Dht::new(config.dht),
        offered,
        seen_at,
        swarm,
        commands,
        links: HashMap::new(),
        connected,
        listening,
        gossip: Waiting::new(gossip),
        dials: HashMap::new(),
        bars,
        gate: Gate::default(),
        strangers,
        look_ups: FuturesUnordered::new(),
        untaken: Untaken::default(),
        metrics: config.metrics,
        refusals: config.refusals,
    };
    tokio::spawn(actor.run(shutdown));
    let network = Network {
        local,
        commands: commands_tx,
        connected: connected_rx,
        listening: listening_rx,
        seen_at: seen_at_rx,
        dial_timeout: config.dial_timeout,
    };
    Ok(Started {
        network,
        gossip: gossip_rx,
        strangers: strangers_rx,
        offered: offered_rx,
    })
}

fn behaviour(config: &Config, local: PeerId, bars: &Bars) -> Result<Behaviour, StartError> {
    let count = |setting: u32| usize::try_from(setting).unwrap_or(usize::MAX);
    let limits = Bounds {
        all: count(config.connections),
        of_peer: count(config.connections_per_peer),
        pending: PENDING,
    };
    let identify = identify::Config::new("opencloud/1.0".into(), config.keypair.public())
        .with_agent_version(concat!("oc-discovery/", env!("CARGO_PKG_VERSION")).into())
        // What others are told is decided above: what is listened on may be of no use to them.
        .with_hide_listen_addrs(true)
        .with_push_listen_addr_updates(true);
    Ok(Behaviour {
        blocked: allow_block_list::Behaviour::default(),
        limits: Limits::new(limits),
        pending: Pending::default(),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_EVERY).with_timeout(PING_TIMEOUT)),
        gossip: Quarantined::new(
            gossip::behaviour(&config.keypair).map_err(StartError::Gossip)?,
            bars.clone(),
        ),
        dht: Quarantined::new(dht::behaviour(local, config.dht), bars.clone()),
        streams: Streams::new(
            local,
            config.inboxes.clone(),
            config.streams_per_protocol,
            bars.clone(),
            config.refusals.clone(),
        ),
    })
}

/// An error when somebody else listens there. The transport shares its ports with whoever shares them too: two daemons
/// would listen on one, and each would get half of the peers.
fn try_port(address: SocketAddr) -> std::io::Result<()> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    // As the transport does: connections of a daemon that just ended do not count, nor does the other kind of address.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(rustix::net::bind(&socket, &address)?)
}

/// Listens on every address and waits until each is up, so that a port in use is an error at start and not later.
async fn listen(swarm: &mut Swarm<Behaviour>, wanted: &[Multiaddr]) -> Result<Vec<Multiaddr>, StartError> {
    let mut pending = HashMap::new();
    for address in wanted {
        let failed = |why: String| StartError::Listen {
            address: address.clone(),
            why,
        };
        if let Some(socket) = dial::socket_of(address) {
            try_port(socket).map_err(|error| failed(error.to_string()))?;
        }
        let listener = swarm
            .listen_on(address.clone())
            .map_err(|error| failed(error.to_string()))?;
        pending.insert(listener, address.clone());
    }
    let mut up = Vec::new();
    while !pending.is_empty() {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { listener_id, address } => {
                pending.remove(&listener_id);
                up.push(address);
            }
            SwarmEvent::ListenerClosed {
                listener_id, reason, ..
            } => {
                if let Some(address) = pending.remove(&listener_id) {
                    let why = reason
                        .err()
                        .map_or_else(|| "closed".to_owned(), |error| error.to_string());
                    return Err(StartError::Listen { address, why });
                }
            }
            _ => {}
        }
    }
    Ok(up)
}
