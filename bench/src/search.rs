//! What a search costs: in the store itself, and through two daemons, as the store grows.

use crate::asker::{Asker, Took};
use crate::documents::{self, BROAD};
use crate::process::resident_kib;
use crate::scenes::make_partners;
use crate::{pid, verdict};
use anyhow::{Context, Result, ensure};
use oc_discovery::store::{AskerId, Change, SearchQuery, SqliteStore, Store, Write};
use oc_discovery::wire::DataType;
use oc_testkit::{Federation, Peer, PeerBuilder, partners};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Resources in the store, one step after another.
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];
/// Results of one search.
pub const RESULTS: usize = 1_000;
/// Results of the long one.
pub const MANY: usize = 10_000;
/// Searches of each sort.
pub const ROUNDS: u64 = 21;
/// Documents of one write.
const BATCH: u64 = 1_000;
/// Longest wait for a search's end.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A sort of text.
#[derive(Debug, Clone, Copy)]
pub enum Sort {
    /// In twenty documents.
    Selective,
    /// In every tenth.
    Broad,
    /// The first letters of many words.
    Beginning,
    /// In all.
    Everything,
}

impl Sort {
    pub const ALL: [Self; 4] = [Self::Selective, Self::Broad, Self::Beginning, Self::Everything];

    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Selective => "a word of 20",
            Self::Broad => "a word of every tenth",
            Self::Beginning => "beginning of many words",
            Self::Everything => "no text: everything",
        }
    }

    /// The text of a round.
    pub fn text(self, round: u64, size: u64) -> String {
        match self {
            Self::Selective => documents::serial((round * 7919 * documents::SHARED) % size),
            Self::Broad => BROAD.to_owned(),
            Self::Beginning => "com".to_owned(),
            Self::Everything => String::new(),
        }
    }
}

/// Everything of this section.
pub async fn search() -> Result<()> {
    println!("== search: the embedded store, and two daemons over libp2p; results at most {RESULTS}");
    let net = Federation::new();
    let (mut alice, mut bob) = asking_pair(&net).await?;
    let mut hears = Asker::at(&mut alice).await?;
    let mut from = 0;
    for size in SIZES.into_iter().filter(|size| *size <= most()) {
        bob.stop().await;
        let path = bob.dir().join("documents.db");
        let began = Instant::now();
        fill(&path, bob.did(), from, size).await?;
        println!(
            "\n{size} resources ({:.0} a second written, {} MiB on the disk)",
            (size - from) as f64 / began.elapsed().as_secs_f64(),
            std::fs::metadata(&path)?.len() >> 20
        );
        from = size;
        bob.restart().await;
        partners(&[&alice, &bob]).await;
        let before = (resident_kib(pid(&mut alice))?, resident_kib(pid(&mut bob))?);
        println!(
            "{:26} {:>10} {:>10} {:>12} {:>12} {:>9}",
            "ms, p50", "store 1st", "last", "daemons 1st", "last", "results"
        );
        let store = SqliteStore::open(&path)?;
        for sort in Sort::ALL {
            sorts(sort, size, &store, bob.did(), &mut hears).await?;
        }
        drop(store);
        many(&mut hears).await?;
        println!(
            "  resident: asker {} MiB (before {}), answerer {} MiB (before {})",
            resident_kib(pid(&mut alice))? >> 10,
            before.0 >> 10,
            resident_kib(pid(&mut bob))? >> 10,
            before.1 >> 10
        );
    }
    println!();
    Ok(())
}

async fn sorts(sort: Sort, size: u64, store: &SqliteStore, did: &str, hears: &mut Asker) -> Result<()> {
    let own = async |text: String| in_store(store, did, &text).await;
    let both = in_turn(sort, size, ROUNDS, own, hears).await?;
    let [here, there] = both.found;
    ensure!(here == there, "the store finds {here}, the daemons {there}");
    println!("  store's first under 10 ms: {}", verdict(ms(both.own.first) < 10.0));
    Ok(())
}

/// The same searches there and here.
pub struct Both {
    pub own: Took,
    /// Results of all rounds: of the store's own, of the daemons'.
    pub found: [usize; 2],
}

/// Asks the store itself and the daemons in turn, and prints the row.
pub async fn in_turn(
    sort: Sort,
    size: u64,
    rounds: u64,
    own: impl AsyncFn(String) -> Result<Took>,
    hears: &mut Asker,
) -> Result<Both> {
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let text = sort.text(round, size);
        here.push(own(text.clone()).await?);
        there.push(hears.ask(&partners_have(&text, RESULTS), DataType::Invalid).await?);
    }
    let found = [&here, &there].map(|all| all.iter().map(|took| took.results).sum());
    let (own, far) = (median(here), median(there));
    println!(
        "{:26} {:10.2} {:10.2} {:12.2} {:12.2} {:9}",
        sort.name(),
        ms(own.first),
        ms(own.last),
        ms(far.first),
        ms(far.last),
        far.results
    );
    let allowed = 1.5 * ms(own.last) + 5.0;
    println!(
        "  daemons' last {:.2}x the store's, at most 1.5x and 5 ms ({allowed:.1}): {}",
        ms(far.last) / ms(own.last),
        verdict(ms(far.last) <= allowed)
    );
    Ok(Both { own, found })
}

async fn many(hears: &mut Asker) -> Result<()> {
    let took = hears.ask(&partners_have("", MANY), DataType::Invalid).await?;
    let rate = took.results as f64 / took.last.as_secs_f64();
    println!(
        "  {} results through the daemons: {rate:.0} a second (target 50,000: {})",
        took.results,
        verdict(rate >= 50_000.0)
    );
    Ok(())
}

/// Two partners that may ask one another for much.
async fn asking_pair(net: &Federation) -> Result<(Peer, Peer)> {
    let mut peers = Vec::new();
    for name in ["alice", "bob"] {
        peers.push(asking(net.peer(name)).start().await);
    }
    let [alice, bob]: [Peer; 2] = peers.try_into().ok().context("two peers")?;
    make_partners(&[&alice, &bob]).await;
    Ok((alice, bob))
}

/// A peer that may ask for much, and answer much.
pub fn asking(peer: PeerBuilder<'_>) -> PeerBuilder<'_> {
    peer.deaf()
        .set("log.level", "info")
        .set("search.max_results", MANY as i64)
        .set("limits.answers_per_peer", MANY as i64)
        .set("limits.questions_per_second", 1_000)
        .set("limits.questions_burst", 1_000)
}

async fn fill(path: &Path, creator: &str, from: u64, to: u64) -> Result<()> {
    let store = SqliteStore::open(path)?;
    for start in (from..to).step_by(BATCH as usize) {
        let writes = (start..(start + BATCH).min(to)).map(|n| {
            let (id, document) = documents::resource(creator, n);
            Write {
                datatype: DataType::from_code(documents::kind(n).into()).unwrap_or(DataType::Invalid),
                id,
                change: Change::Put(document.into()),
                only_if_owner: None,
            }
        });
        store.apply(writes.collect()).await?;
    }
    Ok(())
}

async fn in_store(store: &SqliteStore, did: &str, text: &str) -> Result<Took> {
    let query = SearchQuery {
        text: text.to_owned(),
        datatypes: Vec::new(),
        own_did: did.to_owned(),
        asker: AskerId {
            did: "somebody".to_owned(),
            peer_id: None,
            trusted: true,
        },
        limit: RESULTS,
        deadline: Instant::now() + PATIENCE,
        cancel: CancellationToken::new(),
        room: None,
    };
    let began = Instant::now();
    let (out, mut found) = mpsc::channel(32);
    let taking = async {
        let mut took = Took::default();
        while found.recv().await.is_some() {
            if took.results == 0 {
                took.first = began.elapsed();
            }
            took.results += 1;
        }
        took.last = began.elapsed();
        took
    };
    let (done, took) = tokio::join!(store.search(query, out), taking);
    done?;
    Ok(took)
}

/// `MOST` in the environment: larger stores are left out.
pub fn most() -> u64 {
    let most = std::env::var("MOST").ok().and_then(|most| most.parse().ok());
    most.unwrap_or(u64::MAX)
}

/// The median of both times.
fn median(mut all: Vec<Took>) -> Took {
    let middle = all.len() / 2;
    all.sort_by_key(|took| took.first);
    let first = all.get(middle).map(|took| took.first).unwrap_or_default();
    all.sort_by_key(|took| took.last);
    Took {
        first,
        ..all.get(middle).copied().unwrap_or_default()
    }
}

/// In milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The question to partners for at most so many.
pub fn partners_have(text: &str, limit: usize) -> Value {
    json!({"type": "partner", "search": text, "limit": limit})
}
