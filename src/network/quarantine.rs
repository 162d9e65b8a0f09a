//! How a connection waits: what a peer opens is held, unread, until its bar is lifted.
//!
//! Owns the bars, one a connected peer, and a behaviour in front of GossipSub that is still while the bar is down. Never
//! decides who may pass. Always: what was held goes on where it stood, so that a peer that is let in misses nothing.

use futures::FutureExt;
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The bars of all connected peers.
#[derive(Debug, Clone, Default)]
pub(super) struct Bars(Arc<Mutex<HashMap<PeerId, CancellationToken>>>);

impl Bars {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<PeerId, CancellationToken>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The bar of a peer that has a connection or is getting one: down, unless it was lifted.
    pub(super) fn of(&self, peer: PeerId) -> Bar {
        let token = self.with(|bars| bars.entry(peer).or_default().clone());
        Bar((!token.is_cancelled()).then(|| Box::pin(token.cancelled_owned())))
    }

    /// Whether the bar of a connected peer was lifted.
    pub(super) fn is_lifted(&self, peer: &PeerId) -> bool {
        self.with(|bars| bars.get(peer).is_some_and(CancellationToken::is_cancelled))
    }

    /// Lifts it, for good.
    pub(super) fn lift(&self, peer: &PeerId) {
        if let Some(token) = self.with(|bars| bars.get(peer).cloned()) {
            token.cancel();
        }
    }

    /// The peer's last connection has ended: at its next one the bar is down again.
    pub(super) fn forget(&self, peer: &PeerId) {
        self.with(|bars| bars.remove(peer));
    }
}

/// A connection's view of its peer's bar; nothing is left of it once it is lifted.
#[derive(Debug)]
pub(super) struct Bar(Option<Pin<Box<WaitForCancellationFutureOwned>>>);

impl Bar {
    /// Ready when it is lifted.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(down) = &mut self.0 {
            ready!(down.poll_unpin(context));
            self.0 = None;
        }
        Poll::Ready(())
    }

    /// Whether it was lifted, and seen to be so.
    pub(super) fn is_up(&self) -> bool {
        self.0.is_none()
    }
}

/// A behaviour whose connections wait.
pub(super) struct Quarantined<B> {
    pub(super) inner: B,
    bars: Bars,
}

impl<B> Quarantined<B> {
    pub(super) fn new(inner: B, bars: Bars) -> Self {
        Self { inner, bars }
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Quarantined<B> {
    type ConnectionHandler = Held<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        ours: &Multiaddr,
        theirs: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, ours, theirs)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner
            .handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        ours: &Multiaddr,
        theirs: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inner = self
            .inner
            .handle_established_inbound_connection(connection, peer, ours, theirs)?;
        Ok(Held {
            inner,
            bar: self.bars.of(peer),
        })
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        theirs: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inner = self
            .inner
            .handle_established_outbound_connection(connection, peer, theirs, role, port)?;
        Ok(Held {
            inner,
            bar: self.bars.of(peer),
        })
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(context)
    }
}

/// A handler that is not asked for anything while the bar is down: it opens nothing and reads nothing, and what the far
/// side writes on a stream of its own waits there, within that stream's window.
pub(super) struct Held<H> {
    inner: H,
    bar: Bar,
}

/// What a handler says when it is asked.
type Says<H> = ConnectionHandlerEvent<
    <H as ConnectionHandler>::OutboundProtocol,
    <H as ConnectionHandler>::OutboundOpenInfo,
    <H as ConnectionHandler>::ToBehaviour,
>;

impl<H: ConnectionHandler> ConnectionHandler for Held<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = H::InboundProtocol;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        self.inner.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Says<Self>> {
        ready!(self.bar.poll(context));
        self.inner.poll(context)
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.inner.poll_close(context)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.inner.on_behaviour_event(event);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        self.inner.on_connection_event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::task::noop_waker;

    #[test]
    fn a_bar_is_down_until_it_is_lifted_and_again_for_one_who_comes_back() {
        let (bars, peer) = (Bars::default(), PeerId::random());
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        let (mut first, mut second) = (bars.of(peer), bars.of(peer));
        assert!(first.poll(&mut context).is_pending() && !first.is_up());
        bars.lift(&PeerId::random());
        assert!(first.poll(&mut context).is_pending());
        bars.lift(&peer);
        assert!(first.poll(&mut context).is_ready() && second.poll(&mut context).is_ready());
        assert!(first.is_up() && bars.of(peer).is_up());
        bars.forget(&peer);
        assert!(!bars.of(peer).is_up());
    }
}
