//! The stream behaviour: negotiates one substream per protocol name and hands it over, both ways.
//!
//! Owns the hand-over and its bounds, and closes spare connections. Never reads or writes a byte of a stream. Always: an
//! inbound stream either reaches its inbox, once its peer's bar is lifted, or is reset and counted; and every request to
//! open ends in an answer, also when the connection dies.

use super::by_name::ByName;
use super::connections::Connections;
use super::pulse::{Pulse, Stream};
use super::quarantine::{Bar, Bars};
use super::start::IDLE;
use crate::telemetry::Refusals;
use crate::wire::protocol;
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    self, CloseConnection, ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId,
    FromSwarm, NetworkBehaviour, NotifyHandler, StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Streams being opened at once on one connection. Callers past it get [`OpenError::Busy`]: writers try again, questions
/// and answers are given up.
const OPENING_PER_CONNECTION: usize = 64;
/// Inbound streams of one connection that wait for a verdict about its peer. Enough for one of each protocol; a further one
/// is reset and counted.
const HELD_PER_CONNECTION: usize = 16;

/// A stream that a peer opened to us.
pub struct Incoming {
    /// The authenticated opener.
    pub peer: PeerId,
    /// Which protocol it negotiated.
    pub protocol: StreamProtocol,
    /// The stream itself; dropping it unclosed resets it.
    pub stream: Stream,
    /// Holds this stream's place under the per-peer bound for as long as it lives.
    pub place: Place,
}

/// Where inbound streams of one protocol go.
pub type Inbox = mpsc::Sender<Incoming>;

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// No connection to that peer.
    #[error("not connected")]
    NotConnected,
    /// The connection closed before the stream was open.
    #[error("the connection closed while the stream was being opened")]
    Gone,
    /// The far side does not know the protocol.
    #[error("the peer does not speak {0}")]
    Unsupported(StreamProtocol),
    /// Negotiation failed or took too long.
    #[error("opening the stream failed: {0}")]
    Failed(String),
    /// Too many streams are being opened to that peer.
    #[error("too many streams are being opened to this peer")]
    Busy,
}

/// One place under the bound of inbound streams per peer and protocol, given back on drop.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The inboxes and bounds, the same for all connections.
struct Doors {
    inboxes: Vec<(StreamProtocol, Inbox)>,
    per_protocol: usize,
    refusals: Refusals,
}

impl Doors {
    fn dropped(&self, reason: &'static str, peer: &PeerId, detail: impl std::fmt::Display) {
        self.refusals
            .dropped("stream_inbox", reason, 1, &peer.to_string(), detail);
    }
}

/// How many inbound streams of each protocol one peer holds, over all of its connections.
struct Held(Vec<Arc<AtomicUsize>>);

type Reply = oneshot::Sender<Result<Stream, OpenError>>;

/// A wish to open a stream, on its way to a connection's handler.
#[derive(Debug)]
pub struct Open {
    protocol: StreamProtocol,
    reply: Reply,
}

/// What the behaviour tells a connection's handler.
#[derive(Debug)]
pub enum ToHandler {
    /// Open a stream.
    Open(Open),
    /// Keep this connection although no stream is open, or no longer.
    Keep(bool),
}

/// The behaviour; see the module's first lines.
pub struct Streams {
    doors: Arc<Doors>,
    held: HashMap<PeerId, Arc<Held>>,
    bars: Bars,
    connections: Connections,
    pulses: HashMap<ConnectionId, Pulse>,
    /// Spare connections without a stream, and since when.
    unused: HashMap<ConnectionId, Instant>,
    keep: HashSet<PeerId>,
    out: VecDeque<ToSwarm<Infallible, ToHandler>>,
}

impl Streams {
    /// `inboxes` lists every protocol served, `per_protocol` the inbound streams one peer may hold of each.
    #[must_use]
    pub(super) fn new(
        local: PeerId,
        inboxes: Vec<(StreamProtocol, Inbox)>,
        per_protocol: usize,
        bars: Bars,
        refusals: Refusals,
    ) -> Self {
        Self {
            doors: Arc::new(Doors {
                inboxes,
                per_protocol,
                refusals,
            }),
            held: HashMap::new(),
            bars,
            connections: Connections::new(local),
            pulses: HashMap::new(),
            unused: HashMap::new(),
            keep: HashSet::new(),
            out: VecDeque::new(),
        }
    }

    /// Asks for a stream to `peer`; the answer comes by `reply`.
    pub fn open(&mut self, peer: PeerId, protocol: StreamProtocol, reply: Reply) {
        let Some(connection) = self.connections.preferred(&peer) else {
            let _ = reply.send(Err(OpenError::NotConnected));
            return;
        };
        self.notify(peer, connection, ToHandler::Open(Open { protocol, reply }));
    }

    /// Says which peers' connections stay although nothing is open on them.
    pub fn keep(&mut self, keep: HashSet<PeerId>) {
        let changed: Vec<PeerId> = self.keep.symmetric_difference(&keep).copied().collect();
        self.keep = keep;
        for peer in changed {
            self.tell_keep(&peer);
        }
    }

    /// Of several connections to a kept peer only the preferred one stays although nothing is open on it.
    fn tell_keep(&mut self, peer: &PeerId) {
        let preferred = self.connections.preferred(peer);
        for connection in self.connections.of(peer) {
            if let Some(pulse) = self.pulses.get(&connection) {
                pulse.set_preferred(Some(connection) == preferred);
            }
        }
        let preferred = preferred.filter(|_| self.keep.contains(peer));
        for connection in self.connections.of(peer) {
            self.notify(*peer, connection, ToHandler::Keep(Some(connection) == preferred));
        }
    }

    fn notify(&mut self, peer_id: PeerId, connection: ConnectionId, event: ToHandler) {
        self.out.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(connection),
            event,
        });
    }

    /// Closes every spare connection that had none of our streams for as long as an idle one may stay. By itself it would
    /// stay, since gossip may have a stream on it.
    pub fn close_spare(&mut self, now: Instant) {
        let spare: HashMap<ConnectionId, PeerId> = self
            .connections
            .spare()
            .filter(|(_, connection)| self.pulses.get(connection).is_some_and(|pulse| pulse.streams() == 0))
            .map(|(peer, connection)| (connection, peer))
            .collect();
        self.unused.retain(|connection, _| spare.contains_key(connection));
        for (connection, peer_id) in spare {
            let since = *self.unused.entry(connection).or_insert(now);
            if now.saturating_duration_since(since) >= IDLE {
                self.out.push_back(ToSwarm::CloseConnection {
                    peer_id,
                    connection: CloseConnection::One(connection),
                });
            }
        }
    }

    /// The signs of life of a connection that stands.
    pub fn pulse(&self, connection: ConnectionId) -> Option<&Pulse> {
        self.pulses.get(&connection)
    }

    fn handler(&mut self, peer: PeerId, connection: ConnectionId) -> Handler {
        let doors = Arc::clone(&self.doors);
        let held = Arc::clone(self.held.entry(peer).or_insert_with(|| {
            Arc::new(Held(
                doors.inboxes.iter().map(|_| Arc::new(AtomicUsize::new(0))).collect(),
            ))
        }));
        // This behaviour is asked last: nobody refuses the connection after it, and its end will be told.
        let pulse = Pulse::new();
        self.pulses.insert(connection, pulse.clone());
        Handler {
            peer,
            pulse,
            doors,
            held,
            bar: self.bars.of(peer),
            barred: VecDeque::new(),
            keep: self.keep.contains(&peer),
            wishes: VecDeque::new(),
            opening: 0,
        }
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, connection))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, connection))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(made) => {
                self.connections
                    .opened(made.peer_id, made.connection_id, made.endpoint.is_dialer());
                self.tell_keep(&made.peer_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id,
                remaining_established,
                ..
            }) => {
                self.connections.closed(&peer_id, connection_id);
                self.pulses.remove(&connection_id);
                self.tell_keep(&peer_id);
                if remaining_established == 0 {
                    self.held.remove(&peer_id);
                    self.bars.forget(&peer_id);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.out.pop_front() {
            Some(step) => Poll::Ready(step),
            None => Poll::Pending,
        }
    }
}

/// One connection's end of the behaviour.
pub struct Handler {
    peer: PeerId,
    pulse: Pulse,
    doors: Arc<Doors>,
    held: Arc<Held>,
    bar: Bar,
    /// What was opened to us while the bar is down.
    barred: VecDeque<(swarm::Stream, StreamProtocol)>,
    keep: bool,
    wishes: VecDeque<Open>,
    opening: usize,
}

impl Handler {
    /// Takes a stream in, or holds it while nobody has said who its peer is.
    fn arrived(&mut self, stream: swarm::Stream, protocol: StreamProtocol) {
        if self.bar.is_up() {
            self.take_in(stream, protocol);
        } else if self.barred.len() < HELD_PER_CONNECTION {
            self.barred.push_back((stream, protocol));
        } else {
            self.doors.dropped(
                "quarantined",
                &self.peer,
                "too many streams of a peer that is being looked up",
            );
        }
    }

    fn take_in(&self, stream: swarm::Stream, protocol: StreamProtocol) {
        let Some(index) = self.doors.inboxes.iter().position(|(known, _)| *known == protocol) else {
            return self
                .doors
                .dropped("not_served", &self.peer, format_args!("{protocol} is only advertised"));
        };
        let (Some((_, inbox)), Some(count)) = (self.doors.inboxes.get(index), self.held.0.get(index)) else {
            return;
        };
        if count.fetch_add(1, Ordering::AcqRel) >= self.doors.per_protocol {
            count.fetch_sub(1, Ordering::AcqRel);
            let detail = format_args!("{protocol}: limits.streams_per_protocol is {}", self.doors.per_protocol);
            self.doors.dropped("too_many_streams", &self.peer, detail);
            return;
        }
        let (peer, place) = (self.peer, Place(Arc::clone(count)));
        let stream = Stream::new(stream, self.pulse.clone());
        let incoming = Incoming {
            peer,
            protocol,
            stream,
            place,
        };
        if inbox.try_send(incoming).is_err() {
            self.doors
                .dropped("full", &peer, "more streams were opened than are looked at");
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = ToHandler;
    type ToBehaviour = Infallible;
    type InboundProtocol = ByName;
    type OutboundProtocol = ByName;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Open;

    fn listen_protocol(&self) -> SubstreamProtocol<ByName> {
        let served = self.doors.inboxes.iter().map(|(name, _)| name.clone());
        let told = std::iter::once(StreamProtocol::new(protocol::TAKES_UNSIGNED));
        SubstreamProtocol::new(ByName(served.chain(told).collect()), ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.keep || self.opening > 0 || !self.wishes.is_empty()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<ByName, Open, Infallible>> {
        if self.bar.poll(context).is_ready() {
            while let Some((stream, protocol)) = self.barred.pop_front() {
                self.take_in(stream, protocol);
            }
        }
        match self.wishes.pop_front() {
            Some(open) => {
                self.opening += 1;
                let protocol = SubstreamProtocol::new(ByName(vec![open.protocol.clone()]), open);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, event: ToHandler) {
        match event {
            ToHandler::Keep(keep) => self.keep = keep,
            ToHandler::Open(open) if self.opening + self.wishes.len() >= OPENING_PER_CONNECTION => {
                let _ = open.reply.send(Err(OpenError::Busy));
            }
            ToHandler::Open(open) => self.wishes.push_back(open),
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, ByName, ByName, (), Open>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol),
                ..
            }) => self.arrived(stream, protocol),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _),
                info,
            }) => {
                self.opening = self.opening.saturating_sub(1);
                let _ = info.reply.send(Ok(Stream::new(stream, self.pulse.clone())));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.opening = self.opening.saturating_sub(1);
                let error = match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported(info.protocol),
                    StreamUpgradeError::Timeout => OpenError::Failed("no answer in time".into()),
                    StreamUpgradeError::Io(error) => OpenError::Failed(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = info.reply.send(Err(error));
            }
            _ => {}
        }
    }
}
