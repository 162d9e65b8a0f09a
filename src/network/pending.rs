//! Bounds the connections of one address that have not said yet who they are.
//!
//! Owns that count. Never asks anybody. Always: whoever holds the handshakes of one address open keeps newcomers of that
//! address waiting, not those of others.

use super::source::Source;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    dummy,
};
use libp2p::{PeerId, swarm};
use std::collections::HashMap;
use std::convert::Infallible;
use std::task::{Context, Poll};

/// Handshakes under way with one address. One takes some milliseconds, so that even a whole site behind one address seldom
/// has as many; and it takes sixteen addresses to use up all that are allowed together.
pub(super) const PER_SOURCE: usize = 16;

/// One address has too many connections that have not said who they are.
#[derive(Debug, thiserror::Error)]
#[error("{PER_SOURCE} connections of {0} have not said yet who they are")]
pub(super) struct TooManyPending(pub(super) Source);

/// The count; see the module's first lines.
#[derive(Debug, Default)]
pub(super) struct Pending {
    of: HashMap<ConnectionId, Source>,
    counts: HashMap<Source, usize>,
}

impl Pending {
    fn began(&mut self, connection: ConnectionId, source: Source) -> Result<(), TooManyPending> {
        let count = self.counts.entry(source).or_default();
        if *count >= PER_SOURCE {
            return Err(TooManyPending(source));
        }
        *count += 1;
        self.of.insert(connection, source);
        Ok(())
    }

    fn ended(&mut self, connection: ConnectionId) {
        let Some(source) = self.of.remove(&connection) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&source);
            }
        }
    }
}

impl NetworkBehaviour for Pending {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        from: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.began(connection, Source::of(from)).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.ended(connection);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let FromSwarm::ListenFailure(swarm::ListenFailure { connection_id, .. }) = event {
            self.ended(connection_id);
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

    #[test]
    fn each_address_has_its_own_bound_and_gets_back_what_ends() {
        let (one, two) = (Source::V4([10, 0, 0, 1].into()), Source::V4([10, 0, 0, 2].into()));
        let mut pending = Pending::default();
        let ids: Vec<ConnectionId> = (0..40).map(ConnectionId::new_unchecked).collect();
        for id in &ids[..PER_SOURCE] {
            assert!(pending.began(*id, one).is_ok());
        }
        assert!(pending.began(ids[20], one).is_err());
        assert!(pending.began(ids[21], two).is_ok());
        pending.ended(ids[20]);
        assert!(
            pending.began(ids[22], one).is_err(),
            "one that was refused gives nothing back"
        );
        pending.ended(ids[0]);
        pending.ended(ids[0]);
        assert!(pending.began(ids[22], one).is_ok());
        assert!(pending.began(ids[23], one).is_err());
        for id in ids {
            pending.ended(id);
        }
        assert!(pending.of.is_empty() && pending.counts.is_empty());
    }
}
