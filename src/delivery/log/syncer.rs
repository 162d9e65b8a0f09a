//! The thread that brings commits to the disk, so that the next commit does not wait for the disk.
//!
//! Always holds: whoever is told that the disk has it was committed before the sync began; after a sync that failed, the
//! writer is told to write everything anew.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::Tell;
use crate::delivery::journal::{JournalError, Result};
use crate::store::file;

/// The thread's handle.
#[derive(Debug)]
pub(super) struct Syncer {
    /// Not bounded by itself: each entry is a caller that waits, and those are.
    owed: mpsc::Sender<Vec<Tell>>,
    failed: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Syncer {
    /// Starts the thread for the log of the file at `path`.
    pub(super) fn start(path: PathBuf) -> Result<Self> {
        let (owed, queue) = mpsc::channel();
        let failed = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&failed);
        let thread = std::thread::Builder::new()
            .name("journal-syncer".to_owned())
            .spawn(move || run(&path, &queue, &told))
            .map_err(|error| JournalError::Failed(format!("thread: {error}")))?;
        Ok(Self { owed, failed, thread })
    }

    /// Syncs what is committed by now, then tells these.
    pub(super) fn sync_then(&self, owed: Vec<Tell>) {
        if let Err(mpsc::SendError(owed)) = self.owed.send(owed) {
            let ended = Err(JournalError::Closed);
            owed.into_iter().for_each(|tell| tell(&ended));
        }
    }

    /// Whether a sync has failed, and nothing has made that good yet.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// A sync has failed elsewhere.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// Everything was brought to the disk another way.
    pub(super) fn is_made_good(&self) {
        self.failed.store(false, Ordering::Release);
    }

    /// Ends it, after what it owes.
    pub(super) fn finish(self) {
        drop(self.owed);
        self.thread.join().ok();
    }
}

fn run(path: &std::path::Path, queue: &mpsc::Receiver<Vec<Tell>>, failed: &AtomicBool) {
    while let Ok(mut owed) = queue.recv() {
        owed.extend(queue.try_iter().flatten());
        // After one that failed a further one would say that all is well.
        let synced = match failed.load(Ordering::Acquire) {
            true => Err(JournalError::Failed("fsync: an earlier one has failed".to_owned())),
            false => file::sync_log(path).map_err(|error| JournalError::Failed(format!("fsync: {error}"))),
        };
        if synced.is_err() {
            failed.store(true, Ordering::Release);
        }
        owed.into_iter().for_each(|tell| tell(&synced));
    }
}
