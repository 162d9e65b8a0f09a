//! The one thread that writes: takes what has queued up, commits it as one transaction, then answers everybody in it.
//!
//! Always holds: an answer is sent after the commit, never before; a request is applied whole or not at all, and one that fails
//! does not take the others of its group with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{apply, schema, store_error};
use crate::store::{Applied, StoreError, Write, file};

/// Requests that wait while one group commits; when full, callers wait.
const QUEUE: usize = 256;
/// Writes after which a group takes no further request: bounds the first one's wait, far beyond where grouping still gains.
const GROUP_WRITES: usize = 4096;

/// How long the writer waits for readers when it folds: none may be there but look-ups, which take less.
const FOLD_WAIT: Duration = Duration::from_secs(1);

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

enum Job {
    Apply(Vec<Write>, Answer<Vec<Applied>>),
    Probe(Answer<()>),
    Sync(Answer<()>),
    Fold(Answer<()>),
}

/// The writer's handle.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the thread; it ends when the handle is dropped and the queue is empty.
    pub(super) fn start(path: &Path, connection: Connection) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = Thread {
            path: path.to_owned(),
            connection,
            queue,
        };
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| StoreError::Database {
                store: path.display().to_string(),
                why: error.to_string(),
            })?;
        Ok(Self { jobs })
    }

    pub(super) async fn apply(&self, writes: Vec<Write>) -> Result<Vec<Applied>, StoreError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(|answer| Job::Apply(writes, answer)).await
    }

    /// Commits something that changes nothing.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        self.ask(Job::Probe).await
    }

    /// Brings what is committed to the disk.
    pub(super) async fn sync(&self) -> Result<(), StoreError> {
        self.ask(Job::Sync).await
    }

    /// Copies the log into the file and empties it; fails when somebody still reads from it after [`FOLD_WAIT`].
    pub(super) async fn fold(&self) -> Result<(), StoreError> {
        self.ask(Job::Fold).await
    }

    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(job(answer)).await.map_err(|_| StoreError::Closed)?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}

struct Thread {
    path: PathBuf,
    connection: Connection,
    queue: mpsc::Receiver<Job>,
}

/// What one commit answers for.
#[derive(Default)]
struct Group {
    applies: Vec<(Vec<Write>, Answer<Vec<Applied>>)>,
    probes: Vec<Answer<()>>,
    syncs: Vec<Answer<()>>,
    folds: Vec<Answer<()>>,
    writes: usize,
}

impl Group {
    fn add(&mut self, job: Job) {
        match job {
            // Who has stopped waiting was told so; writing it later would only surprise.
            Job::Apply(_, answer) if answer.is_closed() => {}
            Job::Apply(writes, answer) => {
                self.writes += writes.len();
                self.applies.push((writes, answer));
            }
            Job::Probe(answer) => self.probes.push(answer),
            Job::Sync(answer) => self.syncs.push(answer),
            Job::Fold(answer) => self.folds.push(answer),
        }
    }
}

impl Thread {
    fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let mut group = Group::default();
            group.add(first);
            while group.writes < GROUP_WRITES
                && let Ok(job) = self.queue.try_recv()
            {
                group.add(job);
            }
            self.finish(group);
        }
    }

    fn finish(&mut self, group: Group) {
        let Group {
            applies,
            probes,
            syncs,
            folds,
            ..
        } = group;
        let (batches, answers): (Vec<_>, Vec<_>) = applies.into_iter().unzip();
        let outcome = if batches.is_empty() && probes.is_empty() {
            Ok(Vec::new())
        } else {
            self.commit(batches, !probes.is_empty())
        };
        let synced = if syncs.is_empty() {
            Ok(())
        } else {
            outcome.as_ref().map_err(Clone::clone).and_then(|_| self.sync())
        };
        for answer in probes {
            answer.send(outcome.as_ref().map(|_| ()).map_err(Clone::clone)).ok();
        }
        for answer in syncs {
            answer.send(synced.clone()).ok();
        }
        match outcome {
            Ok(results) => results
                .into_iter()
                .zip(answers)
                .for_each(|(result, answer)| drop(answer.send(result))),
            Err(error) => answers
                .into_iter()
                .for_each(|answer| drop(answer.send(Err(error.clone())))),
        }
        // Last: it takes longer than all else.
        for answer in folds {
            answer.send(self.fold()).ok();
        }
    }

    /// One transaction for all; each batch inside it is undone alone when it fails.
    fn commit(
        &mut self,
        batches: Vec<Vec<Write>>,
        probe: bool,
    ) -> Result<Vec<Result<Vec<Applied>, StoreError>>, StoreError> {
        let path = &self.path;
        let failed = |error: rusqlite::Error| store_error(path, &error);
        let mut transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        if probe {
            transaction
                .pragma_update(None, "user_version", schema::FORMAT)
                .map_err(failed)?;
        }
        let mut results = Vec::with_capacity(batches.len());
        for batch in batches {
            let savepoint = transaction.savepoint().map_err(failed)?;
            let result = match apply::all(&savepoint, &batch, path) {
                Ok(applied) => savepoint.commit().map(|()| applied).map_err(failed),
                Err(error) => savepoint.finish().map_err(failed).and(Err(error)),
            };
            results.push(result);
        }
        transaction.commit().map_err(failed)?;
        Ok(results)
    }

    fn fold(&self) -> Result<(), StoreError> {
        let folded = file::fold_log(&self.connection, FOLD_WAIT);
        match folded.map_err(|error| store_error(&self.path, &error))? {
            true => Ok(()),
            false => Err(StoreError::Database {
                store: self.path.display().to_string(),
                why: "somebody still reads from its log, so it cannot be folded".to_owned(),
            }),
        }
    }

    fn sync(&self) -> Result<(), StoreError> {
        file::sync_log(&self.path).map_err(|error| StoreError::Database {
            store: self.path.display().to_string(),
            why: format!("fsync: {error}"),
        })
    }
}
