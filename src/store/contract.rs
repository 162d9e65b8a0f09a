//! What every store must do, whatever it is made of. Each implementation runs all of it on stores of its own making; that the
//! embedded one also keeps every byte is a test of its own.
//!
//! `store_contract!(make)` with `async fn make() -> Option<(impl Store, Guard)>`; the guard keeps files or servers while a case
//! runs, and there is none where this machine cannot have such a store.

pub(crate) mod documents;
pub(crate) mod peers;
pub(crate) mod search;

use bytes::Bytes;
use serde_json::Value;

use super::{Applied, Change, Store, Write};
use crate::wire::DataType;

/// One test a case, each on a fresh store.
macro_rules! store_contract {
    ($make:path) => {
        $crate::store::contract::store_contract!(@cases $make, documents:
            documents_stay, put_replaces, remove_and_again, owner_guards, batches_are_whole, owners_in_order,
            hostile_ids, ready_and_synced);
        $crate::store::contract::store_contract!(@cases $make, peers:
            self_peer_is_found, two_selves_are_refused, peers_by_any_key, unreadable_ones_are_told, limits_are_told);
        $crate::store::contract::store_contract!(@cases $make, search:
            words_match_folded, every_alphabet_is_folded, attributes_are_found, signs_are_never_operators, access_is_kept,
            nested_partnerships_grant, what_contradicts_itself_is_not_shown, kinds_are_filtered, limits_are_told_in_search,
            stopping_stops, what_waits_is_bounded_in_bytes, slow_askers_keep_no_look_up_waiting, index_follows_documents, nested_documents_are_found, odd_documents_do_no_harm);
    };
    (@cases $make:path, $group:ident: $($case:ident),+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let Some((store, _guard)) = $make().await else { return };
            $crate::store::contract::$group::$case(&store).await;
        }
    )+};
}
pub(crate) use store_contract;

fn put(datatype: DataType, id: &str, doc: impl Into<Bytes>) -> Write {
    Write {
        datatype,
        id: id.to_owned(),
        change: Change::Put(doc.into()),
        only_if_owner: None,
    }
}

fn remove(datatype: DataType, id: &str) -> Write {
    Write {
        datatype,
        id: id.to_owned(),
        change: Change::Remove,
        only_if_owner: None,
    }
}

fn by(owner: &str, write: Write) -> Write {
    Write {
        only_if_owner: Some(owner.to_owned()),
        ..write
    }
}

async fn store_all(store: &dyn Store, datatype: DataType, docs: &[Value]) {
    let writes: Vec<Write> = docs
        .iter()
        .map(|doc| put(datatype, doc["id"].as_str().unwrap(), doc.to_string()))
        .collect();
    let applied = store.apply(writes).await.unwrap();
    assert!(applied.iter().all(|applied| *applied == Applied::Done), "{applied:?}");
}

async fn value_of(store: &dyn Store, datatype: DataType, id: &str) -> Option<Value> {
    store
        .get(datatype, id)
        .await
        .unwrap()
        .map(|document| document.value().unwrap())
}
