//! The indexes that keep us from walking through the apps' collections.
//!
//! Owns which are needed, and whether they are there: those that lead to an owner's documents, and, where keys are of the
//! database's own making, those that lead to a document by its `id`. Always: none is made unless `store.manage_indexes` says so; what is
//! missing is said once, with the words that make it, as soon as its collection is seen to have grown beyond [`FEW`].

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use futures::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongodb::error::Error;
use mongodb::options::IndexOptions;
use mongodb::{Collection, Database, IndexModel};
use tracing::{info, warn};

use super::fault::code;
use super::link::SERVER_MAX;
use super::paths::{HEADER, paths};
use super::read::Keys;
use crate::wire::DataType;

/// Collections of fewer documents need no index: looking through them is a matter of milliseconds.
const FEW: u64 = 1_000;
/// `NamespaceNotFound`: the collection is not there.
const NO_COLLECTION: i32 = 26;

/// What is known of the indexes.
#[derive(Default)]
pub(super) struct Indexes(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_owner: HashMap<DataType, bool>,
    told: HashSet<String>,
}

impl Indexes {
    /// Whether an index leads to the documents of an owner, or there are so few that none is needed.
    pub(super) fn lead_to_owner(&self, kind: DataType) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.by_owner.get(&kind).copied().unwrap_or_default()
    }

    /// Looks at the indexes of every resource collection; makes those that are missing when we may, says which otherwise.
    pub(super) async fn look(&self, database: &Database, keys: &Keys, may_make: bool) -> Result<(), Error> {
        for kind in DataType::RESOURCE_KINDS {
            let collection: Collection<Document> = database.collection(kind.name());
            let Some(begins) = begins(&collection).await? else {
                self.note(kind, true, std::iter::empty());
                continue;
            };
            let mut owners = missing(&begins, "creator_id");
            let mut ids = match keys.are_its_own(&collection, kind).await? {
                true => missing(&begins, "id"),
                false => Vec::new(),
            };
            if may_make {
                // Each by itself: an index of the apps may be in the way of one.
                for paths in [&mut owners, &mut ids] {
                    if !paths.is_empty() && self.make(&collection, paths).await? {
                        paths.clear();
                    }
                }
            }
            let complete = owners.is_empty() && ids.is_empty();
            let few = complete || collection.estimated_document_count().max_time(SERVER_MAX).await? < FEW;
            let led = few || owners.is_empty();
            let told = self.note(kind, led, owners.iter().map(|path| how(kind, path)));
            if !told.is_empty() {
                warn!(
                    collection = kind.name(),
                    make = told.join("; "),
                    "searches look through a collection without an index, and are cut after 2 s: make the missing indexes, or \
                     set store.manage_indexes"
                );
            }
            let told = self.note_ids(few, ids.iter().map(|path| how(kind, path)));
            if !told.is_empty() {
                warn!(
                    collection = kind.name(),
                    make = told.join("; "),
                    "each change of a partner's looks through a collection without an index, since there are ObjectIds for keys: \
                     make the missing indexes, or set store.manage_indexes"
                );
            }
        }
        Ok(())
    }

    /// Makes them; false, which is told once, when the server does not take them.
    async fn make(&self, collection: &Collection<Document>, missing: &[String]) -> Result<bool, Error> {
        let models = missing.iter().map(|path| {
            // Sparse: a form that these documents do not have costs nothing.
            let options = IndexOptions::builder().sparse(true).build();
            IndexModel::builder()
                .keys(doc! { path.as_str(): 1 })
                .options(options)
                .build()
        });
        let paths = missing.join(", ");
        // May take long on a large collection; the server does it beside its other work.
        match collection.create_indexes(models).await {
            Ok(_) => {
                info!(collection = collection.name(), paths, "indexes were made");
                Ok(true)
            }
            Err(error) if code(&error).is_some() => {
                let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if known.told.insert(format!("{} {error}", collection.name())) {
                    warn!(collection = collection.name(), paths, %error, "the database does not make these indexes");
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes it; what was not told before.
    fn note(&self, kind: DataType, led: bool, missing: impl Iterator<Item = String>) -> Vec<String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.by_owner.insert(kind, led);
        if led {
            return Vec::new();
        }
        missing.filter(|how| known.told.insert(how.clone())).collect()
    }

    /// What of it was not told before; nothing of few documents.
    fn note_ids(&self, few: bool, missing: impl Iterator<Item = String>) -> Vec<String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        missing.filter(|how| !few && known.told.insert(how.clone())).collect()
    }
}

/// The command that makes an index.
fn how(kind: DataType, path: &str) -> String {
    format!("db.{}.createIndex({{\"{path}\": 1}}, {{sparse: true}})", kind.name())
}

/// The paths that indexes begin with; none when there is no collection.
async fn begins(collection: &Collection<Document>) -> Result<Option<HashSet<String>>, Error> {
    let there = match collection.list_indexes().max_time(SERVER_MAX).await {
        Ok(cursor) => cursor.try_collect::<Vec<IndexModel>>().await?,
        Err(error) if code(&error) == Some(NO_COLLECTION) => return Ok(None),
        Err(error) => return Err(error),
    };
    let partial = |index: &IndexModel| {
        let options = index.options.as_ref();
        options.is_some_and(|options| options.partial_filter_expression.is_some() || options.hidden == Some(true))
    };
    let whole = there.iter().filter(|index| !partial(index));
    Ok(Some(
        whole.filter_map(|index| index.keys.keys().next().cloned()).collect(),
    ))
}

/// The paths of a field that no index begins with.
fn missing(begins: &HashSet<String>, field: &str) -> Vec<String> {
    paths(&HEADER, field).filter(|path| !begins.contains(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_once() {
        let indexes = Indexes::default();
        let missing = || {
            ["creator_id", "abstractobject.creator_id"]
                .map(|path| how(DataType::DataResource, path))
                .into_iter()
        };
        assert!(!indexes.lead_to_owner(DataType::DataResource), "not looked at yet");
        assert_eq!(indexes.note(DataType::DataResource, false, missing()).len(), 2);
        assert_eq!(
            indexes.note(DataType::DataResource, false, missing()),
            Vec::<String>::new()
        );
        indexes.note(DataType::DataResource, true, missing());
        assert!(indexes.lead_to_owner(DataType::DataResource));
        assert_eq!(
            how(DataType::DataResource, "creator_id"),
            "db.data_resource.createIndex({\"creator_id\": 1}, {sparse: true})"
        );
    }
}
