//! Answers of peers that our store does not name, under a DID that does not follow from their key: how many are looked up.
//!
//! Owns when such an answer is worth a question to the indexers. Always: none is while no search of ours is open that
//! everybody may answer, and whoever invents DIDs uses up neither our look-ups nor our rate at an indexer.

use super::locked;
use crate::model::TokenBucket;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Look-ups a second, and how many may come at once: a tenth of what an indexer takes of us.
const RATE: (f64, f64) = (50.0, 200.0);
/// Look-ups under way; others have at least three times as many.
const AT_ONCE: usize = 64;

/// See the module's first lines.
pub(super) struct Strangers {
    /// A search is open that everybody may answer.
    wanted: AtomicBool,
    rate: Mutex<TokenBucket>,
    turns: Semaphore,
}

/// Why an answer is not looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// Nobody has asked everybody.
    Unwanted,
    /// Too many are looked up.
    Full,
}

impl Strangers {
    pub(super) fn new() -> Self {
        Self {
            wanted: AtomicBool::new(false),
            rate: Mutex::new(TokenBucket::new(RATE.0, RATE.1)),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    pub(super) fn are_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// A turn to look one up.
    pub(super) fn turn(&self, now: Instant) -> Result<SemaphorePermit<'_>, Denied> {
        if !self.wanted.load(Ordering::Relaxed) {
            return Err(Denied::Unwanted);
        }
        let turn = self.turns.try_acquire().map_err(|_| Denied::Full)?;
        if locked(&self.rate).take(now) {
            Ok(turn)
        } else {
            Err(Denied::Full)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_looked_up_unless_everybody_was_asked_and_then_so_many() {
        let (strangers, now) = (Strangers::new(), Instant::now());
        assert_eq!(strangers.turn(now).map(drop), Err(Denied::Unwanted));
        strangers.are_wanted(true);
        let turns: Vec<_> = (0..AT_ONCE).map(|_| strangers.turn(now).unwrap()).collect();
        assert_eq!(strangers.turn(now).map(drop), Err(Denied::Full));
        drop(turns);
        let more = (0..1000).filter(|_| strangers.turn(now).is_ok()).count();
        assert_eq!(
            AT_ONCE + more,
            RATE.1 as usize,
            "what is refused for its turn takes nothing of the rate"
        );
        strangers.are_wanted(false);
        assert_eq!(strangers.turn(now).map(drop), Err(Denied::Unwanted));
    }
}
