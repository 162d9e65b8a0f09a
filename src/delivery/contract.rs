//! What every journal must do, whatever it is made of. Each implementation runs all of it on journals of its own making:
//!
//! `journal_contract!(make)` with `fn make() -> (impl Journal, Guard)`; the guard keeps files while a case runs.

pub(crate) mod feed;
pub(crate) mod inbox;
pub(crate) mod lists;
pub(crate) mod notes;

use bytes::Bytes;

use super::journal::Journal;
use super::types::{Change, Cursor, Hash, Key, Position, Received, Row, Token};
use crate::wire::{Action, DataType};

/// One test a case, each on a fresh journal.
macro_rules! journal_contract {
    ($make:path) => {
        $crate::delivery::contract::journal_contract!(@cases $make, feed:
            an_empty_one, rows_come_in_order, a_newer_change_takes_the_place, directed_rows_stand_beside_each_other,
            a_partner_gets_its_own, pages_are_bounded, the_cursor_moves_with_the_rows, lives_have_ranges,
            the_oldest_lives_leave, tombstones_are_purged, what_is_stored_is_remembered, lag_is_counted,
            acknowledged_directed_rows_leave);
        $crate::delivery::contract::journal_contract!(@cases $make, lists:
            own_keys_are_in_key_order, held_keys_are_in_key_order, ranges_are_open_and_closed,
            sums_tell_lists_apart, sums_are_the_written_form, sums_leave_tombstones_out);
        $crate::delivery::contract::journal_contract!(@cases $make, notes:
            partners_are_noted, a_peer_is_forgotten, parking_replaces_and_is_bounded, parked_are_listed_by_age,
            an_acknowledged_newer_change_unparks, pins_are_kept_within_a_bound);
        $crate::delivery::contract::journal_contract!(@cases $make, inbox:
            positions_are_kept, a_put_is_published_once, what_was_sent_once_is_published_whatever_is_held, a_delete_lets_go, the_first_origin_owns, what_is_ours_is_ours,
            directed_events_are_met_once, seen_ids_are_purged, of_one_origin_the_newest_ids_are_kept, what_was_sent_once_leaves_no_id, published_ones_leave, what_is_given_up_is_asked_for_again, numbers_never_come_back,
            a_forgotten_origin, bytes_stay);
    };
    (@cases $make:path, $group:ident: $($case:ident),+) => {$(
        #[test]
        fn $case() {
            let (mut journal, _guard) = $make();
            $crate::delivery::contract::$group::$case(&mut journal);
        }
    )+};
}
pub(crate) use journal_contract;

fn key(id: &str) -> Key {
    key_of(DataType::DataResource, id)
}

fn key_of(datatype: DataType, id: &str) -> Key {
    Key {
        datatype,
        id: id.to_owned(),
    }
}

/// Ids that sort or compare wrongly when something is amiss, each of two kinds, in key order.
fn hostile_keys() -> Vec<Key> {
    let ids = [
        "",
        "\0",
        "\0\0",
        " ",
        "%",
        "%a",
        "'",
        "\"",
        "A",
        "B",
        "_",
        "a",
        "a\0",
        "a\0b",
        "a ",
        "aa",
        "b",
        "é",
        "e\u{301}",
        "ß",
        "\u{7f}",
        "\u{ffff}",
        "\u{10000}",
        "🦀",
        "1",
        "10",
        "2",
        "-1",
        "1e3",
        "NULL",
        "x'00'",
        "'; DROP TABLE own; --",
    ];
    let kinds = [DataType::DataResource, DataType::Workspace, DataType::Order];
    let mut keys: Vec<Key> = kinds
        .into_iter()
        .flat_map(|kind| ids.map(|id| key_of(kind, id)))
        .collect();
    keys.sort();
    keys
}

fn change(key: Key, action: Action, payload: impl Into<Bytes>, at: u64) -> Change {
    Change {
        key,
        dest: String::new(),
        action,
        user: "u".to_owned(),
        payload: payload.into(),
        at,
    }
}

fn put(id: &str, payload: &str) -> Change {
    change(key(id), Action::Update, payload.to_owned(), 1000)
}

fn delete(id: &str, at: u64) -> Change {
    change(key(id), Action::Delete, format!("gone {id}"), at)
}

fn directed(dest: &str, msg_id: &str, payload: &str) -> Change {
    Change {
        dest: dest.to_owned(),
        ..change(key(msg_id), Action::Considers, payload.to_owned(), 1000)
    }
}

fn take(journal: &mut dyn Journal, changes: &[Change]) -> Vec<Row> {
    journal.take(changes, None).unwrap()
}

fn all_after(journal: &dyn Journal, after: u64, dest: &str) -> Vec<(u64, String)> {
    let rows = journal.rows_after(after, dest, false, 1000, usize::MAX).unwrap();
    rows.into_iter().map(|row| (row.seq, row.change.key.id)).collect()
}

fn token(n: u8) -> Token {
    Token([n; 16])
}

fn cursor(last_seq: u64) -> Cursor {
    Cursor {
        source: "stream".to_owned(),
        created: "then".to_owned(),
        last_seq,
    }
}

fn at(seq: u64) -> Option<Position> {
    Some(Position {
        lineage: token(1),
        incarnation: token(2),
        seq,
    })
}

fn line(key: Key, action: Action, payload: impl Into<Bytes>) -> Received {
    let payload = payload.into();
    Received {
        seq: 1,
        key,
        directed: action == Action::Considers,
        once: false,
        action,
        user: "u".to_owned(),
        hash: Hash::of(&payload),
        payload,
    }
}

fn put_line(id: &str, payload: &str) -> Received {
    line(key(id), Action::Create, payload.to_owned())
}

fn delete_line(id: &str) -> Received {
    line(key(id), Action::Delete, "gone")
}

fn directed_line(msg_id: &str) -> Received {
    line(key(msg_id), Action::Considers, format!("to you: {msg_id}"))
}

fn receive(journal: &mut dyn Journal, origin: &str, lines: &[Received]) -> Vec<super::Verdict> {
    journal.receive(origin, lines, at(1), 5000).unwrap()
}
