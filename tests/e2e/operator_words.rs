//! What operators are told when they ask for what cannot be done, and how far their word goes.

use crate::alice_and_bob;
use crate::hostile_peer::alice_and_gopher;
use oc_testkit::{DataType, Federation, Relation, partners, resource};
use serde_json::{Value, json};

const CREATE: &str = "create_resource";

#[tokio::test]
async fn a_peer_that_is_known_and_no_partner_is_said_to_be_that() {
    let net = Federation::new();
    let alice = net.peer("alice").knows("carol", Relation::None).start().await;
    let carol = net.identity("carol");
    let told = alice.types(&["outbox", "carol"]).await;
    let expected = "carol is known, with the relation none: nothing is delivered to it\n";
    assert_eq!((told.status, told.out.as_str()), (0, expected), "{told:?}");
    let everybody = alice.types(&["outbox"]).await;
    assert_eq!(everybody.out, "no partners: nothing is delivered to anybody\n");
    let refused = alice.types(&["peer", "resync", "carol", "--allow-deletes"]).await;
    assert!(
        refused.status == 1 && refused.err.contains("carol is not a partner (its relation is none)"),
        "{refused:?}"
    );
    // What waits for it alone makes it a destination, and nothing to compare with.
    alice
        .publish_considers(DataType::Compute, &[&carol.did], json!({"x": 1}))
        .await;
    let waits = |told: &Value| told["partners"][0]["lag_rows"] == 1;
    alice.outbox("a considers that waits", &["carol"], waits).await;
    let refused = alice.types(&["peer", "resync", "carol"]).await;
    assert!(
        refused.status == 1 && refused.err.contains("there is nothing to compare with it"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_partner_that_compares_nothing_is_not_said_to_be_compared() {
    let net = Federation::new();
    let Some((alice, go)) = alice_and_gopher(&net, net.peer("alice")).await else {
        return;
    };
    let legacy = |told: &Value| told["partners"][0]["legacy"] == true;
    alice
        .outbox("a partner that knows only /1.0", &["gopher"], legacy)
        .await;
    let refused = alice.types(&["peer", "resync", go.did()]).await;
    assert!(
        refused.status == 1 && refused.err.contains("knows only the /1.0 protocols"),
        "{refused:?}"
    );
    // It is asked again, and delivered to as before.
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "gpu", "Goes on"))
        .await;
    alice
        .wait_metrics("what is sent to it", |metrics| metrics.sent("create") == 1.0)
        .await;
}

#[tokio::test]
async fn a_peer_that_is_renamed_is_shown_by_its_new_name() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let mut renamed = bob.identity().clone();
    renamed.name = "robert".to_owned();
    alice.tell_peer(&renamed, Relation::Partner).await;
    let named = |told: &Value| told["partners"][0]["name"] == "robert";
    alice.outbox("the new name", &["robert"], named).await;
    let status = alice.types(&["status"]).await;
    assert!(
        status.out.contains("\nrobert ") && !status.out.contains("\nbob "),
        "{status:?}"
    );
    let old = alice.types(&["outbox", "bob"]).await;
    assert!(
        old.status == 1 && old.err.contains("no partner is called \"bob\"; there are: robert"),
        "{old:?}"
    );
}

#[tokio::test]
async fn a_blacklisted_peer_does_not_come_back_by_its_invite() {
    let net = Federation::new();
    let alice = net.peer("alice").knows("bob", Relation::Blacklist).start().await;
    let bob = net.peer("bob").start().await;
    let line = bob.types(&["peer", "invite"]).await.out;
    for relation in ["partner", "none"] {
        let typed = ["peer", "add", line.trim(), "--yes", "--relation", relation];
        let refused = alice.types(&typed).await;
        let how = format!("`peer rm {}` first", bob.did());
        assert!(
            refused.status == 1 && refused.err.contains("is blacklisted") && refused.err.contains(&how),
            "{refused:?}"
        );
    }
    let typed = ["peer", "add", line.trim(), "--yes", "--relation", "blacklist"];
    assert_eq!(alice.types(&typed).await.status, 0, "it stays what it is");
    assert_eq!(alice.types(&["peer", "rm", "bob", "--yes"]).await.status, 0);
    assert_eq!(alice.types(&["peer", "add", line.trim(), "--yes"]).await.status, 0);
    let list = alice.types(&["peer", "ls", "--json"]).await.json();
    assert_eq!(list["peers"][0]["relation"], "partner");
}

#[tokio::test]
async fn deletes_that_are_allowed_for_one_partner_are_taken_from_its_comparison() {
    const RESOURCES: usize = 150;
    let net = Federation::new();
    let (mut alice, mut bob) = alice_and_bob(&net).await;
    // From here on the apps own her store, and never write these there.
    assert_eq!(alice.stop().await, 0);
    alice.set("store.writes", "apps");
    alice.restart().await;
    partners(&[&alice, &bob]).await;
    for n in 0..RESOURCES {
        let gone = resource(alice.did(), &format!("r-{n}"), "Nowhere");
        alice.publish_create(DataType::Compute, &gone).await;
    }
    bob.expect_document(CREATE, &format!("r-{}", RESOURCES - 1)).await;
    assert_eq!((alice.stop().await, bob.stop().await), (0, 0));
    std::fs::remove_file(bob.dir().join("journal.db")).unwrap();
    // What was taken in an earlier life is held against the store, however young.
    alice.restart().await;
    let before = bob.heard(CREATE).len();
    let told = alice.types(&["peer", "resync", "bob", "--allow-deletes"]).await;
    assert!(
        told.status == 0 && told.out.contains("gone for every partner"),
        "{told:?}"
    );
    bob.restart().await;
    partners(&[&alice, &bob]).await;
    let to_bob = [("partner", bob.did())];
    alice
        .wait_metric("ocd_comparisons_total", &to_bob, |count| count >= 1.0)
        .await;
    let all = |told: &Value| told["partners"][0]["state"] == "tail" && told["partners"][0]["lag_rows"] == 0;
    alice.outbox("a partner that has everything", &["bob"], all).await;
    bob.settled().await;
    assert_eq!(bob.heard(CREATE).len(), before, "what is gone is not sent again");
    assert!(
        !alice.logs().iter().any(|line| line.contains("they are not deleted")),
        "the guard was lifted for this comparison"
    );
    // The store itself is compared by a word of its own.
    let told = alice.types(&["peer", "resync", "--store"]).await;
    assert!(
        told.status == 0 && told.out.contains("compared with our store"),
        "{told:?}"
    );
    let both = alice.types(&["peer", "resync", "bob", "--store"]).await;
    assert_eq!(both.status, 64, "{both:?}");
}
