//! The journal against the document store: what the intake did not see.
//!
//! Pure. Always holds: only keys that were propagated before are looked at, so a draft never leaks; documents are compared
//! by what they say, times to the millisecond that databases keep; something that the store never had is not taken for deleted.

use super::types::{Change, Key, Row};
use crate::model::same_value;
use crate::wire::Action;
use bytes::Bytes;

/// Rows younger than this are left alone, in milliseconds: apps tell and store in either order.
pub const SETTLED: u64 = 60_000;

/// Whether a row is old enough to be held against the store; `now` in milliseconds since 1970. One of a time to come is of a
/// clock that was wrong then, and not young.
#[must_use]
pub fn is_settled(row: &Row, now: u64) -> bool {
    now.abs_diff(row.change.at) >= SETTLED
}

/// The change that is missing in the journal, if one is.
///
/// `row`: what is journaled of the key. `stored`: the store's document. `absence_counts`: whether its absence means that it
/// was deleted: the store was once seen to have it, or the apps keep everything there. `at`: milliseconds since 1970.
#[must_use]
pub fn missing(key: &Key, row: Option<&Row>, stored: Option<&Bytes>, absence_counts: bool, at: u64) -> Option<Change> {
    let ours = row.filter(|row| row.change.action != Action::Delete);
    let (action, payload) = match (ours, stored) {
        (None, None) => return None,
        (Some(row), Some(document)) if is_same(&row.change.payload, document) => return None,
        (_, Some(document)) => (Action::Update, document.clone()),
        (Some(_), None) if absence_counts => (
            Action::Delete,
            Bytes::from(serde_json::json!({ "id": key.id }).to_string()),
        ),
        (Some(_), None) => return None,
    };
    Some(Change {
        key: key.clone(),
        dest: String::new(),
        action,
        user: String::new(),
        payload,
        at,
    })
}

/// Whether two documents say the same, see [`same_value`]. What is no JSON is compared by its bytes.
#[must_use]
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    match (serde_json::from_slice(one), serde_json::from_slice(other)) {
        (Ok(one), Ok(other)) => same_value(&one, &other),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Hash;
    use crate::wire::DataType;

    #[test]
    fn documents_are_the_same_by_what_they_say() {
        for (one, other, wanted) in [
            (r#"{"a":1,"b":[true,null]}"#, r#"{ "b" : [true,null], "a":1.0 }"#, true),
            (r#"{"a":1}"#, r#"{"a":1,"b":1}"#, false),
            ("no JSON", "no  JSON", false),
            ("", "", true),
        ] {
            assert_eq!(is_same(one.as_bytes(), other.as_bytes()), wanted, "{one} {other}");
            assert_eq!(is_same(other.as_bytes(), one.as_bytes()), wanted, "{other} {one}");
        }
    }

    #[test]
    fn what_is_missing_is_found_and_nothing_else() {
        let key = Key {
            datatype: DataType::DataResource,
            id: "r".into(),
        };
        let row = |action| Row {
            seq: 1,
            change: Change {
                key: key.clone(),
                dest: String::new(),
                action,
                user: String::new(),
                payload: Bytes::from_static(b"{\"id\":\"r\"}"),
                at: 1000,
            },
            hash: Hash::default(),
        };
        let (put, gone) = (row(Action::Create), row(Action::Delete));
        let (same, newer) = (
            Bytes::from_static(b"{ \"id\":\"r\" }"),
            Bytes::from_static(b"{\"id\":\"r\",\"n\":2}"),
        );
        let found = |row, stored, counts| missing(&key, row, stored, counts, 5).map(|change| change.action);
        assert_eq!(found(Some(&put), Some(&same), true), None);
        assert_eq!(found(Some(&put), Some(&newer), false), Some(Action::Update));
        assert_eq!(found(Some(&put), None, true), Some(Action::Delete));
        assert_eq!(found(Some(&put), None, false), None, "the store never had it");
        assert_eq!(found(Some(&gone), None, true), None);
        assert_eq!(found(Some(&gone), Some(&same), true), Some(Action::Update));
        assert_eq!(found(None, Some(&same), true), Some(Action::Update));
        assert_eq!(found(None, None, true), None);
        assert!(!is_settled(&put, 60_999) && is_settled(&put, 61_000));
        let mut ahead = put.clone();
        ahead.change.at = 10_000_000;
        assert!(is_settled(&ahead, 1_000), "the clock was ahead");
    }
}
