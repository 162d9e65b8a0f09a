//! The embedded store: one SQLite file, one writer thread, a few readers.
//!
//! Owns the file and its tables. Always holds: one connection writes, whatever queued up while it committed goes into its next
//! transaction, and words are indexed in the transaction that stores their document.

mod apply;
mod folding;
mod peers;
mod readers;
mod schema;
mod search;
mod words;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::folding::Folding;
use self::readers::{Readers, Stop};
use self::writer::Writer;
use super::copy::{CopyError, copy};
use super::{Applied, Found, Peers, SearchDone, SearchQuery, Store, StoreError, Write};
use crate::model::{Document, Peer};
use crate::wire::DataType;

/// Longest any call may take, a search apart.
const OPERATION_MAX: Duration = Duration::from_secs(10);

/// Keys that are looked up on the caller's thread: some tens of microseconds.
const FEW: usize = 8;

/// Documents in one SQLite file. Dropping it ends its writer.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    readers: Readers,
    writer: Writer,
    folding: Folding,
}

impl SqliteStore {
    /// Opens the file, or makes it, readable for its user alone.
    ///
    /// # Errors
    /// Not there and cannot be made, not ours, damaged, read-only, or from a newer version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = schema::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            readers: Readers::new(path),
            writer: Writer::start(path, connection)?,
            folding: Folding::of(path.to_owned()),
        })
    }

    /// Reads on a blocking thread, within the time any call may take.
    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    {
        let stop = Stop {
            cancel: CancellationToken::new(),
            deadline: Instant::now() + OPERATION_MAX,
        };
        let path = self.path.clone();
        let reading = self.readers.run(stop, move |connection| {
            work(connection).map_err(|error| match error {
                ReadError::Sql(error) => store_error(&path, &error),
                ReadError::Store(error) => error,
            })
        });
        within(reading).await?.ok_or(StoreError::Timeout(OPERATION_MAX))
    }
}

fn owners(connection: &Connection, keys: &[(DataType, String)]) -> rusqlite::Result<Vec<Option<String>>> {
    // Reading once for many: taking and giving back the file's locks for each takes longer than finding it.
    let _reading = (keys.len() > 1)
        .then(|| connection.unchecked_transaction())
        .transpose()?;
    let mut query = connection.prepare_cached("SELECT creator_id FROM document WHERE datatype = ?1 AND id = ?2")?;
    let owner = |(datatype, id): &(DataType, String)| {
        let creator = query.query_row(params![datatype.code(), id], |row| row.get::<_, Option<String>>(0));
        creator.optional().map(|stored| stored.map(Option::unwrap_or_default))
    };
    keys.iter().map(owner).collect()
}

/// Why a piece of reading failed.
enum ReadError {
    Sql(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn ready(&self) -> Result<(), StoreError> {
        self.read(|connection| {
            Ok(connection.query_row("SELECT count(*) FROM (SELECT 1 FROM document LIMIT 1)", [], |_| Ok(()))?)
        })
        .await?;
        within(self.writer.probe()).await
    }

    async fn self_peer(&self) -> Result<Option<Peer>, StoreError> {
        self.read(peers::self_peer).await
    }

    async fn peers(&self, limit: usize) -> Result<Peers, StoreError> {
        self.read(move |connection| Ok(peers::all(connection, limit)?)).await
    }

    async fn find_peers(&self, key: &str) -> Result<Vec<Peer>, StoreError> {
        let key = key.to_owned();
        self.read(move |connection| Ok(peers::find(connection, &key)?)).await
    }

    async fn get(&self, datatype: DataType, id: &str) -> Result<Option<Document>, StoreError> {
        let id = id.to_owned();
        self.read(move |connection| {
            let mut query = connection.prepare_cached("SELECT doc FROM document WHERE datatype = ?1 AND id = ?2")?;
            let doc: Option<Vec<u8>> = query
                .query_row(params![datatype.code(), id], |row| row.get(0))
                .optional()?;
            Ok(doc.map(|doc| document(datatype, &id, doc)).transpose()?)
        })
        .await
    }

    async fn documents(&self, keys: &[(DataType, String)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let keys = keys.to_vec();
        self.read(move |connection| {
            let mut query = connection.prepare_cached("SELECT doc FROM document WHERE datatype = ?1 AND id = ?2")?;
            let stored = |(datatype, id): (DataType, String)| {
                let doc = query.query_row(params![datatype.code(), id], |row| row.get::<_, Vec<u8>>(0));
                doc.optional().map(|doc| doc.map(Bytes::from))
            };
            Ok(keys.into_iter().map(stored).collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn owners(&self, keys: &[(DataType, String)]) -> Result<Vec<Option<String>>, StoreError> {
        if keys.len() <= FEW
            && let Some(owners) = self.readers.here(|connection| owners(connection, keys))
        {
            return owners.map_err(|error| store_error(&self.path, &error));
        }
        let keys = keys.to_vec();
        self.read(move |connection| Ok(owners(connection, &keys)?)).await
    }

    async fn apply(&self, writes: Vec<Write>) -> Result<Vec<Applied>, StoreError> {
        let applied = within(self.writer.apply(writes)).await;
        self.folding.look(&self.readers, &self.writer);
        applied
    }

    async fn sync(&self) -> Result<(), StoreError> {
        within(self.writer.sync()).await
    }

    async fn backup(&self, to: &Path) -> Result<bool, StoreError> {
        let (from, to) = (self.path.clone(), to.to_owned());
        let copying = tokio::task::spawn_blocking(move || {
            copy(&from, &to).map_err(|error| match error {
                CopyError::Sqlite(error) => store_error(&to, &error),
                other => StoreError::Database {
                    store: to.display().to_string(),
                    why: other.to_string(),
                },
            })
        });
        copying.await.unwrap_or(Err(StoreError::Closed)).map(|()| true)
    }

    async fn search(&self, query: SearchQuery, out: mpsc::Sender<Found>) -> Result<SearchDone, StoreError> {
        search::run(&self.readers, &self.path, query, out).await
    }
}

/// Ends what takes longer than any call may.
async fn within<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(OPERATION_MAX, work)
        .await
        .unwrap_or(Err(StoreError::Timeout(OPERATION_MAX)))
}

fn document(datatype: DataType, id: &str, bytes: Vec<u8>) -> Result<Document, StoreError> {
    Document::new(Bytes::from(bytes)).map_err(|why| StoreError::Document {
        datatype: datatype.name(),
        id: id.to_owned(),
        why,
    })
}

/// What an SQLite error means for the file's owner.
fn store_error(path: &Path, error: &rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => StoreError::CannotOpen {
            path,
            why: error.to_string(),
        },
        Some(ErrorCode::NotADatabase) => StoreError::NotAStore { path },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Corrupt {
            path,
            why: error.to_string(),
        },
        Some(ErrorCode::ReadOnly) => StoreError::ReadOnly { path },
        Some(ErrorCode::DiskFull) => StoreError::Full { path },
        Some(ErrorCode::OperationInterrupted | ErrorCode::DatabaseBusy) => StoreError::Timeout(OPERATION_MAX),
        _ => StoreError::Database {
            store: path.display().to_string(),
            why: error.to_string(),
        },
    }
}
