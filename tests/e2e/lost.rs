//! What was lost, or put together of two daemons: the daemon waits for people and says what they can do, instead of telling partners
//! that all of it was deleted.

use crate::alice_and_bob;
use oc_testkit::{DataType, Federation, Peer, Relation, resource, until};

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
