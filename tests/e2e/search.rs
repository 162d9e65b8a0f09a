//! PB_SEARCH: by gossip ("Recherche gossip globale"), by direct questions, and for peers (`GetPeerRecord`).

use crate::alice_and_bob;
use oc_testkit::{
    DataType, Federation, Identity, Message, Peer, Relation, free_port, partners, public, resource, shared_with, until,
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

/// How long a gossiped search takes answers here: nobody knows who else may answer, so only time ends it.
const SHORT: u64 = 1500;

fn ids(results: &[Message]) -> Vec<String> {
    let mut ids: Vec<String> = results
        .iter()
        .map(|m| m.document()["id"].as_str().unwrap_or("?").to_owned())
        .collect();
    ids.sort();
    ids
}

/// The app of `owner` has these documents.
async fn has(owner: &Peer, datatype: DataType, documents: &[Value]) {
    for document in documents {
        owner.create_resource(datatype, document).await;
    }
    owner.settled().await;
}

/// Searches until just these are found: on a busy machine an answer may come after the search's time.
async fn finds_in_time(at: &Peer, datatype: DataType, request: Value, expected: &[&str]) -> (Vec<Message>, Value) {
    until(format!("just {expected:?} to be found"), || async {
        let (results, end) = at.search(datatype, request.clone()).await;
        (ids(&results) == expected).then_some((results, end))
    })
    .await
}

#[tokio::test]
async fn type_all_asks_everybody_by_gossip() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let gpu = public(resource(bob.did(), "gpu-1", "A GPU <&> \u{2028} fast"));
    has(
        &bob,
        DataType::Compute,
        &[gpu.clone(), public(resource(bob.did(), "cpu-1", "A processor"))],
    )
    .await;
    has(
        &bob,
        DataType::Storage,
        &[public(resource(bob.did(), "disk-1", "Disk for a gpu"))],
    )
    .await;
    let request = json!({"type": "all", "search": "gpu", "timeout_ms": SHORT});
    let (results, end) = finds_in_time(&alice, DataType::Invalid, request, &["disk-1", "gpu-1"]).await;
    for result in &results {
        let envelope = result.envelope();
        assert_eq!(envelope.from_app, "oc-discovery");
        assert_eq!(
            envelope.user, "user-of-the-app",
            "the answer goes to the user that asked"
        );
        assert_eq!(result.origin().as_deref(), Some(alice.did()));
        let storage = result.document()["id"] == "disk-1";
        let datatype = if storage { DataType::Storage } else { DataType::Compute };
        assert_eq!(envelope.datatype, datatype as u64);
        assert!(
            storage || envelope.payload == gpu.to_string().into_bytes(),
            "byte for byte"
        );
    }
    assert_eq!(
        (&end["answered"], &end["results"], &end["truncated"]),
        (&json!(1), &json!(2), &json!(false))
    );
    // The message's datatype narrows it, and so does one in the payload.
    let request = json!({"type": "all", "search": "gpu", "timeout_ms": SHORT});
    finds_in_time(&alice, DataType::Storage, request, &["disk-1"]).await;
    let request = json!({"type": "all", "search": "gpu", "timeout_ms": SHORT, "datatype": DataType::Compute as u8});
    finds_in_time(&alice, DataType::Invalid, request, &["gpu-1"]).await;
    assert_eq!(bob.heard("search_event").len(), 0, "results are the asker's");
}

#[tokio::test]
async fn gossip_reaches_a_peer_behind_another() {
    let net = Federation::new();
    // The DHT would make them meet.
    let apart = |name| net.peer(name).set("discovery.dht", false);
    let alice = apart("alice").partner_of("bob").start().await;
    let bob = apart("bob").partner_of("alice").partner_of("carol").start().await;
    let carol = apart("carol").partner_of("bob").start().await;
    partners(&[&alice, &bob]).await;
    partners(&[&carol, &bob]).await;
    has(
        &carol,
        DataType::Compute,
        &[public(resource(carol.did(), "far-gpu", "GPU"))],
    )
    .await;
    // Carol knows who alice is; alice has never heard of carol. The way from carol to alice is a port on which nothing
    // listens before the question is put.
    let way = free_port();
    let behind = Identity {
        address: format!("/ip4/127.0.0.1/tcp/{way}"),
        ..alice.identity().clone()
    };
    carol.tell_peer(&behind, Relation::None).await;
    carol.settled().await;
    let met = |log: Vec<String>, other: &Peer| log.iter().any(|line| line.contains(other.peer_id()));
    assert!(!met(alice.logs(), &carol), "they are not connected");
    open_way(way, alice.identity().port()).await;
    let request = json!({"type": "all", "search": "gpu", "limit": 1});
    let (results, end) = alice.search(DataType::Compute, request).await;
    assert_eq!(ids(&results), ["far-gpu"]);
    assert_eq!(end["results"], 1);
}

/// From now on what connects to port `from` is connected to port `to`.
async fn open_way(from: u16, to: u16) {
    let listener = TcpListener::bind(("127.0.0.1", from)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut far) = TcpStream::connect(("127.0.0.1", to)).await {
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
}

#[tokio::test]
async fn gossip_needs_no_partners_and_no_indexers() {
    let net = Federation::new();
    let alice = net.peer("alice").knows("bob", Relation::None).start().await;
    let bob = net.peer("bob").knows("alice", Relation::None).start().await;
    has(&bob, DataType::Compute, &[public(resource(bob.did(), "gpu-1", "GPU"))]).await;
    // Once there is a mesh.
    let request = json!({"type": "all", "search": "gpu", "limit": 1, "timeout_ms": SHORT});
    finds_in_time(&alice, DataType::Compute, request, &["gpu-1"]).await;
}

#[tokio::test]
async fn type_known_asks_every_known_peer_that_is_not_blacklisted() {
    let net = Federation::new();
    let (alice, bob, carol, dave) = four(&net).await;
    for (peer, id) in [(&bob, "of-bob"), (&carol, "of-carol"), (&dave, "of-dave")] {
        has(peer, DataType::Compute, &[public(resource(peer.did(), id, "GPU"))]).await;
    }
    let (results, end) = alice
        .search(DataType::Compute, json!({"type": "known", "search": "gpu"}))
        .await;
    assert_eq!(ids(&results), ["of-bob", "of-carol"]);
    assert_eq!(
        (&end["asked"], &end["answered"], &end["skipped"]),
        (&json!(2), &json!(2), &json!(1)),
        "{end}"
    );
    assert_eq!((&end["failed"], &end["results"]), (&json!(0), &json!(2)), "{end}");
}

#[tokio::test]
async fn type_partner_asks_partners() {
    let net = Federation::new();
    let (alice, bob, carol, _dave) = four(&net).await;
    for (peer, id) in [(&bob, "of-bob"), (&carol, "of-carol")] {
        has(peer, DataType::Compute, &[public(resource(peer.did(), id, "GPU"))]).await;
    }
    let (results, end) = alice
        .search(DataType::Compute, json!({"type": "partner", "search": "gpu"}))
        .await;
    assert_eq!(ids(&results), ["of-bob"]);
    assert_eq!(
        (&end["asked"], &end["answered"], &end["results"]),
        (&json!(1), &json!(1), &json!(1)),
        "{end}"
    );
    assert_eq!(carol.metrics().await.received("question"), 0.0);
}

/// Alice, her partner bob, carol whom she knows, and dave whom she has blacklisted; all of them know alice.
async fn four(net: &Federation) -> (Peer, Peer, Peer, Peer) {
    let builder = net.peer("alice").partner_of("bob").knows("carol", Relation::None);
    let alice = builder.knows("dave", Relation::Blacklist).start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    let carol = net.peer("carol").knows("alice", Relation::None).start().await;
    let dave = net.peer("dave").knows("alice", Relation::None).start().await;
    partners(&[&alice, &bob]).await;
    (alice, bob, carol, dave)
}

#[tokio::test]
async fn only_what_is_public_or_shared_by_a_partnership_is_found() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let gpu = |id: &str| resource(bob.did(), id, "GPU");
    let documents = [
        public(gpu("public")),
        gpu("private"),
        shared_with(gpu("shared-by-did"), alice.did()),
        shared_with(gpu("shared-by-peer-id"), alice.peer_id()),
        shared_with(gpu("shared-with-all"), "*"),
        shared_with(gpu("shared-with-carol"), "did:carol"),
        // Of somebody else, although it lies in bob's store and is public.
        public(resource("did:carol", "of-carol", "GPU")),
    ];
    has(&bob, DataType::Compute, &documents).await;
    let visible = ["public", "shared-by-did", "shared-by-peer-id", "shared-with-all"];
    for scope in ["partner", "known", "all"] {
        let request = json!({"type": scope, "search": "gpu", "limit": visible.len()});
        let (results, _) = alice.search(DataType::Compute, request).await;
        assert_eq!(ids(&results), visible, "{scope}");
    }
}

#[tokio::test]
async fn what_was_updated_or_removed_is_found_as_it_is_now() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let gpu = public(resource(bob.did(), "gpu-1", "GPU"));
    has(&bob, DataType::Compute, std::slice::from_ref(&gpu)).await;
    let look = async |text: &str| {
        ids(&alice
            .search(DataType::Compute, json!({"type": "partner", "search": text}))
            .await
            .0)
    };
    assert_eq!(look("gpu").await, ["gpu-1"]);
    has(
        &bob,
        DataType::Compute,
        &[public(resource(bob.did(), "gpu-1", "Accelerator"))],
    )
    .await;
    assert_eq!(
        (look("gpu").await.len(), look("accel").await.len(), look("").await.len()),
        (0, 1, 1)
    );
    bob.remove_resource(DataType::Compute, &gpu).await;
    bob.settled().await;
    assert_eq!(look("accel").await.len(), 0);
    // Search text is a literal, never a pattern.
    has(
        &bob,
        DataType::Compute,
        &[public(resource(bob.did(), "odd", "100% \"pure\" a_b* (x)"))],
    )
    .await;
    for text in ["100%", "a_b*", "(x)", "\"pure\""] {
        assert_eq!(look(text).await, ["odd"], "{text}");
    }
    // A text of nothing but signs has no word to look for.
    for text in ["%", "0%p", "1_0", ".*", "OR odd"] {
        let found = look(text).await;
        assert!(found.is_empty(), "{text} found {found:?}");
    }
}

#[tokio::test]
async fn limit_ends_a_search() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let documents: Vec<Value> = (0..20)
        .map(|n| public(resource(bob.did(), &format!("gpu-{n}"), "GPU")))
        .collect();
    has(&bob, DataType::Compute, &documents).await;
    for scope in ["partner", "all"] {
        let (results, end) = alice
            .search(DataType::Compute, json!({"type": scope, "search": "gpu", "limit": 7}))
            .await;
        assert_eq!((results.len(), &end["results"]), (7, &json!(7)), "{scope} {end}");
        assert_eq!(
            end["truncated"], true,
            "{scope}: there were more, and it says so: {end}"
        );
        for result in results {
            assert_eq!(result.envelope().search_id.as_deref(), end["search_id"].as_str());
        }
    }
    let (results, end) = alice
        .search(DataType::Compute, json!({"type": "partner", "search": "gpu"}))
        .await;
    assert_eq!((results.len(), &end["truncated"]), (20, &json!(false)), "{end}");
}

#[tokio::test]
async fn a_known_peer_that_is_away_is_counted_as_failed() {
    let net = Federation::new();
    let alice = net
        .peer("alice")
        .partner_of("bob")
        .knows("nobody", Relation::None)
        .start()
        .await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    has(&bob, DataType::Compute, &[public(resource(bob.did(), "gpu-1", "GPU"))]).await;
    let (results, end) = alice
        .search(DataType::Compute, json!({"type": "known", "search": "gpu"}))
        .await;
    assert_eq!(ids(&results), ["gpu-1"]);
    assert_eq!(
        (&end["asked"], &end["answered"], &end["failed"]),
        (&json!(2), &json!(1), &json!(1)),
        "{end}"
    );
}

#[tokio::test]
async fn pb_close_search_ends_a_search_before_its_time() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    has(&bob, DataType::Compute, &[public(resource(bob.did(), "gpu-1", "GPU"))]).await;
    let request = json!({"type": "all", "search": "gpu", "id": "mine", "timeout_ms": 600_000});
    alice.publish_search(DataType::Compute, request).await;
    let found = alice.expect("search_event", |_| true).await;
    assert_eq!(found.envelope().search_id.as_deref(), Some("mine"));
    assert_eq!(
        alice
            .heard("search_end")
            .iter()
            .filter(|end| end.json()["search_id"] == "mine")
            .count(),
        0
    );
    alice.publish_close_search("mine").await;
    let end = alice
        .expect("search_end", |end| end.json()["search_id"] == "mine")
        .await
        .json();
    assert_eq!(end["results"], 1);
    // The id is free again.
    let request = json!({"type": "all", "search": "gpu", "id": "mine", "limit": 1});
    alice.publish_search(DataType::Compute, request).await;
    alice
        .expect("search_end", |end| end.json()["search_id"] == "mine")
        .await;
}

#[tokio::test]
async fn a_search_without_an_id_gets_answers_without_one() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    has(&bob, DataType::Compute, &[public(resource(bob.did(), "gpu-1", "GPU"))]).await;
    alice.publish_search(DataType::Compute, json!({"search": "gpu"})).await;
    let found = alice.expect("search_event", |_| true).await;
    assert_eq!(found.envelope().search_id, None);
    assert_eq!(found.document()["id"], "gpu-1");
}

#[tokio::test]
async fn datatype_peer_finds_peers_by_did_peer_id_and_name() {
    let net = Federation::new();
    let builder = net.peer("alice").partner_of("bob").knows("carol", Relation::None);
    let alice = builder.knows("dave", Relation::Blacklist).start().await;
    let (bob, carol, dave) = (net.identity("bob"), net.identity("carol"), net.identity("dave"));
    for (search, expected) in [
        (&bob.did, &bob),
        (&bob.peer_id, &bob),
        (&bob.name, &bob),
        (&carol.did, &carol),
        (&carol.name, &carol),
        (&dave.did, &dave),
    ] {
        let (results, end) = alice.search(DataType::Peer, json!({"search": search})).await;
        assert_eq!((results.len(), &end["results"]), (1, &json!(1)), "{search}");
        assert_eq!(results[0].envelope().datatype, DataType::Peer as u64);
        let record = results[0].document();
        assert_eq!(record["did"], expected.did.as_str());
        assert_eq!(record["peer_id"], expected.peer_id.as_str());
        assert_eq!(record["name"], expected.name.as_str());
        assert_eq!(record["pub_key"], expected.public_key.as_str());
        assert_eq!(record["stream_address"], expected.stream_address());
    }
    // A name is no identity: all who have it are told.
    let mut other = net.identity("other");
    other.name = carol.name;
    alice.tell_peer(&other, Relation::None).await;
    assert_eq!(
        alice.search(DataType::Peer, json!({"search": "carol"})).await.0.len(),
        2
    );
    assert_eq!(
        alice.search(DataType::Peer, json!({"search": "nobody"})).await.0.len(),
        0
    );
}
