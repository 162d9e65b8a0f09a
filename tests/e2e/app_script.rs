//! `scripts/app.py`, an app in people's hands: what it says of what became of a message.
//!
//! Owns how the script is run. Always: whatever goes wrong is one plain line and a status, never a traceback.

use crate::alice_and_bob;
use oc_testkit::{DataType, Federation, NatsOptions, Peer, Typed, free_port, public, resource};
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;

/// Runs the script against the NATS server at `url`.
async fn app(url: &str, arguments: &[&str]) -> Typed {
    let mut command = Command::new("python3");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/app.py");
    command.arg(script).args(["--nats", url]).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await;
    let output = output.unwrap();
    let typed = Typed {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    assert!(!typed.err.contains("Traceback"), "{}", typed.err);
    typed
}

fn nats_of(peer: &Peer) -> String {
    peer.config_value("nats.url")
}

fn gpu(did: &str, id: &str) -> String {
    public(resource(did, id, "GPU")).to_string()
}

#[tokio::test]
async fn what_the_daemon_takes_and_what_it_refuses_is_told() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let url = nats_of(&alice);
    let taken = app(
        &url,
        &["propagate", "create", "compute_resource", &gpu(alice.did(), "mine")],
    )
    .await;
    assert_eq!((taken.status, taken.out.as_str()), (0, ""), "{}", taken.err);
    assert!(taken.err.contains("on the daemon's disk"), "{}", taken.err);
    bob.expect_document("create_resource", "mine").await;

    let other = gpu("somebody else", "theirs");
    let refused = app(&url, &["propagate", "create", "compute_resource", &other]).await;
    assert_eq!(refused.status, 1);
    assert!(
        refused
            .err
            .contains("refuses it (not_creator): resource \"theirs\": its creator_id"),
        "{}",
        refused.err
    );
    // Whoever does not wait hears nothing of it.
    let unheard = app(&url, &["propagate", "create", "compute_resource", &other, "--no-wait"]).await;
    assert_eq!((unheard.status, unheard.err.as_str()), (0, ""));
}

#[tokio::test]
async fn a_search_is_shown_to_its_end_and_a_refused_one_ends_at_once() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let url = nats_of(&alice);
    bob.create_resource(DataType::Compute, &public(resource(bob.did(), "gpu", "GPU")))
        .await;
    bob.settled().await;
    let wanted = r#"{"type":"partner","search":"gpu","id":"s1"}"#;
    let search = app(&url, &["propagate", "search", "invalid", wanted, "--wait"]).await;
    assert_eq!(search.status, 0, "{}", search.err);
    assert!(search.out.starts_with("search_event"), "{}", search.out);
    assert!(search.out.contains("\nsearch_end"), "{}", search.out);
    let wrong = r#"{"type":"friends","search":"gpu","id":"s2"}"#;
    let refused = app(&url, &["propagate", "search", "invalid", wrong, "--wait"]).await;
    assert_eq!(refused.status, 1, "{}{}", refused.out, refused.err);
    assert!(refused.err.contains("the daemon refuses it ("), "{}", refused.err);
}

#[tokio::test]
async fn a_stream_is_named_as_what_has_taken_it() {
    let net = Federation::new();
    let nats = NatsOptions {
        jetstream: true,
        ..NatsOptions::default()
    };
    let alice = net.peer("alice").nats(nats).start().await;
    let document = gpu(alice.did(), "mine");
    let taken = app(
        &nats_of(&alice),
        &["publish", "create_resource", "compute_resource", &document],
    )
    .await;
    assert_eq!(taken.status, 0, "{}", taken.err);
    assert!(taken.err.contains("in the stream OC_DISCOVERY"), "{}", taken.err);
}

#[tokio::test]
async fn where_no_daemon_or_no_nats_is_that_is_said() {
    let net = Federation::new();
    let mut alice = net.peer("alice").deaf().start().await;
    let url = nats_of(&alice);
    let publish = ["publish", "create_resource", "compute_resource", "{}"];
    assert_eq!(alice.stop().await, 0);
    let alone = app(&url, &publish).await;
    assert_eq!(alone.status, 1);
    assert!(alone.err.contains("nobody listens"), "{}", alone.err);

    let nobody = app(&format!("nats://127.0.0.1:{}", free_port()), &publish).await;
    assert_eq!(nobody.status, 1);
    assert!(nobody.err.contains("does not answer: "), "{}", nobody.err);

    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("nats://{}", other.local_addr().unwrap());
    std::thread::spawn(move || other.accept().unwrap().0.write_all(b"220 mail.example ready\r\n"));
    let other = app(&address, &publish).await;
    assert_eq!(other.status, 1);
    assert!(other.err.contains("is no NATS server"), "{}", other.err);
}

#[tokio::test]
async fn words_that_nobody_knows_are_wrong_usage() {
    for (arguments, says) in [
        (&["publish", "creat_resource", "peer", "{}"][..], "create_resource"),
        (
            &["publish", "search_event", "peer", "{}"],
            "no daemon listens to search_event",
        ),
        (
            &["publish", "create_resource", "gpu", "{}"],
            "there is no datatype gpu; there are ",
        ),
        (&["publish", "create_resource", "99", "{}"], "there is no datatype 99"),
        (
            &["propagate", "destroy", "peer", "{}"],
            "there is no action destroy; there are ",
        ),
        (&["propagate", "1", "peer", "{}"], "there is no action 1"),
        (&["listn"], "listen"),
        (&["publish", "create_resource", "peer", "{"], "no JSON"),
        (
            &["propagate", "create", "peer", "{}", "--wait"],
            "--wait needs a search",
        ),
    ] {
        let wrong = app("nats://127.0.0.1:1", arguments).await;
        assert_eq!(wrong.status, 64, "{arguments:?}: {}", wrong.err);
        assert!(wrong.err.contains(says), "{arguments:?}: {}", wrong.err);
    }
    let wrong = app("127.0.0.1:port", &["listen"]).await;
    assert_eq!(wrong.status, 64, "{}", wrong.err);
    let shown = app(
        "nats://127.0.0.1:1",
        &["publish", "create_resource", "peer", "{}", "--print"],
    )
    .await;
    assert!(
        shown.out.starts_with(r#"{"from_app":"app.py","datatype":9,"#),
        "{shown:?}"
    );
}
