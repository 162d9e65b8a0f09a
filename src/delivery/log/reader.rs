//! The thread that reads: its own connection, so that a long page never holds up a commit.

use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::{QUEUE, Read};
use crate::delivery::journal::{JournalError, Result};
use crate::delivery::sqlite::SqliteJournal;

pub(super) enum Job {
    Read(Read),
    Close,
}

/// Starts the thread; it ends with the last handle, or when told.
pub(super) fn start(journal: SqliteJournal) -> Result<(mpsc::Sender<Job>, JoinHandle<()>)> {
    let (reads, mut queue) = mpsc::channel(QUEUE);
    let thread = move || {
        while let Some(job) = queue.blocking_recv() {
            match job {
                Job::Read(read) => read(&journal),
                Job::Close => queue.close(),
            }
        }
    };
    let reading = std::thread::Builder::new()
        .name("journal-reader".to_owned())
        .spawn(thread)
        .map_err(|error| JournalError::Failed(format!("thread: {error}")))?;
    Ok((reads, reading))
}
