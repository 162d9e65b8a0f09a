//! The file's format: opening, making and refusing it.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};
use tracing::info;

use super::apply::access;
use super::{store_error, words};
use crate::model::read_stored;
use crate::store::StoreError;
use crate::store::file::{self, pragma};
use crate::wire::DataType;

/// The format this version writes, kept in `user_version`.
pub(super) const FORMAT: i64 = 3;
/// `OCDS`: says that the file is a document store.
const APPLICATION: i64 = 0x4f43_4453;

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
    CREATE INDEX peer_by_name ON document (name) WHERE datatype = 9;";

/// Opens the writer's connection; makes the file and its tables when there are none.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let failed = |error: rusqlite::Error| store_error(path, &error);
    file::make_private(path).map_err(|error| StoreError::CannotOpen {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    let mut connection = file::open_writer(path).map_err(failed)?;
    if connection.is_readonly("main").map_err(failed)? {
        return Err(StoreError::ReadOnly { path: path.to_owned() });
    }
    prepare(&mut connection, path)?;
    Ok(connection)
}

/// Opens one of the readers' connections.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    file::open_reader(path).map_err(|error| store_error(path, &error))
}

/// Sets the connection up and brings the file to the known format.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| store_error(path, &error);
    check_format(connection, path)?;
    file::set_up_writer(connection).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(32);
    make_tables(connection).map_err(failed)
}

fn check_format(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| store_error(path, &error);
    let format = pragma(connection, "user_version").map_err(failed)?;
    let application = pragma(connection, "application_id").map_err(failed)?;
    let empty = format == 0 && application == 0 && !file::has_tables(connection).map_err(failed)?;
    if application != APPLICATION && !empty {
        return Err(StoreError::NotAStore { path: path.to_owned() });
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

/// Makes the tables, or brings those of an earlier version forward, in one transaction: a start that is cut begins again.
fn make_tables(connection: &mut Connection) -> rusqlite::Result<()> {
    if pragma(connection, "user_version")? == FORMAT {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match pragma(&transaction, "user_version")? {
        0 => {
            transaction.execute_batch(TABLES)?;
            transaction.execute_batch(words::TABLE)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
        }
        1 | 2 => index_anew(&transaction)?,
        _ => return Ok(()),
    }
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

/// Format 2 finds the attributes of a kind, too, and knows of each document whether any partnership names anybody; format 3 has
/// its words folded in every alphabet.
fn index_anew(connection: &Connection) -> rusqlite::Result<()> {
    let count: i64 = connection.query_row("SELECT count(*) FROM document", [], |row| row.get(0))?;
    info!(
        documents = count,
        "the documents are indexed anew for this version; of a million that takes some minutes"
    );
    connection.execute_batch("DROP TABLE words;")?;
    connection.execute_batch(words::TABLE)?;
    let mut all =
        connection.prepare("SELECT n, datatype, doc FROM document WHERE datatype BETWEEN 1 AND 5 ORDER BY n")?;
    let mut note = connection.prepare("UPDATE document SET access = ?2 WHERE n = ?1")?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let n: i64 = row.get(0)?;
        let attributes = DataType::from_code(row.get::<_, u8>(1)?.into()).map_or(&[][..], DataType::attributes);
        let doc = row.get_ref(2)?.as_blob().unwrap_or_default();
        let fields = read_stored(doc, attributes).unwrap_or_default();
        note.execute((n, access(&fields)))?;
        words::index(connection, n, &fields, None)?;
    }
    Ok(())
}
