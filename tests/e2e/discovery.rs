//! Peers that know nothing of one another but an indexer's address find each other.

use futures::future::join_all;
use oc_testkit::{
    DataType, Federation, PATIENCE, Peer, PeerBuilder, Relation, free_port, partners, public, resource, shared_with,
    until, until_within,
};
use serde_json::{Value, json};
use std::time::Duration;

/// For what is tried again after a minute only.
pub const LONG: Duration = Duration::from_secs(90);

/// An indexer, not started yet, that begins with these others.
pub fn indexer<'a>(net: &'a Federation, name: &str, others: &[&str]) -> PeerBuilder<'a> {
    knowing(net, name, others).set("discovery.role", "indexer")
}

/// A peer, not started yet, that begins with these indexers.
pub fn knowing<'a>(net: &'a Federation, name: &str, indexers: &[&str]) -> PeerBuilder<'a> {
    let addresses: Vec<String> = indexers
        .iter()
        .map(|name| net.identity(name).stream_address())
        .collect();
    net.peer(name).set("discovery.indexers", json!(addresses))
}

/// What one search for a peer finds at `at`.
pub async fn found(at: &Peer, key: &str) -> Vec<Value> {
    let (results, _) = at.search(DataType::Peer, json!({"search": key})).await;
    results.iter().map(oc_testkit::Message::document).collect()
}

/// Searches until somebody with this DID is among what is found.
pub async fn finds(at: &Peer, key: &str, did: &str) -> Value {
    // That nobody was found is remembered for a while.
    let what = format!("{} to find {did} by {key}", at.name());
    until_within(3 * PATIENCE, what, || async {
        found(at, key).await.into_iter().find(|document| document["did"] == did)
    })
    .await
}

pub async fn keeps(peer: &Peer, count: usize) {
    peer.wait_metric("ocd_indexers", &[("state", "kept")], |kept| kept == count as f64)
        .await;
}

/// How often the log says this.
fn said(peer: &Peer, what: &str) -> usize {
    peer.logs().iter().filter(|line| line.contains(what)).count()
}

/// Waits until it says so more often than `before`.
async fn says_again(patience: Duration, peer: &Peer, what: &str, before: usize) {
    until_within(patience, what, || async { (said(peer, what) > before).then_some(()) }).await;
}

/// Each finds each other by DID, PeerId and name.
async fn all_find_all(peers: &[Peer]) {
    join_all(peers.iter().map(|one| async move {
        for other in peers.iter().filter(|other| other.did() != one.did()) {
            let who = other.identity();
            for key in [&who.did, &who.peer_id, &who.name] {
                let document = finds(one, key, &who.did).await;
                assert_eq!(document["peer_id"], *who.peer_id);
                assert_eq!(document["stream_address"], who.stream_address());
            }
        }
    }))
    .await;
}

#[tokio::test]
async fn two_peers_that_know_one_indexer_find_each_other_also_where_unknown_peers_are_refused() {
    let net = Federation::new();
    let refuse = ("discovery.unknown_peers", "refuse");
    let _index = indexer(&net, "index", &[]).set(refuse.0, refuse.1).start().await;
    let alice = knowing(&net, "alice", &["index"]).set(refuse.0, refuse.1).start().await;
    let bob = knowing(&net, "bob", &["index"]).set(refuse.0, refuse.1).start().await;
    keeps(&alice, 1).await;
    keeps(&bob, 1).await;
    for (one, other) in [(&alice, &bob), (&bob, &alice)] {
        let who = other.identity();
        // As the DHT spells it, too.
        let spelled = ["/node/", "/node//node/"].map(|before| format!("{before}{}", who.did));
        for key in [&who.did, &who.peer_id, &who.name, &spelled[0], &spelled[1]] {
            let document = finds(one, key, &who.did).await;
            assert_eq!(document["public_key"], *who.public_key);
            assert_eq!(document["relation"], 0);
        }
        // An honest answer to any of them is no lie.
        keeps(one, 1).await;
    }
}

#[tokio::test]
async fn what_the_store_has_is_told_also_when_the_indexers_do_not_answer_in_time() {
    let net = Federation::new();
    let mut index = indexer(&net, "index", &[]).start().await;
    let alice = knowing(&net, "alice", &["index"]).knows("bob", Relation::None);
    let alice = alice.set("discovery.dht", false).start().await;
    keeps(&alice, 1).await;
    index.freeze();
    // Less than the 2 s that an indexer has.
    let request = json!({"search": "bob", "timeout_ms": 1500});
    let (results, end) = alice.search(DataType::Peer, request).await;
    assert_eq!((results.len(), &end["results"]), (1, &json!(1)), "{end}");
    assert_eq!(end["truncated"], true, "there may be more of that name: {end}");
}

#[tokio::test]
async fn who_asks_everybody_gets_what_is_public_also_from_those_whose_stores_do_not_know_it() {
    let net = Federation::new();
    let index = indexer(&net, "index", &[]).start().await;
    let alice = knowing(&net, "alice", &["index"]).start().await;
    let bob = knowing(&net, "bob", &["index"]).start().await;
    keeps(&alice, 1).await;
    keeps(&bob, 1).await;
    for document in [
        public(resource(bob.did(), "public-gpu", "GPU")),
        shared_with(resource(bob.did(), "shared-gpu", "GPU"), "*"),
        resource(bob.did(), "private-gpu", "GPU"),
    ] {
        bob.create_resource(DataType::Compute, &document).await;
    }
    bob.settled().await;
    let results = until("the public one to be found", || async {
        let request = json!({"type": "all", "search": "gpu", "timeout_ms": 2000});
        let (results, _) = alice.search(DataType::Compute, request).await;
        (!results.is_empty()).then_some(results)
    })
    .await;
    let ids: Vec<Value> = results.iter().map(|found| found.document()["id"].clone()).collect();
    assert_eq!(ids, [json!("public-gpu")]);
    // No store names bob: its record does.
    let named = format!("bob ({})", bob.did());
    let empty = format!("index ({})", index.did());
    let typed = until("both to answer in time", || async {
        let typed = alice.types(&["search", "gpu", "--timeout", "2"]).await;
        let end = typed.out.lines().last()?;
        (end.contains(&named) && end.contains(&empty)).then_some(typed)
    })
    .await;
    assert!(
        typed.out.contains(&format!("(compute, public-gpu) of {named}\n")),
        "{typed:?}"
    );
    let end = typed.out.lines().last().unwrap();
    assert!(end.starts_with("answered: ") && end.contains(&named), "{typed:?}");
    // Nor did anything name the indexer, which answered that it has nothing.
    assert!(end.contains(&empty), "{typed:?}");
}

#[tokio::test]
async fn an_indexer_lists_the_records_that_it_keeps() {
    let net = Federation::new();
    let index = indexer(&net, "index", &[]).start().await;
    let alice = knowing(&net, "alice", &["index"]).start().await;
    let bob = knowing(&net, "bob", &["index"]).start().await;
    keeps(&alice, 1).await;
    keeps(&bob, 1).await;
    let told = index.types(&["peer", "ls", "--records", "--json"]).await.json();
    assert_eq!((&told["total"], &told["more"]), (&json!(2), &json!(false)), "{told}");
    for (row, peer) in told["records"].as_array().unwrap().iter().zip([&alice, &bob]) {
        assert_eq!(
            (&row["name"], &row["did"]),
            (&json!(peer.name()), &json!(peer.did())),
            "{told}"
        );
        let address = row["addresses"][0].as_str().unwrap();
        assert!(peer.identity().stream_address().starts_with(address), "{told}");
    }
    let one = index.types(&["peer", "ls", "--records", "--limit", "1"]).await;
    assert!(one.out.contains("\nalice  ") && !one.out.contains("\nbob"), "{one:?}");
    assert!(one.out.contains("1 of 2 records"), "{one:?}");
    assert!(one.out.ends_with("--limit shows more\n"), "{one:?}");
    let ls = index.types(&["peer", "ls"]).await;
    assert!(
        ls.out.contains("keeps 2 records of others: `peer ls --records`"),
        "{ls:?}"
    );
    let none = alice.types(&["peer", "ls", "--records"]).await;
    assert_eq!(none.status, 1);
    assert!(none.err.contains("this daemon is no indexer"), "{none:?}");
    assert_eq!(
        index.types(&["peer", "ls", "--records", "--limit", "0"]).await.status,
        64
    );
}

#[tokio::test]
async fn ten_peers_that_know_one_of_three_indexers_each_find_all_others_whatever_indexers_do() {
    const ALONE: &str = "no indexer can be reached";
    const AGAIN: &str = "an indexer is kept again";
    let net = Federation::new();
    let mut indexers = vec![indexer(&net, "index-0", &[]).start().await];
    for name in ["index-1", "index-2"] {
        indexers.push(indexer(&net, name, &["index-0"]).start().await);
    }
    let names: Vec<String> = (0..10).map(|n| format!("peer-{n}")).collect();
    let starting = names.iter().enumerate().map(|(n, name)| {
        let knows = format!("index-{}", n % 3);
        knowing(&net, name, &[&knows]).start()
    });
    let peers: Vec<Peer> = join_all(starting).await;
    all_find_all(&peers).await;
    // Of the others they learn.
    join_all(peers.iter().map(|peer| keeps(peer, 3))).await;
    for left in [2, 1] {
        indexers[2 - left].kill9();
        all_find_all(&peers).await;
        join_all(peers.iter().map(|peer| keeps(peer, left))).await;
    }
    // Either may have been said as they started.
    let words = |peer: &Peer| (said(peer, ALONE), said(peer, AGAIN));
    let before: Vec<_> = peers.iter().map(words).collect();
    indexers[2].kill9();
    join_all(peers.iter().map(|peer| keeps(peer, 0))).await;
    all_find_all(&peers).await;
    for (peer, (alone, _)) in peers.iter().zip(&before) {
        says_again(PATIENCE, peer, ALONE, *alone).await;
        assert_eq!(said(peer, ALONE), alone + 1, "{}", peer.name());
    }
    for index in &mut indexers {
        index.restart().await;
    }
    let each = peers.iter().zip(&before);
    join_all(each.map(|(peer, (_, again))| says_again(LONG, peer, AGAIN, *again))).await;
    all_find_all(&peers).await;
}

#[tokio::test]
async fn by_the_dht_a_peer_finds_those_that_it_never_heard_of_when_all_indexers_are_gone() {
    let net = Federation::new();
    let mut index = indexer(&net, "index", &[]).start().await;
    let names = ["alice", "bob", "carol", "dave"];
    let starting = names.iter().map(|name| {
        let peer = knowing(&net, name, &["index"]);
        if *name == "alice" {
            peer.partner_of("bob").start()
        } else {
            peer.start()
        }
    });
    let mut peers: Vec<Peer> = join_all(starting).await;
    // Each record is on all the others.
    for peer in &peers {
        peer.wait_metric_within(LONG, "ocd_dht_records", &[], |kept| kept >= 4.0)
            .await;
    }
    index.kill9();
    // Alice forgets everything but that bob is her partner.
    assert_eq!(peers[0].stop().await, 0);
    std::fs::remove_file(peers[0].dir().join("records.jsonl")).unwrap();
    peers[0].restart().await;
    let (alice, dave) = (&peers[0], &peers[3]);
    finds(alice, dave.did(), dave.did()).await;
    let metrics = alice.metrics().await;
    let by_dht = metrics.sum("ocd_lookups_total", &[("way", "dht"), ("result", "found")]);
    assert!(by_dht >= 1.0, "{by_dht}");
    assert_eq!(
        metrics.sum("ocd_lookups_total", &[("way", "indexer"), ("result", "found")]),
        0.0
    );
}

#[tokio::test]
async fn by_the_dht_a_peer_learns_of_indexers_that_nobody_told_it_of() {
    let net = Federation::new();
    let index = indexer(&net, "index", &[]).start().await;
    let bob = knowing(&net, "bob", &["index"]).partner_of("alice").start().await;
    keeps(&bob, 1).await;
    let alice = net.peer("alice").partner_of("bob").start().await;
    keeps(&alice, 1).await;
    let listed = alice.types(&["peer", "ls", "--json"]).await.json();
    let learnt = &listed["indexers"][0];
    assert_eq!(
        (&learnt["peer_id"], &learnt["seed"]),
        (&json!(index.peer_id()), &json!(false)),
        "{listed}"
    );
    finds(&index, alice.did(), alice.did()).await;
}

/// Moves a peer to another port.
async fn moves(peer: &mut Peer, port: u16) {
    assert_eq!(peer.stop().await, 0);
    peer.set("network.listen", json!([format!("/ip4/127.0.0.1/tcp/{port}")]));
    peer.restart().await;
}

#[tokio::test]
async fn a_partner_that_moves_is_found_again_without_anybody_editing_a_document_and_so_when_it_comes_back() {
    let net = Federation::new();
    let _index = indexer(&net, "index", &[]).start().await;
    let alice = knowing(&net, "alice", &["index"]).partner_of("bob").start().await;
    // He never dials: his own document of her leads nowhere, and he knows nobody to ask where she is.
    let mut bob = knowing(&net, "bob", &["index"]).start().await;
    let mut astray = alice.identity().clone();
    astray.address = "/ip4/127.0.0.1/tcp/9".to_owned();
    bob.tell_peer(&astray, Relation::Partner).await;
    partners(&[&alice, &bob]).await;
    let home = bob.identity().port();
    for port in [free_port(), home] {
        moves(&mut bob, port).await;
        partners(&[&alice, &bob]).await;
        let id = format!("from-{port}");
        alice
            .publish_create(DataType::Compute, &resource(alice.did(), &id, "Moved"))
            .await;
        bob.expect_document("create_resource", &id).await;
    }
}

#[tokio::test]
async fn an_indexer_keeps_its_records_over_a_restart() {
    let net = Federation::new();
    let mut index = indexer(&net, "index", &[]).start().await;
    let alice = knowing(&net, "alice", &["index"]).start().await;
    let mut bob = knowing(&net, "bob", &["index"]).start().await;
    keeps(&alice, 1).await;
    keeps(&bob, 1).await;
    bob.kill9();
    assert_eq!(index.stop().await, 0);
    index.restart().await;
    index.wait_metric("ocd_records", &[], |records| records >= 1.0).await;
    finds(&index, bob.did(), bob.did()).await;
}

/// Waits until the record of `peer` at an indexer says so.
async fn says(index: &Peer, peer: &Peer, key: &str, value: &str) {
    until(format!("{key} to be {value}"), || async {
        let document = found(index, peer.did()).await.into_iter().next()?;
        (document[key] == value).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_address_that_changes_while_the_daemon_runs_is_told_at_once() {
    let net = Federation::new();
    let index = indexer(&net, "index", &[]).start().await;
    let mut alice = knowing(&net, "alice", &["index"]).start().await;
    keeps(&alice, 1).await;
    // By heartbeats alone, one in twenty seconds, this would take two minutes.
    let changes = async {
        for n in 0..6 {
            let address = format!("/dns4/alice-{n}.example/tcp/4001");
            alice.set("network.announce", json!([address]));
            alice.hang_up();
            let told = format!("{address}/p2p/{}", alice.peer_id());
            says(&index, &alice, "stream_address", &told).await;
        }
    };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, changes)
        .await
        .expect("each is told at once");
    // So is what else our own document says.
    let mut own = json!({"id": alice.did(), "name": "alice", "relation": 1, "peer_id": alice.peer_id(),
        "api_url": "https://api.alice.example"});
    own["public_key"] = json!(alice.identity().public_key);
    alice.create_resource(DataType::Peer, &own).await;
    until_within(patience, "the API to be told", || async {
        let document = found(&index, alice.did()).await.into_iter().next()?;
        (document["api_url"] == "https://api.alice.example").then_some(())
    })
    .await;
}
