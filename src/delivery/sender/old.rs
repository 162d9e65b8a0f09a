//! A peer that knows only the `/1.0` protocols: each row is sent once and nothing confirms it.

use super::{Effect, Sender, State, WINDOW_BYTES, WINDOW_ROWS};
use crate::delivery::legacy::Pace;
use crate::delivery::types::Row;
use std::collections::VecDeque;

/// A stretch of time in which the peer is connected.
#[derive(Debug, Default)]
pub(super) struct Old {
    rows: VecDeque<Row>,
    /// Everything up to here is sent once the rows read are.
    read: u64,
    sending: Option<u64>,
    /// When the first row may be sent, where it may not yet.
    held_until: Option<u64>,
    pace: Pace,
}

impl Old {
    pub(super) fn due(&self) -> Option<u64> {
        self.held_until
    }
}

impl Sender {
    pub(super) fn pump_old(&mut self, now: u64, out: &mut Vec<Effect>) {
        let State::Old(old) = &mut self.state else { return };
        if old.sending.is_some() {
            return;
        }
        if let Some(row) = old.rows.front() {
            let due = old.pace.due(&row.change.key, row.change.action, now);
            old.held_until = (due > now).then_some(due);
            if due > now {
                return;
            }
            old.sending = Some(row.seq);
            old.pace.sent(&row.change.key, row.change.action, now);
            out.push(Effect::LegacySend { row: row.clone() });
            return;
        }
        let after = old.read.max(self.acked);
        if self.head <= after {
            return;
        }
        let directed_only = !self.partner;
        let ticket = self.ticket();
        out.push(Effect::Read {
            ticket,
            after,
            directed_only,
            max_rows: WINDOW_ROWS,
            max_bytes: WINDOW_BYTES,
        });
    }

    pub(super) fn old_rows(&mut self, rows: Vec<Row>, upto: u64) {
        if let State::Old(old) = &mut self.state {
            old.read = old.read.max(upto);
            old.rows = rows.into();
        }
    }

    pub(super) fn legacy_sent(&mut self, now: u64, jitter: f64, seq: u64, taken: bool, out: &mut Vec<Effect>) {
        let State::Old(old) = &mut self.state else { return };
        if old.sending.take_if(|sending| *sending == seq).is_none() {
            return;
        }
        if !taken {
            return self.give_up(now, jitter, out);
        }
        if let Some(row) = old.rows.pop_front() {
            // Of what is for it alone nothing follows about the rest: when it becomes a partner, all of that is sent.
            if self.partner {
                self.acked = seq;
                out.push(Effect::Acked { seq });
            }
            if !row.change.dest.is_empty() {
                out.push(Effect::DirectedDone { seq });
            }
        }
        self.pump(now, out);
    }
}
