//! The pace of the `/1.0` protocols: each has a stream of its own, so two actions of one key may overtake each other.
//!
//! Pure. Always holds: two different actions of a key are a second apart. Remembers a bounded number of keys.

use super::types::Key;
use crate::wire::Action;
use std::collections::{HashMap, VecDeque};

/// Between two different actions of one key, in milliseconds: the streams are read side by side, and a second is far
/// beyond what one of them lags.
pub const APART: u64 = 1_000;

/// When each key was last sent.
#[derive(Debug, Default)]
pub struct Pace {
    last: HashMap<Key, (Action, u64)>,
    order: VecDeque<(u64, Key)>,
}

impl Pace {
    /// When the action may be sent: `now` or later, in milliseconds.
    #[must_use]
    pub fn due(&self, key: &Key, action: Action, now: u64) -> u64 {
        match self.last.get(key) {
            Some((last, at)) if *last != action => now.max(at.saturating_add(APART)),
            _ => now,
        }
    }

    /// It was sent. What is too old to matter is forgotten, so only the keys of one second are kept.
    pub fn sent(&mut self, key: &Key, action: Action, now: u64) {
        while let Some((at, old)) = self.order.front() {
            if now < at.saturating_add(APART) {
                break;
            }
            if self.last.get(old).is_some_and(|(_, newest)| newest == at) {
                self.last.remove(old);
            }
            self.order.pop_front();
        }
        self.last.insert(key.clone(), (action, now));
        self.order.push_back((now, key.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::DataType;

    #[test]
    fn only_another_action_of_the_same_key_waits() {
        let key = |id: &str| Key {
            datatype: DataType::DataResource,
            id: id.into(),
        };
        let mut pace = Pace::default();
        pace.sent(&key("a"), Action::Create, 5_000);
        assert_eq!(pace.due(&key("a"), Action::Create, 5_001), 5_001);
        assert_eq!(pace.due(&key("a"), Action::Delete, 5_001), 6_000);
        assert_eq!(pace.due(&key("b"), Action::Delete, 5_001), 5_001);
        pace.sent(&key("a"), Action::Create, 5_500);
        pace.sent(&key("b"), Action::Create, 6_200);
        assert_eq!(pace.due(&key("a"), Action::Delete, 6_200), 6_500, "the newest counts");
        pace.sent(&key("b"), Action::Create, 9_000);
        assert_eq!((pace.last.len(), pace.order.len()), (1, 1));
    }
}
