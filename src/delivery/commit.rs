//! The first commit at the receiving side, and the hand-over to the publisher in the same order.
//!
//! Owns the only way into the table of what is to be published. Always: what is handed over is committed, and the publisher
//! gets it in the order of its numbers.

use super::journal::JournalError;
use super::log::{How, Log};
use super::publisher::Committed;
use super::receiver::{self, Batch};
use super::types::{Position, Received, Todo, Verdict};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Cloneable handle.
#[derive(Clone)]
pub struct Committer {
    log: Log,
    // Not bounded by itself: what is in it is bounded by the room that each batch brings.
    committed: mpsc::UnboundedSender<Committed>,
}

impl Committer {
    /// Commits to `log` and hands over to the returned end.
    #[must_use]
    pub fn new(log: Log) -> (Self, mpsc::UnboundedReceiver<Committed>) {
        let (committed, taken) = mpsc::unbounded_channel();
        (Self { log, committed }, taken)
    }

    /// Commits lines of one origin, and where it stands then, and says what became of each. `room` is given back when they are
    /// published.
    ///
    /// # Errors
    /// Nothing was committed.
    pub async fn commit(
        &self,
        origin: &str,
        lines: Vec<Received>,
        position: Option<Position>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Vec<Verdict>, JournalError> {
        let (origin, from) = (origin.to_owned(), origin.to_owned());
        let committed = self.committed.clone();
        let done = self.log.write_then(
            How::of_rows(false, lines.len()),
            move |journal| {
                let verdicts = journal.receive(&origin, &lines, position, now())?;
                Ok((verdicts, lines))
            },
            move |(verdicts, lines): &(Vec<Verdict>, Vec<Received>)| {
                let rows: Vec<Todo> = lines
                    .iter()
                    .zip(verdicts)
                    .filter_map(|(line, verdict)| match verdict {
                        Verdict::Todo(n) => Some(todo(*n, &from, line)),
                        _ => None,
                    })
                    .collect();
                if !rows.is_empty() {
                    // Only closed when the daemon is going down; the rows are published at the next start.
                    let _ = committed.send(Committed { rows, room });
                }
            },
        );
        done.await.map(|(verdicts, _)| verdicts)
    }
}

impl Committer {
    /// Commits what a session has gathered, and hands over what is to be published.
    ///
    /// # Errors
    /// Nothing was committed.
    pub(super) async fn session(
        &self,
        origin: &str,
        batch: Batch,
        room: Option<OwnedSemaphorePermit>,
        at: u64,
    ) -> Result<(Batch, receiver::Committed), JournalError> {
        let (origin, from) = (origin.to_owned(), origin.to_owned());
        let committed = self.committed.clone();
        self.log
            .write_then(
                How::of_rows(false, batch.lines()),
                move |journal| {
                    let done = receiver::commit(journal, &origin, &batch, at)?;
                    Ok((batch, done))
                },
                move |(batch, done): &(Batch, receiver::Committed)| {
                    let rows: Vec<Todo> = batch.todo(done).map(|(n, line)| todo(n, &from, line)).collect();
                    if !rows.is_empty() {
                        // Only closed when the daemon is going down; the rows are published at the next start.
                        let _ = committed.send(Committed { rows, room });
                    }
                },
            )
            .await
    }
}

fn todo(n: u64, origin: &str, line: &Received) -> Todo {
    Todo {
        n,
        origin: origin.to_owned(),
        key: line.key.clone(),
        action: line.action,
        user: line.user.clone(),
        payload: line.payload.clone(),
        hash: line.hash,
    }
}

/// Milliseconds since 1970, as the journal keeps times.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
