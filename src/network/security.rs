//! Offers noise and TLS to the other side and takes whichever both know, noise first.
//!
//! Owns the choice of the security handshake and nothing else. Both handshakes prove the far PeerId, so whichever is
//! negotiated, a connection's PeerId is authentic.

use futures::future::{BoxFuture, Either, FutureExt, TryFutureExt};
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::identity::{Keypair, PeerId};
use libp2p::{noise, tls};

const NOISE: &str = "/noise";
const TLS: &str = "/tls/1.0.0";

/// What went wrong in the handshake that the two sides chose.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// The noise handshake failed.
    #[error("noise handshake: {0}")]
    Noise(#[from] noise::Error),
    /// The TLS handshake failed.
    #[error("TLS handshake: {0}")]
    Tls(#[from] tls::UpgradeError),
    /// Our own TLS certificate could not be made.
    #[error("cannot make the TLS certificate: {0}")]
    Certificate(#[from] tls::certificate::GenError),
}

/// Both handshakes, cloned for each connection.
#[derive(Clone)]
pub struct Security {
    noise: noise::Config,
    tls: tls::Config,
}

impl Security {
    /// Prepares both handshakes for `keypair`.
    ///
    /// # Errors
    /// When a certificate or static noise key cannot be derived from the key pair.
    pub fn new(keypair: &Keypair) -> Result<Self, SecurityError> {
        Ok(Self {
            noise: noise::Config::new(keypair)?,
            tls: tls::Config::new(keypair)?,
        })
    }
}

impl UpgradeInfo for Security {
    type Info = &'static str;
    type InfoIter = [&'static str; 2];

    fn protocol_info(&self) -> Self::InfoIter {
        [NOISE, TLS]
    }
}

/// The secured byte stream, whichever handshake made it.
type Secured<C> = Either<noise::Output<C>, tls::TlsStream<C>>;

impl<C> InboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = SecurityError;
    type Future = BoxFuture<'static, Result<Self::Output, SecurityError>>;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        if info == NOISE {
            let done = self.noise.upgrade_inbound(socket, info);
            done.map_ok(|(peer, io)| (peer, Either::Left(io))).err_into().boxed()
        } else {
            let done = self.tls.upgrade_inbound(socket, info);
            done.map_ok(|(peer, io)| (peer, Either::Right(io))).err_into().boxed()
        }
    }
}

impl<C> OutboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = SecurityError;
    type Future = BoxFuture<'static, Result<Self::Output, SecurityError>>;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        if info == NOISE {
            let done = self.noise.upgrade_outbound(socket, info);
            done.map_ok(|(peer, io)| (peer, Either::Left(io))).err_into().boxed()
        } else {
            let done = self.tls.upgrade_outbound(socket, info);
            done.map_ok(|(peer, io)| (peer, Either::Right(io))).err_into().boxed()
        }
    }
}
