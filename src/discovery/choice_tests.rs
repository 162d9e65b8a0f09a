use super::*;

fn at(net: u8, port: u16) -> Multiaddr {
    format!("/ip4/10.0.{net}.1/tcp/{port}/p2p/{}", PeerId::random())
        .parse()
        .unwrap()
}

fn peer_of(address: &Multiaddr) -> PeerId {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => peer,
        other => panic!("{other:?}"),
    }
}

fn next(choice: &mut Choice, now: Instant) -> Vec<PeerId> {
    choice.next(now, || 0.5).into_iter().map(|(peer, _)| peer).collect()
}

fn away() -> Lost {
    Lost::Away("refused".into())
}

#[test]
fn as_many_as_are_wanted_are_tried_and_another_takes_the_place_of_one_that_is_lost() {
    let now = Instant::now();
    let seeds: Vec<Multiaddr> = (0..8).map(|net| at(net, 1)).collect();
    let mut choice = Choice::new(OF_A_NODE, PeerId::random(), &seeds, now);
    let first = next(&mut choice, now);
    assert_eq!(first.len(), OF_A_NODE);
    assert!(next(&mut choice, now).is_empty());
    for peer in &first {
        choice.up(peer, now);
    }
    assert_eq!((choice.kept().len(), choice.missing()), (5, 0));
    choice.lost(&first[0], &away(), now, 1.0);
    let second = next(&mut choice, now);
    assert!(second.len() == 1 && !first.contains(&second[0]));
    assert_eq!(choice.needed().len(), 5);
}

#[test]
fn only_those_that_are_named_and_kept_are_believed_alone() {
    let now = Instant::now();
    let (named, learnt) = (at(1, 1), at(2, 1));
    let mut choice = Choice::new(2, PeerId::random(), std::slice::from_ref(&named), now);
    choice.learnt(&learnt, now);
    assert_eq!(next(&mut choice, now).len(), 2);
    assert!(choice.trusted().is_empty());
    for address in [&named, &learnt] {
        choice.up(&peer_of(address), now);
    }
    assert_eq!(choice.trusted(), HashSet::from([peer_of(&named)]));
}

#[test]
fn those_of_other_addresses_come_first() {
    let now = Instant::now();
    let mut seeds: Vec<Multiaddr> = (0..6).map(|port| at(1, port)).collect();
    seeds.extend([at(2, 1), at(3, 1)]);
    let mut choice = Choice::new(3, PeerId::random(), &seeds, now);
    let tried = next(&mut choice, now);
    assert!(tried.contains(&peer_of(&seeds[6])) && tried.contains(&peer_of(&seeds[7])));
}

#[test]
fn a_seed_is_tried_again_for_ever_with_growing_pauses_and_a_learnt_one_is_forgotten() {
    let mut now = Instant::now();
    let (seed, learnt) = (at(1, 1), at(2, 1));
    let mut choice = Choice::new(2, PeerId::random(), std::slice::from_ref(&seed), now);
    choice.learnt(&learnt, now);
    let mut pauses = Vec::new();
    for _ in 0..40 {
        for peer in next(&mut choice, now) {
            choice.lost(&peer, &away(), now, 1.0);
        }
        let due = choice.due().unwrap();
        pauses.push((due - now).as_secs());
        now = due;
    }
    assert_eq!((pauses[0], pauses.last()), (10, Some(&300)));
    assert_eq!(choice.shown().len(), 1);
    assert_eq!(choice.shown()[0].peer, peer_of(&seed));
}

#[test]
fn one_that_lied_is_left_alone_and_one_without_room_comes_last() {
    let now = Instant::now();
    let (liar, full, free) = (at(1, 1), at(2, 1), at(3, 1));
    let mut choice = Choice::new(1, PeerId::random(), &[liar.clone(), full.clone()], now);
    choice.lost(&peer_of(&liar), &Lost::Lied("bad_signature"), now, 1.0);
    assert_eq!(next(&mut choice, now), [peer_of(&full)]);
    choice.lost(&peer_of(&full), &Lost::Full, now, 1.0);
    choice.learnt(&free, now);
    let later = now + Duration::from_secs(3599);
    assert_eq!(next(&mut choice, later), [peer_of(&free)]);
    choice.lost(&peer_of(&free), &away(), later, 1.0);
    assert_eq!(next(&mut choice, later + Duration::from_secs(1)).len(), 1);
}

#[test]
fn silence_is_counted_until_an_answer_comes() {
    let now = Instant::now();
    let seed = at(1, 1);
    let mut choice = Choice::new(1, PeerId::random(), std::slice::from_ref(&seed), now);
    let peer = peer_of(&seed);
    assert!(!choice.asked(&peer, false) && !choice.asked(&peer, false));
    assert!(!choice.asked(&peer, true) && !choice.asked(&peer, false));
    assert!(!choice.asked(&peer, false) && choice.asked(&peer, false));
}

#[test]
fn what_others_tell_is_bounded_and_never_ourselves() {
    let (now, own) = (Instant::now(), PeerId::random());
    let mut choice = Choice::new(5, own, &[], now);
    choice.learnt(&format!("/ip4/10.0.0.1/tcp/1/p2p/{own}").parse().unwrap(), now);
    choice.learnt(&"/ip4/10.0.0.1/tcp/1".parse().unwrap(), now);
    assert!(!choice.knows_any());
    for n in 0..2 * LEARNT {
        choice.learnt(&at(1, u16::try_from(n).unwrap()), now);
    }
    let peer = PeerId::random();
    assert_eq!(choice.shown().len(), LEARNT);
    let shown = choice.shown()[0].peer;
    for port in 0..100 {
        choice.learnt(&format!("/ip4/10.9.9.9/tcp/{port}/p2p/{shown}").parse().unwrap(), now);
    }
    assert_eq!(choice.shown()[0].addresses.len(), ADDRESSES);
    choice.lost(&peer, &away(), now, 0.0);
}

#[test]
fn of_where_an_indexer_is_the_settings_stay_and_what_was_told_last_comes_next() {
    let now = Instant::now();
    let named = at(1, 1);
    let peer = peer_of(&named);
    let mut choice = Choice::new(5, PeerId::random(), std::slice::from_ref(&named), now);
    let told = |port: u16| -> Multiaddr { format!("/ip4/10.9.9.9/tcp/{port}/p2p/{peer}").parse().unwrap() };
    for port in (1..=20).chain([15]) {
        choice.learnt(&told(port), now);
    }
    choice.learnt(&named, now);
    let long = format!("/dns4/{}/tcp/1/p2p/{peer}", "x".repeat(ADDRESS_BYTES));
    choice.learnt(&long.parse().unwrap(), now);
    let shown: Vec<String> = choice.shown()[0].addresses.iter().map(ToString::to_string).collect();
    let ports = [15, 20, 19, 18, 17, 16, 14].map(|port| format!("/ip4/10.9.9.9/tcp/{port}"));
    assert_eq!(shown[0], "/ip4/10.0.1.1/tcp/1");
    assert_eq!(shown[1..], ports);
}

#[test]
fn others_are_told_where_an_indexer_was_said_to_be_last_unless_the_settings_say_it() {
    let now = Instant::now();
    let told = |named: Option<&Multiaddr>, peer: PeerId| {
        let mut choice = Choice::new(
            5,
            PeerId::random(),
            named.map(std::slice::from_ref).unwrap_or_default(),
            now,
        );
        for port in 1..=3 {
            let address = format!("/ip4/10.9.9.9/tcp/{port}/p2p/{peer}");
            choice.learnt(&address.parse().unwrap(), now);
        }
        next(&mut choice, now);
        choice.up(&peer, now);
        choice
            .told(5, Reach::Site)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let peer = PeerId::random();
    assert_eq!(told(None, peer), [format!("/ip4/10.9.9.9/tcp/3/p2p/{peer}")]);
    let named = at(1, 1);
    assert_eq!(told(Some(&named), peer_of(&named)), [named.to_string()]);
}
