//! The comparison, step by step.

use super::*;
use crate::delivery::digest::Difference;

#[test]
fn a_place_of_another_history_is_compared_from_the_start() {
    let mut bench = Bench::opened(9, 0);
    assert_eq!(bench.on(have(None)), [Effect::Write(SenderLine::List)]);
    let page = |to: Option<&str>, count, last| {
        let to = to.map(|id| key(id).into());
        let sum = [0; 16];
        Input::Line(ReceiverLine::Page { to, count, sum, last })
    };
    assert!(bench.on(Input::Written).is_empty());
    assert!(bench.on(page(Some("m"), 2, false)).is_empty());
    let effects = bench.on(page(None, 0, true));
    let [Effect::Sum { ticket, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    let (count, sum) = (3, Hash::default());
    let effects = bench.on(Input::Summed { ticket, count, sum });
    let (after, to) = (None, Some(key("m").into()));
    assert_eq!(effects, [Effect::Write(SenderLine::ListKeys { after, to })]);
    bench.on(Input::Written);
    let keys = vec![(key("a").into(), [1; 16]), (key("m").into(), [2; 16])];
    let effects = bench.on(Input::Line(ReceiverLine::Keys { keys, last: true }));
    let [Effect::Compare { ticket, ref held, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(held.len(), 2);
    let lines = vec![Difference::Gone(key("a")), Difference::Row(put(5, "m"))];
    let effects = bench.on(Input::RangeCompared {
        ticket,
        lines,
        upto: None,
    });
    assert_eq!(effects.len(), 1, "the put; deletes wait for the end");
    // The second range: nothing is held there, so nobody is asked for sums and keys.
    let effects = bench.on(Input::Written);
    let [Effect::Compare { ticket, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    let lines = vec![];
    let effects = bench.on(Input::RangeCompared {
        ticket,
        lines,
        upto: None,
    });
    assert!(
        matches!(
            effects[..],
            [Effect::Read {
                directed_only: true,
                ..
            }]
        ),
        "{effects:?}"
    );
    let effects = bench.answer(&effects, vec![row(6, "m1", "did:b", Action::Considers)], 9);
    assert_eq!(effects.len(), 1);
    let effects = bench.on(Input::Written);
    assert!(
        matches!(&effects[..], [Effect::Write(SenderLine::Line(line))] if line.seq == 0),
        "{effects:?}"
    );
    assert_eq!(bench.on(Input::Written), [Effect::Write(SenderLine::End(at(9)))]);
    // The partner reads all of it before it answers to any.
    let reject = |seq| {
        let (code, max) = ("shape".to_owned(), None);
        Input::Line(ReceiverLine::Reject { seq, code, max })
    };
    let effects = bench.on(reject(5));
    assert!(
        matches!(&effects[..], [Effect::Park { seq: 5, key: of, .. }] if *of == key("m")),
        "{effects:?}"
    );
    assert!(bench.on(reject(5)).is_empty(), "once");
    assert_eq!(
        bench.on(Input::Line(ReceiverLine::Ack { seq: 9 })),
        [
            Effect::Arrived {
                keys: vec![key("m1"), key("a")]
            },
            Effect::Acked { seq: 9 },
            Effect::DirectedDone { seq: 9 }
        ],
        "what was refused stays parked"
    );
}

#[test]
fn many_deletes_wait_for_an_operator() {
    let mut bench = Bench::opened(9, 0);
    let compared = |bench: &mut Bench| {
        bench.on(have(None));
        bench.on(Input::Written);
        let (to, count, sum, last) = (None, 0, [0; 16], true);
        let effects = bench.on(Input::Line(ReceiverLine::Page { to, count, sum, last }));
        let [Effect::Compare { ticket, .. }] = effects[..] else {
            panic!("{effects:?}")
        };
        let lines = (0..101).map(|n| Difference::Gone(key(&n.to_string()))).collect();
        bench.on(Input::RangeCompared {
            ticket,
            lines,
            upto: None,
        })
    };
    let code = "many_deletes".to_owned();
    let effects = compared(&mut bench);
    let effects = bench.answer(&effects, vec![row(6, "m1", "did:b", Action::Considers)], 9);
    assert!(
        matches!(&effects[..], [Effect::Write(SenderLine::Line(line))] if line.seq == 6),
        "what is for it alone does not wait: {effects:?}"
    );
    assert_eq!(bench.on(Input::Written), [Effect::Close, Effect::Hold { code }]);
    bench.now += 2_000;
    assert_eq!(bench.on(Input::AllowDeletes), [Effect::Open]);
    bench.on(Input::Opened);
    assert_eq!(compared(&mut bench).len(), 101);
}
