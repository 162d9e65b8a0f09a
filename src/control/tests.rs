//! Requests read, partners found, and the socket's own bounds.

use super::outbox::whom;
use super::verbs::read;
use super::{AskError, Control, ControlError, Request, Status, Verbs, ask, socket_of};
use crate::delivery::PartnerStatus;
use crate::model::{Federation, Member, Relation};
use crate::settings::{Settings, Sources, load};
use crate::telemetry::Readiness;
use libp2p::PeerId;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

fn code(line: &str) -> String {
    read(line.as_bytes()).unwrap_err().code
}

#[test]
fn a_request_is_understood_whole_or_not_at_all() {
    let asked = |line: &str| read(line.as_bytes()).unwrap();
    assert_eq!(asked(r#"{"verb":"status"}"#), Request::Status {});
    assert_eq!(
        asked(r#"{"verb":"outbox","parked":true}"#),
        Request::Outbox {
            partner: None,
            parked: true,
            id: None,
            skip: 0
        }
    );
    // What this version does not know could have narrowed the request.
    assert_eq!(
        code(r#"{"verb":"outbox_retry","partner":"bob","before":1}"#),
        "bad_request"
    );
    assert_eq!(code(r#"{"verb":"outbox_drop"}"#), "bad_request");
    assert_eq!(code(r#"{"verb":"forget_all"}"#), "unknown_verb");
    for line in ["", "[]", "{}", "{\"verb\":1}", "{\"verb\":\"status\"} x", "\u{1}"] {
        assert!(["bad_request", "unknown_verb"].contains(&code(line).as_str()), "{line}");
    }
    let told = read(br#"{"verb":"x"}"#).unwrap_err().text;
    assert!(told.contains("status, outbox, outbox_retry"), "{told}");
}

#[test]
fn what_is_asked_is_read_again() {
    for request in [
        Request::Status {},
        Request::Backup {
            to: PathBuf::from("/backups/1"),
            with_keys: true,
        },
        Request::Resync {
            partner: "bob".to_owned(),
            allow_deletes: false,
        },
        Request::Outbox {
            partner: None,
            parked: true,
            id: Some("x".to_owned()),
            skip: 1_000,
        },
        Request::Reconcile { allow_deletes: true },
        Request::OutboxRetry {
            partner: "bob".to_owned(),
            id: Some("x".to_owned()),
        },
    ] {
        assert_eq!(read(&serde_json::to_vec(&request).unwrap()).unwrap(), request);
    }
}

fn member(did: &str, name: &str, relation: Relation, peer_id: Option<PeerId>) -> Member {
    Member {
        did: did.to_owned(),
        name: name.to_owned(),
        relation,
        peer_id,
        addresses: vec![],
    }
}

fn status(did: &str, name: &str) -> PartnerStatus {
    PartnerStatus {
        did: did.to_owned(),
        name: name.to_owned(),
        ..PartnerStatus::default()
    }
}

#[test]
fn a_partner_is_meant_by_did_peer_id_or_a_name_that_is_its_alone() {
    let peer = PeerId::random();
    let federation = Federation::new(
        "me".to_owned(),
        [
            member("me", "bob", Relation::SelfPeer, None),
            member("did:bob", "bob", Relation::Partner, Some(peer)),
            member("did:other", "bob", Relation::None, None),
            member("did:c1", "carol", Relation::Partner, None),
            member("did:c2", "carol", Relation::Partner, None),
            member("did:d", "dora", Relation::None, None),
        ],
    );
    let served = [
        status("did:bob", "bob"),
        status("did:c1", "carol"),
        status("did:c2", "carol"),
    ];
    let meant = |key: &str| whom(key, &served, &federation).map_err(|refused| refused.code);
    assert_eq!(meant("did:bob"), Ok("did:bob".to_owned()));
    assert_eq!(meant(&peer.to_string()), Ok("did:bob".to_owned()));
    assert_eq!(
        meant("bob"),
        Ok("did:bob".to_owned()),
        "a partner comes before a stranger of its name"
    );
    assert_eq!(meant("dora"), Ok("did:d".to_owned()));
    assert_eq!(meant("intake"), Ok(String::new()));
    assert_eq!(meant("carol"), Err("ambiguous".to_owned()));
    assert_eq!(meant("nobody"), Err("unknown_partner".to_owned()));
}

fn settings() -> Arc<Settings> {
    let sources = Sources::of_process(Some(PathBuf::from("/dev/null")), vec!["name=here".to_owned()]);
    Arc::new(load(&sources).unwrap().settings)
}

/// A daemon that is starting.
fn opened(dir: &Path) -> Result<Control, ControlError> {
    let verbs = Verbs::new(
        watch::Sender::new(settings()).subscribe(),
        "peer".to_owned(),
        Readiness::new(&["nats"]),
        watch::Sender::new(None).subscribe(),
    );
    Control::open(dir, verbs)
}

async fn asked<T: serde::de::DeserializeOwned + Send + 'static>(dir: &Path, request: Request) -> Result<T, AskError> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || ask(&dir, &request)).await.unwrap()
}

fn raw(dir: &Path, bytes: &[u8]) -> Value {
    let mut stream = UnixStream::connect(socket_of(dir)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_starting_tells_what_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    // A daemon that died left its socket.
    drop(std::os::unix::net::UnixListener::bind(socket_of(dir.path())).unwrap());
    let control = opened(dir.path()).unwrap();
    let mode = std::fs::metadata(socket_of(dir.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let told: Status = asked(dir.path(), Request::Status {}).await.unwrap();
    assert_eq!(
        (told.name.as_str(), told.peer_id.as_str(), told.did, told.ready),
        ("here", "peer", None, false)
    );
    assert_eq!(
        (told.intake.mode.as_str(), told.checks[0].why.as_str()),
        ("starting", "not yet")
    );
    let outbox = Request::Outbox {
        partner: None,
        parked: false,
        id: None,
        skip: 0,
    };
    let refused = asked::<Value>(dir.path(), outbox.clone())
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(refused, "the daemon is still starting (nats: not yet)");

    let long = vec![b'x'; 20_000];
    assert_eq!(raw(dir.path(), &long)["error"]["code"], "bad_request");
    assert_eq!(
        raw(dir.path(), b"{\"verb\":\"dance\"}\n")["error"]["code"],
        "unknown_verb"
    );
    assert_eq!(
        raw(dir.path(), b"{\"verb\":\"status\"}\n")["ok"]["version"],
        json!(env!("CARGO_PKG_VERSION"))
    );

    drop(control);
    assert!(!socket_of(dir.path()).exists());
    let refused = asked::<Value>(dir.path(), outbox).await.unwrap_err();
    assert!(matches!(refused, AskError::NoDaemon { .. }), "{refused}");
}

#[tokio::test]
async fn a_path_that_no_socket_can_have_is_said_at_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    assert!(matches!(opened(&deep), Err(ControlError::TooLong { .. })));
    let refused = ask::<Value>(&deep, &Request::Status {}).unwrap_err();
    assert!(matches!(refused, AskError::TooLong { .. }), "{refused}");
}
