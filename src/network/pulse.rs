//! The stream that is handed out, and the pulse of its connection: when anything was last read on any of its streams, how
//! many there are, and whether the connection is the preferred one of its peer.
//!
//! Owns these words about each connection. Never judges: who waits for a word asks it before giving the connection up,
//! since on a slow link a heartbeat stands behind all the data that was written before it. A pulse knows whole frames
//! (up to 16 KiB), so a link that needs longer than the asker's patience for one of them looks dead.

use futures::{AsyncRead, AsyncWrite};
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Signs of life of one connection.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Heard>);

#[derive(Debug)]
struct Heard {
    began: Instant,
    /// Milliseconds after `began`.
    last: AtomicU64,
    streams: AtomicUsize,
    preferred: AtomicBool,
}

impl Pulse {
    /// A connection that was made now.
    #[must_use]
    pub(super) fn new() -> Self {
        Self(Arc::new(Heard {
            began: Instant::now(),
            last: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            preferred: AtomicBool::new(true),
        }))
    }

    /// Something was read on it at `now`.
    fn note(&self, now: Instant) {
        let since = now.saturating_duration_since(self.0.began).as_millis();
        self.0
            .last
            .store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn set_preferred(&self, preferred: bool) {
        self.0.preferred.store(preferred, Ordering::Relaxed);
    }

    /// Streams handed out and not yet dropped.
    pub(super) fn streams(&self) -> usize {
        self.0.streams.load(Ordering::Acquire)
    }

    /// Whether new streams to this peer are opened on this connection. A long-lived stream on another one is better
    /// moved, so that the other can be closed.
    #[must_use]
    pub fn is_preferred(&self) -> bool {
        self.0.preferred.load(Ordering::Relaxed)
    }

    /// For how long nothing was read, or since the connection was made.
    #[must_use]
    pub fn quiet_for(&self, now: Instant) -> Duration {
        let last = Duration::from_millis(self.0.last.load(Ordering::Relaxed));
        now.saturating_duration_since(self.0.began).saturating_sub(last)
    }
}

/// A negotiated stream; what is read on it is a sign of life of its connection. Dropping it unclosed resets it.
#[derive(Debug)]
pub struct Stream {
    inner: libp2p::swarm::Stream,
    pulse: Pulse,
}

impl Stream {
    pub(super) fn new(inner: libp2p::swarm::Stream, pulse: Pulse) -> Self {
        pulse.0.streams.fetch_add(1, Ordering::AcqRel);
        Self { inner, pulse }
    }

    /// The signs of life of its connection, all streams together.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// See [`Pulse::is_preferred`].
    #[must_use]
    pub fn is_preferred(&self) -> bool {
        self.pulse.is_preferred()
    }

    fn heard(&self, read: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(read, Poll::Ready(Ok(1..))) {
            self.pulse.note(Instant::now());
        }
        read
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.pulse.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.heard(read)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.inner).poll_read_vectored(cx, bufs);
        self.heard(read)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_tells_since_when_nothing_came() {
        let (pulse, second) = (Pulse::new(), Duration::from_secs(1));
        let began = pulse.0.began;
        assert_eq!(pulse.quiet_for(began), Duration::ZERO);
        assert_eq!(pulse.quiet_for(began + 5 * second), 5 * second);
        pulse.clone().note(began + 3 * second);
        assert_eq!(pulse.quiet_for(began + 5 * second), 2 * second);
        assert_eq!(pulse.quiet_for(began), Duration::ZERO);
    }
}
