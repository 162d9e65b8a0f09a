//! Documents by their ids: by the key of the database, and where keys are the database's own, by the `id` inside.
//!
//! Always: a document that is not found was looked for in every way that this collection needs; when there was no time for
//! that, it is an error, never an absence.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error;
use mongodb::{Collection, Database};

use super::ids::id_text;
use super::link::SERVER_MAX;
use super::paths::{HEADER, by_key, by_own_id, paths};
use super::to_json::field;
use crate::wire::DataType;

/// How long it counts that a collection has keys of the database's own making. That it has none is asked each time: the first
/// document that has one may be somebody's at once.
const KEYS_COUNT: Duration = Duration::from_secs(60);
/// Documents of one answer of the server.
const BATCH: u32 = 200;

/// The collections known to have keys of the database's own making, and since when; see [`Keys::are_its_own`].
#[derive(Default)]
pub(super) struct Keys(Mutex<HashMap<DataType, Instant>>);

impl Keys {
    /// Whether the collection has documents whose key says nothing of their id: ObjectIds, that the database made up.
    pub(super) async fn are_its_own(
        &self,
        collection: &Collection<Document>,
        datatype: DataType,
    ) -> Result<bool, Error> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known().get(&datatype).is_some_and(|since| since.elapsed() < KEYS_COUNT) {
            return Ok(true);
        }
        // Ranges of ObjectIds find ObjectIds alone, by the index that every collection has.
        let (first, last) = (ObjectId::from_bytes([0; 12]), ObjectId::from_bytes([0xff; 12]));
        let any = collection.find_one(doc! { "_id": { "$gte": first, "$lte": last } });
        let own = any.projection(doc! { "_id": 1 }).max_time(SERVER_MAX).await?.is_some();
        if own {
            known().insert(datatype, Instant::now());
        }
        Ok(own)
    }
}

/// What is needed of each document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// Only what says whose it is.
    Owner,
}

/// The documents of these ids of one kind.
pub(super) async fn by_ids(
    database: &Database,
    keys: &Keys,
    datatype: DataType,
    ids: &HashSet<&str>,
    part: Part,
) -> Result<HashMap<String, Document>, Error> {
    let collection: Collection<Document> = database.collection(datatype.name());
    let mut found = HashMap::with_capacity(ids.len());
    for document in query(&collection, by_key(ids.iter().copied()), part).await? {
        if let Some(id) = document.get("_id").and_then(id_text) {
            found.entry(id).or_insert(document);
        }
    }
    let missing: Vec<&str> = ids.iter().copied().filter(|id| !found.contains_key(*id)).collect();
    if missing.is_empty() || !keys.are_its_own(&collection, datatype).await? {
        return Ok(found);
    }
    for document in query(&collection, by_own_id(missing), part).await? {
        if let Some(id) = field(&document, "id").and_then(id_text) {
            found.entry(id).or_insert(document);
        }
    }
    Ok(found)
}

async fn query(collection: &Collection<Document>, filter: Document, part: Part) -> Result<Vec<Document>, Error> {
    let finding = collection
        .find(filter)
        .sort(doc! { "_id": 1 })
        .batch_size(BATCH)
        .max_time(SERVER_MAX);
    let finding = match part {
        Part::Whole => finding,
        Part::Owner => finding.projection(owner_paths()),
    };
    finding.await?.try_collect().await
}

fn owner_paths() -> Document {
    let fields = ["creator_id", "id"];
    let all = fields.iter().flat_map(|field| paths(&HEADER, field));
    all.map(|path| (path, Bson::Int32(1))).collect()
}

/// Whose a document is; none when it does not say.
pub(super) fn owner(document: &Document) -> Option<&str> {
    field(document, "creator_id").and_then(Bson::as_str)
}
