//! Nothing taken is lost: partners, daemons and NATS servers that are away, die, forget or refuse.

use crate::history::{History, documents_of, holds_the_same};
use crate::{alice_and_bob, crosses};
use oc_testkit::{DataType, Federation, NatsOptions, Peer, Relation, partners, resource, until};
use serde_json::json;
use std::collections::BTreeSet;

const CREATE: &str = "create_resource";
const REMOVE: &str = "remove_resource";
const EVENT: &str = "propalgation_event";

fn with_jetstream() -> NatsOptions {
    NatsOptions {
        jetstream: true,
        ..NatsOptions::default()
    }
}

#[tokio::test]
async fn what_is_said_while_a_partner_is_dead_is_there_when_it_is_back() {
    const EVENTS: usize = 2000;
    let net = Federation::new();
    let (alice, mut bob) = alice_and_bob(&net).await;
    bob.kill9();
    for n in 0..EVENTS {
        alice
            .publish_create(DataType::Compute, &resource(alice.did(), &format!("r-{n}"), "Waits"))
            .await;
    }
    alice.settled().await;
    bob.restart().await;
    // In the order of the feed, or of the keys when lists were compared.
    until("all of them at bob", || async {
        (bob.heard(CREATE).len() >= EVENTS).then_some(())
    })
    .await;
    let ids: BTreeSet<String> = bob
        .heard(CREATE)
        .iter()
        .map(|heard| heard.document()["id"].to_string())
        .collect();
    assert_eq!((ids.len(), bob.heard(CREATE).len()), (EVENTS, EVENTS), "each once");
    assert_eq!(alice.metrics().await.dropped(), 0.0);
}

#[tokio::test]
async fn of_many_edits_only_the_last_crosses() {
    let net = Federation::new();
    let (alice, mut bob) = alice_and_bob(&net).await;
    assert_eq!(bob.stop().await, 0);
    for edit in 0..20 {
        for n in 0..50 {
            let mut document = resource(alice.did(), &format!("r-{n}"), "Edited");
            document["version"] = json!(edit);
            alice.publish_update(DataType::Compute, &document).await;
        }
    }
    alice.settled().await;
    bob.restart().await;
    for n in 0..50 {
        let last = bob.expect_document(CREATE, &format!("r-{n}")).await;
        assert_eq!(last.document()["version"], 19);
    }
    assert_eq!(bob.heard(CREATE).len(), 50);
}

#[tokio::test]
async fn a_daemon_that_was_dead_takes_what_waits_in_its_stream() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").nats(with_jetstream());
    let mut alice = alice.start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    crosses(&alice, &bob, "before").await;
    alice.kill9();
    for n in 0..500 {
        alice
            .publish_create(DataType::Compute, &resource(alice.did(), &format!("r-{n}"), "Waits"))
            .await;
    }
    for n in 0..250 {
        alice
            .publish_delete(DataType::Compute, &json!({"id": format!("r-{n}")}))
            .await;
    }
    alice.app().flush().await;
    alice.restart().await;
    bob.expect_document(CREATE, "r-499").await;
    holds_the_same(
        &bob,
        &alice,
        &(250..500).map(|n| format!("r-{n}")).chain(["before".into()]).collect(),
    )
    .await;
}

#[tokio::test]
async fn considers_wait_too_and_each_one_arrives_once() {
    let net = Federation::new();
    let (alice, mut bob) = alice_and_bob(&net).await;
    bob.kill9();
    for n in 0..20 {
        alice
            .publish_considers(
                DataType::Execution,
                &[bob.did()],
                json!({"same": "for all", "n": n % 2}),
            )
            .await;
    }
    alice.settled().await;
    bob.restart().await;
    for _ in 0..20 {
        bob.expect(EVENT, |_| true).await;
    }
    assert_eq!(bob.stop().await, 0);
    bob.restart().await;
    partners(&[&alice, &bob]).await;
    crosses(&alice, &bob, "after").await;
    assert_eq!(bob.heard(EVENT).len(), 20);
}

#[tokio::test]
async fn considers_reach_a_known_peer_that_is_no_partner() {
    let net = Federation::new();
    let alice = net.peer("alice").knows("bob", Relation::None).start().await;
    let bob = net.peer("bob").knows("alice", Relation::None).start().await;
    alice
        .publish_considers(DataType::Execution, &[bob.did()], json!({"n": 1}))
        .await;
    bob.expect(EVENT, |_| true).await;
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "not-for-bob", "Stays"))
        .await;
    alice
        .publish_considers(DataType::Execution, &[bob.peer_id()], json!({"n": 2}))
        .await;
    bob.expect(EVENT, |_| true).await;
    assert!(bob.heard(CREATE).is_empty());
}

#[tokio::test]
async fn a_receiver_whose_apps_do_not_listen_yet_keeps_it_for_them() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").start().await;
    let bob = net.peer("bob").partner_of("alice").deaf();
    let mut bob = bob.start().await;
    partners(&[&alice, &bob]).await;
    // From here on nobody but the apps writes the store, and no app listens.
    assert_eq!(bob.stop().await, 0);
    bob.set("store.writes", "apps");
    bob.restart().await;
    partners(&[&alice, &bob]).await;
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "r", "Waits"))
        .await;
    bob.wait_metrics("the event", |metrics| metrics.received("create") == 1.0)
        .await;
    bob.wait_log(&["cannot be published", "nobody listens"]).await;
    let told = bob.types(&["status", "--json"]).await.json();
    assert_eq!(
        (&told["to_publish"]["waiting"], &told["to_publish"]["code"]),
        (&json!(1), &json!("nats"))
    );
    let why = "nobody listens to create_resource on NATS";
    assert_eq!(told["to_publish"]["why"], why);
    let words = bob.types(&["status"]).await.out;
    assert!(
        words.contains(&format!("partners' changes: 1 wait (nats): {why}")),
        "{words}"
    );
    bob.kill9();
    bob.restart().await;
    let mut late = bob.nats().subscribe(CREATE).await.unwrap();
    bob.app().flush().await;
    let heard = tokio::time::timeout(oc_testkit::PATIENCE, futures::StreamExt::next(&mut late)).await;
    let heard = heard.expect("it is published").expect("a message");
    assert!(!heard.payload.is_empty());
    until("bob to have published all", || async {
        let told = bob.types(&["status", "--json"]).await.json();
        (told["to_publish"] == json!({"waiting": 0})).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_partner_that_lost_its_state_gets_everything_again() {
    let net = Federation::new();
    let (alice, mut bob) = alice_and_bob(&net).await;
    for id in ["a", "b", "c"] {
        crosses(&alice, &bob, id).await;
    }
    assert_eq!(bob.stop().await, 0);
    for name in ["journal.db", "documents.db"] {
        std::fs::remove_file(bob.dir().join(name)).unwrap();
    }
    bob.restart().await;
    bob.tell_peer(alice.identity(), Relation::Partner).await;
    partners(&[&alice, &bob]).await;
    holds_the_same(&bob, &alice, &["a", "b", "c"].map(str::to_owned).into()).await;
}

#[tokio::test]
async fn a_store_that_has_nothing_deletes_nothing_at_partners() {
    const RESOURCES: usize = 150;
    let net = Federation::new();
    let (mut alice, mut bob) = alice_and_bob(&net).await;
    // From here on the apps own her store, and never write these there.
    assert_eq!(alice.stop().await, 0);
    alice.set("store.writes", "apps");
    alice.restart().await;
    partners(&[&alice, &bob]).await;
    for n in 0..RESOURCES {
        alice
            .publish_create(DataType::Compute, &resource(alice.did(), &format!("r-{n}"), "Nowhere"))
            .await;
    }
    bob.expect_document(CREATE, &format!("r-{}", RESOURCES - 1)).await;
    // What was taken in an earlier life is held against the store, however young.
    assert_eq!((alice.stop().await, bob.stop().await), (0, 0));
    for name in ["journal.db", "documents.db"] {
        std::fs::remove_file(bob.dir().join(name)).unwrap();
    }
    alice.restart().await;
    bob.restart().await;
    bob.tell_peer(alice.identity(), Relation::Partner).await;
    partners(&[&alice, &bob]).await;
    holds_the_same(&bob, &alice, &(0..RESOURCES).map(|n| format!("r-{n}")).collect()).await;
    alice.wait_log(&["not in the store", "not deleted at partners"]).await;
}

#[tokio::test]
async fn a_sender_that_lost_its_journal_compares_and_goes_on() {
    let net = Federation::new();
    let (mut alice, bob) = alice_and_bob(&net).await;
    let mut history = History::new(7);
    // Between subjects NATS keeps no order, and without a journal the store alone says what there is: edit by edit.
    for _ in 0..60 {
        history.edit(&alice).await;
        alice.settled().await;
    }
    holds_the_same(&bob, &alice, &history.ids()).await;
    assert_eq!(alice.stop().await, 0);
    std::fs::remove_file(alice.dir().join("journal.db")).unwrap();
    alice.restart().await;
    partners(&[&alice, &bob]).await;
    for _ in 0..60 {
        history.edit(&alice).await;
        alice.settled().await;
    }
    history.arrives_at(&bob, &alice).await;
}

#[tokio::test]
async fn a_daemon_that_starts_again_delivers_though_nothing_new_is_said() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").nats(with_jetstream());
    let mut alice = alice.start().await;
    let mut bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    assert_eq!(bob.stop().await, 0);
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "r", "Waits"))
        .await;
    alice.settled().await;
    assert_eq!(alice.stop().await, 0);
    bob.restart().await;
    alice.restart().await;
    bob.expect_document(CREATE, "r").await;
}

#[tokio::test]
async fn a_sender_restored_from_a_backup_is_seen_and_healed() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").nats(with_jetstream());
    let mut alice = alice.start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    let mut history = History::new(11);
    for _ in 0..50 {
        history.edit(&alice).await;
    }
    history.arrives_at(&bob, &alice).await;
    assert_eq!(alice.stop().await, 0);
    let (file, backup) = (alice.dir().join("journal.db"), alice.dir().join("journal.backup"));
    std::fs::copy(&file, &backup).unwrap();
    alice.restart().await;
    for _ in 0..50 {
        history.edit(&alice).await;
    }
    history.arrives_at(&bob, &alice).await;
    alice.kill9();
    for leftover in ["journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(alice.dir().join(leftover));
    }
    std::fs::copy(&backup, &file).unwrap();
    alice.restart().await;
    for _ in 0..10 {
        history.edit(&alice).await;
    }
    history.arrives_at(&bob, &alice).await;
}

#[tokio::test]
async fn admitted_late_it_gets_what_was_said_before() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").start().await;
    let bob = net.peer("bob").knows("alice", Relation::None).start().await;
    for n in 0..10 {
        alice
            .publish_create(DataType::Compute, &resource(alice.did(), &format!("r-{n}"), "Early"))
            .await;
    }
    alice.wait_log(&["takes no changes now", "not_partner"]).await;
    assert!(bob.heard(CREATE).is_empty());
    bob.tell_peer(alice.identity(), Relation::Partner).await;
    bob.expect_document(CREATE, "r-9").await;
    assert_eq!(bob.heard(CREATE).len(), 10);
}

#[tokio::test]
async fn revoked_and_admitted_again_it_is_brought_up_to_date() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    for id in ["stays", "goes", "changes"] {
        crosses(&alice, &bob, id).await;
    }
    bob.tell_peer(alice.identity(), Relation::None).await;
    bob.settled().await;
    alice.publish_delete(DataType::Compute, &json!({"id": "goes"})).await;
    let mut changed = resource(alice.did(), "changes", "Changed");
    changed["version"] = json!(2);
    alice.publish_update(DataType::Compute, &changed).await;
    crosses_not(&alice, &bob).await;
    bob.tell_peer(alice.identity(), Relation::Partner).await;
    partners(&[&alice, &bob]).await;
    let newest = bob.expect(CREATE, |message| message.document()["version"] == 2).await;
    assert_eq!(newest.document()["id"], "changes");
}

async fn crosses_not(alice: &Peer, bob: &Peer) {
    alice.settled().await;
    bob.settled().await;
    assert_eq!(bob.heard(CREATE).len(), 3);
    assert!(bob.heard(REMOVE).is_empty());
}

#[tokio::test]
async fn what_a_partner_refuses_is_parked_with_the_reason_and_the_rest_flows() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").start().await;
    let small = NatsOptions {
        max_payload: Some(64 * 1024),
        ..NatsOptions::default()
    };
    let bob = net.peer("bob").partner_of("alice").nats(small).start().await;
    partners(&[&alice, &bob]).await;
    bob.create_resource(DataType::Compute, &resource(bob.did(), "of-bob", "His own"))
        .await;
    bob.settled().await;
    let mut big = resource(alice.did(), "big", "Too big");
    big["description"] = json!("x".repeat(100 * 1024));
    alice.publish_create(DataType::Data, &big).await;
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "of-bob", "Claimed"))
        .await;
    crosses(&alice, &bob, "after").await;
    alice.wait_log(&["parked", "id=big", "too_large"]).await;
    alice.wait_log(&["parked", "id=of-bob", "not_owner"]).await;
    assert_eq!(bob.heard(CREATE).len(), 1);
    assert_eq!(alice.metrics().await.sum("ocd_parked_total", &[]), 2.0);
    assert_eq!(documents_of(&bob, bob.did()).len(), 1, "his own is untouched");
}

#[tokio::test]
async fn with_too_little_room_on_the_disk_nothing_is_taken_and_nothing_is_lost() {
    let net = Federation::new();
    let (alice, mut bob) = alice_and_bob(&net).await;
    crosses(&alice, &bob, "before").await;
    assert_eq!(bob.stop().await, 0);
    bob.set("delivery.min_free_bytes", "1024GiB");
    bob.run();
    let why = bob.wait_not_ready().await;
    assert!(!why.is_empty());
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "meanwhile", "Waits"))
        .await;
    alice.wait_log(&["takes no changes now", "disk"]).await;
    let told = bob.http("/readyz?verbose").await.unwrap().1;
    let disk = told.lines().find(|line| line.starts_with("[-] disk: ")).unwrap();
    assert!(disk.contains("min_free_bytes"), "{told}");
    assert!(told.contains("[+] journal"), "{told}");
    assert_eq!(bob.stop().await, 0);
    bob.set("delivery.min_free_bytes", "0");
    bob.restart().await;
    bob.expect_document(CREATE, "meanwhile").await;
}

#[tokio::test]
async fn an_app_that_asks_is_told_when_its_word_is_safe() {
    let net = Federation::new();
    let alice = net
        .peer("alice")
        .set("limits.document_bytes", "16KiB")
        .set("limits.message_bytes", "64KiB")
        .start()
        .await;
    let said = async |action, document: &serde_json::Value| {
        let inner = Peer::propalgation(action, DataType::Compute, document);
        let body = Peer::envelope("oc-catalog", DataType::Compute, &inner);
        let answer = alice.nats().request(EVENT, body.into()).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        (answer["ok"].clone(), text("error"), text("why"), answer.to_string())
    };
    let safe = json!({"ok": true}).to_string();
    use oc_testkit::Action::{ClosePlanner, Considers, Create};
    assert_eq!(said(Create, &resource(alice.did(), "r", "Mine")).await.3, safe);
    let own = json!({"peer_ids": [alice.did()]});
    assert_eq!(said(Considers, &own).await.3, safe, "nothing to do is no refusal");
    let (large, nobody) = ("x".repeat(70_000), json!({"peer_ids": ["nobody", alice.did()], "n": 1}));
    for (action, document, error, why) in [
        (
            Create,
            resource("somebody else", "s", "Not mine"),
            "not_creator",
            "creator_id",
        ),
        (
            Create,
            resource(alice.did(), "l", &large),
            "too_large",
            "limits.message_bytes",
        ),
        (Considers, nobody, "unknown_peer", "1 of 2 left out: \"nobody\""),
        (ClosePlanner, json!({"peer_id": "nobody"}), "unknown_peer", "nobody"),
    ] {
        let (ok, told, because, _) = said(action, &document).await;
        assert_eq!((ok, told.as_str()), (json!(false), error));
        assert!(because.contains(why), "{because}");
    }
}

#[tokio::test]
async fn jetstream_required_and_not_there_is_said_and_never_replaced() {
    let net = Federation::new();
    let alice = net.peer("alice").set("nats.jetstream", "require").launch().await;
    let why = alice.wait_not_ready().await;
    assert!(!why.is_empty());
    alice.wait_log(&["require", "no JetStream"]).await;
    assert!(!alice.is_ready().await);
}

#[tokio::test]
async fn a_stream_that_is_removed_is_made_again_and_the_store_heals_the_gap() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").nats(with_jetstream());
    let alice = alice.start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    crosses(&alice, &bob, "before").await;
    let jetstream = async_nats::jetstream::new(alice.nats().clone());
    jetstream.delete_stream("OC_DISCOVERY").await.unwrap();
    alice.wait_log(&["the stream was removed"]).await;
    alice.wait_log(&["made the stream"]).await;
    alice.wait_ready().await;
    crosses(&alice, &bob, "after").await;
}
