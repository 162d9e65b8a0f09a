//! What others have for us.

use bytes::Bytes;

use super::{at, delete, delete_line, directed, directed_line, key, key_of, line, put, put_line, receive, take, token};
use crate::delivery::Received;
use crate::delivery::Verdict::{self, Known, NotHeld, NotOwner, Todo};
use crate::delivery::journal::Journal;
use crate::delivery::types::{Hash, Position};
use crate::wire::{Action, DataType};

fn todo_ids(journal: &dyn Journal) -> Vec<(u64, String)> {
    let todo = journal.todo(0, 1000).unwrap();
    todo.into_iter().map(|todo| (todo.n, todo.key.id)).collect()
}

fn ids(of: &[(u64, &str)]) -> Vec<(u64, String)> {
    of.iter().map(|(n, id)| (*n, (*id).to_owned())).collect()
}

pub(crate) fn positions_are_kept(journal: &mut dyn Journal) {
    journal.set_origin("a", at(5)).unwrap();
    journal.receive("b", &[], at(6), 0).unwrap();
    assert_eq!(
        (journal.origin("a").unwrap(), journal.origin("b").unwrap()),
        (at(5), at(6))
    );
    let other = Some(Position {
        lineage: token(8),
        incarnation: token(9),
        seq: 1,
    });
    journal.receive("a", &[put_line("k", "1")], other, 0).unwrap();
    assert_eq!(journal.origin("a").unwrap(), other);
    let mut origins = journal.origins().unwrap();
    origins.sort();
    assert_eq!(origins, ["a", "b"]);
    journal.receive("a", &[put_line("l", "1")], None, 0).unwrap();
    assert_eq!(journal.origin("a").unwrap(), other, "it stays where it was");
    journal.set_origin("a", None).unwrap();
    journal.set_origin("b", None).unwrap();
    assert_eq!(journal.origin("b").unwrap(), None);
    assert_eq!(journal.origins().unwrap(), ["a"], "something is held of it");
}

pub(crate) fn what_was_sent_once_is_published_whatever_is_held(journal: &mut dyn Journal) {
    let once = |line: Received| Received { once: true, ..line };
    let (put, delete) = (once(put_line("k", "1")), once(delete_line("k")));
    let lines = [delete.clone(), put.clone(), put.clone(), delete.clone(), delete];
    let verdicts = journal.receive("a", &lines, None, 0).unwrap();
    assert_eq!(verdicts, (1..=5).map(Verdict::Todo).collect::<Vec<_>>());
    assert_eq!(journal.receive("b", &[put], None, 0).unwrap(), [Verdict::Todo(6)]);
    assert_eq!(
        journal.receive("a", &[once(put_line("k", "2"))], None, 0).unwrap(),
        [Verdict::NotOwner]
    );
}

pub(crate) fn a_put_is_published_once(journal: &mut dyn Journal) {
    let lines = [
        put_line("k", "1"),
        put_line("k", "1"),
        put_line("k", "2"),
        put_line("l", "1"),
    ];
    assert_eq!(receive(journal, "a", &lines), [Todo(1), Known, Todo(2), Todo(3)]);
    assert_eq!(receive(journal, "a", &lines[2..]), [Known, Known]);
    assert_eq!(
        receive(journal, "a", &lines[..1]),
        [Todo(4)],
        "an older document again is a change"
    );
    assert_eq!(todo_ids(journal), ids(&[(1, "k"), (2, "k"), (3, "l"), (4, "k")]));
    assert_eq!(journal.held("a", None, None, 10).unwrap().len(), 2);
}

pub(crate) fn a_delete_lets_go(journal: &mut dyn Journal) {
    assert_eq!(receive(journal, "a", &[delete_line("k")]), [NotHeld]);
    let lines = [
        put_line("k", "1"),
        delete_line("k"),
        delete_line("k"),
        put_line("k", "1"),
    ];
    assert_eq!(receive(journal, "a", &lines), [Todo(1), Todo(2), NotHeld, Todo(3)]);
    receive(journal, "a", &[delete_line("k")]);
    assert_eq!(journal.holder(&key("k")).unwrap(), None);
    assert_eq!(
        receive(journal, "b", &[put_line("k", "1")]),
        [Todo(5)],
        "free for another"
    );
    let todo = journal.todo(3, 1).unwrap();
    assert_eq!(
        (todo[0].n, todo[0].action, todo[0].payload.as_ref()),
        (4, Action::Delete, b"gone".as_slice())
    );
}

pub(crate) fn the_first_origin_owns(journal: &mut dyn Journal) {
    receive(journal, "a", &[put_line("k", "1")]);
    let sum = journal.held_sum("a", None, None).unwrap();
    let lines = [
        put_line("k", "1"),
        put_line("k", "2"),
        delete_line("k"),
        put_line("mine", ""),
    ];
    assert_eq!(receive(journal, "b", &lines), [NotOwner, NotOwner, NotOwner, Todo(2)]);
    assert_eq!(journal.origin("b").unwrap(), at(1), "the position moves all the same");
    assert_eq!(journal.holder(&key("k")).unwrap().as_deref(), Some("a"));
    assert_eq!(journal.held_sum("a", None, None).unwrap(), sum);
    let other_kind = line(key_of(DataType::Workspace, "k"), Action::Create, "1");
    assert_eq!(
        receive(journal, "b", &[other_kind]),
        [Todo(3)],
        "an id belongs to its kind"
    );
}

pub(crate) fn what_is_ours_is_ours(journal: &mut dyn Journal) {
    take(journal, &[put("k", "1"), delete("gone", 1), directed("a", "m", "")]);
    let lines = [
        put_line("k", "1"),
        delete_line("k"),
        put_line("gone", ""),
        put_line("m", ""),
    ];
    assert_eq!(receive(journal, "a", &lines), [NotOwner, NotOwner, NotOwner, Todo(1)]);
    assert_eq!(journal.holder(&key("k")).unwrap(), None);
    assert_eq!(journal.row(&key("k")).unwrap().unwrap().seq, 1);
}

pub(crate) fn directed_events_are_met_once(journal: &mut dyn Journal) {
    let lines = [
        directed_line("m"),
        directed_line("m"),
        put_line("m", "a document"),
        directed_line("m2"),
    ];
    assert_eq!(receive(journal, "a", &lines), [Todo(1), Known, Todo(2), Todo(3)]);
    assert_eq!(
        receive(journal, "b", &[directed_line("m")]),
        [Todo(4)],
        "each origin for itself"
    );
    journal.published(10).unwrap();
    assert_eq!(
        receive(journal, "a", &[directed_line("m")]),
        [Known],
        "published or not"
    );
    take(journal, &[put("own", "")]);
    assert_eq!(
        receive(journal, "a", &[directed_line("own")]),
        [Todo(5)],
        "a message's id is no document's"
    );
    assert_eq!(journal.held("a", None, None, 10).unwrap().len(), 1);
}

pub(crate) fn seen_ids_are_purged(journal: &mut dyn Journal) {
    for (id, when) in [("m1", 10), ("m2", 20), ("m3", 30)] {
        journal.receive("a", &[directed_line(id)], at(1), when).unwrap();
    }
    assert_eq!(journal.purge_seen(10, 10).unwrap(), 0);
    assert_eq!(journal.purge_seen(30, 1).unwrap(), 1);
    assert_eq!(journal.purge_seen(30, 10).unwrap(), 1);
    assert_eq!(
        receive(journal, "a", &[directed_line("m3"), directed_line("m1")]),
        [Known, Todo(4)]
    );
}

pub(crate) fn of_one_origin_the_newest_ids_are_kept(journal: &mut dyn Journal) {
    for n in 1..=5 {
        let id = format!("m{n}");
        journal.receive("a", &[directed_line(&id)], at(1), 10 - n).unwrap();
    }
    journal.receive("b", &[directed_line("m")], at(1), 1).unwrap();
    assert_eq!(journal.seen_over(2).unwrap(), [("a".to_owned(), 3)]);
    assert_eq!(journal.forget_seen("a", 2).unwrap(), 2);
    assert_eq!(journal.seen_over(2).unwrap(), [("a".to_owned(), 1)]);
    assert_eq!(journal.forget_seen("a", 1).unwrap(), 1);
    assert_eq!(journal.seen_over(2).unwrap(), []);
    assert_eq!(journal.forget_seen("nobody", 9).unwrap(), 0);
    let again = ["m1", "m2", "m3"].map(directed_line);
    assert_eq!(receive(journal, "a", &again), [Known, Known, Todo(7)]);
    assert_eq!(receive(journal, "b", &[directed_line("m")]), [Known]);
}

pub(crate) fn what_was_sent_once_leaves_no_id(journal: &mut dyn Journal) {
    let once = Received {
        once: true,
        ..directed_line("m")
    };
    assert_eq!(receive(journal, "a", &[once]), [Todo(1)]);
    assert_eq!(journal.purge_seen(u64::MAX, 10).unwrap(), 0);
}

pub(crate) fn published_ones_leave(journal: &mut dyn Journal) {
    receive(
        journal,
        "a",
        &[put_line("k1", ""), put_line("k2", ""), put_line("k3", "")],
    );
    assert_eq!(journal.todo(0, 2).unwrap().len(), 2);
    assert_eq!(journal.todo(2, 10).unwrap()[0].n, 3);
    assert!(journal.todo(3, 10).unwrap().is_empty());
    assert_eq!(journal.todo_waiting().unwrap(), 3);
    journal.published(2).unwrap();
    assert_eq!(journal.todo_waiting().unwrap(), 1);
    assert_eq!(todo_ids(journal), ids(&[(3, "k3")]));
    journal.published(1).unwrap();
    assert_eq!(todo_ids(journal), ids(&[(3, "k3")]));
    assert_eq!(journal.held("a", None, None, 10).unwrap().len(), 3, "still held");
}

pub(crate) fn what_is_given_up_is_asked_for_again(journal: &mut dyn Journal) {
    let lines = [put_line("k", "1"), put_line("l", "1"), put_line("l", "2")];
    receive(journal, "a", &lines);
    let sum = journal.held_sum("a", None, None).unwrap();
    journal.give_up("b", &key("k"), Hash::of(b"1")).unwrap();
    journal.give_up("a", &key("l"), Hash::of(b"1")).unwrap();
    journal.give_up("a", &key("nothing"), Hash::of(b"1")).unwrap();
    assert_eq!(
        journal.held_sum("a", None, None).unwrap(),
        sum,
        "another's, or not what is held any more"
    );
    journal.give_up("a", &key("k"), Hash::of(b"1")).unwrap();
    let held = journal.held("a", None, None, 10).unwrap();
    let hashes: Vec<_> = held.iter().map(|held| (held.key.id.as_str(), held.hash)).collect();
    assert_eq!(hashes, [("k", Hash::NONE), ("l", Hash::of(b"2"))]);
    assert_eq!(receive(journal, "b", &[put_line("k", "1")]), [NotOwner]);
    assert_eq!(
        receive(journal, "a", &[put_line("k", "1")]),
        [Todo(4)],
        "it may be taken now"
    );
    journal.give_up("a", &key("k"), Hash::of(b"1")).unwrap();
    assert_eq!(
        receive(journal, "a", &[delete_line("k")]),
        [Todo(5)],
        "what was there before it goes"
    );
}

pub(crate) fn numbers_never_come_back(journal: &mut dyn Journal) {
    receive(journal, "a", &[put_line("k", "1")]);
    journal.published(1).unwrap();
    assert_eq!((journal.last_todo().unwrap(), todo_ids(journal).len()), (1, 0));
    assert_eq!(receive(journal, "a", &[put_line("k", "2")]), [Todo(2)]);
    journal.forget_origin("a").unwrap();
    assert_eq!(
        receive(journal, "a", &[put_line("k", "2")]),
        [Todo(3)],
        "all of it again"
    );
    assert_eq!(journal.last_todo().unwrap(), 3);
}

pub(crate) fn a_forgotten_origin(journal: &mut dyn Journal) {
    receive(
        journal,
        "a",
        &[
            put_line("k", ""),
            directed_line("m"),
            delete_line("k"),
            put_line("l", ""),
        ],
    );
    receive(journal, "b", &[put_line("other", "")]);
    let verdicts: Vec<Verdict> = receive(journal, "b", &[put_line("l", "")]);
    assert_eq!(verdicts, [NotOwner]);
    journal.forget_origin("a").unwrap();
    journal.forget_origin("nobody").unwrap();
    assert_eq!(journal.origin("a").unwrap(), None);
    assert!(journal.held("a", None, None, 10).unwrap().is_empty());
    assert_eq!(journal.holder(&key("l")).unwrap(), None);
    assert_eq!(todo_ids(journal), ids(&[(2, "m"), (5, "other")]), "directed ones stay");
    assert_eq!(journal.origins().unwrap(), ["b"]);
    assert_eq!(
        receive(journal, "a", &[directed_line("m")]),
        [Known],
        "and are still known"
    );
    assert_eq!(receive(journal, "b", &[put_line("l", "")]), [Todo(6)]);
}

/// Whatever a payload is made of, it comes out as it went in.
pub(crate) fn bytes_stay(journal: &mut dyn Journal) {
    let all: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for (id, payload) in [
        ("empty", Bytes::new()),
        ("all", all.into()),
        ("text", Bytes::from_static(b"{\"\\u0061\":1.0}\n\0")),
    ] {
        let mut taken = put(id, "");
        taken.payload = payload.clone();
        taken.user = "us'er\0é".to_owned();
        take(journal, &[taken.clone()]);
        assert_eq!(journal.row(&taken.key).unwrap().unwrap().change, taken);
        let mut line = line(key(&format!("{id} of a")), Action::Update, payload.clone());
        line.user = "us'er\0é".to_owned();
        let verdicts = receive(journal, "a'\0é", std::slice::from_ref(&line));
        let Some(Todo(n)) = verdicts.first() else {
            panic!("{verdicts:?}")
        };
        let todo = journal.todo(n - 1, 1).unwrap().remove(0);
        assert_eq!(
            (todo.payload, todo.user, todo.origin),
            (payload, line.user, "a'\0é".to_owned())
        );
        assert_eq!((todo.key, todo.action), (line.key, Action::Update));
    }
}
