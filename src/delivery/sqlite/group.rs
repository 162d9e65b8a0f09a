//! Several requests in one commit.
//!
//! Always holds: a request that fails is undone alone. When SQLite itself takes the whole transaction back (no room, an I/O
//! error), nothing more is written until the group has ended, and everybody in it is told why.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::{SqliteJournal, journal_error};
use crate::delivery::journal::{Journal, JournalError, Result};
use crate::store::file;

/// Between two groups: nothing. In one: whether SQLite has taken it back.
#[derive(Debug, Default)]
pub(super) struct State {
    open: bool,
    /// Nothing was written in it yet.
    fresh: bool,
    /// A verb of the request in hand has failed, and may be half done.
    failed: Option<JournalError>,
    lost: Option<JournalError>,
    /// A sync has failed: the system may have dropped what it could not write, and a further sync of the same file would say
    /// that all is well.
    unsynced: bool,
}

impl State {
    /// A verb has failed inside a request.
    pub(super) fn failed(&mut self, error: &JournalError) {
        self.failed.get_or_insert_with(|| error.clone());
    }

    /// A verb outside any transaction: right between groups, a fault inside one.
    pub(super) fn check(&self) -> Result<()> {
        match (self.open, &self.lost) {
            (false, _) => Ok(()),
            (true, Some(error)) => Err(error.clone()),
            (true, None) => Err(JournalError::Failed("its transaction was taken back".to_owned())),
        }
    }
}

impl SqliteJournal {
    /// Begins a group.
    pub(in crate::delivery) fn begin_group(&mut self) -> Result<()> {
        self.run("BEGIN IMMEDIATE")?;
        self.group.open = true;
        self.group.fresh = true;
        self.group.lost = None;
        Ok(())
    }

    /// One request of the group, whole or not at all. The first one needs no savepoint, which costs a copy of each page that
    /// it writes: when it fails, nothing else is lost with the transaction.
    pub(in crate::delivery) fn request<T>(&mut self, work: impl FnOnce(&mut dyn Journal) -> Result<T>) -> Result<T> {
        let first = std::mem::replace(&mut self.group.fresh, false);
        if !first {
            self.run("SAVEPOINT request")?;
        }
        self.group.failed = None;
        let done = work(self);
        let done = self.group.failed.take().map_or(done, Err);
        let done = match first {
            true => done,
            false => done.and_then(|done| self.run("RELEASE request").map(|()| done)),
        };
        if let Err(error) = &done {
            if self.connection.is_autocommit() {
                self.group.lost = Some(error.clone());
            } else if first {
                self.run("ROLLBACK")?;
                self.run("BEGIN IMMEDIATE")?;
                self.group.fresh = true;
            } else {
                self.run("ROLLBACK TO request")?;
                self.run("RELEASE request")?;
            }
        }
        done
    }

    /// Whether SQLite has taken the group back: no use in adding to it.
    pub(in crate::delivery) fn is_group_lost(&self) -> bool {
        self.group.lost.is_some() || (self.group.open && self.connection.is_autocommit())
    }

    /// Commits the group. An error means for everybody in it that nothing was written.
    pub(in crate::delivery) fn end_group(&mut self) -> Result<()> {
        let lost = match self.is_group_lost() {
            true => self.group.check(),
            false => Ok(()),
        };
        self.group.open = false;
        self.group.lost = None;
        lost?;
        if let Err(error) = self.run("COMMIT") {
            if !self.connection.is_autocommit() {
                self.run("ROLLBACK")?;
            }
            return Err(error);
        }
        Ok(())
    }

    /// A sync by somebody else has failed.
    pub(in crate::delivery) fn sync_failed(&mut self) {
        self.group.unsynced = true;
    }

    /// Where its file is.
    pub(in crate::delivery) fn path(&self) -> &Path {
        &self.path
    }

    /// Brings what is committed to the disk. After one that failed, by writing all of the log anew, into the file.
    /// After an error what is committed is there, and may be gone again after a power cut.
    pub(in crate::delivery) fn sync(&mut self) -> Result<()> {
        let synced = match self.group.unsynced {
            true => self.fold(),
            false => file::sync_log(&self.path).map_err(|error| JournalError::Failed(format!("fsync: {error}"))),
        };
        self.group.unsynced = synced.is_err();
        synced
    }

    /// Copies the log into the file, syncs the file, and empties the log.
    fn fold(&self) -> Result<()> {
        let fold =
            |connection: &Connection| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        match self.read(fold)? {
            false => Ok(()),
            true => Err(JournalError::Failed(
                "somebody still reads from the log, so it cannot be folded".to_owned(),
            )),
        }
    }

    /// From now on nothing is copied from the log into the file but by [`SqliteJournal::fold_what_is_free`].
    pub(in crate::delivery) fn fold_by_hand(&mut self) -> Result<()> {
        let pages = Arc::clone(&self.log_pages);
        let count = move |_: &mut Wal, now| {
            pages.store(now, Ordering::Relaxed);
            Ok(())
        };
        let set = self.connection.wal_hook(Some(count));
        set.map_err(|error| self.failed(&error))
    }

    /// Whether it is time to.
    pub(in crate::delivery) fn log_is_long(&self) -> bool {
        self.log_pages.load(Ordering::Relaxed) >= file::LOG_PAGES
    }

    /// Copies what no reader holds back from the log into the file, so that the log is written from its start again.
    pub(in crate::delivery) fn fold_what_is_free(&mut self) -> Result<()> {
        self.log_pages.store(0, Ordering::Relaxed);
        self.read(|connection| connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())))
    }

    /// Reads several things as of one moment.
    pub(in crate::delivery) fn at_one_moment<T>(&self, work: impl FnOnce(&dyn Journal) -> Result<T>) -> Result<T> {
        self.run("BEGIN")?;
        let done = work(self);
        self.run("COMMIT")?;
        done
    }

    /// Folds the log into the file and closes it: one file is left. The last connection of the file must do it.
    pub(in crate::delivery) fn close(self) -> Result<()> {
        // A reader elsewhere (a backup, an operator's tool) is not waited for: the log stays, and nothing is lost.
        self.read(|connection| connection.busy_timeout(Duration::ZERO))?;
        let folded = self.fold();
        let Self { path, connection, .. } = self;
        connection.close().map_err(|(_, error)| journal_error(&path, &error))?;
        folded
    }

    /// Lets the file grow by at most this many pages, as a disk that fills up does; none: as it likes.
    #[cfg(test)]
    pub(in crate::delivery) fn limit_growth(&mut self, pages: Option<i64>) -> Result<()> {
        self.read(|connection| {
            let now = file::pragma(connection, "page_count")?;
            let most = pages.map_or(i64::from(u32::MAX) - 1, |pages| now + pages);
            connection.pragma_update(None, "max_page_count", most)
        })
    }

    fn run(&self, sql: &str) -> Result<()> {
        let run = |connection: &Connection| connection.prepare_cached(sql)?.execute([]).map(drop);
        self.read(run)
    }
}
