//! From the wire's words to the journal's, and back.

use super::types::{Hash, Held, Key, Position, Received, Row, Token};
use crate::wire::{Action, DeliveryKey, DeliveryLine, DeliveryPosition};
use bytes::Bytes;

impl From<DeliveryKey> for Key {
    fn from(key: DeliveryKey) -> Self {
        let DeliveryKey { datatype, id } = key;
        Self { datatype, id }
    }
}

impl From<Key> for DeliveryKey {
    fn from(key: Key) -> Self {
        let Key { datatype, id } = key;
        Self { datatype, id }
    }
}

impl From<DeliveryPosition> for Position {
    fn from(at: DeliveryPosition) -> Self {
        Self {
            lineage: Token(at.lineage),
            incarnation: Token(at.incarnation),
            seq: at.seq,
        }
    }
}

impl From<Position> for DeliveryPosition {
    fn from(at: Position) -> Self {
        Self {
            lineage: at.lineage.0,
            incarnation: at.incarnation.0,
            seq: at.seq,
        }
    }
}

impl From<(DeliveryKey, [u8; 16])> for Held {
    fn from((key, hash): (DeliveryKey, [u8; 16])) -> Self {
        Self {
            key: key.into(),
            hash: Hash(hash),
        }
    }
}

impl From<Held> for (DeliveryKey, [u8; 16]) {
    fn from(held: Held) -> Self {
        (held.key.into(), held.hash.0)
    }
}

impl From<Row> for DeliveryLine {
    fn from(row: Row) -> Self {
        Self {
            seq: row.seq,
            action: Some(row.change.action),
            datatype: row.change.key.datatype,
            id: row.change.key.id,
            user: row.change.user,
            payload: row.change.payload,
        }
    }
}

/// The delete of a key that we have no row of: it has no place in the feed.
#[must_use]
pub fn gone(key: Key) -> DeliveryLine {
    let payload = serde_json::json!({ "id": key.id }).to_string();
    DeliveryLine {
        seq: 0,
        action: Some(Action::Delete),
        datatype: key.datatype,
        id: key.id,
        user: String::new(),
        payload: Bytes::from(payload),
    }
}

/// A line that passed the rules, as it is committed.
pub(super) fn received(line: DeliveryLine, action: Action) -> Received {
    Received {
        seq: line.seq,
        key: Key {
            datatype: line.datatype,
            id: line.id,
        },
        directed: action == Action::Considers,
        once: false,
        action,
        user: line.user,
        hash: Hash::of(&line.payload),
        payload: line.payload,
    }
}
