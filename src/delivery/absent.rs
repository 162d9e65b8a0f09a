//! How much may be taken for deleted because the store does not have it.
//!
//! Owns a budget: a store that is empty, or another one, must not delete everything at every partner. Always: within a day
//! no more than a hundred, or a tenth of what was propagated, unless an operator said so of the comparison that finds them: that
//! with one partner, or that of the journal with the store.

use super::journal::Result;
use super::log::Log;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

/// Deletes that need no word of an operator; a tenth of what was propagated is allowed too.
const FREE: u64 = 100;
/// The time for which the budget is.
const PERIOD: Duration = Duration::from_secs(24 * 3600);
/// How long a count of what is propagated is good enough.
const COUNTED: Duration = Duration::from_secs(600);
/// The comparison of the journal with the store, where a partner's DID stands for the one with it.
pub(super) const STORE: &str = "";
/// How long an operator's word lasts.
const LIFTED: Duration = Duration::from_secs(600);

/// The budget.
#[derive(Debug, Default)]
pub(super) struct Absent(Mutex<Spent>);

#[derive(Debug, Default)]
struct Spent {
    deletes: u64,
    since: Option<Instant>,
    /// The comparisons that an operator has freed, by the partner's DID, and when. Of those that have couriers only: few.
    lifted: HashMap<String, Instant>,
    told: bool,
    /// How much is propagated, and when that was counted: counting passes over all of it.
    propagated: Option<(u64, Instant)>,
}

impl Spent {
    fn lift(&mut self, of: &str, now: Instant) {
        self.lifted.retain(|_, at| now.saturating_duration_since(*at) < LIFTED);
        self.lifted.insert(of.to_owned(), now);
    }

    /// Whether so many more, found by the comparison `of`, are within the bounds at `now`; they are spent then.
    fn take(&mut self, of: &str, deletes: u64, propagated: u64, now: Instant) -> bool {
        let lifted = self.lifted.get(of);
        if lifted.is_some_and(|at| now.saturating_duration_since(*at) < LIFTED) {
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

    /// An operator allows, for ten minutes, what the budget holds back of the comparison with the partner `of`, or of that with
    /// the store ([`STORE`]).
    pub(super) fn lift(&self, of: &str) {
        self.spent().lift(of, Instant::now());
    }

    /// Whether so many documents that are not in the store, as the comparison `of` found, may be taken for deleted.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(super) async fn take(&self, log: &Log, of: &str, deletes: u64) -> Result<bool> {
        let counted = self.spent().propagated;
        let counted = counted.filter(|(_, at)| at.elapsed() < COUNTED);
        let (propagated, at) = match counted {
            Some(counted) => counted,
            None => (log.read(|journal| journal.own_sum(None, None)).await?.0, Instant::now()),
        };
        let mut spent = self.spent();
        spent.propagated = Some((propagated, at));
        let may = spent.take(of, deletes, propagated, Instant::now());
        if !may && !std::mem::replace(&mut spent.told, true) {
            warn!(
                deletes,
                propagated,
                "many resources that were propagated are not in the store: they are not deleted at partners; is store.url \
                 the right one? `peer resync --store --allow-deletes` says that they are gone"
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
        let mut take = |deletes, propagated, at| spent.take("b", deletes, propagated, at);
        assert!(!take(101, 500, start));
        assert!(take(60, 500, start) && take(40, 500, start));
        assert!(!take(1, 500, start + PERIOD / 2));
        assert!(take(1, 5_000, start + PERIOD / 2), "a tenth of many");
        assert!(take(100, 500, start + PERIOD), "another day");
        spent.lift("b", start + PERIOD);
        let later = start + PERIOD + LIFTED / 2;
        assert!(spent.take("b", 10_000, 500, later));
        assert!(
            !spent.take("c", 10_000, 500, later),
            "a word about one partner is about that one"
        );
        assert!(!spent.take(STORE, 10_000, 500, later), "nor is the store meant");
        spent.lift(STORE, later);
        assert!(spent.take(STORE, 10_000, 500, later) && !spent.take("c", 10_000, 500, later));
        assert!(!spent.take("b", 10_000, 500, start + PERIOD + LIFTED));
    }
}
