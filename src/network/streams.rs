//! The stream behaviour: negotiates one substream per protocol name and hands it over, both ways.
//!
//! Owns the hand-over and its bounds, and closes spare connections. Never reads or writes a byte of a stream. Always: an
//! inbound stream either reaches its inbox, once its peer's bar is lifted, or is reset and counted; and every request to
//! open ends in an answer, also when the connection dies.

use super::connections::Connections;
use super::handler::{Doors, Handler, Held, Open, Reply, ToHandler};
use super::pulse::{Pulse, Stream};
use super::quarantine::Bars;
use super::start::IDLE;
use crate::telemetry::Refusals;
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::{
    CloseConnection, ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    StreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::mpsc;

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
pub struct Place(pub(super) Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
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
