//! The metrics, all named `ocd_...`, in one registry.
//!
//! Owns the names and the labels. Labels are bounded: everything but the partner is a word of the code (`&'static str`),
//! and a peer is named until it is removed or its relation ends ([`Metrics::forget_partner`]).

mod delivery;
mod discovery;
mod memory;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub use discovery::Discovery;
use memory::ResidentMemory;

/// `N` labels: fixed names, and values which are words of the code or the name of a partner.
pub type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];

/// Upper bounds, in seconds, of the buckets of `ocd_event_seconds`: from below one hop on loopback up to the time an
/// event waits for a partner that is away.
const EVENT_SECONDS: [f64; 15] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0,
];

/// What delivery to a partner may be at: see `ocd_delivery_state`.
pub const DELIVERY_STATES: [&str; 6] = ["off", "wait", "greet", "digest", "tail", "legacy"];

/// A cheap handle to every metric of the daemon.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

impl Deref for Metrics {
    type Target = Families;

    fn deref(&self) -> &Families {
        &self.0
    }
}

/// The metrics themselves. Callers use the methods of [`Metrics`]; tests and special cases may read the fields.
pub struct Families {
    registry: Registry,
    /// Messages taken from NATS, by the setting's name of the subject.
    pub nats_received: Family<Labels<1>, Counter>,
    /// Messages given to NATS, by the setting's name of the subject.
    pub nats_published: Family<Labels<1>, Counter>,
    /// Events written to other daemons, by action.
    pub events_sent: Family<Labels<1>, Counter>,
    /// Events read from other daemons, by action.
    pub events_received: Family<Labels<1>, Counter>,
    /// What was given up at a bound or for want of a receiver, by place and reason.
    pub dropped: Family<Labels<2>, Counter>,
    /// What a rule refused, by rule. Raised by [`crate::telemetry::Refusals`].
    pub refused: Family<Labels<1>, Counter>,
    /// Pauses in reading a partner that was over its rate, by where.
    pub throttled: Family<Labels<1>, Counter>,
    /// Open connections.
    pub connections: Gauge,
    /// Partners, by `connected` or `away`.
    pub partners: Family<Labels<1>, Gauge>,
    /// 1 while the heartbeat of the partner is alive, 0 while it is not.
    pub partner_up: Family<Labels<1>, Gauge>,
    /// Streams that others hold open to us: events and heartbeats, by protocol.
    pub streams_open: Family<Labels<1>, Gauge>,
    /// Connection attempts, by result.
    pub dials: Family<Labels<1>, Counter>,
    /// Bandwidth challenges, by result.
    pub challenges: Family<Labels<1>, Counter>,
    /// Searches asked by the apps, by scope.
    pub searches: Family<Labels<1>, Counter>,
    /// Search results given to the apps.
    pub search_answers: Counter,
    /// Messages taken from NATS and not yet handled.
    pub intake_waiting: Gauge,
    /// Events waiting to be written to a partner.
    pub peer_queue_waiting: Family<Labels<1>, Gauge>,
    /// Changes that a partner does not have yet.
    pub delivery_lag_rows: Family<Labels<1>, Gauge>,
    /// The age of the oldest of them, in seconds.
    pub delivery_lag_seconds: Family<Labels<1>, Gauge>,
    /// Bytes of delivery streams, by direction.
    pub delivery_bytes: Family<Labels<1>, Counter>,
    /// Changes that a partner did not take.
    pub parked: Family<Labels<1>, Counter>,
    /// 1 for the state that delivery to a partner is in, 0 for the others.
    pub delivery_state: Family<Labels<2>, Gauge>,
    /// Comparisons of everything with a partner that came to their end.
    pub comparisons: Family<Labels<1>, Counter>,
    /// Partners' changes that are committed and not known to be published.
    pub todo_waiting: Gauge,
    /// The journal on the disk, with its log.
    pub journal_bytes: Gauge,
    /// Records of the DHT kept for others.
    pub dht_records: Gauge,
    /// What this daemon does to find others, and for those who look for others here.
    pub discovery: Discovery,
    /// Seconds from the take of an event from NATS to its commit in the journal.
    pub event_seconds: Histogram,
}

impl Metrics {
    /// A registry with every metric in it, and the process's start and build.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("ocd");
        let families = Families {
            nats_received: family(&mut registry, "nats_received", "Messages taken from NATS"),
            nats_published: family(&mut registry, "nats_published", "Messages given to NATS"),
            events_sent: family(&mut registry, "events_sent", "Events written to other daemons"),
            events_received: family(&mut registry, "events_received", "Events read from other daemons"),
            dropped: family(&mut registry, "dropped", "What was given up, by place and reason"),
            refused: family(&mut registry, "refused", "What a rule refused"),
            throttled: family(
                &mut registry,
                "throttled",
                "Pauses in reading a partner that was over its rate, by place",
            ),
            connections: family(&mut registry, "connections", "Open connections"),
            partners: family(&mut registry, "partners", "Partners, by state"),
            partner_up: family(&mut registry, "partner_up", "1 while the partner's heartbeat is alive"),
            streams_open: family(
                &mut registry,
                "streams_open",
                "Streams that others hold open to us: events and heartbeats, by protocol",
            ),
            dials: family(&mut registry, "dials", "Connection attempts, by result"),
            challenges: family(&mut registry, "challenges", "Bandwidth challenges, by result"),
            searches: family(&mut registry, "searches", "Searches asked by the apps, by scope"),
            search_answers: family(&mut registry, "search_answers", "Search results given to the apps"),
            intake_waiting: family(
                &mut registry,
                "intake_waiting",
                "Messages taken from NATS and not yet handled",
            ),
            peer_queue_waiting: family(&mut registry, "peer_queue_waiting", "Events waiting for a partner"),
            delivery_lag_rows: family(
                &mut registry,
                "delivery_lag_rows",
                "Changes that a partner does not have yet",
            ),
            delivery_lag_seconds: family(
                &mut registry,
                "delivery_lag_seconds",
                "The age of the oldest change that a partner does not have yet",
            ),
            delivery_bytes: family(&mut registry, "delivery_bytes", "Bytes of delivery streams"),
            parked: family(&mut registry, "parked", "Changes that a partner did not take"),
            delivery_state: family(
                &mut registry,
                "delivery_state",
                "1 for the state that delivery to a partner is in",
            ),
            comparisons: family(
                &mut registry,
                "comparisons",
                "Comparisons of everything with a partner that came to their end",
            ),
            todo_waiting: family(
                &mut registry,
                "todo_waiting",
                "Partners' changes that are committed and not known to be published",
            ),
            journal_bytes: Gauge::default(),
            dht_records: family(&mut registry, "dht_records", "Records of the DHT kept here"),
            discovery: Discovery::new(&mut registry),
            event_seconds: Histogram::new(EVENT_SECONDS),
            registry: Registry::default(),
        };
        registry.register_with_unit(
            "event",
            "From the take of an event from NATS to its commit in the journal",
            Unit::Seconds,
            families.event_seconds.clone(),
        );
        registry.register_with_unit(
            "journal",
            "The journal on the disk, with its log",
            Unit::Bytes,
            families.journal_bytes.clone(),
        );
        let began = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        registry.register_with_unit(
            "process_start_time",
            "Start of the process since the Unix epoch",
            Unit::Seconds,
            ConstGauge::new(began),
        );
        registry.register(
            "build",
            "The running version",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register_collector(Box::new(ResidentMemory));
        Self(Arc::new(Families { registry, ..families }))
    }

    /// Every metric as Prometheus (OpenMetrics) text.
    pub fn encode(&self) -> String {
        let mut out = String::with_capacity(8 * 1024);
        if let Err(error) = text::encode(&mut out, &self.0.registry) {
            tracing::error!(%error, "the metrics could not be written");
        }
        out
    }

    /// One message was taken from NATS; `subject` is the setting's name of the subject.
    pub fn nats_received(&self, subject: &'static str) {
        self.0.nats_received.get_or_create(&one("subject", subject)).inc();
    }

    /// One message was given to NATS; `subject` is the setting's name of the subject.
    pub fn nats_published(&self, subject: &'static str) {
        self.0.nats_published.get_or_create(&one("subject", subject)).inc();
    }

    /// So many events of `action` were written to one other daemon.
    pub fn events_sent_many(&self, action: &'static str, count: usize) {
        self.0
            .events_sent
            .get_or_create(&one("action", action))
            .inc_by(count as u64);
    }

    /// One event, a question or an answer, was read from another daemon.
    pub fn event_received(&self, action: &'static str) {
        self.events_received_many(action, 1);
    }

    /// So many events of `action` were read from another daemon.
    pub fn events_received_many(&self, action: &'static str, count: usize) {
        self.0
            .events_received
            .get_or_create(&one("action", action))
            .inc_by(count as u64);
    }

    /// One thing was given up at `place` because of `reason`.
    pub fn dropped(&self, place: &'static str, reason: &'static str) {
        self.dropped_many(place, reason, 1);
    }

    /// `count` things were given up at `place` because of `reason`.
    pub fn dropped_many(&self, place: &'static str, reason: &'static str, count: u64) {
        let labels = [("where", Cow::Borrowed(place)), ("reason", Cow::Borrowed(reason))];
        self.0.dropped.get_or_create(&labels).inc_by(count);
    }

    /// `rule` refused something. [`crate::telemetry::Refusals::refuse`] calls this.
    pub fn refused(&self, rule: &'static str) {
        self.0.refused.get_or_create(&one("rule", rule)).inc();
    }

    /// Reading a partner waits at `place`: it is over its rate.
    pub fn throttled(&self, place: &'static str) {
        self.0.throttled.get_or_create(&one("where", place)).inc();
    }

    /// How many partners are connected and how many are away.
    pub fn set_partners(&self, connected: usize, away: usize) {
        self.0
            .partners
            .get_or_create(&one("state", "connected"))
            .set(gauge_value(connected));
        self.0
            .partners
            .get_or_create(&one("state", "away"))
            .set(gauge_value(away));
    }

    /// Whether the heartbeat of `partner` is alive.
    pub fn set_partner_up(&self, partner: &str, up: bool) {
        self.0.partner_up.get_or_create(&named(partner)).set(i64::from(up));
    }

    /// How many events wait for `partner`.
    pub fn set_peer_queue_waiting(&self, partner: &str, count: usize) {
        self.0
            .peer_queue_waiting
            .get_or_create(&named(partner))
            .set(gauge_value(count));
    }

    /// Removes what is told about `partner`; called when it stops being one, so that the names stay bounded.
    pub fn forget_partner(&self, partner: &str) {
        self.0.partner_up.remove(&named(partner));
        self.0.peer_queue_waiting.remove(&named(partner));
        self.0.parked.remove(&named(partner));
        self.0.comparisons.remove(&named(partner));
        self.forget_delivery(partner);
    }

    /// Removes what is told about delivery to a peer that gets nothing any more.
    pub fn forget_delivery(&self, partner: &str) {
        self.0.delivery_lag_rows.remove(&named(partner));
        self.0.delivery_lag_seconds.remove(&named(partner));
        for state in DELIVERY_STATES {
            self.0.delivery_state.remove(&in_state(partner, state));
        }
    }

    /// A stream of `protocol` opened.
    pub fn stream_opened(&self, protocol: &'static str) {
        self.0.streams_open.get_or_create(&one("protocol", protocol)).inc();
    }

    /// A stream of `protocol` ended.
    pub fn stream_closed(&self, protocol: &'static str) {
        self.0.streams_open.get_or_create(&one("protocol", protocol)).dec();
    }

    /// A connection attempt ended with `result`.
    pub fn dialed(&self, result: &'static str) {
        self.0.dials.get_or_create(&one("result", result)).inc();
    }

    /// A bandwidth challenge ended with `result`.
    pub fn challenged(&self, result: &'static str) {
        self.0.challenges.get_or_create(&one("result", result)).inc();
    }

    /// An app asked for a search of `scope`.
    pub fn searched(&self, scope: &'static str) {
        self.0.searches.get_or_create(&one("scope", scope)).inc();
    }

    /// One search result was given to the apps.
    pub fn search_answered(&self) {
        self.0.search_answers.inc();
    }

    /// How many messages taken from NATS are not yet handled.
    pub fn set_intake_waiting(&self, count: usize) {
        self.0.intake_waiting.set(gauge_value(count));
    }

    /// An event needed `elapsed` from its take from NATS to its commit in the journal.
    pub fn event_took(&self, elapsed: Duration) {
        self.0.event_seconds.observe(elapsed.as_secs_f64());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn family<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn one(name: &'static str, value: &'static str) -> Labels<1> {
    [(name, Cow::Borrowed(value))]
}

fn named(partner: &str) -> Labels<1> {
    [("partner", Cow::Owned(partner.to_owned()))]
}

fn in_state(partner: &str, state: &'static str) -> Labels<2> {
    [
        ("partner", Cow::Owned(partner.to_owned())),
        ("state", Cow::Borrowed(state)),
    ]
}

fn gauge_value(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
