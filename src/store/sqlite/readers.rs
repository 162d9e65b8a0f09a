//! A small pool of reading connections on blocking threads.
//!
//! Always holds: at most [`READERS_MAX`] at once, later ones wait; a reader whose caller went away, or whose time is up, is
//! interrupted inside SQLite, so no thread outlives its question for long.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::schema;
use crate::store::StoreError;

/// Reading connections.
const READERS_MAX: usize = 4;
/// Those that searches may have: they may be slow, and wait for askers who take nothing, and look-ups must not wait for them.
pub(super) const SEARCHES_MAX: usize = READERS_MAX - 1;
/// SQLite instructions between two looks at the clock: some tens of microseconds.
const STEPS_PER_CHECK: i32 = 4000;

/// When a reader must stop.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    /// Somebody said so, or nobody waits any more.
    pub(super) cancel: CancellationToken,
    /// Its time is up.
    pub(super) deadline: Instant,
}

impl Stop {
    /// Whether it must stop now.
    pub(super) fn is_now(&self) -> bool {
        self.cancel.is_cancelled() || Instant::now() >= self.deadline
    }
}

#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    permits: Arc<Semaphore>,
    searches: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            permits: Arc::new(Semaphore::new(READERS_MAX)),
            searches: Arc::new(Semaphore::new(SEARCHES_MAX)),
            idle: Arc::default(),
        }
    }

    /// Runs `work`, a few look-ups by key, on this thread, when a connection is free and was used before: that takes less time
    /// than to wake another thread. None when it has to be [`Readers::run`].
    pub(super) fn here<T>(&self, work: impl FnOnce(&Connection) -> T) -> Option<T> {
        let _permit = self.permits.try_acquire().ok()?;
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = idle().pop()?;
        let result = work(&connection);
        idle().push(connection);
        Some(result)
    }

    /// What searches take turns with: who has all of it knows that none is under way.
    pub(super) fn searches(&self) -> Arc<Semaphore> {
        Arc::clone(&self.searches)
    }

    /// As [`Readers::run`], for work that may take long.
    pub(super) async fn search<T, F>(&self, stop: Stop, work: F) -> Result<Option<T>, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let Some(turn) = turn(&self.searches, &stop).await? else {
            return Ok(None);
        };
        // Goes with the work: its caller may go away before the thread is free.
        let work = move |connection: &Connection| {
            let _turn = turn;
            work(connection)
        };
        self.run(stop, work).await
    }

    /// Runs `work` with a connection; none when it was stopped before one was free. `stop.cancel` is cancelled when the caller
    /// goes away.
    pub(super) async fn run<T, F>(&self, stop: Stop, work: F) -> Result<Option<T>, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let Some(permit) = turn(&self.permits, &stop).await? else {
            return Ok(None);
        };
        let _gone = stop.cancel.clone().drop_guard();
        let (path, idle) = (self.path.clone(), Arc::clone(&self.idle));
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let waiting = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = match waiting {
                Some(connection) => connection,
                None => schema::open_reader(&path)?,
            };
            let watched = connection.progress_handler(STEPS_PER_CHECK, Some(move || stop.is_now()));
            let result = watched
                .map_err(|error| super::store_error(&path, &error))
                .and_then(|()| work(&connection));
            if connection.progress_handler(0, None::<fn() -> bool>).is_ok() {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            result
        });
        reading.await.unwrap_or(Err(StoreError::Closed)).map(Some)
    }
}

/// A permit; none when it was stopped before one was free.
async fn turn(permits: &Arc<Semaphore>, stop: &Stop) -> Result<Option<OwnedSemaphorePermit>, StoreError> {
    tokio::select! {
        permit = Arc::clone(permits).acquire_owned() => permit.map(Some).map_err(|_| StoreError::Closed),
        () = stop.cancel.cancelled() => Ok(None),
        () = tokio::time::sleep_until(stop.deadline.into()) => Ok(None),
    }
}
