//! Notices an event that a newer one of the same resource has overtaken.
//!
//! The `/1.0` protocols carry create, update and delete on streams of their own, so two events of one resource sent
//! within milliseconds can arrive in the other order. Pure: time is passed in. Always: only an event that is older than
//! one handled within the last `WINDOW` by a difference below `WINDOW` counts as overtaken, so that a sender whose
//! clock was set back loses nothing.

use crate::wire::DataType;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime};

/// How far apart two events may be to be told apart from a clock that was set back.
const WINDOW: Duration = Duration::from_secs(5);
/// Resources remembered. Past it the oldest is forgotten, and with it the guard for that resource.
const REMEMBERED: usize = 100_000;

/// The memory; see the module's first lines.
#[derive(Debug, Default)]
pub struct Overtaken {
    /// By a keyed hash of sender, kind and id, which nobody outside can make meet.
    newest: HashMap<u64, (SystemTime, Instant)>,
    order: VecDeque<(Instant, u64)>,
    hashes: RandomState,
}

impl Overtaken {
    /// Whether an event that `from` made at `sent` is the newest of its resource; remembers it when it is.
    pub fn is_newest(&mut self, from: &str, datatype: DataType, id: &str, sent: SystemTime, now: Instant) -> bool {
        self.forget(now);
        let key = self.hashes.hash_one((from, datatype, id));
        if let Some((newest, at)) = self.newest.get(&key) {
            let behind = newest.duration_since(sent).unwrap_or_default();
            if now.duration_since(*at) < WINDOW && !behind.is_zero() && behind < WINDOW {
                return false;
            }
        }
        self.order.push_back((now, key));
        self.newest.insert(key, (sent, now));
        true
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, key)) = self.order.front() {
            if now.duration_since(*at) < WINDOW && self.order.len() < REMEMBERED {
                break;
            }
            if self.newest.get(key).is_some_and(|(_, newest)| newest == at) {
                self.newest.remove(key);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: DataType = DataType::ComputeResource;

    #[test]
    fn an_older_event_of_the_same_resource_is_overtaken() {
        let (mut memory, now, sent) = (Overtaken::default(), Instant::now(), SystemTime::now());
        let earlier = sent - Duration::from_millis(3);
        assert!(memory.is_newest("a", KIND, "r", sent, now));
        assert!(!memory.is_newest("a", KIND, "r", earlier, now));
        assert!(
            memory.is_newest("a", KIND, "r", sent, now),
            "the same instant is no proof of an order"
        );
        assert!(memory.is_newest("a", KIND, "other", earlier, now));
        assert!(memory.is_newest("b", KIND, "r", earlier, now));
    }

    #[test]
    fn a_clock_set_back_loses_nothing() {
        let (mut memory, now, sent) = (Overtaken::default(), Instant::now(), SystemTime::now());
        assert!(memory.is_newest("a", KIND, "r", sent, now));
        assert!(memory.is_newest("a", KIND, "r", sent - Duration::from_secs(60), now));
        assert!(memory.is_newest("a", KIND, "s", sent, now));
        assert!(memory.is_newest("a", KIND, "s", sent - Duration::from_secs(1), now + WINDOW));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut memory, now, sent) = (Overtaken::default(), Instant::now(), SystemTime::now());
        for n in 0..REMEMBERED + 50 {
            assert!(memory.is_newest("a", KIND, &n.to_string(), sent, now));
        }
        assert!(memory.newest.len() <= REMEMBERED && memory.order.len() <= REMEMBERED);
        memory.is_newest("a", KIND, "late", sent, now + WINDOW);
        assert_eq!(memory.newest.len(), 1);
    }
}
