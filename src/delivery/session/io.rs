//! One stream at the receiving side: lines in, answers out.
//!
//! Owns how long an answer may take. Never looks into a line.

use crate::network::Stream;
use crate::stream::Lines;
use futures::AsyncWriteExt;
use futures::io::{ReadHalf, WriteHalf};
use std::time::Duration;

/// How long an answer may take to be written: a sender that does not read is let go.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// The stream of a session.
pub(super) struct Io {
    pub(super) lines: Lines<ReadHalf<Stream>>,
    pub(super) writer: WriteHalf<Stream>,
}

impl Io {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let write = async {
            self.writer.write_all(bytes).await?;
            self.writer.flush().await
        };
        match tokio::time::timeout(WRITE_TIME, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err::<(), std::io::Error>(_)) | Err(_) => Err(()),
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
