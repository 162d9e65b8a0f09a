//! The one actor that owns the swarm: takes commands, runs libp2p, publishes who is connected.
//!
//! Owns every connection, and puts into effect what the gate decides about strangers. Never waits for anybody above it: what it tells goes by watched levels or by a bounded
//! queue that drops and counts. Always: a dial is answered when it succeeds, fails, or the peer connects by itself.

use super::accepting::{Untaken, next_step};
use super::dht::{Dht, Offered};
use super::dht_store::DhtStore;
use super::explain::explain;
use super::gate::{Gate, Standing, Told};
use super::gossip::{Gossip, GossipVerdict, MAX_QUESTION, NotJudged, PublishError, Waiting};
use super::limits::Limits;
use super::pending::Pending;
use super::quarantine::{Bars, Quarantined};
use super::reach::reach_of;
use super::source::Source;
use super::start::{IDLE, PING_TIMEOUT};
use super::streams::Streams;
use super::{Command, ConnectError, Connected, Link, PeerView, SeenAt, Stranger};
use crate::telemetry::{Metrics, Refusals};
use crate::wire::protocol;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use libp2p::allow_block_list::{self, BlockedPeers};
use libp2p::core::ConnectedPoint;
use libp2p::gossipsub::{self, IdentTopic, MessageAcceptance};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{DialError, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, kad, ping};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) blocked: allow_block_list::Behaviour<BlockedPeers>,
    pub(super) limits: Limits,
    pub(super) pending: Pending,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) gossip: Quarantined<gossipsub::Behaviour>,
    pub(super) dht: Quarantined<kad::Behaviour<DhtStore>>,
    /// The last: who is asked after it could refuse a connection that it counts on.
    pub(super) streams: Streams,
}

pub(super) type DialReply = oneshot::Sender<Result<(), ConnectError>>;

pub(super) struct Actor {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) links: HashMap<PeerId, Link>,
    pub(super) connected: watch::Sender<Connected>,
    pub(super) listening: watch::Sender<Vec<Multiaddr>>,
    pub(super) gossip: Waiting,
    /// Callers waiting for a peer.
    pub(super) dials: HashMap<PeerId, Vec<DialReply>>,
    /// Queries under way, and where what others want kept is judged.
    pub(super) dht: Dht,
    pub(super) offered: mpsc::Sender<Offered>,
    /// Where others see us.
    pub(super) seen_at: watch::Sender<SeenAt>,
    /// Who waits for a verdict, and what holds them.
    pub(super) gate: Gate,
    pub(super) bars: Bars,
    /// To whoever can tell, and the answers that are due; at most one for each look-up that the gate allows.
    pub(super) strangers: mpsc::Sender<Stranger>,
    pub(super) look_ups: FuturesUnordered<BoxFuture<'static, (PeerId, Told)>>,
    /// What listeners could not take.
    pub(super) untaken: Untaken,
    pub(super) metrics: Metrics,
    pub(super) refusals: Refusals,
}

impl Actor {
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut tidy = tokio::time::interval(IDLE / 2);
        loop {
            let due = self.gate.due();
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = tidy.tick() => {
                    self.swarm.behaviour_mut().streams.close_spare(Instant::now());
                    self.sweep_dht();
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                Some((peer, told)) = self.look_ups.next() => self.told(peer, told),
                () = at(due) => self.let_overdue_go(),
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
            Command::Know { peers, allow_unknown } => self.know(peers, allow_unknown),
            Command::Need { peers } => self.need(peers),
            Command::Admit { peer } => self.admit(peer),
            Command::Tell { addresses } => self.tell(addresses),
            Command::View { peer, reply } => drop(reply.send(self.view(peer))),
            Command::Dht(command) => self.ask_dht(command),
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
            self.swarm.behaviour_mut().gossip.inner.remove_blacklisted_peer(peer);
        }
        for peer in peers {
            if self.swarm.behaviour_mut().blocked.block_peer(*peer) {
                self.swarm.behaviour_mut().gossip.inner.blacklist_peer(peer);
            }
        }
    }

    /// These addresses are ours, and no others, for whoever asks.
    fn tell(&mut self, addresses: Vec<Multiaddr>) {
        let before: Vec<Multiaddr> = self.swarm.external_addresses().cloned().collect();
        for gone in before.iter().filter(|old| !addresses.contains(old)) {
            self.swarm.remove_external_address(gone);
        }
        for new in addresses.into_iter().filter(|new| !before.contains(new)) {
            self.swarm.add_external_address(new);
        }
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        self.swarm.behaviour_mut().identify.push(connected);
    }

    fn view(&self, peer: PeerId) -> PeerView {
        PeerView {
            connected: self.swarm.is_connected(&peer),
            blocked: self.swarm.behaviour().blocked.blocked_peers().contains(&peer),
            gate: self.gate.view(&peer, Instant::now()),
        }
    }

    fn publish(&mut self, topic: &'static str, data: Vec<u8>) -> Result<usize, PublishError> {
        if data.len() > MAX_QUESTION {
            let size = data.len();
            return Err(PublishError::Refused(format!(
                "a question of {size} bytes is too large for gossip, {MAX_QUESTION} are allowed"
            )));
        }
        let topic = IdentTopic::new(topic);
        let gossip = &mut self.swarm.behaviour_mut().gossip.inner;
        gossip.publish(topic.clone(), data)?;
        let hash = topic.hash();
        Ok(gossip.all_peers().filter(|(_, topics)| topics.contains(&&hash)).count())
    }

    fn judge(&mut self, verdict: GossipVerdict) {
        let gossip = &mut self.swarm.behaviour_mut().gossip.inner;
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
                    self.gate.left(&peer_id);
                    self.left_dht(&peer_id);
                    self.seen_at.send_modify(|seen| {
                        seen.remove(&peer_id);
                    });
                    self.links.remove(&peer_id);
                    self.show_links();
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => self.on_dial_failed(peer_id, &error),
            SwarmEvent::IncomingConnectionError {
                send_back_addr, error, ..
            } => {
                self.metrics.dialed("inbound_failed");
                self.count_denied(&send_back_addr, &error);
                debug!(from = %send_back_addr, %error, "an inbound connection was not made");
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
                let reason = reason.map_or_else(|error| error.to_string(), |()| "it was asked to".to_owned());
                warn!(?addresses, reason, "a listener closed");
                self.listening
                    .send_modify(|list| list.retain(|known| !addresses.contains(known)));
            }
            SwarmEvent::ListenerError { error, .. } => {
                if let Some(untold) = self.untaken.due(Instant::now()) {
                    let todo = next_step(&error.to_string());
                    warn!(%error, untold, todo, "a listener failed to take a connection");
                }
            }
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
                    room: None,
                };
                self.hear(gossip);
            }
            BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result: Err(ping::Failure::Timeout),
            }) => {
                // On a slow link the answer stands behind all the data that was written before it.
                let pulse = self.swarm.behaviour().streams.pulse(connection);
                if pulse.is_some_and(|pulse| pulse.quiet_for(Instant::now()) < PING_TIMEOUT) {
                    debug!(%peer, "no answer to a ping, but something else comes");
                } else {
                    debug!(%peer, "no answer to a ping, closing the connection");
                    self.swarm.close_connection(connection);
                }
            }
            BehaviourEvent::Dht(event) => self.on_dht(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                let speaks = info.protocols.iter().any(|name| name.as_ref() == protocol::KAD);
                self.seen_at.send_modify(|seen| {
                    seen.insert(peer_id, info.observed_addr.clone());
                });
                let told = |wanted| info.protocols.iter().any(|name| name.as_ref() == wanted);
                let takes = (told(protocol::TAKES_UNSIGNED), told(protocol::TAKES_PLAIN));
                if let Some(link) = self
                    .links
                    .get_mut(&peer_id)
                    .filter(|link| (link.takes_unsigned, link.takes_plain) != takes)
                {
                    (link.takes_unsigned, link.takes_plain) = takes;
                    self.show_links();
                }
                let near = self.links.get(&peer_id).map(|link| link.reach).unwrap_or_default();
                let listens = info.listen_addrs.into_iter().filter(|told| reach_of(told) >= near);
                self.told_listening(peer_id, speaks, listens.collect());
            }
            _ => {}
        }
    }

    /// A message goes up to be judged; one that cannot is given up at once, so that nothing keeps it until then.
    fn hear(&mut self, gossip: Gossip) {
        let (source, size) = (gossip.source.to_string(), gossip.data.len());
        let given_up = gossip.verdict(MessageAcceptance::Ignore);
        match self.gossip.take(gossip) {
            Ok(()) => return,
            Err(NotJudged::Full) => self.metrics.dropped("gossip_waiting", "full"),
            Err(NotJudged::TooLarge) => {
                let detail = format_args!("a message of {size} bytes; {MAX_QUESTION} are allowed");
                self.refusals.refuse("gossip_too_large", &source, detail);
            }
        }
        self.judge(given_up);
    }

    fn on_connected(&mut self, peer: PeerId, endpoint: &ConnectedPoint) {
        self.metrics.connections.set(i64::from(
            self.swarm.network_info().connection_counters().num_established(),
        ));
        self.metrics
            .dialed(if endpoint.is_dialer() { "outbound" } else { "inbound" });
        debug!(%peer, address = %endpoint.get_remote_address(), dialled = endpoint.is_dialer(), "connected");
        let source = Source::of(endpoint.get_remote_address());
        if let Entry::Vacant(place) = self.links.entry(peer) {
            place.insert(Link {
                takes_unsigned: false,
                takes_plain: false,
                source,
                reach: reach_of(endpoint.get_remote_address()),
            });
            self.show_links();
        }
        let barred = !self.bars.is_lifted(&peer);
        let standing = barred.then(|| self.gate.arrived(peer, source, Instant::now()));
        for reply in self.dials.remove(&peer).into_iter().flatten() {
            let refused = standing == Some(Standing::Refused);
            let _ = reply.send(if refused { Err(ConnectError::Unknown) } else { Ok(()) });
        }
        if let Some(standing) = standing {
            self.stands(peer, standing);
        }
    }

    fn on_dial_failed(&mut self, peer: Option<PeerId>, error: &DialError) {
        self.metrics.dialed("outbound_failed");
        debug!(peer = peer.map(tracing::field::display), error = %explain(error), "a dial failed");
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

/// Ends then; never without an instant.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
