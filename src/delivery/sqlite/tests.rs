//! The file keeps the contract, survives what it is there to survive, and is refused when it cannot be trusted.

mod figures;
mod files;

use tempfile::TempDir;

use super::SqliteJournal;
use crate::delivery::contract::journal_contract;

fn make() -> (SqliteJournal, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (SqliteJournal::open(&dir.path().join("journal.db")).unwrap(), dir)
}

journal_contract!(make);
