//! One stream at the receiving side: lines in, answers out.
//!
//! Owns how long an answer may take. Never looks into a line.

use crate::network::Stream;
use crate::stream::Lines;
use futures::AsyncWriteExt;
use futures::io::{ReadHalf, WriteHalf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long an answer may take to be written: a sender that does not read is let go.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// The stream of a session.
pub(super) struct Io {
    pub(super) lines: Lines<ReadHalf<Stream>>,
    pub(super) writer: WriteHalf<Stream>,
    /// What ends the session, also while it waits for room or for a sender that does not read: somebody waits for its turn.
    pub(super) ends: Vec<CancellationToken>,
}

impl Io {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let Self { writer, ends, .. } = self;
        let write = async {
            writer.write_all(bytes).await?;
            writer.flush().await
        };
        tokio::select! {
            biased;
            written = tokio::time::timeout(WRITE_TIME, write) => match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err::<(), std::io::Error>(_)) | Err(_) => Err(()),
            },
            () = any(ends) => Err(()),
        }
    }

    /// Ends in good order: the sender's own end tells that it has read ours.
    pub(super) async fn farewell(&mut self) {
        let end = async {
            let _ = self.writer.close().await;
            while let Ok(Some(_)) = self.lines.next().await {}
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), end).await;
    }
}

/// Returns when one of them says so.
pub(super) async fn any(ends: &[CancellationToken]) {
    if ends.is_empty() {
        return std::future::pending().await;
    }
    let ends = ends.iter().map(|end| Box::pin(end.cancelled()));
    futures::future::select_all(ends).await;
}
