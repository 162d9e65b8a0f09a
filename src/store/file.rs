//! What every SQLite file of this daemon has in common: who may read it, how it is opened, and how it reaches the disk.
//!
//! Never knows what is in it. Always holds: the file is its user's alone; commits go to a log beside it (WAL) that survives
//! the process, and reaches the disk when somebody asks ([`sync_log`]) or a checkpoint folds it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// How long a connection waits for another one; there is one writer, so only a start beside a dying process waits.
const BUSY: Duration = Duration::from_secs(5);

/// Pages in the log at which it is folded into the file: large groups are not held up by that every few of them.
pub(crate) const LOG_PAGES: i32 = 4000;
/// The same in bytes.
pub(crate) const LOG_BYTES: u64 = LOG_PAGES as u64 * 4096;

/// Makes the file when there is none, for its user alone; SQLite gives its side files the same mode.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// A connection to a file that is there.
pub(crate) fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// A connection that can only read.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open_writer(path)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Sets up the connection that writes.
pub(crate) fn set_up_writer(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    // Where a reader held it back: cut to this when it is folded.
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    // What a part of a transaction may take back is noted in memory: a file for it would be made and removed at each commit.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -8000)
}

/// Brings what is committed to the disk. With `synchronous = NORMAL` a commit is in the log but maybe not on the disk; what
/// has left the log was synced by the checkpoint.
pub(crate) fn sync_log(path: &Path) -> io::Result<()> {
    File::open(log_of(path)).and_then(|file| file.sync_data())
}

/// Copies the log into the file and empties it; false when somebody still reads from it after `wait`.
pub(crate) fn fold_log(connection: &Connection, wait: Duration) -> rusqlite::Result<bool> {
    connection.busy_timeout(wait)?;
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
    connection.busy_timeout(BUSY)?;
    busy.map(|busy: bool| !busy)
}

/// Bytes of the log beside the file.
pub(crate) fn log_bytes(path: &Path) -> u64 {
    std::fs::metadata(log_of(path)).map_or(0, |log| log.len())
}

fn log_of(path: &Path) -> std::ffi::OsString {
    let mut log = path.to_owned().into_os_string();
    log.push("-wal");
    log
}

/// A pragma that is a number.
pub(crate) fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// Whether the file holds any table.
pub(crate) fn has_tables(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))
}
