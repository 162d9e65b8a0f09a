//! What it costs that nothing is lost: journaled events beside a JetStream mirror, and the ways back after an absence.

use crate::measure::{Arrivals, Latency, Throughput, Way};
use crate::process::{self, resident_kib};
use crate::relay::{self, Relay};
use crate::scenes::{self, daemon, make_partners};
use crate::{micros, pid, verdict};
use anyhow::{Context, Result, bail, ensure};
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures::StreamExt;
use oc_testkit::{DataType, Federation, Metrics, NatsOptions, NatsServer, Peer, Relation, free_port, peer_document};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// Events of a burst.
const BURST: usize = 50_000;
/// Bursts, of which the median counts.
const BURSTS: usize = 3;
/// Single events timed.
const ROUNDS: usize = 1_000;
/// Longest wait for a partner to have everything.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Everything of this section.
pub async fn durable(wanted: impl Fn(&str) -> bool) -> Result<()> {
    if wanted("carry") {
        carry().await?;
    }
    if wanted("absence") {
        absence().await?;
        edits().await?;
    }
    if wanted("digest") {
        digest().await?;
    }
    if wanted("pending") {
        pending().await?;
    }
    Ok(())
}

/// Latency and throughput, each as far as its own proof goes.
async fn carry() -> Result<()> {
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

/// Waits until `b` has acknowledged everything of `a`.
async fn acked(a: &Peer, b: &Peer) -> Result<()> {
    let began = Instant::now();
    loop {
        let (_, body) = a.http("/status").await.context("no /status")?;
        let status: Value = serde_json::from_str(&body)?;
        let partners = status["partners"].as_array().cloned().unwrap_or_default();
        let done = partners
            .iter()
            .any(|partner| partner["did"] == b.did() && partner["lag_rows"] == 0 && partner["state"] == "tail");
        if done {
            return Ok(());
        }
        if began.elapsed() >= PATIENCE {
            let logs = b.logs();
            let last = logs.iter().rev().take(20).rev().cloned().collect::<Vec<_>>().join("\n");
            bail!("not everything was acknowledged: {body}\nthe receiver's last words:\n{last}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Events sent while the far daemon is dead.
async fn absence() -> Result<()> {
    const EVENTS: usize = 2_000;
    println!("== {EVENTS} events sent while the far daemon is dead");
    let net = Federation::new();
    let (mut a, mut b) = scenes::apps_pair(&net, NatsOptions::default()).await;
    let mut way = scenes::way(&mut a, &mut b).await?;
    way.latency(20).await?;
    b.kill9();
    way.send(EVENTS, "absent").await?;
    a.settled().await;
    b.run();
    b.wait_ready().await;
    let ready = Instant::now();
    let arrived = way.arrive(EVENTS).await?;
    println!(
        "{} of {EVENTS} arrived, the last {} ms after its ready",
        arrived.arrived,
        arrived.last.saturating_duration_since(ready).as_millis()
    );
    let in_time = arrived.last.saturating_duration_since(ready) < Duration::from_secs(1);
    println!(
        "  target all, within 1 s: {}\n",
        verdict(in_time && arrived.arrived == EVENTS)
    );
    Ok(())
}

/// Many edits of few keys while the far daemon is away.
async fn edits() -> Result<()> {
    const KEYS: usize = 5_000;
    const EDITS: usize = 20;
    println!("== {KEYS} keys edited {EDITS} times each while the far daemon is away");
    let net = Federation::new();
    let (mut a, mut b) = scenes::apps_pair(&net, NatsOptions::default()).await;
    let mut way = scenes::way(&mut a, &mut b).await?;
    way.latency(20).await?;
    b.stop().await;
    let before = sent(&a).await;
    for _ in 0..EDITS {
        way.send(KEYS, "edited").await?;
    }
    a.settled().await;
    b.run();
    b.wait_ready().await;
    let ready = Instant::now();
    way.arrive(KEYS).await?;
    acked(&a, &b).await?;
    let messages = sent(&a).await - before;
    println!(
        "{messages} messages, acknowledged {} ms after its ready; target {KEYS} at most: {}\n",
        ready.elapsed().as_millis(),
        verdict(messages <= KEYS as f64)
    );
    Ok(())
}

async fn sent(peer: &Peer) -> f64 {
    peer.metrics().await.sum("ocd_events_sent_total", &[])
}

fn bytes(metrics: &Metrics) -> f64 {
    metrics.sum("ocd_delivery_bytes_total", &[])
}

/// A comparison of long lists with few differences.
async fn digest() -> Result<()> {
    const KEYS: usize = 100_000;
    const DIFFERENCES: usize = 10;
    println!("== a comparison of {KEYS} keys with {DIFFERENCES} differences");
    let net = Federation::new();
    let (mut a, mut b) = scenes::pair(&net, scenes::Writes::Daemon).await;
    let mut way = scenes::way(&mut a, &mut b).await?;
    for part in 0..10 {
        way.throughput(KEYS / 10, &format!("listed-{part}")).await?;
    }
    acked(&a, &b).await?;
    b.stop().await;
    // As after a backup was restored: no place is known, and some documents are of another time.
    let journal = rusqlite::Connection::open(b.dir().join("journal.db"))?;
    journal.execute("DELETE FROM origin", [])?;
    let changed = journal.execute(
        "UPDATE held SET hash = zeroblob(16) WHERE id IN (SELECT id FROM held ORDER BY id LIMIT ?1)",
        [DIFFERENCES as i64],
    )?;
    drop(journal);
    let before = (bytes(&a.metrics().await), sent(&a).await);
    b.run();
    b.wait_ready().await;
    let began = Instant::now();
    loop {
        if sent(&a).await - before.1 >= changed as f64 {
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "the comparison did not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    acked(&a, &b).await?;
    let took = began.elapsed();
    let used = bytes(&a.metrics().await) - before.0;
    let messages = sent(&a).await - before.1;
    println!(
        "{} ms from its ready (waiting for the first try included), {:.0} KB, {messages} messages",
        took.as_millis(),
        used / 1e3
    );
    println!(
        "  target 2 s: {}; 5 MB: {}\n",
        verdict(took < Duration::from_secs(2)),
        verdict(used < 5e6)
    );
    Ok(())
}

/// Memory while nearly all partners are away and much waits for them.
async fn pending() -> Result<()> {
    const PARTNERS: usize = 100;
    const ROWS: usize = 50_000;
    println!(
        "== resident memory with {PARTNERS} partners, {} of them away, and {ROWS} rows pending",
        PARTNERS - 1
    );
    let net = Federation::new();
    let mut alice = daemon(&net, "alice").await;
    let mut bob = daemon(&net, "bob").await;
    make_partners(&[&alice, &bob]).await;
    for n in 1..PARTNERS {
        let away = net.identity(&format!("away-{n}"));
        let document = peer_document(&away, Relation::Partner);
        alice.create_resource(DataType::Peer, &document).await;
    }
    alice.settled().await;
    let mut way = scenes::way(&mut alice, &mut bob).await?;
    way.throughput(ROWS, "pending").await?;
    acked(&alice, &bob).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after_burst = resident_kib(pid(&mut alice))?;
    // What a burst leaves behind is the allocator's; what pending rows cost shows in a new life.
    alice.stop().await;
    alice.restart().await;
    acked(&alice, &bob).await?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let resident = resident_kib(pid(&mut alice))?;
    let cpu = process::cpu(pid(&mut alice))?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let idle = process::cpu(pid(&mut alice))?.saturating_sub(cpu);
    println!(
        "{after_burst} KiB right after the burst that made them, {resident} KiB after a restart; {:.1} % of a processor then",
        idle.as_secs_f64() / 10.0 * 100.0
    );
    println!("  target 40 MB: {}\n", verdict(resident < 40_000));
    Ok(())
}
