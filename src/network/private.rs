//! The private network: each side says a nonce, and whatever comes after it is under the network's key. The form is that of
//! libp2p's specification "Pre-shared Key Based Private Networks".
//!
//! Owns this layer of a connection. Never knows whether the other side has the same key: with another one what is read is
//! noise, and the handshake above does not come to its end. Always: what is accepted for writing is encrypted once, in its
//! order, and at most [`PIECE`] bytes of it wait for the socket.

use crate::identity::Psk;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use oc_xsalsa::{Keystream, NONCE};
use rand::RngCore;
use rand::rngs::OsRng;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Bytes encrypted at a time.
const PIECE: usize = 32 * 1024;

/// A socket under the network's key.
pub(super) struct Private<S> {
    socket: S,
    reads: Keystream,
    writes: Keystream,
    /// Encrypted, and from `written` on still to be written.
    waiting: Vec<u8>,
    written: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Private<S> {
    /// Says our nonce and hears the other one's.
    ///
    /// # Errors
    /// The socket's.
    pub(super) async fn handshake(psk: &Psk, mut socket: S) -> io::Result<Self> {
        let (mut ours, mut theirs) = ([0; NONCE], [0; NONCE]);
        OsRng.fill_bytes(&mut ours);
        socket.write_all(&ours).await?;
        socket.flush().await?;
        socket.read_exact(&mut theirs).await?;
        Ok(Self {
            socket,
            reads: Keystream::new(psk.bytes(), &theirs),
            writes: Keystream::new(psk.bytes(), &ours),
            waiting: Vec::new(),
            written: 0,
        })
    }

    /// Writes what waits, to its end.
    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.socket).poll_write(context, rest)) {
                Ok(0) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.waiting.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Private<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let read = ready!(Pin::new(&mut this.socket).poll_read(context, into))?;
        this.reads.apply(into.get_mut(..read).unwrap_or_default());
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Private<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_waiting(context))?;
        let piece = from.get(..PIECE).unwrap_or(from);
        this.waiting.extend_from_slice(piece);
        this.writes.apply(&mut this.waiting);
        // What the socket does not take now waits: it counts as written, since it cannot be encrypted once more.
        match this.poll_waiting(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(piece.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(context))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(context))?;
        Pin::new(&mut self.socket).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::generate_psk;
    use libp2p::pnet::{PnetConfig, PreSharedKey};
    use tokio_util::compat::TokioAsyncReadCompatExt;

    /// Through a pipe that holds little, so that writes are cut and wait.
    async fn crosses(size: usize) {
        let psk = generate_psk();
        let theirs: PreSharedKey = psk.to_key_file().parse().unwrap();
        let (near, far) = tokio::io::duplex(1000);
        let (near, far) = tokio::join!(
            Private::handshake(&psk, near.compat()),
            PnetConfig::new(theirs).handshake(far.compat()),
        );
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        let sent: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let (mut here, mut there) = (vec![0; size], vec![0; size]);
        let write = async {
            near.write_all(&sent).await.unwrap();
            near.flush().await.unwrap();
        };
        tokio::join!(write, async { far.read_exact(&mut there).await.unwrap() });
        let write = async {
            far.write_all(&sent).await.unwrap();
            far.flush().await.unwrap();
        };
        tokio::join!(write, async { near.read_exact(&mut here).await.unwrap() });
        assert!(here == sent && there == sent, "{size}");
        near.close().await.unwrap();
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn libp2ps_own_layer_understands_it_and_is_understood() {
        for size in [0, 1, 999, PIECE, PIECE + 1, 300_000] {
            crosses(size).await;
        }
    }

    #[tokio::test]
    async fn under_another_key_nothing_is_understood() {
        let (near, far) = tokio::io::duplex(1000);
        let (one, other) = (generate_psk(), generate_psk());
        let (near, far) = tokio::join!(
            Private::handshake(&one, near.compat()),
            Private::handshake(&other, far.compat())
        );
        near.unwrap().write_all(b"/multistream/1.0.0").await.unwrap();
        let mut heard = [0; 18];
        far.unwrap().read_exact(&mut heard).await.unwrap();
        assert_ne!(&heard, b"/multistream/1.0.0");
    }
}
