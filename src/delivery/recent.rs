//! The newest rows, kept in memory: a courier that is abreast of the feed reads here and not from the disk.
//!
//! Pure but for its lock. Always holds: what it has is without a hole, so that "behind `after`" is answered whole or not at
//! all; a row that a newer one replaced may still be here, in its place, which only means that both are sent in order.

use super::types::Row;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most rows kept.
const ROWS: usize = 4096;
/// Most bytes of payload kept: two full windows of the largest documents.
const BYTES: usize = 8 * 1024 * 1024;

/// The rows, and the seq up to which they reach.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    rows: VecDeque<Arc<Row>>,
    bytes: usize,
}

impl Recent {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows that were committed, in the order of their commits.
    pub fn add(&self, rows: &[Row]) {
        let mut ring = self.ring();
        for row in rows {
            if ring.rows.back().is_some_and(|last| last.seq + 1 != row.seq) {
                ring.rows.clear();
                ring.bytes = 0;
            }
            ring.bytes += row.change.payload.len();
            ring.rows.push_back(Arc::new(row.clone()));
        }
        while ring.rows.len() > ROWS || ring.bytes > BYTES {
            let Some(oldest) = ring.rows.pop_front() else { break };
            ring.bytes -= oldest.change.payload.len();
        }
    }

    /// The rows behind `after` for `dest`, at most `max_rows` and, past the first, `max_bytes`, and the seq up to which this
    /// answers; none when some of them are not here.
    #[must_use]
    pub fn behind(&self, after: u64, dest: &str, max_rows: usize, max_bytes: usize) -> Option<(Vec<Arc<Row>>, u64)> {
        let ring = self.ring();
        let first = ring.rows.front()?.seq;
        let skip = usize::try_from((after + 1).checked_sub(first)?).ok()?;
        let (mut found, mut bytes, mut upto) = (Vec::new(), 0, after);
        for row in ring.rows.iter().skip(skip) {
            let for_it = row.change.dest.is_empty() || row.change.dest == dest;
            if for_it && (found.len() == max_rows || (bytes > 0 && bytes + row.change.payload.len() > max_bytes)) {
                break;
            }
            upto = row.seq;
            if for_it {
                bytes += row.change.payload.len();
                found.push(Arc::clone(row));
            }
        }
        Some((found, upto))
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::{Change, Hash, Key};
    use super::*;
    use crate::wire::{Action, DataType};

    fn row(seq: u64, dest: &str, bytes: usize) -> Row {
        Row {
            seq,
            change: Change {
                key: Key {
                    datatype: DataType::Booking,
                    id: seq.to_string(),
                },
                dest: dest.into(),
                action: Action::Update,
                user: String::new(),
                payload: vec![0; bytes].into(),
                at: 0,
            },
            hash: Hash::default(),
        }
    }

    fn seqs(found: Option<(Vec<Arc<Row>>, u64)>) -> Option<(Vec<u64>, u64)> {
        found.map(|(rows, upto)| (rows.iter().map(|row| row.seq).collect(), upto))
    }

    #[test]
    fn it_answers_whole_or_not_at_all() {
        let recent = Recent::default();
        assert_eq!(recent.behind(0, "b", 9, 99), None, "nothing is known yet");
        recent.add(&[row(5, "", 1), row(6, "c", 1), row(7, "b", 1), row(8, "", 1)]);
        assert_eq!(seqs(recent.behind(3, "b", 9, 99)), None, "4 is not here");
        assert_eq!(seqs(recent.behind(4, "b", 9, 99)), Some((vec![5, 7, 8], 8)));
        assert_eq!(
            seqs(recent.behind(4, "b", 1, 99)),
            Some((vec![5], 6)),
            "the row of another is passed"
        );
        assert_eq!(seqs(recent.behind(4, "b", 9, 2)), Some((vec![5, 7], 7)));
        assert_eq!(seqs(recent.behind(8, "b", 9, 99)), Some((vec![], 8)));
        recent.add(&[row(11, "", 1)]);
        assert_eq!(
            seqs(recent.behind(8, "b", 9, 99)),
            None,
            "a hole: what is before it is forgotten"
        );
        assert_eq!(seqs(recent.behind(10, "b", 9, 99)), Some((vec![11], 11)));
    }

    #[test]
    fn it_is_bounded_by_rows_and_bytes() {
        let recent = Recent::default();
        for seq in 1..=(ROWS as u64 + 10) {
            recent.add(&[row(seq, "", 0)]);
        }
        assert!(recent.behind(9, "b", 1, 1).is_none() && recent.behind(10, "b", 1, 1).is_some());
        recent.add(&[row(ROWS as u64 + 11, "", BYTES + 1)]);
        assert!(
            recent.behind(ROWS as u64 + 10, "b", 1, 1).is_none(),
            "too large to keep"
        );
    }
}
