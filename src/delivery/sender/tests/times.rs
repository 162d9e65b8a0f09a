//! Every wait ends by itself: nothing ticks here but what the sender itself is due for.

use super::*;

const DAY: u64 = 86_400_000;

#[test]
fn a_peer_that_never_answers_is_tried_again_and_again() {
    let mut bench = Bench::opened(9, 0);
    let opens = bench
        .passes(DAY)
        .iter()
        .filter(|effect| **effect == Effect::Open)
        .count();
    assert!(opens > 200, "{opens} in a day");
}

#[test]
fn a_peer_that_cannot_be_reached_is_tried_for_ever() {
    let mut bench = Bench::opened(9, 0);
    for _ in 0..100 {
        bench.on(Input::NotOpened { unsupported: false });
        let due = bench.due();
        assert!(due <= 300_000, "{due}");
        assert_eq!(bench.passes(due), [Effect::Open]);
    }
}

#[test]
fn a_long_wait_that_the_peer_asked_for_ends() {
    for retry_after in [1, 59, 61, 3_600] {
        let mut bench = Bench::opened(9, 0);
        let code = "nats".to_owned();
        bench.on(Input::Line(ReceiverLine::Stop { code, retry_after }));
        assert_eq!(bench.passes(retry_after * 1_000), [Effect::Open], "{retry_after} s");
    }
}

#[test]
fn deletes_that_are_held_back_are_looked_at_again() {
    let mut bench = Bench::opened(9, 0);
    bench.on(have(None));
    let code = "many_deletes";
    bench.sender.hold_back(bench.now, 600_000, code, &mut Vec::new());
    assert_eq!(bench.passes(600_000), [Effect::Open]);
}

#[test]
fn a_nudge_leaves_the_end_of_the_next_wait_where_it_is() {
    let mut bench = Bench::opened(9, 0);
    bench.on(Input::NotOpened { unsupported: false });
    bench.now += 1_000;
    assert_eq!(bench.on(Input::Nudge { asked: false }), [Effect::Open]);
    assert_eq!(bench.passes(wait::ANSWER), [Effect::Close], "it says nothing");
}

#[test]
fn nothing_is_due_before_the_intake_is_ready() {
    let mut bench = Bench::new(9, 0);
    bench.on(Input::Rights {
        partner: true,
        directed: false,
    });
    assert_eq!(bench.sender.due(), None);
    assert!(bench.passes(DAY).is_empty());
    assert_eq!(bench.on(Input::IntakeReady(true)), [Effect::Open]);
}
