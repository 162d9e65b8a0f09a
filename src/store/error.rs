//! Why the store could not do it, in words that name the file and the way out.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::model::ModelError;

/// Why the store could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The file cannot be opened or made.
    #[error("cannot open the document store {}: {why}; its directory must exist and be writable", path.display())]
    CannotOpen {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: String,
    },
    /// The file is no SQLite database, or one of something else.
    #[error("{} is not a document store of this daemon; move it away or set store.url to another file", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("the document store {} is damaged ({why}); put a backup in its place, or move it away to begin empty", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// The file, or the file system, cannot be written.
    #[error("the document store {} is read-only; make the file and its directory writable for this user", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The file was made by a newer version.
    #[error("the document store {} has format {found}, this version knows up to {known}; use the newer version", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The file's format.
        found: i64,
        /// The newest known here.
        known: i64,
    },
    /// No room left.
    #[error("no room left on the disk of {}", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Not done in time.
    #[error("the document store did not answer within {0:?}")]
    Timeout(Duration),
    /// The writer has ended.
    #[error("the document store is closed")]
    Closed,
    /// A document that cannot be stored or was stored unreadable.
    #[error("document {id:?} of kind {datatype}: {why}")]
    Document {
        /// Its kind.
        datatype: &'static str,
        /// Its id.
        id: String,
        /// What is wrong with it.
        why: ModelError,
    },
    /// More than one peer document says it is this organisation.
    #[error("several peer documents have the relation self ({}); leave it on one of them", .0.join(", "))]
    SeveralSelf(Vec<String>),
    /// A search text over the limit.
    #[error("the search text has {size} bytes, {limit} are allowed")]
    TextTooLong {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The database cannot be reached, or is stepping down or starting. It is tried again.
    #[error("the document store {store} is away: {why}")]
    Away {
        /// Its address, without credentials.
        store: String,
        /// What the driver says.
        why: String,
    },
    /// The database does not let us in.
    #[error("the document store {store} does not let this daemon in: {why}; see store.url and store.password_file")]
    NotLetIn {
        /// Its address, without credentials.
        store: String,
        /// What the driver says.
        why: String,
    },
    /// Anything else the database says.
    #[error("the document store {store}: {why}")]
    Database {
        /// File or address, without credentials.
        store: String,
        /// What the database says.
        why: String,
    },
}
