//! A courier's stream: what is written to it waits its turn, and what is read comes in pieces.
//!
//! Owns the stream's two halves and the write under way. Always: one write at a time, and what comes meanwhile goes into
//! the next.

use super::{Courier, Input, WRITE_TIME};
use crate::network::{OpenError, Pulse, Stream};
use crate::stream::Lines;
use futures::future::BoxFuture;
use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use tracing::debug;

/// The stream of a session.
pub(super) struct Io {
    pub(super) lines: Lines<ReadHalf<Stream>>,
    /// Not here while it is being written to.
    pub(super) writer: Option<WriteHalf<Stream>>,
    pub(super) pulse: Pulse,
}

pub(super) type Opening = BoxFuture<'static, Result<(PeerId, Stream), OpenError>>;
pub(super) type Writing = BoxFuture<'static, (WriteHalf<Stream>, bool)>;

impl Courier {
    pub(super) fn stream_ended(&mut self) -> Input {
        (self.io, self.writing) = (None, None);
        self.to_write.clear();
        let alive = self.is_connected();
        self.status.failed("the stream ended");
        Input::Ended { alive }
    }

    pub(super) fn opened(&mut self, opened: Result<(PeerId, Stream), OpenError>) -> Input {
        match opened {
            Ok((peer, stream)) => {
                let pulse = stream.pulse();
                let (reader, writer) = stream.split();
                self.io = Some(Io {
                    pulse,
                    lines: self.shared.streams.lines(peer, reader),
                    writer: Some(writer),
                });
                Input::Opened
            }
            Err(error) => {
                let unsupported = matches!(error, OpenError::Unsupported(_));
                if !unsupported {
                    self.status.failed(&error.to_string());
                }
                Input::NotOpened { unsupported }
            }
        }
    }

    /// The stream took a piece: the next one, or a word that all is written.
    pub(super) fn written(&mut self, (writer, taken): (WriteHalf<Stream>, bool)) -> Option<Input> {
        let io = self.io.as_mut()?;
        if !taken {
            return Some(self.stream_ended());
        }
        io.writer = Some(writer);
        if self.to_write.is_empty() {
            return Some(Input::Written);
        }
        self.write();
        None
    }

    pub(super) fn write(&mut self) {
        if self.to_write.is_empty() || self.writing.is_some() {
            return;
        }
        let Some(mut writer) = self.io.as_mut().and_then(|io| io.writer.take()) else {
            return;
        };
        let bytes = std::mem::take(&mut self.to_write);
        self.shared.metrics.delivery_bytes("sent", bytes.len());
        self.writing = Some(Box::pin(async move {
            let write = async {
                writer.write_all(&bytes).await?;
                writer.flush().await
            };
            let taken = matches!(
                tokio::time::timeout(WRITE_TIME, write).await,
                Ok(Ok::<(), std::io::Error>(()))
            );
            (writer, taken)
        }));
    }
}

/// The next piece of lines; none at the end. For ever when there is no stream.
pub(super) async fn read(io: &mut Option<Io>) -> Option<bytes::Bytes> {
    match io {
        Some(io) => match io.lines.next().await {
            Ok(piece) => piece,
            Err(error) => {
                debug!(%error, "a delivery stream ended");
                None
            }
        },
        None => std::future::pending().await,
    }
}

pub(super) async fn ready<T>(task: &mut Option<BoxFuture<'static, T>>) -> T {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}
