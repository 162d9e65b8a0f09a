//! Who writes: a thread that takes what has queued up, commits it as one transaction, then answers everybody in it; and,
//! for a few rows while nobody else writes, the caller itself.
//!
//! Always holds: one writes at a time, and what follows a commit is called before the next one; the thread never waits to
//! fill a group, nor for the disk: who wants to know that the disk has it is answered by the syncing thread. Only after a
//! sync that failed it brings everything to the disk itself. A caller never folds the log, which takes long.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::syncer::Syncer;
use super::{Answer, QUEUE, Write};
use crate::delivery::journal::{JournalError, Result};
use crate::delivery::sqlite::SqliteJournal;

/// Requests after which a group takes no further one: bounds the first one's wait, far beyond where grouping still gains.
const GROUP: usize = QUEUE;

/// What the thread is asked.
pub(super) enum Job {
    Write {
        durable: bool,
        write: Write,
    },
    /// The log has become long.
    Fold,
    Close(oneshot::Sender<Result<()>>),
}

/// A request, and whether it is answered when the disk has it.
type Request = (bool, Write);

/// The one connection that writes.
#[derive(Debug)]
struct Pen {
    journal: SqliteJournal,
    syncer: Syncer,
}

/// The handle.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Job>,
    /// None after the end.
    pen: Arc<Mutex<Option<Pen>>>,
}

impl Writer {
    /// Starts the thread; it ends with the handle, or when told, after `reading` has.
    pub(super) fn start(mut journal: SqliteJournal, reading: JoinHandle<()>) -> Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        journal.fold_by_hand()?;
        let syncer = Syncer::start(journal.path().to_owned())?;
        let pen = Arc::new(Mutex::new(Some(Pen { journal, syncer })));
        let thread = Thread {
            pen: Arc::clone(&pen),
            jobs,
            closing: Vec::new(),
        };
        std::thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn(move || thread.run(reading))
            .map_err(|error| JournalError::Failed(format!("thread: {error}")))?;
        Ok(Self { queue, pen })
    }

    /// Asks the thread; waits while its queue is full.
    pub(super) async fn ask(&self, job: Job) -> Result<()> {
        self.queue.send(job).await.map_err(|_| JournalError::Closed)
    }

    /// Commits it on this thread, when nobody else writes or waits to; else it comes back.
    pub(super) fn here(&self, request: Request) -> std::result::Result<(), Request> {
        if self.queue.capacity() < QUEUE || self.queue.is_closed() {
            return Err(request);
        }
        let Ok(mut pen) = self.pen.try_lock() else {
            return Err(request);
        };
        // What makes a failed sync good takes long.
        let Some(pen) = pen.as_mut().filter(|pen| !pen.syncer.has_failed()) else {
            return Err(request);
        };
        pen.group(request, || None, false);
        if pen.journal.log_is_long() {
            // Full: the thread looks after its next group.
            let _ = self.queue.try_send(Job::Fold);
        }
        Ok(())
    }
}

struct Thread {
    pen: Arc<Mutex<Option<Pen>>>,
    jobs: mpsc::Receiver<Job>,
    closing: Vec<oneshot::Sender<Result<()>>>,
}

impl Thread {
    fn run(mut self, reading: JoinHandle<()>) {
        let pen = Arc::clone(&self.pen);
        while let Some(job) = self.jobs.blocking_recv() {
            let first = self.write_of(job);
            // Poisoned: somebody has panicked inside a transaction, and nobody knows what it was about.
            let Ok(mut pen) = pen.lock() else { return };
            let Some(pen) = pen.as_mut() else { return };
            if let Some(first) = first {
                pen.group(first, || self.next(), true);
            }
            pen.fold_when_long();
        }
        let Some(pen) = pen.lock().ok().and_then(|mut pen| pen.take()) else {
            return;
        };
        pen.syncer.finish();
        // The last connection to close is the one that folds the log.
        reading.join().ok();
        let closed = pen.journal.close();
        if let Err(error) = &closed {
            tracing::warn!(%error, "the journal's log stays beside its file; the next start reads it");
        }
        for answer in self.closing {
            answer.send(closed.clone()).ok();
        }
    }

    fn next(&mut self) -> Option<Request> {
        while let Ok(job) = self.jobs.try_recv() {
            if let Some(write) = self.write_of(job) {
                return Some(write);
            }
        }
        None
    }

    /// None of a word to close: what has queued up before is still done.
    fn write_of(&mut self, job: Job) -> Option<Request> {
        match job {
            Job::Write { durable, write } => Some((durable, write)),
            Job::Fold => None,
            Job::Close(answer) => {
                self.jobs.close();
                self.closing.push(answer);
                None
            }
        }
    }
}

impl Pen {
    /// Commits these requests as one transaction, then answers everybody in it. What is committed counts for who wants no more
    /// than that, whatever becomes of the disk.
    fn group(&mut self, first: Request, mut others: impl FnMut() -> Option<Request>, may_fold: bool) {
        let begun = self.journal.begin_group();
        let mut answers: Vec<(bool, Answer)> = Vec::new();
        let mut next = Some(first);
        while let Some((durable, write)) = next {
            answers.push((durable, write(begun.clone().map(|()| &mut self.journal))));
            let takes_more = begun.is_ok() && answers.len() < GROUP && !self.journal.is_group_lost();
            next = if takes_more { others() } else { None };
        }
        let ended = begun.and_then(|()| self.journal.end_group());
        let durable = ended.is_ok() && answers.iter().any(|(durable, _)| *durable);
        let anew = (durable && self.syncer.has_failed()).then(|| self.write_anew(may_fold));
        let mut owed = Vec::new();
        for (durable, answer) in answers {
            let tell = answer(&ended);
            match &anew {
                _ if !durable || ended.is_err() => tell(&Ok(())),
                Some(synced) => tell(synced),
                None => owed.push(tell),
            }
        }
        if !owed.is_empty() {
            self.syncer.sync_then(owed);
        }
    }

    /// A sync has failed before: only all of it, written anew, is known to be on the disk.
    fn write_anew(&mut self, may_fold: bool) -> Result<()> {
        if !may_fold {
            return Err(JournalError::Failed("fsync: an earlier one has failed".to_owned()));
        }
        self.journal.sync_failed();
        self.journal.sync()?;
        self.syncer.is_made_good();
        Ok(())
    }

    fn fold_when_long(&mut self) {
        if self.journal.log_is_long()
            && let Err(error) = self.journal.fold_what_is_free()
        {
            // It is tried again after the next group; until then the log grows. It may have been the sync in it that failed.
            self.syncer.fail();
            tracing::warn!(%error, "the journal's log cannot be folded into its file");
        }
    }
}
