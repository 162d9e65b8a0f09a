//! The newest rows, kept in memory: a courier that is abreast of the feed reads here and not from the disk.
//!
//! Pure but for its lock. Always holds: what it has is without a hole, so that "behind `after`" is answered whole or not at
//! all; a row that a newer one replaced is not here any more, as in the journal.

use super::types::{Key, Row};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most rows kept.
const ROWS: usize = 8192;
/// Most bytes of payload kept: two full windows of the largest documents.
const BYTES: usize = 8 * 1024 * 1024;

/// The rows, and the seq up to which they reach.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    /// One place a seq; empty where a newer row of the key is behind it.
    rows: VecDeque<Option<Arc<Row>>>,
    /// The seq of the first place.
    first: u64,
    newest: HashMap<Key, u64>,
    bytes: usize,
}

impl Ring {
    fn next_seq(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn place(&mut self, seq: u64) -> Option<&mut Option<Arc<Row>>> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.rows.get_mut(index)
    }

    fn add(&mut self, row: &Row) {
        if self.rows.is_empty() {
            self.first = row.seq;
        }
        // Nothing takes the place of a row for one peer alone.
        if row.change.dest.is_empty()
            && let Some(older) = self.newest.insert(row.change.key.clone(), row.seq)
            && let Some(replaced) = self.place(older).and_then(Option::take)
        {
            self.bytes -= replaced.change.payload.len();
        }
        self.bytes += row.change.payload.len();
        self.rows.push_back(Some(Arc::new(row.clone())));
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.rows.pop_front() else { return };
        self.first += 1;
        let Some(oldest) = oldest else { return };
        self.bytes -= oldest.change.payload.len();
        if self.newest.get(&oldest.change.key) == Some(&oldest.seq) {
            self.newest.remove(&oldest.change.key);
        }
    }
}

impl Recent {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows that were committed, in the order of their commits.
    pub fn add(&self, rows: &[Row]) {
        let mut ring = self.ring();
        for row in rows {
            if !ring.rows.is_empty() && ring.next_seq() != row.seq {
                ring.clear();
            }
            ring.add(row);
        }
        while ring.rows.len() > ROWS || ring.bytes > BYTES {
            ring.drop_oldest();
        }
    }

    /// A row left the journal before anybody acknowledged it.
    pub fn forget(&self, seq: u64) {
        let mut ring = self.ring();
        if let Some(gone) = ring.place(seq).and_then(Option::take) {
            ring.bytes -= gone.change.payload.len();
        }
    }

    /// The rows behind `after` for `dest`, at most `max_rows` and, past the first, `max_bytes`, and the seq up to which this
    /// answers; none when some of them are not here.
    #[must_use]
    pub fn behind(&self, after: u64, dest: &str, max_rows: usize, max_bytes: usize) -> Option<(Vec<Arc<Row>>, u64)> {
        let ring = self.ring();
        if ring.rows.is_empty() {
            return None;
        }
        let skip = usize::try_from((after + 1).checked_sub(ring.first)?).ok()?;
        let (mut found, mut bytes, mut upto) = (Vec::new(), 0, after);
        for (place, row) in ring.rows.iter().enumerate().skip(skip) {
            let Some(row) = row else {
                upto = ring.first + place as u64;
                continue;
            };
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
    fn a_newer_row_of_a_key_takes_the_place_of_the_older() {
        let recent = Recent::default();
        let of_key = |seq, id: &str, dest: &str| {
            let mut row = row(seq, dest, 1);
            row.change.key.id = id.into();
            row
        };
        recent.add(&[of_key(1, "a", ""), of_key(2, "b", ""), of_key(3, "a", "")]);
        assert_eq!(seqs(recent.behind(0, "x", 9, 99)), Some((vec![2, 3], 3)));
        recent.add(&[of_key(4, "a", "x"), of_key(5, "a", "x"), of_key(6, "b", "")]);
        assert_eq!(
            seqs(recent.behind(0, "x", 9, 99)),
            Some((vec![3, 4, 5, 6], 6)),
            "each directed one stays"
        );
        assert_eq!(seqs(recent.behind(0, "x", 1, 99)), Some((vec![3], 3)));
        recent.forget(4);
        assert_eq!(seqs(recent.behind(0, "x", 9, 99)), Some((vec![3, 5, 6], 6)));
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
