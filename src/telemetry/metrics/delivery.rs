//! What is counted of delivery.

use super::{DELIVERY_STATES, Metrics, in_state, named, one};

impl Metrics {
    /// How far `partner` is behind.
    pub fn set_delivery_lag(&self, partner: &str, rows: u64, seconds: u64) {
        let value = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.0.delivery_lag_rows.get_or_create(&named(partner)).set(value(rows));
        self.0
            .delivery_lag_seconds
            .get_or_create(&named(partner))
            .set(value(seconds));
    }

    /// Delivery to `partner` is in `state`, one of [`DELIVERY_STATES`].
    pub fn set_delivery_state(&self, partner: &str, state: &str) {
        for one in DELIVERY_STATES {
            let gauge = self.0.delivery_state.get_or_create(&in_state(partner, one));
            gauge.set(i64::from(one == state));
        }
    }

    /// Everything was compared with `partner`.
    pub fn compared(&self, partner: &str) {
        self.0.comparisons.get_or_create(&named(partner)).inc();
    }

    /// So many of partners' changes wait to be published, and so large is the journal.
    pub fn set_journal(&self, todo: u64, bytes: u64) {
        self.0.todo_waiting.set(i64::try_from(todo).unwrap_or(i64::MAX));
        self.0.journal_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// `partner` did not take a change.
    pub fn parked(&self, partner: &str) {
        self.0.parked.get_or_create(&named(partner)).inc();
    }

    /// So many bytes were written to (`sent`) or read from (`received`) delivery streams.
    pub fn delivery_bytes(&self, direction: &'static str, bytes: usize) {
        self.0
            .delivery_bytes
            .get_or_create(&one("direction", direction))
            .inc_by(bytes as u64);
    }
}
