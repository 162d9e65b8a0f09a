//! A bound for each of many: so many of a thing that one may have at a time, whoever it is.
//!
//! Owns the counting. Never says what is counted. Always: only those that have some are remembered.

use super::locked;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// See the module's first lines.
pub(super) struct Shares<K> {
    each: usize,
    of: Mutex<HashMap<K, Arc<Semaphore>>>,
}

impl<K: Eq + Hash> Shares<K> {
    /// `each` for everyone.
    pub(super) fn new(each: usize) -> Self {
        Self {
            each,
            of: Mutex::new(HashMap::new()),
        }
    }

    /// The share of one, to be held as long as anything of it is.
    pub(super) fn of(&self, whom: K) -> Arc<Semaphore> {
        let mut all = locked(&self.of);
        all.retain(|_, share| Arc::strong_count(share) > 1);
        Arc::clone(all.entry(whom).or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_and_who_has_nothing_is_forgotten() {
        let shares = Shares::new(1);
        let (a, b) = (shares.of("a"), shares.of("b"));
        let held = Arc::clone(&a).try_acquire_owned().unwrap();
        drop(a);
        assert!(shares.of("a").try_acquire_owned().is_err());
        assert!(b.try_acquire().is_ok());
        drop(held);
        assert!(shares.of("a").try_acquire_owned().is_ok());
        drop(b);
        shares.of("c");
        assert_eq!(locked(&shares.of).len(), 1);
    }
}
