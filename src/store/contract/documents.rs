//! Storing, reading and removing documents.

use super::{by, put, remove, text_of};
use crate::store::Applied::{Done, NotOwner, Unchanged};
use crate::store::{Store, StoreError};
use crate::wire::DataType::{self, DataResource, Peer, Workspace};

/// Order, spaces, doubled keys and the spelling of numbers come back as they were.
pub(crate) async fn bytes_stay(store: &dyn Store) {
    let doc = "{ \"id\":\"r\",\n\"b\":1.50,\"a\":[1e3, 123456789012345678901234567890],\"a\":\"\\u0061é🦀\" } ";
    assert_eq!(text_of(store, DataResource, "r").await, None);
    store.apply(vec![put(DataResource, "r", doc)]).await.unwrap();
    assert_eq!(text_of(store, DataResource, "r").await.as_deref(), Some(doc));
    assert_eq!(text_of(store, Workspace, "r").await, None, "an id belongs to its kind");
    let large = format!("{{\"id\":\"l\",\"description\":\"{}\"}}", "mot ".repeat(125_000));
    store.apply(vec![put(DataResource, "l", large.clone())]).await.unwrap();
    assert_eq!(text_of(store, DataResource, "l").await, Some(large));
}

pub(crate) async fn put_replaces(store: &dyn Store) {
    for (doc, wanted) in [
        ("{\"v\":1}", Done),
        ("{\"v\":2}", Done),
        ("{\"v\":2}", Unchanged),
        ("{\"v\": 2}", Done),
    ] {
        assert_eq!(
            store.apply(vec![put(Workspace, "w", doc)]).await,
            Ok(vec![wanted]),
            "{doc}"
        );
        assert_eq!(text_of(store, Workspace, "w").await.as_deref(), Some(doc));
    }
}

pub(crate) async fn remove_and_again(store: &dyn Store) {
    let writes = vec![
        remove(DataResource, "r"),
        put(DataResource, "r", "{}"),
        put(Workspace, "r", "{}"),
        remove(DataResource, "r"),
        remove(DataResource, "r"),
    ];
    assert_eq!(
        store.apply(writes).await,
        Ok(vec![Unchanged, Done, Done, Done, Unchanged])
    );
    assert_eq!(text_of(store, DataResource, "r").await, None);
    assert!(text_of(store, Workspace, "r").await.is_some());
}

/// What is somebody else's, or nobody's, is not touched; what is not there may be made.
pub(crate) async fn owner_guards(store: &dyn Store) {
    let doc = |owner: &str, v: u8| format!("{{\"creator_id\":\"{owner}\",\"v\":{v}}}");
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
    assert_eq!(text_of(store, DataResource, "r").await, Some(doc("a", 3)));
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
        assert_eq!(text_of(store, DataResource, "first").await, None);
    }
    assert!(text_of(store, DataResource, "good").await.is_some());
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
        let doc = format!("{{\"n\":{}}}", id.len());
        assert_eq!(
            store.apply(vec![put(DataResource, id, doc)]).await,
            Ok(vec![Done]),
            "{id:?}"
        );
    }
    for id in ids {
        let wanted = format!("{{\"n\":{}}}", id.len());
        assert_eq!(text_of(store, DataResource, id).await, Some(wanted), "{id:?}");
        assert_eq!(
            store.apply(vec![remove(DataResource, id)]).await,
            Ok(vec![Done]),
            "{id:?}"
        );
        assert_eq!(text_of(store, DataResource, id).await, None);
    }
}

pub(crate) async fn ready_and_synced(store: &dyn Store) {
    assert_eq!(store.ready().await, Ok(()));
    store.apply(vec![put(DataResource, "r", "{}")]).await.unwrap();
    assert_eq!(store.sync().await, Ok(()));
    assert_eq!(store.ready().await, Ok(()));
}
