//! The comparison with what the partner holds, from its summaries to the place that ends it.
//!
//! Puts are sent as they are found, deletes at the end: their number may be more than the partner is asked to believe.

use super::{Effect, Sender, State, Tail, WINDOW_BYTES, WINDOW_ROWS};
use crate::delivery::digest::Difference;
use crate::delivery::types::{Hash, Held, Key, Row};
use crate::wire::{DeliveryKey, SenderLine};
use std::collections::VecDeque;

/// Summaries that a partner may have: 16 million keys.
const PAGES_MAX: usize = 65_536;
/// Keys of one range that are taken; a range has 256 and its writer no reason for more.
const RANGE_KEYS_MAX: usize = 4_096;
/// Deletes that need no word of an operator; a tenth of the partner's list is allowed too.
const DELETES_FREE: u64 = 100;
/// More than this needs the word however long the list is, and bounds what is kept in memory.
const DELETES_MAX: u64 = 10_000;
/// How long until a comparison that waits for an operator is made again, in milliseconds.
const HELD_FOR: u64 = 600_000;
/// Lines of a comparison that a reject is looked for in.
const SENT_MAX: usize = 4_096;

/// A comparison.
#[derive(Debug)]
pub(super) struct Merge {
    step: Step,
    /// The head when the first range was compared; the place that the end states.
    s0: u64,
    pages: VecDeque<Page>,
    /// Keys that the partner holds.
    total: u64,
    /// Where the current range begins.
    after: Option<Key>,
    held: Vec<Held>,
    deletes: Vec<Difference>,
    delete_count: u64,
    sent: VecDeque<(u64, Key)>,
    directed_after: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Summaries are coming, since this time.
    Pages(u64),
    /// The next range is to be summed.
    Sum,
    /// Its keys are to be asked for.
    Ask,
    /// Its keys are coming, since this time.
    Keys(u64),
    /// It is to be compared.
    Compare,
    /// All ranges are compared: rows for this peer alone.
    Directed,
    /// Deletes.
    Deletes,
}

#[derive(Debug)]
struct Page {
    to: Option<Key>,
    count: u64,
    sum: Hash,
}

impl Merge {
    pub(super) fn new(now: u64) -> Self {
        Self {
            step: Step::Pages(now),
            s0: 0,
            pages: VecDeque::new(),
            total: 0,
            after: None,
            held: Vec::new(),
            deletes: Vec::new(),
            delete_count: 0,
            sent: VecDeque::new(),
            directed_after: 0,
        }
    }

    /// Since when the partner's lines are waited for.
    pub(super) fn waits_since(&self) -> Option<u64> {
        match self.step {
            Step::Pages(since) | Step::Keys(since) => Some(since),
            _ => None,
        }
    }

    /// The first line of this comparison that was not refused: what the partner had, it would not be a difference.
    pub(super) fn first(&self) -> Option<(u64, Key)> {
        self.sent.front().cloned()
    }

    pub(super) fn rejected(&mut self, seq: u64) -> Option<Key> {
        let at = self.sent.iter().position(|(sent, _)| *sent == seq && seq > 0)?;
        self.sent.remove(at).map(|(_, key)| key)
    }

    fn noted(&mut self, seq: u64, key: Key) {
        // The first one stays: it is the one that counts when the stream is reset.
        if self.sent.len() >= SENT_MAX {
            self.sent.remove(1);
        }
        self.sent.push_back((seq, key));
    }

    fn next_range(&mut self) {
        if let Some(page) = self.pages.pop_front() {
            self.after = page.to;
        }
        self.held.clear();
        self.step = if self.pages.is_empty() {
            Step::Directed
        } else {
            Step::Sum
        };
    }
}

impl Sender {
    /// A summary; false when it does not fit those before.
    pub(super) fn page(&mut self, now: u64, to: Option<DeliveryKey>, count: u64, sum: [u8; 16], last: bool) -> bool {
        let State::Merge(merge) = &mut self.state else {
            return false;
        };
        let to: Option<Key> = to.map(Into::into);
        let before = merge.pages.back().and_then(|page| page.to.as_ref());
        let follows = match (&to, before) {
            (None, _) => last,
            (Some(to), Some(before)) => to > before && !last,
            (Some(_), None) => !last,
        };
        if !matches!(merge.step, Step::Pages(_)) || !follows || merge.pages.len() >= PAGES_MAX {
            return false;
        }
        merge.total = merge.total.saturating_add(count);
        merge.pages.push_back(Page {
            to,
            count,
            sum: Hash(sum),
        });
        merge.step = Step::Pages(now);
        if last {
            (merge.step, merge.s0) = (Step::Sum, self.head);
        }
        true
    }

    /// Keys of the range asked for; false when they do not fit.
    pub(super) fn keys(&mut self, now: u64, keys: Vec<(DeliveryKey, [u8; 16])>, last: bool) -> bool {
        let State::Merge(merge) = &mut self.state else {
            return false;
        };
        if !matches!(merge.step, Step::Keys(_)) || merge.held.len() + keys.len() > RANGE_KEYS_MAX {
            return false;
        }
        let to = merge.pages.front().and_then(|page| page.to.clone());
        for held in keys.into_iter().map(Held::from) {
            let before = merge.held.last().map(|last| &last.key).or(merge.after.as_ref());
            if before.is_some_and(|before| *before >= held.key) || to.as_ref().is_some_and(|to| held.key > *to) {
                return false;
            }
            merge.held.push(held);
        }
        merge.step = if last { Step::Compare } else { Step::Keys(now) };
        true
    }

    pub(super) fn pump_merge(&mut self, now: u64, out: &mut Vec<Effect>) {
        let allowed = self.allow_deletes;
        let State::Merge(merge) = &mut self.state else { return };
        let after = merge.after.clone();
        let to = merge.pages.front().and_then(|page| page.to.clone());
        match merge.step {
            Step::Pages(_) | Step::Keys(_) => {}
            // Nothing is held there: no need to ask for that.
            Step::Sum if merge.pages.front().is_some_and(|page| page.count == 0) => {
                merge.step = Step::Compare;
                self.pump_merge(now, out);
            }
            Step::Sum => {
                let ticket = self.ticket();
                out.push(Effect::Sum { ticket, after, to });
            }
            Step::Ask => {
                merge.step = Step::Keys(now);
                let (after, to) = (after.map(Into::into), to.map(Into::into));
                self.write(SenderLine::ListKeys { after, to }, out);
            }
            Step::Compare => {
                let held = merge.held.clone();
                let ticket = self.ticket();
                out.push(Effect::Compare {
                    ticket,
                    after,
                    to,
                    held,
                });
            }
            Step::Deletes => {
                if merge.delete_count > deletes_free(merge.total) && !allowed {
                    return self.hold_back(now, HELD_FOR, "many_deletes", out);
                }
                let deletes = std::mem::take(&mut merge.deletes);
                if deletes.is_empty() {
                    return self.end_merge(out);
                }
                for difference in deletes {
                    self.write_difference(difference, out);
                }
                if !self.writing {
                    self.pump_merge(now, out);
                }
            }
            Step::Directed => {
                let after = merge.directed_after;
                if after >= merge.s0 {
                    // Last: when they have to wait for an operator, nothing else does.
                    merge.step = Step::Deletes;
                    return self.pump_merge(now, out);
                }
                let ticket = self.ticket();
                out.push(Effect::Read {
                    ticket,
                    after,
                    directed_only: true,
                    max_rows: WINDOW_ROWS,
                    max_bytes: WINDOW_BYTES,
                });
            }
        }
    }

    pub(super) fn summed(&mut self, count: u64, sum: Hash) {
        let State::Merge(merge) = &mut self.state else { return };
        if merge.step != Step::Sum {
            return;
        }
        let same = merge
            .pages
            .front()
            .is_some_and(|page| page.count == count && page.sum == sum);
        if same {
            merge.next_range();
        } else {
            merge.step = Step::Ask;
        }
    }

    pub(super) fn range_compared(&mut self, lines: Vec<Difference>, upto: Option<Key>, out: &mut Vec<Effect>) {
        let allowed = self.allow_deletes;
        for difference in lines {
            let State::Merge(merge) = &mut self.state else { return };
            if difference.is_delete() && !allowed {
                merge.delete_count += 1;
                if merge.delete_count <= deletes_free(merge.total) {
                    merge.deletes.push(difference);
                }
            } else {
                self.write_difference(difference, out);
            }
        }
        let State::Merge(merge) = &mut self.state else { return };
        match upto {
            None => merge.next_range(),
            Some(upto) => {
                merge.held.retain(|held| held.key > upto);
                merge.after = Some(upto);
            }
        }
    }

    fn write_difference(&mut self, difference: Difference, out: &mut Vec<Effect>) {
        let (seq, key) = match &difference {
            Difference::Row(row) => (row.seq, row.change.key.clone()),
            Difference::Gone(key) => (0, key.clone()),
        };
        if self.is_poison(&key, seq) {
            return;
        }
        if let State::Merge(merge) = &mut self.state {
            merge.noted(seq, key);
        }
        self.write(SenderLine::Line(difference.line()), out);
    }

    pub(super) fn merge_rows(&mut self, rows: Vec<Row>, upto: u64, out: &mut Vec<Effect>) {
        let State::Merge(merge) = &mut self.state else { return };
        let s0 = merge.s0;
        merge.directed_after = merge.directed_after.max(upto);
        for row in rows.into_iter().filter(|row| row.seq <= s0) {
            self.write_difference(Difference::Row(row), out);
        }
    }

    fn end_merge(&mut self, out: &mut Vec<Effect>) {
        let State::Merge(merge) = &mut self.state else { return };
        let (s0, lines) = (merge.s0, std::mem::take(&mut merge.sent));
        (self.allow_deletes, self.compare) = (false, false);
        self.set_hold("", out);
        self.state = State::Tail(Tail::after_comparison(s0, lines));
        let end = SenderLine::End(self.place(s0));
        self.write(end, out);
    }
}

fn deletes_free(total: u64) -> u64 {
    DELETES_FREE.max(total / 10).min(DELETES_MAX)
}
