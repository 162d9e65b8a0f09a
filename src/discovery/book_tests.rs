use super::*;
use crate::discovery::rules::tests::good;
use crate::identity::derived_did;
use libp2p::identity::Keypair;
use std::time::{Duration, SystemTime};

const BOUNDS: Bounds = Bounds {
    records: 10,
    of_address: 4,
};

fn source(last: u8) -> Source {
    Source::V4([10, 0, 0, last].into())
}

fn key() -> Keypair {
    Keypair::generate_ed25519()
}

fn texts(found: &[&Kept]) -> Vec<String> {
    let mut dids: Vec<String> = found.iter().map(|kept| kept.did.to_string()).collect();
    dids.sort();
    dids
}

#[test]
fn a_record_is_found_by_did_peer_id_and_name_and_a_name_means_all_who_bear_it() {
    let (mut book, now, at) = (Book::new(BOUNDS), 1_000_000, SystemTime::now());
    let (one, two) = (key(), key());
    book.take(&good(&one, "did:1", "site", at), source(1), now).unwrap();
    book.take(&good(&two, "did:2", "site", at), source(2), now).unwrap();
    book.take(&good(&key(), "did:3", "site 2", at), source(3), now).unwrap();
    assert_eq!(texts(&book.find("did:1", now)), ["did:1"]);
    let peer = two.public().to_peer_id();
    assert_eq!(texts(&book.find(&peer.to_string(), now)), ["did:2"]);
    assert_eq!(texts(&book.find("site", now)), ["did:1", "did:2"]);
    assert!(book.find("sit", now).is_empty());
    // Read as a PeerId it would take minutes.
    assert!(book.find(&"z".repeat(4 << 20), now).is_empty());
    // Somebody else bears the first one's DID as a name.
    book.take(&good(&key(), "did:4", "did:1", at), source(4), now).unwrap();
    assert_eq!(texts(&book.find("did:1", now)), ["did:1", "did:4"]);
    // Listed by name, what is over left out.
    let listed = |now| book.by_names(now).map(|kept| kept.name.to_string()).collect::<Vec<_>>();
    assert_eq!(listed(now), ["did:1", "site", "site", "site 2"]);
    assert!(listed(now + life()).is_empty());
    assert_eq!(book.name_of("did:3").as_deref(), Some("site 2"));
    assert_eq!(book.name_of("site"), None);
}

#[test]
fn a_record_lives_two_minutes_from_its_receipt_and_the_same_one_again_does_not_lengthen_that() {
    let (mut book, now, at) = (Book::new(BOUNDS), 1_000_000, SystemTime::now());
    let one = key();
    let first = good(&one, "did:1", "a", at);
    book.take(&first, source(1), now).unwrap();
    assert_eq!(book.take(&first, source(1), now + 60_000), Ok(()));
    assert_eq!(book.find("did:1", now + 119_999).len(), 1);
    assert_eq!(book.find("did:1", now + 120_000).len(), 0);
    let newer = good(&one, "did:1", "a", at + Duration::from_secs(20));
    book.take(&newer, source(1), now + 60_000).unwrap();
    assert_eq!(book.take(&first, source(1), now + 61_000), Err(Refused::Older));
    assert_eq!(book.find("did:1", now + 179_999).len(), 1);
    assert_eq!((book.sweep(now + 179_999), book.sweep(now + 180_000)), (0, 1));
    assert_eq!((book.len(), book.find("a", now + 180_000).len()), (0, 0));
}

#[test]
fn the_book_and_each_address_have_their_bounds_and_renewals_always_find_their_place() {
    let (mut book, now, at) = (Book::new(BOUNDS), 1_000_000, SystemTime::now());
    let mut put = |n: usize, from: u8| {
        let owner = key();
        let did = format!("did:{n}");
        (book.take(&good(&owner, &did, "n", at), source(from), now), owner)
    };
    let first = put(0, 1).1;
    for n in 1..4 {
        assert_eq!(put(n, 1).0, Ok(()));
    }
    assert_eq!(put(4, 1).0, Err(Refused::AddressFull));
    for n in 4..10 {
        assert_eq!(put(n, 2 + u8::try_from(n).unwrap()).0, Ok(()));
    }
    assert_eq!(put(10, 99).0, Err(Refused::Full));
    let newer = good(&first, "did:0", "n", at + Duration::from_secs(1));
    assert_eq!(book.take(&newer, source(1), now), Ok(()));
    let moved = good(&first, "did:0", "n", at + Duration::from_secs(2));
    assert_eq!(book.take(&moved, source(50), now), Ok(()), "it came from elsewhere");
    assert_eq!(book.len(), 10);
    book.sweep(now + 120_000);
    assert_eq!((book.len(), book.of_address.len(), book.by_name.len()), (0, 0, 0));
}

#[test]
fn a_did_stays_with_its_key_unless_another_proves_it() {
    let (mut book, now, at) = (Book::new(BOUNDS), 1_000_000, SystemTime::now());
    let (owner, squatter) = (key(), key());
    book.take(&good(&owner, "did:1", "real", at), source(1), now).unwrap();
    let claim = good(&squatter, "did:1", "false", at);
    assert_eq!(book.take(&claim, source(2), now), Err(Refused::DidTaken));
    book.sweep(now + 200_000);
    assert_eq!(
        book.take(&claim, source(2), now + 200_000),
        Err(Refused::DidTaken),
        "it is only away"
    );
    let later = now + PINNED + 200_000;
    book.sweep(later);
    assert_eq!(book.take(&claim, source(2), later), Ok(()));

    let proven = derived_did(&owner.public());
    let claim = good(&squatter, &proven, "false", at + Duration::from_secs(1));
    assert_eq!(book.take(&claim, source(2), now), Ok(()), "nobody has shown up yet");
    let real = good(&owner, &proven, "real", at + Duration::from_secs(1));
    assert_eq!(book.take(&real, source(1), now), Ok(()));
    assert_eq!(book.find(&proven, now).len(), 1);
    assert!(book.find(&squatter.public().to_peer_id().to_string(), now).is_empty());
    let claim = good(&squatter, &proven, "false", at + Duration::from_secs(2));
    assert_eq!(book.take(&claim, source(2), now), Err(Refused::DidTaken));
}

#[test]
fn dids_that_came_and_went_keep_no_new_one_out_and_what_no_key_proves_stays_longest() {
    let (mut book, mut now, at) = (Book::new(BOUNDS), 1_000_000, SystemTime::now());
    let (plain, proven, squatter) = (key(), key(), key());
    let derived = derived_did(&proven.public());
    book.take(&good(&proven, &derived, "b", at), source(1), now).unwrap();
    book.take(&good(&plain, "did:plain", "a", at), source(1), now + 1)
        .unwrap();
    // From one address, as fast as its share of the places lets it: the pins are full with the last of them.
    let full = BOUNDS.records * PINS_PER_RECORD;
    for n in 2..=full {
        if n % BOUNDS.of_address == 2 {
            now += life();
            book.sweep(now);
        }
        let did = format!("did:{n}");
        assert_eq!(book.take(&good(&key(), &did, "n", at), source(2), now), Ok(()), "{n}");
    }
    assert_eq!(book.by_did.len(), full);
    assert!(!book.by_did.contains_key(&*derived), "its key proves it again");
    assert_eq!(book.take(&good(&proven, &derived, "b", at), source(3), now), Ok(()));
    assert!(!book.by_did.contains_key("did:plain"), "the oldest makes room");
    assert!(book.by_did.contains_key("did:2"));
    assert_eq!(
        book.take(&good(&squatter, "did:plain", "s", at), source(4), now),
        Ok(())
    );
    // No record that is kept loses its DID by that.
    let held = book
        .kept
        .values()
        .filter(|kept| book.by_did.contains_key(&kept.did))
        .count();
    assert_eq!((book.by_did.len(), held), (full, book.len()));
}

#[test]
fn a_peer_has_one_did_at_a_time() {
    let (mut book, now, at) = (Book::new(BOUNDS), 1_000_000, SystemTime::now());
    let one = key();
    for n in 0..100u64 {
        let record = good(
            &one,
            &format!("did:{n}"),
            &format!("name {n}"),
            at + Duration::from_secs(n / 2),
        );
        let taken = book.take(&record, source(1), now);
        assert_eq!(taken, Ok(()), "{n}");
    }
    assert_eq!((book.len(), book.by_did.len(), book.by_name.len()), (1, 1, 1));
    assert_eq!(texts(&book.find("name 99", now)), ["did:99"]);
}

#[test]
fn pins_outlive_the_process() {
    let (mut book, now, at) = (Book::new(BOUNDS), 1_000_000, SystemTime::now());
    let (first, second, owner) = (key(), key(), key());
    let proven = derived_did(&owner.public());
    book.take(&good(&first, "did:1", "a", at), source(1), now).unwrap();
    book.take(&good(&owner, &proven, "b", at), source(1), now).unwrap();
    let mut next = Book::new(BOUNDS);
    for (did, peer, seen) in book.pins() {
        next.put_pin(&did, peer, seen);
    }
    let claim = |did: &str| good(&second, did, "c", at);
    for did in ["did:1", &proven] {
        assert_eq!(next.take(&claim(did), source(2), now), Err(Refused::DidTaken));
    }
    next.take(&good(&first, "did:1", "a", at), source(1), now).unwrap();
    next.sweep(now + PINNED);
    assert_eq!(next.take(&claim("did:1"), source(2), now + PINNED), Ok(()));
}
