//! Finding others: look-ups by each way, what an indexer takes, and what records and connections cost it.

use crate::asker::Asker;
use crate::crowd::{Member, record};
use crate::{micros, pid, process, verdict};
use anyhow::{Context, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use libp2p::pnet::PreSharedKey;
use oc_discovery::wire::DataType;
use oc_testkit::{Federation, Peer, Relation};
use serde_json::json;
use std::time::{Duration, Instant};

/// Peers of the crowd, each with a connection.
const MEMBERS: usize = 500;
/// Heartbeats of each, written at once: as many as an indexer takes of one peer at once.
const BEATS: usize = 20;
/// Records published beside those of the crowd.
const RECORDS: usize = 10_000;
/// Look-ups timed.
const LOOK_UPS: usize = 500;

/// All of it.
///
/// # Errors
/// When something does not work as it should.
pub async fn discovery() -> Result<()> {
    println!("== finding others");
    let net = Federation::new();
    let mut index = net.peer("index").deaf().set("log.level", "warn");
    for (key, value) in [
        ("limits.connections", 20_000),
        ("discovery.records", 100_000),
        ("discovery.records_of_address", 100_000),
    ] {
        index = index.set(key, value);
    }
    let mut index = index.set("discovery.role", "indexer").start().await;
    let psk: PreSharedKey = std::fs::read_to_string(net.psk_file())?.parse()?;
    let address: Multiaddr = index.identity().stream_address().parse()?;

    let before = process::resident_kib(pid(&mut index))?;
    let mut crowd = connect(psk, &address).await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let connected = process::resident_kib(pid(&mut index))?;
    let each = connected.saturating_sub(before) as f64 / MEMBERS as f64;
    println!("a connected node: {each:.0} KiB resident ({MEMBERS} connections)");

    beats(&mut crowd, &mut index).await?;
    let dids = records(&mut crowd, &mut index).await?;
    look_ups(&net, &index, &dids).await?;
    drop(crowd);
    by_dht(&net, index).await?;
    quarantine(&net, psk).await
}

async fn connect(psk: PreSharedKey, address: &Multiaddr) -> Result<Vec<Member>> {
    let Some(Protocol::P2p(at)) = address.iter().last() else {
        anyhow::bail!("no PeerId in {address}");
    };
    let mut crowd = Vec::new();
    // No more at once than one address may have handshakes under way; the far side is done later than this one.
    for _ in 0..MEMBERS / 5 {
        let five = (0..5).map(|_| Member::connect(psk, address.clone(), at));
        for member in futures::future::join_all(five).await {
            crowd.push(member?);
        }
    }
    Ok(crowd)
}

async fn beats(crowd: &mut [Member], index: &mut Peer) -> Result<()> {
    let mut written = Vec::new();
    for member in crowd.iter() {
        let peer = member.key.public().to_peer_id();
        let did = format!("did:{peer}");
        let mut lines = Vec::new();
        for n in 0..BEATS {
            let record = record(&member.key, &did, "member", Duration::from_millis(n as u64))?;
            lines.push(format!(
                r#"{{"name":"member","did":"{did}","peer_id":"{peer}","record":{record}}}"#
            ));
        }
        written.push(lines);
    }
    let used = process::cpu(pid(index))?;
    let began = Instant::now();
    let mut all: FuturesUnordered<_> = crowd
        .iter_mut()
        .zip(&written)
        .map(|(member, lines)| member.exchange("/opencloud/heartbeat/1.0", lines))
        .collect();
    let mut taken = 0;
    while let Some(answers) = all.next().await {
        taken += answers?.iter().filter(|line| line.contains("\"ok\":true")).count();
    }
    let took = began.elapsed();
    let used = process::cpu(pid(index))? - used;
    let rate = taken as f64 / took.as_secs_f64();
    println!(
        "heartbeats with a signed record: {taken} taken, {rate:.0}/s, {:.0} us of a processor each (the crowd on the same two)",
        micros(used) / taken as f64
    );
    println!("  target 5,000/s: {}", verdict(rate >= 5_000.0));
    Ok(())
}

async fn records(crowd: &mut [Member], index: &mut Peer) -> Result<Vec<String>> {
    let mut dids = Vec::new();
    let mut written = Vec::new();
    let each = RECORDS / crowd.len();
    for _ in crowd.iter() {
        let mut lines = Vec::new();
        for _ in 0..each {
            let key = libp2p::identity::Keypair::generate_ed25519();
            let did = format!("did:{}", key.public().to_peer_id());
            lines.push(record(
                &key,
                &did,
                &format!("organisation {}", dids.len()),
                Duration::ZERO,
            )?);
            dids.push(did);
        }
        written.push(lines);
    }
    // Their rates have recovered.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let before = process::resident_kib(pid(index))?;
    let mut all: FuturesUnordered<_> = crowd
        .iter_mut()
        .zip(&written)
        .map(|(member, lines)| member.exchange("/opencloud/record/publish/1.0", lines))
        .collect();
    let mut taken = 0;
    while let Some(answers) = all.next().await {
        taken += answers?.iter().filter(|line| line.contains("\"ok\":true")).count();
    }
    let after = process::resident_kib(pid(index))?;
    let each = after.saturating_sub(before) as f64 / taken as f64;
    println!("memory of a record: {each:.2} KiB resident ({taken} records)");
    println!("  target 2 KiB: {}", verdict(each < 2.0));
    Ok(dids)
}

/// The time from the app's question to its answer.
async fn timed(app: &mut Asker, keys: &[String]) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for key in keys {
        let took = app.ask(&json!({"search": key}), DataType::Peer).await?;
        anyhow::ensure!(took.results > 0, "{key} was not found");
        times.push(took.last);
    }
    times.sort_unstable();
    Ok(times)
}

fn told(way: &str, times: &[Duration]) -> f64 {
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    println!("{way:44} p50 {:7.0} us, p99 {:7.0} us", micros(at(50)), micros(at(99)));
    micros(at(50))
}

async fn look_ups(net: &Federation, index: &Peer, dids: &[String]) -> Result<()> {
    let mut alice = net
        .peer("alice")
        .set("log.level", "warn")
        .set("discovery.indexers", json!([index.identity().stream_address()]))
        .knows("index", Relation::None)
        .start()
        .await;
    alice
        .wait_metric("ocd_indexers", &[("state", "kept")], |kept| kept == 1.0)
        .await;
    let mut app = Asker::at(&mut alice).await?;
    let stored = vec![index.did().to_owned(); LOOK_UPS];
    println!("look-ups, from an app's question on NATS to the end of its search:");
    told("  in the store", &timed(&mut app, &stored).await?);
    let some = dids.get(..LOOK_UPS).context("records to look for")?;
    let p50 = told("  at the indexer", &timed(&mut app, some).await?);
    told("  in the cache", &timed(&mut app, some).await?);
    println!("  target 5,000 us by an indexer: {}", verdict(p50 < 5_000.0));
    Ok(())
}

async fn by_dht(net: &Federation, mut index: Peer) -> Result<()> {
    let seed = json!([index.identity().stream_address()]);
    let mut peers = Vec::new();
    for n in 0..8 {
        let peer = net.peer(&format!("peer-{n}")).set("log.level", "warn");
        let peer = peer.set("discovery.indexers", seed.clone());
        let peer = match n {
            0 => peer.partner_of("peer-1"),
            1 => peer.partner_of("peer-0"),
            _ => peer,
        };
        peers.push(peer.start().await);
    }
    for peer in &peers {
        peer.wait_metric("ocd_dht_records", &[], |kept| kept >= 6.0).await;
    }
    index.kill9();
    let (first, others) = peers.split_first_mut().context("peers")?;
    let mut times = Vec::new();
    for _ in 0..5 {
        // It remembers nobody but its partner.
        first.stop().await;
        std::fs::remove_file(first.dir().join("records.jsonl"))?;
        first.restart().await;
        let partner = &others.first().context("a partner")?.identity().clone();
        first.wait_partner_up(partner).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let keys: Vec<String> = others.iter().skip(1).map(|peer| peer.did().to_owned()).collect();
        let mut app = Asker::at(first).await?;
        for key in &keys {
            let began = Instant::now();
            while app.ask(&json!({"search": key}), DataType::Peer).await?.results == 0 {
                anyhow::ensure!(began.elapsed() < Duration::from_secs(60), "{key} is not in the DHT");
            }
            times.push(began.elapsed());
        }
    }
    times.sort_unstable();
    told("  by the DHT, no indexer, eight peers", &times);
    Ok(())
}

async fn quarantine(net: &Federation, psk: PreSharedKey) -> Result<()> {
    let mut door = net
        .peer("door")
        .set("log.level", "warn")
        .set("discovery.unknown_peers", "refuse")
        .start()
        .await;
    let address: Multiaddr = door.identity().stream_address().parse()?;
    let (used, before) = (process::cpu(pid(&mut door))?, process::resident_kib(pid(&mut door))?);
    let began = Instant::now();
    let strangers = connect(psk, &address).await?;
    let took = began.elapsed();
    door.wait_metrics("all strangers to be refused", |metrics| {
        metrics.refused("unknown_peer") >= MEMBERS as f64
    })
    .await;
    let used = process::cpu(pid(&mut door))? - used;
    let after = process::resident_kib(pid(&mut door))?;
    println!(
        "a stranger that is looked up and refused: {:.2} ms of a processor, handshakes included; {:.1} KiB left resident \
         ({MEMBERS} in {:.1} s)\n",
        used.as_secs_f64() * 1e3 / MEMBERS as f64,
        after.saturating_sub(before) as f64 / MEMBERS as f64,
        took.as_secs_f64()
    );
    drop(strangers);
    Ok(())
}
