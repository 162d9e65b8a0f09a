//! What operators see and do: the outbox, what is parked, a comparison, a backup and its restore.

use crate::alice_and_bob;
use oc_testkit::{DataType, Federation, NatsOptions, Peer, partners, resource};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const CREATE: &str = "create_resource";
const REMOVE: &str = "remove_resource";

fn in_state(outbox: &Value, state: &str, lag: u64) -> bool {
    outbox["partners"][0]["state"] == state && outbox["partners"][0]["lag_rows"] == lag
}

async fn has_everything(peer: &Peer) -> Value {
    peer.outbox("a partner that has everything", &[], |told| in_state(told, "tail", 0))
        .await
}

#[tokio::test]
async fn a_partner_that_is_away_shows_with_its_lag_and_why() {
    let net = Federation::new();
    let (alice, mut bob) = alice_and_bob(&net).await;
    let first = resource(alice.did(), "gpu-0", "A graphics processor");
    alice.publish_create(DataType::Compute, &first).await;
    bob.expect_document(CREATE, "gpu-0").await;
    has_everything(&alice).await;
    bob.kill9();
    for n in 1..=3 {
        let gpu = resource(alice.did(), &format!("gpu-{n}"), "A graphics processor");
        alice.publish_create(DataType::Compute, &gpu).await;
    }
    let away = |told: &Value| {
        told["partners"][0]["lag_rows"] == 3
            && told["partners"][0]["state"] != "tail"
            && told["partners"][0]["last_error"] != ""
    };
    let told = alice.outbox("who is away", &["bob"], away).await;
    let told = &told["partners"][0];
    assert_eq!(
        (told["did"].as_str(), told["name"].as_str()),
        (Some(bob.did()), Some("bob"))
    );
    assert_eq!(told["peer_id"], bob.peer_id());
    assert_eq!((told["acked_seq"].as_u64(), told["head"].as_u64()), (Some(1), Some(4)));
    assert!(told["acked_at"].as_u64() > Some(0));
    let text = alice.types(&["outbox"]).await;
    assert!(text.out.starts_with("PARTNER  STATE"), "{text:?}");
    assert!(text.out.contains("\nbob: last error: "), "{text:?}");
    alice
        .wait_metric(
            "ocd_delivery_state",
            &[("partner", bob.did()), ("state", "tail")],
            |is| is == 0.0,
        )
        .await;
    alice
        .wait_metric("ocd_delivery_lag_rows", &[("partner", bob.did())], |rows| rows == 3.0)
        .await;

    let (status, body) = alice.http("/status").await.unwrap();
    let status_json: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(status_json["did"], alice.did());
    assert_eq!(status_json["ready"], true);
    assert_eq!(status_json["intake"], json!({"mode": "core"}));
    assert_eq!(status_json["partners"][0]["lag_rows"], 3);
    assert!(
        !body.contains(alice.dir().to_str().unwrap()),
        "nothing of the machine is told: {body}"
    );

    bob.restart().await;
    bob.expect_document(CREATE, "gpu-3").await;
    has_everything(&alice).await;
    let text = alice.types(&["status"]).await;
    assert!(text.out.contains("has everything"), "{text:?}");
    let metrics = alice.wait_metrics("a journal", |metrics| metrics.sum("ocd_journal_bytes", &[]) > 0.0);
    assert_eq!(metrics.await.sum("ocd_todo_waiting", &[]), 0.0);
}

#[tokio::test]
async fn what_a_partner_refuses_is_parked_sent_again_and_dropped_by_its_operator() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").start().await;
    let small = NatsOptions {
        max_payload: Some(64 * 1024),
        ..NatsOptions::default()
    };
    let bob = net.peer("bob").partner_of("alice").nats(small).start().await;
    partners(&[&alice, &bob]).await;
    let mut big = resource(alice.did(), "big", "Too large for the NATS of bob");
    big["description"] = json!("x".repeat(100_000));
    alice.publish_create(DataType::Storage, &big).await;
    let parked = |told: &Value| told["parked"].as_array().is_some_and(|parked| parked.len() == 1);
    let told = alice.outbox("a parked change", &["bob", "--parked"], parked).await;
    let change = &told["parked"][0];
    assert_eq!(
        (change["code"].as_str(), change["id"].as_str()),
        (Some("too_large"), Some("big"))
    );
    assert_eq!(
        (change["name"].as_str(), change["datatype"].as_str()),
        (Some("bob"), Some("storage_resource"))
    );
    assert_eq!(change["detail"], "the peer takes at most 65536 bytes");
    let one = alice.types(&["outbox", "--id", "big", "--json"]).await.json();
    assert!(one["parked_total"] == 1 && one["parked"][0]["id"] == "big", "{one}");
    let text = alice.types(&["outbox", "--parked"]).await;
    assert!(text.out.contains("it is larger than the partner takes"), "{text:?}");

    let again = alice.types(&["outbox", "retry", "bob", "--json"]).await.json();
    assert_eq!(again, json!({"again": 1, "gone": 0}));
    let seq = change["seq"].as_u64();
    let later = |told: &Value| parked(told) && told["parked"][0]["seq"].as_u64() > seq;
    let told = alice.outbox("a change parked again", &["--parked"], later).await;
    assert_eq!(told["parked"][0]["code"], "too_large");

    let dropped = alice.types(&["outbox", "drop", bob.did(), "--id", "big"]).await;
    assert_eq!((dropped.status, dropped.out.as_str()), (0, "forgotten: 1\n"));
    let nothing = alice.types(&["outbox", "drop", "bob", "--id", "big"]).await;
    assert_eq!(nothing.status, 1, "{nothing:?}");
    assert!(
        nothing.err.contains("nothing with the id \"big\" is parked for bob"),
        "{nothing:?}"
    );
    assert_eq!(
        alice.types(&["outbox", "bob", "--parked"]).await.out.lines().last(),
        Some("nothing is parked")
    );

    // Our own intake parks what it could not take, and keeps none of it.
    alice
        .publish_create(DataType::Storage, &resource(bob.did(), "foreign", "Not ours"))
        .await;
    alice
        .outbox("a message parked at the intake", &["intake"], parked)
        .await;
    let text = alice.types(&["outbox", "intake"]).await;
    assert!(text.out.contains("its creator_id is not our DID"), "{text:?}");
    let retry = alice.types(&["outbox", "retry", "intake"]).await;
    assert_eq!(
        (retry.status, retry.err.contains("its app has to publish it again")),
        (1, true),
        "{retry:?}"
    );
    assert_eq!(alice.types(&["outbox", "drop", "intake"]).await.out, "forgotten: 1\n");
    let unknown = alice.types(&["outbox", "carol"]).await;
    assert_eq!(
        (
            unknown.status,
            unknown.err.contains("no partner is called \"carol\"; there are: bob")
        ),
        (1, true)
    );
}

#[tokio::test]
async fn a_resync_compares_everything_and_sends_nothing_twice() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    for n in 0..5 {
        let gpu = resource(alice.did(), &format!("gpu-{n}"), "A graphics processor");
        alice.publish_create(DataType::Compute, &gpu).await;
    }
    bob.expect_document(CREATE, "gpu-4").await;
    let disk = resource(bob.did(), "disk", "A disk");
    bob.publish_create(DataType::Storage, &disk).await;
    alice.expect_document(CREATE, "disk").await;
    has_everything(&alice).await;
    has_everything(&bob).await;
    let compared = |of: &Peer| [("partner", of.did().to_owned())];
    let count = async |peer: &Peer, of: &Peer| {
        let [(name, did)] = compared(of);
        peer.metrics().await.sum("ocd_comparisons_total", &[(name, &did)])
    };
    let before = (count(&alice, &bob).await, count(&bob, &alice).await);
    let sent = (alice.metrics().await.sent("create"), bob.metrics().await.sent("create"));

    let told = alice.types(&["peer", "resync", "bob"]).await;
    assert_eq!(told.status, 0, "{told:?}");
    let (of_bob, of_alice) = ([("partner", bob.did())], [("partner", alice.did())]);
    alice
        .wait_metric("ocd_comparisons_total", &of_bob, |count| count > before.0)
        .await;
    bob.wait_metric("ocd_comparisons_total", &of_alice, |count| count > before.1)
        .await;
    has_everything(&alice).await;
    has_everything(&bob).await;
    let after = (alice.metrics().await.sent("create"), bob.metrics().await.sent("create"));
    assert_eq!(after, sent, "nothing differs, so nothing is sent");
    bob.settled().await;
    assert_eq!(bob.heard(CREATE).len(), 5);
    let nobody = alice.types(&["peer", "resync", "nobody"]).await;
    assert_eq!(nobody.status, 1, "{nobody:?}");
}

/// Every document that a stopped daemon keeps, peers apart: id and version.
fn kept(dir: &Path) -> BTreeMap<String, Value> {
    let file = rusqlite::Connection::open(dir.join("documents.db")).unwrap();
    let mut query = file
        .prepare("SELECT id, doc FROM document WHERE datatype <> 9")
        .unwrap();
    let rows = query
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))
        .unwrap();
    rows.map(|row| row.unwrap())
        .map(|(id, doc): (String, Vec<u8>)| {
            let document: Value = serde_json::from_slice(&doc).unwrap();
            (id, document["version"].clone())
        })
        .collect()
}

fn versioned(peer: &Peer, id: &str, version: u64) -> Value {
    let mut document = resource(peer.did(), id, "A document");
    document["version"] = json!(version);
    document
}

/// Puts the files of a backup where they belong, as a person does it by hand.
fn restore(backup: &Path, state_dir: &Path) {
    for name in ["journal.db", "documents.db"] {
        for side in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(state_dir.join(format!("{name}{side}")));
        }
        std::fs::copy(backup.join(name), state_dir.join(name)).unwrap();
    }
}

/// What documents of alice bob has, by what his app was told.
fn told_of_alice(bob: &Peer) -> BTreeMap<String, Value> {
    let mut last = BTreeMap::new();
    let mut messages = [bob.heard(CREATE), bob.heard(REMOVE)].concat();
    messages.sort_by_key(|message| message.at);
    for message in messages {
        let document = message.document();
        let id = document["id"].as_str().unwrap().to_owned();
        match message.subject.as_str() {
            REMOVE => drop(last.remove(&id)),
            _ => drop(last.insert(id, document["version"].clone())),
        }
    }
    last.retain(|id, _| id.starts_with("a-"));
    last
}

fn versions(of: &[(&str, u64)]) -> BTreeMap<String, Value> {
    of.iter()
        .map(|(id, version)| ((*id).to_owned(), json!(version)))
        .collect()
}

fn beginning(prefix: &str, mut kept: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    kept.retain(|id, _| id.starts_with(prefix));
    kept
}

/// Alice makes a backup, goes on, dies, and is started again with the backup's files.
async fn restored(net: &Federation, jetstream: bool) -> (Peer, Peer) {
    let nats = || NatsOptions {
        jetstream,
        ..NatsOptions::default()
    };
    let mut alice = net.peer("alice").partner_of("bob").nats(nats()).start().await;
    let bob = net.peer("bob").partner_of("alice").nats(nats()).start().await;
    partners(&[&alice, &bob]).await;
    for id in ["a-1", "a-2", "a-3"] {
        alice.publish_create(DataType::Compute, &versioned(&alice, id, 1)).await;
        bob.expect_document(CREATE, id).await;
    }
    bob.publish_create(DataType::Storage, &versioned(&bob, "b-1", 1)).await;
    alice.expect_document(CREATE, "b-1").await;
    let told = alice.types(&["backup", "backup", "--json"]).await.json();
    assert_eq!(told["files"], json!(["journal.db", "documents.db"]));

    // What the backup does not know.
    alice
        .publish_update(DataType::Compute, &versioned(&alice, "a-1", 2))
        .await;
    alice
        .publish_delete(DataType::Compute, &versioned(&alice, "a-2", 1))
        .await;
    alice
        .publish_create(DataType::Compute, &versioned(&alice, "a-4", 1))
        .await;
    bob.expect_document(REMOVE, "a-2").await;
    bob.expect_document(CREATE, "a-4").await;
    bob.publish_create(DataType::Storage, &versioned(&bob, "b-2", 1)).await;
    alice.expect_document(CREATE, "b-2").await;

    alice.kill9();
    restore(&alice.dir().join("backup"), alice.dir());
    alice.restart().await;
    // Bob sends again what the restored daemon has never seen.
    alice.expect_document(CREATE, "b-2").await;
    alice
        .wait_metric("ocd_comparisons_total", &[("partner", bob.did())], |count| count >= 1.0)
        .await;
    alice.wait_log(&["is being compared", "restored from a backup"]).await;
    (alice, bob)
}

#[tokio::test]
async fn a_restored_backup_heals_by_itself_from_the_stream() {
    let net = Federation::new();
    let (mut alice, mut bob) = restored(&net, true).await;
    has_everything(&alice).await;
    has_everything(&bob).await;
    // Nothing that bob was told since is taken back.
    let newest = versions(&[("a-1", 2), ("a-3", 1), ("a-4", 1)]);
    assert_eq!(told_of_alice(&bob), newest);
    assert_eq!((alice.stop().await, bob.stop().await), (0, 0));
    assert_eq!(beginning("a-", kept(bob.dir())), newest);
    assert_eq!(beginning("b-", kept(alice.dir())), versions(&[("b-1", 1), ("b-2", 1)]));
}

#[tokio::test]
async fn without_a_stream_partners_end_with_what_the_backup_has() {
    let net = Federation::new();
    let (mut alice, mut bob) = restored(&net, false).await;
    bob.expect_document(REMOVE, "a-4").await;
    bob.expect_document(CREATE, "a-2").await;
    bob.expect(CREATE, |message| {
        let document = message.document();
        document["id"] == "a-1" && document["version"] == 1
    })
    .await;
    has_everything(&alice).await;
    has_everything(&bob).await;
    let oldest = versions(&[("a-1", 1), ("a-2", 1), ("a-3", 1)]);
    assert_eq!(told_of_alice(&bob), oldest);
    assert_eq!((alice.stop().await, bob.stop().await), (0, 0));
    assert_eq!(beginning("a-", kept(bob.dir())), oldest);
    assert_eq!(beginning("b-", kept(alice.dir())), versions(&[("b-1", 1), ("b-2", 1)]));
}

#[tokio::test]
async fn a_backup_is_its_users_alone_and_overwrites_nothing() {
    let net = Federation::new();
    let mut alice = net.peer("alice").start().await;
    let backup = alice.dir().join("backup");
    let told = alice.types(&["backup", "backup", "--json"]).await.json();
    assert_eq!(told["files"], json!(["journal.db", "documents.db"]));
    assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o700);
    let again = alice.types(&["backup", "backup"]).await;
    assert_eq!(
        (again.status, again.err.contains("overwrites nothing")),
        (1, true),
        "{again:?}"
    );
    let keys = alice.types(&["backup", "keys", "--with-keys", "--json"]).await.json();
    assert_eq!(keys["files"][2], "node.key");
    assert_eq!(
        std::fs::read(alice.dir().join("keys/node.key")).unwrap(),
        std::fs::read(alice.dir().join("node.key")).unwrap()
    );
    let unwritable = alice.types(&["backup", "/proc/backup"]).await;
    assert_eq!(
        (unwritable.status, unwritable.err.contains("cannot be made")),
        (1, true),
        "{unwritable:?}"
    );
    let left = std::fs::read_dir(alice.dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().ends_with(".part")));
    assert_eq!(alice.stop().await, 0);
    assert!(
        !alice.dir().join("control.sock").exists(),
        "the door is closed at the end"
    );
    let told = alice.types(&["backup", "late"]).await;
    assert_eq!(
        (told.status, told.err.starts_with("no daemon runs on ")),
        (1, true),
        "{told:?}"
    );
}

#[tokio::test]
async fn what_the_far_store_holds_up_is_told_as_the_stores() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    // Another program writes his store, and does not end: reading goes on, writing does not.
    let other = rusqlite::Connection::open(bob.dir().join("documents.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let gpu = resource(alice.did(), "gpu", "Waits for the store");
    alice.publish_create(DataType::Compute, &gpu).await;
    bob.wait_log(&["cannot be published", "the store does not answer"])
        .await;
    let told = |outbox: &Value| outbox.to_string().contains(r#""hold_code":"store""#);
    alice.outbox("why bob takes nothing", &["bob"], told).await;
    other.execute_batch("ROLLBACK").unwrap();
    bob.expect_document("create_resource", "gpu").await;
}
