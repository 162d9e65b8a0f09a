//! How fast a partner's data is read: a rate for each partner, over all of its streams.
//!
//! Owns the rates. Never drops anything: whoever is over the rate is read later, and feels it as back-pressure. Always: what
//! is remembered is bounded by the peers of our store.

use super::{StreamService, locked};
use crate::model::TokenBucket;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The rates, by DID.
#[derive(Debug)]
pub(super) struct Paces {
    per_second: u32,
    burst: u32,
    of: HashMap<String, TokenBucket>,
}

impl Paces {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second,
            burst,
            of: HashMap::new(),
        }
    }

    /// So many events of this partner were read; says for how long nothing more of it may be.
    fn read(&mut self, did: &str, count: usize, now: Instant) -> Duration {
        if let Some(bucket) = self.of.get_mut(did) {
            return bucket.take_ahead(count, now);
        }
        let mut bucket = TokenBucket::new(self.per_second, self.burst);
        let pause = bucket.take_ahead(count, now);
        self.of.insert(did.to_owned(), bucket);
        pause
    }

    /// Forgets whoever is no peer of ours any more.
    pub(super) fn sweep(&mut self, is_peer: impl Fn(&str) -> bool) {
        self.of.retain(|did, _| is_peer(did));
    }
}

impl StreamService {
    /// So many events of the peer `did` of our store were read at `place`, a word of the code; says for how long nothing more
    /// of it may be read. A pause is counted.
    #[must_use]
    pub fn pace(&self, did: &str, count: usize, place: &'static str) -> Duration {
        let pause = locked(&self.0.paces).read(did, count, Instant::now());
        if !pause.is_zero() {
            self.0.metrics.throttled(place);
        }
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partner_has_a_rate_of_its_own() {
        let now = Instant::now();
        let mut paces = Paces::new(100, 50);
        assert_eq!(paces.read("a", 50, now), Duration::ZERO);
        assert_eq!(paces.read("a", 100, now), Duration::from_secs(1));
        assert_eq!(paces.read("b", 50, now), Duration::ZERO);
        paces.sweep(|did| did == "a");
        assert_eq!(paces.of.len(), 1);
        assert_eq!(paces.read("a", 0, now), Duration::from_secs(1));
    }
}
