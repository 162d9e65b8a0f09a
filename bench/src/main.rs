//! Measures the daemon beside what a user would otherwise pick, in one run, and prints ratios.
//!
//! `make bench` runs all of it; `make bench ONLY=latency` a part: durable (or of it carry, absence, digest, pending), discovery,
//! cipher, memory, start, fanout, search. Ratios mean something; single times on a shared machine mean little. Each section says its
//! target and whether it was met.

mod asker;
mod carry;
mod cipher;
mod crowd;
mod discovery;
mod documents;
mod durable;
mod measure;
mod process;
mod relay;
mod scenes;
mod search;
mod search_mongo;

use anyhow::Result;
use measure::{Latency, Throughput};
use oc_testkit::{DataType, Federation, Peer, Relation, peer_document};
use scenes::{Leafnode, Writes, daemon, make_partners, pair, way};
use std::time::{Duration, Instant};

/// Single events timed.
const ROUNDS: usize = 2_000;
/// Events of a burst.
const BURST: usize = 50_000;
/// Bursts of which the median counts.
const BURSTS: usize = 5;

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if relay::part(&words).await? {
        return Ok(());
    }
    let only = std::env::var("ONLY").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only == name;
    println!(
        "oc-discovery bench: {} processors, 1 KB documents, everything on this machine\n",
        cores()
    );
    if wanted("latency") {
        carry().await?;
    }
    durable::durable(|name| wanted("durable") || wanted(name)).await?;
    if wanted("discovery") {
        discovery::discovery().await?;
    }
    if wanted("cipher") {
        cipher::cipher();
    }
    if wanted("start") {
        start().await?;
    }
    if wanted("memory") {
        memory().await?;
    }
    if wanted("fanout") {
        fanout().await?;
    }
    if wanted("search") {
        search::search().await?;
    }
    if wanted("search") || wanted("search-mongo") {
        search_mongo::search().await?;
    }
    Ok(())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

/// One-way latency and throughput, beside a leafnode between two servers of the same binary.
async fn carry() -> Result<()> {
    println!("== one event from NATS A to NATS B, and bursts of {BURST}");
    println!(
        "{:34} {:>9} {:>9} {:>11} {:>9}",
        "", "p50 us", "p99 us", "events/s", "lost"
    );
    let net = Federation::new();
    let leafnode = Leafnode::start(net.dir()).await;
    let base = measured(&mut leafnode.way().await?).await?;
    row("leafnode (core NATS, no checks)", &base);
    drop(leafnode);
    for (writes, name) in [
        (Writes::Apps, "daemons, apps write the store"),
        (Writes::Daemon, "daemons, with the embedded store"),
    ] {
        let net = Federation::new();
        let (mut a, mut b) = pair(&net, writes).await;
        let found = measured(&mut way(&mut a, &mut b).await?).await?;
        row(name, &found);
        let p50 = micros(found.latency.quantile(0.5)) / micros(base.latency.quantile(0.5));
        let rate = found.rate() / base.rate();
        println!(
            "  ratio to the leafnode: p50 {p50:.2}x (target 1.5x at most: {}), throughput {rate:.2}x",
            verdict(p50 <= 1.5)
        );
        let fast = verdict(found.rate() >= 40_000.0);
        println!(
            "  target 40,000 events/s: {fast}; nothing lost: {}",
            verdict(found.lost() == 0)
        );
    }
    println!();
    Ok(())
}

struct Carried {
    latency: Latency,
    bursts: Vec<Throughput>,
}

impl Carried {
    /// The median burst's rate.
    fn rate(&self) -> f64 {
        let mut rates: Vec<f64> = self.bursts.iter().map(Throughput::per_second).collect();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or_default()
    }

    fn lost(&self) -> usize {
        self.bursts.iter().map(|burst| burst.sent - burst.arrived).sum()
    }
}

async fn measured(way: &mut measure::Way) -> Result<Carried> {
    let latency = way.latency(ROUNDS).await?;
    let mut bursts = Vec::new();
    for burst in 0..BURSTS {
        bursts.push(way.throughput(BURST, &format!("burst-{burst}")).await?);
    }
    Ok(Carried { latency, bursts })
}

fn row(name: &str, found: &Carried) {
    let (p50, p99) = (
        micros(found.latency.quantile(0.5)),
        micros(found.latency.quantile(0.99)),
    );
    println!("{name:34} {p50:9.0} {p99:9.0} {:11.0} {:9}", found.rate(), found.lost());
}

/// From the start of the process to `/readyz` saying 200.
async fn start() -> Result<()> {
    println!("== start to ready");
    let net = Federation::new();
    let mut peer = daemon(&net, "alice").await;
    let mut logged = Vec::new();
    let mut seen = Vec::new();
    for _ in 0..10 {
        peer.stop().await;
        let began = Instant::now();
        peer.run();
        peer.wait_ready().await;
        seen.push(began.elapsed());
        logged.push(after_ms(&peer));
    }
    seen.sort_unstable();
    logged.sort_unstable();
    let (own, outside) = (
        logged.get(5).copied().unwrap_or_default(),
        seen.get(5).copied().unwrap_or_default(),
    );
    println!(
        "median of 10: ready {own} ms after its start by its own clock, {} ms seen from outside",
        outside.as_millis()
    );
    println!(
        "  (outside includes the watcher's polling); target 50 ms: {}\n",
        verdict(own <= 50)
    );
    Ok(())
}

/// What the daemon's log says of its last start, in milliseconds.
fn after_ms(peer: &Peer) -> u64 {
    let logs = peer.logs();
    let line = logs
        .iter()
        .rev()
        .find_map(|line| line.split_once("after_ms=").map(|(_, rest)| rest.to_owned()));
    line.and_then(|rest| {
        rest.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .ok()
    })
    .unwrap_or(u64::MAX)
}

/// Resident memory at rest, with one partner, with a hundred.
async fn memory() -> Result<()> {
    println!("== resident memory of one daemon");
    let net = Federation::new();
    let mut alice = daemon(&net, "alice").await;
    let alone = resident(&mut alice).await?;
    let mut partners: Vec<Peer> = Vec::new();
    let mut with_one = 0;
    for n in 0..100 {
        let name = format!("partner-{n}");
        let mut builder = net.peer(&name).deaf().set("log.level", "warn");
        for subject in [
            "propalgation_event",
            "create_resource",
            "remove_resource",
            "search_event",
            "search_end",
        ] {
            // They share one NATS server, each with subjects of its own, as a hundred servers would not fit here.
            builder = builder.set(&format!("nats.subjects.{subject}"), format!("{name}.{subject}"));
        }
        let partner = builder.nats_of(&alice).start().await;
        let document = peer_document(alice.identity(), Relation::Partner);
        let message = Peer::envelope("oc-api", DataType::Peer, &document);
        partner
            .nats()
            .publish(format!("{name}.create_resource"), message.into())
            .await?;
        alice.tell_peer(partner.identity(), Relation::Partner).await;
        alice.wait_partner_up(partner.identity()).await;
        partners.push(partner);
        if n == 0 {
            with_one = resident(&mut alice).await?;
        }
    }
    let with_all = resident(&mut alice).await?;
    let each = with_all.saturating_sub(with_one) / 99;
    println!(
        "at rest {alone} KiB, with 1 partner {with_one} KiB, with 100 connected {with_all} KiB: {each} KiB a partner"
    );
    println!(
        "  target 20 MB at rest: {}; 96 KiB a partner: {}\n",
        verdict(alone < 20_000),
        verdict(each < 96)
    );
    Ok(())
}

async fn resident(peer: &mut Peer) -> Result<u64> {
    // Two heartbeats, so that what a new partner stirs up has settled.
    tokio::time::sleep(Duration::from_secs(6)).await;
    process::resident_kib(pid(peer))
}

fn pid(peer: &mut Peer) -> i32 {
    peer.daemon().pid().as_raw_nonzero().get()
}

/// Processor time of the sender for each event and further partner.
async fn fanout() -> Result<()> {
    println!("== processor time of the sending daemon for one event");
    let mut costs = Vec::new();
    for count in [1, 2, 4] {
        let net = Federation::new();
        let mut alice = daemon(&net, "alice").await;
        let mut others = Vec::new();
        for n in 0..count {
            others.push(daemon(&net, &format!("partner-{n}")).await);
        }
        let peers: Vec<&Peer> = std::iter::once(&alice).chain(&others).collect();
        make_partners(&peers).await;
        let Some(last) = others.last_mut() else { continue };
        let mut way = way(&mut alice, last).await?;
        let before = process::cpu(pid(&mut alice))?;
        way.throughput(BURST, "fanout").await?;
        let used = process::cpu(pid(&mut alice))? - before;
        let each = micros(used) / BURST as f64;
        println!("{count} partners: {each:.1} us an event");
        costs.push(each);
    }
    if let (Some(one), Some(four)) = (costs.first(), costs.last()) {
        println!("  each further partner costs {:.1} us an event\n", (four - one) / 3.0);
    }
    Ok(())
}
