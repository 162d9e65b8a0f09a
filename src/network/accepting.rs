//! Connections that a listener could not take: told seldom, with what can be done.
//!
//! Owns how often. A bound of the system that is reached fails ten times a second, for as long as it stands.

use std::time::{Duration, Instant};

/// At most one line in this time.
const EVERY: Duration = Duration::from_secs(60);
/// How the system's errors end that mean that this process, or all of them, have too many files open.
const TOO_MANY_FILES: [&str; 2] = ["(os error 24)", "(os error 23)"];

/// Since when nothing is told, and how much was not.
#[derive(Default)]
pub(super) struct Untaken {
    told: Option<Instant>,
    untold: u64,
}

impl Untaken {
    /// One more; how many were not told since the last line, when one is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        if self
            .told
            .is_some_and(|told| now.saturating_duration_since(told) < EVERY)
        {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// What people can do about it.
pub(super) fn next_step(error: &str) -> &'static str {
    if TOO_MANY_FILES.iter().any(|end| error.contains(end)) {
        "raise LimitNOFILE= of the service (--ulimit nofile= of a container), or set limits.connections lower"
    } else {
        "partners try again by themselves; when it goes on, look at the system's log"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Error;

    #[test]
    fn it_is_told_once_a_minute_with_what_to_do() {
        let (mut untaken, start) = (Untaken::default(), Instant::now());
        assert_eq!(untaken.due(start), Some(0));
        for n in 0..500 {
            assert_eq!(untaken.due(start + EVERY * n / 1_000), None);
        }
        assert_eq!(untaken.due(start + EVERY), Some(500));
        assert_eq!(untaken.due(start + EVERY * 3), Some(0));
        let full = Error::other(Error::from_raw_os_error(24)).to_string();
        assert!(next_step(&full).contains("LimitNOFILE"), "{full}");
        assert!(!next_step("reset by peer").contains("LimitNOFILE"));
    }
}
