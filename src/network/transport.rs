//! Builds the byte transport: TCP and DNS, the private network's cipher, noise or TLS, yamux.
//!
//! Owns the order of these layers. Never decides whom to talk to. Always: with a PSK no byte leaves that is not under
//! it, and every handshake has one deadline for all of its layers.

use super::fresh_port::FreshPort;
use super::private::Private;
use super::security::{Security, SecurityError};
use super::spelled::SpelledMuxer;
use crate::identity::Psk;
use futures::future::Either;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeoutError;
use libp2p::core::upgrade::Version;
use libp2p::identity::{Keypair, PeerId};
use libp2p::{Transport, dns, tcp, yamux};
use std::time::Duration;

/// Streams one connection may carry at a time, both directions. The far side buffers up to 256 KiB for each, so this
/// bounds what a hostile peer can make us hold; past it yamux ends the connection, so it lies above what all protocols
/// together may have open.
const STREAMS_PER_CONNECTION: usize = 1024;

/// Why the transport could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The security handshakes could not be prepared.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The system's resolver configuration is unreadable.
    #[error("cannot read the system's DNS configuration (/etc/resolv.conf): {0}")]
    Dns(#[from] std::io::Error),
}

/// The whole transport. `psk: None` is an open network and only ever the operator's explicit wish.
///
/// # Errors
/// See [`TransportError`].
pub fn build(
    keypair: &Keypair,
    psk: Option<Psk>,
    handshake_timeout: Duration,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, TransportError> {
    let tcp = FreshPort(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)));
    let tcp = dns::tokio::Transport::system(tcp)?;
    let shielded = tcp.and_then(move |socket, _| async move {
        Ok::<_, PskError>(match psk {
            Some(psk) => Either::Left(Private::handshake(&psk, socket).await.map_err(PskError)?),
            None => Either::Right(socket),
        })
    });
    let mut mux = yamux::Config::default();
    mux.set_max_num_streams(STREAMS_PER_CONNECTION);
    Ok(shielded
        .upgrade(Version::V1Lazy)
        .authenticate(Security::new(keypair)?)
        .multiplex(mux)
        .timeout(handshake_timeout)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(SpelledMuxer::new(muxer))))
        .map_err(HandshakeError::from)
        .boxed())
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    /// With another PSK on the other side each waits for the rest of what it takes for a message.
    #[error("no answer in time (is the PSK the same on both sides?)")]
    Timeout,
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl<E: std::error::Error + Send + Sync + 'static> From<TransportTimeoutError<E>> for HandshakeError {
    fn from(error: TransportTimeoutError<E>) -> Self {
        match error {
            TransportTimeoutError::Timeout => Self::Timeout,
            other => Self::Other(Box::new(other)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("private network handshake: {0} (is the PSK the same on both sides?)")]
struct PskError(std::io::Error);
