//! Invites by whom one should not trust: what they claim takes nobody's place, and what they say moves no cursor.

use crate::alice_and_bob;
use crate::hostile::still_crosses;
use crate::hostile_discovery::{record, record_at, soon};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libp2p::identity::Keypair;
use oc_testkit::Federation;
use serde_json::json;

/// An invite is a record by another name.
fn invite(record: &str) -> String {
    format!("oc-invite-1:{}", URL_SAFE_NO_PAD.encode(record))
}

#[tokio::test]
async fn an_invite_takes_no_place_of_another_peer() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let before = alice.types(&["peer", "ls", "--json"]).await.json();
    let mallory = Keypair::generate_ed25519();
    let did_of_bob = invite(&record(&mallory, bob.did(), "bob", soon()));
    let refused = alice.types(&["peer", "add", &did_of_bob, "--yes"]).await;
    assert!(
        refused.status == 1 && refused.err.contains("its DID is that of \"bob\""),
        "{refused:?}"
    );
    let own_did = invite(&record(&mallory, alice.did(), "alice", soon()));
    let refused = alice.types(&["peer", "add", &own_did, "--yes"]).await;
    assert!(
        refused.status == 1 && refused.err.contains("this daemon itself"),
        "{refused:?}"
    );
    // The same organisation under a second DID.
    let carol = invite(&record(&mallory, "did:carol", "carol", soon()));
    assert_eq!(alice.types(&["peer", "add", &carol, "--yes"]).await.status, 0);
    let again = invite(&record(&mallory, "did:dora", "dora", soon()));
    let refused = alice.types(&["peer", "add", &again, "--yes"]).await;
    assert!(
        refused.status == 1 && refused.err.contains("is already that of \"carol\""),
        "{refused:?}"
    );
    assert_eq!(alice.types(&["peer", "rm", "carol", "--yes"]).await.status, 0);
    let after = alice.types(&["peer", "ls", "--json"]).await.json();
    assert_eq!(before["peers"][0]["addresses"], after["peers"][0]["addresses"]);
    assert_eq!(after["peers"].as_array().map(Vec::len), Some(1), "{after}");
    still_crosses(&bob, &alice).await;
}

#[tokio::test]
async fn names_and_addresses_of_others_move_no_cursor() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let key = Keypair::generate_ed25519();
    let peer = key.public().to_peer_id();
    let name = r"\u001b[2J\u001b]0;owned\u0007bob\u202egpj\r\n  relation   none";
    let address = format!(r"/dns4/evil\u001b[2J.example/tcp/1/p2p/{peer},/ip4/127.0.0.1/tcp/9/p2p/{peer}");
    let line = invite(&record_at(&key, "did:evil", name, &address, soon()));
    let added = alice.types(&["peer", "add", &line, "--yes"]).await;
    assert_eq!(added.status, 0, "{added:?}");
    let listed = alice.types(&["peer", "ls"]).await;
    let explained = alice.types(&["peer", "explain", "did:evil"]).await;
    let asked = alice.types(&["peer", "explain", "who\u{1b}[2J\u{202e}"]).await;
    let removed = alice.types(&["peer", "rm", "did:evil", "--yes"]).await;
    for typed in [&added, &listed, &explained, &asked, &removed] {
        for text in [&typed.out, &typed.err] {
            let moves = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(moves), "{text:?}");
        }
    }
    // The made-up line stands in the one of the name.
    assert_eq!(
        added
            .err
            .lines()
            .filter(|line| line.trim_start().starts_with("relation"))
            .count(),
        1
    );
    // What was not shown was not written.
    assert!(
        !listed.out.contains("evil.example") && listed.out.contains("/ip4/127.0.0.1/tcp/9"),
        "{listed:?}"
    );
}

#[tokio::test]
async fn an_invite_that_was_changed_on_its_way_is_none() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let key = Keypair::generate_ed25519();
    let good = record(&key, "did:bob", "bob", soon());
    for changed in [
        good.replace("\"name\":\"bob\"", "\"name\":\"eve\""),
        good.replace("tcp/9", "tcp/8"),
        good.replace("did:bob", "did:eve"),
        format!("{}garbage", &good[..good.len() - 1]),
        "{}".to_owned(),
    ] {
        let refused = alice.types(&["peer", "add", &invite(&changed), "--yes"]).await;
        assert_eq!(refused.status, 1, "{changed}: {refused:?}");
    }
    let list = alice.types(&["peer", "ls", "--json"]).await.json();
    assert_eq!(list["peers"], json!([]));
}
