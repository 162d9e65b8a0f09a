//! What was lost, or put together of two daemons: the daemon waits for people and says what they can do, instead of telling partners
//! that all of it was deleted.

use crate::alice_and_bob;
use crate::history::holds_the_same;
use oc_testkit::{DataType, Federation, Peer, Relation, partners, resource, until};
use serde_json::json;
use std::path::Path;

const CREATE: &str = "create_resource";

/// Waits until `/readyz?verbose` says this of a check.
async fn says(peer: &Peer, check: &str, words: &[&str]) -> String {
    until(format!("{} to say {words:?} of {check}", peer.name()), || async {
        let (_, body) = peer.http("/readyz?verbose").await?;
        let line = body.lines().find(|line| line.starts_with(&format!("[-] {check}: ")))?;
        words.iter().all(|word| line.contains(word)).then(|| line.to_owned())
    })
    .await
}

/// Moves the embedded store, with what stands in its log, in the place of another.
fn move_store(from: &Path, to: &Path) {
    for side in ["", "-wal", "-shm"] {
        let name = format!("documents.db{side}");
        let _ = std::fs::remove_file(to.join(&name));
        if from.join(&name).exists() {
            std::fs::rename(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

#[tokio::test]
async fn an_embedded_store_that_was_lost_or_mistyped_deletes_nothing_at_partners() {
    let net = Federation::new();
    let (mut alice, bob) = alice_and_bob(&net).await;
    let ids = ["a", "b", "c"].map(str::to_owned);
    for id in &ids {
        let document = resource(alice.did(), id, "Stays");
        // Stored here, too: from now on that it is not there means that it was deleted.
        alice.create_resource(DataType::Compute, &document).await;
        alice.publish_create(DataType::Compute, &document).await;
        bob.expect_document(CREATE, id).await;
    }
    assert_eq!(alice.stop().await, 0);
    alice.restart().await;
    partners(&[&alice, &bob]).await;
    assert_eq!(alice.stop().await, 0);

    // A slip of the keys in the settings.
    let other = alice.dir().join("docuemnts.db");
    alice.set("store.url", format!("sqlite:{}", other.display()));
    alice.run();
    let why = says(
        &alice,
        "identity",
        &["docuemnts.db", "earlier life", "remove journal.db"],
    )
    .await;
    assert!(why.contains("peers known: 1"), "{why}");
    assert!(!alice.is_ready().await);
    assert_eq!(alice.stop().await, 0);

    // A file that was not restored.
    alice.set(
        "store.url",
        format!("sqlite:{}", alice.dir().join("documents.db").display()),
    );
    let kept = alice.dir().join("kept");
    std::fs::create_dir(&kept).unwrap();
    move_store(alice.dir(), &kept);
    alice.run();
    says(&alice, "identity", &["documents.db", "earlier life"]).await;
    assert_eq!(alice.stop().await, 0);
    move_store(&kept, alice.dir());
    alice.restart().await;
    partners(&[&alice, &bob]).await;
    holds_the_same(&bob, &alice, &ids.into()).await;
    assert!(bob.heard("remove_resource").is_empty());

    // Whoever means it removes the journal, too.
    assert_eq!(alice.stop().await, 0);
    std::fs::remove_file(alice.dir().join("journal.db")).unwrap();
    move_store(alice.dir(), &kept);
    alice.restart().await;
}

#[tokio::test]
async fn documents_restored_beside_another_key_are_told() {
    let net = Federation::new();
    let (mut alice, bob) = alice_and_bob(&net).await;
    assert_eq!(alice.stop().await, 0);
    let (key, kept) = (alice.dir().join("node.key"), alice.dir().join("kept.key"));
    std::fs::rename(&key, &kept).unwrap();
    alice.run();
    // Also once the store has been read again and again.
    alice.wait_log(&["a peer is PARTNER: connecting"]).await;
    let why = says(&alice, "identity", &[alice.peer_id(), "our key is that of 12D3KooW"]).await;
    assert!(why.contains("identity.key_file"), "{why}");
    assert_eq!(alice.stop().await, 0);
    std::fs::rename(&kept, &key).unwrap();
    alice.restart().await;
    partners(&[&alice, &bob]).await;
}

#[tokio::test]
async fn a_new_key_that_is_meant_counts_when_our_document_says_it() {
    let net = Federation::new();
    let mut alice = net.peer("alice").start().await;
    assert_eq!(alice.stop().await, 0);
    std::fs::remove_file(alice.dir().join("node.key")).unwrap();
    alice.run();
    says(&alice, "identity", &["our key is that of"]).await;
    alice.wait_log(&["taking from core NATS"]).await;
    let id = alice.types(&["id"]).await.json();
    let own = json!({
        "id": alice.did(), "name": "alice", "relation": 1, "peer_id": id["peer_id"], "public_key": id["public_key"],
    });
    alice.create_resource(DataType::Peer, &own).await;
    oc_testkit::until_within(oc_testkit::PATIENCE * 2, "the new key to count", || async {
        alice.is_ready().await.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_store_that_takes_nothing_is_told_while_it_is_read_well() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    // Another program writes the stores, and does not end: reading goes on, writing does not.
    let block = |peer: &Peer| {
        let other = rusqlite::Connection::open(peer.dir().join("documents.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        other
    };
    let others = [block(&alice), block(&bob)];
    let gpu = resource(alice.did(), "gpu", "Waits for both stores");
    alice.publish_create(DataType::Compute, &gpu).await;
    alice.tell_peer(bob.identity(), Relation::Partner).await;
    says(&alice, "store_writes", &["did not answer"]).await;
    says(&bob, "store_writes", &["did not answer"]).await;
    for other in others {
        other.execute_batch("ROLLBACK").unwrap();
    }
    alice.wait_ready().await;
    bob.wait_ready().await;
    bob.expect_document(CREATE, "gpu").await;
}
