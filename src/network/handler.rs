//! One connection's end of the stream behaviour: opens streams, and takes in or holds those that the far side opens.
//!
//! Owns what is under way on its connection. Never decides who may pass: while the bar is down, streams that the peer opened
//! wait here unread, as many as it may have of one protocol. Always: a stream that is not handed over is reset and counted.

use super::by_name::ByName;
use super::pulse::{Pulse, Stream};
use super::quarantine::Bar;
use super::streams::{Inbox, Incoming, OpenError, Place};
use crate::telemetry::Refusals;
use crate::wire::protocol;
use libp2p::PeerId;
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    self, ConnectionHandler, ConnectionHandlerEvent, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// Streams being opened at once on one connection. Callers past it get [`OpenError::Busy`]: writers try again, questions
/// and answers are given up.
const OPENING_PER_CONNECTION: usize = 64;
/// What a peer may say before there is a verdict about it: by these it shows who it is.
const BEFORE_A_VERDICT: [&str; 3] = [protocol::HEARTBEAT, protocol::RECORD_GET, protocol::RECORD_PUBLISH];

/// The inboxes and bounds, the same for all connections.
pub(super) struct Doors {
    pub(super) inboxes: Vec<(StreamProtocol, Inbox)>,
    pub(super) per_protocol: usize,
    pub(super) refusals: Refusals,
}

impl Doors {
    fn dropped(&self, reason: &'static str, peer: &PeerId, detail: impl std::fmt::Display) {
        self.refusals
            .dropped("stream_inbox", reason, 1, &peer.to_string(), detail);
    }
}

/// How many inbound streams of each protocol one peer holds, over all of its connections.
pub(super) struct Held(pub(super) Vec<Arc<AtomicUsize>>);

pub(super) type Reply = oneshot::Sender<Result<Stream, OpenError>>;

/// A wish to open a stream, on its way to a connection's handler.
#[derive(Debug)]
pub struct Open {
    pub(super) protocol: StreamProtocol,
    pub(super) reply: Reply,
}

/// What the behaviour tells a connection's handler.
#[derive(Debug)]
pub enum ToHandler {
    /// Open a stream.
    Open(Open),
    /// Keep this connection although no stream is open, or no longer.
    Keep(bool),
}

/// One connection's end of the behaviour.
pub struct Handler {
    pub(super) peer: PeerId,
    pub(super) pulse: Pulse,
    pub(super) doors: Arc<Doors>,
    pub(super) held: Arc<Held>,
    pub(super) bar: Bar,
    /// What was opened to us while the bar is down.
    pub(super) barred: VecDeque<(swarm::Stream, StreamProtocol)>,
    pub(super) keep: bool,
    pub(super) wishes: VecDeque<Open>,
    pub(super) opening: usize,
}

impl Handler {
    /// Takes a stream in, or holds it while nobody has said who its peer is.
    fn arrived(&mut self, stream: swarm::Stream, protocol: StreamProtocol) {
        if self.bar.is_up() || BEFORE_A_VERDICT.contains(&protocol.as_ref()) {
            self.take_in(stream, protocol);
        } else if self.barred.len() < self.doors.per_protocol {
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
        let told = [protocol::TAKES_UNSIGNED, protocol::TAKES_PLAIN].map(StreamProtocol::new);
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
                let protocol = SubstreamProtocol::new(ByName::outbound(open.protocol.clone()), open);
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
                protocol: (stream, name),
                info,
            }) => {
                self.opening = self.opening.saturating_sub(1);
                let opened = match ByName::is_none(&name) {
                    false => Ok(Stream::new(stream, self.pulse.clone())),
                    true => Err(OpenError::Unsupported(info.protocol)),
                };
                let _ = info.reply.send(opened);
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
