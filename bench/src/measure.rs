//! Sends 1 KB creates into one NATS and times their arrival at another. Knows nothing of what lies between the two.

use anyhow::{Context, Result, ensure};
use async_nats::{Client, Subscriber};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use oc_testkit::NatsServer;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longest silence after which what has not arrived counts as lost.
const SILENCE: Duration = Duration::from_secs(5);

/// Messages that a client here holds: whatever is in flight in a burst, and then some.
const CLIENT_HOLDS: usize = 1_000_000;

/// Messages sent to find out whether the way is open, in all runs.
static WARM_UPS: AtomicUsize = AtomicUsize::new(0);

/// One way from NATS A to NATS B.
pub struct Way {
    a: Client,
    b: Client,
    from: String,
    to: String,
    did: String,
}

/// What a burst or a stream of events came to.
#[derive(Debug)]
pub struct Throughput {
    /// Events sent.
    pub sent: usize,
    /// Different ones that arrived.
    pub arrived: usize,
    /// From the first publish to the last arrival.
    pub took: Duration,
}

impl Throughput {
    /// Events that arrived in a second.
    pub fn per_second(&self) -> f64 {
        self.arrived as f64 / self.took.as_secs_f64()
    }
}

/// Latencies, sorted.
pub struct Latency(Vec<Duration>);

impl Latency {
    /// The `part` quantile, 0.0 to 1.0.
    pub fn quantile(&self, part: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        let index = (last as f64 * part).round() as usize;
        self.0.get(index).copied().unwrap_or_default()
    }
}

impl Way {
    /// From subject `from` at `a` to subject `to` at `b`; `did` is the sender's, the `creator_id` of the documents.
    pub async fn between(a: &NatsServer, b: &NatsServer, from: &str, to: &str, did: &str) -> Result<Self> {
        let connect = |server: &NatsServer| {
            let (options, url) = (
                server.connect_options().subscription_capacity(CLIENT_HOLDS),
                server.url(),
            );
            async move { options.connect(url).await }
        };
        Ok(Self {
            a: connect(a).await?,
            b: connect(b).await?,
            from: from.to_owned(),
            to: to.to_owned(),
            did: did.to_owned(),
        })
    }

    /// A PB_CREATE of a document of 1 KB with this id, as an app writes it.
    fn message(&self, id: &str) -> Vec<u8> {
        let head = format!(
            r#"{{"id":"{id}","creator_id":"{}","name":"bench","description":""#,
            self.did
        );
        let document = format!("{head}{}\"}}", "x".repeat(1024usize.saturating_sub(head.len() + 2)));
        let inner = format!(
            r#"{{"datatype":4,"action":2,"payload":"{}"}}"#,
            STANDARD.encode(document)
        );
        format!(
            r#"{{"from_app":"bench","datatype":4,"user":"bench","groups":null,"method":0,"payload":"{}"}}"#,
            STANDARD.encode(inner)
        )
        .into_bytes()
    }

    /// Subscribes at B and waits until what is sent at A arrives there: interest takes a while to reach a far server.
    async fn listen(&self) -> Result<Subscriber> {
        let mut arrivals = self.b.subscribe(self.to.clone()).await?;
        self.b.flush().await?;
        let mut tries = 0;
        loop {
            // Another one each time: what is there already is not told again.
            let id = format!("warm-up-{}", WARM_UPS.fetch_add(1, Ordering::Relaxed));
            self.a.publish(self.from.clone(), self.message(&id).into()).await?;
            if tokio::time::timeout(Duration::from_millis(100), arrivals.next())
                .await
                .is_ok()
            {
                break;
            }
            tries += 1;
            ensure!(tries < 100, "nothing that is sent at A arrives at B");
        }
        while tokio::time::timeout(Duration::from_millis(100), arrivals.next())
            .await
            .is_ok()
        {}
        Ok(arrivals)
    }

    /// The id inside what arrived: behind a leafnode the message as it was sent, behind a daemon the document's envelope.
    fn id_of(payload: &[u8]) -> Option<String> {
        let envelope: serde_json::Value = serde_json::from_slice(payload).ok()?;
        let mut inner: serde_json::Value =
            serde_json::from_slice(&STANDARD.decode(envelope.get("payload")?.as_str()?).ok()?).ok()?;
        if let Some(deeper) = inner.get("payload").and_then(|payload| payload.as_str()) {
            inner = serde_json::from_slice(&STANDARD.decode(deeper).ok()?).ok()?;
        }
        Some(inner.get("id")?.as_str()?.to_owned())
    }

    /// One event at a time, each sent when the one before has arrived and a short pause is over.
    pub async fn latency(&self, rounds: usize) -> Result<Latency> {
        let mut arrivals = self.listen().await?;
        let mut all = Vec::with_capacity(rounds);
        for round in 0..rounds + rounds / 10 {
            let message = self.message(&format!("latency-{round}"));
            let sent = Instant::now();
            self.a.publish(self.from.clone(), message.into()).await?;
            self.a.flush().await?;
            let arrived = tokio::time::timeout(SILENCE, arrivals.next()).await;
            arrived.context("an event of the latency run did not arrive")?;
            // The first tenth warms everything up.
            if round >= rounds / 10 {
                all.push(sent.elapsed());
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        all.sort_unstable();
        Ok(Latency(all))
    }

    /// `count` events as fast as the client sends them.
    pub async fn throughput(&self, count: usize, run: &str) -> Result<Throughput> {
        let messages: Vec<Bytes> = (0..count).map(|n| self.message(&format!("{run}-{n}")).into()).collect();
        let mut arrivals = self.listen().await?;
        let counting = tokio::spawn(async move {
            let mut payloads = Vec::with_capacity(count);
            let mut last = Instant::now();
            while payloads.len() < count {
                match tokio::time::timeout(SILENCE, arrivals.next()).await {
                    Ok(Some(message)) => {
                        last = Instant::now();
                        payloads.push(message.payload);
                    }
                    _ => break,
                }
            }
            (payloads, last)
        });
        let began = Instant::now();
        for message in messages {
            self.a.publish(self.from.clone(), message).await?;
        }
        self.a.flush().await?;
        let (payloads, last) = counting.await?;
        // Reading ids is not part of the way, so it is not part of the time.
        let different: HashSet<String> = payloads.iter().filter_map(|payload| Self::id_of(payload)).collect();
        ensure!(
            payloads.iter().all(|payload| Self::id_of(payload).is_some()),
            "an arrival without an id"
        );
        Ok(Throughput {
            sent: count,
            arrived: different.len(),
            took: last.duration_since(began),
        })
    }
}
