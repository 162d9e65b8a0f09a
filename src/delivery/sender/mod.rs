//! The courier of one destination: what is opened, written, asked of the journal and noted, and when.
//!
//! Pure: no I/O, no clock, no dice; time and jitter come in. Owns the states and their order. Never decides who is a
//! partner. Always holds: a session goes on only from a place the partner stated and this history led to; nothing leaves
//! the journal before it was acknowledged; a refusal to take anything now parks nothing.
//!
//! `ask` answers the questions to the journal; `words` are the inputs and effects; `wait` the times of trying, `merge` the comparison, `tail` the rows behind a place,
//! `old` the partners that know only the `/1.0` protocols.

pub mod ask;
mod merge;
mod old;
mod tail;
mod wait;
mod words;

pub use words::{Effect, Input};

use super::position::{Place, judge};
use super::types::{Feed, Key, Position};
use crate::wire::{DeliveryPosition, ReceiverLine, SenderLine};
use merge::Merge;
use old::Old;
use std::collections::BTreeMap;
use std::sync::Arc;
use tail::Tail;

/// Rows on their way and not acknowledged.
pub const WINDOW_ROWS: usize = 4096;
/// Bytes of them.
pub const WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// Resets by the same row, the connection being alive, until the row is parked.
const POISON_AFTER: u32 = 10;
/// Poisonous rows remembered; beyond it the oldest keys are tried again.
const POISON_MAX: usize = 1_000;

/// One courier; see the module's first lines.
#[derive(Debug)]
pub struct Sender {
    did: String,
    feed: Arc<Feed>,
    head: u64,
    floor: u64,
    partner: bool,
    directed: bool,
    intake_ready: bool,
    state: State,
    /// Failed tries in a row.
    tries: u32,
    last_try: Option<u64>,
    /// Whether the partner itself said when to come back.
    told_to_wait: bool,
    acked: u64,
    hold: String,
    legacy: bool,
    allow_deletes: bool,
    /// The next session compares everything, whatever place the partner states.
    compare: bool,
    /// Why this session does not simply go on where the last one ended, in words; empty when it does.
    because: &'static str,
    /// Given so much to the stream that it has not taken yet.
    writing: bool,
    /// The question to the journal that is open, and the newest number given.
    asked: Option<u64>,
    tickets: u64,
    suspect: Option<(u64, Key, u32)>,
    poison: BTreeMap<Key, u64>,
}

#[derive(Debug)]
enum State {
    Off,
    Wait { due: u64 },
    Greet { opened: bool, until: u64 },
    Merge(Box<Merge>),
    Tail(Tail),
    Old(Old),
}

impl Sender {
    /// The courier of `did`. `feed`: our own, in this life; `acked`: noted of it before.
    #[must_use]
    pub fn new(did: &str, feed: Arc<Feed>, acked: u64) -> Self {
        Self {
            did: did.to_owned(),
            head: feed.head,
            floor: feed.floor,
            feed,
            partner: false,
            directed: false,
            intake_ready: false,
            state: State::Off,
            tries: 0,
            last_try: None,
            told_to_wait: false,
            acked,
            hold: String::new(),
            legacy: false,
            allow_deletes: false,
            compare: false,
            because: "",
            writing: false,
            asked: None,
            tickets: 0,
            suspect: None,
            poison: BTreeMap::new(),
        }
    }

    /// The destination's DID.
    #[must_use]
    pub fn did(&self) -> &str {
        &self.did
    }

    /// Why this session does not simply go on where the last one ended, for people; empty when it does.
    #[must_use]
    pub fn set_back_because(&self) -> &'static str {
        self.because
    }

    /// Its state, in one word, for people.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.state {
            State::Off => "off",
            State::Wait { .. } => "wait",
            State::Greet { .. } => "greet",
            State::Merge(_) => "digest",
            State::Tail(_) => "tail",
            State::Old(_) => "legacy",
        }
    }

    /// When the next [`Input::Tick`] is due, in the clock of `on`; none while only something else can go on. It follows from the
    /// state alone and is asked for after every input, so that no wait can lose its end.
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        match &self.state {
            State::Wait { due } => self.intake_ready.then_some(*due),
            State::Greet { until, .. } => Some(*until),
            State::Merge(merge) => merge.waits_since().map(|since| since.saturating_add(wait::ANSWER)),
            State::Old(old) => old.due(),
            State::Off | State::Tail(_) => None,
        }
    }

    /// Something happened at `now` (milliseconds of a clock that never goes back); `jitter` is a die of 0 to 1.
    pub fn on(&mut self, now: u64, jitter: f64, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        match input {
            Input::Rights { partner, directed } => self.rights(now, jitter, partner, directed, &mut out),
            Input::Tick => self.tick(now, jitter, &mut out),
            Input::Nudge { asked } => self.nudge(now, asked, &mut out),
            Input::IntakeReady(ready) => {
                self.intake_ready = ready;
                self.open_if_due(now, &mut out);
            }
            Input::Opened => {
                if let State::Greet { opened, .. } = &mut self.state {
                    *opened = true;
                    self.note_legacy(false, &mut out);
                }
            }
            Input::NotOpened { unsupported } => self.not_opened(now, jitter, unsupported, &mut out),
            Input::Line(line) => self.line(now, jitter, line, &mut out),
            Input::Head { head, floor } => {
                (self.head, self.floor) = (head, floor);
                self.pump(now, &mut out);
            }
            Input::Written => {
                self.writing = false;
                self.pump(now, &mut out);
            }
            Input::Ended { alive } => self.ended(now, jitter, alive, &mut out),
            Input::AllowDeletes => {
                (self.allow_deletes, self.compare) = (true, true);
                self.begin_anew(now, &mut out);
            }
            Input::Move => {
                if self.in_session() {
                    self.restart(now, &mut out);
                }
            }
            Input::Compare => {
                self.compare = true;
                self.begin_anew(now, &mut out);
            }
            Input::LegacySent { seq, taken } => self.legacy_sent(now, jitter, seq, taken, &mut out),
            Input::Failed { ticket } => {
                if self.answers(ticket) {
                    self.give_up(now, jitter, &mut out);
                }
            }
            Input::Rows {
                ticket,
                rows,
                upto,
                floor,
            } => {
                if self.answers(ticket) {
                    self.rows(now, rows, upto, floor, &mut out);
                }
            }
            Input::Summed { ticket, count, sum } => {
                if self.answers(ticket) {
                    self.summed(count, sum);
                    self.pump(now, &mut out);
                }
            }
            Input::RangeCompared { ticket, lines, upto } => {
                if self.answers(ticket) {
                    self.range_compared(lines, upto, &mut out);
                    self.pump(now, &mut out);
                }
            }
        }
        out
    }

    fn answers(&mut self, ticket: u64) -> bool {
        self.asked.take_if(|asked| *asked == ticket).is_some()
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.asked = Some(self.tickets);
        self.tickets
    }

    fn write(&mut self, line: SenderLine, out: &mut Vec<Effect>) {
        self.writing = true;
        out.push(Effect::Write(line));
    }

    fn place(&self, seq: u64) -> DeliveryPosition {
        let life = self.feed.incarnations.last().map(|life| life.id).unwrap_or_default();
        let lineage = self.feed.lineage;
        Position {
            lineage,
            incarnation: life,
            seq,
        }
        .into()
    }

    /// Does the next step of a session, when nothing is open.
    fn pump(&mut self, now: u64, out: &mut Vec<Effect>) {
        if self.asked.is_some() {
            return;
        }
        match &self.state {
            State::Tail(_) => self.pump_tail(now, out),
            State::Merge(_) if !self.writing => self.pump_merge(now, out),
            State::Old(_) => self.pump_old(now, out),
            _ => {}
        }
    }

    fn line(&mut self, now: u64, jitter: f64, line: ReceiverLine, out: &mut Vec<Effect>) {
        let fits = match line {
            ReceiverLine::Stop { code, retry_after } if self.in_session() => {
                self.stopped(now, &code, retry_after, out);
                true
            }
            ReceiverLine::Have {
                position,
                full,
                directed,
            } => self.have(now, position.map(Into::into), full, directed, out),
            ReceiverLine::Page { to, count, sum, last } => self.page(now, to, count, sum, last),
            ReceiverLine::Keys { keys, last } => self.keys(now, keys, last),
            ReceiverLine::Ack { seq } => self.ack(seq, out),
            ReceiverLine::Reject { seq, code, max } => self.rejected(seq, &code, max, out),
            ReceiverLine::Stop { .. } => false,
        };
        if fits {
            self.pump(now, out);
        } else if self.in_session() {
            self.give_up(now, jitter, out);
        }
    }

    fn in_session(&self) -> bool {
        matches!(
            self.state,
            State::Greet { opened: true, .. } | State::Merge(_) | State::Tail(_)
        )
    }

    fn have(
        &mut self,
        now: u64,
        position: Option<Position>,
        full: bool,
        directed: bool,
        out: &mut Vec<Effect>,
    ) -> bool {
        if !matches!(self.state, State::Greet { opened: true, .. }) {
            return false;
        }
        if directed || !self.partner {
            let code = if self.partner { "not_partner" } else { "" };
            self.set_hold(code, out);
            self.begin(Tail::new(0, true), out);
            return true;
        }
        match judge(&self.feed, self.head, self.floor, position.as_ref()) {
            Place::Tail(seq) if !full && !self.compare => {
                self.because = match seq < self.acked {
                    true => {
                        "it stands behind what it has had: its journal was restored from a backup, or it knew only /1.0 meanwhile"
                    }
                    false => "",
                };
                self.set_hold("", out);
                self.begin(Tail::new(seq, false), out);
            }
            place => {
                self.because = match place {
                    Place::Digest(lost) => lost.words(),
                    Place::Tail(_) if full => "its operator asked for it",
                    Place::Tail(_) => "our operator asked for it",
                };
                self.state = State::Merge(Box::new(Merge::new(now)));
                self.write(SenderLine::List, out);
            }
        }
        true
    }

    fn begin(&mut self, tail: Tail, out: &mut Vec<Effect>) {
        let line = SenderLine::Begin {
            position: self.place(tail.sent),
            directed: tail.directed_only,
        };
        self.state = State::Tail(tail);
        self.write(line, out);
    }

    fn set_hold(&mut self, code: &str, out: &mut Vec<Effect>) {
        if self.hold != code {
            code.clone_into(&mut self.hold);
            out.push(Effect::Hold { code: code.to_owned() });
        }
    }

    /// A session ended at this row; the same one ten times is poison.
    fn suspect(&mut self, out: &mut Vec<Effect>) {
        let first = match &self.state {
            State::Tail(tail) => tail.first(),
            State::Merge(merge) => merge.first(),
            _ => return,
        };
        let Some((seq, key)) = first else { return };
        let times = match &self.suspect {
            Some((old, same, times)) if *old == seq && *same == key => times + 1,
            _ => 1,
        };
        if times < POISON_AFTER {
            self.suspect = Some((seq, key, times));
            return;
        }
        self.suspect = None;
        if self.poison.len() >= POISON_MAX {
            self.poison.pop_first();
        }
        self.poison.insert(key.clone(), seq);
        out.push(Effect::Park {
            seq,
            key,
            code: "poison".to_owned(),
            detail: format!("the stream was reset at this row {POISON_AFTER} times"),
        });
    }

    fn is_poison(&self, key: &Key, seq: u64) -> bool {
        self.poison.get(key) == Some(&seq)
    }
}

#[cfg(test)]
mod tests;
