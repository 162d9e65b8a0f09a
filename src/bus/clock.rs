//! How old a message of a stream is, by the clock that dated it: the server's.
//!
//! Pure. Owns what the server last said its time was. Always: our own clock only counts what has passed since then, so that
//! it may be wrong by any amount.

use std::time::{Duration, Instant, SystemTime};

/// The server's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerClock {
    said: SystemTime,
    at: Instant,
}

impl ServerClock {
    /// It said this just now.
    pub(super) fn said(said: SystemTime, at: Instant) -> Self {
        Self { said, at }
    }

    /// How old is what it dated so.
    pub(super) fn age(&self, published: SystemTime, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at);
        let now = self.said.checked_add(passed).unwrap_or(self.said);
        now.duration_since(published).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_the_servers_whatever_our_clock_says() {
        let minute = Duration::from_secs(60);
        let now = Instant::now();
        for its_time in [SystemTime::now() - 10 * minute, SystemTime::now() + 10 * minute] {
            let clock = ServerClock::said(its_time, now);
            assert_eq!(clock.age(its_time, now), Duration::ZERO);
            assert_eq!(clock.age(its_time - minute, now), minute, "it was there before");
            assert_eq!(clock.age(its_time, now + minute), minute, "it was held up");
            assert_eq!(clock.age(its_time + minute, now + minute), Duration::ZERO);
            assert_eq!(clock.age(its_time + minute, now), Duration::ZERO, "set back meanwhile");
        }
    }
}
