//! The journal's threads: one writes, one syncs what was written, one reads, and this is their handle. A few rows are
//! written by whoever brings them, when nobody else writes.
//!
//! Owns grouping, the moment of a sync, and the end. Never looks into a request. Always holds: an answer to a write is sent
//! after its commit, and after the disk has it when it is durable; a request is done whole or not at all, and one that fails
//! takes no other with it; a disk that fails is an error to those who asked, and the threads live on; the last handle's end,
//! or [`Log::close`], leaves one file.

mod backup;
mod reader;
mod syncer;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::journal::{Journal, JournalError, Result};
use super::sqlite::SqliteJournal;
use crate::store::file;

/// Requests that wait at each of the two threads; when full, callers wait. Enough to fill a group while one commits.
const QUEUE: usize = 256;

/// Rows that a caller may write itself: some tens of microseconds, in which its thread does nothing else.
const FEW: usize = 8;

/// Runs a request inside the open group, or is told why there is none; what it gives is called with the group's outcome.
type Write = Box<dyn FnOnce(Result<&mut SqliteJournal>) -> Answer + Send>;
/// Told how the commit ended; gives what tells the caller, once that may be.
type Answer = Box<dyn FnOnce(&Result<()>) -> Tell>;
/// Told whether the disk has it, when that was asked for; then the caller knows.
type Tell = Box<dyn FnOnce(&Result<()>) + Send>;
type Read = Box<dyn FnOnce(&SqliteJournal) + Send>;

/// How something is written.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// It is answered when the disk has it.
    pub durable: bool,
    /// A few rows: while nobody else writes they are written on the caller's thread, in less time than it takes to wake another.
    pub few: bool,
}

impl How {
    /// Of so many rows.
    #[must_use]
    pub fn of_rows(durable: bool, rows: usize) -> Self {
        let few = rows <= FEW;
        Self { durable, few }
    }
}

/// A handle of the journal. Clones share it.
#[derive(Debug, Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    writer: writer::Writer,
    reads: mpsc::Sender<reader::Job>,
}

impl Log {
    /// Opens the file, or makes it, and starts the threads. Blocks while the file is opened.
    ///
    /// # Errors
    /// As [`SqliteJournal::open`]; and when a thread cannot be started.
    pub fn open(path: &Path) -> Result<Self> {
        let journal = SqliteJournal::open(path)?;
        let (reads, reading) = reader::start(SqliteJournal::open_reader(path)?)?;
        let writer = writer::Writer::start(journal, reading)?;
        let path = path.to_owned();
        let shared = Arc::new(Shared { path, writer, reads });
        Ok(Self { shared })
    }

    /// Does `work` inside the next commit, together with what else has queued up. With `durable` it answers when the disk
    /// has it. A caller that goes away before the work has begun takes it back.
    ///
    /// # Errors
    /// What `work` returns; or why nothing of its group could be written; or, after a failed sync, that it may be lost again
    /// at a power cut. [`JournalError::Closed`] after the end.
    pub async fn write<T, F>(&self, durable: bool, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Journal) -> Result<T> + Send + 'static,
    {
        let how = How { durable, few: false };
        self.write_then(how, work, |_| ()).await
    }

    /// As [`Log::write`]; `then` is called right after the commit, in the order of commits, whether or not the caller still
    /// waits. It must not block.
    ///
    /// # Errors
    /// As [`Log::write`]; `then` is not called.
    pub async fn write_then<T, F, G>(&self, how: How, work: F, then: G) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Journal) -> Result<T> + Send + 'static,
        G: FnOnce(&T) + Send + 'static,
    {
        self.write_raw(how, move |journal| journal.request(work), then).await
    }

    async fn write_raw<T, F, G>(&self, how: How, work: F, then: G) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut SqliteJournal) -> Result<T> + Send + 'static,
        G: FnOnce(&T) + Send + 'static,
    {
        let (answer, answered) = oneshot::channel::<Result<T>>();
        let write: Write = Box::new(move |journal| {
            if answer.is_closed() {
                return Box::new(|_| Box::new(|_| ()));
            }
            let done = journal.and_then(work);
            Box::new(move |group| {
                let outcome = group.clone().and(done);
                if let Ok(done) = &outcome {
                    then(done);
                }
                Box::new(move |synced| drop(answer.send(synced.clone().and(outcome))))
            })
        });
        let How { durable, few } = how;
        let left = match few {
            true => self.shared.writer.here((durable, write)).err(),
            false => Some((durable, write)),
        };
        if let Some((durable, write)) = left {
            self.shared.writer.ask(writer::Job::Write { durable, write }).await?;
        }
        answered.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Reads as of one moment; what was written and answered before is seen. Never waits for a commit.
    ///
    /// # Errors
    /// What `work` returns; [`JournalError::Closed`] after the end.
    pub async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Journal) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel::<Result<T>>();
        let read: Read = Box::new(move |journal| {
            if !answer.is_closed() {
                answer.send(journal.at_one_moment(work)).ok();
            }
        });
        let job = reader::Job::Read(read);
        self.shared.reads.send(job).await.map_err(|_| JournalError::Closed)?;
        answered.await.unwrap_or(Err(JournalError::Closed))
    }

    /// What the file and its log take on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let path = &self.shared.path;
        std::fs::metadata(path).map_or(0, |file| file.len()) + file::log_bytes(path)
    }

    /// Copies the journal, as of one moment and while it is used, to a new file that only its user can read. A file that is
    /// there is never overwritten; one that could not be finished does not keep the name.
    ///
    /// # Errors
    /// The name is taken, or the copy cannot be written.
    pub async fn backup(&self, to: &Path) -> Result<()> {
        let (from, to) = (self.shared.path.clone(), to.to_owned());
        let copying = tokio::task::spawn_blocking(move || backup::copy(&from, &to));
        copying.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Ends both threads once what was asked before is done, and folds the file's log into it. Every handle is closed by it.
    ///
    /// # Errors
    /// The log could not be folded, which loses nothing: the next start reads it.
    pub async fn close(&self) -> Result<()> {
        self.shared.reads.send(reader::Job::Close).await.ok();
        let (answer, answered) = oneshot::channel();
        self.shared.writer.ask(writer::Job::Close(answer)).await?;
        answered.await.unwrap_or(Err(JournalError::Closed))
    }
}
