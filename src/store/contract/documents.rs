//! Storing, reading and removing documents.

use serde_json::json;

use super::{by, put, remove, value_of};
use crate::store::Applied::{Done, NotOwner, Unchanged};
use crate::store::{Store, StoreError};
use crate::wire::DataType::{self, DataResource, Peer, Workspace};

/// Whatever an app writes comes back, also what nobody here knows.
pub(crate) async fn documents_stay(store: &dyn Store) {
    let doc = json!({ "id": "r", "b": 1.5, "a": [1000, i64::MAX, -1, null, true, {}], "é🦀": "\u{0}\u{2028}\"",
        "deep": { "$not": "an operator", "": { "a.b": [[]] } }, "abstract": { "name": 1 } });
    assert_eq!(value_of(store, DataResource, "r").await, None);
    let doc = if store.can_hold(doc.to_string().as_bytes()).is_ok() {
        doc
    } else {
        let mut doc = doc;
        doc["deep"].as_object_mut().unwrap().shift_remove("$not");
        doc
    };
    store
        .apply(vec![put(DataResource, "r", doc.to_string())])
        .await
        .unwrap();
    assert_eq!(value_of(store, DataResource, "r").await, Some(doc));
    assert_eq!(value_of(store, Workspace, "r").await, None, "an id belongs to its kind");
    let large = json!({ "id": "l", "description": "mot ".repeat(125_000) });
    store
        .apply(vec![put(DataResource, "l", large.to_string())])
        .await
        .unwrap();
    assert_eq!(value_of(store, DataResource, "l").await, Some(large));
}

pub(crate) async fn put_replaces(store: &dyn Store) {
    for (doc, wanted) in [
        (json!({ "id": "w", "v": 1 }), Done),
        (json!({ "id": "w", "v": 2 }), Done),
        (json!({ "id": "w", "v": 2 }), Unchanged),
        (json!({ "id": "w", "v": "2" }), Done),
        (json!({ "id": "w", "list": [1, 2] }), Done),
        (json!({ "id": "w", "list": [2, 1] }), Done),
        (json!({ "id": "w" }), Done),
    ] {
        let put = vec![put(Workspace, "w", doc.to_string())];
        assert_eq!(store.apply(put).await, Ok(vec![wanted]), "{doc}");
        assert_eq!(value_of(store, Workspace, "w").await, Some(doc));
    }
}

pub(crate) async fn remove_and_again(store: &dyn Store) {
    let writes = vec![
        remove(DataResource, "r"),
        put(DataResource, "r", "{\"id\":\"r\"}"),
        put(Workspace, "r", "{\"id\":\"r\"}"),
        remove(DataResource, "r"),
        remove(DataResource, "r"),
    ];
    assert_eq!(
        store.apply(writes).await,
        Ok(vec![Unchanged, Done, Done, Done, Unchanged])
    );
    assert_eq!(value_of(store, DataResource, "r").await, None);
    assert!(value_of(store, Workspace, "r").await.is_some());
}

/// What is somebody else's, or nobody's, is not touched; what is not there may be made.
pub(crate) async fn owner_guards(store: &dyn Store) {
    let doc = |owner: &str, v: u8| json!({ "id": "r", "creator_id": owner, "v": v }).to_string();
    let writes = vec![
        by("a", put(DataResource, "r", doc("a", 1))),
        by("b", put(DataResource, "r", doc("b", 2))),
        by("b", remove(DataResource, "r")),
        by("a", put(DataResource, "r", doc("a", 3))),
        put(DataResource, "n", "{}"),
        by("a", put(DataResource, "n", doc("a", 4))),
        by("", put(DataResource, "n", doc("a", 4))),
        by("a", remove(DataResource, "none")),
    ];
    let wanted = vec![Done, NotOwner, NotOwner, Done, Done, NotOwner, NotOwner, Unchanged];
    assert_eq!(store.apply(writes).await, Ok(wanted));
    let kept = json!({ "id": "r", "creator_id": "a", "v": 3 });
    assert_eq!(value_of(store, DataResource, "r").await, Some(kept));
    assert_eq!(
        store.apply(vec![by("a", remove(DataResource, "r"))]).await,
        Ok(vec![Done])
    );
    let nested = "{\"abstractobject\":{\"creator_id\":\"a\"}}";
    store.apply(vec![put(DataResource, "g", nested)]).await.unwrap();
    assert_eq!(
        store.apply(vec![by("b", remove(DataResource, "g"))]).await,
        Ok(vec![NotOwner])
    );
}

/// One write that cannot be done undoes the others of its batch, and harms no other batch.
pub(crate) async fn batches_are_whole(store: &dyn Store) {
    assert_eq!(store.apply(vec![]).await, Ok(vec![]));
    for bad in ["[]", "{", "", "\"x\""] {
        let (whole, broken) = tokio::join!(
            store.apply(vec![put(DataResource, "good", "{\"a\":1}")]),
            store.apply(vec![put(DataResource, "first", "{}"), put(DataResource, "bad", bad)]),
        );
        assert!(whole.is_ok());
        assert!(matches!(broken, Err(StoreError::Document { .. })), "{bad}");
        assert_eq!(value_of(store, DataResource, "first").await, None);
    }
    assert!(value_of(store, DataResource, "good").await.is_some());
}

pub(crate) async fn owners_in_order(store: &dyn Store) {
    let writes = vec![
        put(DataResource, "a", "{\"creator_id\":\"did:a\"}"),
        put(Workspace, "a", "{\"abstractobject\":{\"creator_id\":\"did:b\"}}"),
        put(DataResource, "n", "{\"creator_id\":7}"),
    ];
    store.apply(writes).await.unwrap();
    let key = |datatype: DataType, id: &str| (datatype, id.to_owned());
    let keys = [
        key(Workspace, "a"),
        key(DataResource, "none"),
        key(DataResource, "a"),
        key(DataResource, "n"),
        key(Peer, "a"),
    ];
    let owners = store.owners(&keys).await.unwrap();
    assert_eq!(
        owners,
        [
            Some("did:b".into()),
            None,
            Some("did:a".into()),
            Some(String::new()),
            None
        ]
    );
    assert_eq!(store.owners(&[]).await, Ok(vec![]));
}

/// An id is a literal, never a path, a pattern or a piece of a query.
pub(crate) async fn hostile_ids(store: &dyn Store) {
    let ids = [
        "a.b",
        "$where",
        "x'; DROP TABLE document; --",
        "%",
        "_",
        "a\0b",
        "\"",
        "é",
        "e\u{301}",
        "A",
        "a",
    ];
    for id in ids {
        let doc = json!({ "id": id, "n": id.len() });
        assert_eq!(
            store.apply(vec![put(DataResource, id, doc.to_string())]).await,
            Ok(vec![Done]),
            "{id:?}"
        );
    }
    for id in ids {
        let wanted = json!({ "id": id, "n": id.len() });
        assert_eq!(value_of(store, DataResource, id).await, Some(wanted), "{id:?}");
        assert_eq!(
            store.apply(vec![remove(DataResource, id)]).await,
            Ok(vec![Done]),
            "{id:?}"
        );
        assert_eq!(value_of(store, DataResource, id).await, None);
    }
}

pub(crate) async fn ready_and_synced(store: &dyn Store) {
    assert_eq!(store.ready().await, Ok(()));
    store.apply(vec![put(DataResource, "r", "{}")]).await.unwrap();
    assert_eq!(store.sync().await, Ok(()));
    assert_eq!(store.ready().await, Ok(()));
}
