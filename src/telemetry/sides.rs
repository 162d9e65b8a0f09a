//! One check that several parts report to, each of them its own side of it.
//!
//! Owns what stands wrong at each side. Always: the check is good when every side is, so that no part tells away what another one
//! has found; a side that says the same again costs a lock and no line in the log.

use super::Readiness;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A cheap handle to the check; see the module's first lines.
#[derive(Clone)]
pub struct Sides {
    readiness: Readiness,
    check: &'static str,
    bad: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Sides {
    /// The check, good until a side says otherwise.
    #[must_use]
    pub fn new(readiness: Readiness, check: &'static str) -> Self {
        readiness.set_ok(check);
        Self {
            readiness,
            check,
            bad: Arc::default(),
        }
    }

    fn wrong(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This side is bad, and why; true when it was good before.
    pub fn bad(&self, side: &'static str, why: String) -> bool {
        // Held while it is told, so that two sides cannot tell in another order than they came.
        let mut wrong = self.wrong();
        let begins = wrong.insert(side, why).is_none();
        self.tell(&wrong);
        begins
    }

    /// This side is good; true when it was bad before.
    pub fn good(&self, side: &'static str) -> bool {
        let mut wrong = self.wrong();
        let ends = wrong.remove(side).is_some();
        if ends {
            self.tell(&wrong);
        }
        ends
    }

    fn tell(&self, wrong: &BTreeMap<&'static str, String>) {
        // Two sides most often say the same: it is told once.
        let mut told: Vec<&str> = Vec::new();
        for why in wrong.values() {
            if !told.contains(&why.as_str()) {
                told.push(why);
            }
        }
        match told.is_empty() {
            true => self.readiness.set_ok(self.check),
            false => self.readiness.set_bad(self.check, told.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_good_when_every_side_is() {
        let readiness = Readiness::new(&["journal"]);
        let journal = Sides::new(readiness.clone(), "journal");
        assert!(readiness.ready());
        assert!(journal.bad("take", "full".to_owned()));
        assert!(!journal.bad("take", "full".to_owned()), "it was bad before");
        assert!(journal.bad("sync", "broken".to_owned()));
        let why = || readiness.snapshot()[0].1.clone().unwrap_or_default();
        assert_eq!(why(), "broken; full");
        assert!(journal.good("take") && !journal.good("take"));
        assert_eq!(why(), "broken");
        journal.bad("take", "broken".to_owned());
        assert_eq!(why(), "broken", "what two say is told once");
        journal.good("take");
        journal.good("sync");
        assert!(readiness.ready());
    }
}
