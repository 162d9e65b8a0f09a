//! Bounds connections: in all, of one peer, and those under way in each direction.
//!
//! Owns the counts. Never asks anybody. Always: whoever is counted on passes the bound of all; only peers that are connected are
//! remembered, however many were once (libp2p's own behaviour for this keeps an entry of each for ever).

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::behaviour::{ConnectionEstablished, DialFailure, ListenFailure};
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::task::{Context, Poll};

/// The bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Connections in all.
    pub(super) all: usize,
    /// With one peer, whoever it is.
    pub(super) of_peer: usize,
    /// Under way, each way: a flood of half-open connections costs at most this many.
    pub(super) pending: usize,
}

/// There are as many as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Exceeded {
    #[error("there are {0} connections, as many as may be")]
    All(usize),
    #[error("this peer has {0} connections, as many as it may have")]
    OfPeer(usize),
    #[error("{0} connections are under way, as many as may be")]
    Pending(usize),
}

/// The counts; see the module's first lines.
#[derive(Debug)]
pub(super) struct Limits {
    bounds: Bounds,
    counted_on: HashSet<PeerId>,
    arriving: HashSet<ConnectionId>,
    dialled: HashSet<ConnectionId>,
    open: usize,
    of_peer: HashMap<PeerId, usize>,
}

impl Limits {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            counted_on: HashSet::new(),
            arriving: HashSet::new(),
            dialled: HashSet::new(),
            open: 0,
            of_peer: HashMap::new(),
        }
    }

    /// These pass the bound of all, and no others.
    pub(super) fn count_on(&mut self, peers: HashSet<PeerId>) {
        self.counted_on = peers;
    }

    fn began(pending: &mut HashSet<ConnectionId>, connection: ConnectionId, most: usize) -> Result<(), Exceeded> {
        if pending.len() >= most {
            return Err(Exceeded::Pending(most));
        }
        pending.insert(connection);
        Ok(())
    }

    fn is_over(&mut self, connection: ConnectionId) {
        self.arriving.remove(&connection);
        self.dialled.remove(&connection);
    }

    /// Whether the peer may have a further connection.
    fn may_open(&self, peer: &PeerId) -> Result<(), Exceeded> {
        let Bounds { all, of_peer, .. } = self.bounds;
        if self.of_peer.get(peer).is_some_and(|count| *count >= of_peer) {
            return Err(Exceeded::OfPeer(of_peer));
        }
        if self.open >= all && !self.counted_on.contains(peer) {
            return Err(Exceeded::All(all));
        }
        Ok(())
    }

    fn opened(&mut self, peer: PeerId) {
        self.open += 1;
        *self.of_peer.entry(peer).or_default() += 1;
    }

    fn closed(&mut self, peer: &PeerId) {
        self.open = self.open.saturating_sub(1);
        if let Some(count) = self.of_peer.get_mut(peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_peer.remove(peer);
            }
        }
    }
}

impl NetworkBehaviour for Limits {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        Self::began(&mut self.arriving, connection, self.bounds.pending).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.is_over(connection);
        self.may_open(&peer).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if peer.is_none_or(|peer| !self.counted_on.contains(&peer)) {
            Self::began(&mut self.dialled, connection, self.bounds.pending).map_err(ConnectionDenied::new)?;
        }
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.is_over(connection);
        self.may_open(&peer).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, .. }) => self.opened(peer_id),
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, .. }) => self.closed(&peer_id),
            FromSwarm::DialFailure(DialFailure { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => self.is_over(connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        all: 3,
        of_peer: 2,
        pending: 2,
    };

    #[test]
    fn who_is_counted_on_passes_the_bound_of_all_and_nobody_that_of_a_peer() {
        let (mut limits, one, other) = (Limits::new(BOUNDS), PeerId::random(), PeerId::random());
        for _ in 0..2 {
            assert_eq!(limits.may_open(&one), Ok(()));
            limits.opened(one);
        }
        assert_eq!(limits.may_open(&one), Err(Exceeded::OfPeer(2)));
        limits.opened(PeerId::random());
        assert_eq!(limits.may_open(&other), Err(Exceeded::All(3)));
        limits.count_on(HashSet::from([one, other]));
        assert_eq!(limits.may_open(&other), Ok(()));
        assert_eq!(limits.may_open(&one), Err(Exceeded::OfPeer(2)));
        limits.count_on(HashSet::new());
        limits.closed(&one);
        assert_eq!(limits.may_open(&one), Ok(()));
    }

    #[test]
    fn nobody_who_has_gone_is_remembered() {
        let mut limits = Limits::new(BOUNDS);
        for _ in 0..100 {
            let peer = PeerId::random();
            limits.opened(peer);
            limits.opened(peer);
            limits.closed(&peer);
            limits.closed(&peer);
            // Told twice, it counts once.
            limits.closed(&peer);
        }
        assert_eq!((limits.open, limits.of_peer.len()), (0, 0));
    }

    #[test]
    fn each_way_has_its_bound_of_those_under_way() {
        let mut limits = Limits::new(BOUNDS);
        let (at, id) = (Multiaddr::empty(), ConnectionId::new_unchecked);
        let arrives = |limits: &mut Limits, n| limits.handle_pending_inbound_connection(id(n), &at, &at).is_ok();
        let dial = |limits: &mut Limits, n, peer| {
            let dialled = limits.handle_pending_outbound_connection(id(n), peer, &[], Endpoint::Dialer);
            dialled.is_ok()
        };
        assert!(arrives(&mut limits, 1) && arrives(&mut limits, 2) && !arrives(&mut limits, 3));
        assert!(dial(&mut limits, 4, None) && dial(&mut limits, 5, None) && !dial(&mut limits, 6, None));
        let needed = PeerId::random();
        limits.count_on(HashSet::from([needed]));
        assert!(dial(&mut limits, 7, Some(needed)), "whom we need is dialled");
        limits.is_over(id(1));
        limits.is_over(id(4));
        assert!(arrives(&mut limits, 8) && !arrives(&mut limits, 9));
        assert!(dial(&mut limits, 10, None) && !dial(&mut limits, 11, None));
    }
}
