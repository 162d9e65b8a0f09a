//! The steps. Each says something as an app, waits for what must follow, and shows both.

use crate::show::Show;
use oc_testkit::{DataType, Federation, Message, Peer, Relation, partners, peer_document, public, resource};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CREATE: &str = "create_resource";
const EVENT: &str = "propalgation_event";
const FOUND: &str = "search_event";
const END: &str = "search_end";
const HEARTBEAT: &str = "/opencloud/resource/heartbeat/partner/1.0";
/// How long a question to everybody takes answers here, in ms.
const EVERYBODY: u64 = 1000;

fn app(peer: &Peer) -> String {
    format!("{}'s app", peer.name())
}

fn daemon(peer: &Peer) -> String {
    format!("{}'s daemon", peer.name())
}

/// What the daemon published, as one line. Its words must be its own.
fn shown(message: &Message, by: &Peer) -> String {
    let envelope = message.envelope();
    assert_eq!(envelope.from_app, "oc-discovery", "the daemon names itself in from_app");
    assert_eq!(
        message.origin().as_deref(),
        Some(by.did()),
        "Oc-Origin names the daemon"
    );
    let document = message.document();
    let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
    format!("{:?}: {}", text("id"), text("name"))
}

/// Both organisations, which do not know each other yet.
pub async fn start(show: &Show, net: &Federation) -> (Peer, Peer) {
    show.step(
        "Start",
        "`oc-discovery init` made a key for each; they share one pre-shared key and nothing else.",
    );
    let mut started = Vec::new();
    for name in ["alice", "bob"] {
        let peer = net.peer(name).start().await;
        let (ready, _) = peer.http("/readyz").await.expect("the daemon answers HTTP");
        assert_eq!(ready, 200, "{name} is ready");
        show.line(&format!(
            "   {name:<7}DID {}\n          {}  {}",
            peer.did(),
            peer.config_value("nats.url"),
            peer.identity().address
        ));
        started.push(peer);
    }
    let bob = started.pop().expect("bob was started");
    let alice = started.pop().expect("alice was started");
    (alice, bob)
}

/// CREATE_RESOURCE of a PEER on both sides.
pub async fn partnership(show: &Show, alice: &Peer, bob: &Peer) {
    show.step(
        "A partnership, both ways",
        "Each organisation's app says on its own NATS that the other one is a PARTNER.",
    );
    let began = Instant::now();
    for (one, other) in [(alice, bob), (bob, alice)] {
        one.tell_peer(other.identity(), Relation::Partner).await;
        let what = format!("peer {}, relation PARTNER", other.name());
        show.said(&app(one), CREATE, &what);
    }
    partners(&[alice, bob]).await;
    show.heard(
        "alice <> bob",
        "heartbeats",
        "both ways, link challenged",
        began.elapsed(),
    );
}

/// PB_CREATE.
pub async fn create(show: &Show, alice: &Peer, bob: &Peer) {
    show.step(
        "A create",
        "Alice made a resource. Only her own (creator_id is her DID) goes out, to every PARTNER.",
    );
    let gpu = resource(alice.did(), "gpu-1", "A graphics card");
    let began = Instant::now();
    alice.publish_create(DataType::Compute, &gpu).await;
    show.said(&app(alice), EVENT, "PB_CREATE compute_resource gpu-1");
    let heard = bob.expect_document(CREATE, "gpu-1").await;
    assert_eq!(heard.envelope().payload, gpu.to_string().into_bytes(), "byte for byte");
    show.heard(&daemon(bob), CREATE, &shown(&heard, bob), heard.at - began);
}

/// PB_UPDATE.
pub async fn update(show: &Show, alice: &Peer, bob: &Peer) {
    show.step(
        "An update",
        "To the far side an upsert, so it comes out as create_resource, too.",
    );
    let gpu = resource(alice.did(), "gpu-1", "A faster card");
    let began = Instant::now();
    alice.publish_update(DataType::Compute, &gpu).await;
    show.said(&app(alice), EVENT, "PB_UPDATE compute_resource gpu-1");
    let heard = bob
        .expect(CREATE, |message| message.document()["name"] == "A faster card")
        .await;
    show.heard(&daemon(bob), CREATE, &shown(&heard, bob), heard.at - began);
}

/// The far daemon is killed, and nothing is lost.
pub async fn absence(show: &Show, alice: &Peer, bob: &mut Peer) {
    const EDITS: usize = 3;
    show.step(
        "A partner that is dead for a while",
        "Bob's daemon is killed (kill -9). Alice's journal keeps what he has not acknowledged; of many edits the last.",
    );
    bob.kill9();
    for n in 1..=EDITS {
        let disk = resource(alice.did(), "tape-1", &format!("A tape, edit {n}"));
        alice.publish_update(DataType::Storage, &disk).await;
        show.said(
            &app(alice),
            EVENT,
            &format!("PB_UPDATE storage_resource tape-1, edit {n}"),
        );
    }
    alice.settled().await;
    let outbox = alice.types(&["outbox"]).await;
    assert_eq!(outbox.status, 0, "{outbox:?}");
    show.line(&format!("   $ oc-discovery outbox\n{}", indented(&outbox.out)));
    bob.restart().await;
    let began = Instant::now();
    let heard = bob.expect_document(CREATE, "tape-1").await;
    assert_eq!(
        heard.document()["name"],
        format!("A tape, edit {EDITS}"),
        "the last edit"
    );
    show.heard(
        &daemon(bob),
        CREATE,
        &shown(&heard, bob),
        heard.at.saturating_duration_since(began),
    );
    partners(&[alice, bob]).await;
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| format!("     {line}\n"))
        .collect::<String>()
        .trim_end()
        .to_owned()
}

/// PB_SEARCH, type partner.
pub async fn search_partners(show: &Show, alice: &Peer, bob: &Peer) {
    show.step(
        "A search, asked of partners",
        "Bob has a public disk and a private one. Alice asks her partners, in one stream each; when all have answered, \
         a report ends the search.",
    );
    bob.create_resource(DataType::Storage, &public(resource(bob.did(), "disk-1", "A big disk")))
        .await;
    show.said(&app(bob), CREATE, "disk-1: A big disk (public)");
    bob.create_resource(DataType::Storage, &resource(bob.did(), "disk-2", "A secret disk"))
        .await;
    show.said(&app(bob), CREATE, "disk-2: A secret disk (private)");
    bob.settled().await;
    let end = search(
        show,
        alice,
        "partner",
        json!({"type": "partner", "search": "disk", "id": "s1"}),
    )
    .await;
    assert_eq!(
        (&end["asked"], &end["answered"], &end["failed"], &end["results"]),
        (&json!(1), &json!(1), &json!(0), &json!(1)),
        "the report: {end}"
    );
}

/// PB_SEARCH, type all.
pub async fn search_everybody(show: &Show, alice: &Peer, bob: &Peer) {
    show.step(
        "The same, asked of everybody by gossip",
        "Signed, on the topic `search`. Nobody can know who else would answer, so its time ends it (here 1 s).",
    );
    let request = json!({"type": "all", "search": "disk", "id": "s2", "timeout_ms": EVERYBODY});
    let end = search(show, alice, "all", request).await;
    assert_eq!(end["results"], json!(1), "the report: {end}");
    assert_eq!(bob.heard(FOUND).len(), 0, "results are the asker's");
}

/// One search of alice that finds bob's public disk and nothing else. Returns its report.
async fn search(show: &Show, alice: &Peer, scope: &str, request: Value) -> Value {
    let id = request["id"].clone();
    let began = Instant::now();
    alice.publish_search(DataType::Invalid, request).await;
    show.said(&app(alice), EVENT, &format!("PB_SEARCH {scope}, \"disk\""));
    let found = alice.expect(FOUND, |message| message.json()["search_id"] == id).await;
    assert_eq!(found.document()["id"], "disk-1", "only the public disk is found");
    show.heard(&daemon(alice), FOUND, &shown(&found, alice), found.at - began);
    let end = alice.expect(END, |message| message.json()["search_id"] == id).await;
    let report = end.json();
    let what = format!("{} answered, {} result", report["answered"], report["results"]);
    show.heard(&daemon(alice), END, &what, end.at - began);
    report
}

/// CREATE_RESOURCE of a PEER that is no longer PARTNER.
pub async fn revocation(show: &Show, alice: &Peer, bob: &Peer) {
    show.step(
        "A revocation",
        "Alice's app takes the partnership back. Her daemon closes every stream to bob.",
    );
    let began = Instant::now();
    alice.tell_peer(bob.identity(), Relation::None).await;
    show.said(&app(alice), CREATE, "peer bob, relation NONE");
    for peer in [alice, bob] {
        peer.wait_metrics("no open stream", |metrics| metrics.sum("ocd_streams_open", &[]) == 0.0)
            .await;
    }
    show.heard("alice >< bob", "streams", "all closed", began.elapsed());
    let sent = alice.metrics().await.sent("create");
    let before = (alice.heard(CREATE).len(), bob.heard(CREATE).len());
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "gpu-2", "Not for bob"))
        .await;
    show.said(&app(alice), EVENT, "PB_CREATE compute_resource gpu-2");
    alice.settled().await;
    assert_eq!(
        alice.metrics().await.sent("create"),
        sent,
        "alice's daemon wrote nothing"
    );
    show.fact("alice's daemon wrote nothing to anybody");
    let refused = alice.metrics().await.refused("not_partner");
    bob.publish_create(DataType::Compute, &resource(bob.did(), "gpu-3", "Not for alice"))
        .await;
    show.said(&app(bob), EVENT, "PB_CREATE compute_resource gpu-3");
    alice
        .wait_metrics("bob's refused event", |metrics| {
            metrics.refused("not_partner") > refused
        })
        .await;
    alice.settled().await;
    assert_eq!(
        (alice.heard(CREATE).len(), bob.heard(CREATE).len()),
        before,
        "neither app hears anything more"
    );
    show.fact(
        "bob's daemon, which cannot know, tries; alice's refuses it (ocd_refused_total, rule not_partner), and neither \
         app hears anything",
    );
}

/// Partners again, for whoever wants to try more.
pub async fn again(alice: &Peer, bob: &Peer) {
    alice
        .create_resource(DataType::Peer, &peer_document(bob.identity(), Relation::Partner))
        .await;
    partners(&[alice, bob]).await;
    let open = [("protocol", HEARTBEAT)];
    alice.wait_metric("ocd_streams_open", &open, |open| open >= 1.0).await;
    // What waited for the partner is through.
    tokio::time::timeout(Duration::from_secs(5), bob.settled()).await.ok();
}
