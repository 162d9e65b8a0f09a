//! A transport that dials from a port of its own, whoever asks it to dial.
//!
//! Owns nothing. Always: no dial shares the port listened on. With a shared one, two peers that dial each other in the same
//! instant make one half-open connection out of two; behaviours of libp2p dial so, and cannot be told otherwise.

use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent};
use std::pin::Pin;
use std::task::{Context, Poll};

/// See the module's first lines.
pub(super) struct FreshPort<T>(pub(super) T);

impl<T: Transport + Unpin> Transport for FreshPort<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, wanted: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        let fresh = DialOpts {
            port_use: PortUse::New,
            ..wanted
        };
        self.0.dial(address, fresh)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.0).poll(context)
    }
}
