//! The metrics of finding others.

use std::borrow::Cow;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Labels, Metrics, family, gauge_value, one};

/// What this daemon does to find others, and for those who look for others here.
pub struct Discovery {
    /// Indexers, by `kept` or `known`.
    pub indexers: Family<Labels<1>, Gauge>,
    /// Look-ups, by where they ended and with what.
    pub lookups: Family<Labels<2>, Counter>,
    /// Times our record was put into the DHT, by result.
    pub dht_puts: Family<Labels<1>, Counter>,
    /// Peers found by a record where their documents were out of date.
    pub found_elsewhere: Counter,
    /// Records kept for others.
    pub records: Gauge,
    /// Records taken from others.
    pub records_taken: Counter,
    /// Questions of others answered.
    pub records_asked: Counter,
    /// Heartbeats of ours that an indexer refused.
    pub beats_refused: Counter,
}

impl Discovery {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            indexers: family(registry, "indexers", "Indexers, by state"),
            lookups: family(
                registry,
                "lookups",
                "Look-ups of peers, by where they ended and with what",
            ),
            dht_puts: family(registry, "dht_puts", "Times our record was put into the DHT, by result"),
            found_elsewhere: family(
                registry,
                "found_elsewhere",
                "Peers found by a record where their documents were out of date",
            ),
            records: family(registry, "records", "Records kept for others"),
            records_taken: family(registry, "records_taken", "Records taken from others"),
            records_asked: family(registry, "records_asked", "Questions of others for records answered"),
            beats_refused: family(registry, "beats_refused", "Heartbeats of ours that an indexer refused"),
        }
    }
}

impl Metrics {
    /// How many indexers are kept, and how many are known.
    pub fn set_indexers(&self, kept: usize, known: usize) {
        let indexers = &self.0.discovery.indexers;
        indexers.get_or_create(&one("state", "kept")).set(gauge_value(kept));
        indexers.get_or_create(&one("state", "known")).set(gauge_value(known));
    }

    /// A look-up ended at `way` with `result`.
    pub fn looked_up(&self, way: &'static str, result: &'static str) {
        let labels = [("way", Cow::Borrowed(way)), ("result", Cow::Borrowed(result))];
        self.0.discovery.lookups.get_or_create(&labels).inc();
    }

    /// Our record was put into the DHT, or not.
    pub fn dht_put(&self, result: &'static str) {
        self.0.discovery.dht_puts.get_or_create(&one("result", result)).inc();
    }

    /// A peer was found by a record where its document was out of date.
    pub fn found_elsewhere(&self) {
        self.0.discovery.found_elsewhere.inc();
    }

    /// How many records are kept for others.
    pub fn set_records(&self, count: usize) {
        self.0.discovery.records.set(gauge_value(count));
    }

    /// A record was taken.
    pub fn beat_taken(&self) {
        self.0.discovery.records_taken.inc();
    }

    /// A question for records was answered.
    pub fn record_asked(&self) {
        self.0.discovery.records_asked.inc();
    }

    /// An indexer refused a heartbeat of ours.
    pub fn beat_refused(&self) {
        self.0.discovery.beats_refused.inc();
    }
}
