//! Searching: what matches, who sees it, and how it stops.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{put, remove, store_all};
use crate::model::lift;
use crate::store::{AskerId, Found, Room, SEARCH_TEXT_MAX, SearchDone, SearchQuery, Store, StoreError};
use crate::wire::DataType::{self, ComputeResource, DataResource, Peer, Workflow, WorkflowResource};

const ME: &str = "did:me";

fn asking(text: &str) -> SearchQuery {
    SearchQuery {
        text: text.to_owned(),
        datatypes: Vec::new(),
        own_did: ME.to_owned(),
        asker: AskerId {
            did: "did:a".to_owned(),
            peer_id: Some("12D3A".to_owned()),
            trusted: true,
        },
        limit: 1000,
        deadline: Instant::now() + Duration::from_secs(60),
        cancel: CancellationToken::new(),
        room: None,
    }
}

async fn answers(store: &dyn Store, query: SearchQuery) -> (Vec<Found>, SearchDone) {
    let (out, mut found) = mpsc::channel(1);
    let collect = async {
        let mut all = Vec::new();
        while let Some(one) = found.recv().await {
            all.push(one);
        }
        all
    };
    let (done, all) = tokio::join!(store.search(query, out), collect);
    let done = done.unwrap();
    assert_eq!(done.results, all.len());
    (all, done)
}

/// The ids found, sorted; the search must have come to its end.
async fn ids(store: &dyn Store, query: SearchQuery) -> Vec<String> {
    let (found, done) = answers(store, query).await;
    assert!(!done.truncated);
    let id = |found: &Found| found.document.value().unwrap()["id"].as_str().unwrap().to_owned();
    let mut ids: Vec<String> = found.iter().map(id).collect();
    ids.sort();
    ids
}

fn public(id: &str, name: &str) -> Value {
    json!({ "id": id, "creator_id": ME, "access_mode": 1, "name": name })
}

/// Beginnings of words, all of them needed, in any of the three texts, whatever case and accents.
pub(crate) async fn words_match_folded(store: &dyn Store) {
    let mut docs = [
        public("one", "Données Météo"),
        public("two", "Sea level"),
        public("three", "Zürich-2024 v1.5"),
    ];
    docs[1]["description"] = json!("Hourly METEO bulletins");
    docs[1]["short_description"] = json!("tide gauges");
    docs[2]["other"] = json!("meteo");
    store_all(store, DataResource, &docs).await;
    for (text, wanted) in [
        ("", vec!["one", "three", "two"]),
        (" \t\n", vec!["one", "three", "two"]),
        ("meteo", vec!["one", "two"]),
        ("MÉTÉO", vec!["one", "two"]),
        ("me\u{301}te\u{301}o", vec!["one", "two"]),
        ("met", vec!["one", "two"]),
        ("eteo", vec![]),
        ("donnees meteo", vec!["one"]),
        ("meteo donnees", vec!["one"]),
        ("sea tide HOUR", vec!["two"]),
        ("sea zurich", vec![]),
        ("zurich", vec!["three"]),
        ("2024", vec!["three"]),
        ("zurich-2024", vec!["three"]),
        ("v1.5", vec!["three"]),
    ] {
        assert_eq!(ids(store, asking(text)).await, wanted, "{text:?}");
    }
}

/// Case and accents are nothing in any alphabet, whichever side has them, composed or not.
pub(crate) async fn every_alphabet_is_folded(store: &dyn Store) {
    let docs = [
        public("greek", "Κόμβος υπολογισμού ΣΊΣΥΦΟΣ"),
        public("cyrillic", "Йод-Ёлка"),
        public("decomposed", "И\u{306}ога"),
        public("signs", "12 µg ſeltſam ϐ K\u{327}"),
        public("latin", "Ångström naïve"),
    ];
    store_all(store, DataResource, &docs).await;
    for (text, wanted) in [
        ("κομβος", vec!["greek"]),
        ("ΚΟΜΒΟΣ", vec!["greek"]),
        ("κόμβοσ Υπολογισμου", vec!["greek"]),
        ("σισυφος", vec!["greek"]),
        ("σίσυφο", vec!["greek"]),
        ("йод", vec!["cyrillic"]),
        ("И\u{306}од", vec!["cyrillic"]),
        ("иод-елка", vec!["cyrillic"]),
        ("Йо", vec!["cyrillic", "decomposed"]),
        ("μg", vec!["signs"]),
        ("\u{b5}G", vec!["signs"]),
        ("seltsam", vec!["signs"]),
        ("SELTſ", vec!["signs"]),
        ("β \u{212a}", vec!["signs"]),
        ("angstrom NAI\u{308}VE", vec!["latin"]),
        ("\u{301}", vec![]),
    ] {
        assert_eq!(ids(store, asking(text)).await, wanted, "{text:?}");
    }
}

/// The attributes of each kind are looked in, those of other kinds are not.
pub(crate) async fn attributes_are_found(store: &dyn Store) {
    let mut docs = [public("one", "x"), public("two", "x")];
    docs[0]["architecture"] = json!("Aarch64-Neoverse");
    docs[0]["tags"] = json!(["Accélérateur", 7, "edge site"]);
    docs[0]["license"] = json!("not of this kind");
    docs[1]["abstractresource"] = json!({ "infrastructure": "kubernetes" });
    store_all(store, ComputeResource, &docs).await;
    for (text, wanted) in [
        ("aarch", vec!["one"]),
        ("accel edge", vec!["one"]),
        ("neoverse x", vec!["one"]),
        ("kuber", vec!["two"]),
        ("license", vec![]),
        ("kind", vec![]),
        ("7", vec![]),
    ] {
        assert_eq!(ids(store, asking(text)).await, wanted, "{text:?}");
    }
    docs[0]["architecture"] = json!("riscv");
    store_all(store, ComputeResource, &docs[..1]).await;
    assert_eq!(ids(store, asking("riscv")).await, ["one"]);
    assert!(ids(store, asking("aarch")).await.is_empty());
}

/// Quotes, wildcards, operators and patterns are characters like any other; too long a text is refused.
pub(crate) async fn signs_are_never_operators(store: &dyn Store) {
    let docs = [
        public("one", "alpha NEAR beta"),
        public("two", "alpha beta"),
        public("three", "name OR not AND"),
    ];
    store_all(store, DataResource, &docs).await;
    for (text, wanted) in [
        ("alpha NEAR beta", vec!["one"]),
        ("alpha OR name", vec![]),
        ("NOT alpha", vec![]),
        ("not and", vec!["three"]),
        ("alpha*", vec!["one", "two"]),
        ("*", vec![]),
        ("\"", vec![]),
        ("'", vec![]),
        ("\"alpha", vec!["one", "two"]),
        ("\"alpha\" \"near\"", vec!["one"]),
        ("name:alpha", vec![]),
        ("{name}:alpha", vec![]),
        ("^alpha", vec!["one", "two"]),
        ("(alpha", vec!["one", "two"]),
        (".*", vec![]),
        ("al.*a", vec![]),
        ("[a-z]", vec![]),
        ("alpha\0beta", vec!["one", "two"]),
        ("\0", vec!["one", "three", "two"]),
        ("%", vec![]),
        ("_", vec![]),
        ("$where", vec![]),
        ("\u{202e}alpha", vec!["one", "two"]),
        ("ahpla\u{202e}", vec![]),
        ("{\"$gt\": \"\"}", vec![]),
        ("\\", vec![]),
        ("🦀", vec![]),
    ] {
        assert_eq!(ids(store, asking(text)).await, wanted, "{text:?}");
    }
    let refused = |size: usize| {
        let (out, _) = mpsc::channel(1);
        store.search(asking(&"\"(* ".repeat(size / 4)), out)
    };
    for size in [SEARCH_TEXT_MAX + 4, 1 << 20] {
        assert!(matches!(refused(size).await, Err(StoreError::TextTooLong { .. })));
    }
    assert!(
        ids(store, asking(&"\"(* ".repeat(SEARCH_TEXT_MAX / 4)))
            .await
            .is_empty()
    );
    assert!(ids(store, asking(&"a ".repeat(SEARCH_TEXT_MAX / 2))).await.len() == 3);
}

/// Ours and public for everyone, ours and shared for those named if they are trusted, nothing else for anyone.
pub(crate) async fn access_is_kept(store: &dyn Store) {
    let shared = |id: &str, key: &str| {
        json!({ "id": id, "creator_id": ME, "access_mode": 0, "name": "x",
            "instances": [{ "partnerships": [{ "peer_groups": { key: [] } }] }] })
    };
    let mut private = public("private", "x");
    private["access_mode"] = json!(0);
    let mut theirs = public("theirs", "x");
    theirs["creator_id"] = json!("did:a");
    let mut named = public("named", "x");
    named["access_mode"] = json!("public");
    let docs = [
        public("public", "x"),
        private,
        theirs,
        named,
        shared("by_did", "did:a"),
        shared("by_peer_id", "12D3A"),
        shared("by_star", "*"),
        shared("other", "did:b"),
        json!({ "id": "nobody", "access_mode": 1, "name": "x" }),
    ];
    store_all(store, DataResource, &docs).await;
    for text in ["", "x"] {
        assert_eq!(
            ids(store, asking(text)).await,
            ["by_did", "by_peer_id", "by_star", "named", "public"]
        );
        let mut stranger = asking(text);
        stranger.asker.trusted = false;
        assert_eq!(ids(store, stranger).await, ["named", "public"]);
        let mut other = asking(text);
        other.asker = AskerId {
            did: "did:b".to_owned(),
            peer_id: None,
            trusted: true,
        };
        assert_eq!(ids(store, other).await, ["by_star", "named", "other", "public"]);
        let mut unnamed = asking(text);
        unnamed.own_did = String::new();
        assert!(ids(store, unnamed).await.is_empty());
    }
}

/// A partnership counts wherever the rule reads it, also in the parts that the Go driver nests inside an instance.
pub(crate) async fn nested_partnerships_grant(store: &dyn Store) {
    let groups = json!({ "peer_groups": { "did:a": [] } });
    let with = |id: &str, instance: &Value| json!({ "id": id, "creator_id": ME, "access_mode": 0, "name": "x", "instances": [{}, instance] });
    let mut within = with(
        "within",
        &json!({ "abstractobject": { "partnerships": [{ "abstractobject": groups }] } }),
    );
    within["abstractinstanciatedresource"] = json!({ "instances": within["instances"] });
    within.as_object_mut().unwrap().shift_remove("instances");
    let docs = [
        within,
        with("instance", &json!({ "abstractobject": { "partnerships": [groups] } })),
        with(
            "partnership",
            &json!({ "partnerships": [{}, { "abstractresource": groups }] }),
        ),
        with(
            "deep",
            &json!({ "abstractresource": { "abstractobject": { "partnerships": [groups] } } }),
        ),
        with(
            "nobody",
            &json!({ "abstractobject": { "partnerships": [{ "peer_groups": {} }] } }),
        ),
        with("none", &json!({ "abstractobject": { "name": "x" } })),
    ];
    store_all(store, DataResource, &docs).await;
    for text in ["", "x"] {
        let wanted = ["deep", "instance", "partnership", "within"];
        assert_eq!(ids(store, asking(text)).await, wanted);
        let mut stranger = asking(text);
        stranger.asker.trusted = false;
        assert!(ids(store, stranger).await.is_empty());
    }
}

/// What says two things of who may see it is shown to nobody, whichever of the two an app would read.
pub(crate) async fn what_contradicts_itself_is_not_shown(store: &dyn Store) {
    let with = |id: &str, more: Value| {
        let mut document = public(id, "x");
        let fields = document.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        document
    };
    let docs = [
        with("plain", json!({})),
        with(
            "same",
            json!({ "abstractobject": { "access_mode": 1, "creator_id": ME } }),
        ),
        with("nested_private", json!({ "abstractobject": { "access_mode": 0 } })),
        with(
            "deep_private",
            json!({ "abstractresource": { "abstractobject": { "access_mode": 0 } } }),
        ),
        with("nested_theirs", json!({ "abstractobject": { "creator_id": "did:a" } })),
        with("variant", json!({ "Access_Mode": 0 })),
        with("nested_variant", json!({ "abstractobject": { "ACCESS_MODE": 0 } })),
        with(
            "instances",
            json!({ "access_mode": 0,
            "instances": [{ "partnerships": [{ "peer_groups": { "did:a": [] } }] }],
            "abstractinstanciatedresource": { "instances": [] } }),
        ),
    ];
    store_all(store, DataResource, &docs).await;
    for text in ["", "x"] {
        assert_eq!(ids(store, asking(text)).await, ["plain", "same"]);
    }
}

/// Only resources are ever found, and only of the kinds asked for.
pub(crate) async fn kinds_are_filtered(store: &dyn Store) {
    for kind in DataType::ALL {
        store_all(store, kind, &[public(kind.name(), "x")]).await;
    }
    let all = [
        "compute_resource",
        "data_resource",
        "processing_resource",
        "storage_resource",
        "workflow_resource",
    ];
    for text in ["", "x"] {
        let of = |datatypes: Vec<DataType>| SearchQuery {
            datatypes,
            ..asking(text)
        };
        assert_eq!(ids(store, of(vec![])).await, all);
        let two = vec![WorkflowResource, Workflow, ComputeResource, ComputeResource];
        assert_eq!(ids(store, of(two)).await, ["compute_resource", "workflow_resource"]);
        assert!(ids(store, of(vec![Peer, Workflow])).await.is_empty());
        let (found, _) = answers(store, of(vec![ComputeResource])).await;
        assert_eq!(found.first().map(|found| found.datatype), Some(ComputeResource));
    }
}

pub(crate) async fn limits_are_told_in_search(store: &dyn Store) {
    let mut docs: Vec<Value> = (0..20).map(|n| public(&format!("r{n}"), "x")).collect();
    docs.extend((0..20).map(|n| json!({ "id": format!("h{n}"), "creator_id": ME, "name": "x" })));
    store_all(store, DataResource, &docs).await;
    for text in ["", "x"] {
        for (limit, results, truncated) in [(0, 0, true), (19, 19, true), (20, 20, false), (21, 20, false)] {
            let (_, done) = answers(store, SearchQuery { limit, ..asking(text) }).await;
            assert_eq!(done, SearchDone { truncated, results }, "limit {limit}");
        }
    }
}

/// However many may wait, no more bytes do; and when they are taken, it goes on.
pub(crate) async fn what_waits_is_bounded_in_bytes(store: &dyn Store) {
    let long = "y".repeat(10_000);
    let document = |n| json!({ "id": format!("r{n}"), "creator_id": ME, "access_mode": 1, "name": "x", "more": long });
    let docs: Vec<Value> = (0..20).map(document).collect();
    store_all(store, DataResource, &docs).await;
    // Smaller than one document, room for three, for all.
    for (bytes, waiting) in [(1_000, 1), (35_000, 3), (1_000_000, 20)] {
        let room = Room::new(bytes);
        let query = SearchQuery {
            room: Some(room.clone()),
            deadline: Instant::now() + Duration::from_millis(500),
            ..asking("x")
        };
        let (out, found) = mpsc::channel(100);
        let done = store.search(query, out).await.unwrap();
        assert_eq!((found.len(), done.truncated), (waiting, waiting < 20), "{bytes}");

        let room = Room::new(bytes);
        let query = SearchQuery {
            room: Some(room.clone()),
            ..asking("x")
        };
        let (out, mut found) = mpsc::channel(100);
        let taking = async {
            let mut taken = 0;
            while let Some(one) = found.recv().await {
                room.give_back(room.of(&one) as usize);
                taken += 1;
            }
            taken
        };
        let (done, taken) = tokio::join!(store.search(query, out), taking);
        assert_eq!((done.unwrap().truncated, taken), (false, 20), "{bytes}");
    }
}

/// Cancelled, out of time, or with nobody listening, it ends; and the store goes on.
pub(crate) async fn stopping_stops(store: &dyn Store) {
    let docs: Vec<Value> = (0..50).map(|n| public(&format!("r{n}"), "x")).collect();
    store_all(store, DataResource, &docs).await;

    let before = asking("x");
    before.cancel.cancel();
    assert_eq!(
        answers(store, before).await.1,
        SearchDone {
            truncated: true,
            results: 0
        }
    );

    let late = SearchQuery {
        deadline: Instant::now(),
        ..asking("x")
    };
    assert_eq!(
        answers(store, late).await.1,
        SearchDone {
            truncated: true,
            results: 0
        }
    );

    // Nobody takes the second document: the search waits, until it is cancelled or times out.
    let midway = asking("x");
    let cancel = midway.cancel.clone();
    let (out, mut found) = mpsc::channel(1);
    let stopper = async {
        found.recv().await.unwrap();
        cancel.cancel();
        found
    };
    let (done, _found) = tokio::join!(store.search(midway, out), stopper);
    let done = done.unwrap();
    assert!(done.truncated && done.results < 50);

    let (out, _kept) = mpsc::channel(1);
    let soon = SearchQuery {
        deadline: Instant::now() + Duration::from_millis(50),
        ..asking("x")
    };
    assert!(store.search(soon, out).await.unwrap().truncated);

    let (out, found) = mpsc::channel(1);
    drop(found);
    assert_eq!(
        store.search(asking("x"), out).await,
        Ok(SearchDone {
            truncated: true,
            results: 0
        })
    );

    // More searches left hanging than there can be readers.
    for _ in 0..20 {
        let (out, mut found) = mpsc::channel(1);
        tokio::select! {
            done = store.search(asking("x"), out) => panic!("nobody listened, yet it ended: {done:?}"),
            first = found.recv() => assert!(first.is_some()),
        }
    }
    assert_eq!(ids(store, asking("x")).await.len(), 50);
}

/// However many askers take nothing, others look up what they need.
pub(crate) async fn slow_askers_keep_no_look_up_waiting(store: &dyn Store) {
    let docs: Vec<Value> = (0..50).map(|n| public(&format!("r{n}"), "x")).collect();
    store_all(store, DataResource, &docs).await;
    let hanging = (0..20).map(|_| async {
        let (out, _kept) = mpsc::channel(1);
        store.search(asking("x"), out).await
    });
    let hanging = futures::future::join_all(hanging);
    let (out, mut found) = mpsc::channel(1);
    let first = async {
        tokio::select! {
            done = store.search(asking("x"), out) => panic!("nobody took it, yet it ended: {done:?}"),
            first = found.recv() => first,
        }
    };
    assert!(first.await.is_some(), "searches answer");
    let key = [(DataResource, "r1".to_owned())];
    let look_up = async {
        // Some of those that hang have begun by then.
        tokio::task::yield_now().await;
        store.owners(&key).await
    };
    tokio::select! {
        _ = hanging => panic!("nobody took what was found, yet all have ended"),
        owners = look_up => assert_eq!(owners, Ok(vec![Some(ME.to_owned())])),
    }
}

pub(crate) async fn index_follows_documents(store: &dyn Store) {
    store_all(store, DataResource, &[public("r", "alpha"), public("s", "alpha")]).await;
    store
        .apply(vec![put(DataResource, "r", public("r", "beta").to_string())])
        .await
        .unwrap();
    assert_eq!(ids(store, asking("alpha")).await, ["s"]);
    assert_eq!(ids(store, asking("beta")).await, ["r"]);
    let mut same_words = public("r", "beta");
    same_words["access_mode"] = json!(0);
    store
        .apply(vec![put(DataResource, "r", same_words.to_string())])
        .await
        .unwrap();
    assert!(ids(store, asking("beta")).await.is_empty());
    same_words["access_mode"] = json!(1);
    same_words["description"] = json!("gamma");
    store
        .apply(vec![
            put(DataResource, "r", same_words.to_string()),
            remove(DataResource, "s"),
        ])
        .await
        .unwrap();
    assert_eq!(ids(store, asking("gamma")).await, ["r"]);
    assert!(ids(store, asking("alpha")).await.is_empty());
    store
        .apply(vec![
            remove(DataResource, "r"),
            put(DataResource, "s", public("s", "delta").to_string()),
        ])
        .await
        .unwrap();
    assert!(ids(store, asking("beta")).await.is_empty());
    assert_eq!(ids(store, asking("delta")).await, ["s"]);
    let whole_again = [
        put(DataResource, "r", "{}"),
        put(DataResource, "r", public("r", "delta").to_string()),
    ];
    store.apply(whole_again.to_vec()).await.unwrap();
    assert_eq!(ids(store, asking("delta")).await, ["r", "s"]);
}

pub(crate) async fn nested_documents_are_found(store: &dyn Store) {
    let nested = json!({ "id": "r", "abstractinstanciatedresource": {
        "abstractresource": { "abstractobject": { "name": "alpha", "creator_id": ME, "access_mode": 0 }, "description": "beta" },
        "instances": [{ "partnerships": [{ "peer_groups": { "did:a": [] } }] }],
    } });
    store_all(store, WorkflowResource, std::slice::from_ref(&nested)).await;
    for text in ["", "alpha", "beta alpha"] {
        let (found, done) = answers(store, asking(text)).await;
        assert_eq!(
            done,
            SearchDone {
                truncated: false,
                results: 1
            }
        );
        assert_eq!(lift(found[0].document.value().unwrap()), lift(nested.clone()));
    }
}

/// Documents whose texts are no texts, or that only half of all readers can read, are passed over.
pub(crate) async fn odd_documents_do_no_harm(store: &dyn Store) {
    let head = format!("\"creator_id\":\"{ME}\",\"access_mode\":1");
    let writes = vec![
        put(
            DataResource,
            "half",
            format!("{{\"id\":\"half\",{head},\"name\":\"alpha\",\"x\":\"\\ud800\"}}"),
        ),
        put(
            DataResource,
            "deep",
            format!(
                "{{\"id\":\"deep\",{head},\"name\":\"alpha\",\"x\":{}1{}}}",
                "[".repeat(200),
                "]".repeat(200)
            ),
        ),
        put(
            DataResource,
            "list",
            format!("{{\"id\":\"list\",{head},\"name\":[\"alpha\"],\"description\":{{}}}}"),
        ),
        put(DataResource, "good", public("good", "alpha").to_string()),
    ];
    let applied = store.apply(writes).await;
    assert!(applied.is_ok() || matches!(applied, Err(StoreError::Document { .. })));
    store
        .apply(vec![put(DataResource, "good", public("good", "alpha ").to_string())])
        .await
        .unwrap();
    assert_eq!(ids(store, asking("alpha")).await, ["good"]);
}
