//! How much may be taken for deleted because the store does not have it.
//!
//! Owns a budget: a store that is empty, or another one, must not delete everything at every partner. Always: within a day
//! no more than a hundred, or a tenth of what was propagated, unless an operator said so.

use super::journal::Result;
use super::log::Log;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

/// Deletes that need no word of an operator; a tenth of what was propagated is allowed too.
const FREE: u64 = 100;
/// The time for which the budget is.
const PERIOD: Duration = Duration::from_secs(24 * 3600);
/// How long a count of what is propagated is good enough.
const COUNTED: Duration = Duration::from_secs(600);
/// How long an operator's word lasts.
const LIFTED: Duration = Duration::from_secs(600);

/// The budget.
#[derive(Debug, Default)]
pub(super) struct Absent(Mutex<Spent>);

#[derive(Debug, Default)]
struct Spent {
    deletes: u64,
    since: Option<Instant>,
    lifted: Option<Instant>,
    told: bool,
    /// How much is propagated, and when that was counted: counting passes over all of it.
    propagated: Option<(u64, Instant)>,
}

impl Spent {
    /// Whether so many more are within the bounds at `now`; they are spent then.
    fn take(&mut self, deletes: u64, propagated: u64, now: Instant) -> bool {
        if self.lifted.is_some_and(|at| now.saturating_duration_since(at) < LIFTED) {
            return true;
        }
        if self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= PERIOD)
        {
            (self.since, self.deletes, self.told) = (Some(now), 0, false);
        }
        let within = self.deletes + deletes <= FREE.max(propagated / 10);
        if within {
            self.deletes += deletes;
        }
        within
    }
}

impl Absent {
    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operator allows what the budget holds back, for ten minutes.
    pub(super) fn lift(&self) {
        self.spent().lifted = Some(Instant::now());
    }

    /// Whether so many documents that are not in the store may be taken for deleted.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(super) async fn take(&self, log: &Log, deletes: u64) -> Result<bool> {
        let counted = self.spent().propagated;
        let counted = counted.filter(|(_, at)| at.elapsed() < COUNTED);
        let (propagated, at) = match counted {
            Some(counted) => counted,
            None => (log.read(|journal| journal.own_sum(None, None)).await?.0, Instant::now()),
        };
        let mut spent = self.spent();
        spent.propagated = Some((propagated, at));
        let may = spent.take(deletes, propagated, Instant::now());
        if !may && !std::mem::replace(&mut spent.told, true) {
            warn!(
                deletes,
                propagated,
                "many resources that were propagated are not in the store: they are not deleted at partners; is store.url \
                 the right one? `peer resync PARTNER --allow-deletes` says that they are gone"
            );
        }
        Ok(may)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_lost_everything_deletes_nothing_at_partners() {
        let (mut spent, start) = (Spent::default(), Instant::now());
        assert!(!spent.take(101, 500, start));
        assert!(spent.take(60, 500, start) && spent.take(40, 500, start));
        assert!(!spent.take(1, 500, start + PERIOD / 2));
        assert!(spent.take(1, 5_000, start + PERIOD / 2), "a tenth of many");
        assert!(spent.take(100, 500, start + PERIOD), "another day");
        spent.lifted = Some(start + PERIOD);
        assert!(spent.take(10_000, 500, start + PERIOD + LIFTED / 2));
        assert!(!spent.take(10_000, 500, start + PERIOD + LIFTED));
    }
}
