//! What operators do about peers: invites, lists, and the question why.

use crate::discovery::{indexer, keeps, knowing};
use crate::hostile::still_crosses;
use oc_testkit::{Federation, Peer, Relation, partners};
use serde_json::{Value, json};

/// What the daemon of `at` says of `who`, when that is one peer.
async fn explained(at: &Peer, who: &str) -> Value {
    let told = at.types(&["peer", "explain", who, "--json"]).await.json();
    assert_eq!(told["peers"].as_array().map(Vec::len), Some(1), "{told}");
    told["peers"][0].clone()
}

#[tokio::test]
async fn two_invites_make_two_partners() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let bob = net.peer("bob").start().await;
    for (one, other) in [(&alice, &bob), (&bob, &alice)] {
        let invite = other.types(&["peer", "invite"]).await;
        assert_eq!(invite.status, 0, "{invite:?}");
        assert!(invite.err.contains(other.peer_id()), "{invite:?}");
        assert!(invite.err.contains("Only daemons on this machine"), "{invite:?}");
        let line = invite.out.trim();
        assert!(
            line.starts_with("oc-invite-1:") && !line.contains(char::is_whitespace),
            "{line}"
        );
        // Without a person to ask nothing happens unless it is said.
        let asked = one.types(&["peer", "add", line]).await;
        assert_eq!(asked.status, 64, "{asked:?}");
        for shown in [
            other.name(),
            other.did(),
            other.peer_id(),
            "follows from the key",
            "127.0.0.1",
        ] {
            assert!(asked.err.contains(shown), "{shown}: {asked:?}");
        }
        let added = one.types(&["peer", "add", line, "--yes"]).await;
        assert_eq!(added.status, 0, "{added:?}");
    }
    partners(&[&alice, &bob]).await;
    still_crosses(&alice, &bob).await;
    let list = alice.types(&["peer", "ls", "--json"]).await.json();
    let row = &list["peers"][0];
    assert_eq!((&row["did"], &row["relation"]), (&json!(bob.did()), &json!("partner")));
    assert_eq!(row["connected"], true);
    let told = alice.types(&["peer", "ls"]).await.out;
    assert!(told.contains(bob.peer_id()) && told.contains("connected"), "{told}");

    let nowhere = bob.types(&["peer", "invite", "--address", "/ip4/10.0.0.1/udp/1"]).await;
    assert_eq!(nowhere.status, 64, "{nowhere:?}");

    let broken = bob
        .types(&["peer", "invite"])
        .await
        .out
        .trim()
        .replace("oc-invite-1:", "oc-invite-1:AAAA");
    let refused = alice.types(&["peer", "add", &broken, "--yes"]).await;
    assert_eq!(refused.status, 1, "{refused:?}");

    for verb in ["rm", "explain"] {
        let typo = alice.types(&["peer", verb, "bop"]).await;
        assert_eq!((typo.status, typo.out.as_str()), (1, ""), "{typo:?}");
        assert!(
            typo.err.contains("called \"bop\"") && !typo.err.contains("goes"),
            "{typo:?}"
        );
    }
    let removed = alice.types(&["peer", "rm", "bob", "--yes"]).await;
    assert_eq!(removed.status, 0, "{removed:?}");
    assert!(removed.err.contains(&format!("bob ({})", bob.did())), "{removed:?}");
    let list = alice.types(&["peer", "ls", "--json"]).await.json();
    assert_eq!(list["peers"], json!([]));
    let again = alice.types(&["peer", "rm", "bob", "--yes"]).await;
    assert!(again.status == 1 && again.err.contains("bob"), "{again:?}");
}

#[tokio::test]
async fn where_the_apps_own_the_store_they_are_told_what_to_publish() {
    let net = Federation::new();
    let mut alice = net.peer("alice").start().await;
    let bob = net.peer("bob").start().await;
    assert_eq!(alice.stop().await, 0);
    alice.set("store.writes", "apps");
    alice.restart().await;
    let line = bob
        .types(&["peer", "invite", "--address", "/dns4/bob.example/tcp/4001"])
        .await
        .out;
    let told = alice.types(&["peer", "add", line.trim(), "--yes", "--json"]).await;
    assert!(
        told.status == 1 && told.err.contains("nothing was added"),
        "it is no success: {told:?}"
    );
    let told: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(
        (&told["written"], &told["subject"]),
        (&json!(false), &json!("create_resource"))
    );
    let list = alice.types(&["peer", "ls", "--json"]).await.json();
    assert_eq!(list["peers"], json!([]));
    // What it says is what the daemon takes from an app.
    alice
        .app()
        .publish_bytes("create_resource", told["message"].as_str().unwrap().to_owned())
        .await;
    alice.settled().await;
    let list = alice.types(&["peer", "ls", "--json"]).await.json();
    assert_eq!(list["peers"][0]["did"], *bob.did());
    assert_eq!(list["peers"][0]["addresses"], json!(["/dns4/bob.example/tcp/4001"]));
    let removed = alice.types(&["peer", "rm", "bob"]).await;
    assert!(
        removed.out.contains("publish on remove_resource") && removed.err.contains("nothing was removed"),
        "there is nothing to ask: {removed:?}"
    );
    assert_eq!(removed.status, 1, "and it is no success");
}

#[tokio::test]
async fn the_daemon_says_what_it_does_with_a_peer_and_why() {
    let net = Federation::new();
    let _index = indexer(&net, "index", &[]).start().await;
    let alice = knowing(&net, "alice", &["index"])
        .partner_of("bob")
        .knows("eve", Relation::Blacklist)
        .set("discovery.unknown_peers", "refuse");
    let alice = alice.start().await;
    let _bob = knowing(&net, "bob", &["index"]).partner_of("alice").start().await;
    let carol = knowing(&net, "carol", &["index"]).start().await;
    keeps(&alice, 1).await;
    keeps(&carol, 1).await;
    let (bob, eve, index) = (net.identity("bob"), net.identity("eve"), net.identity("index"));
    let table = [
        (bob.did.as_str(), true, "known", "is delivered to it"),
        (&bob.peer_id, true, "known", "is delivered to it"),
        ("bob", true, "known", "is delivered to it"),
        ("eve", false, "blacklisted", "refused both ways"),
        (&eve.peer_id, false, "blacklisted", "refused both ways"),
        (carol.did(), true, "vouched", "what is public"),
        (carol.peer_id(), true, "vouched", "the indexer"),
        ("carol", true, "vouched", "follows from its key"),
        (&index.did, true, "indexer", "one of our indexers"),
        (&index.peer_id, true, "indexer", "one of our indexers"),
        ("index", true, "indexer", "follows from its key"),
        (alice.did(), true, "self", "our own"),
        ("did:nobody", false, "unknown_peer", "discovery.unknown_peers is refuse"),
    ];
    for (who, allowed, rule, says) in table {
        let told = explained(&alice, who).await;
        assert_eq!(
            (&told["allowed"], &told["rule"]),
            (&json!(allowed), &json!(rule)),
            "{who}: {told}"
        );
        assert!(told["says"].to_string().contains(says), "{who}: {told}");
    }
    let words = alice.types(&["peer", "explain", "eve"]).await.out;
    assert!(
        words.contains("refused by the rule blacklisted, from its document in our store"),
        "{words}"
    );
}
