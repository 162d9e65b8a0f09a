//! The file's format: opening, making and refusing it.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::store_error;
use crate::store::StoreError;

/// The format this version writes, kept in `user_version`.
pub(super) const FORMAT: i64 = 1;
/// `OCDS`: says that the file is a document store.
const APPLICATION: i64 = 0x4f43_4453;
/// How long a connection waits for another one; there is one writer, so only a start beside a dying process waits.
const BUSY: Duration = Duration::from_secs(5);

/// `n` numbers the rows for the word index. `relation`, `peer_id` and `name` are filled for peers only.
/// The literal ranges are repeated in the queries: a partial index serves only those that state its condition.
const TABLES: &str = "
    CREATE TABLE document (
        n INTEGER PRIMARY KEY,
        datatype INTEGER NOT NULL,
        id TEXT NOT NULL,
        creator_id TEXT,
        access INTEGER NOT NULL,
        relation INTEGER,
        peer_id TEXT,
        name TEXT,
        doc BLOB NOT NULL,
        UNIQUE (datatype, id)
    ) STRICT;
    CREATE INDEX resource_by_creator ON document (creator_id, datatype) WHERE datatype BETWEEN 1 AND 5;
    CREATE INDEX peer_by_relation ON document (relation) WHERE datatype = 9;
    CREATE INDEX peer_by_peer_id ON document (peer_id) WHERE datatype = 9;
    CREATE INDEX peer_by_name ON document (name) WHERE datatype = 9;
    CREATE VIRTUAL TABLE words USING fts5 (
        name, description, short_description,
        content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
    );";

/// Opens the writer's connection; makes the file and its tables when there are none.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    make_private(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|error| store_error(path, &error))?;
    if connection
        .is_readonly("main")
        .map_err(|error| store_error(path, &error))?
    {
        return Err(StoreError::ReadOnly { path: path.to_owned() });
    }
    prepare(&mut connection, path)?;
    Ok(connection)
}

/// Opens one of the readers' connections.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
        .and_then(|connection| {
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        })
        .map_err(|error| store_error(path, &error))
}

/// Documents are private: the file is made for its user alone, and SQLite gives its side files the same mode.
fn make_private(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::CannotOpen {
            path: path.to_owned(),
            why: error.to_string(),
        }),
    }
}

/// Sets the connection up and brings the file to the known format.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| store_error(path, &error);
    connection.busy_timeout(BUSY).map_err(failed)?;
    check_format(connection, path)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection
        .pragma_update(None, "synchronous", "NORMAL")
        .map_err(failed)?;
    // Long enough a log that large groups are not interrupted by checkpoints every few of them; cut back to 64 MiB after.
    connection
        .pragma_update(None, "wal_autocheckpoint", 4000)
        .map_err(failed)?;
    connection
        .pragma_update(None, "journal_size_limit", 64 << 20)
        .map_err(failed)?;
    connection.pragma_update(None, "cache_size", -8000).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(32);
    make_tables(connection).map_err(failed)
}

fn check_format(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| store_error(path, &error);
    let format = pragma(connection, "user_version").map_err(failed)?;
    let application = pragma(connection, "application_id").map_err(failed)?;
    if application != APPLICATION {
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(failed)?;
        if tables > 0 || format != 0 || application != 0 {
            return Err(StoreError::NotAStore { path: path.to_owned() });
        }
    }
    if format > FORMAT {
        return Err(StoreError::NewerFormat {
            path: path.to_owned(),
            found: format,
            known: FORMAT,
        });
    }
    Ok(())
}

fn make_tables(connection: &mut Connection) -> rusqlite::Result<()> {
    if pragma(connection, "user_version")? == FORMAT {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if pragma(&transaction, "user_version")? == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
    }
    transaction.commit()
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
