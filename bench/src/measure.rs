//! Sends 1 KB creates into one NATS and times their arrival at another. Knows nothing of what lies between the two.

use anyhow::{Context, Result, ensure};
use async_nats::Client;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use oc_testkit::NatsServer;
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longest silence after which what has not arrived counts as lost.
const SILENCE: Duration = Duration::from_secs(5);

/// Messages that a client here holds: whatever is in flight in a burst, and then some.
const CLIENT_HOLDS: usize = 1_000_000;

/// Messages sent to find out whether the way is open, in all runs.
static WARM_UPS: AtomicUsize = AtomicUsize::new(0);

/// The payloads that arrive at B.
pub type Arrivals = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// One way from NATS A to NATS B.
pub struct Way {
    a: Client,
    from: String,
    did: String,
    arrivals: Arrivals,
}

/// What came of what was sent before.
pub struct Arrived {
    /// Different ones.
    pub arrived: usize,
    /// When the last one came.
    pub last: Instant,
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
        let b = connect(b).await?;
        let arrivals = b.subscribe(to.to_owned()).await?;
        b.flush().await?;
        // The client lives as long as what it hears.
        let arrivals = arrivals.map(move |message| {
            let _client = &b;
            message.payload
        });
        Self::with_arrivals(a, from, did, Box::pin(arrivals)).await
    }

    /// From subject `from` at `a` to where `arrivals` come out. Waits until what is sent arrives: interest takes a while to
    /// reach a far server.
    pub async fn with_arrivals(a: &NatsServer, from: &str, did: &str, arrivals: Arrivals) -> Result<Self> {
        let mut way = Self {
            a: connect(a).await?,
            from: from.to_owned(),
            did: did.to_owned(),
            arrivals,
        };
        way.open().await?;
        Ok(way)
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

    async fn open(&mut self) -> Result<()> {
        let mut tries = 0;
        loop {
            // Another one each time: what is there already is not told again.
            let id = format!("warm-up-{}", WARM_UPS.fetch_add(1, Ordering::Relaxed));
            self.a.publish(self.from.clone(), self.message(&id).into()).await?;
            if self.next(Duration::from_millis(100)).await.is_some() {
                break;
            }
            tries += 1;
            ensure!(tries < 100, "nothing that is sent at A arrives at B");
        }
        while self.next(Duration::from_millis(100)).await.is_some() {}
        Ok(())
    }

    async fn next(&mut self, patience: Duration) -> Option<Bytes> {
        tokio::time::timeout(patience, self.arrivals.next())
            .await
            .ok()
            .flatten()
    }

    /// Sends so many, and waits for none.
    pub async fn send(&self, count: usize, run: &str) -> Result<()> {
        for n in 0..count {
            self.a
                .publish(self.from.clone(), self.message(&format!("{run}-{n}")).into())
                .await?;
        }
        self.a.flush().await?;
        Ok(())
    }

    /// Takes what arrives until so many have, or nothing does any more.
    pub async fn arrive(&mut self, count: usize) -> Result<Arrived> {
        let (mut payloads, mut last) = (Vec::with_capacity(count), Instant::now());
        while payloads.len() < count
            && let Some(payload) = self.next(SILENCE).await
        {
            last = Instant::now();
            payloads.push(payload);
        }
        // Reading ids is not part of the way, so it is not part of the time.
        let ids: Vec<Option<String>> = payloads.iter().map(|payload| Self::id_of(payload)).collect();
        ensure!(ids.iter().all(Option::is_some), "an arrival without an id");
        let different: HashSet<String> = ids.into_iter().flatten().collect();
        Ok(Arrived {
            arrived: different.len(),
            last,
        })
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
    pub async fn latency(&mut self, rounds: usize) -> Result<Latency> {
        let mut all = Vec::with_capacity(rounds);
        let run = WARM_UPS.fetch_add(1, Ordering::Relaxed);
        for round in 0..rounds + rounds / 10 {
            let message = self.message(&format!("latency-{run}-{round}"));
            let sent = Instant::now();
            self.a.publish(self.from.clone(), message.into()).await?;
            self.a.flush().await?;
            let arrived = self.next(SILENCE).await;
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
    pub async fn throughput(&mut self, count: usize, run: &str) -> Result<Throughput> {
        let messages: Vec<Bytes> = (0..count).map(|n| self.message(&format!("{run}-{n}")).into()).collect();
        let (client, subject) = (self.a.clone(), self.from.clone());
        let began = Instant::now();
        let sending = tokio::spawn(async move {
            for message in messages {
                client.publish(subject.clone(), message).await?;
            }
            client.flush().await?;
            anyhow::Ok(())
        });
        let Arrived { arrived, last } = self.arrive(count).await?;
        sending.await??;
        Ok(Throughput {
            sent: count,
            arrived,
            took: last.duration_since(began),
        })
    }
}

async fn connect(server: &NatsServer) -> Result<Client> {
    let options = server.connect_options().subscription_capacity(CLIENT_HOLDS);
    Ok(options.connect(server.url()).await?)
}
