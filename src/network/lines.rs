//! Reads newline-ended values from a stream, as Go's `json.Encoder` writes them, within bounds.
//!
//! Owns the read buffer. Never parses a value. Always: a line is bounded in size and in the time from its first byte to
//! its end, and what the streams of a peer, and all streams together, hold of half-read lines is bounded.

use super::Stream;
use bytes::{Bytes, BytesMut};
use futures::{AsyncRead, FutureExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

/// First read of a quiet stream: one event in most cases, and little to hold for a partner that says nothing.
const SMALL_READ: usize = 2 * 1024;
/// Read size of a stream that just filled a smaller one.
const LARGE_READ: usize = 64 * 1024;
/// What a half-read line may hold without a permit.
const FREE: usize = LARGE_READ;

/// Why a stream cannot be read on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LineError {
    /// A line that is longer than `limits.line_bytes`.
    #[error("a line of more than {0} bytes")]
    TooLong(usize),
    /// A line that did not end in `limits.line_timeout`.
    #[error("a line that did not end in time")]
    TooSlow,
    /// Nothing came for as long as this stream may be quiet.
    #[error("nothing came in time")]
    Quiet,
    /// The peer's streams, or all together, hold too much of half-read lines.
    #[error("too much is half-read on the streams of this peer, or on all")]
    NoRoom,
    /// The stream ended inside a line.
    #[error("the stream ended inside a line")]
    CutOff,
    /// The stream was reset or its connection ended.
    #[error("the stream broke: {0}")]
    Broken(String),
}

impl LineError {
    /// The label under which it is counted; `None` when it is nobody's fault.
    pub fn rule(&self) -> Option<&'static str> {
        match self {
            Self::TooLong(_) => Some("line_too_long"),
            Self::TooSlow => Some("line_too_slow"),
            Self::NoRoom => Some("half_read"),
            Self::CutOff => Some("cut_off"),
            Self::Quiet | Self::Broken(_) => None,
        }
    }
}

/// Bounds of one reader.
#[derive(Debug, Clone)]
pub struct LineLimits {
    /// Longest line.
    pub bytes: usize,
    /// Longest time from the first byte of a line to its end.
    pub time: Duration,
    /// How long a stream may say nothing; `None` for ever.
    pub quiet: Option<Duration>,
}

/// The room for long lines that are not whole yet: what one peer may take, of what all may. A peer that fills its own share
/// keeps nobody else waiting.
#[derive(Debug, Clone)]
pub struct HalfRead {
    own: Arc<Semaphore>,
    all: Option<Arc<Semaphore>>,
}

/// What a long line takes of both.
type Held = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

impl HalfRead {
    /// A share in bytes of what all have.
    #[must_use]
    pub fn share(own: Arc<Semaphore>, all: Arc<Semaphore>) -> Self {
        Self { own, all: Some(all) }
    }

    /// So many bytes for this reader alone.
    #[must_use]
    pub fn alone(bytes: usize) -> Self {
        Self {
            own: Arc::new(Semaphore::new(bytes)),
            all: None,
        }
    }

    fn take(&self, bytes: u32) -> Option<Held> {
        let take = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_many_owned(bytes).ok();
        let own = take(&self.own)?;
        match &self.all {
            Some(all) => Some((own, Some(take(all)?))),
            None => Some((own, None)),
        }
    }
}

/// The reader.
pub struct Lines<R = Stream> {
    io: Compat<R>,
    buffer: BytesMut,
    scanned: usize,
    chunk: usize,
    limits: LineLimits,
    half_read: HalfRead,
    permit: Option<Held>,
    /// When the line in hand began. Kept here: whoever waits for other things, too, asks anew again and again.
    began: Instant,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads `stream` within `limits`, its long lines within `half_read`.
    #[must_use]
    pub fn new(stream: R, limits: LineLimits, half_read: HalfRead) -> Self {
        Self {
            io: stream.compat(),
            buffer: BytesMut::new(),
            scanned: 0,
            chunk: SMALL_READ,
            limits,
            half_read,
            permit: None,
            began: Instant::now(),
        }
    }

    /// How long the stream may say nothing from now on.
    pub fn may_be_quiet_for(&mut self, time: Duration) {
        self.limits.quiet = Some(time);
    }

    /// All complete lines that are there, one at the least, in one piece; `None` at the end of the stream.
    /// Cancel-safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            if let Some(end) = self
                .buffer
                .get(self.scanned..)
                .and_then(|new| memchr::memrchr(b'\n', new))
            {
                let lines = self.buffer.split_to(self.scanned + end + 1).freeze();
                self.scanned = 0;
                self.permit = None;
                self.began = Instant::now();
                return Ok(Some(lines));
            }
            self.scanned = self.buffer.len();
            if self.buffer.len() > self.limits.bytes {
                return Err(LineError::TooLong(self.limits.bytes));
            }
            self.hold()?;
            let quiet = self.buffer.is_empty();
            let read = self.read(quiet).await?;
            if quiet {
                self.began = Instant::now();
            }
            if read == 0 {
                return if quiet { Ok(None) } else { Err(LineError::CutOff) };
            }
        }
    }

    async fn read(&mut self, quiet: bool) -> Result<usize, LineError> {
        if quiet && self.chunk == LARGE_READ {
            // In a burst the next piece is there already, and its buffer is used again.
            self.buffer.reserve(LARGE_READ);
            if let Some(read) = self.io.read_buf(&mut self.buffer).now_or_never() {
                return read.map_err(|error| LineError::Broken(error.to_string()));
            }
        }
        if quiet {
            // Give the memory of a burst back while nothing comes.
            self.buffer = BytesMut::new();
            self.chunk = SMALL_READ;
        }
        self.buffer.reserve(self.chunk);
        let deadline = if quiet {
            self.limits.quiet.map(|quiet| Instant::now() + quiet)
        } else {
            Some(self.began + self.limits.time)
        };
        let reading = self.io.read_buf(&mut self.buffer);
        let read = match deadline {
            Some(deadline) => timeout_at(deadline, reading)
                .await
                .map_err(|_| if quiet { LineError::Quiet } else { LineError::TooSlow })?,
            None => reading.await,
        };
        let read = read.map_err(|error| LineError::Broken(error.to_string()))?;
        if read >= SMALL_READ {
            self.chunk = LARGE_READ;
        }
        Ok(read)
    }

    /// Takes the permit that a long half-read line needs.
    fn hold(&mut self) -> Result<(), LineError> {
        if self.buffer.len() > FREE && self.permit.is_none() {
            let bytes = u32::try_from(self.limits.bytes).unwrap_or(u32::MAX);
            self.permit = Some(self.half_read.take(bytes).ok_or(LineError::NoRoom)?);
        }
        Ok(())
    }
}

/// The lines of a piece, without their ends; empty ones are skipped.
pub fn split(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = lines;
    let next = move || {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest.get(..end)?;
        (!rest.is_empty()).then(|| {
            rest = rest.get(end + 1..).unwrap_or_default();
            line
        })
    };
    std::iter::from_fn(next).filter(|line| !line.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::AsyncWriteExt;
    use tokio_util::compat::TokioAsyncReadCompatExt;

    #[tokio::test]
    async fn one_peer_s_half_read_lines_leave_room_for_another_s() {
        let limits = LineLimits {
            bytes: 100_000,
            time: Duration::from_secs(60),
            quiet: None,
        };
        let (all, greedy, honest) = (2, 1, 1);
        let semaphore = |lines: usize| Arc::new(Semaphore::new(lines * limits.bytes));
        let (all, greedy, honest) = (semaphore(all), semaphore(greedy), semaphore(honest));
        let half_read = |own: &Arc<Semaphore>| {
            let (near, far) = tokio::io::duplex(200_000);
            let room = HalfRead::share(Arc::clone(own), Arc::clone(&all));
            (Lines::new(near.compat(), limits.clone(), room), far.compat())
        };
        let long = vec![b'x'; FREE + 1000];
        let (mut first, mut to_first) = half_read(&greedy);
        to_first.write_all(&long).await.unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(100), first.next()).await;
        assert!(waits.is_err(), "{waits:?}");
        let (mut second, mut to_second) = half_read(&greedy);
        to_second.write_all(&long).await.unwrap();
        assert_eq!(second.next().await, Err(LineError::NoRoom));
        let (mut other, mut to_other) = half_read(&honest);
        to_other.write_all(&long).await.unwrap();
        to_other.write_all(b"\n").await.unwrap();
        assert_eq!(other.next().await.unwrap().map(|line| line.len()), Some(FREE + 1001));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_must_end_in_time_however_often_it_is_asked_for() {
        let (near, far) = tokio::io::duplex(64);
        let limits = LineLimits {
            bytes: 1024,
            time: Duration::from_secs(10),
            quiet: None,
        };
        let mut lines = Lines::new(near.compat(), limits, HalfRead::alone(0));
        let mut far = far.compat();
        far.write_all(b"{").await.unwrap();
        let ended = async {
            loop {
                if let Ok(ended) = tokio::time::timeout(Duration::from_secs(1), lines.next()).await {
                    return ended;
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
        assert_eq!(ended, Ok(Err(LineError::TooSlow)));
    }
}
