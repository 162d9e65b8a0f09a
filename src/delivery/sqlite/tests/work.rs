//! What a verb costs does not grow with what is none of its business. Counted in SQLite's own steps, so no clock is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{directed, make, put, put_line};
use crate::delivery::journal::{Journal, Result};
use crate::delivery::sqlite::SqliteJournal;
use crate::delivery::types::{Key, Parked};

/// A journal with `n` of everything, in turns: rows for all, for one partner, for another.
fn with(n: usize) -> (SqliteJournal, tempfile::TempDir) {
    let (mut journal, dir) = make();
    journal.begin_group().unwrap();
    for i in 0..n {
        let rows = [
            put(&format!("k{i}")),
            directed("other", &format!("m{i}")),
            directed("another", &format!("m{i}")),
        ];
        journal.take(&rows, None).unwrap();
        journal
            .receive("a", &[put_line(&format!("of a {i}"))], None, 1)
            .unwrap();
        journal
            .receive("c", &[put_line(&format!("of c {i}")), directed_line(i)], None, 1)
            .unwrap();
        journal.park(&parked("other", i), usize::MAX).unwrap();
    }
    for i in 0..20 {
        journal
            .take(&[put(&format!("last {i}")), directed("b", &format!("m{i}"))], None)
            .unwrap();
        journal
            .receive("b", &[put_line(&format!("of b {i}"))], None, 1)
            .unwrap();
        journal.park(&parked("b", i), 100).unwrap();
    }
    journal.end_group().unwrap();
    (journal, dir)
}

fn directed_line(i: usize) -> crate::delivery::Received {
    crate::delivery::Received {
        directed: true,
        ..put_line(&format!("m{i}"))
    }
}

fn parked(dest: &str, i: usize) -> Parked {
    Parked {
        dest: dest.to_owned(),
        key: key(&format!("k{i}")),
        seq: 1,
        code: String::new(),
        detail: String::new(),
        at: i as u64,
    }
}

fn key(id: &str) -> Key {
    put(id).key
}

fn steps<T>(journal: &mut SqliteJournal, verb: impl FnOnce(&mut SqliteJournal) -> Result<T>) -> u64 {
    let counted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&counted);
    let handler = move || {
        count.fetch_add(1, Ordering::Relaxed);
        false
    };
    journal.connection.progress_handler(1, Some(handler)).unwrap();
    verb(journal).unwrap();
    journal.connection.progress_handler(0, None::<fn() -> bool>).unwrap();
    counted.load(Ordering::Relaxed)
}

type Verb = (&'static str, fn(&mut SqliteJournal, u64) -> Result<()>);

/// Each with the head as its second argument.
const VERBS: &[Verb] = &[
    ("a page for all", |journal, _| {
        journal.rows_after(0, "b", false, 50, usize::MAX).map(drop)
    }),
    ("the newest", |journal, head| {
        journal.rows_after(head - 2, "b", false, 256, usize::MAX).map(drop)
    }),
    ("none", |journal, head| {
        journal.rows_after(head, "nobody", false, 256, usize::MAX).map(drop)
    }),
    ("directed only", |journal, _| {
        journal.rows_after(0, "b", true, 256, usize::MAX).map(drop)
    }),
    ("row", |journal, _| journal.row(&key("k7")).map(drop)),
    ("own page", |journal, _| {
        journal.own_keys(Some(&key("k5")), None, 20).map(drop)
    }),
    ("own range", |journal, _| {
        journal
            .own_keys(Some(&key("last 1")), Some(&key("last 3")), 256)
            .map(drop)
    }),
    ("own sum of a range", |journal, _| {
        journal.own_sum(Some(&key("last 1")), Some(&key("last 3"))).map(drop)
    }),
    ("was stored", |journal, _| journal.was_stored(&key("k7")).map(drop)),
    ("note stored", |journal, _| journal.note_stored(&[key("k7")])),
    ("waiting", |journal, _| journal.directed_waiting("b").map(drop)),
    ("destinations", |journal, _| journal.directed_dests().map(drop)),
    ("lag", |journal, head| journal.lag(head - 40, "b").map(drop)),
    ("take", |journal, _| {
        journal
            .take(&[put("k9"), put("new"), directed("b", "new")], None)
            .map(drop)
    }),
    ("directed done", |journal, head| journal.directed_done("b", head)),
    ("park", |journal, _| journal.park(&parked("b", 50), 20)),
    ("parked", |journal, _| journal.parked(Some("b"), 100).map(drop)),
    ("parked of an id", |journal, _| {
        journal.parked_page(Some("b"), Some("k3"), 0, 100).map(drop)
    }),
    ("all parked", |journal, _| journal.parked(None, 10).map(drop)),
    ("unpark", |journal, _| journal.unpark("b", &key("k3")).map(drop)),
    ("unpark acked", |journal, head| journal.unpark_acked("b", head)),
    ("receive", |journal, _| {
        journal
            .receive("b", &[put_line("x"), put_line("of b 3"), directed_line(7)], None, 9)
            .map(drop)
    }),
    ("held page", |journal, _| {
        journal.held("a", Some(&key("of a 1")), None, 20).map(drop)
    }),
    ("held range", |journal, _| {
        journal
            .held("a", Some(&key("of a 1")), Some(&key("of a 10")), 256)
            .map(drop)
    }),
    ("held sum", |journal, _| journal.held_sum("b", None, None).map(drop)),
    ("holder", |journal, _| journal.holder(&key("of a 7")).map(drop)),
    ("origins", |journal, _| journal.origins().map(drop)),
    ("todo", |journal, _| journal.todo(30, 10).map(drop)),
    ("published", |journal, _| journal.published(10)),
    ("purge seen", |journal, _| journal.purge_seen(5, 10).map(drop)),
    ("purge tombstones", |journal, _| {
        journal.purge_tombstones(u64::MAX, 0, 10).map(drop)
    }),
    ("forget destination", |journal, _| journal.forget_dest("b")),
    ("feed", |journal, _| journal.feed().map(drop)),
];

#[test]
fn no_verb_walks_over_what_is_not_its_own() {
    let ((mut few, _few), (mut many, _many)) = (with(60), with(3000));
    let heads = (few.feed().unwrap().head, many.feed().unwrap().head);
    for (name, verb) in VERBS {
        let cost_few = steps(&mut few, |journal| verb(journal, heads.0));
        let cost_many = steps(&mut many, |journal| verb(journal, heads.1));
        assert!(
            cost_many <= cost_few + cost_few / 2 + 50,
            "{name}: {cost_few} steps, then {cost_many}"
        );
    }
}
