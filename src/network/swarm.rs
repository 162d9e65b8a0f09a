//! The one actor that owns the swarm: takes commands, runs libp2p, publishes who is connected.
//!
//! Owns every connection. Never waits for anybody above it: what it tells goes by watched levels or by a bounded
//! queue that drops and counts. Always: a dial is answered when it succeeds, fails, or the peer connects by itself.

use super::dial;
use super::gossip::{self, Gossip, GossipVerdict, PublishError};
use super::streams::{Inbox, Streams};
use super::transport::{self, TransportError};
use super::{COMMANDS, Command, ConnectError, Connected, Link, Network};
use crate::telemetry::{Metrics, Refusals};
use crate::wire::protocol;
use futures::StreamExt;
use libp2p::allow_block_list::{self, BlockedPeers};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::ConnectedPoint;
use libp2p::core::upgrade::NegotiationError;
use libp2p::gossipsub::{self, IdentTopic};
use libp2p::identity::Keypair;
use libp2p::pnet::PreSharedKey;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{DialError, ListenError, NetworkBehaviour, StreamProtocol, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, ping};
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Gossip messages waiting to be judged. Past it new ones are dropped and counted: a question asked again is better
/// than a swarm that stands still.
const GOSSIP_WAITING: usize = 1024;
/// A connection on which nothing is open and that nobody keeps is closed after this long: three partner heartbeats.
const IDLE: Duration = Duration::from_secs(10);
/// How often a connection is pinged, and how long the answer may take before the connection counts as dead.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at once, each way. A flood of half-open connections costs at most this many.
const PENDING: u32 = 256;

/// What the swarm is started with.
pub struct Config {
    /// Our key; the PeerId follows from it.
    pub keypair: Keypair,
    /// The private network's key; `None` only by the operator's explicit wish.
    pub psk: Option<PreSharedKey>,
    /// Where to listen.
    pub listen: Vec<Multiaddr>,
    /// Addresses told to others beside the observed ones.
    pub announce: Vec<Multiaddr>,
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

#[derive(NetworkBehaviour)]
struct Behaviour {
    blocked: allow_block_list::Behaviour<BlockedPeers>,
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    gossip: gossipsub::Behaviour,
    streams: Streams,
}

type DialReply = oneshot::Sender<Result<(), ConnectError>>;

struct Actor {
    swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    links: HashMap<PeerId, Link>,
    connected: watch::Sender<Connected>,
    listening: watch::Sender<Vec<Multiaddr>>,
    gossip: mpsc::Sender<Gossip>,
    /// Callers waiting for a peer.
    dials: HashMap<PeerId, Vec<DialReply>>,
    /// The peers of our store, for which the bounds of connections do not count; and whether only they may be connected.
    known: HashSet<PeerId>,
    known_only: bool,
    metrics: Metrics,
    refusals: Refusals,
}

/// Starts listening and runs the actor until `shutdown`. Returns the handle and the gossip that arrives.
///
/// # Errors
/// See [`StartError`].
pub async fn start(
    config: Config,
    shutdown: CancellationToken,
) -> Result<(Network, mpsc::Receiver<Gossip>), StartError> {
    let local = config.keypair.public().to_peer_id();
    let transport = transport::build(&config.keypair, config.psk, config.handshake_timeout)?;
    let behaviour = behaviour(&config, local)?;
    let swarm_config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE);
    let mut swarm = Swarm::new(transport, behaviour, local, swarm_config);
    for topic in &config.topics {
        let subscribed = swarm.behaviour_mut().gossip.subscribe(&IdentTopic::new(*topic));
        subscribed.map_err(|error| StartError::Gossip(error.to_string()))?;
    }
    let addresses = listen(&mut swarm, &config.listen).await?;
    for address in &config.announce {
        swarm.add_external_address(address.clone());
    }

    let (commands_tx, commands) = mpsc::channel(COMMANDS);
    let (connected, connected_rx) = watch::channel(Connected::default());
    let (listening, listening_rx) = watch::channel(addresses);
    let (gossip, gossip_rx) = mpsc::channel(GOSSIP_WAITING);
    let actor = Actor {
        swarm,
        commands,
        links: HashMap::new(),
        connected,
        listening,
        gossip,
        dials: HashMap::new(),
        known: HashSet::new(),
        known_only: false,
        metrics: config.metrics,
        refusals: config.refusals,
    };
    tokio::spawn(actor.run(shutdown));
    let network = Network {
        local,
        commands: commands_tx,
        connected: connected_rx,
        listening: listening_rx,
        dial_timeout: config.dial_timeout,
    };
    Ok((network, gossip_rx))
}

fn behaviour(config: &Config, local: PeerId) -> Result<Behaviour, StartError> {
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING))
        .with_max_pending_outgoing(Some(PENDING))
        .with_max_established(Some(config.connections))
        .with_max_established_per_peer(Some(config.connections_per_peer));
    let identify = identify::Config::new("opencloud/1.0".into(), config.keypair.public())
        .with_agent_version(concat!("oc-discovery/", env!("CARGO_PKG_VERSION")).into())
        .with_push_listen_addr_updates(true);
    Ok(Behaviour {
        blocked: allow_block_list::Behaviour::default(),
        limits: connection_limits::Behaviour::new(limits),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_EVERY).with_timeout(PING_TIMEOUT)),
        gossip: gossip::behaviour(&config.keypair).map_err(StartError::Gossip)?,
        streams: Streams::new(
            local,
            config.inboxes.clone(),
            config.streams_per_protocol,
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

impl Actor {
    async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Dial { peer, addresses, reply } => self.dial(peer, addresses, reply),
            Command::Open { peer, protocol, reply } => self.swarm.behaviour_mut().streams.open(peer, protocol, reply),
            Command::Disconnect { peer } => {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            Command::Block { peers } => self.block(&peers),
            Command::Keep { peers } => self.swarm.behaviour_mut().streams.keep(peers),
            Command::Know { peers, only } => self.know(peers, only),
            Command::Publish { topic, data, reply } => {
                let _ = reply.send(self.publish(topic, data));
            }
            Command::Judge { verdict } => self.judge(verdict),
        }
    }

    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, reply: DialReply) {
        if self.swarm.is_connected(&peer) {
            let _ = reply.send(Ok(()));
            return;
        }
        if let Some(waiting) = self.dials.get_mut(&peer) {
            waiting.retain(|reply| !reply.is_closed());
            if !waiting.is_empty() {
                waiting.push(reply);
                return;
            }
        }
        // A port of its own for every dial: with the listening port, two peers that dial each other at the same
        // instant make one half-open connection out of two and both fail.
        let wish = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            .allocate_new_port()
            .build();
        match self.swarm.dial(wish) {
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => self.dials.entry(peer).or_default().push(reply),
            Err(error) => drop(reply.send(Err(explain(&error)))),
        }
    }

    fn block(&mut self, peers: &HashSet<PeerId>) {
        let known: Vec<PeerId> = self.swarm.behaviour().blocked.blocked_peers().iter().copied().collect();
        for peer in known.iter().filter(|peer| !peers.contains(peer)) {
            self.swarm.behaviour_mut().blocked.unblock_peer(*peer);
            self.swarm.behaviour_mut().gossip.remove_blacklisted_peer(peer);
        }
        for peer in peers {
            if self.swarm.behaviour_mut().blocked.block_peer(*peer) {
                self.swarm.behaviour_mut().gossip.blacklist_peer(peer);
            }
        }
    }

    fn know(&mut self, peers: HashSet<PeerId>, only: bool) {
        let limits = &mut self.swarm.behaviour_mut().limits;
        for gone in self.known.difference(&peers) {
            limits.remove_peer_id(gone);
        }
        for peer in &peers {
            limits.bypass_peer_id(peer);
        }
        self.known = peers;
        self.known_only = only;
        let strangers: Vec<PeerId> = self
            .links
            .keys()
            .filter(|peer| !self.may_be_connected(peer))
            .copied()
            .collect();
        for stranger in strangers {
            let _ = self.swarm.disconnect_peer_id(stranger);
        }
    }

    fn may_be_connected(&self, peer: &PeerId) -> bool {
        !self.known_only || self.known.contains(peer)
    }

    fn publish(&mut self, topic: &'static str, data: Vec<u8>) -> Result<usize, PublishError> {
        let topic = IdentTopic::new(topic);
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.publish(topic.clone(), data)?;
        let hash = topic.hash();
        Ok(gossip.all_peers().filter(|(_, topics)| topics.contains(&&hash)).count())
    }

    fn judge(&mut self, verdict: GossipVerdict) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(&verdict.id, &verdict.from, verdict.acceptance);
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => self.on_connected(peer_id, &endpoint),
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established,
                cause,
                ..
            } => {
                self.metrics.connections.set(i64::from(
                    self.swarm.network_info().connection_counters().num_established(),
                ));
                debug!(peer = %peer_id, cause = cause.map(|error| error.to_string()), "connection closed");
                if num_established == 0 {
                    self.links.remove(&peer_id);
                    self.show_links();
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => self.on_dial_failed(peer_id, &error),
            SwarmEvent::IncomingConnectionError {
                send_back_addr, error, ..
            } => {
                self.metrics.dialed("inbound_failed");
                let denied = matches!(error, ListenError::Denied { .. });
                debug!(from = %send_back_addr, denied, %error, "an inbound connection was not made");
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                info!(%address, "listening");
                self.listening.send_modify(|list| list.push(address));
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.listening
                    .send_modify(|list| list.retain(|known| *known != address));
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                warn!(?addresses, ?reason, "a listener closed");
                self.listening
                    .send_modify(|list| list.retain(|known| !addresses.contains(known)));
            }
            SwarmEvent::ListenerError { error, .. } => warn!(%error, "a listener failed to take a connection"),
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => {
                let Some(source) = message.source else { return };
                let gossip = Gossip {
                    source,
                    from: propagation_source,
                    id: message_id,
                    data: message.data,
                };
                if self.gossip.try_send(gossip).is_err() {
                    self.metrics.dropped("gossip_waiting", "full");
                }
            }
            BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result: Err(ping::Failure::Timeout),
            }) => {
                debug!(%peer, "no answer to a ping, closing the connection");
                self.swarm.close_connection(connection);
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                let takes_unsigned = info
                    .protocols
                    .iter()
                    .any(|name| name.as_ref() == protocol::TAKES_UNSIGNED);
                if let Some(link) = self
                    .links
                    .get_mut(&peer_id)
                    .filter(|link| link.takes_unsigned != takes_unsigned)
                {
                    link.takes_unsigned = takes_unsigned;
                    self.show_links();
                }
            }
            _ => {}
        }
    }

    fn on_connected(&mut self, peer: PeerId, endpoint: &ConnectedPoint) {
        self.metrics.connections.set(i64::from(
            self.swarm.network_info().connection_counters().num_established(),
        ));
        self.metrics
            .dialed(if endpoint.is_dialer() { "outbound" } else { "inbound" });
        debug!(%peer, address = %endpoint.get_remote_address(), dialled = endpoint.is_dialer(), "connected");
        if !self.may_be_connected(&peer) {
            self.refusals
                .refuse("unknown_peer", &peer.to_string(), "discovery.unknown_peers is refuse");
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        }
        let link = self.links.entry(peer).or_default();
        link.address = Some(endpoint.get_remote_address().clone());
        self.show_links();
        for reply in self.dials.remove(&peer).into_iter().flatten() {
            let _ = reply.send(Ok(()));
        }
    }

    fn on_dial_failed(&mut self, peer: Option<PeerId>, error: &DialError) {
        self.metrics.dialed("outbound_failed");
        debug!(?peer, error = %explain(error), "a dial failed");
        let waiting = peer
            .filter(|peer| !self.swarm.is_connected(peer))
            .and_then(|peer| self.dials.remove(&peer));
        for reply in waiting.into_iter().flatten() {
            let _ = reply.send(Err(explain(error)));
        }
    }

    fn show_links(&self) {
        self.connected.send_replace(Arc::new(self.links.clone()));
    }
}

/// A dial's error in one line, the transport's nested causes spelled out.
fn explain(error: &DialError) -> ConnectError {
    match error {
        DialError::NoAddresses => ConnectError::NoAddress,
        DialError::Denied { cause } if cause.downcast_ref::<allow_block_list::Blocked>().is_some() => {
            ConnectError::Blocked
        }
        DialError::Transport(failures) => {
            let each = failures
                .iter()
                .map(|(address, why)| format!("{address}: {}", innermost(why)));
            ConnectError::Failed(each.collect::<Vec<_>>().join("; "))
        }
        other => ConnectError::Failed(innermost(other)),
    }
}

/// Another key shows only after its handshake: what is read then is noise, and whoever notices first hangs up.
const OTHER_PSK: &str = " (is the PSK the same on both sides?)";

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut hint = "";
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(NegotiationError::ProtocolError(_)) = cause.downcast_ref() {
            hint = OTHER_PSK;
        }
        // One line, whatever the far side or a library wrote into it.
        let text = cause.to_string();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = text.trim_matches([':', ' ']).to_owned();
        if !text.is_empty() && !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    let told: String = parts.join(": ").chars().take(300).collect();
    told + hint
}
