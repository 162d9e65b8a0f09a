//! Taking changes, and a partner's walk along them.

use super::{all_after, change, cursor, delete, directed, key, put, take, token};
use crate::delivery::journal::Journal;
use crate::delivery::types::{Hash, Incarnation};
use crate::wire::Action;

pub(crate) fn an_empty_one(journal: &mut dyn Journal) {
    let feed = journal.feed().unwrap();
    assert_eq!((feed.head, feed.floor, feed.incarnations.len()), (0, 0, 0));
    assert_eq!(journal.feed().unwrap().lineage, feed.lineage, "made once");
    assert_eq!(journal.cursor().unwrap(), None);
    assert!(all_after(journal, 0, "b").is_empty());
    assert_eq!(journal.row(&key("k")).unwrap(), None);
    assert!(journal.own_keys(None, None, 10).unwrap().is_empty());
    assert!(journal.held("a", None, None, 10).unwrap().is_empty());
    assert_eq!(journal.lag(0, "b").unwrap(), (0, 0));
    assert_eq!(journal.directed_waiting("b").unwrap(), (0, 0));
    assert!(journal.directed_dests().unwrap().is_empty());
    assert!(journal.partners().unwrap().is_empty());
    assert!(journal.parked(None, 10).unwrap().is_empty());
    assert_eq!(journal.origin("a").unwrap(), None);
    assert!(journal.origins().unwrap().is_empty());
    assert!(journal.todo(0, 10).unwrap().is_empty());
    assert_eq!(journal.last_todo().unwrap(), 0);
    assert_eq!(journal.purge_tombstones(u64::MAX, 0, 10).unwrap(), 0);
    assert_eq!(journal.purge_seen(u64::MAX, 10).unwrap(), 0);
}

pub(crate) fn rows_come_in_order(journal: &mut dyn Journal) {
    let changes = [put("b", "1"), put("a", "2"), delete("c", 7)];
    let rows = take(journal, &changes);
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3]);
    for (row, change) in rows.iter().zip(&changes) {
        assert_eq!(row.change, *change);
        assert_eq!(row.hash, Hash::of(&change.payload));
        assert_eq!(journal.row(&change.key).unwrap().as_ref(), Some(row));
    }
    assert_eq!(journal.rows_after(0, "x", false, 10, 1000).unwrap(), rows);
    assert_eq!(journal.rows_after(2, "x", false, 10, 1000).unwrap(), rows[2..]);
    assert!(journal.rows_after(3, "x", false, 10, 1000).unwrap().is_empty());
    assert!(journal.rows_after(u64::MAX, "x", false, 10, 1000).unwrap().is_empty());
    assert_eq!(journal.feed().unwrap().head, 3);
    assert!(take(journal, &[]).is_empty());
    assert_eq!(journal.feed().unwrap().head, 3);
}

pub(crate) fn a_newer_change_takes_the_place(journal: &mut dyn Journal) {
    take(journal, &[put("k", "1"), put("l", "1")]);
    take(journal, &[put("k", "2")]);
    assert_eq!(all_after(journal, 0, "b"), [(2, "l".to_owned()), (3, "k".to_owned())]);
    let within_one = take(journal, &[put("k", "3"), put("k", "4"), delete("k", 9)]);
    assert_eq!(within_one.iter().map(|row| row.seq).collect::<Vec<_>>(), [4, 5, 6]);
    assert_eq!(all_after(journal, 0, "b"), [(2, "l".to_owned()), (6, "k".to_owned())]);
    assert_eq!(journal.row(&key("k")).unwrap().as_ref(), within_one.last());
    take(journal, &[put("k", "5")]);
    let own = journal.own_keys(None, None, 10).unwrap();
    assert_eq!(
        (own[0].seq, own[0].hash),
        (7, Some(Hash::of(b"5"))),
        "back after a delete"
    );
    assert_eq!((own.len(), journal.feed().unwrap().head), (2, 7));
}

pub(crate) fn directed_rows_stand_beside_each_other(journal: &mut dyn Journal) {
    let changes = [
        directed("b", "m1", "1"),
        directed("b", "m2", "22"),
        directed("c", "m1", "333"),
        put("m1", "a resource of the same id"),
        directed("b", "m3", "4444"),
    ];
    let rows = take(journal, &changes);
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let of_b = journal.rows_after(0, "b", true, 10, 1000).unwrap();
    assert_eq!(of_b, [rows[0].clone(), rows[1].clone(), rows[4].clone()]);
    assert_eq!(journal.rows_after(0, "c", true, 10, 1000).unwrap(), [rows[2].clone()]);
    assert_eq!(journal.directed_waiting("b").unwrap(), (3, 7));
    assert_eq!(journal.directed_waiting("c").unwrap(), (1, 3));
    assert_eq!(journal.directed_waiting("nobody").unwrap(), (0, 0));
    let mut dests = journal.directed_dests().unwrap();
    dests.sort();
    assert_eq!(dests, ["b", "c"]);
    assert_eq!(
        journal.own_keys(None, None, 10).unwrap().len(),
        1,
        "directed ones are no documents"
    );
    assert_eq!(journal.row(&key("m1")).unwrap(), Some(rows[3].clone()));
    assert_eq!(journal.row(&key("m2")).unwrap(), None);
    take(journal, &[directed("b", "m1", "1")]);
    assert_eq!(
        journal.directed_waiting("b").unwrap(),
        (4, 8),
        "not even the same one takes a place"
    );
}

pub(crate) fn a_partner_gets_its_own(journal: &mut dyn Journal) {
    take(
        journal,
        &[
            put("k1", ""),
            directed("c", "m1", ""),
            directed("b", "m2", ""),
            put("k2", ""),
        ],
    );
    let of = |dest: &str| {
        all_after(journal, 0, dest)
            .into_iter()
            .map(|(seq, _)| seq)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("b"), [1, 3, 4]);
    assert_eq!(of("c"), [1, 2, 4]);
    assert_eq!(of("d"), [1, 4]);
    assert_eq!(of("B"), [1, 4], "another DID");
    assert_eq!(of("%"), [1, 4]);
}

pub(crate) fn pages_are_bounded(journal: &mut dyn Journal) {
    let sized = |id: &str, size: usize| put(id, &"x".repeat(size));
    take(
        journal,
        &[
            sized("a", 50),
            directed("b", "m", "0123456789"),
            sized("c", 50),
            sized("d", 50),
        ],
    );
    let page = |after, rows, bytes| journal.rows_after(after, "b", false, rows, bytes).unwrap();
    let seqs = |after, rows, bytes| page(after, rows, bytes).iter().map(|row| row.seq).collect::<Vec<_>>();
    assert_eq!(seqs(0, 2, 1000), [1, 2]);
    assert_eq!(seqs(2, 1, 1000), [3]);
    assert!(page(0, 0, 1000).is_empty());
    assert_eq!(seqs(0, 10, 1), [1], "one row at the least");
    let some = seqs(0, 10, 60);
    assert!(
        some == [1, 2] || some == [1, 2, 3],
        "{some:?}: no further than the row that passes the bound"
    );
    assert_eq!(seqs(0, 10, 1000), [1, 2, 3, 4]);
}

pub(crate) fn the_cursor_moves_with_the_rows(journal: &mut dyn Journal) {
    journal.take(&[put("k", "1")], Some(&cursor(5))).unwrap();
    assert_eq!(journal.cursor().unwrap(), Some(cursor(5)));
    take(journal, &[put("k", "2")]);
    assert_eq!(journal.cursor().unwrap(), Some(cursor(5)), "rows without one leave it");
    journal.take(&[], Some(&cursor(6))).unwrap();
    assert_eq!(journal.cursor().unwrap(), Some(cursor(6)), "nothing of it was ours");
    let mut other = cursor(1);
    other.created = "later".to_owned();
    journal.take(&[put("l", "1")], Some(&other)).unwrap();
    assert_eq!(journal.cursor().unwrap(), Some(other));
    assert_eq!(journal.feed().unwrap().head, 3);
}

pub(crate) fn lives_have_ranges(journal: &mut dyn Journal) {
    journal.begin_incarnation(token(1)).unwrap();
    take(journal, &[put("a", ""), put("b", "")]);
    journal.begin_incarnation(token(2)).unwrap();
    journal.begin_incarnation(token(3)).unwrap();
    take(journal, &[put("a", "")]);
    let life = |n, first_seq| Incarnation {
        id: token(n),
        first_seq,
    };
    assert_eq!(
        journal.feed().unwrap().incarnations,
        [life(1, 1), life(2, 3), life(3, 3)]
    );
}

pub(crate) fn the_oldest_lives_leave(journal: &mut dyn Journal) {
    let name = |n: u16| {
        let mut name = token(0);
        name.0[..2].copy_from_slice(&n.to_be_bytes());
        name
    };
    for n in 0..1003 {
        journal.begin_incarnation(name(n)).unwrap();
    }
    let lives = journal.feed().unwrap().incarnations;
    assert_eq!(lives.len(), 1000);
    assert_eq!((lives[0].id, lives[999].id), (name(3), name(1002)));
}

pub(crate) fn tombstones_are_purged(journal: &mut dyn Journal) {
    let mut purge = |before, keep, limit| {
        let purged = journal.purge_tombstones(before, keep, limit).unwrap();
        (
            purged,
            journal.feed().unwrap().floor,
            all_after(journal, 0, "b")
                .iter()
                .map(|(seq, _)| *seq)
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(purge(u64::MAX, 0, 10), (0, 0, vec![]));
    let journal = &mut *journal;
    take(
        journal,
        &[
            delete("a", 10),
            put("live", ""),
            delete("b", 20),
            delete("c", 30),
            delete("d", 40),
            delete("e", 50),
        ],
    );
    take(journal, &[put("a", "alive again"), directed("b", "m", "")]);
    let mut purge = |before, keep, limit| {
        let purged = journal.purge_tombstones(before, keep, limit).unwrap();
        (
            purged,
            journal.feed().unwrap().floor,
            all_after(journal, 0, "b")
                .iter()
                .map(|(seq, _)| *seq)
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        purge(20, 100, 10),
        (0, 0, vec![2, 3, 4, 5, 6, 7, 8]),
        "taken at 20 is not before 20"
    );
    assert_eq!(
        purge(31, 100, 1),
        (1, 3, vec![2, 4, 5, 6, 7, 8]),
        "one in one go, the oldest"
    );
    assert_eq!(purge(31, 100, 10), (1, 4, vec![2, 5, 6, 7, 8]));
    assert_eq!(purge(0, 1, 10), (1, 5, vec![2, 6, 7, 8]), "beyond what is kept");
    assert_eq!(purge(0, 1, 10), (0, 5, vec![2, 6, 7, 8]));
    assert_eq!(purge(u64::MAX, 1, 0), (0, 5, vec![2, 6, 7, 8]));
    assert_eq!(
        purge(u64::MAX, 0, 10),
        (1, 6, vec![2, 7, 8]),
        "what lives and what is directed stays"
    );
    assert_eq!(journal.row(&key("b")).unwrap(), None);
    assert_eq!(journal.own_keys(None, None, 10).unwrap().len(), 2);
    assert_eq!(journal.feed().unwrap().head, 8);
    assert_eq!(take(journal, &[put("b", "new")])[0].seq, 9, "the key may come again");
}

pub(crate) fn what_is_stored_is_remembered(journal: &mut dyn Journal) {
    take(journal, &[put("k", "1"), put("l", "1"), directed("b", "m", "")]);
    let stored = |journal: &dyn Journal, id: &str| journal.was_stored(&key(id)).unwrap();
    assert!(!stored(journal, "k") && !stored(journal, "unknown"));
    journal.note_stored(&[key("k")]).unwrap();
    journal.note_stored(&[key("k")]).unwrap();
    journal.note_stored(&[]).unwrap();
    assert!(stored(journal, "k") && !stored(journal, "l") && !stored(journal, "m"));
    take(journal, &[put("k", "2")]);
    assert!(stored(journal, "k"), "a newer change does not forget it");
    take(journal, &[change(key("k"), Action::Delete, "", 1)]);
    assert!(stored(journal, "k"), "nor does a delete");
}

pub(crate) fn lag_is_counted(journal: &mut dyn Journal) {
    let timed = |id: &str, at| change(key(id), Action::Create, "", at);
    let mut for_c = directed("c", "m1", "");
    for_c.at = 200;
    let mut for_b = directed("b", "m2", "");
    for_b.at = 300;
    take(journal, &[timed("a", 100), for_c, for_b, timed("d", 400)]);
    assert_eq!(journal.lag(0, "b").unwrap(), (3, 100));
    assert_eq!(journal.lag(1, "b").unwrap(), (2, 300));
    assert_eq!(journal.lag(1, "c").unwrap(), (2, 200));
    assert_eq!(journal.lag(3, "b").unwrap(), (1, 400));
    assert_eq!(journal.lag(4, "b").unwrap(), (0, 0));
}

pub(crate) fn acknowledged_directed_rows_leave(journal: &mut dyn Journal) {
    let changes = [
        directed("b", "m1", "1"),
        directed("c", "m2", "1"),
        put("k", ""),
        directed("b", "m3", "1"),
    ];
    take(journal, &changes);
    journal.directed_done("b", 3).unwrap();
    assert_eq!(all_after(journal, 0, "b"), [(3, "k".to_owned()), (4, "m3".to_owned())]);
    assert_eq!(journal.directed_waiting("c").unwrap(), (1, 1), "another's stay");
    journal.directed_done("b", 4).unwrap();
    assert_eq!(journal.directed_dests().unwrap(), ["c"]);
    assert_eq!(journal.feed().unwrap().head, 4);
    assert_eq!(
        take(journal, &[directed("b", "m4", "")])[0].seq,
        5,
        "numbers never come back"
    );
}
