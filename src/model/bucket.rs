//! A rate with a burst, as a value: whoever owns it passes the time in.

use std::time::{Duration, Instant};

/// Lets through `per_second` on average and `burst` at once.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled_at: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket. A rate of 0 never refills, a burst below 1 lets nothing through.
    pub fn new(per_second: impl Into<f64>, burst: impl Into<f64>) -> Self {
        let burst = burst.into();
        Self {
            per_second: per_second.into(),
            burst,
            tokens: burst,
            filled_at: None,
        }
    }

    /// Takes one token; false when there is none. A clock that goes back refills nothing.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }

    /// Takes `count` tokens, also those that are not there yet; says how long the taker has to wait until they are.
    pub fn take_ahead(&mut self, count: usize, now: Instant) -> Duration {
        self.fill(now);
        self.tokens -= f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let missing = (-self.tokens).max(0.0);
        Duration::try_from_secs_f64(missing / self.per_second).unwrap_or(Duration::MAX)
    }

    fn fill(&mut self, now: Instant) {
        let since = self
            .filled_at
            .map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.filled_at = Some(self.filled_at.map_or(now, |at| at.max(now)));
        self.tokens = (self.tokens + since * self.per_second).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, 3);
        let passed = |bucket: &mut TokenBucket, at: Instant| (0..100).filter(|_| bucket.take(at)).count();
        assert_eq!(passed(&mut bucket, start), 3);
        assert_eq!(passed(&mut bucket, start + Duration::from_millis(99)), 0);
        assert_eq!(passed(&mut bucket, start + Duration::from_millis(101)), 1);
        assert_eq!(passed(&mut bucket, start), 0, "a clock that goes back");
        assert_eq!(
            passed(&mut bucket, start + Duration::from_secs(60)),
            3,
            "never more than the burst"
        );
        assert_eq!(passed(&mut TokenBucket::new(0, 2), start), 2);
    }

    #[test]
    fn what_is_taken_ahead_is_waited_for() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, 5);
        assert_eq!(bucket.take_ahead(5, start), Duration::ZERO);
        assert_eq!(bucket.take_ahead(20, start), Duration::from_secs(2));
        assert!(!bucket.take(start + Duration::from_secs(2)));
        assert_eq!(
            bucket.take_ahead(10, start + Duration::from_secs(3)),
            Duration::from_millis(500),
            "no more than the burst"
        );
        assert_eq!(
            bucket.take_ahead(1, start + Duration::from_secs(3)),
            Duration::from_millis(600)
        );
    }
}
