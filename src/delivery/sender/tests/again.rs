//! What a peer says more than once, and peers that are others than before.

use super::*;

/// One that turns out to know no delivery protocol, and what comes of that.
fn old_peer(head: u64) -> (Bench, Vec<Effect>) {
    let mut bench = Bench::new(head, 0);
    bench.on(Input::IntakeReady(true));
    bench.on(Input::Rights {
        partner: true,
        directed: false,
    });
    bench.now += 3_000;
    bench.on(Input::Tick);
    let effects = bench.on(Input::NotOpened { unsupported: true });
    (bench, effects)
}

#[test]
fn a_row_that_is_refused_again_and_again_is_parked_once() {
    let mut bench = Bench::opened(1, 0);
    bench.on(have(Some(at(0))));
    bench.reads(vec![put(1, "a")], 1);
    let refused = || {
        let code = "shape".to_owned();
        Input::Line(ReceiverLine::Reject {
            seq: 1,
            code,
            max: None,
        })
    };
    assert!(matches!(bench.on(refused())[..], [Effect::Park { seq: 1, .. }]));
    assert!(bench.on(refused()).is_empty());
}

#[test]
fn an_old_peer_that_delivers_to_us_by_now_is_greeted_anew() {
    let (mut bench, _) = old_peer(0);
    bench.now += 3_000;
    assert!(
        bench.on(Input::Nudge { asked: false }).is_empty(),
        "only that it is there"
    );
    assert_eq!(bench.on(Input::Nudge { asked: true }), [Effect::Close, Effect::Open]);
}

#[test]
fn a_place_behind_what_was_acknowledged_is_told_of() {
    for (seq, behind) in [(2, false), (1, true)] {
        let mut bench = Bench::opened(2, 0);
        bench.on(have(Some(at(0))));
        assert_eq!(bench.sender.set_back_because(), "", "nothing was acknowledged yet");
        bench.reads(vec![put(1, "a"), put(2, "b")], 2);
        bench.on(Input::Line(ReceiverLine::Ack { seq: 2 }));
        bench.on(Input::Ended { alive: false });
        bench.reopen();
        bench.on(have(Some(at(seq))));
        assert_eq!(
            bench.sender.set_back_because().contains("behind what it has had"),
            behind
        );
    }
}

#[test]
fn an_old_peer_that_becomes_a_partner_gets_what_there_is() {
    let mut bench = Bench::new(9, 0);
    bench.on(Input::IntakeReady(true));
    let rights = |partner| Input::Rights {
        partner,
        directed: true,
    };
    let old = |bench: &mut Bench, partner| {
        bench.on(rights(partner));
        bench.passes(3_000);
        let effects = bench.on(Input::NotOpened { unsupported: true });
        let Some(Effect::Read {
            ticket,
            after,
            directed_only,
            ..
        }) = effects.last().cloned()
        else {
            panic!("{effects:?}")
        };
        assert_eq!((after, directed_only), (0, !partner));
        ticket
    };
    let ticket = old(&mut bench, false);
    bench.on(Input::Rows {
        ticket,
        rows: vec![row(9, "m", "did:b", Action::Considers)],
        upto: 9,
        floor: 0,
    });
    let (seq, taken) = (9, true);
    assert_eq!(
        bench.on(Input::LegacySent { seq, taken }),
        [Effect::DirectedDone { seq: 9 }]
    );
    old(&mut bench, true);
}

#[test]
fn an_old_peer_gets_each_row_once_and_its_actions_a_second_apart() {
    let (mut bench, effects) = old_peer(9);
    let [Effect::Legacy(true), Effect::Read { ticket, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    let (rows, upto, floor) = (vec![put(3, "a"), row(9, "a", "", Action::Delete)], 9, 0);
    let effects = bench.on(Input::Rows {
        ticket,
        rows,
        upto,
        floor,
    });
    assert_eq!(effects, [Effect::LegacySend { row: put(3, "a") }]);
    let (seq, taken) = (3, true);
    assert_eq!(bench.on(Input::LegacySent { seq, taken }), [Effect::Acked { seq: 3 }]);
    bench.now += 1_000;
    assert!(matches!(bench.on(Input::Tick)[..], [Effect::LegacySend { .. }]));
    let (seq, taken) = (9, false);
    assert_eq!(bench.on(Input::LegacySent { seq, taken }), [Effect::Close]);
    assert_eq!(bench.sender.acked, 3, "it is sent again");
}
