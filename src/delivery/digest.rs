//! The comparison of what we have with what a partner holds of us.
//!
//! Owns sums, ranges and the merge of two sorted lists; reads a journal, never writes it. Always holds: ranges follow each
//! other without a gap and the last one is open-ended, so every key of either side is in exactly one.

use super::convert::gone;
use super::journal::{Journal, Result};
use super::types::{Hash, Held, Key, OwnKey, Row};
use crate::wire::{DeliveryLine, ReceiverLine};
use sha2::{Digest, Sha256};
use std::cmp::Ordering;

/// Keys of one range: few enough that one difference costs little, many enough that a list is a few lines.
pub const RANGE: usize = 256;

/// The count and the hash of keys fed in their order.
#[derive(Default)]
pub struct Sum {
    count: u64,
    hash: Sha256,
}

impl Sum {
    /// The next key and its document's hash.
    pub fn add(&mut self, key: &Key, hash: &Hash) {
        self.count += 1;
        self.hash.update([key.datatype.code()]);
        self.hash.update(key.id.as_bytes());
        self.hash.update([0]);
        self.hash.update(hash.0);
    }

    /// Count and hash.
    #[must_use]
    pub fn finish(self) -> (u64, Hash) {
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(self.hash.finalize()) {
            *to = from;
        }
        (self.count, Hash(short))
    }
}

/// The keys that are not the same on both sides. Both lists are sorted and of the same range; a tombstone of ours is
/// the same as not being held.
#[must_use]
pub fn differences(own: &[OwnKey], held: &[Held]) -> Vec<Key> {
    let (mut own, mut held) = (own.iter().peekable(), held.iter().peekable());
    let mut found = Vec::new();
    loop {
        let order = match (own.peek(), held.peek()) {
            (None, None) => return found,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(ours), Some(theirs)) => ours.key.cmp(&theirs.key),
        };
        let ours = if order.is_le() { own.next() } else { None };
        let theirs = if order.is_ge() { held.next() } else { None };
        if ours.and_then(|ours| ours.hash) != theirs.map(|theirs| theirs.hash) {
            found.extend(ours.map(|ours| &ours.key).or(theirs.map(|theirs| &theirs.key)).cloned());
        }
    }
}

/// A step of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Keys that differ, to be checked against the store and sent.
    pub keys: Vec<Key>,
    /// Up to where was compared (included); none: to the end of the range.
    pub upto: Option<Key>,
}

/// Compares a range, or its beginning when we have more than [`RANGE`] keys in it, or more than `bytes` of payload: all that
/// differs is in memory at a time. One key is compared at the least.
///
/// # Errors
/// The journal cannot be read.
pub fn compare(
    journal: &dyn Journal,
    after: Option<&Key>,
    to: Option<&Key>,
    held: &[Held],
    bytes: usize,
) -> Result<Compared> {
    let mut own = journal.own_keys(after, to, RANGE)?;
    let all = own.len() < RANGE;
    let fit = fitting(&own, bytes);
    let cut = fit < own.len();
    own.truncate(fit);
    let upto = own.last().filter(|_| cut || !all).map(|last| last.key.clone());
    let held: Vec<Held> = match &upto {
        Some(upto) => held.iter().take_while(|held| held.key <= *upto).cloned().collect(),
        None => held.to_vec(),
    };
    let keys = differences(&own, &held);
    Ok(Compared { keys, upto })
}

/// How many of these keys are within so many bytes of payload, one at the least.
fn fitting(own: &[OwnKey], bytes: usize) -> usize {
    let mut sum = 0_usize;
    let within = own.iter().take_while(|key| {
        sum = sum.saturating_add(key.bytes);
        sum <= bytes
    });
    within.count().max(1)
}

/// What is to be sent about a key that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Our row: the document, or its tombstone.
    Row(Row),
    /// We know nothing of it: it is to be let go.
    Gone(Key),
}

impl Difference {
    /// Whether it takes something away.
    #[must_use]
    pub fn is_delete(&self) -> bool {
        match self {
            Self::Row(row) => row.change.action == crate::wire::Action::Delete,
            Self::Gone(_) => true,
        }
    }

    /// The line that says it.
    #[must_use]
    pub fn line(self) -> DeliveryLine {
        match self {
            Self::Row(row) => row.into(),
            Self::Gone(key) => gone(key),
        }
    }
}

/// The rows of keys that differ, as they are now, when the store was asked.
///
/// # Errors
/// The journal cannot be read.
pub fn lines(journal: &dyn Journal, keys: Vec<Key>) -> Result<Vec<Difference>> {
    keys.into_iter()
        .map(|key| Ok(journal.row(&key)?.map_or(Difference::Gone(key), Difference::Row)))
        .collect()
}

/// Summaries of everything held of an origin, in order.
///
/// # Errors
/// The journal cannot be read.
pub fn pages(journal: &dyn Journal, origin: &str) -> Result<Vec<ReceiverLine>> {
    let mut pages = Vec::new();
    let mut after: Option<Key> = None;
    loop {
        let held = journal.held(origin, after.as_ref(), None, RANGE)?;
        let mut sum = Sum::default();
        for held in &held {
            sum.add(&held.key, &held.hash);
        }
        let ((count, hash), last) = (sum.finish(), held.len() < RANGE);
        let to = held.into_iter().next_back().map(|held| held.key).filter(|_| !last);
        pages.push(ReceiverLine::Page {
            to: to.clone().map(Into::into),
            count,
            sum: hash.0,
            last,
        });
        if last {
            return Ok(pages);
        }
        after = to;
    }
}

/// One line of the keys held in a range, and behind which key the next one begins, if there is one.
///
/// # Errors
/// The journal cannot be read.
pub fn keys(
    journal: &dyn Journal,
    origin: &str,
    after: Option<&Key>,
    to: Option<&Key>,
) -> Result<(ReceiverLine, Option<Key>)> {
    let held = journal.held(origin, after, to, RANGE)?;
    let next = held.last().filter(|_| held.len() >= RANGE).map(|last| last.key.clone());
    let line = ReceiverLine::Keys {
        keys: held.into_iter().map(Into::into).collect(),
        last: next.is_none(),
    };
    Ok((line, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::DataType;

    fn key(id: &str) -> Key {
        Key {
            datatype: DataType::DataResource,
            id: id.into(),
        }
    }

    #[test]
    fn a_merge_finds_what_is_new_changed_or_gone() {
        let own = |id: &str, hash: Option<u8>| OwnKey {
            key: key(id),
            seq: 1,
            hash: hash.map(|byte| Hash([byte; 16])),
            bytes: 10,
        };
        let held = |id: &str, hash: u8| Held {
            key: key(id),
            hash: Hash([hash; 16]),
        };
        let ours = [
            own("a", Some(1)),
            own("b", Some(1)),
            own("c", None),
            own("d", None),
            own("f", Some(1)),
        ];
        let theirs = [held("a", 1), held("b", 2), held("d", 1), held("e", 1)];
        assert_eq!(differences(&ours, &theirs), ["b", "d", "e", "f"].map(key));
        assert_eq!(differences(&[], &theirs[..1]), [key("a")]);
        assert!(differences(&ours[2..4], &[]).is_empty());
    }

    #[test]
    fn a_range_is_cut_at_its_bytes_and_one_key_is_compared_at_the_least() {
        let own = |bytes| OwnKey {
            key: key("a"),
            seq: 1,
            hash: None,
            bytes,
        };
        for (sizes, wanted) in [(vec![4, 4, 4], 2), (vec![100, 1], 1), (vec![5, 5], 2), (vec![], 1)] {
            let own: Vec<OwnKey> = sizes.iter().copied().map(own).collect();
            assert_eq!(fitting(&own, 10), wanted, "{sizes:?}");
        }
    }

    #[test]
    fn a_sum_knows_where_one_id_ends() {
        let sum = |ids: &[&str]| {
            let mut sum = Sum::default();
            for id in ids {
                sum.add(&key(id), &Hash::default());
            }
            sum.finish()
        };
        assert_eq!(sum(&["a", "b"]), sum(&["a", "b"]));
        assert_ne!(sum(&["a", "b"]).1, sum(&["b", "a"]).1);
        assert_ne!(sum(&["ab"]).1, sum(&["a"]).1);
    }
}
