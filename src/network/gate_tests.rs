use super::*;

fn source(last: u8) -> Source {
    Source::of(&format!("/ip4/10.0.0.{last}/tcp/1").parse().unwrap())
}

fn gate(known: impl IntoIterator<Item = PeerId>, allows_unknown: bool) -> Gate {
    let mut gate = Gate::default();
    gate.know(known.into_iter().collect(), allows_unknown, Instant::now());
    gate
}

#[test]
fn what_becomes_of_whom() {
    use Standing::{Open, Refused};
    let table = [
        (Told::Known, false, Open),
        (Told::Known, true, Open),
        (Told::Vouched, false, Open),
        (Told::Unknown, false, Refused),
        (Told::Unknown, true, Open),
        (Told::Failed, false, Refused),
        (Told::Failed, true, Open),
    ];
    for (told, allows, expected) in table {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut gate = gate([], allows);
        assert_eq!(gate.arrived(peer, source(1), now), Standing::Waits);
        assert_eq!(gate.next(), Some(peer));
        assert_eq!(gate.told(peer, told, now), Some(expected), "{told:?} {allows}");
        assert_eq!((gate.told(peer, told, now), gate.due()), (None, None));
    }
}

#[test]
fn one_of_the_store_never_waits_and_one_that_comes_to_be_waits_no_longer() {
    let (now, old, new) = (Instant::now(), PeerId::random(), PeerId::random());
    let mut gate = gate([old], false);
    assert_eq!(gate.arrived(old, source(1), now), Standing::Open);
    assert_eq!(gate.arrived(new, source(1), now), Standing::Waits);
    assert_eq!(gate.know([new].into(), false, now), [(new, Standing::Open)]);
    assert_eq!(gate.next(), None);
    assert!(gate.must_go(&old) && !gate.must_go(&new));
}

#[test]
fn before_the_first_reading_of_the_store_everybody_waits_for_it() {
    let (now, known, other) = (Instant::now(), PeerId::random(), PeerId::random());
    let mut gate = Gate::default();
    for peer in [known, other] {
        assert_eq!(gate.arrived(peer, source(1), now), Standing::Waits);
    }
    let later = now + PATIENCE * 10;
    assert_eq!((gate.next(), gate.due(), gate.overdue(later)), (None, None, vec![]));
    assert!(!gate.must_go(&other));
    assert_eq!(gate.know([known].into(), false, later), [(known, Standing::Open)]);
    assert_eq!(gate.next(), Some(other));
    assert_eq!(gate.due(), Some(later + PATIENCE));
}

#[test]
fn nobody_waits_for_longer_than_five_seconds() {
    for (allows, expected) in [(true, Standing::Open), (false, Standing::Refused)] {
        let (now, first, second) = (Instant::now(), PeerId::random(), PeerId::random());
        let mut gate = gate([], allows);
        gate.arrived(first, source(1), now);
        gate.next();
        gate.arrived(second, source(1), now + PATIENCE / 2);
        assert_eq!(gate.overdue(now + PATIENCE - Duration::from_nanos(1)), []);
        assert_eq!(gate.due(), Some(now + PATIENCE));
        assert_eq!(gate.overdue(now + PATIENCE), [(first, expected)]);
        assert_eq!(gate.due(), Some(now + PATIENCE / 2 + PATIENCE));
        assert_eq!(gate.told(first, Told::Known, now + PATIENCE), None, "too late");
    }
}

#[test]
fn look_ups_are_bounded_in_all_and_for_each_address() {
    let now = Instant::now();
    let mut gate = gate([], true);
    let mut come = |from: u8| {
        let peer = PeerId::random();
        gate.arrived(peer, source(from), now);
        peer
    };
    let mut crowd: Vec<PeerId> = (0..100).map(|_| come(1)).collect();
    let other = come(2);
    let asked: Vec<PeerId> = std::iter::from_fn(|| gate.next()).collect();
    let mut expected = crowd[..LOOK_UPS_PER_SOURCE].to_vec();
    expected.push(other);
    assert_eq!(
        asked, expected,
        "a crowd behind one address leaves a turn to the others"
    );
    gate.told(crowd[0], Told::Unknown, now);
    assert_eq!(gate.next(), Some(crowd.remove(LOOK_UPS_PER_SOURCE)));
    for from in 3..100 {
        gate.arrived(PeerId::random(), source(from), now);
    }
    assert_eq!(std::iter::from_fn(|| gate.next()).count(), LOOK_UPS - 5);
}

#[test]
fn who_is_vouched_for_stays_while_it_is_connected_and_who_is_counted_on_always_does() {
    let (now, [peer, needed, shows]) = (Instant::now(), [(); 3].map(|()| PeerId::random()));
    let mut gate = gate([], false);
    gate.arrived(peer, source(1), now);
    gate.next();
    assert_eq!(gate.told(peer, Told::Vouched, now), Some(Standing::Open));
    assert!(!gate.must_go(&peer));
    assert_eq!(gate.view(&peer, now), "admitted");
    gate.left(&peer);
    assert!(gate.must_go(&peer));
    gate.arrived(needed, source(1), now);
    assert_eq!(gate.need([needed].into()), [(needed, Standing::Open)]);
    gate.left(&needed);
    assert_eq!(gate.arrived(needed, source(1), now), Standing::Open);
    assert!(!gate.must_go(&needed));
    assert_eq!(gate.admit(shows), None, "nobody waits under that name");
    gate.arrived(shows, source(1), now);
    assert_eq!(gate.admit(shows), Some(Standing::Open));
    assert!(!gate.must_go(&shows));
}

#[test]
fn one_look_up_for_each_peer_also_when_it_comes_again() {
    let (now, peer) = (Instant::now(), PeerId::random());
    let mut gate = gate([], true);
    gate.arrived(peer, source(1), now);
    assert_eq!(gate.next(), Some(peer));
    gate.left(&peer);
    assert_eq!(gate.arrived(peer, source(2), now), Standing::Waits);
    assert_eq!(gate.next(), None);
    assert_eq!(gate.told(peer, Told::Known, now), Some(Standing::Open));
    assert_eq!(gate.next(), None);
    gate.arrived(peer, source(1), now);
    gate.left(&peer);
    assert_eq!((gate.next(), gate.due()), (None, None), "who left is not asked about");
}

#[test]
fn that_nobody_knows_it_is_remembered_for_a_while_and_within_a_bound() {
    let (now, peer) = (Instant::now(), PeerId::random());
    let mut gate = gate([], false);
    let ask = |gate: &mut Gate, peer, told, now| {
        gate.arrived(peer, source(1), now);
        gate.next();
        gate.told(peer, told, now)
    };
    ask(&mut gate, peer, Told::Unknown, now);
    assert_eq!(gate.arrived(peer, source(1), now), Standing::Refused);
    assert_eq!(gate.arrived(peer, source(1), now + REMEMBERED), Standing::Waits);
    gate.left(&peer);
    ask(&mut gate, peer, Told::Failed, now + REMEMBERED);
    assert_eq!(gate.arrived(peer, source(1), now + REMEMBERED), Standing::Waits);
    gate.left(&peer);
    for _ in 0..VERDICTS + 10 {
        ask(&mut gate, PeerId::random(), Told::Unknown, now + REMEMBERED);
    }
    assert_eq!((gate.unknown.len(), gate.order.len()), (VERDICTS, VERDICTS));
    ask(&mut gate, peer, Told::Unknown, now + REMEMBERED * 3);
    assert_eq!((gate.unknown.len(), gate.order.len()), (1, 1));
}
