//! One event and a burst from NATS A to NATS B: a JetStream mirror, a bare relay, and daemons that journal.

use crate::durable::acked;
use crate::measure::{Arrivals, Latency, Throughput, Way};
use crate::relay::{self, Relay};
use crate::{micros, pid, process, scenes, verdict};
use anyhow::{Context, Result};
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures::StreamExt;
use oc_testkit::{Federation, NatsOptions, NatsServer, free_port};
use std::path::Path;
use std::time::{Duration, Instant};

/// Events of a burst.
const BURST: usize = 50_000;
/// Bursts, of which the median counts.
const BURSTS: usize = 3;
/// Single events timed.
const ROUNDS: usize = 1_000;

/// Two servers, B's stream a mirror of A's.
struct Mirror {
    a: NatsServer,
    b: NatsServer,
}

impl Mirror {
    async fn start(dir: &Path) -> Result<Self> {
        let port = free_port();
        let block = |name: &str| {
            format!(
                "jetstream {{ domain: {name}, store_dir: \"{}\" }}\n",
                dir.join(name).display()
            )
        };
        let hub = format!("{}leafnodes {{ host: 127.0.0.1, port: {port} }}\n", block("hub"));
        let remote = format!("leafnodes {{ remotes: [ {{ url: \"nats-leaf://127.0.0.1:{port}\" }} ] }}\n");
        let leaf = format!("{}{remote}", block("leaf"));
        let server = |name: &str, extra| {
            let options = NatsOptions {
                extra,
                ..NatsOptions::default()
            };
            NatsServer::new(name, &dir.join(format!("nats-{name}")), options)
        };
        let (mut a, mut b) = (server("hub", hub), server("leaf", leaf));
        a.start().await;
        b.start().await;
        let at_a = jetstream::new(a.connect_options().connect(a.url()).await?);
        at_a.create_stream(stream::Config {
            name: "EVENTS".into(),
            subjects: vec!["propalgation_event".into()],
            ..stream::Config::default()
        })
        .await?;
        let at_b = jetstream::new(b.connect_options().connect(b.url()).await?);
        at_b.create_stream(stream::Config {
            name: "MIRROR".into(),
            mirror: Some(stream::Source {
                name: "EVENTS".into(),
                external: Some(stream::External {
                    api_prefix: "$JS.hub.API".into(),
                    delivery_prefix: None,
                }),
                ..stream::Source::default()
            }),
            ..stream::Config::default()
        })
        .await?;
        Ok(Self { a, b })
    }

    async fn way(&self) -> Result<Way> {
        let at_b = jetstream::new(self.b.connect_options().connect(self.b.url()).await?);
        let config = pull::OrderedConfig {
            deliver_policy: DeliverPolicy::New,
            ..pull::OrderedConfig::default()
        };
        let consumer = at_b.get_stream("MIRROR").await?.create_consumer(config).await?;
        let messages = consumer.messages().await?;
        let arrivals = messages.filter_map(|message| async { message.ok().map(|message| message.message.payload) });
        let arrivals: Arrivals = Box::pin(arrivals);
        Way::with_arrivals(&self.a, "propalgation_event", "somebody", arrivals).await
    }
}

fn with_jetstream() -> NatsOptions {
    NatsOptions {
        jetstream: true,
        ..NatsOptions::default()
    }
}

/// Latency and throughput, each as far as its own proof goes.
pub async fn carry() -> Result<()> {
    println!("== journaled: one event from NATS A to NATS B, and a burst of {BURST}");
    println!(
        "{:44} {:>9} {:>9} {:>11} {:>9}",
        "", "p50 us", "p99 us", "events/s", "lost"
    );
    let net = Federation::new();
    let mut mirror = Mirror::start(net.dir()).await?;
    let mut way = mirror.way().await?;
    let base = way.latency(ROUNDS).await?;
    let pids = [
        ("its server A", server_pid(&mut mirror.a)?),
        ("B", server_pid(&mut mirror.b)?),
    ];
    let used = Used::begin(&pids)?;
    let base_burst = bursts(&mut way, "mirror", async || Ok(())).await?;
    line("JetStream mirror between two servers", &base, &base_burst.0);
    used.tell()?;
    drop((way, mirror));
    for (jetstream, name) in [
        (true, "bare relay, from JetStream"),
        (false, "bare relay, from core NATS"),
    ] {
        bare(jetstream, name, &base, &base_burst.0).await?;
    }
    for (jetstream, name) in [
        (true, "daemons, intake from JetStream"),
        (false, "daemons, intake from core NATS"),
    ] {
        let net = Federation::new();
        let options = if jetstream {
            with_jetstream()
        } else {
            NatsOptions::default()
        };
        let (mut a, mut b) = scenes::apps_pair(&net, options).await;
        let mut way = scenes::way(&mut a, &mut b).await?;
        let latency = way.latency(ROUNDS).await?;
        let pids = [
            ("server A", server_pid(a.nats_server())?),
            ("daemon A", pid(&mut a)),
            ("daemon B", pid(&mut b)),
            ("server B", server_pid(b.nats_server())?),
        ];
        let used = Used::begin(&pids)?;
        let (burst, acked_each) = bursts(&mut way, "burst", async || acked(&a, &b).await).await?;
        line(name, &latency, &burst);
        used.tell()?;
        let p50 = micros(latency.quantile(0.5)) / micros(base.quantile(0.5));
        println!(
            "  ratio to the mirror: p50 {p50:.2}x (target 1x, 1.5x on the way: {}), throughput {:.2}x (target 1x: {})",
            verdict(p50 <= 1.5),
            burst.per_second() / base_burst.0.per_second(),
            verdict(burst.per_second() >= base_burst.0.per_second())
        );
        println!(
            "  acknowledged, on both disks: {acked_each:.0} events/s; lost: {}",
            burst.sent - burst.arrived
        );
        if !jetstream {
            let bytes = std::fs::metadata(a.dir().join("journal.db"))?.len();
            println!(
                "  journal of the sender: {} bytes a key of 1 KB",
                bytes / (BURST * BURSTS + ROUNDS) as u64
            );
        }
    }
    println!();
    Ok(())
}

/// What no daemon can be better than here: see [`relay`].
async fn bare(jetstream: bool, name: &str, base: &Latency, base_burst: &Throughput) -> Result<()> {
    let net = Federation::new();
    let server = |name: &str, jetstream| {
        let options = NatsOptions {
            jetstream,
            ..NatsOptions::default()
        };
        NatsServer::new(name, &net.dir().join(name), options)
    };
    let (mut a, mut b) = (server("a", jetstream), server("b", false));
    a.start().await;
    b.start().await;
    if jetstream {
        let context = jetstream::new(a.connect_options().connect(a.url()).await?);
        let config = stream::Config {
            name: relay::STREAM.into(),
            subjects: vec![relay::SUBJECT.into()],
            ..stream::Config::default()
        };
        context.create_stream(config).await?;
    }
    let relay = Relay::start(&a, &b, free_port(), jetstream)?;
    let [out, into] = relay.pids()?;
    let mut way = Way::between(&a, &b, relay::SUBJECT, relay::SUBJECT, "somebody").await?;
    let latency = way.latency(ROUNDS).await?;
    let pids = [
        ("server A", server_pid(&mut a)?),
        ("relay A", out),
        ("relay B", into),
        ("server B", server_pid(&mut b)?),
    ];
    let used = Used::begin(&pids)?;
    let (burst, _) = bursts(&mut way, "bare", async || Ok(())).await?;
    line(name, &latency, &burst);
    used.tell()?;
    let p50 = micros(latency.quantile(0.5)) / micros(base.quantile(0.5));
    let throughput = burst.per_second() / base_burst.per_second();
    println!("  ratio to the mirror: p50 {p50:.2}x, throughput {throughput:.2}x");
    Ok(())
}

/// Several bursts, `acked` after each: the median one, and of all how many a second were through with that.
async fn bursts(way: &mut Way, run: &str, acked: impl AsyncFn() -> Result<()>) -> Result<(Throughput, f64)> {
    let (mut all, mut took) = (Vec::new(), Duration::ZERO);
    for n in 0..BURSTS {
        let began = Instant::now();
        all.push(way.throughput(BURST, &format!("{run}-{n}")).await?);
        acked().await?;
        took += began.elapsed();
    }
    all.sort_by(|one, other| one.per_second().total_cmp(&other.per_second()));
    let median = all.into_iter().nth(BURSTS / 2).context("no burst")?;
    Ok((median, (BURST * BURSTS) as f64 / took.as_secs_f64()))
}

/// Processor time of several processes and of the measuring one.
struct Used(Vec<(&'static str, i32, Duration)>);

impl Used {
    fn begin(pids: &[(&'static str, i32)]) -> Result<Self> {
        let own = i32::try_from(std::process::id())?;
        let all = pids.iter().copied().chain([("client", own)]);
        let all = all.map(|(name, pid)| Ok((name, pid, process::cpu(pid)?)));
        Ok(Self(all.collect::<Result<_>>()?))
    }

    /// Prints what each used for an event of the bursts since the beginning.
    fn tell(&self) -> Result<()> {
        let each = self.0.iter().map(|(name, pid, before)| {
            let used = process::cpu(*pid)?.saturating_sub(*before);
            Ok(format!("{name} {:.1}", micros(used) / (BURST * BURSTS) as f64))
        });
        let each: Vec<String> = each.collect::<Result<_>>()?;
        println!("  processor time of one event, us: {}", each.join(", "));
        Ok(())
    }
}

fn server_pid(server: &mut NatsServer) -> Result<i32> {
    let process = server.process().context("the server does not run")?;
    Ok(process.pid().as_raw_nonzero().get())
}

fn line(name: &str, latency: &Latency, burst: &Throughput) {
    println!(
        "{name:44} {:9.0} {:9.0} {:11.0} {:9}",
        micros(latency.quantile(0.5)),
        micros(latency.quantile(0.99)),
        burst.per_second(),
        burst.sent - burst.arrived
    );
}
