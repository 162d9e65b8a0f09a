//! Tests of the partner table.

use super::*;

fn member(did: &str, relation: Relation, peer_id: PeerId) -> Member {
    Member {
        did: did.into(),
        name: did.into(),
        relation,
        peer_id: Some(peer_id),
        addresses: vec![],
    }
}

fn relation_of(table: &mut PartnerTable, did: &str) -> Option<Relation> {
    table.settle().0.get(did).map(|member| member.relation)
}

#[test]
fn an_event_counts_before_the_app_has_written_and_the_store_decides_afterwards() {
    let (now, peer) = (Instant::now(), PeerId::random());
    let mut table = PartnerTable::new("me".into(), PeerId::random());
    table.changed(member("bob", Relation::Partner, peer), now);
    assert_eq!(relation_of(&mut table, "bob"), Some(Relation::Partner));
    table.read_store([], &Unseen::default(), now + FRESH - Duration::from_nanos(1));
    assert_eq!(relation_of(&mut table, "bob"), Some(Relation::Partner));
    table.read_store([], &Unseen::default(), now + FRESH);
    assert_eq!(relation_of(&mut table, "bob"), None, "the app never wrote it");
    table.read_store(
        [member("bob", Relation::Partner, peer)],
        &Unseen::default(),
        now + FRESH,
    );
    assert_eq!(relation_of(&mut table, "bob"), Some(Relation::Partner));
}

/// The reading before is older than what the app wrote; with the store away no newer one comes.
#[test]
fn an_event_counts_until_a_reading_takes_its_place() {
    let (now, peer) = (Instant::now(), PeerId::random());
    let mut table = PartnerTable::new("me".into(), PeerId::random());
    table.read_store([], &Unseen::default(), now);
    table.changed(member("bob", Relation::Partner, peer), now);
    table.changed(member("eve", Relation::Blacklist, PeerId::random()), now);
    assert!(!table.wants_reading(now + FRESH - Duration::from_nanos(1)));
    let later = now + FRESH * 100;
    assert!(table.wants_reading(later));
    table.changed(member("carol", Relation::None, PeerId::random()), later);
    assert_eq!(relation_of(&mut table, "bob"), Some(Relation::Partner));
    assert_eq!(relation_of(&mut table, "eve"), Some(Relation::Blacklist));
    table.read_store([member("bob", Relation::Partner, peer)], &Unseen::default(), later);
    assert_eq!(relation_of(&mut table, "bob"), Some(Relation::Partner));
    assert_eq!(relation_of(&mut table, "eve"), None);
    assert!(!table.wants_reading(later));
}

#[test]
fn a_missed_event_heals_by_the_store() {
    let (now, peer) = (Instant::now(), PeerId::random());
    let mut table = PartnerTable::new("me".into(), PeerId::random());
    table.read_store([member("bob", Relation::Partner, peer)], &Unseen::default(), now);
    assert_eq!(relation_of(&mut table, "bob"), Some(Relation::Partner));
    table.read_store([member("bob", Relation::Blacklist, peer)], &Unseen::default(), now);
    assert_eq!(relation_of(&mut table, "bob"), Some(Relation::Blacklist));
}

#[test]
fn a_removed_peer_is_nobody_at_once() {
    let (now, peer) = (Instant::now(), PeerId::random());
    let mut table = PartnerTable::new("me".into(), PeerId::random());
    table.read_store([member("bob", Relation::Partner, peer)], &Unseen::default(), now);
    table.removed("bob", now);
    assert_eq!(relation_of(&mut table, "bob"), None);
}

#[test]
fn the_first_peer_id_is_pinned_until_the_peer_is_removed() {
    let (now, first, second) = (Instant::now(), PeerId::random(), PeerId::random());
    let mut table = PartnerTable::new("me".into(), PeerId::random());
    table.read_store([member("bob", Relation::Partner, first)], &Unseen::default(), now);
    table.settle();
    table.read_store([member("bob", Relation::Partner, second)], &Unseen::default(), now);
    let (federation, conflicts) = table.settle();
    assert!(federation.get("bob").is_none());
    assert_eq!(
        conflicts.first().map(|conflict| conflict.rule),
        Some("pinned_to_another_peer")
    );
    table.removed("bob", now);
    table.changed(member("bob", Relation::Partner, second), now);
    assert_eq!(table.settle().0.get("bob").and_then(|bob| bob.peer_id), Some(second));
}

#[test]
fn one_peer_id_is_one_member_and_never_ours() {
    let (now, ours, shared) = (Instant::now(), PeerId::random(), PeerId::random());
    let mut table = PartnerTable::new("me".into(), ours);
    table.read_store(
        [
            member("bob", Relation::Partner, shared),
            member("eve", Relation::Partner, shared),
            member("mallory", Relation::Partner, ours),
        ],
        &Unseen::default(),
        now,
    );
    let (federation, conflicts) = table.settle();
    assert_eq!(federation.partners().count(), 1);
    assert_eq!(
        federation.of_peer(&shared).map(|member| member.did.as_str()),
        Some("bob")
    );
    assert_eq!(conflicts.len(), 2);
}

#[test]
fn a_blacklisting_counts_also_with_a_conflicting_document() {
    let (now, first, second) = (Instant::now(), PeerId::random(), PeerId::random());
    let mut table = PartnerTable::new("me".into(), PeerId::random());
    table.read_store([member("bob", Relation::Partner, first)], &Unseen::default(), now);
    table.settle();
    table.read_store([member("bob", Relation::Blacklist, second)], &Unseen::default(), now);
    let (federation, _) = table.settle();
    assert!(federation.blacklist().contains(&first));
}

#[test]
fn a_pin_outlives_the_table_and_leaves_with_its_document() {
    let (now, first, second) = (Instant::now(), PeerId::random(), PeerId::random());
    let mut before = PartnerTable::new("me".into(), PeerId::random());
    before.read_store([member("bob", Relation::Partner, first)], &Unseen::default(), now);
    before.settle();
    assert_eq!(before.take_pin_changes(), [("bob".to_owned(), Some(first))].into());
    before.settle();
    assert!(before.take_pin_changes().is_empty(), "nothing has changed");
    let mut table = PartnerTable::new("me".into(), PeerId::random());
    table.remember_pins([("bob".to_owned(), first), ("eve".to_owned(), second)]);
    let unreadable = Unseen {
        ids: ["eve"].into(),
        more: false,
    };
    table.read_store([member("bob", Relation::Partner, second)], &unreadable, now);
    let (federation, conflicts) = table.settle();
    assert!(federation.get("bob").is_none() && conflicts.len() == 1);
    assert!(federation.is_aside("bob") && federation.is_aside("eve") && !federation.is_aside("carol"));
    assert!(table.take_pin_changes().is_empty());
    let truncated = Unseen {
        ids: HashSet::new(),
        more: true,
    };
    table.read_store([], &truncated, now);
    assert!(table.take_pin_changes().is_empty());
    table.read_store([], &Unseen::default(), now);
    assert!(!table.settle().0.is_aside("bob"), "it is gone");
    let gone = table.take_pin_changes();
    assert_eq!(gone, [("bob".to_owned(), None), ("eve".to_owned(), None)].into());
    table.changed(member("bob", Relation::Partner, second), now);
    table.settle();
    table.put_pin_changes_back(gone);
    let due = table.take_pin_changes();
    assert_eq!(due, [("bob".to_owned(), Some(second)), ("eve".to_owned(), None)].into());
}

#[test]
fn a_did_that_its_key_proves_is_held_up_by_no_pin() {
    let key = libp2p::identity::Keypair::generate_ed25519().public();
    let (did, other) = (crate::identity::derived_did(&key), PeerId::random());
    let mut table = PartnerTable::new("me".into(), PeerId::random());
    table.remember_pins([(did.clone(), other)]);
    table.changed(member(&did, Relation::Partner, key.to_peer_id()), Instant::now());
    assert_eq!(relation_of(&mut table, &did), Some(Relation::Partner));
    table.changed(member(&did, Relation::Partner, other), Instant::now());
    assert_eq!(relation_of(&mut table, &did), None, "and it is pinned from then on");
}
