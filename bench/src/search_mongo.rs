//! The same searches with documents in a server that speaks MongoDB's wire. It is no mongod: only what the daemons add to the
//! same query by the driver means anything.

use crate::asker::{Asker, Took};
use crate::documents;
use crate::pid;
use crate::process::resident_kib;
use crate::search::{MANY, PATIENCE, RESULTS, ROUNDS, Sort, asking, in_turn, most, partners_have};
use anyhow::{Result, ensure};
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::{Collection, Database};
use oc_discovery::wire::DataType;
use oc_testkit::{Federation, Mongo, Relation, connect, partners, peer_document, store_as_oc_lib};
use std::time::Instant;

/// Documents in the database, one step after another: what the test server can hold.
const SIZES: [u64; 2] = [10_000, 100_000];
/// Documents of one write.
const BATCH: u64 = 1_000;

/// Everything of this section.
pub async fn search() -> Result<()> {
    let net = Federation::new();
    let dir = net.dir().join("mongo");
    std::fs::create_dir_all(&dir)?;
    let Some(server) = Mongo::start(&dir).await else {
        return Ok(());
    };
    println!(
        "== search: documents in a server that speaks MongoDB's wire (no mongod); own: the same query by its driver"
    );
    let url = server.url("documents");
    let database = connect(&url).await;
    for (name, relation) in [("bob", Relation::Own), ("alice", Relation::Partner)] {
        let who = net.identity(name);
        store_as_oc_lib(&database, "peer", &who.did, &peer_document(&who, relation)).await;
    }
    let mut alice = asking(net.peer("alice").partner_of("bob")).start().await;
    let bob = asking(net.peer("bob"))
        .set("store.url", url)
        .set("store.manage_indexes", true);
    let mut bob = bob.start().await;
    partners(&[&alice, &bob]).await;
    let asker = alice.did().to_owned();
    let mut hears = Asker::at(&mut alice).await?;
    let mut from = 0;
    for size in SIZES.into_iter().filter(|size| *size <= most()) {
        fill(&database, bob.did(), from, size).await?;
        from = size;
        bob.stop().await;
        bob.restart().await;
        partners(&[&alice, &bob]).await;
        let before = resident_kib(pid(&mut bob))?;
        let who = (bob.did(), asker.as_str());
        println!("\n{size} resources");
        println!(
            "{:26} {:>10} {:>10} {:>12} {:>12} {:>9}",
            "ms, p50", "driver 1st", "last", "daemons 1st", "last", "results"
        );
        for sort in Sort::ALL {
            let own = async |text: String| by_driver(&database, who, &text).await;
            // One by one on a server that is slow: fewer rounds say enough.
            let both = in_turn(sort, size, ROUNDS / 3, own, &mut hears).await?;
            ensure!(both.found[1] > 0, "nothing was found");
            ensure!(
                both.found[0] == both.found[1],
                "these were not the same query: {:?}",
                both.found
            );
        }
        let took = hears.ask(&partners_have("", MANY), DataType::Invalid).await?;
        let rate = took.results as f64 / took.last.as_secs_f64();
        println!("  {} results through the daemons: {rate:.0} a second", took.results);
        let after = resident_kib(pid(&mut bob))?;
        println!("  resident: answerer {} MiB (before {})", after >> 10, before >> 10);
    }
    println!();
    Ok(())
}

async fn fill(database: &Database, creator: &str, from: u64, to: u64) -> Result<()> {
    for start in (from..to).step_by(BATCH as usize) {
        for kind in 1..=5 {
            let numbers = (start..(start + BATCH).min(to)).filter(|n| documents::kind(*n) == kind);
            let all = numbers.map(|n| {
                let (id, document) = documents::resource(creator, n);
                let document: serde_json::Value = serde_json::from_str(&document)?;
                let mut document = mongodb::bson::serialize_to_document(&document)?;
                document.insert("_id", id);
                anyhow::Ok(document)
            });
            let name = DataType::from_code(kind.into()).unwrap_or(DataType::Invalid).name();
            let all = all.collect::<Result<Vec<_>>>()?;
            database.collection::<Document>(name).insert_many(all).await?;
        }
    }
    Ok(())
}

/// A letter as a pattern that has to find it with any accent of the Latin alphabet.
fn folded(letter: char) -> String {
    let accents = match letter {
        'a' => "àáâãäåāăą",
        'c' => "çćĉċč",
        'd' => "ďđ",
        'e' => "èéêëēĕėęě",
        'g' => "ĝğġģ",
        'h' => "ĥħ",
        'i' => "ìíîïĩīĭį",
        'j' => "ĵ",
        'k' => "ķ",
        'l' => "ĺļľŀł",
        'n' => "ñńņň",
        'o' => "òóôõöøōŏő",
        'r' => "ŕŗř",
        's' => "śŝşš",
        't' => "ţťŧ",
        'u' => "ùúûüũūŭůűų",
        'w' => "ŵ",
        'y' => "ýÿŷ",
        'z' => "źżž",
        other => return other.to_string(),
    };
    format!("[{letter}{accents}]")
}

/// What a user would otherwise do: the documents of one creator that are public or shared with the asker, in one of whose
/// searched texts a word begins so, whatever its case and accents.
async fn by_driver(database: &Database, (did, asker): (&str, &str), text: &str) -> Result<Took> {
    let pattern: String = text.chars().map(folded).collect();
    let word = doc! { "$regex": format!("\\b{pattern}"), "$options": "i" };
    let began = Instant::now();
    let mut took = Took::default();
    'kinds: for kind in DataType::RESOURCE_KINDS {
        let documents: Collection<RawDocumentBuf> = database.collection(kind.name());
        let shared = doc! { format!("instances.partnerships.peer_groups.{asker}"): { "$exists": true } };
        let mut filter = doc! { "creator_id": did, "$and": [{ "$or": [{ "access_mode": 1 }, shared] }] };
        if !text.is_empty() {
            let fields = ["name", "description", "short_description"]
                .iter()
                .chain(kind.attributes());
            filter.insert(
                "$or",
                fields.map(|field| doc! { *field: word.clone() }).collect::<Vec<_>>(),
            );
        }
        let mut cursor = documents.find(filter).max_time(PATIENCE).await?;
        while cursor.advance().await? {
            if took.results == 0 {
                took.first = began.elapsed();
            }
            took.results += 1;
            if took.results == RESULTS {
                break 'kinds;
            }
        }
    }
    took.last = began.elapsed();
    Ok(took)
}
