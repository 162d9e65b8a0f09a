//! The rule's table, row by row; `comparing` has those of the comparison, `again` what comes twice, `times` the waits.

mod again;
mod comparing;
mod times;

use super::*;
use crate::delivery::{Change, Hash, Incarnation, Row, Token};
use crate::wire::{Action, DataType};
use bytes::Bytes;

fn feed(head: u64, floor: u64) -> Arc<Feed> {
    Arc::new(Feed {
        lineage: Token([1; 16]),
        head,
        floor,
        incarnations: vec![Incarnation {
            id: Token([2; 16]),
            first_seq: 1,
        }],
    })
}

fn at(seq: u64) -> DeliveryPosition {
    DeliveryPosition {
        lineage: [1; 16],
        incarnation: [2; 16],
        seq,
    }
}

fn key(id: &str) -> Key {
    Key {
        datatype: DataType::DataResource,
        id: id.into(),
    }
}

fn row(seq: u64, id: &str, dest: &str, action: Action) -> Row {
    Row {
        seq,
        change: Change {
            key: key(id),
            dest: dest.into(),
            action,
            user: String::new(),
            payload: Bytes::from_static(b"{}"),
            at: 0,
        },
        hash: Hash::default(),
    }
}

fn put(seq: u64, id: &str) -> Row {
    row(seq, id, "", Action::Update)
}

fn have(position: Option<DeliveryPosition>) -> Input {
    Input::Line(ReceiverLine::Have {
        position,
        full: false,
        directed: false,
    })
}

struct Bench {
    sender: Sender,
    now: u64,
}

impl Bench {
    fn new(head: u64, floor: u64) -> Self {
        Self {
            sender: Sender::new("did:b", feed(head, floor), 0),
            now: 0,
        }
    }

    /// As far as the open stream.
    fn opened(head: u64, floor: u64) -> Self {
        let mut bench = Self::new(head, floor);
        bench.on(Input::IntakeReady(true));
        bench.on(Input::Rights {
            partner: true,
            directed: false,
        });
        bench.reopen();
        bench
    }

    fn reopen(&mut self) {
        self.now += 600_000;
        assert!(self.on(Input::Tick).contains(&Effect::Open), "{}", self.sender.state());
        self.on(Input::Opened);
    }

    fn on(&mut self, input: Input) -> Vec<Effect> {
        self.sender.on(self.now, 0.5, input)
    }

    /// Answers the read that is the only effect of what was written being taken.
    fn reads(&mut self, rows: Vec<Row>, upto: u64) -> Vec<Effect> {
        let effects = self.on(Input::Written);
        self.answer(&effects, rows, upto)
    }

    /// What is read when that is all it wants.
    fn answer(&mut self, effects: &[Effect], rows: Vec<Row>, upto: u64) -> Vec<Effect> {
        let &[Effect::Read { ticket, .. }] = effects else {
            panic!("{effects:?}")
        };
        let floor = self.sender.floor;
        let rows = Input::Rows {
            ticket,
            rows,
            upto,
            floor,
        };
        self.on(rows)
    }

    /// Lets time pass as a courier does: it ticks when a tick is due, and at no other time.
    fn passes(&mut self, time: u64) -> Vec<Effect> {
        let (end, mut effects) = (self.now + time, Vec::new());
        while let Some(due) = self.sender.due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            effects.extend(self.on(Input::Tick));
        }
        self.now = end;
        effects
    }

    fn due(&self) -> u64 {
        let State::Wait { due } = self.sender.state else {
            panic!("{}", self.sender.state())
        };
        due - self.now
    }
}

#[test]
fn a_peer_with_rights_is_tried_once_the_intake_has_caught_up() {
    let mut bench = Bench::new(0, 0);
    assert!(bench.on(Input::Tick).is_empty());
    bench.on(Input::Rights {
        partner: false,
        directed: true,
    });
    assert_eq!(
        (bench.sender.state(), bench.due()),
        ("wait", 1_000),
        "half of the spread"
    );
    bench.now = 5_000;
    assert!(bench.on(Input::Tick).is_empty(), "the intake is behind");
    assert_eq!(bench.on(Input::IntakeReady(true)), [Effect::Open]);
    let nothing = Input::Rights {
        partner: false,
        directed: false,
    };
    assert_eq!(bench.on(nothing.clone()), [Effect::Close, Effect::Forget]);
    assert_eq!((bench.sender.state(), bench.on(nothing)), ("off", vec![]));
}

#[test]
fn a_peer_that_is_heard_is_tried_at_once_but_a_second_apart() {
    let mut bench = Bench::opened(0, 0);
    bench.on(Input::Ended { alive: false });
    assert!(bench.on(Input::Nudge { asked: false }).is_empty());
    assert_eq!(bench.due(), 1_000);
    bench.now += 1_000;
    assert_eq!(bench.on(Input::Tick), [Effect::Open]);
    for _ in 0..40 {
        bench.on(Input::NotOpened { unsupported: false });
        bench.now += bench.due();
        bench.on(Input::Tick);
    }
    bench.on(Input::NotOpened { unsupported: false });
    assert_eq!(bench.due(), 225_000, "three quarters of five minutes");
}

#[test]
fn a_place_of_ours_is_gone_on_from_and_acknowledged() {
    let mut bench = Bench::opened(9, 2);
    let begin = SenderLine::Begin {
        position: at(7),
        directed: false,
    };
    assert_eq!(bench.on(have(Some(at(7)))), [Effect::Write(begin)]);
    let wrote = bench.reads(vec![put(8, "a"), row(9, "m", "did:b", Action::Considers)], 9);
    assert_eq!(wrote.len(), 2);
    assert!(bench.on(Input::Written).is_empty(), "nothing is behind the head");
    assert_eq!(
        bench.on(Input::Line(ReceiverLine::Ack { seq: 7 })),
        [Effect::Acked { seq: 7 }, Effect::DirectedDone { seq: 7 }]
    );
    assert_eq!(
        bench.on(Input::Line(ReceiverLine::Ack { seq: 8 })),
        [Effect::Acked { seq: 8 }]
    );
    assert_eq!(
        bench.on(Input::Line(ReceiverLine::Ack { seq: 9 })),
        [Effect::Acked { seq: 9 }, Effect::DirectedDone { seq: 9 }]
    );
    assert_eq!(
        bench.on(Input::Line(ReceiverLine::Ack { seq: 10 })),
        [Effect::Close],
        "was never sent"
    );
}

#[test]
fn the_window_bounds_what_is_not_acknowledged() {
    let mut bench = Bench::opened(10_000, 0);
    bench.on(have(Some(at(0))));
    let effects = bench.on(Input::Written);
    let [Effect::Read { ticket, max_rows, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(max_rows, WINDOW_ROWS - 1, "the place itself waits too");
    let rows = (1..=max_rows as u64).map(|seq| put(seq, &seq.to_string())).collect();
    let (upto, floor) = (max_rows as u64, 0);
    bench.on(Input::Rows {
        ticket,
        rows,
        upto,
        floor,
    });
    assert!(bench.on(Input::Written).is_empty(), "full");
    let effects = bench.on(Input::Line(ReceiverLine::Ack { seq: 100 }));
    assert!(
        matches!(
            effects[..],
            [
                _,
                _,
                Effect::Read { max_rows: 101, after, .. }
            ] if after == upto
        ),
        "{effects:?}"
    );
}

#[test]
fn behind_the_floor_it_begins_anew() {
    let mut bench = Bench::opened(9, 0);
    bench.on(have(Some(at(7))));
    assert_eq!(bench.on(Input::Head { head: 9, floor: 8 }), [Effect::Close]);
    let mut bench = Bench::opened(9, 0);
    bench.on(have(Some(at(7))));
    let effects = bench.on(Input::Written);
    let [Effect::Read { ticket, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    let (rows, upto, floor) = (vec![put(9, "a")], 9, 8);
    let late = Input::Rows {
        ticket,
        rows,
        upto,
        floor,
    };
    assert_eq!(bench.on(late.clone()), [Effect::Close]);
    assert!(bench.on(late).is_empty(), "an answer to a question of an old session");
}

#[test]
fn stop_waits_as_told_and_parks_nothing() {
    let mut bench = Bench::opened(9, 0);
    bench.on(have(Some(at(7))));
    let (code, retry_after) = ("disk".to_owned(), 60);
    let effects = bench.on(Input::Line(ReceiverLine::Stop { code, retry_after }));
    let code = "disk".to_owned();
    assert_eq!(effects, [Effect::Close, Effect::Hold { code }]);
    bench.on(Input::Nudge { asked: false });
    assert_eq!(bench.due(), 60_000, "being heard changes nothing");
    bench.now += 2_000;
    assert_eq!(bench.on(Input::Nudge { asked: true }), [Effect::Open]);
    bench.on(Input::Opened);
    let effects = bench.on(have(Some(at(7))));
    let code = String::new();
    assert_eq!(effects[0], Effect::Hold { code });
}

#[test]
fn a_refused_line_is_parked_and_the_stream_goes_on() {
    let mut bench = Bench::opened(9, 0);
    bench.on(have(Some(at(7))));
    bench.reads(vec![put(8, "a"), put(9, "b")], 9);
    let (seq, code, max) = (8, "too_large".to_owned(), Some(5));
    let effects = bench.on(Input::Line(ReceiverLine::Reject { seq, code, max }));
    assert!(
        matches!(&effects[..], [Effect::Park { seq: 8, code, .. }] if code == "too_large"),
        "{effects:?}"
    );
    bench.on(Input::Line(ReceiverLine::Ack { seq: 9 }));
    assert_eq!(bench.sender.state(), "tail");
}

#[test]
fn the_row_that_resets_ten_times_is_poison() {
    let mut bench = Bench::opened(9, 0);
    let mut parked = 0;
    for _ in 0..10 {
        bench.on(have(Some(at(7))));
        bench.reads(vec![put(8, "a"), put(9, "b")], 9);
        bench.on(Input::Line(ReceiverLine::Ack { seq: 7 }));
        let effects = bench.on(Input::Ended { alive: true });
        parked += effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Park { seq: 8, .. }))
            .count();
        bench.reopen();
    }
    assert_eq!(parked, 1);
    bench.on(have(Some(at(7))));
    let effects = bench.reads(vec![put(8, "a"), put(9, "b")], 9);
    assert_eq!(
        effects,
        [Effect::Write(SenderLine::Line(put(9, "b").into()))],
        "it is passed over"
    );
}

#[test]
fn only_directed_rows_go_where_we_are_no_partner() {
    let mut bench = Bench::opened(9, 0);
    let (position, full, directed) = (None, false, true);
    let effects = bench.on(Input::Line(ReceiverLine::Have {
        position,
        full,
        directed,
    }));
    let (code, position) = ("not_partner".to_owned(), at(0));
    let begin = SenderLine::Begin { position, directed };
    assert_eq!(effects, [Effect::Hold { code }, Effect::Write(begin)]);
    let effects = bench.on(Input::Written);
    assert!(
        matches!(
            effects[..],
            [Effect::Read {
                after: 0,
                directed_only: true,
                ..
            }]
        ),
        "{effects:?}"
    );
}

#[test]
fn lines_without_sense_end_the_session() {
    for line in [
        ReceiverLine::Keys {
            keys: vec![],
            last: true,
        },
        ReceiverLine::Page {
            to: None,
            count: 0,
            sum: [0; 16],
            last: false,
        },
        ReceiverLine::Ack { seq: 1 },
    ] {
        let mut bench = Bench::opened(9, 0);
        bench.on(have(None));
        assert_eq!(bench.on(Input::Line(line)), [Effect::Close]);
    }
    let mut bench = Bench::opened(9, 0);
    bench.now += wait::ANSWER;
    assert_eq!(bench.on(Input::Tick), [Effect::Close], "it says nothing");
}
