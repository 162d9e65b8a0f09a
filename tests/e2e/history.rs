//! What an app did over time, and whether the far store says the same: random edits with a seed.

use oc_testkit::{DataType, Peer, resource, until_within};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Longest wait for two stores to say the same: a daemon that was killed, its back-off, a comparison, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The edits of one app.
pub struct History {
    dice: StdRng,
    version: u64,
    truth: BTreeMap<String, u64>,
}

impl History {
    /// Nothing yet; the same seed, the same edits.
    pub fn new(seed: u64) -> Self {
        Self {
            dice: StdRng::seed_from_u64(seed),
            version: 0,
            truth: BTreeMap::new(),
        }
    }

    /// Creates, changes or removes one of forty resources: in the app's own store, then to everybody.
    pub async fn edit(&mut self, at: &Peer) {
        self.version += 1;
        let id = format!("r-{:02}", self.dice.gen_range(0..40));
        if self.dice.gen_bool(0.25) && self.truth.contains_key(&id) {
            self.truth.remove(&id);
            at.remove_resource(DataType::Compute, &json!({"id": id})).await;
            at.publish_delete(DataType::Compute, &json!({"id": id})).await;
            return;
        }
        let mut document = resource(at.did(), &id, "Edited");
        document["version"] = json!(self.version);
        self.truth.insert(id, self.version);
        at.create_resource(DataType::Compute, &document).await;
        at.publish_update(DataType::Compute, &document).await;
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.dice.gen_range(0..sides)
    }

    /// The resources that are there.
    pub fn ids(&self) -> BTreeSet<String> {
        self.truth.keys().cloned().collect()
    }

    /// Waits until the store of `at` has exactly these versions of `from`'s resources.
    pub async fn arrives_at(&self, at: &Peer, from: &Peer) {
        let versions = || {
            let documents = documents_of(at, from.did());
            let version = |document: &Value| document["version"].as_u64().unwrap_or_default();
            documents
                .into_iter()
                .map(|(id, document)| (id, version(&document)))
                .collect::<BTreeMap<_, _>>()
        };
        until_within(
            PATIENCE,
            format!("the resources of {} at {}", from.name(), at.name()),
            || async { (versions() == self.truth).then_some(()) },
        )
        .await;
    }
}

/// Waits until the store of `at` has exactly these resources of `from`.
pub async fn holds_the_same(at: &Peer, from: &Peer, ids: &BTreeSet<String>) {
    until_within(
        PATIENCE,
        format!("{ids:?} of {} at {}", from.name(), at.name()),
        || async {
            let here: BTreeSet<String> = documents_of(at, from.did()).into_keys().collect();
            (here == *ids).then_some(())
        },
    )
    .await;
}

/// The compute resources that the embedded store of `at` has of `creator`, by id.
pub fn documents_of(at: &Peer, creator: &str) -> BTreeMap<String, Value> {
    let read = || -> rusqlite::Result<BTreeMap<String, Value>> {
        let file = at.dir().join("documents.db");
        let store = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut query = store.prepare("SELECT id, doc FROM document WHERE creator_id = ?1 AND datatype = 4")?;
        let rows = query.query_map([creator], |row| {
            let document: Vec<u8> = row.get(1)?;
            Ok((row.get(0)?, serde_json::from_slice(&document).unwrap_or_default()))
        })?;
        rows.collect()
    };
    // Not there yet, or being made: nothing is held.
    read().unwrap_or_default()
}
