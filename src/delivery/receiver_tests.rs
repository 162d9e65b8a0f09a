//! Sessions over a journal in memory.

use super::*;
use crate::delivery::journal::Journal;
use crate::delivery::memory::MemoryJournal;
use crate::delivery::types::Key;
use crate::delivery::{Hash, Token};
use crate::wire::{DataType, DeliveryPosition};
use bytes::Bytes;

fn at(seq: u64) -> DeliveryPosition {
    DeliveryPosition {
        lineage: [1; 16],
        incarnation: [2; 16],
        seq,
    }
}

fn begin(seq: u64, directed: bool) -> SenderLine {
    SenderLine::Begin {
        position: at(seq),
        directed,
    }
}

fn line(seq: u64, id: &str, action: Action, payload: &'static str) -> SenderLine {
    SenderLine::Line(DeliveryLine {
        seq,
        action: Some(action),
        datatype: DataType::DataResource,
        id: id.into(),
        user: String::new(),
        payload: Bytes::from_static(payload.as_bytes()),
    })
}

struct Bench {
    journal: MemoryJournal,
    receiver: Receiver,
}

impl Bench {
    fn new(position: Option<DeliveryPosition>, partner: bool) -> Self {
        let mut journal = MemoryJournal::new(Token::default());
        let position = position.map(Into::into);
        journal.set_origin("a", position).unwrap();
        let (receiver, _) = Receiver::new(position, partner, false, 0);
        Self { journal, receiver }
    }

    fn says(&mut self, lines: Vec<SenderLine>) -> std::result::Result<Vec<Answer>, Broken> {
        for line in lines {
            self.receiver.line(line, |line| match &line.payload[..] {
                b"bad" => Err(Refusal {
                    code: "not_creator",
                    max: None,
                }),
                _ => Ok(()),
            })?;
        }
        let batch = self.receiver.take();
        let committed = commit(&mut self.journal, "a", &batch, 5).unwrap();
        Ok(self.receiver.committed(batch, committed))
    }

    fn published(&mut self, n: u64) -> Vec<Answer> {
        self.receiver.published(n, &GivenUp::default())
    }

    fn place(&self) -> Option<u64> {
        self.journal.origin("a").unwrap().map(|at| at.seq)
    }
}

fn ack(seq: u64) -> Answer {
    Answer::Line(ReceiverLine::Ack { seq })
}

fn refused(seq: u64, code: &str) -> Answer {
    Answer::Line(ReceiverLine::Reject {
        seq,
        code: code.to_owned(),
        max: None,
    })
}

#[test]
fn what_is_acknowledged_was_published_with_all_before_it() {
    let mut bench = Bench::new(Some(at(3)), true);
    assert_eq!(
        bench.says(vec![begin(3, false)]),
        Ok(vec![ack(3)]),
        "there is nothing to publish before it"
    );
    let lines = vec![
        line(4, "r", Action::Update, "{\"n\":1}"),
        line(6, "s", Action::Update, "{}"),
        line(7, "s", Action::Update, "{}"),
        line(9, "t", Action::Delete, "{}"),
    ];
    assert_eq!(bench.says(lines), Ok(vec![]));
    assert_eq!(bench.place(), Some(9));
    assert_eq!(bench.published(1), [ack(4)]);
    assert_eq!(bench.published(1), []);
    assert_eq!(
        bench.published(2),
        [ack(9)],
        "what is held already asks for no publishing"
    );
}

#[test]
fn a_refused_line_moves_the_place_too() {
    let mut bench = Bench::new(Some(at(3)), true);
    let unknown = SenderLine::Line(DeliveryLine {
        seq: 6,
        action: None,
        datatype: DataType::DataResource,
        id: "x".into(),
        user: String::new(),
        payload: Bytes::new(),
    });
    let answers = bench.says(vec![begin(3, false), line(5, "r", Action::Update, "bad"), unknown]);
    assert_eq!(
        answers,
        Ok(vec![refused(5, "not_creator"), refused(6, "shape"), ack(6)])
    );
    assert_eq!(bench.place(), Some(6));
}

#[test]
fn a_key_of_another_is_refused() {
    let mut bench = Bench::new(Some(at(3)), true);
    let Ok(()) = bench.receiver.line(begin(3, false), |_| Ok(())) else {
        panic!()
    };
    let other = received(
        match line(1, "r", Action::Update, "{}") {
            SenderLine::Line(line) => line,
            _ => unreachable!(),
        },
        Action::Update,
    );
    bench.journal.receive("c", &[other], None, 0).unwrap();
    let answers = bench.says(vec![line(4, "r", Action::Update, "{}")]).unwrap();
    assert_eq!(
        answers,
        [refused(4, "not_owner")],
        "the ack waits for what was to be published before"
    );
    assert_eq!(bench.published(1), [ack(4)]);
}

/// Refused as `not_storable`, each of these: its number and its document's id and text.
fn given_up(rows: &[(u64, &str, &str)]) -> GivenUp {
    let (code, max) = ("not_storable", None);
    let unkept = |(n, id, text): &(u64, &str, &str)| Unkept {
        n: *n,
        key: key(id),
        hash: Hash::of(text.as_bytes()),
        refusal: Refusal { code, max },
    };
    Arc::new(rows.iter().map(unkept).collect())
}

fn key(id: &str) -> Key {
    Key {
        datatype: DataType::DataResource,
        id: id.into(),
    }
}

#[test]
fn what_is_given_up_is_refused_before_it_is_acknowledged() {
    let mut bench = Bench::new(Some(at(3)), true);
    bench.says(vec![begin(3, false)]).unwrap();
    let lines = vec![
        line(4, "r", Action::Update, "{}"),
        line(6, "s", Action::Update, "{}"),
        line(7, "s", Action::Update, "{}"),
        line(9, "t", Action::Update, "{}"),
    ];
    bench.says(lines).unwrap();
    let list = given_up(&[(2, "s", "{}"), (3, "t", "{}")]);
    let answers = bench.receiver.published(2, &list);
    assert_eq!(
        answers,
        [refused(6, "not_storable"), refused(7, "not_storable"), ack(7)],
        "the newest line of it counts for its sender"
    );
    assert_eq!(bench.receiver.published(2, &list), []);
    let answers = bench.receiver.published(3, &list);
    assert_eq!(answers, [refused(9, "not_storable"), ack(9)]);
    // Published before the session has heard of its commit.
    assert_eq!(
        bench
            .receiver
            .published(4, &given_up(&[(2, "s", "{}"), (3, "t", "{}"), (4, "u", "{}")])),
        []
    );
    let late = bench.says(vec![line(10, "u", Action::Update, "{}")]);
    assert_eq!(late, Ok(vec![refused(10, "not_storable"), ack(10)]));
}

#[test]
fn what_a_comparison_brought_may_be_given_up_too() {
    let mut bench = Bench::new(Some(at(3)), true);
    let lines = vec![
        SenderLine::List,
        line(9, "r", Action::Update, "{}"),
        line(2, "s", Action::Update, "{}"),
        SenderLine::End(at(9)),
    ];
    assert_eq!(bench.says(lines), Ok(vec![Answer::Pages]));
    bench.journal.give_up("a", &key("s"), Hash::of(b"{}")).unwrap();
    let answers = bench.receiver.published(2, &given_up(&[(2, "s", "{}")]));
    assert_eq!(answers, [refused(2, "not_storable"), ack(9)]);
    assert_eq!(
        bench.says(vec![line(10, "s", Action::Update, "{}")]),
        Ok(vec![]),
        "it is tried again"
    );
}

#[test]
fn a_comparison_stands_nowhere_until_its_end() {
    let mut bench = Bench::new(Some(at(3)), true);
    assert_eq!(bench.says(vec![SenderLine::List]), Ok(vec![Answer::Pages]));
    assert_eq!(bench.place(), None);
    let (after, to) = (None, None);
    let ask = SenderLine::ListKeys { after, to };
    let (after, to) = (None, None);
    assert_eq!(bench.says(vec![ask]), Ok(vec![Answer::Keys { after, to }]));
    let lines = vec![line(9, "r", Action::Update, "{}"), line(2, "s", Action::Update, "{}")];
    assert_eq!(bench.says(lines), Ok(vec![]));
    assert_eq!(
        (bench.place(), bench.published(1)),
        (None, vec![]),
        "only its end is acknowledged"
    );
    assert_eq!(bench.says(vec![SenderLine::End(at(9))]), Ok(vec![]));
    assert_eq!((bench.place(), bench.published(2)), (Some(9), vec![ack(9)]));
}

#[test]
fn a_comparison_that_was_asked_for_is_done_only_where_it_was_asked_for() {
    for asked in [false, true] {
        let (mut receiver, _) = Receiver::new(Some(at(3).into()), true, asked, 0);
        let mut done = |line| {
            receiver.line(line, |_| Ok(())).unwrap();
            let batch = receiver.take();
            receiver.has_compared(&batch)
        };
        assert!(!done(SenderLine::List), "it has only begun");
        assert_eq!(done(SenderLine::End(at(9))), asked);
    }
}

#[test]
fn who_is_only_known_brings_only_what_is_directed() {
    let mut bench = Bench::new(Some(at(3)), false);
    let lines = vec![
        begin(0, true),
        line(2, "m1", Action::Considers, "{}"),
        line(4, "r", Action::Update, "{}"),
        line(5, "m1", Action::Considers, "{}"),
    ];
    assert_eq!(bench.says(lines), Ok(vec![refused(4, "not_partner")]));
    assert_eq!(
        (bench.place(), bench.published(1)),
        (Some(3), vec![ack(5)]),
        "the place stays what it was"
    );
    assert_eq!(bench.journal.todo(0, 9).unwrap().len(), 1);
}

#[test]
fn a_broken_order_ends_the_session() {
    for (partner, lines, word) in [
        (true, vec![line(4, "r", Action::Update, "{}")], "order"),
        (true, vec![begin(4, false)], "place"),
        (true, vec![begin(3, false), begin(3, false)], "order"),
        (true, vec![begin(3, false), line(3, "r", Action::Update, "{}")], "order"),
        (true, vec![begin(3, false), SenderLine::List], "order"),
        (true, vec![SenderLine::End(at(9))], "order"),
        (false, vec![SenderLine::List], "order"),
        (false, vec![begin(3, false)], "place"),
    ] {
        assert_eq!(
            Bench::new(Some(at(3)), partner).says(lines.clone()),
            Err(Broken(word)),
            "{lines:?}"
        );
    }
}
