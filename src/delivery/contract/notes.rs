//! Notes about partners, and what is parked for them.

use super::{directed, key, key_of, put, take};
use crate::delivery::journal::Journal;
use crate::delivery::types::{Parked, PartnerNote, Pin};
use crate::wire::DataType;

fn note(did: &str) -> PartnerNote {
    PartnerNote {
        did: did.to_owned(),
        acked_seq: 7,
        acked_at: 1234,
        legacy: false,
        hold_code: String::new(),
    }
}

fn parked(dest: &str, id: &str, seq: u64, at: u64) -> Parked {
    Parked {
        dest: dest.to_owned(),
        key: key(id),
        seq,
        code: "shape".to_owned(),
        detail: format!("'%\0 {id}"),
        at,
    }
}

fn ids(journal: &dyn Journal, dest: Option<&str>) -> Vec<String> {
    let parked = journal.parked(dest, 100).unwrap();
    parked.into_iter().map(|parked| parked.key.id).collect()
}

pub(crate) fn partners_are_noted(journal: &mut dyn Journal) {
    let changed = PartnerNote {
        acked_seq: 9,
        legacy: true,
        hold_code: "busy".to_owned(),
        ..note("b")
    };
    for noted in [&note("b"), &note("c"), &changed] {
        journal.note_partner(noted).unwrap();
    }
    let mut partners = journal.partners().unwrap();
    partners.sort_by(|one, other| one.did.cmp(&other.did));
    assert_eq!(partners, [changed, note("c")]);
}

pub(crate) fn a_peer_is_forgotten(journal: &mut dyn Journal) {
    take(
        journal,
        &[put("k", ""), directed("b", "m1", ""), directed("c", "m2", "")],
    );
    for did in ["b", "c"] {
        journal.note_partner(&note(did)).unwrap();
        journal.park(&parked(did, "k", 1, 1), 10).unwrap();
    }
    journal.forget_dest("b").unwrap();
    journal.forget_dest("nobody").unwrap();
    assert_eq!(journal.partners().unwrap(), [note("c")]);
    assert_eq!(journal.directed_dests().unwrap(), ["c"]);
    assert_eq!(journal.parked(None, 10).unwrap(), [parked("c", "k", 1, 1)]);
    assert_eq!(
        journal.rows_after(0, "b", false, 10, 1000).unwrap().len(),
        1,
        "what is for all stays"
    );
}

pub(crate) fn parking_replaces_and_is_bounded(journal: &mut dyn Journal) {
    journal.park(&parked("b", "k1", 1, 10), 3).unwrap();
    journal.park(&parked("b", "k2", 2, 20), 3).unwrap();
    let again = parked("b", "k1", 5, 30);
    journal.park(&again, 3).unwrap();
    assert_eq!(
        journal.parked(Some("b"), 10).unwrap(),
        [parked("b", "k2", 2, 20), again]
    );
    journal.park(&parked("c", "k0", 1, 1), 3).unwrap();
    journal.park(&parked("b", "k3", 6, 40), 3).unwrap();
    journal.park(&parked("b", "k4", 7, 50), 3).unwrap();
    assert_eq!(ids(journal, Some("b")), ["k1", "k3", "k4"], "the oldest leaves");
    assert_eq!(ids(journal, Some("c")), ["k0"], "each destination for itself");
    assert!(journal.unpark("b", &key("k3")).unwrap());
    assert!(!journal.unpark("b", &key("k3")).unwrap());
    assert!(!journal.unpark("b", &key_of(DataType::Workspace, "k4")).unwrap());
    assert!(!journal.unpark("c", &key("k4")).unwrap());
    assert_eq!(ids(journal, Some("b")), ["k1", "k4"]);
}

pub(crate) fn parked_are_listed_by_age(journal: &mut dyn Journal) {
    for (dest, id, at) in [("c", "k1", 30), ("b", "k2", 10), ("", "k3", 20), ("b", "k4", 5)] {
        journal.park(&parked(dest, id, 1, at), 10).unwrap();
    }
    assert_eq!(ids(journal, None), ["k4", "k2", "k3", "k1"]);
    assert_eq!(ids(journal, Some("b")), ["k4", "k2"]);
    assert_eq!(ids(journal, Some("")), ["k3"], "what the intake could not read");
    assert_eq!(journal.parked(None, 2).unwrap().len(), 2);
    let page = |dest, id, skip| -> Vec<String> {
        let parked = journal.parked_page(dest, id, skip, 2).unwrap();
        parked.into_iter().map(|parked| parked.key.id).collect()
    };
    assert_eq!(page(None, None, 1), ["k2", "k3"], "behind the first");
    assert_eq!(page(Some("b"), Some("k2"), 0), ["k2"], "by its id");
    assert_eq!(page(None, Some("k1"), 0), ["k1"]);
    assert!(page(Some("c"), Some("k2"), 0).is_empty() && page(None, Some("k1"), 1).is_empty());
    let count = |dest, id| journal.parked_count(dest, id).unwrap();
    assert_eq!((count(None, None), count(Some("b"), None)), (4, 2));
    assert_eq!((count(Some("b"), Some("k4")), count(Some("b"), Some("k1"))), (1, 0));
}

pub(crate) fn an_acknowledged_newer_change_unparks(journal: &mut dyn Journal) {
    take(
        journal,
        &[
            put("k", "1"),
            put("l", "1"),
            directed("b", "m", ""),
            put("never again", ""),
        ],
    );
    for (dest, id, seq) in [
        ("b", "k", 1),
        ("c", "k", 1),
        ("b", "l", 2),
        ("b", "m", 3),
        ("b", "never again", 4),
    ] {
        journal.park(&parked(dest, id, seq, seq), 10).unwrap();
    }
    journal.unpark_acked("b", 4).unwrap();
    assert_eq!(
        ids(journal, Some("b")),
        ["k", "l", "m", "never again"],
        "acknowledged is what was parked, not a newer one"
    );
    take(journal, &[put("k", "2"), put("l", "2")]);
    assert_eq!(ids(journal, Some("b")).len(), 4, "a newer change alone leaves it");
    journal.unpark_acked("b", 5).unwrap();
    assert_eq!(ids(journal, Some("b")), ["l", "m", "never again"]);
    assert_eq!(ids(journal, Some("c")), ["k"], "each destination for itself");
    journal.unpark_acked("b", 100).unwrap();
    assert_eq!(ids(journal, Some("b")), ["m", "never again"]);
    journal.directed_done("b", 3).unwrap();
    assert_eq!(
        ids(journal, Some("b")),
        ["m", "never again"],
        "people see what was refused, also when its row has gone"
    );
    assert!(journal.unpark("b", &key("m")).unwrap());
}

pub(crate) fn pins_are_kept_within_a_bound(journal: &mut dyn Journal) {
    let pin = |did: &str, peer_id: &str, at| Pin {
        did: did.to_owned(),
        peer_id: peer_id.to_owned(),
        at,
    };
    assert!(journal.pins().unwrap().is_empty());
    assert!(journal.pin(&pin("b'%", "1", 10), 2).unwrap());
    assert!(journal.pin(&pin("c", "2", 20), 2).unwrap());
    assert!(!journal.pin(&pin("d", "3", 30), 2).unwrap(), "no room");
    assert!(journal.pin(&pin("c", "4", 40), 2).unwrap(), "a DID that is there");
    assert_eq!(journal.pins().unwrap(), [pin("b'%", "1", 10), pin("c", "4", 40)]);
    journal.unpin("b'%").unwrap();
    journal.unpin("nobody").unwrap();
    assert!(journal.pin(&pin("d", "3", 50), 2).unwrap());
    assert_eq!(journal.pins().unwrap(), [pin("c", "4", 40), pin("d", "3", 50)]);
}
