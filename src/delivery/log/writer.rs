//! The one thread that writes: takes what has queued up, commits it as one transaction, then answers everybody in it.
//!
//! Always holds: never waits to fill a group, nor for the disk: who wants to know that the disk has it is answered by the
//! syncing thread. Only after a sync that failed does it bring everything to the disk itself.

use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::syncer::Syncer;
use super::{Answer, QUEUE, Write};
use crate::delivery::journal::{JournalError, Result};
use crate::delivery::sqlite::SqliteJournal;

/// Requests after which a group takes no further one: bounds the first one's wait, far beyond where grouping still gains.
const GROUP: usize = QUEUE;

pub(super) enum Job {
    Write { durable: bool, write: Write },
    Close(oneshot::Sender<Result<()>>),
}

struct Writer {
    journal: SqliteJournal,
    syncer: Syncer,
    queue: mpsc::Receiver<Job>,
    closing: Vec<oneshot::Sender<Result<()>>>,
}

/// Starts the thread; it ends with the last handle, or when told, after `reading` has.
pub(super) fn start(journal: SqliteJournal, reading: JoinHandle<()>) -> Result<mpsc::Sender<Job>> {
    let (writes, queue) = mpsc::channel(QUEUE);
    let closing = Vec::new();
    let writer = Writer {
        syncer: Syncer::start(journal.path().to_owned())?,
        journal,
        queue,
        closing,
    };
    std::thread::Builder::new()
        .name("journal-writer".to_owned())
        .spawn(move || writer.run(reading))
        .map_err(|error| JournalError::Failed(format!("thread: {error}")))?;
    Ok(writes)
}

impl Writer {
    fn run(mut self, reading: JoinHandle<()>) {
        while let Some(job) = self.queue.blocking_recv() {
            if let Some(first) = self.write_of(job) {
                self.group(first);
            }
        }
        self.syncer.finish();
        // The last connection to close is the one that folds the log.
        reading.join().ok();
        let closed = self.journal.close();
        if let Err(error) = &closed {
            tracing::warn!(%error, "the journal's log stays beside its file; the next start reads it");
        }
        for answer in self.closing {
            answer.send(closed.clone()).ok();
        }
    }

    /// None of a word to close: what has queued up before is still done.
    fn write_of(&mut self, job: Job) -> Option<(bool, Write)> {
        match job {
            Job::Write { durable, write } => Some((durable, write)),
            Job::Close(answer) => {
                self.queue.close();
                self.closing.push(answer);
                None
            }
        }
    }

    fn group(&mut self, first: (bool, Write)) {
        let begun = self.journal.begin_group();
        let mut answers: Vec<(bool, Answer)> = Vec::new();
        let mut next = Some(first);
        while let Some((durable, write)) = next {
            answers.push((durable, write(begun.clone().map(|()| &mut self.journal))));
            next = None;
            while begun.is_ok()
                && next.is_none()
                && answers.len() < GROUP
                && !self.journal.is_group_lost()
                && let Ok(job) = self.queue.try_recv()
            {
                next = self.write_of(job);
            }
        }
        let anew = answers.iter().any(|(durable, _)| *durable) && self.syncer.has_failed();
        if anew {
            self.journal.sync_failed();
        }
        let ended = begun.and_then(|()| self.journal.end_group(anew));
        let mut owed = Vec::new();
        for (durable, answer) in answers {
            let tell = answer(&ended);
            if durable && !anew && ended.is_ok() {
                owed.push(tell);
            } else {
                tell(&Ok(()));
            }
        }
        if !owed.is_empty() {
            self.syncer.sync_then(owed);
        }
    }
}
