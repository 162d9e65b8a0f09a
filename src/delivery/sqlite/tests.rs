//! The file keeps the contract, survives what it is there to survive, and is refused when it cannot be trusted.

mod figures;
mod files;
mod work;

use tempfile::TempDir;

use super::SqliteJournal;
use crate::delivery::contract::journal_contract;
use crate::delivery::types::{Change, Hash, Key, Received};
use crate::wire::{Action, DataType};

fn make() -> (SqliteJournal, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (SqliteJournal::open(&dir.path().join("journal.db")).unwrap(), dir)
}

journal_contract!(make);

fn put(id: &str) -> Change {
    Change {
        key: Key {
            datatype: DataType::DataResource,
            id: id.to_owned(),
        },
        dest: String::new(),
        action: Action::Update,
        user: "u".to_owned(),
        payload: format!("{{\"id\":\"{id}\"}}").into(),
        at: 1000,
    }
}

fn directed(dest: &str, msg_id: &str) -> Change {
    Change {
        dest: dest.to_owned(),
        action: Action::Considers,
        ..put(msg_id)
    }
}

fn put_line(id: &str) -> Received {
    let change = put(id);
    Received {
        seq: 1,
        directed: false,
        once: false,
        hash: Hash::of(&change.payload),
        key: change.key,
        action: change.action,
        user: change.user,
        payload: change.payload,
    }
}
