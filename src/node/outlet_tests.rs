//! The outlet before a real NATS server whose messages may not be large.

use super::*;
use crate::model::Member;
use crate::settings::{Sources, load};
use crate::store::SqliteStore;
use crate::telemetry::{Metrics, Readiness};
use crate::wire::DataType;
use futures::StreamExt;
use oc_testkit::{NatsOptions, NatsServer};
use std::path::PathBuf;
use tempfile::TempDir;

const MAX: usize = 8 * 1024;

/// The outlet, an app that hears what it publishes, and what was counted.
struct Scene {
    outlet: NatsOutlet,
    heard: async_nats::Subscriber,
    metrics: Metrics,
    _server: NatsServer,
    _dir: TempDir,
}

async fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let options = NatsOptions {
        max_payload: Some(MAX),
        ..NatsOptions::default()
    };
    let mut server = NatsServer::new("outlet", &dir.path().join("nats"), options);
    server.start().await;
    let app = server.connect_options().connect(server.url()).await.unwrap();
    let heard = app.subscribe("create_resource").await.unwrap();
    app.flush().await.unwrap();
    let set = vec!["name=here".to_owned(), format!("nats.url={}", server.url())];
    let sources = Sources::of_process(Some(PathBuf::from("/dev/null")), set);
    let settings = load(&sources).unwrap().settings;
    let metrics = Metrics::new();
    let bus = crate::bus::connect(&settings.nats, &settings.limits, metrics.clone()).await;
    let bus = bus.unwrap().marked_as("did:here");
    bus.connected().await;
    let partner = Member {
        did: "did:a".into(),
        name: "a".into(),
        relation: Relation::Partner,
        peer_id: None,
        addresses: Vec::new(),
    };
    let federation = Federation::new("did:here".into(), [partner]);
    let outlet = NatsOutlet {
        bus,
        heard: None,
        store: Arc::new(SqliteStore::open(&dir.path().join("store.db")).unwrap()),
        writes_store: true,
        federation: watch::channel(Arc::new(federation)).1,
        lineage: Token([7; 16]),
        confident: false,
        store_writes: Sides::new(Readiness::new(&[]), "store_writes"),
        refusals: Refusals::new(metrics.clone()),
    };
    Scene {
        outlet,
        heard,
        metrics,
        _server: server,
        _dir: dir,
    }
}

/// A document of Alice's; its message has this many bytes, or up to three less.
fn row(n: u64, bytes: usize) -> Todo {
    let payload = |pad: usize| {
        let text = format!(r#"{{"id":"r-{n}","creator_id":"did:a","pad":"{}"}}"#, "x".repeat(pad));
        bytes::Bytes::from(text)
    };
    let takes = |pad| {
        message(Action::Create, DataType::DataResource, "", &payload(pad))
            .1
            .len()
    };
    // Base64 makes four bytes of three.
    let most = bytes.saturating_sub(takes(0)) / 4 * 3 + 3;
    let pad = (0..most).rev().find(|pad| takes(*pad) <= bytes).unwrap_or_default();
    let payload = payload(pad);
    Todo {
        n,
        origin: "did:a".into(),
        key: crate::delivery::Key {
            datatype: DataType::DataResource,
            id: format!("r-{n}"),
        },
        action: Action::Create,
        user: String::new(),
        hash: crate::delivery::Hash::of(&payload),
        payload,
    }
}

/// Puts the rows until all are done, as the publisher does; says in how many goes, and what was given up.
async fn put_all(outlet: &mut NatsOutlet, rows: &[Todo]) -> (usize, Vec<(u64, Refusal)>) {
    let (mut done, mut goes, mut given_up) = (0, 0, Vec::new());
    while done < rows.len() {
        let put = outlet.put(&rows[done..]).await;
        assert!(put.done > 0, "stuck at {done}: {:?}", put.stuck);
        given_up.extend(put.given_up.iter().map(|(place, why)| (rows[done + place].n, *why)));
        (done, goes) = (done + put.done, goes + 1);
    }
    (goes, given_up)
}

async fn ids(scene: &mut Scene, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let message = tokio::time::timeout(oc_testkit::PATIENCE, scene.heard.next()).await;
        let body = message.expect("another message").unwrap().payload;
        let limits = crate::wire::ReadLimits {
            message_bytes: MAX,
            depth: 9,
        };
        let envelope = crate::wire::Envelope::read(&body, &limits).unwrap();
        ids.push(crate::wire::read_id(&envelope.payload).unwrap());
    }
    ids
}

#[tokio::test]
async fn one_that_is_too_large_in_a_batch_takes_nothing_with_it() {
    let mut scene = scene().await;
    // The last but one fits by its payload, and not with its headers.
    let rows = [row(1, 0), row(2, 2 * MAX), row(3, 0), row(4, MAX), row(5, 0)];
    let (goes, given_up) = put_all(&mut scene.outlet, &rows).await;
    assert!(goes <= rows.len());
    let refusal = Refusal {
        code: "too_large",
        max: Some(MAX as u64),
    };
    assert_eq!(given_up, [(2, refusal), (4, refusal)], "their sender is told");
    assert_eq!(ids(&mut scene, 3).await, ["r-1", "r-3", "r-5"]);
    let counted = scene.metrics.encode();
    assert!(
        counted.contains(r#"ocd_dropped_total{where="inbound",reason="nats_too_large"} 2"#),
        "{counted}"
    );
}
