//! Lists of keys, in the order that both sides of a comparison share, and the sums over them.

use sha2::{Digest, Sha256};

use super::{change, delete, directed, hostile_keys, key, line, put, put_line, receive, take};
use crate::delivery::journal::Journal;
use crate::delivery::types::{Change, Hash, Key, Received};
use crate::wire::Action;

/// A fixed disorder.
fn shuffled<T>(mut items: Vec<T>) -> Vec<T> {
    let mut state = 7_usize;
    for i in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        items.swap(i, (state >> 33) % (i + 1));
    }
    items
}

fn puts(keys: &[Key]) -> Vec<Change> {
    let puts = keys
        .iter()
        .map(|key| change(key.clone(), Action::Create, format!("{key:?}"), 1));
    shuffled(puts.collect())
}

fn put_lines(keys: &[Key]) -> Vec<Received> {
    let puts = keys
        .iter()
        .map(|key| line(key.clone(), Action::Create, format!("{key:?}")));
    shuffled(puts.collect())
}

pub(crate) fn own_keys_are_in_key_order(journal: &mut dyn Journal) {
    let keys = hostile_keys();
    take(journal, &puts(&keys));
    let listed = journal.own_keys(None, None, 1000).unwrap();
    assert_eq!(listed.iter().map(|own| own.key.clone()).collect::<Vec<_>>(), keys);
    for own in &listed {
        assert_eq!(own.hash, Some(Hash::of(format!("{:?}", own.key).as_bytes())));
        assert_eq!(journal.row(&own.key).unwrap().unwrap().seq, own.seq);
    }
    let mut paged = Vec::new();
    loop {
        let page = journal.own_keys(paged.last(), None, 7).unwrap();
        let Some(_) = page.first() else { break };
        paged.extend(page.into_iter().map(|own| own.key));
    }
    assert_eq!(paged, keys);
}

pub(crate) fn held_keys_are_in_key_order(journal: &mut dyn Journal) {
    let keys = hostile_keys();
    receive(journal, "a", &put_lines(&keys));
    receive(journal, "other", &[put_line("of another", "")]);
    let listed = journal.held("a", None, None, 1000).unwrap();
    assert_eq!(listed.iter().map(|held| held.key.clone()).collect::<Vec<_>>(), keys);
    for held in &listed {
        assert_eq!(held.hash, Hash::of(format!("{:?}", held.key).as_bytes()));
        assert_eq!(journal.holder(&held.key).unwrap().as_deref(), Some("a"));
    }
    let mut paged = Vec::new();
    loop {
        let page = journal.held("a", paged.last(), None, 7).unwrap();
        let Some(_) = page.first() else { break };
        paged.extend(page.into_iter().map(|held| held.key));
    }
    assert_eq!(paged, keys);
}

pub(crate) fn ranges_are_open_and_closed(journal: &mut dyn Journal) {
    let keys = hostile_keys();
    receive(journal, "a", &put_lines(&keys));
    let held = |after: Option<&Key>, to: Option<&Key>| {
        let listed = journal.held("a", after, to, 1000).unwrap();
        listed.into_iter().map(|held| held.key).collect::<Vec<_>>()
    };
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(held(Some(key), None), keys[i + 1..]);
        assert_eq!(held(None, Some(key)), keys[..=i]);
        assert_eq!(held(Some(key), Some(key)), []);
    }
    assert_eq!(held(Some(&keys[40]), Some(&keys[45])), keys[41..=45]);
    assert_eq!(held(Some(&keys[45]), Some(&keys[40])), []);
    assert_eq!(journal.held("a", None, None, 0).unwrap(), []);
    assert_eq!(journal.held("nobody", None, None, 10).unwrap(), []);
    // Our own list, of keys that we do not hold of others.
    let own: Vec<Key> = ["o1", "o2", "o3", "o4"].map(key).to_vec();
    take(journal, &puts(&own));
    let listed = |after: Option<&Key>, to: Option<&Key>| {
        let listed = journal.own_keys(after, to, 1000).unwrap();
        listed.into_iter().map(|own| own.key).collect::<Vec<_>>()
    };
    assert_eq!(listed(Some(&own[0]), Some(&own[2])), own[1..=2]);
    assert_eq!(listed(Some(&key("o2a")), Some(&key("zzz"))), own[2..]);
    assert_eq!(listed(None, Some(&key("o"))), []);
}

/// Two journals cannot be had here; one is both sides, since what it holds of others and what is its own are two lists.
pub(crate) fn sums_tell_lists_apart(journal: &mut dyn Journal) {
    let empty = journal.held_sum("a", None, None).unwrap();
    assert_eq!((empty, empty.0), (journal.own_sum(None, None).unwrap(), 0));
    receive(
        journal,
        "a",
        &[put_line("a1", "1"), put_line("a2", "2"), put_line("a3", "3")],
    );
    receive(journal, "b", &[put_line("b1", "1")]);
    let all = journal.held_sum("a", None, None).unwrap();
    assert_eq!(all.0, 3);
    assert_eq!(journal.held_sum("a", None, None).unwrap(), all);
    assert_eq!(
        journal.held_sum("a", Some(&key("a0")), Some(&key("a9"))).unwrap(),
        all,
        "the range as such is no part"
    );
    let mut sums = vec![empty.1, all.1];
    let mut differs = |sum: (u64, Hash), why: &str| {
        assert!(!sums.contains(&sum.1), "{why}");
        sums.push(sum.1);
    };
    differs(
        journal.held_sum("a", Some(&key("a1")), None).unwrap(),
        "without the first",
    );
    differs(
        journal.held_sum("a", None, Some(&key("a2"))).unwrap(),
        "without the last",
    );
    differs(journal.held_sum("b", None, None).unwrap(), "another's");
    receive(journal, "a", &[put_line("a2", "changed")]);
    differs(journal.held_sum("a", None, None).unwrap(), "another document");
    receive(journal, "a", &[put_line("a2", "2")]);
    assert_eq!(journal.held_sum("a", None, None).unwrap(), all, "as before");
    receive(journal, "a", &[super::delete_line("a2"), put_line("a4", "2")]);
    differs(journal.held_sum("a", None, None).unwrap(), "another key");
    receive(journal, "a", &[super::delete_line("a4"), put_line("a2", "2")]);
    assert_eq!(
        journal.held_sum("a", None, None).unwrap(),
        all,
        "whatever way it came there"
    );
}

pub(crate) fn sums_are_the_written_form(journal: &mut dyn Journal) {
    let keys = hostile_keys();
    let hash = |key: &Key| Hash::of(format!("{key:?}").as_bytes());
    let written = |keys: &[Key]| {
        let mut all = Vec::new();
        for key in keys {
            all.push(key.datatype.code());
            all.extend_from_slice(key.id.as_bytes());
            all.push(0);
            all.extend_from_slice(&hash(key).0);
        }
        (keys.len() as u64, Hash(Sha256::digest(&all)[..16].try_into().unwrap()))
    };
    receive(journal, "a", &put_lines(&keys));
    assert_eq!(journal.held_sum("a", None, None).unwrap(), written(&keys));
    assert_eq!(
        journal.held_sum("a", Some(&keys[3]), Some(&keys[60])).unwrap(),
        written(&keys[4..=60])
    );
    journal.forget_origin("a").unwrap();
    take(journal, &puts(&keys));
    assert_eq!(journal.own_sum(None, None).unwrap(), written(&keys));
    assert_eq!(
        journal.own_sum(Some(&keys[3]), Some(&keys[60])).unwrap(),
        written(&keys[4..=60])
    );
}

pub(crate) fn sums_leave_tombstones_out(journal: &mut dyn Journal) {
    take(journal, &[put("a", "1"), put("b", "2")]);
    let two = journal.own_sum(None, None).unwrap();
    take(journal, &[put("c", "3"), delete("c", 1), directed("p", "m", "")]);
    assert_eq!(journal.own_sum(None, None).unwrap(), two);
    let own = journal.own_keys(None, None, 10).unwrap();
    assert_eq!((own.len(), own[2].hash, own[2].seq), (3, None, 4), "but listed");
}
