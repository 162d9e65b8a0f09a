//! The rows behind a place: read, written, acknowledged.

use super::{Effect, Sender, State, WINDOW_BYTES, WINDOW_ROWS};
use crate::delivery::types::{Key, Row};
use crate::wire::SenderLine;
use std::collections::VecDeque;

/// A session that follows the feed.
#[derive(Debug)]
pub(super) struct Tail {
    /// Everything up to here was written, or is not for this peer.
    pub(super) sent: u64,
    pub(super) directed_only: bool,
    unacked: VecDeque<Unacked>,
    bytes: usize,
    /// Lines of the comparison that this session began with, until its place is acknowledged: a reject of one may come after
    /// its end was written.
    compared: VecDeque<(u64, Key)>,
}

#[derive(Debug)]
struct Unacked {
    seq: u64,
    /// None: the place that the session began at, or that a comparison ended with.
    key: Option<Key>,
    bytes: usize,
    directed: bool,
    rejected: bool,
}

impl Tail {
    /// A session from a place. Whatever is directed and before it is done once the place itself is acknowledged.
    pub(super) fn new(sent: u64, directed_only: bool) -> Self {
        let place = Unacked {
            seq: sent,
            key: None,
            bytes: 0,
            directed: true,
            rejected: false,
        };
        Self {
            sent,
            directed_only,
            unacked: VecDeque::from_iter((!directed_only).then_some(place)),
            bytes: 0,
            compared: VecDeque::new(),
        }
    }

    /// The same after a comparison in which these lines were written.
    pub(super) fn after_comparison(place: u64, lines: VecDeque<(u64, Key)>) -> Self {
        Self {
            compared: lines,
            ..Self::new(place, false)
        }
    }

    /// The first row that is not acknowledged.
    pub(super) fn first(&self) -> Option<(u64, Key)> {
        let mut rows = self.unacked.iter().filter(|row| !row.rejected);
        let compared = self.compared.front().cloned();
        compared.or_else(|| rows.find_map(|row| Some((row.seq, row.key.clone()?))))
    }

    /// The key of a row that is refused, once.
    fn rejected(&mut self, seq: u64) -> Option<Key> {
        if let Some(at) = self.compared.iter().position(|(sent, _)| *sent == seq && seq > 0) {
            return self.compared.remove(at).map(|(_, key)| key);
        }
        let mut rows = self.unacked.iter_mut();
        let row = rows.find(|row| row.seq == seq && row.key.is_some() && !row.rejected)?;
        row.rejected = true;
        let key = row.key.clone();
        // Parked anew: what the comparison brought of it does not end that.
        self.compared.retain(|(_, compared)| Some(compared) != key.as_ref());
        key
    }
}

impl Sender {
    pub(super) fn pump_tail(&mut self, now: u64, out: &mut Vec<Effect>) {
        let State::Tail(tail) = &self.state else { return };
        if !tail.directed_only && self.floor > tail.sent {
            // A tombstone behind the place is purged: only a comparison can tell.
            return self.restart(now, out);
        }
        let room = (
            WINDOW_ROWS.saturating_sub(tail.unacked.len()),
            WINDOW_BYTES.saturating_sub(tail.bytes),
        );
        if self.writing || self.head <= tail.sent || room.0 == 0 || room.1 == 0 {
            return;
        }
        let (after, directed_only) = (tail.sent, tail.directed_only);
        let ticket = self.ticket();
        out.push(Effect::Read {
            ticket,
            after,
            directed_only,
            max_rows: room.0,
            max_bytes: room.1,
        });
    }

    pub(super) fn rows(&mut self, now: u64, rows: Vec<Row>, upto: u64, floor: u64, out: &mut Vec<Effect>) {
        match &mut self.state {
            State::Merge(_) => self.merge_rows(rows, upto, out),
            State::Old(_) => self.old_rows(rows, upto),
            State::Tail(tail) => {
                // The floor is the one of this reading: a purged tombstone cannot have been overlooked.
                if !tail.directed_only && floor > tail.sent {
                    return self.restart(now, out);
                }
                tail.sent = tail.sent.max(upto);
                for row in rows {
                    self.write_row(row, out);
                }
            }
            _ => {}
        }
        self.pump(now, out);
    }

    fn write_row(&mut self, row: Row, out: &mut Vec<Effect>) {
        if self.is_poison(&row.change.key, row.seq) {
            return;
        }
        let State::Tail(tail) = &mut self.state else { return };
        tail.sent = tail.sent.max(row.seq);
        tail.bytes += row.change.payload.len();
        tail.unacked.push_back(Unacked {
            seq: row.seq,
            key: Some(row.change.key.clone()),
            bytes: row.change.payload.len(),
            directed: !row.change.dest.is_empty(),
            rejected: false,
        });
        self.write(SenderLine::Line(row.into()), out);
    }

    /// False when nobody could acknowledge that.
    pub(super) fn ack(&mut self, seq: u64, out: &mut Vec<Effect>) -> bool {
        let State::Tail(tail) = &mut self.state else {
            return false;
        };
        if seq > tail.sent {
            return false;
        }
        let (mut any, mut directed) = (false, false);
        while tail.unacked.front().is_some_and(|row| row.seq <= seq) {
            let Some(row) = tail.unacked.pop_front() else { break };
            tail.bytes = tail.bytes.saturating_sub(row.bytes);
            any = true;
            directed |= row.directed;
            if row.key.is_none() && !tail.compared.is_empty() {
                let keys = tail.compared.drain(..).map(|(_, key)| key).collect();
                out.push(Effect::Arrived { keys });
            }
        }
        let following = !tail.directed_only;
        if any {
            self.tries = 0;
            self.poison.retain(|_, poison| *poison > seq);
        }
        if any && following && seq != self.acked {
            self.acked = seq;
            out.push(Effect::Acked { seq });
        }
        if directed {
            out.push(Effect::DirectedDone { seq });
        }
        true
    }

    pub(super) fn rejected(&mut self, seq: u64, code: &str, max: Option<u64>, out: &mut Vec<Effect>) -> bool {
        let key = match &mut self.state {
            State::Tail(tail) => tail.rejected(seq),
            State::Merge(merge) => merge.rejected(seq),
            _ => return false,
        };
        if let Some(key) = key {
            let detail = max.map_or_else(String::new, |max| format!("the peer takes at most {max} bytes"));
            out.push(Effect::Park {
                seq,
                key,
                code: code.to_owned(),
                detail,
            });
        }
        true
    }
}
