//! From where messages are taken: a stream of ours, one of others, or core NATS, and why.

use futures::TryStreamExt;
use oc_testkit::{DataType, Federation, NatsOptions, Peer, free_port, partners, resource, until};
use serde_json::json;
use std::path::PathBuf;

const CREATE: &str = "create_resource";

fn jetstream(extra: &str) -> NatsOptions {
    NatsOptions {
        jetstream: true,
        extra: extra.to_owned(),
        ..NatsOptions::default()
    }
}

async fn make_stream(peer: &Peer, name: &str, subjects: &[&str]) {
    let context = async_nats::jetstream::new(peer.nats().clone());
    let config = async_nats::jetstream::stream::Config {
        name: name.to_owned(),
        subjects: subjects.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
}

async fn mode(peer: &Peer) -> serde_json::Value {
    let (_, body) = peer.http("/status").await.expect("the daemon answers");
    serde_json::from_str::<serde_json::Value>(&body).unwrap()["intake"].clone()
}

/// A peer whose NATS has these streams already; its daemon starts anew, without a place in any.
async fn with_streams(net: &Federation, streams: &[(&str, &[&str])]) -> Peer {
    let alice = net.peer("alice").partner_of("bob").nats(jetstream(""));
    let mut alice = alice.set("nats.manage_stream", false).start().await;
    assert_eq!(mode(&alice).await["mode"], "core");
    assert_eq!(alice.stop().await, 0);
    for (name, subjects) in streams {
        make_stream(&alice, name, subjects).await;
    }
    alice.restart().await;
    alice
}

#[tokio::test]
async fn a_stream_of_others_that_covers_all_is_used() {
    let net = Federation::new();
    let mut alice = with_streams(
        &net,
        &[(
            "APPS",
            &["create_resource", "remove_resource", "propalgation_event", "orders.>"],
        )],
    )
    .await;
    alice.wait_log(&["taking from JetStream", "APPS"]).await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    alice.kill9();
    let gpu = resource(alice.did(), "gpu", "Waits in the stream");
    alice.publish_create(DataType::Compute, &gpu).await;
    alice.app().flush().await;
    alice.restart().await;
    bob.expect_document(CREATE, "gpu").await;
}

#[tokio::test]
async fn what_others_said_on_a_shared_stream_may_be_gone_from_it() {
    let net = Federation::new();
    let all = ["create_resource", "remove_resource", "propalgation_event", "orders.>"];
    let mut alice = with_streams(&net, &[("APPS", &all)]).await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    let gpu = resource(alice.did(), "gpu", "Crosses");
    alice.publish_create(DataType::Compute, &gpu).await;
    bob.expect_document(CREATE, "gpu").await;
    assert_eq!(alice.stop().await, 0);
    for _ in 0..3 {
        alice.app().publish_bytes("orders.new", "an order").await;
    }
    let context = async_nats::jetstream::new(alice.nats().clone());
    context.get_stream("APPS").await.unwrap().purge().await.unwrap();
    alice.restart().await;
    let after = resource(alice.did(), "after", "Crosses");
    alice.publish_create(DataType::Compute, &after).await;
    bob.expect_document(CREATE, "after").await;
    let gaps = [("where", "intake"), ("reason", "stream_gap")];
    assert_eq!(alice.metrics().await.sum("ocd_dropped_total", &gaps), 0.0);
}

#[tokio::test]
async fn core_nats_after_a_stream_is_told_with_what_comes_of_it() {
    let net = Federation::new();
    let mut alice = net.peer("alice").nats(jetstream("")).start().await;
    assert_eq!(alice.stop().await, 0);
    alice.set("nats.jetstream", "off");
    alice.restart().await;
    alice
        .wait_log(&["a stream was taken from before", "a second time"])
        .await;
    assert_eq!(mode(&alice).await["mode"], "core");
}

#[tokio::test]
async fn streams_that_overlap_are_told_and_core_nats_is_used() {
    let net = Federation::new();
    let alice = with_streams(
        &net,
        &[("SOME", &["create_resource"]), ("OTHERS", &["remove_resource"])],
    )
    .await;
    let told = alice.wait_log(&["taking from core NATS", "spread"]).await;
    assert!(told.contains("SOME") && told.contains("OTHERS"), "{told}");
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "gpu", "Crosses"))
        .await;
    bob.expect_document(CREATE, "gpu").await;
}

/// Alice and Bob; Alice's daemon has taken two messages from its stream in an earlier life, and nothing in this one.
async fn idle_behind_a_cursor(net: &Federation) -> (Peer, Peer) {
    let mut alice = net.peer("alice").partner_of("bob").nats(jetstream("")).start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    for title in ["First", "Second"] {
        let gpu = resource(alice.did(), "gpu", title);
        alice.publish_create(DataType::Compute, &gpu).await;
        bob.expect_document(CREATE, "gpu").await;
    }
    assert_eq!(alice.stop().await, 0);
    alice.restart().await;
    partners(&[&alice, &bob]).await;
    (alice, bob)
}

async fn its_stream(peer: &Peer) -> async_nats::jetstream::stream::Stream {
    let context = async_nats::jetstream::new(peer.nats().clone());
    context.get_stream("OC_DISCOVERY").await.unwrap()
}

/// Removes the consumer that the daemon takes by, as the server does when a daemon is away for too long; returns when the
/// daemon has made another one.
async fn interrupt(peer: &Peer) {
    let stream = its_stream(peer).await;
    // One of the life before may be there still.
    let known: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
    for name in &known {
        stream.delete_consumer(name).await.unwrap();
    }
    until("another consumer", || async {
        let now: Vec<String> = stream.consumer_names().try_collect().await.ok()?;
        now.iter().any(|name| !known.contains(name)).then_some(())
    })
    .await;
}

async fn taken(peer: &Peer) -> f64 {
    peer.metrics().await.sum("ocd_nats_received_total", &[])
}

#[tokio::test]
async fn an_interruption_before_the_first_message_of_a_life_replays_nothing() {
    let net = Federation::new();
    let (alice, bob) = idle_behind_a_cursor(&net).await;
    let before = taken(&alice).await;
    interrupt(&alice).await;
    let gpu = resource(alice.did(), "new", "After it");
    alice.publish_create(DataType::Compute, &gpu).await;
    bob.expect_document(CREATE, "new").await;
    assert_eq!(taken(&alice).await - before, 1.0, "only the new one");
    assert_eq!(bob.heard(CREATE).len(), 3);
    assert_eq!(alice.metrics().await.dropped(), 0.0, "and no gap was seen");
}

#[tokio::test]
async fn of_a_stream_made_anew_before_the_first_message_of_a_life_nothing_is_lost() {
    let net = Federation::new();
    let (alice, bob) = idle_behind_a_cursor(&net).await;
    let context = async_nats::jetstream::new(alice.nats().clone());
    let config = its_stream(&alice).await.cached_info().config.clone();
    context.delete_stream("OC_DISCOVERY").await.unwrap();
    // The daemon may make it in the same moment: the server then refuses one of the two.
    until("the stream to be made anew", || async {
        context.get_or_create_stream(config.clone()).await.ok().map(drop)
    })
    .await;
    for id in ["one", "two", "three"] {
        let gpu = resource(alice.did(), id, "In the new one");
        alice.publish_create(DataType::Compute, &gpu).await;
    }
    for id in ["one", "two", "three"] {
        bob.expect_document(CREATE, id).await;
    }
    alice.wait_log(&["the stream is another one"]).await;
}

#[tokio::test]
async fn a_stream_that_was_set_back_is_seen_and_nothing_new_is_lost() {
    let net = Federation::new();
    let mut alice = net.peer("alice").partner_of("bob").nats(jetstream("")).start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    let say = async |alice: &Peer, id: &str| {
        let gpu = resource(alice.did(), id, "Crosses");
        alice.publish_create(DataType::Compute, &gpu).await;
        bob.expect_document(CREATE, id).await;
    };
    say(&alice, "kept").await;
    alice.kill_nats();
    let (store, backup) = (alice.dir().join("nats/jetstream"), alice.dir().join("nats/backup"));
    let copy = |from: &PathBuf, to: &PathBuf| {
        let done = std::process::Command::new("cp").arg("-a").args([from, to]).status();
        assert!(done.unwrap().success());
    };
    copy(&store, &backup);
    alice.start_nats().await;
    for id in ["a", "b", "c", "d"] {
        say(&alice, id).await;
    }
    alice.kill_nats();
    std::fs::remove_dir_all(&store).unwrap();
    copy(&backup, &store);
    alice.start_nats().await;
    say(&alice, "after").await;
    alice.wait_log(&["it was restored"]).await;
}

/// A NATS where the user `daemon` may not do `what` (`publish`, `subscribe`) on `subject` and the apps may do all, and that
/// user's password file.
fn forbidding(net: &Federation, what: &str, subject: &str, jetstream: bool) -> (NatsOptions, PathBuf) {
    let users = format!(
        "authorization {{ users: [ {{ user: apps, password: apps }}, {{ user: daemon, password: daemon, \
         permissions: {{ {what}: {{ deny: \"{subject}\" }} }} }} ] }}\nno_auth_user: apps\n"
    );
    let password = net.dir().join("password");
    std::fs::write(&password, "daemon").unwrap();
    let options = NatsOptions {
        jetstream,
        extra: users,
        ..NatsOptions::default()
    };
    (options, password)
}

#[tokio::test]
async fn without_the_permission_it_is_told_and_core_nats_is_used() {
    let net = Federation::new();
    let (nats, password) = forbidding(&net, "publish", "$JS.API.>", true);
    let alice = net.peer("alice").nats(nats);
    let alice = alice
        .set("nats.user", "daemon")
        .set("nats.password_file", json!(password));
    let alice = alice.start().await;
    alice.wait_log(&["taking from core NATS", "forbids"]).await;
    assert_eq!(mode(&alice).await["mode"], "core");
}

#[tokio::test]
async fn a_subject_that_nats_forbids_holds_up_what_comes_and_is_told() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").start().await;
    let (nats, password) = forbidding(&net, "publish", "create_resource", false);
    let bob = net.peer("bob").partner_of("alice").nats(nats);
    let bob = bob
        .set("nats.user", "daemon")
        .set("nats.password_file", json!(password));
    let bob = bob.start().await;
    partners(&[&alice, &bob]).await;
    alice
        .publish_create(DataType::Compute, &resource(alice.did(), "gpu", "Forbidden"))
        .await;
    bob.wait_log(&["cannot be published", "ermissions"]).await;
    alice
        .outbox("why bob takes nothing", &["bob"], |outbox| {
            outbox.to_string().contains("nats")
        })
        .await;
    assert_eq!(bob.heard(CREATE).len(), 0);
}

#[tokio::test]
async fn a_jetstream_that_goes_away_is_not_waited_for() {
    let net = Federation::new();
    let mut alice = net.peer("alice").partner_of("bob").nats(jetstream("")).start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    assert_eq!(mode(&alice).await["mode"], "stream");
    alice.kill_nats();
    alice.nats_server().without_jetstream();
    alice.start_nats().await;
    alice.wait_log(&["JetStream does not answer"]).await;
    alice.wait_log(&["taking from core NATS"]).await;
    let gpu = resource(alice.did(), "gpu", "A graphics processor");
    alice.publish_create(DataType::Compute, &gpu).await;
    bob.expect_document(CREATE, "gpu").await;
}

#[tokio::test]
async fn a_right_to_publish_that_ends_loses_nothing() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").start().await;
    let (nats, password) = forbidding(&net, "publish", "nothing", false);
    let (forbidden, _) = forbidding(&net, "publish", "create_resource", false);
    let allowed = nats.extra.clone();
    let bob = net.peer("bob").partner_of("alice").nats(nats);
    let bob = bob
        .set("nats.user", "daemon")
        .set("nats.password_file", json!(password));
    let mut bob = bob.start().await;
    partners(&[&alice, &bob]).await;
    let say = async |id: &str| {
        let gpu = resource(alice.did(), id, "A graphics processor");
        alice.publish_create(DataType::Compute, &gpu).await;
    };
    say("before").await;
    bob.expect_document(CREATE, "before").await;
    bob.nats_server().reload(forbidden.extra).await;
    say("forbidden").await;
    bob.wait_log(&["cannot be published", "ermissions"]).await;
    assert_eq!(bob.heard(CREATE).len(), 1);
    bob.nats_server().reload(allowed).await;
    bob.expect_document(CREATE, "forbidden").await;
}

#[tokio::test]
async fn a_subject_that_may_not_be_listened_to_keeps_the_daemon_from_being_ready() {
    let net = Federation::new();
    let (nats, password) = forbidding(&net, "subscribe", "propalgation_event", false);
    let alice = net.peer("alice").nats(nats);
    let alice = alice
        .set("nats.user", "daemon")
        .set("nats.password_file", json!(password));
    let alice = alice.launch().await;
    alice
        .wait_log(&["nothing is taken from NATS yet", "propalgation_event"])
        .await;
    let why = alice.wait_not_ready().await;
    assert!(
        why.contains("[-] listener") && why.contains("propalgation_event"),
        "{why}"
    );
}

#[tokio::test]
async fn a_jetstream_without_a_leader_is_waited_for_and_never_replaced() {
    let net = Federation::new();
    let (port, nobody) = (free_port(), free_port());
    let cluster =
        format!("cluster {{ name: alone, listen: \"127.0.0.1:{port}\", routes: [ \"nats://127.0.0.1:{nobody}\" ] }}\n");
    let alice = net.peer("alice").nats(jetstream(&cluster)).launch().await;
    alice.wait_log(&["nothing is taken from NATS yet", "JetStream"]).await;
    let why = alice.wait_not_ready().await;
    assert!(why.contains("[-] listener"), "{why}");
    let core = |line: &String| line.contains("taking from core NATS");
    assert_eq!(alice.logs().into_iter().find(core), None);
}

#[tokio::test]
async fn what_waits_for_one_peer_alone_is_bounded_and_the_oldest_is_parked() {
    let net = Federation::new();
    let alice = net.peer("alice").partner_of("bob").set("delivery.directed_rows", 5);
    let alice = alice.start().await;
    let mut bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    bob.kill9();
    for n in 0..8 {
        alice
            .publish_considers(DataType::Execution, &[bob.did()], json!({"n": n}))
            .await;
    }
    let parked = alice
        .outbox("three expired events", &["bob", "--parked"], |outbox| {
            outbox.to_string().matches("expired").count() >= 3
        })
        .await;
    assert!(parked.to_string().contains(bob.did()), "{parked}");
    bob.restart().await;
    for n in 3..8 {
        bob.expect("propalgation_event", |message| {
            message.propalgation().payload == format!("{{\"n\":{n},\"peer_ids\":[\"{}\"]}}", bob.did()).as_bytes()
        })
        .await;
    }
    assert_eq!(bob.heard("propalgation_event").len(), 5);
}
