//! One session in which a peer sends us what it journaled: what is committed of it, and what is answered.
//!
//! Pure. Owns the order of a session's lines and what may be acknowledged. Never publishes and never judges a line: the
//! verdict of the rules comes in. Always holds: what is acknowledged was committed and published, with everything
//! before it; during a comparison we stand nowhere, so a cut begins it again.
//!
//! A session is driven so: [`Receiver::line`] for each line, [`Receiver::take`] and [`commit`] in one transaction,
//! [`Receiver::committed`] for the answers, [`Receiver::published`] whenever the publisher has come further. Sessions of one
//! origin follow each other: a new one begins when the batch in hand of the old one is committed or given up.

use super::convert::received;
use super::journal::{Journal, Result};
use super::types::{Key, Position, Received, Verdict};
use crate::wire::{Action, DeliveryLine, ReceiverLine, SenderLine};
use std::collections::VecDeque;

/// Why a line is refused for good; the stream goes on behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// One word: `not_creator`, `not_owner`, `datatype`, `too_large`, `shape`.
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
    published: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Greeting,
    Comparing,
    Following(Position),
    /// Directed lines only: known again by their ids, no place is kept.
    Directed(u64),
}

/// What is committed in one transaction, in its order.
#[derive(Debug, Default)]
pub struct Batch {
    steps: Vec<Step>,
    lines: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Step {
    Stand(Option<Position>),
    Lines {
        lines: Vec<Received>,
        position: Option<Position>,
        /// Whether each line may be acknowledged; in a comparison only its end is.
        acked: bool,
    },
    Refused {
        seq: u64,
        refusal: Refusal,
    },
    /// The place may be acknowledged with what was committed before it.
    Due(u64),
    Answer(Answer),
}

/// What is answered, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A line.
    Line(ReceiverLine),
    /// All that [`super::digest::pages`] says.
    Pages,
    /// The keys of a range: [`super::digest::keys`] until there is no next.
    Keys {
        /// Behind this one.
        after: Option<Key>,
        /// Up to this one.
        to: Option<Key>,
    },
}

/// What a commit said.
#[derive(Debug)]
pub struct Committed {
    before: u64,
    verdicts: Vec<Vec<Verdict>>,
}

impl Batch {
    /// Lines in it, refused ones too.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Bytes of their payloads.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lines and other things to do.
    #[must_use]
    pub fn size(&self) -> usize {
        self.lines + self.steps.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The lines that are to be published, and their numbers.
    pub fn todo<'a>(&'a self, committed: &'a Committed) -> impl Iterator<Item = (u64, &'a Received)> {
        let groups = self.steps.iter().filter_map(|step| match step {
            Step::Lines { lines, .. } => Some(lines),
            _ => None,
        });
        groups
            .zip(&committed.verdicts)
            .flat_map(|(lines, verdicts)| lines.iter().zip(verdicts))
            .filter_map(|(line, verdict)| match verdict {
                Verdict::Todo(n) => Some((*n, line)),
                _ => None,
            })
    }
}

/// Commits a batch of `origin`; `at` in milliseconds since 1970. To be called in one transaction.
///
/// # Errors
/// The journal cannot be written; nothing of the batch may stay then.
pub fn commit(journal: &mut dyn Journal, origin: &str, batch: &Batch, at: u64) -> Result<Committed> {
    let before = journal.last_todo()?;
    let mut verdicts = Vec::new();
    for step in &batch.steps {
        match step {
            Step::Stand(position) => journal.set_origin(origin, *position)?,
            Step::Lines { lines, position, .. } => verdicts.push(journal.receive(origin, lines, *position, at)?),
            Step::Refused { .. } | Step::Due(_) | Step::Answer(_) => {}
        }
    }
    Ok(Committed { before, verdicts })
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
            published,
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
                            Verdict::Todo(n) => newest = newest.max(n),
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
        answers.extend(self.ack());
        answers
    }

    fn due(&mut self, n: u64, seq: u64) {
        match self.due.back_mut() {
            Some((last, place)) if *last >= n => *place = (*place).max(seq),
            _ => self.due.push_back((n, seq)),
        }
    }

    /// Everything up to `n` is published, and known to be so after a power cut: what may be acknowledged now.
    pub fn published(&mut self, n: u64) -> Option<Answer> {
        self.published = self.published.max(n);
        self.ack()
    }

    fn ack(&mut self) -> Option<Answer> {
        let mut highest = None;
        while let Some((_, seq)) = self.due.front().filter(|(n, _)| *n <= self.published) {
            highest = Some(*seq);
            self.due.pop_front();
        }
        highest.map(|seq| Answer::Line(ReceiverLine::Ack { seq }))
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
