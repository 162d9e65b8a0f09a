//! What the daemon tells its operators: metrics, readiness, counted refusals and the log.
//!
//! Owns every metric name and the log set-up. Never holds a secret or a payload, never decides anything, and never
//! waits: each call is a few atomic operations or one short lock.

#[cfg(test)]
pub(crate) mod heard;
pub mod logs;
pub mod metrics;
pub mod readiness;
pub mod refusals;
pub mod sides;

pub use logs::{LogError, LogFormat, LogHandle, check_filter, init_logs};
pub use metrics::Metrics;
pub use readiness::Readiness;
pub use refusals::{Refusals, moves_text};
pub use sides::Sides;

use std::sync::OnceLock;
use std::time::Instant;

/// The instant this process began, as near as it can be told: the first call fixes it, and `main` calls it first.
pub fn process_start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}
