//! What it costs that nothing is lost: journaled events beside a JetStream mirror, and the ways back after an absence.

use crate::carry;
use crate::process::{self, resident_kib};
use crate::scenes::{self, daemon, make_partners};
use crate::{pid, verdict};
use anyhow::{Context, Result, bail, ensure};
use oc_testkit::{DataType, Federation, Metrics, NatsOptions, Peer, Relation, peer_document};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Longest wait for a partner to have everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything of this section.
pub async fn durable(wanted: impl Fn(&str) -> bool) -> Result<()> {
    if wanted("carry") {
        carry::carry().await?;
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

/// Waits until `b` has acknowledged everything of `a`.
pub async fn acked(a: &Peer, b: &Peer) -> Result<()> {
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
