//! Connects to NATS with the operator's credentials and tells, as a level, whether the connection stands.
//!
//! Owns the client's options; `log_in` has the secrets. Always: only unreadable credentials are an error at start; a server that is away, or that
//! refuses us, is waited for, since an operator may mend it without touching the daemon.

use super::Bus;
use super::covering::listened;
use super::log_in::{LogIn, readable};
use crate::settings::{Limits, NatsSettings};
use crate::telemetry::{Metrics, Refusals};
use async_nats::{ConnectOptions, Event, ServerAddr};
use rand::Rng;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// Longest pause between two attempts to reach NATS.
const RECONNECT_MAX: Duration = Duration::from_secs(4);
/// Messages one subscription holds between the socket and our own queue, which is emptied at once by a task that does
/// nothing else; past it the client drops the newest and tells ([`Event::SlowConsumer`]), which is counted.
const SUBSCRIPTION_CAPACITY: usize = 65_536;
/// Messages waiting for the socket. Publishers wait when it is full.
const CLIENT_CAPACITY: usize = 4_096;

/// Whether NATS is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatsState {
    /// Connected.
    Connected,
    /// Not connected, and the last thing that was said about it.
    Away(String),
}

/// What is wrong with the NATS settings, seen only when they are used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A URL is unusable.
    #[error("nats.url: {0}")]
    Url(String),
    /// A secret's file cannot be read.
    #[error("{setting}: cannot read {path}: {why}")]
    File {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// The client refused its settings.
    #[error("nats: {0}")]
    Client(String),
}

/// Starts the connection. Returns at once, also when no server answers.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(settings: &NatsSettings, limits: &Limits, metrics: Metrics) -> Result<Bus, ConnectError> {
    let addresses = settings.url.iter().map(|url| url.parse::<ServerAddr>());
    let addresses: Vec<ServerAddr> = addresses
        .collect::<Result<_, _>>()
        .map_err(|error| ConnectError::Url(error.to_string()))?;
    let (tell, state) = watch::channel(NatsState::Away("not connected yet".into()));
    let told = Arc::new(tell);
    let (denied, denials) = watch::channel((0, String::new()));
    let (deafened, deaf) = watch::channel((0, String::new()));
    let (muted, mute) = watch::channel((0, String::new()));
    let denied = Denied {
        any: denied,
        listening: deafened,
        telling: muted,
        listened: listened(&settings.subjects).map(|subject| format!("\"{subject}\"")),
    };
    let (counted, seldom) = (metrics.clone(), Refusals::new(metrics.clone()));
    let log_in = LogIn::new(settings);
    let options = options(&log_in, settings)
        .await?
        .name("oc-discovery")
        .no_echo()
        .retry_on_initial_connect()
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .client_capacity(CLIENT_CAPACITY)
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(10))
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(move |event| {
            on_event(&event, &told, &log_in, (&denied, &counted, &seldom));
            std::future::ready(())
        });
    let client = options
        .connect(addresses)
        .await
        .map_err(|error| ConnectError::Client(error.to_string()))?;
    Ok(Bus::new(
        client,
        state,
        (denials, deaf, mute),
        Arc::new(settings.subjects.clone()),
        limits.nats_publish_timeout,
        metrics,
    ))
}

/// The first attempt at once, then doubling to [`RECONNECT_MAX`] with half of each pause left to chance, so that the
/// daemons of a site do not all return in the same instant.
fn reconnect_delay(attempts: usize) -> Duration {
    if attempts <= 1 {
        return Duration::ZERO;
    }
    let exponent = u32::try_from(attempts - 2).unwrap_or(u32::MAX).min(10);
    let full = Duration::from_millis(100)
        .saturating_mul(2u32.saturating_pow(exponent))
        .min(RECONNECT_MAX);
    full.mul_f64(rand::thread_rng().gen_range(0.5..1.0))
}

/// Where it is told that NATS has forbidden something.
struct Denied {
    any: watch::Sender<(u64, String)>,
    /// The same of subscriptions to the subjects listened to.
    listening: watch::Sender<(u64, String)>,
    /// The same of what is published on them.
    telling: watch::Sender<(u64, String)>,
    /// Those, as the server writes them.
    listened: [String; 3],
}

impl Denied {
    fn tell(&self, said: &str) {
        let count = |(times, last): &mut (u64, String)| {
            *times += 1;
            said.clone_into(last);
        };
        self.any.send_modify(count);
        let of_ours = self.listened.iter().any(|subject| said.contains(subject));
        let lower = said.to_lowercase();
        if of_ours && lower.contains("violation for subscription") {
            self.listening.send_modify(count);
        }
        if of_ours && lower.contains("violation for publish") {
            self.telling.send_modify(count);
        }
    }
}

fn on_event(
    event: &Event,
    state: &watch::Sender<NatsState>,
    log_in: &LogIn,
    (denied, metrics, seldom): (&Denied, &Metrics, &Refusals),
) {
    match event {
        Event::Connected => {
            info!("NATS is connected");
            state.send_replace(NatsState::Connected);
        }
        Event::Disconnected => away(state, "the connection to NATS was lost".into()),
        // Only ever our own doing, at the end.
        Event::Closed => debug!("the NATS client is closed"),
        Event::LameDuckMode => info!("the NATS server is about to stop and asks its clients to move"),
        Event::SlowConsumer(_) => metrics.dropped("nats_subscription", "full"),
        Event::ServerError(error) => {
            let said = error.to_string();
            // What is forbidden is asked for again every few seconds, for as long as it is needed.
            seldom.heard("NATS reports an error", "nats_error", &said, &said);
            if said.to_lowercase().contains("permissions violation") {
                denied.tell(&said);
            }
        }
        // The client's own words for it are of a signature.
        Event::ClientError(error) => match log_in.failed() {
            Some(why) => away(state, format!("NATS cannot be logged in to: {why}")),
            None => away(state, format!("NATS cannot be reached: {error}")),
        },
        Event::Draining => debug!("NATS is draining"),
    }
}

/// Not connected, for a reason. Said once a change, not once an attempt.
fn away(state: &watch::Sender<NatsState>, why: String) {
    let changed = state.send_if_modified(|state| match state {
        NatsState::Away(known) if *known == why => false,
        // An error that is told while the connection stands does not end it.
        NatsState::Connected if why.starts_with("NATS cannot") => false,
        _ => {
            *state = NatsState::Away(why.clone());
            true
        }
    });
    if changed {
        warn!(%why, "NATS is away; trying again for ever");
    }
}

/// Options with the operator's log-in and certificates. The latter are read by the client, at each connection.
async fn options(log_in: &LogIn, nats: &NatsSettings) -> Result<ConnectOptions, ConnectError> {
    let mut options = log_in.options().await?;
    if let Some(path) = &nats.tls.ca_file {
        readable("nats.tls.ca_file", path).await?;
        options = options.add_root_certificates(path.clone()).require_tls(true);
    }
    if let (Some(cert), Some(key)) = (&nats.tls.cert_file, &nats.tls.key_file) {
        readable("nats.tls.cert_file", cert).await?;
        readable("nats.tls.key_file", key).await?;
        options = options
            .add_client_certificate(cert.clone(), key.clone())
            .require_tls(true);
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::heard::Heard;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn the_first_attempt_is_immediate_and_the_pause_never_passes_its_bound() {
        assert_eq!(reconnect_delay(0), Duration::ZERO);
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        assert!((2..10_000).all(|n| reconnect_delay(n) <= RECONNECT_MAX && !reconnect_delay(n).is_zero()));
    }

    #[test]
    fn what_nats_says_again_and_again_is_logged_once_and_counted_each_time() {
        let heard = Heard::default();
        let writer = heard.clone();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let (state, _seen) = watch::channel(NatsState::Connected);
        let (any, denials) = watch::channel((0, String::new()));
        let denied = Denied {
            any,
            listening: watch::Sender::default(),
            telling: watch::Sender::default(),
            listened: Default::default(),
        };
        let metrics = Metrics::new();
        let seldom = Refusals::new(metrics.clone());
        let forbidden = r#"Permissions Violation for Publish to "$JS.API.INFO""#;
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            for said in [forbidden, forbidden, "something else", forbidden] {
                let event = Event::ServerError(async_nats::ServerError::Other(said.to_owned()));
                on_event(&event, &state, &LogIn::default(), (&denied, &metrics, &seldom));
            }
        });
        let text = heard.text();
        assert_eq!(text.matches("NATS reports an error").count(), 2, "{text}");
        assert!(
            text.contains("$JS.API.INFO") && text.contains("something else"),
            "{text}"
        );
        assert_eq!(denials.borrow().0, 3);
        assert!(
            !metrics.encode().contains("rule=\"nats_error\""),
            "nothing was refused by us"
        );
    }

    #[test]
    fn an_error_told_while_connected_does_not_end_the_connection() {
        let (state, seen) = watch::channel(NatsState::Connected);
        away(&state, "NATS cannot be reached: x".into());
        assert_eq!(*seen.borrow(), NatsState::Connected);
        away(&state, "the connection to NATS was lost".into());
        assert!(matches!(*seen.borrow(), NatsState::Away(_)));
    }
}
