//! One session in which a peer sends us what it journaled: what is committed of it, and what is answered.
//!
//! Pure. Owns the order of a session's lines and what may be acknowledged. Never publishes and never judges a line: the
//! verdict of the rules comes in. Always holds: what is acknowledged was committed and published, with everything
//! before it; during a comparison we stand nowhere, so a cut begins it again.
//!
//! A session is driven so: [`Receiver::line`] for each line, [`Receiver::take`] and [`commit`] in one transaction,
//! [`Receiver::committed`] for the answers, [`Receiver::published`] whenever the publisher has come further. Sessions of one
//! origin follow each other: a new one begins when the batch in hand of the old one is committed or given up.

mod batch;

pub use batch::{Answer, Batch, Committed, commit};

use self::batch::Step;
use super::convert::received;
use super::types::{Hash, Key, Position, Received, Verdict};
use crate::wire::{Action, DeliveryLine, ReceiverLine, SenderLine};
use std::collections::VecDeque;
use std::sync::Arc;

/// Why a line is refused for good; the stream goes on behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// One word: `not_creator`, `not_owner`, `datatype`, `too_large`, `shape`, `not_storable`.
    pub code: &'static str,
    /// The limit it broke, in bytes.
    pub max: Option<u64>,
}

/// A session whose lines have no sense any more; it is reset. The word is a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sender broke the order of a session: {0}")]
pub struct Broken(pub &'static str);

/// One session; see the module's first lines.
#[derive(Debug)]
pub struct Receiver {
    have: Option<Position>,
    partner: bool,
    /// A comparison of everything was asked for.
    full: bool,
    mode: Mode,
    batch: Batch,
    /// Places that may be acknowledged once everything up to the number is published.
    due: VecDeque<(u64, u64)>,
    /// Lines that are to be published: their numbers and places.
    todo: VecDeque<(u64, u64)>,
    again: VecDeque<Again>,
    published: u64,
    given_up: GivenUp,
}

/// What was committed and refused for good when it was to be published, the newest of it, in the order of its numbers.
pub type GivenUp = Arc<VecDeque<Unkept>>;

/// One of them.
#[derive(Debug, Clone)]
pub struct Unkept {
    /// Its number.
    pub n: u64,
    /// What it was of.
    pub key: Key,
    /// Of its payload.
    pub hash: Hash,
    /// What its sender is told.
    pub refusal: Refusal,
}

/// A line that brought nothing new while something was still to be published: perhaps just that.
#[derive(Debug)]
struct Again {
    /// The newest number then.
    upto: u64,
    seq: u64,
    key: Key,
    hash: Hash,
}

/// Such lines kept, the newest; of what is not, its sender's people hear by the first line of it alone.
const AGAIN: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Greeting,
    Comparing,
    Following(Position),
    /// Directed lines only: known again by their ids, no place is kept.
    Directed(u64),
}

impl Receiver {
    /// A session begins: the line that is written first. `position`: where we stand in the origin's feed; `partner`: whether
    /// it is one, or only known and heard for what is directed; `full`: everything is to be compared; `published`:
    /// everything up to this number is.
    #[must_use]
    pub fn new(position: Option<Position>, partner: bool, full: bool, published: u64) -> (Self, ReceiverLine) {
        let have = position.filter(|_| partner);
        let line = ReceiverLine::Have {
            position: have.map(Into::into),
            full: full && partner,
            directed: !partner,
        };
        let receiver = Self {
            have,
            partner,
            full,
            mode: Mode::Greeting,
            batch: Batch::default(),
            due: VecDeque::new(),
            todo: VecDeque::new(),
            again: VecDeque::new(),
            published,
            given_up: GivenUp::default(),
        };
        (receiver, line)
    }

    /// The next line of the sender. `check` are the rules for a line of it.
    ///
    /// # Errors
    /// The line has no sense here. What came before it is in the batch and counts.
    pub fn line(
        &mut self,
        line: SenderLine,
        check: impl FnOnce(&DeliveryLine) -> std::result::Result<(), Refusal>,
    ) -> std::result::Result<(), Broken> {
        match (line, self.mode) {
            (SenderLine::Begin { position, directed }, Mode::Greeting) => self.begin(position.into(), directed),
            (SenderLine::List, Mode::Greeting) if self.partner => {
                self.mode = Mode::Comparing;
                self.push(Step::Stand(None));
                self.push(Step::Answer(Answer::Pages));
                Ok(())
            }
            (SenderLine::ListKeys { after, to }, Mode::Comparing) => {
                let (after, to) = (after.map(Into::into), to.map(Into::into));
                self.push(Step::Answer(Answer::Keys { after, to }));
                Ok(())
            }
            (SenderLine::End(position), Mode::Comparing) => {
                let position = position.into();
                self.mode = Mode::Following(position);
                self.push(Step::Stand(Some(position)));
                self.push(Step::Due(position.seq));
                Ok(())
            }
            (SenderLine::Line(line), _) => self.change(line, check),
            _ => Err(Broken("order")),
        }
    }

    fn begin(&mut self, position: Position, directed: bool) -> std::result::Result<(), Broken> {
        if directed {
            self.mode = Mode::Directed(0);
            return Ok(());
        }
        if self.have.is_none_or(|have| have.seq != position.seq) {
            return Err(Broken("place"));
        }
        self.mode = Mode::Following(position);
        // The place is stated anew by its acknowledgement: the sender may have missed the last one.
        self.push(Step::Stand(Some(position)));
        self.push(Step::Due(position.seq));
        Ok(())
    }

    fn change(
        &mut self,
        line: DeliveryLine,
        check: impl FnOnce(&DeliveryLine) -> std::result::Result<(), Refusal>,
    ) -> std::result::Result<(), Broken> {
        let seq = line.seq;
        let (position, acked) = match &mut self.mode {
            Mode::Greeting => return Err(Broken("order")),
            Mode::Comparing => (None, false),
            Mode::Following(at) if seq > at.seq => {
                at.seq = seq;
                (Some(*at), true)
            }
            Mode::Directed(last) if seq > *last => {
                *last = seq;
                (None, true)
            }
            Mode::Following(_) | Mode::Directed(_) => return Err(Broken("order")),
        };
        self.batch.lines += 1;
        self.batch.bytes += line.payload.len();
        let only_directed = matches!(self.mode, Mode::Directed(_));
        let verdict = match line.action {
            None => Err(Refusal {
                code: "shape",
                max: None,
            }),
            Some(action) if only_directed && action != Action::Considers => Err(Refusal {
                code: "not_partner",
                max: None,
            }),
            Some(action) => check(&line).map(|()| action),
        };
        let received = match verdict {
            Ok(action) => Some(received(line, action)),
            Err(refusal) => {
                self.push(Step::Refused { seq, refusal });
                None
            }
        };
        self.add(received, position, acked);
        if acked && verdict.is_err() {
            self.push(Step::Due(seq));
        }
        Ok(())
    }

    fn add(&mut self, received: Option<Received>, place: Option<Position>, may_ack: bool) {
        if let Some(Step::Lines { lines, position, acked }) = self.batch.steps.last_mut()
            && *acked == may_ack
        {
            lines.extend(received);
            *position = place;
            return;
        }
        if received.is_some() || place.is_some() {
            self.push(Step::Lines {
                lines: received.into_iter().collect(),
                position: place,
                acked: may_ack,
            });
        }
    }

    fn push(&mut self, step: Step) {
        self.batch.steps.push(step);
    }

    /// Whether a comparison that was asked for at the greeting ends in this batch.
    #[must_use]
    pub fn has_compared(&self, batch: &Batch) -> bool {
        self.full && batch.steps.iter().any(|step| matches!(step, Step::Stand(Some(_))))
    }

    /// What has gathered, without taking it.
    #[must_use]
    pub fn pending(&self) -> &Batch {
        &self.batch
    }

    /// What has gathered, to be committed.
    pub fn take(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }

    /// The batch is committed: what is answered now.
    pub fn committed(&mut self, batch: Batch, committed: Committed) -> Vec<Answer> {
        let Committed { before, verdicts } = committed;
        let (mut answers, mut newest, mut verdicts) = (Vec::new(), before, verdicts.into_iter());
        for step in batch.steps {
            match step {
                Step::Stand(_) => {}
                Step::Due(seq) => self.due(newest, seq),
                Step::Answer(answer) => answers.push(answer),
                Step::Refused { seq, refusal } => answers.push(reject(seq, refusal)),
                Step::Lines { lines, acked, .. } => {
                    let verdicts = verdicts.next().unwrap_or_default();
                    for (line, verdict) in lines.iter().zip(verdicts) {
                        match verdict {
                            Verdict::Todo(n) => {
                                newest = newest.max(n);
                                self.todo.push_back((n, line.seq));
                            }
                            Verdict::Known if !self.todo.is_empty() => self.again(newest, line),
                            Verdict::Known | Verdict::NotHeld => {}
                            Verdict::NotOwner => {
                                let refusal = Refusal {
                                    code: "not_owner",
                                    max: None,
                                };
                                answers.push(reject(line.seq, refusal));
                            }
                        }
                        if acked {
                            self.due(newest, line.seq);
                        }
                    }
                }
            }
        }
        self.settle(&mut answers);
        answers
    }

    fn again(&mut self, upto: u64, line: &Received) {
        if self.again.len() == AGAIN {
            self.again.pop_front();
        }
        self.again.push_back(Again {
            upto,
            seq: line.seq,
            key: line.key.clone(),
            hash: line.hash,
        });
    }

    fn due(&mut self, n: u64, seq: u64) {
        match self.due.back_mut() {
            Some((last, place)) if *last >= n => *place = (*place).max(seq),
            _ => self.due.push_back((n, seq)),
        }
    }

    /// Everything up to `n` is published, or `given_up`, and known to be so after a power cut: what is answered now.
    pub fn published(&mut self, n: u64, given_up: &GivenUp) -> Vec<Answer> {
        self.published = self.published.max(n);
        self.given_up = Arc::clone(given_up);
        let mut answers = Vec::new();
        self.settle(&mut answers);
        answers
    }

    /// A line is refused before its place is acknowledged: behind that its sender has no more to do with it.
    fn settle(&mut self, answers: &mut Vec<Answer>) {
        while let Some((n, seq)) = self.todo.front().copied().filter(|(n, _)| *n <= self.published) {
            self.todo.pop_front();
            if let Ok(at) = self.given_up.binary_search_by_key(&n, |unkept| unkept.n)
                && let Some(unkept) = self.given_up.get(at)
            {
                let is_it = |again: &&Again| again.upto >= n && (&again.key, again.hash) == (&unkept.key, unkept.hash);
                let lines = std::iter::once(seq).chain(self.again.iter().filter(is_it).map(|again| again.seq));
                answers.extend(lines.map(|seq| reject(seq, unkept.refusal)));
            }
        }
        while self.again.front().is_some_and(|again| again.upto <= self.published) {
            self.again.pop_front();
        }
        let mut highest = None;
        while let Some((_, seq)) = self.due.front().copied().filter(|(n, _)| *n <= self.published) {
            self.due.pop_front();
            highest = Some(seq);
        }
        answers.extend(highest.map(|seq| Answer::Line(ReceiverLine::Ack { seq })));
    }
}

fn reject(seq: u64, refusal: Refusal) -> Answer {
    Answer::Line(ReceiverLine::Reject {
        seq,
        code: refusal.code.to_owned(),
        max: refusal.max,
    })
}

#[cfg(test)]
#[path = "receiver_tests.rs"]
mod tests;
