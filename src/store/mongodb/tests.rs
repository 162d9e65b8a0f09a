//! The store beside apps keeps the contract on a server that speaks MongoDB's wire, reads what others wrote there, and bears
//! what a server may do.

use std::time::{Duration, Instant};

use ::mongodb::bson::oid::ObjectId;
use ::mongodb::bson::spec::BinarySubtype;
use ::mongodb::bson::{Binary, DateTime, Decimal128, Document, doc};
use ::mongodb::{Collection, Database};
use oc_testkit::{Mongo, MongoDatabase, connect, until};
use serde_json::{Value, json};

use super::*;
use crate::store::contract::store_contract;
use crate::store::{AskerId, Change};
use crate::telemetry::heard::Heard;
use crate::wire::DataType::{DataResource, Peer as PeerKind};

async fn make() -> Option<(MongoStore, MongoDatabase)> {
    let database = MongoDatabase::new().await?;
    Some((open(database.url(), false), database))
}

fn open(url: &str, manage_indexes: bool) -> MongoStore {
    let options = MongoOptions {
        url: url.to_owned(),
        password_file: None,
        manage_indexes,
    };
    MongoStore::open(options).unwrap()
}

store_contract!(make);

async fn resources(database: &Database) -> Collection<Document> {
    database.collection(DataResource.name())
}

fn put(id: &str, document: &Value, owner: Option<&str>) -> Write {
    Write {
        datatype: DataResource,
        id: id.to_owned(),
        change: Change::Put(document.to_string().into()),
        only_if_owner: owner.map(str::to_owned),
    }
}

fn asking(text: &str, deadline: Instant) -> SearchQuery {
    SearchQuery {
        text: text.to_owned(),
        datatypes: vec![DataResource],
        own_did: "did:me".to_owned(),
        asker: AskerId {
            did: "did:a".to_owned(),
            peer_id: None,
            trusted: true,
        },
        limit: 1000,
        deadline,
        cancel: CancellationToken::new(),
        room: None,
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn found(store: &MongoStore, text: &str) -> Vec<String> {
    let (out, mut found) = mpsc::channel(100);
    let done = store.search(asking(text, soon()), out).await.unwrap();
    let mut ids = Vec::new();
    while let Some(one) = found.recv().await {
        ids.push(one.document.value().unwrap()["id"].as_str().unwrap().to_owned());
    }
    assert!(!done.truncated);
    ids.sort();
    ids
}

/// Keys as strings, ObjectIds and UUIDs; ids inside; nested and flat: each is found by its id, and written where it stands.
#[tokio::test]
async fn documents_are_found_under_every_form_of_their_id() {
    let Some((store, database)) = make().await else { return };
    let uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f";
    let binary = Binary {
        subtype: BinarySubtype::Uuid,
        bytes: (0..16).collect(),
    };
    let oid = ObjectId::from_bytes([0xab; 12]);
    let nested =
        |id: &str| doc! { "abstractresource": { "abstractobject": { "id": id, "creator_id": "did:me", "name": "n" } } };
    let with_key = |key: ::mongodb::bson::Bson, mut document: Document| {
        document.insert("_id", key);
        document
    };
    let all = vec![
        with_key("string".into(), nested("string")),
        with_key(binary.into(), doc! { "creator_id": "did:me", "name": "n" }),
        with_key(oid.into(), doc! { "creator_id": "did:me" }),
        with_key(ObjectId::new().into(), nested("inside")),
        with_key(ObjectId::new().into(), doc! { "id": "flat", "creator_id": "did:you" }),
    ];
    let apps = database.connect().await;
    resources(&apps).await.insert_many(&all).await.unwrap();
    let ids = ["string", uuid, "abababababababababababab", "inside", "flat", "none"];
    let keys: Vec<_> = ids.iter().map(|id| (DataResource, (*id).to_owned())).collect();
    let owners = store.owners(&keys).await.unwrap();
    let me = || Some("did:me".to_owned());
    assert_eq!(owners, [me(), me(), me(), me(), Some("did:you".to_owned()), None]);
    for (document, id) in store.documents(&keys).await.unwrap().into_iter().zip(&ids[..5]) {
        let value: Value = serde_json::from_slice(&document.unwrap()).unwrap();
        assert_eq!(value["id"], **id, "{value}");
    }
    for id in &ids[..4] {
        let new = json!({ "id": id, "creator_id": "did:me", "name": "new" });
        assert_eq!(
            store.apply(vec![put(id, &new, Some("did:me"))]).await,
            Ok(vec![Applied::Done]),
            "{id}"
        );
    }
    let refused = store
        .apply(vec![put(
            "flat",
            &json!({ "id": "flat", "creator_id": "did:me" }),
            Some("did:me"),
        )])
        .await;
    assert_eq!(refused, Ok(vec![Applied::NotOwner]));
    let count = resources(&apps).await.count_documents(doc! {}).await.unwrap();
    assert_eq!(count, 5, "each was written where it stood");
    let kept = resources(&apps)
        .await
        .find_one(doc! { "_id": "string" })
        .await
        .unwrap()
        .unwrap();
    let name = kept
        .get_document("abstractresource")
        .unwrap()
        .get_document("abstractobject")
        .unwrap()
        .get_str("name");
    assert_eq!(name.unwrap(), "new", "in the shape that the app gave it");
}

/// A document under a key of the database's own making is somebody's from the moment it is there, also where none was before.
#[tokio::test]
async fn the_first_document_under_a_key_of_the_databases_own_is_found_at_once() {
    let Some((store, database)) = make().await else { return };
    let key = [(DataResource, "r".to_owned())];
    assert_eq!(store.owners(&key).await, Ok(vec![None]));
    let apps = database.connect().await;
    let ours = doc! { "_id": ObjectId::new(), "id": "r", "creator_id": "did:me" };
    resources(&apps).await.insert_one(&ours).await.unwrap();
    assert_eq!(store.owners(&key).await, Ok(vec![Some("did:me".to_owned())]));
    let theirs = json!({ "id": "r", "creator_id": "did:a" });
    let claimed = store.apply(vec![put("r", &theirs, Some("did:a"))]).await;
    assert_eq!(claimed, Ok(vec![Applied::NotOwner]));
}

/// What an app's driver made of a document is told in JSON, and stays when the daemon writes another field.
#[tokio::test]
async fn types_survive_an_update_by_the_daemon() {
    let Some((store, database)) = make().await else { return };
    let price: Decimal128 = "19.90".parse().unwrap();
    let at = DateTime::from_millis(1_700_000_000_123);
    let id = ObjectId::from_bytes([1; 12]);
    let stored = doc! { "_id": "r", "id": "r", "creator_id": "did:me", "price": price, "at": at, "big": i64::MAX, "of": id,
    "unknown": { "list": [at, { "deep": price }] } };
    let apps = database.connect().await;
    resources(&apps).await.insert_one(&stored).await.unwrap();
    let document = store.get(DataResource, "r").await.unwrap().unwrap();
    let mut value = document.value().unwrap();
    let wanted = json!({ "id": "r", "creator_id": "did:me", "price": 19.9, "at": "2023-11-14T22:13:20.123Z", "big": i64::MAX,
        "of": "010101010101010101010101", "unknown": { "list": ["2023-11-14T22:13:20.123Z", { "deep": 19.9 }] } });
    assert_eq!(value, wanted);
    assert!(
        document.as_ref().windows(5).any(|digits| digits == b"19.90"),
        "with all its digits"
    );
    assert_eq!(
        store.apply(vec![put("r", &value, None)]).await,
        Ok(vec![Applied::Unchanged])
    );
    value["added"] = json!("x");
    assert_eq!(store.apply(vec![put("r", &value, None)]).await, Ok(vec![Applied::Done]));
    let mut wanted = stored;
    wanted.insert("added", "x");
    assert_eq!(resources(&apps).await.find_one(doc! {}).await.unwrap().unwrap(), wanted);
}

/// What hostile documents and ids hold is stored and found as it is, or refused with a reason, and means nothing to the server.
#[tokio::test]
async fn hostile_words_mean_nothing_to_the_server() {
    let Some((store, _database)) = make().await else { return };
    let long = "x".repeat(1 << 20);
    for (document, reason) in [
        (json!({ "$set": { "a": 1 } }), "begins with `$`"),
        (json!({ "a": [{ "$where": "sleep(9999)" }] }), "begins with `$`"),
        (json!({ "a\u{0}b": 1 }), "NUL"),
    ] {
        let told = store.can_hold(document.to_string().as_bytes()).unwrap_err().to_string();
        assert!(told.contains(reason), "{told}");
        let applied = store
            .apply(vec![
                put("fine", &json!({ "id": "fine" }), None),
                put("bad", &document, None),
            ])
            .await;
        assert!(matches!(applied, Err(StoreError::Document { .. })), "{applied:?}");
    }
    assert_eq!(
        store.get(DataResource, "fine").await,
        Ok(None),
        "nothing of a refused batch is there"
    );
    let ids = [
        "$where",
        "a.b",
        "{\"$gt\":\"\"}",
        "\u{202e}rtl",
        "a\0b",
        "../..",
        "/.*/",
        long.as_str(),
    ];
    for id in ids {
        let document = json!({ "id": id, "creator_id": id, "name": id, "access_mode": 1, "v.w": { "": "$x" } });
        assert_eq!(
            store.apply(vec![put(id, &document, None)]).await,
            Ok(vec![Applied::Done])
        );
        assert_eq!(
            store.get(DataResource, id).await.unwrap().unwrap().value().unwrap(),
            document
        );
        assert_eq!(
            store.owners(&[(DataResource, id.to_owned())]).await,
            Ok(vec![Some(id.to_owned())])
        );
        assert!(store.find_peers(id).await.unwrap().is_empty());
    }
    for own in ids {
        let (out, mut results) = mpsc::channel(100);
        let query = SearchQuery {
            own_did: own.to_owned(),
            ..asking("", soon())
        };
        let done = store.search(query, out).await.unwrap();
        assert_eq!(done.results, 1, "{}", &own[..own.len().min(20)]);
        assert_eq!(
            results.recv().await.unwrap().document.value().unwrap()["creator_id"],
            own
        );
    }
}

/// Words written together are no pattern that a server tries in ever more ways.
#[tokio::test]
async fn many_words_written_together_are_found_or_not_in_a_short_time() {
    let Some((store, database)) = make().await else { return };
    let apps = database.connect().await;
    let document =
        |id: &str, name: &str| doc! { "_id": id, "id": id, "creator_id": "did:me", "access_mode": 1, "name": name };
    let documents = [
        document("long", &"жизнь ".repeat(2000)),
        document("fine", "Straße-7 v2ж-x жизнь-ж/ж-Ende"),
    ];
    resources(&apps).await.insert_many(&documents).await.unwrap();
    for (text, wanted) in [
        ("ж-ж-ж-ж-ж-ж-ж-interminable", vec![]),
        ("жизнь-ж-ж-en", vec!["fine"]),
        ("straße-7", vec!["fine"]),
        ("7-x", vec![]),
        ("v2ж-x", vec!["fine"]),
        ("жизнь-жи", vec!["long"]),
    ] {
        let began = Instant::now();
        assert_eq!(found(&store, text).await, wanted, "{text}");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{text}: {:?}",
            began.elapsed()
        );
    }
}

/// What an index of the apps does not take is refused by itself; what stands before and behind it is stored.
#[tokio::test]
async fn what_the_server_refuses_for_good_holds_up_nothing() {
    let Some((store, database)) = make().await else { return };
    let apps = database.connect().await;
    let unique = ::mongodb::options::IndexOptions::builder().unique(true).build();
    let index = ::mongodb::IndexModel::builder()
        .keys(doc! { "name": 1 })
        .options(unique)
        .build();
    resources(&apps).await.create_index(index).await.unwrap();
    let named = |id: &str, name: &str| put(id, &json!({ "id": id, "name": name }), None);
    let writes = vec![named("a", "x"), named("b", "y"), named("a", "y2"), named("c", "z")];
    assert_eq!(store.apply(writes).await, Ok(vec![Applied::Done; 4]));
    // One that is new, and one that is there: both would bear a name that is taken.
    let writes = vec![
        named("d", "y"),
        named("c", "y"),
        named("d", "new"),
        named("e", "last"),
        named("c", "z"),
    ];
    let applied = store.apply(writes).await.unwrap();
    let [
        Applied::Refused(new),
        Applied::Refused(there),
        Applied::Done,
        Applied::Done,
        Applied::Unchanged,
    ] = &applied[..]
    else {
        panic!("{applied:?}");
    };
    assert!(new.contains("name") && there.contains("name"), "{applied:?}");
    let kept = store.get(DataResource, "d").await.unwrap().unwrap().value().unwrap();
    assert_eq!(kept["name"], "new");
    // A name that is set free by an earlier write of the same batch.
    let before = (0..8).map(|n| named(&format!("f{n}"), &format!("name {n}"))).collect();
    assert_eq!(store.apply(before).await, Ok(vec![Applied::Done; 8]));
    let handed_on = (0..8).flat_map(|n| {
        let renamed = named(&format!("f{n}"), &format!("other {n}"));
        [renamed, named(&format!("g{n}"), &format!("name {n}"))]
    });
    assert_eq!(store.apply(handed_on.collect()).await, Ok(vec![Applied::Done; 16]));
}

/// Whoever wants no more ends the query where it runs.
#[tokio::test]
async fn cancelling_and_leaving_end_the_query_at_the_server() {
    let Some((store, database)) = make().await else { return };
    let apps = database.connect().await;
    let documents = (0..2000).map(|n| {
        doc! { "_id": format!("r{n}"), "id": format!("r{n}"), "creator_id": "did:me",
        "access_mode": 1, "name": "x" }
    });
    resources(&apps).await.insert_many(documents).await.unwrap();
    let cursors = async || -> i64 {
        let status = apps.run_command(doc! { "serverStatus": 1 }).await.unwrap();
        let open = status
            .get_document("metrics")
            .unwrap()
            .get_document("cursor")
            .unwrap()
            .get_document("open")
            .unwrap();
        open.get_i64("total").unwrap()
    };
    for cancelled in [true, false] {
        let (out, mut results) = mpsc::channel(1);
        let query = asking("x", soon());
        let cancel = query.cancel.clone();
        let stopping = async {
            results.recv().await.unwrap();
            assert!(cursors().await >= 1, "the server has more");
            if cancelled {
                cancel.cancel();
            } else {
                results.close();
                while results.try_recv().is_ok() {}
            }
        };
        let (done, ()) = tokio::join!(store.search(query, out), stopping);
        assert!(done.unwrap().truncated);
        until("the cursor to be gone from the server", async || {
            (cursors().await == 0).then_some(())
        })
        .await;
    }
}

/// What is told while a test of one thread holds the guard.
fn listen_to_log() -> (Heard, tracing::subscriber::DefaultGuard) {
    let heard = Heard::default();
    let writer = heard.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    (heard, tracing::subscriber::set_default(log))
}

/// A collection that grows while the daemon runs is told of, once, and is looked through with care from then on.
#[tokio::test]
async fn what_a_grown_collection_lacks_is_told_once() {
    let Some(database) = MongoDatabase::new().await else {
        return;
    };
    let (heard, _listens) = listen_to_log();
    let lines = || {
        let told = heard.text();
        told.lines().filter(|line| line.contains("without an index")).count()
    };
    let store = open(database.url(), false);
    let leads = |wanted| {
        let leads = store.shared.indexes.lead_to_owner(DataResource);
        std::future::ready((leads == wanted).then_some(()))
    };
    until("the indexes to be looked at", || leads(true)).await;
    assert_eq!(lines(), 0, "few documents need none");
    let apps = database.connect().await;
    let documents = (0..1500).map(|n| doc! { "_id": format!("r{n}"), "creator_id": "did:me" });
    resources(&apps).await.insert_many(documents).await.unwrap();
    until("the growth to be seen", || leads(false)).await;
    assert_eq!(lines(), 1);
    let looks = async || {
        store
            .shared
            .indexes
            .look(&apps, &store.shared.keys, false)
            .await
            .unwrap()
    };
    looks().await;
    assert_eq!(lines(), 1, "told before");
}

/// Missing indexes are made when we may, and then nothing is missing.
#[tokio::test]
async fn indexes_are_made_only_when_they_may_be() {
    let Some(database) = MongoDatabase::new().await else {
        return;
    };
    let apps = database.connect().await;
    let documents =
        (0..1500).map(|n| doc! { "_id": format!("r{n}"), "id": format!("r{n}"), "creator_id": "did:me", "name": "x" });
    resources(&apps).await.insert_many(documents).await.unwrap();
    let count = async || resources(&apps).await.list_index_names().await.unwrap().len();
    let before = count().await;
    {
        let store = open(database.url(), false);
        let database = &store.shared.link.handles().await.unwrap().database;
        store
            .shared
            .indexes
            .look(database, &store.shared.keys, false)
            .await
            .unwrap();
        assert!(
            !store.shared.indexes.lead_to_owner(DataResource),
            "many documents, and no index"
        );
        assert!(
            store.shared.indexes.lead_to_owner(DataType::ComputeResource),
            "there are none"
        );
        assert_eq!(count().await, before);
    }
    let store = open(database.url(), true);
    let what = "the indexes to be made";
    until(what, || {
        std::future::ready(store.shared.indexes.lead_to_owner(DataResource).then_some(()))
    })
    .await;
    assert_eq!(count().await, before + 4);
    assert_eq!(found(&store, "x").await.len(), 0, "private documents stay so");
}

/// Where keys are the database's own, documents are looked for by the id inside, for each change of a partner's.
#[tokio::test]
async fn ids_beside_object_ids_need_indexes_too() {
    let Some(database) = MongoDatabase::new().await else {
        return;
    };
    let (heard, _listens) = listen_to_log();
    let apps = database.connect().await;
    let documents = (0..1500).map(|n| doc! { "id": format!("r{n}"), "creator_id": "did:me" });
    resources(&apps).await.insert_many(documents).await.unwrap();
    let store = open(database.url(), false);
    let told = || {
        let told = heard.text();
        let lines = told.lines().filter(|line| line.contains("ObjectIds"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    until("the missing indexes to be told", || {
        std::future::ready((told().len() == 1).then_some(()))
    })
    .await;
    let line = told().remove(0);
    assert_eq!(line.matches("db.data_resource.createIndex").count(), 4, "{line}");
    assert!(line.contains("abstractresource.abstractobject.id"), "{line}");
    let look = async |may_make| {
        let looking = store.shared.indexes.look(&apps, &store.shared.keys, may_make);
        looking.await.unwrap();
        resources(&apps).await.list_index_names().await.unwrap().len()
    };
    let before = look(false).await;
    assert_eq!((told().len(), look(true).await), (1, before + 8));
    assert_eq!(look(true).await, before + 8, "nothing is missing");
    let wanted = ["r7", "r9999"].map(|id| (DataResource, id.to_owned()));
    let found = store.documents(&wanted).await.unwrap();
    assert!(found[0].is_some() && found[1].is_none());
}

/// What no index leads to is looked through for as long as one search may, however many kinds it asks for.
#[tokio::test]
async fn a_search_without_indexes_is_cut_once_for_all_kinds() {
    let Some(database) = MongoDatabase::new().await else {
        return;
    };
    let apps = database.connect().await;
    for kind in DataType::RESOURCE_KINDS {
        // Two to be found: they come with the first answer, and no cursor stays at the server that all tests share.
        let whose = |n: i32| if n < 2 { "did:me" } else { "did:you" };
        let documents = (0..1001).map(|n| doc! { "_id": format!("r{n}"), "creator_id": whose(n), "access_mode": 1 });
        let collection = apps.collection::<Document>(kind.name());
        collection.insert_many(documents).await.unwrap();
    }
    let store = open(database.url(), false);
    let query = SearchQuery {
        datatypes: Vec::new(),
        ..asking("", soon())
    };
    // Nobody takes what is found: each kind would be cut by its time.
    let (out, _kept) = mpsc::channel(1);
    let began = Instant::now();
    assert!(store.search(query, out).await.unwrap().truncated);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Peers that somebody else writes are noticed without a change stream.
#[tokio::test]
async fn changes_of_peers_are_told() {
    let Some((store, database)) = make().await else { return };
    let apps = database.connect().await;
    let peers = apps.collection::<Document>(PeerKind.name());
    let mut changes = store.changes().unwrap();
    for step in 0..3 {
        changes.borrow_and_update();
        // The first look may come after the first write, and then has nothing to compare with: it is written again.
        let mut tries = 0;
        loop {
            let peer = doc! { "id": format!("p{step}"), "try": tries };
            peers.insert_one(peer).await.unwrap();
            if tokio::time::timeout(Duration::from_secs(5), changes.changed())
                .await
                .is_ok()
            {
                break;
            }
            tries += 1;
            assert!(tries < 4, "no change is told");
        }
    }
}

/// Away, back, frozen, slow, stepping down: each call ends within its bound, says so, and works again afterwards.
#[tokio::test]
async fn an_ill_server_is_an_error_in_time_and_never_an_absence() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut server) = Mongo::stopped(dir.path()) else {
        return;
    };
    let store = open(&server.url("documents"), false);
    let key = [(DataResource, "r".to_owned())];
    let bound = OPERATION_MAX + Duration::from_secs(5);
    let fails = async |what: &str| {
        let began = Instant::now();
        for told in [
            store.owners(&key).await.map(|_| ()),
            store.documents(&key).await.map(|_| ()),
            store.ready().await,
            store.peers(10).await.map(|_| ()),
        ] {
            assert!(
                matches!(told, Err(StoreError::Away { .. } | StoreError::Timeout(_))),
                "{what}: {told:?}"
            );
        }
        assert!(began.elapsed() < bound * 4, "{what}");
    };
    fails("not there").await;
    server.start_again().await;
    let document = json!({ "id": "r", "creator_id": "did:me" });
    let works = async |what: &str, wanted: Applied| {
        until(what, async || store.ready().await.ok()).await;
        assert_eq!(
            store.apply(vec![put("r", &document, None)]).await,
            Ok(vec![wanted]),
            "{what}"
        );
        assert!(store.get(DataResource, "r").await.unwrap().is_some());
    };
    works("started", Applied::Done).await;
    server.kill();
    fails("killed").await;
    server.start_again().await;
    works("restarted", Applied::Unchanged).await;
    server.refuse(10107).await;
    fails("stepping down").await;
    server.well().await;
    works("stepped down", Applied::Unchanged).await;
    server.freeze();
    fails("frozen").await;
    server.thaw();
    works("thawed", Applied::Unchanged).await;
}

/// The authority must be the right one, and a server without TLS is none with it.
#[tokio::test]
async fn tls_is_checked() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(mut server) = Mongo::stopped_with_tls(dir.path()) else {
        return;
    };
    server.start_again().await;
    let url = server.url("documents");
    assert_eq!(open(&url, false).ready().await, Ok(()));
    let wrong = Mongo::stopped_with_tls(other.path()).unwrap().ca_file();
    let wrong = url.replace(server.ca_file().to_str().unwrap(), wrong.to_str().unwrap());
    let plain = url.split_once('?').unwrap().0.to_owned();
    for url in [wrong, plain] {
        let told = open(&url, false).ready().await;
        assert!(
            matches!(told, Err(StoreError::Away { .. } | StoreError::NotLetIn { .. })),
            "{told:?}"
        );
    }
    let seen = connect(&url).await.list_collection_names().await.unwrap();
    assert!(seen.is_empty());
}

/// Credentials that the server does not take are said to be that, without repeating them.
#[tokio::test]
async fn refused_credentials_are_told() {
    let Some(database) = MongoDatabase::new().await else {
        return;
    };
    let url = database.url().replacen("mongodb://", "mongodb://somebody:s3cret@", 1);
    if database.url().contains('@') {
        return;
    }
    let told = open(&url, false).ready().await.unwrap_err();
    assert!(!told.to_string().contains("s3cret"), "{told}");
    assert!(
        matches!(told, StoreError::NotLetIn { .. } | StoreError::Away { .. }),
        "{told:?}"
    );
}
