//! The journal in one SQLite file of the state directory.
//!
//! Owns the file, its tables and every SQL text about them. Never decides anything: a verb does what the trait says. Always
//! holds: one connection writes; a verb outside a group is a transaction of its own, inside a group a part of its request,
//! which is undone alone; numbers come from the file, never from memory, so that nothing is known that a rollback took back.

mod feed;
mod group;
mod inbox;
mod notes;
mod own;
mod schema;
mod value;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use self::value::Range;
use super::journal::{Journal, JournalError, Result};
use super::types::{
    Change, Cursor, Feed, Hash, Held, Key, OwnKey, Parked, PartnerNote, Pin, Position, Received, Row, Todo, Token,
    Verdict,
};

/// A journal over one connection.
#[derive(Debug)]
pub struct SqliteJournal {
    path: PathBuf,
    connection: Connection,
    group: group::State,
    /// Pages in the log after the last commit, once they are counted.
    log_pages: Arc<AtomicI32>,
}

impl SqliteJournal {
    /// Opens the file, or makes it, readable for its user alone; brings an older format forward.
    ///
    /// # Errors
    /// Cannot be made, not ours, damaged, read-only, or from a newer version.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::over(path, schema::open(path)?))
    }

    /// Opens it a second time, to read only what is committed: verbs that write fail.
    ///
    /// # Errors
    /// Cannot be opened.
    pub fn open_reader(path: &Path) -> Result<Self> {
        Ok(Self::over(path, schema::open_reader(path)?))
    }

    fn over(path: &Path, connection: Connection) -> Self {
        Self {
            path: path.to_owned(),
            connection,
            group: group::State::default(),
            log_pages: Arc::default(),
        }
    }

    fn failed(&self, error: &rusqlite::Error) -> JournalError {
        journal_error(&self.path, error)
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&self.connection).map_err(|error| self.failed(&error))
    }

    /// Does the work wholly or not at all; inside a group, its request.
    fn write<T>(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let path = &self.path;
        let failed = |error: rusqlite::Error| journal_error(path, &error);
        if !self.connection.is_autocommit() {
            // Inside a request, which is undone as a whole.
            let done = work(&self.connection).map_err(failed);
            return done.inspect_err(|error| self.group.failed(error));
        }
        self.group.check()?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let done = work(&transaction).map_err(failed)?;
        transaction.commit().map(|()| done).map_err(failed)
    }
}

impl Journal for SqliteJournal {
    fn feed(&self) -> Result<Feed> {
        self.read(feed::feed)
    }

    fn bounds(&self) -> Result<(u64, u64)> {
        self.read(feed::bounds)
    }

    fn begin_incarnation(&mut self, id: Token) -> Result<()> {
        self.write(|connection| feed::begin_incarnation(connection, id))
    }

    fn cursor(&self) -> Result<Option<Cursor>> {
        self.read(feed::cursor)
    }

    fn take(&mut self, changes: &[Change], cursor: Option<&Cursor>) -> Result<Vec<Row>> {
        self.write(|connection| feed::take(connection, changes, cursor))
    }

    fn rows_after(
        &self,
        after: u64,
        dest: &str,
        directed_only: bool,
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Vec<Row>> {
        self.read(|connection| feed::rows_after(connection, after, dest, directed_only, max_rows, max_bytes))
    }

    fn row(&self, key: &Key) -> Result<Option<Row>> {
        self.read(|connection| own::row(connection, key))
    }

    fn own_keys(&self, after: Option<&Key>, to: Option<&Key>, limit: usize) -> Result<Vec<OwnKey>> {
        self.read(|connection| own::keys(connection, &Range::new(after, to), limit))
    }

    fn note_stored(&mut self, keys: &[Key]) -> Result<()> {
        self.write(|connection| own::note_stored(connection, keys))
    }

    fn was_stored(&self, key: &Key) -> Result<bool> {
        self.read(|connection| own::was_stored(connection, key))
    }

    fn purge_tombstones(&mut self, before: u64, keep: usize, limit: usize) -> Result<usize> {
        self.write(|connection| own::purge_tombstones(connection, before, keep, limit))
    }

    fn directed_done(&mut self, dest: &str, seq: u64) -> Result<()> {
        self.write(|connection| notes::directed_done(connection, dest, seq))
    }

    fn directed_waiting(&self, dest: &str) -> Result<(u64, u64)> {
        self.read(|connection| feed::directed_waiting(connection, dest))
    }

    fn directed_dests(&self) -> Result<Vec<String>> {
        self.read(feed::directed_dests)
    }

    fn lag(&self, after: u64, dest: &str) -> Result<(u64, u64)> {
        self.read(|connection| feed::lag(connection, after, dest))
    }

    fn partners(&self) -> Result<Vec<PartnerNote>> {
        self.read(notes::partners)
    }

    fn note_partner(&mut self, note: &PartnerNote) -> Result<()> {
        self.write(|connection| notes::note_partner(connection, note))
    }

    fn forget_dest(&mut self, did: &str) -> Result<()> {
        self.write(|connection| notes::forget_dest(connection, did))
    }

    fn park(&mut self, parked: &Parked, keep: usize) -> Result<()> {
        self.write(|connection| notes::park(connection, parked, keep))
    }

    fn parked_page(&self, dest: Option<&str>, id: Option<&str>, skip: usize, limit: usize) -> Result<Vec<Parked>> {
        self.read(|connection| notes::parked(connection, (dest, id), skip, limit))
    }

    fn parked_count(&self, dest: Option<&str>, id: Option<&str>) -> Result<u64> {
        self.read(|connection| notes::parked_count(connection, (dest, id)))
    }

    fn unpark(&mut self, dest: &str, key: &Key) -> Result<bool> {
        self.write(|connection| notes::unpark(connection, dest, key))
    }

    fn unpark_acked(&mut self, dest: &str, seq: u64) -> Result<()> {
        self.write(|connection| notes::unpark_acked(connection, dest, seq))
    }

    fn pins(&self) -> Result<Vec<Pin>> {
        self.read(notes::pins)
    }

    fn pin(&mut self, pin: &Pin, keep: usize) -> Result<bool> {
        self.write(|connection| notes::pin(connection, pin, keep))
    }

    fn unpin(&mut self, did: &str) -> Result<()> {
        self.write(|connection| notes::unpin(connection, did))
    }

    fn origin(&self, did: &str) -> Result<Option<Position>> {
        self.read(|connection| inbox::origin(connection, did))
    }

    fn set_origin(&mut self, did: &str, position: Option<Position>) -> Result<()> {
        self.write(|connection| inbox::set_origin(connection, did, position))
    }

    fn receive(
        &mut self,
        origin: &str,
        lines: &[Received],
        position: Option<Position>,
        at: u64,
    ) -> Result<Vec<Verdict>> {
        self.write(|connection| inbox::receive(connection, origin, lines, position, at))
    }

    fn held(&self, origin: &str, after: Option<&Key>, to: Option<&Key>, limit: usize) -> Result<Vec<Held>> {
        self.read(|connection| inbox::held(connection, origin, &Range::new(after, to), limit))
    }

    fn holder(&self, key: &Key) -> Result<Option<String>> {
        self.read(|connection| inbox::holder(connection, key))
    }

    fn todo(&self, after: u64, limit: usize) -> Result<Vec<Todo>> {
        self.read(|connection| inbox::todo(connection, after, limit))
    }

    fn last_todo(&self) -> Result<u64> {
        self.read(inbox::last_todo)
    }

    fn todo_waiting(&self) -> Result<u64> {
        self.read(inbox::todo_waiting)
    }

    fn published(&mut self, n: u64) -> Result<()> {
        self.write(|connection| inbox::published(connection, n))
    }

    fn give_up(&mut self, origin: &str, key: &Key, hash: Hash) -> Result<()> {
        self.write(|connection| inbox::give_up(connection, origin, key, hash))
    }

    fn forget_origin(&mut self, did: &str) -> Result<()> {
        self.write(|connection| inbox::forget_origin(connection, did))
    }

    fn origins(&self) -> Result<Vec<String>> {
        self.read(inbox::origins)
    }

    fn purge_seen(&mut self, before: u64, limit: usize) -> Result<usize> {
        self.write(|connection| inbox::purge_seen(connection, before, limit))
    }

    fn seen_over(&self, most: usize) -> Result<Vec<(String, usize)>> {
        self.read(|connection| inbox::seen_over(connection, most))
    }

    fn forget_seen(&mut self, origin: &str, limit: usize) -> Result<usize> {
        self.write(|connection| inbox::forget_seen(connection, origin, limit))
    }

    fn held_sum(&self, origin: &str, after: Option<&Key>, to: Option<&Key>) -> Result<(u64, Hash)> {
        self.read(|connection| inbox::held_sum(connection, origin, &Range::new(after, to)))
    }

    fn own_sum(&self, after: Option<&Key>, to: Option<&Key>) -> Result<(u64, Hash)> {
        self.read(|connection| own::sum(connection, &Range::new(after, to)))
    }
}

/// What an SQLite error means for the file's owner.
pub(super) fn journal_error(path: &Path, error: &rusqlite::Error) -> JournalError {
    let unusable = |why: &str| schema::unusable(path, format!("{why} ({error})"));
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => JournalError::Full {
            path: path.display().to_string(),
        },
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            unusable("cannot be opened; its directory must exist and be writable")
        }
        Some(ErrorCode::NotADatabase) => unusable(schema::NOT_OURS),
        Some(ErrorCode::DatabaseCorrupt) => unusable(schema::DAMAGED),
        Some(ErrorCode::ReadOnly) => unusable(schema::READ_ONLY),
        _ => JournalError::Failed(error.to_string()),
    }
}
