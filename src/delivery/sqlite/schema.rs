//! The journal file's format: making it, bringing an older one forward, refusing what is not ours.
//!
//! Always holds: a step forward is one transaction with its number, so a file is never between two formats; a file that is
//! refused is left as it was.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::journal_error;
use crate::delivery::journal::{JournalError, Result};
use crate::store::file::{self, pragma};

/// `OCDJ`: says that the file is a journal.
const APPLICATION: i64 = 0x4f43_444a;

/// Step `i` brings a file from format `i` to `i + 1`; 0 is an empty file. The format is kept in `user_version`.
pub(super) const STEPS: &[&str] = &[FIRST, SECOND];

/// Why the tables are as they are:
/// - What goes to every partner (`change`) and what is for one peer (`directed`) are two tables with one numbering, so that a
///   partner's tail walks a primary key and nobody else's rows stand in its way.
/// - `own` says which row a key has now: narrow, in key order, so that comparing lists reads no document, and a new row of a
///   key leaves `stored` alone.
/// - `held` is in the order of an origin's keys; its second index answers who holds a key without touching a row.
/// - Large columns come last: a row's head is read without the pages of its payload.
const FIRST: &str = "
    CREATE TABLE meta (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        lineage BLOB NOT NULL,
        head INTEGER NOT NULL,
        floor INTEGER NOT NULL,
        last_todo INTEGER NOT NULL
    ) STRICT;
    INSERT INTO meta VALUES (1, randomblob(16), 0, 0, 0);
    CREATE TABLE incarnation (n INTEGER PRIMARY KEY, id BLOB NOT NULL, first_seq INTEGER NOT NULL) STRICT;
    CREATE TABLE intake (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        source TEXT NOT NULL,
        created TEXT NOT NULL,
        last_seq INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE change (
        seq INTEGER PRIMARY KEY,
        datatype INTEGER NOT NULL,
        id TEXT NOT NULL,
        action INTEGER NOT NULL,
        at INTEGER NOT NULL,
        user TEXT NOT NULL,
        hash BLOB NOT NULL,
        payload BLOB NOT NULL
    ) STRICT;
    CREATE INDEX tombstone ON change (seq, at) WHERE action = 4;
    CREATE TABLE own (
        datatype INTEGER NOT NULL,
        id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        hash BLOB,
        stored INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (datatype, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE directed (
        seq INTEGER PRIMARY KEY,
        dest TEXT NOT NULL,
        datatype INTEGER NOT NULL,
        id TEXT NOT NULL,
        action INTEGER NOT NULL,
        at INTEGER NOT NULL,
        size INTEGER NOT NULL,
        user TEXT NOT NULL,
        hash BLOB NOT NULL,
        payload BLOB NOT NULL
    ) STRICT;
    CREATE INDEX directed_by_dest ON directed (dest, seq, size);

    CREATE TABLE partner (
        did TEXT PRIMARY KEY,
        acked_seq INTEGER NOT NULL,
        acked_at INTEGER NOT NULL,
        legacy INTEGER NOT NULL,
        hold_code TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE parked (
        dest TEXT NOT NULL,
        datatype INTEGER NOT NULL,
        id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        at INTEGER NOT NULL,
        code TEXT NOT NULL,
        detail TEXT NOT NULL,
        PRIMARY KEY (dest, datatype, id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX parked_by_age ON parked (at, seq);
    CREATE INDEX parked_by_dest ON parked (dest, at, seq);

    CREATE TABLE origin (
        did TEXT PRIMARY KEY,
        lineage BLOB NOT NULL,
        incarnation BLOB NOT NULL,
        seq INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE held (
        origin TEXT NOT NULL,
        datatype INTEGER NOT NULL,
        id TEXT NOT NULL,
        hash BLOB NOT NULL,
        PRIMARY KEY (origin, datatype, id)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX held_by_key ON held (datatype, id);
    CREATE TABLE todo (
        n INTEGER PRIMARY KEY,
        origin TEXT NOT NULL,
        directed INTEGER NOT NULL,
        datatype INTEGER NOT NULL,
        id TEXT NOT NULL,
        action INTEGER NOT NULL,
        user TEXT NOT NULL,
        payload BLOB NOT NULL
    ) STRICT;
    CREATE TABLE seen (
        origin TEXT NOT NULL,
        msg_id TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (origin, msg_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX seen_by_age ON seen (at);";

/// The first PeerId seen with each DID, which a document alone must not change.
const SECOND: &str = "
    CREATE TABLE pin (did TEXT PRIMARY KEY, peer_id TEXT NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;";

/// Opens the connection that writes; makes the file and its tables when there are none.
pub(super) fn open(path: &Path) -> Result<Connection> {
    file::make_private(path).map_err(|error| {
        let why = format!("cannot be made or opened ({error}); its directory must exist and be writable");
        unusable(path, why)
    })?;
    let mut connection = file::open_writer(path).map_err(|error| journal_error(path, &error))?;
    prepare(&mut connection, path, STEPS)?;
    Ok(connection)
}

/// Opens a connection that only reads a file which [`open`] has brought to the known format.
pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    let connection = file::open_reader(path).map_err(|error| journal_error(path, &error))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Prepared statements kept: all there are.
const STATEMENTS: usize = 96;

/// Sets the connection up and brings the file forward, step by step.
pub(super) fn prepare(connection: &mut Connection, path: &Path, steps: &[&str]) -> Result<()> {
    let failed = |error: rusqlite::Error| journal_error(path, &error);
    if connection.is_readonly("main").map_err(failed)? {
        return Err(unusable(path, READ_ONLY));
    }
    check_ours(connection, path, steps)?;
    file::set_up_writer(connection).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    bring_forward(connection, steps).map_err(failed)?;
    let whole: bool = connection
        .query_row("SELECT count(*) = 1 FROM meta WHERE length(lineage) = 16", [], |row| {
            row.get(0)
        })
        .map_err(failed)?;
    if !whole {
        return Err(unusable(path, DAMAGED));
    }
    Ok(())
}

fn check_ours(connection: &Connection, path: &Path, steps: &[&str]) -> Result<()> {
    let failed = |error: rusqlite::Error| journal_error(path, &error);
    let found = pragma(connection, "user_version").map_err(failed)?;
    let application = pragma(connection, "application_id").map_err(failed)?;
    let empty = found == 0 && application == 0 && !file::has_tables(connection).map_err(failed)?;
    if application != APPLICATION && !empty {
        return Err(unusable(path, NOT_OURS));
    }
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(JournalError::Newer {
            path: path.display().to_string(),
            found,
            known,
        });
    }
    Ok(())
}

fn bring_forward(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    for (to, step) in (1_i64..).zip(steps) {
        if pragma(connection, "user_version")? >= to {
            continue;
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have done it while this one waited for the lock.
        if pragma(&transaction, "user_version")? < to {
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", to)?;
        }
        transaction.commit()?;
    }
    Ok(())
}

pub(super) const READ_ONLY: &str = "the journal is read-only; make the file and its directory writable for this user";
pub(super) const NOT_OURS: &str = "not a journal of this daemon; move it away to begin with an empty one";
pub(super) const DAMAGED: &str =
    "the journal is damaged; put a backup in its place, or move it away to begin with an empty one";

pub(super) fn unusable(path: &Path, why: impl Into<String>) -> JournalError {
    JournalError::Unusable {
        path: path.display().to_string(),
        why: why.into(),
    }
}
