//! Beside apps whose documents are in MongoDB, written as oc-lib writes them; and a database that goes and comes.

use oc_testkit::{
    DataType, Federation, Identity, Mongo, MongoDatabase, Peer, Relation, connect, partners, peer_document, public,
    resource, shared_with, store_as_oc_lib, until,
};
use serde_json::{Map, Value, json};
use std::time::Duration;

const CREATE: &str = "create_resource";

/// A document as the Go driver writes it: the header is a part of its own.
fn nested(document: Value, within: &[&str]) -> Value {
    let Value::Object(mut fields) = document else {
        panic!("a document is an object")
    };
    let header: Map<String, Value> = ["id", "name", "is_draft", "creator_id", "access_mode"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), fields.shift_remove(key)?)))
        .collect();
    let part = within.iter().rev().fold(
        json!({ "abstractobject": header }),
        |inner, name| json!({ *name: inner }),
    );
    fields.extend(part.as_object().unwrap().clone());
    Value::Object(fields)
}

/// The apps of a database write who somebody is.
async fn knows(database: &mongodb::Database, who: &Identity, relation: Relation) {
    let document = nested(peer_document(who, relation), &[]);
    store_as_oc_lib(database, "peer", &who.did, &document).await;
}

/// Alice and bob, whose apps say in their databases that they are partners; nobody says so on NATS.
async fn by_their_databases(net: &Federation) -> Option<(Peer, Peer, MongoDatabase, MongoDatabase)> {
    let (of_alice, of_bob) = (MongoDatabase::new().await?, MongoDatabase::new().await?);
    let (alice, bob) = (net.identity("alice"), net.identity("bob"));
    for (database, own, other) in [(&of_alice, &alice, &bob), (&of_bob, &bob, &alice)] {
        let database = database.connect().await;
        knows(&database, own, Relation::Own).await;
        knows(&database, other, Relation::Partner).await;
    }
    let alice = net.peer("alice").set("store.url", of_alice.url()).start().await;
    let bob = net.peer("bob").set("store.url", of_bob.url()).start().await;
    partners(&[&alice, &bob]).await;
    Some((alice, bob, of_alice, of_bob))
}

#[tokio::test]
async fn the_apps_documents_say_who_is_who_and_what_is_found() {
    let net = Federation::new();
    let Some((alice, bob, of_alice, of_bob)) = by_their_databases(&net).await else {
        return;
    };
    let gpu = resource(alice.did(), "gpu-1", "A graphics processor");
    alice.publish_create(DataType::Compute, &gpu).await;
    bob.expect_document(CREATE, "gpu-1").await;

    let apps = of_bob.connect().await;
    let within = ["abstractinstanciatedresource", "abstractresource"];
    let disk = public(resource(bob.did(), "disk-1", "Disque d'été"));
    store_as_oc_lib(&apps, "storage_resource", "disk-1", &nested(disk.clone(), &within)).await;
    let flat = public(resource(bob.did(), "disk-2", "A disk"));
    store_as_oc_lib(&apps, "storage_resource", "disk-2", &flat).await;
    store_as_oc_lib(
        &apps,
        "storage_resource",
        "disk-3",
        &resource(bob.did(), "disk-3", "A private disk"),
    )
    .await;
    let (results, end) = alice
        .search(DataType::Storage, json!({"type": "partner", "search": "dis"}))
        .await;
    let mut found: Vec<Value> = results.iter().map(|result| result.document()).collect();
    found.sort_by_key(|document| document["id"].to_string());
    assert_eq!(found, [disk, flat], "flat, whatever the driver made of it: {end}");
    let (results, _) = alice
        .search(DataType::Storage, json!({"type": "partner", "search": "ETE"}))
        .await;
    assert_eq!(results.len(), 1);

    // A change that no event tells of.
    knows(&of_alice.connect().await, bob.identity(), Relation::None).await;
    alice.wait_partner_down(bob.identity()).await;
    knows(&of_alice.connect().await, bob.identity(), Relation::Partner).await;
    alice.wait_partner_up(bob.identity()).await;
}

/// The example of docs/mongodb.md, with what the daemon says of itself, is all that a newcomer's database needs.
#[tokio::test]
async fn the_first_document_of_the_docs_makes_a_newcomer_ready() {
    let Some(empty) = MongoDatabase::new().await else {
        return;
    };
    let net = Federation::new();
    let alice = net.peer("alice").set("store.url", empty.url()).launch().await;
    let why = alice.wait_not_ready().await;
    assert!(!why.is_empty());
    alice.wait_log(&["relation SELF", "docs/mongodb.md"]).await;
    let docs = include_str!("../../docs/mongodb.md");
    let (_, example) = docs.split_once("db.peer.insertOne(").unwrap();
    let (example, _) = example.split_once(")\n").unwrap();
    let mut document: Value = serde_json::from_str(example).unwrap();
    let id = alice.types(&["id", "--json"]).await.json();
    for key in ["name", "peer_id", "public_key"] {
        document[key] = id[key].clone();
    }
    document["stream_address"] = json!(alice.identity().stream_address());
    let did = id["did"].as_str().unwrap();
    assert!(document["_id"].is_string() && document["id"].is_null(), "{document}");
    store_as_oc_lib(&empty.connect().await, "peer", did, &document).await;
    alice.wait_ready().await;
    assert_eq!(alice.types(&["status", "--json"]).await.json()["did"], did);
}

/// What an operator types, where both sides' documents are in MongoDB.
#[tokio::test]
async fn an_operator_finds_what_a_partners_apps_keep() {
    let net = Federation::new();
    let Some((alice, bob, _of_alice, of_bob)) = by_their_databases(&net).await else {
        return;
    };
    let apps = of_bob.connect().await;
    let within = ["abstractinstanciatedresource", "abstractresource"];
    let gpu = public(resource(bob.did(), "gpu-1", "Carte graphique accélérée"));
    store_as_oc_lib(&apps, "compute_resource", "gpu-1", &nested(gpu.clone(), &within)).await;
    let shared = shared_with(resource(bob.did(), "gpu-2", "Graphique"), alice.did());
    store_as_oc_lib(&apps, "compute_resource", "gpu-2", &shared).await;
    let private = resource(bob.did(), "gpu-3", "Graphique");
    store_as_oc_lib(&apps, "compute_resource", "gpu-3", &private).await;
    let typed = alice
        .types(&[
            "search",
            "graph",
            "--scope",
            "partner",
            "--datatype",
            "compute",
            "--json",
        ])
        .await;
    let lines: Vec<Value> = typed
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (end, results) = lines.split_last().unwrap();
    let mut found: Vec<&Value> = results.iter().map(|line| &line["result"]["document"]).collect();
    found.sort_by_key(|document| document["id"].to_string());
    assert_eq!(found, [&gpu, &shared], "{typed:?}");
    assert_eq!(end["end"]["truncated"], false, "{end}");
    let typed = alice.types(&["search", "ACCELEREE carte", "--scope", "partner"]).await;
    assert!(typed.out.contains("Carte graphique accélérée"), "{typed:?}");
    assert!(
        typed.out.contains("results: 1; peers asked: 1\nanswered: bob\n"),
        "{typed:?}"
    );
}

/// A frozen database answers no search, and holds up nothing that does not need it; a search ends by its time.
#[tokio::test]
async fn a_frozen_database_ends_searches_by_their_time_and_stalls_nothing() {
    let net = Federation::new();
    let dir = net.dir().join("mongo");
    std::fs::create_dir_all(&dir).unwrap();
    let Some(mut server) = Mongo::start(&dir).await else {
        return;
    };
    let apps = connect(&server.url("documents")).await;
    knows(&apps, &net.identity("bob"), Relation::Own).await;
    knows(&apps, &net.identity("alice"), Relation::Partner).await;
    let bob = net.peer("bob").set("store.url", server.url("documents")).start().await;
    let alice = net.peer("alice").partner_of("bob").start().await;
    partners(&[&alice, &bob]).await;
    let gpu = public(resource(bob.did(), "gpu-1", "GPU"));
    store_as_oc_lib(&apps, "compute_resource", "gpu-1", &gpu).await;
    let asks = async || {
        let request = json!({"type": "partner", "search": "gpu", "timeout_ms": 1000});
        alice.search(DataType::Compute, request).await
    };
    // The first questions find a server that is hardly awake.
    until("an answer", async || (asks().await.0.len() == 1).then_some(())).await;
    server.freeze();
    let (found, end) = asks().await;
    assert!(found.is_empty(), "{end}");
    assert_eq!((&end["asked"], &end["results"]), (&json!(1), &json!(0)), "{end}");
    let own = resource(bob.did(), "of-bob", "Goes out although the database says nothing");
    bob.publish_create(DataType::Compute, &own).await;
    alice.expect_document(CREATE, "of-bob").await;
    server.thaw();
    until("answers again", async || (asks().await.0.len() == 1).then_some(())).await;
}

/// Things of bob's: nine parts of an answer, so that a test has its time between the first and the last.
const THINGS: u64 = 900;
/// What each part takes. Longer, and the server, which greets nobody meanwhile, would be taken for dead.
const PART: Duration = Duration::from_secs(2);

/// Alice, and bob with many things in his database, who may look for them for longer than a test waits.
async fn patient(net: &Federation, server: &Mongo) -> (Peer, Peer) {
    let apps = connect(&server.url("documents")).await;
    knows(&apps, &net.identity("bob"), Relation::Own).await;
    knows(&apps, &net.identity("alice"), Relation::Partner).await;
    let patient = |name| {
        let builder = net.peer(name).set("search.timeout", "10m");
        builder
            .set("limits.answers_per_peer", 1000)
            .set("search.max_results", 1000)
    };
    let bob = patient("bob").set("store.url", server.url("documents")).start().await;
    let alice = patient("alice").partner_of("bob").start().await;
    partners(&[&alice, &bob]).await;
    let gpus = (0..THINGS).map(|n| {
        let gpu = public(resource(bob.did(), &format!("gpu-{n}"), "GPU"));
        let mut document = mongodb::bson::serialize_to_document(&gpu).unwrap();
        document.insert("_id", format!("gpu-{n}"));
        document
    });
    let collection = apps.collection::<mongodb::bson::Document>("compute_resource");
    collection.insert_many(gpus).await.unwrap();
    (alice, bob)
}

/// An app that closes its search ends the query at the other side's database, which had more to say.
#[tokio::test]
async fn closing_a_search_ends_the_query_at_the_far_database() {
    let net = Federation::new();
    let dir = net.dir().join("mongo");
    std::fs::create_dir_all(&dir).unwrap();
    let Some(mut server) = Mongo::start(&dir).await else {
        return;
    };
    let (alice, bob) = patient(&net, &server).await;
    server.slow(PART).await;
    let request = json!({"type": "partner", "search": "gpu", "id": "mine"});
    alice.publish_search(DataType::Compute, request).await;
    alice.expect("search_event", |_| true).await;
    // The next part of the answer would take longer than the test waits.
    server.slow(Duration::from_secs(600)).await;
    alice.publish_close_search("mine").await;
    until("bob to look for no more", async || {
        let told = |line: &String| line.contains("a search was not answered to its end") && line.contains("went away");
        bob.logs().iter().any(told).then_some(())
    })
    .await;
    let end = alice
        .expect("search_end", |end| end.json()["search_id"] == "mine")
        .await;
    assert_eq!(end.json()["truncated"], true, "bob had more");
}

/// A database that dies in the middle of an answer leaves a part of it, and that is told.
#[tokio::test]
async fn an_answer_that_broke_off_is_told_to_be_cut() {
    let net = Federation::new();
    let dir = net.dir().join("mongo");
    std::fs::create_dir_all(&dir).unwrap();
    let Some(mut server) = Mongo::start(&dir).await else {
        return;
    };
    let (alice, _bob) = patient(&net, &server).await;
    server.slow(PART).await;
    let request = json!({"type": "partner", "search": "gpu", "id": "mine"});
    alice.publish_search(DataType::Compute, request).await;
    alice.expect("search_event", |_| true).await;
    server.kill();
    let end = alice
        .expect("search_end", |end| end.json()["search_id"] == "mine")
        .await;
    let end = end.json();
    assert!(end["results"].as_u64().is_some_and(|results| results < THINGS), "{end}");
    assert_eq!(
        (&end["answered"], &end["truncated"]),
        (&json!(1), &json!(true)),
        "{end}"
    );
}

#[tokio::test]
async fn the_daemon_writes_a_database_when_it_is_told_to() {
    let net = Federation::new();
    let Some(database) = MongoDatabase::new().await else {
        return;
    };
    let builder = net.peer("bob").partner_of("alice").set("store.url", database.url());
    let bob = builder.set("store.writes", "daemon").start().await;
    let alice = net.peer("alice").partner_of("bob").start().await;
    partners(&[&alice, &bob]).await;
    let gpu = resource(alice.did(), "gpu-1", "A graphics processor");
    alice.publish_create(DataType::Compute, &gpu).await;
    bob.expect_document(CREATE, "gpu-1").await;
    let apps = database.connect().await;
    let stored = async |collection: &str| -> Vec<String> {
        let all = apps.collection::<mongodb::bson::Document>(collection);
        let ids = all.distinct("_id", mongodb::bson::doc! {}).await.unwrap();
        ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        stored("compute_resource").await,
        ["gpu-1"],
        "before its app heard of it"
    );
    let mut peers = stored("peer").await;
    peers.sort();
    let mut wanted = vec![alice.did().to_owned(), bob.did().to_owned()];
    wanted.sort();
    assert_eq!(peers, wanted, "itself, and who it was told of");
    alice.publish_delete(DataType::Compute, &gpu).await;
    bob.expect_document("remove_resource", "gpu-1").await;
    assert!(stored("compute_resource").await.is_empty());
}

#[tokio::test]
async fn a_database_that_is_away_holds_up_and_loses_nothing() {
    let net = Federation::new();
    let dir = net.dir().join("mongo");
    std::fs::create_dir_all(&dir).unwrap();
    let Some(mut server) = Mongo::stopped(&dir) else { return };
    let url = server.url("documents");
    let bob = net.peer("bob").set("store.url", url.clone()).launch().await;
    let why = bob.wait_not_ready().await;
    assert!(why.contains("store"), "up, and not ready: {why}");
    server.start_again().await;
    let apps = connect(&url).await;
    knows(&apps, &net.identity("bob"), Relation::Own).await;
    knows(&apps, &net.identity("alice"), Relation::Partner).await;
    bob.wait_ready().await;
    let alice = net.peer("alice").partner_of("bob").start().await;
    partners(&[&alice, &bob]).await;

    let told = |line: &&String| line.contains("document store does not answer; what needs it waits");
    // Whoever does not know yet that it is back does not say that it is away again.
    bob.wait_log(&["the document store answers"]).await;
    let before = bob.logs().iter().filter(told).count();
    assert!(before <= 1, "maybe at the start: {before}");
    server.kill();
    let gpu = |id: &str| resource(alice.did(), id, "A graphics processor");
    alice.publish_create(DataType::Compute, &gpu("away")).await;
    let own = resource(bob.did(), "of-bob", "Goes out although the database is away");
    bob.publish_create(DataType::Compute, &own).await;
    alice.expect_document(CREATE, "of-bob").await;
    bob.publish_delete(DataType::Compute, &json!({"id": "never-propagated"}))
        .await;
    let why = bob.wait_not_ready().await;
    assert!(why.contains("store"), "{why}");
    assert!(bob.heard(CREATE).is_empty(), "whose it is cannot be known");
    server.start_again().await;
    bob.expect_document(CREATE, "away").await;
    bob.wait_ready().await;
    let times = bob.logs().iter().filter(told).count();
    assert_eq!(times, before + 1, "once");

    // Emptied: nobody is let go, and nothing is taken for deleted.
    let peers = apps.collection::<mongodb::bson::Document>("peer");
    // The client's connections to the server before are found dead one by one.
    until("the peers to be gone", async || peers.drop().await.ok()).await;
    let why = bob.wait_not_ready().await;
    assert!(why.contains("identity"), "{why}");
    alice.publish_create(DataType::Compute, &gpu("emptied")).await;
    bob.expect_document(CREATE, "emptied").await;
    assert!(alice.heard("remove_resource").is_empty());
    knows(&apps, bob.identity(), Relation::Own).await;
    knows(&apps, alice.identity(), Relation::Partner).await;
    until("bob to be ready again", async || bob.is_ready().await.then_some(())).await;
}
