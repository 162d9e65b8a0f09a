//! How the daemon logs in to its NATS, and what is said when it cannot.

use crate::crosses;
use oc_testkit::{Federation, NatsOptions, NatsServer, partners, until};
use serde_json::json;

#[tokio::test]
async fn nats_with_user_and_password() {
    let user = Some(("daemon".to_owned(), "s3cret pass".to_owned()));
    with_nats(NatsOptions {
        user,
        ..NatsOptions::default()
    })
    .await;
}

#[tokio::test]
async fn nats_with_user_and_password_in_its_address() {
    let net = Federation::new();
    let nats = NatsOptions {
        user: Some(("daemon".to_owned(), "s3cret pass".to_owned())),
        ..NatsOptions::default()
    };
    let mut alice = net.peer("alice").nats(nats).start().await;
    assert_eq!(alice.stop().await, 0);
    let url = alice.nats_server().url();
    alice.set("nats.url", url.replace("://", "://daemon:s3cret%20pass@"));
    alice.set("nats.user", "");
    alice.set("nats.password_file", "");
    alice.restart().await;
    let tells = |line: &String| line.contains("s3cret");
    assert!(!alice.logs().iter().any(tells));
}

#[tokio::test]
async fn nats_with_a_token() {
    with_nats(NatsOptions {
        token: Some("t0ken".to_owned()),
        ..NatsOptions::default()
    })
    .await;
}

#[tokio::test]
async fn nats_of_an_operator_with_a_credentials_file() {
    with_nats(NatsOptions {
        operator: true,
        ..NatsOptions::default()
    })
    .await;
}

#[tokio::test]
async fn nats_over_tls() {
    with_nats(NatsOptions {
        tls: true,
        ..NatsOptions::default()
    })
    .await;
}

async fn with_nats(options: NatsOptions) {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").nats(options).start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    crosses(&alice, &bob, "a").await;
    crosses(&bob, &alice, "b").await;
    let secrets = ["s3cret pass", "t0ken", "NKEY SEED"];
    assert!(
        !alice
            .logs()
            .iter()
            .any(|line| secrets.iter().any(|secret| line.contains(secret)))
    );
}

#[tokio::test]
async fn wrong_credentials_are_said_and_mended_without_a_restart() {
    let net = Federation::new();
    let user = Some(("daemon".to_owned(), "right".to_owned()));
    let nats = NatsOptions {
        user,
        ..NatsOptions::default()
    };
    let wrong = net.dir().join("wrong");
    std::fs::write(&wrong, "wrong\n").unwrap();
    let builder = net.peer("alice").nats(nats).set("nats.password_file", json!(wrong));
    let mut alice = builder.launch().await;
    let why = alice.wait_not_ready().await;
    assert!(why.contains("[-] nats"), "{why}");
    alice.wait_log(&["uthorization"]).await;
    let right = alice.dir().join("nats.password_file");
    alice.set("nats.password_file", json!(right));
    assert_eq!(alice.stop().await, 0);
    alice.restart().await;
}

#[tokio::test]
async fn a_password_that_was_changed_at_both_ends_needs_no_restart() {
    let net = Federation::new();
    let user = Some(("daemon".to_owned(), "the first".to_owned()));
    let nats = NatsOptions {
        user,
        ..NatsOptions::default()
    };
    let mut alice = net.peer("alice").nats(nats).start().await;
    let file = alice.dir().join("nats.password_file");
    alice.kill_nats();
    alice.nats_server().wants_password("the second");
    // Her app is not let in, either.
    alice.nats_server().start().await;
    alice.wait_log(&["NATS is away", "uthorization"]).await;
    // Whoever replaces the file may be in the middle of it.
    std::fs::remove_file(&file).unwrap();
    let told = alice
        .wait_log(&["NATS is away", "nats.password_file: cannot read"])
        .await;
    assert!(!told.contains("the first"), "{told}");
    assert!(alice.wait_not_ready().await.contains("nats.password_file: cannot read"));
    std::fs::write(&file, "the second\n").unwrap();
    alice.wait_ready().await;
    let secrets = ["the first", "the second"];
    let tells = |line: &String| secrets.iter().any(|secret| line.contains(secret));
    assert!(!alice.logs().iter().any(tells));
}

#[tokio::test]
async fn credentials_of_nobody_are_said_and_mended_by_a_restart() {
    let net = Federation::new();
    let nats = NatsOptions {
        operator: true,
        ..NatsOptions::default()
    };
    let nobody = net.dir().join("nobody.creds");
    std::fs::write(&nobody, NatsServer::creds_of_nobody()).unwrap();
    let builder = net.peer("alice").nats(nats).set("nats.creds_file", json!(nobody));
    let mut alice = builder.launch().await;
    // It stays, is not ready, and says who refuses it.
    let refused = || async {
        let why = alice.wait_not_ready().await;
        (why.contains("[-] nats") && why.contains("uthorization")).then_some(why)
    };
    until("alice to say that NATS refuses her", refused).await;
    alice.wait_log(&["NATS is away", "uthorization"]).await;
    let right = alice.dir().join("nats/user.creds");
    alice.set("nats.creds_file", json!(right));
    assert_eq!(alice.stop().await, 0);
    alice.restart().await;
}
