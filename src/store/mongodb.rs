//! The documents of the apps, in their MongoDB: read as oc-lib writes them, written only when `store.writes` says so.
//!
//! Owns the driver's client. Always: every call ends within a bound, whatever the server does; that it is away is an error, never
//! an empty answer; nothing is scanned without a bound; no id, DID or text of anybody becomes a path or an operator.

mod apply;
mod fault;
mod fits;
mod follow;
mod from_json;
mod ids;
mod indexes;
mod link;
mod narrow;
mod paths;
mod peers;
mod read;
mod search;
mod to_json;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mongodb::bson::{Document as Bson, doc};
use mongodb::error::Error;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use self::link::MongoOptions;

use self::indexes::Indexes;
use self::link::{Link, OPERATION_MAX, SERVER_MAX};
use self::read::{Keys, Part, by_ids, owner};
use self::search::Turns;
use self::to_json::to_json;
use super::{Applied, Found, Peers, SearchDone, SearchQuery, Store, StoreError, Write};
use crate::model::{Document, ModelError, Peer};
use crate::wire::DataType;

/// Documents in MongoDB. Dropping it ends what follows them.
pub struct MongoStore {
    shared: Arc<Shared>,
    changed: watch::Receiver<u64>,
}

struct Shared {
    link: Link,
    keys: Keys,
    indexes: Indexes,
    turns: Turns,
    end: CancellationToken,
}

impl Drop for MongoStore {
    fn drop(&mut self) {
        self.shared.end.cancel();
    }
}

impl MongoStore {
    /// Begins to follow the documents; the server may be away. Must be called on a runtime.
    ///
    /// # Errors
    /// The address or the password's file is not what it should be.
    pub fn open(options: MongoOptions) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            link: Link::new(options)?,
            keys: Keys::default(),
            indexes: Indexes::default(),
            turns: Turns::default(),
            end: CancellationToken::new(),
        });
        let (sender, changed) = watch::channel(0);
        tokio::spawn(follow::follow(Arc::clone(&shared), sender));
        Ok(Self { shared, changed })
    }

    /// Ends what takes longer than any call may, and says what an error means.
    async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
        match tokio::time::timeout(OPERATION_MAX, work).await {
            Ok(done) => done.map_err(|error| self.shared.link.told(&error)),
            Err(_) => Err(StoreError::Timeout(OPERATION_MAX)),
        }
    }

    /// What is stored under each key, in the order of the keys.
    async fn read<T>(
        &self,
        keys: &[(DataType, String)],
        part: Part,
        told: impl Fn(&Bson) -> T,
    ) -> Result<Vec<Option<T>>, StoreError> {
        let database = &self.shared.link.handles().await?.database;
        let mut kinds: HashMap<DataType, HashSet<&str>> = HashMap::new();
        for (datatype, id) in keys {
            kinds.entry(*datatype).or_default().insert(id);
        }
        let reading = async {
            let mut found = HashMap::new();
            for (datatype, ids) in &kinds {
                let documents = by_ids(database, &self.shared.keys, *datatype, ids, part).await?;
                found.extend(documents.into_iter().map(|(id, document)| ((*datatype, id), document)));
            }
            Ok(found)
        };
        let found = self.within(reading).await?;
        Ok(keys.iter().map(|key| found.get(key).map(&told)).collect())
    }
}

#[async_trait]
impl Store for MongoStore {
    async fn ready(&self) -> Result<(), StoreError> {
        let database = &self.shared.link.handles().await?.database;
        let peers = database.collection::<Bson>(DataType::Peer.name());
        let asking = peers
            .find_one(doc! {})
            .projection(doc! { "_id": 1 })
            .max_time(SERVER_MAX);
        self.within(asking.into_future()).await.map(|_| ())
    }

    async fn self_peer(&self) -> Result<Option<Peer>, StoreError> {
        let database = &self.shared.link.handles().await?.database;
        self.within(peers::self_peer(database, SERVER_MAX)).await?
    }

    async fn peers(&self, limit: usize) -> Result<Peers, StoreError> {
        let database = &self.shared.link.handles().await?.database;
        self.within(peers::all(database, limit, SERVER_MAX)).await
    }

    async fn find_peers(&self, key: &str) -> Result<Vec<Peer>, StoreError> {
        let database = &self.shared.link.handles().await?.database;
        self.within(peers::find(database, key, SERVER_MAX)).await
    }

    async fn get(&self, datatype: DataType, id: &str) -> Result<Option<Document>, StoreError> {
        let key = [(datatype, id.to_owned())];
        let mut found = self.read(&key, Part::Whole, to_json).await?;
        let document = found.pop().flatten().map(Document::new).transpose();
        document.map_err(|why| StoreError::Document {
            datatype: datatype.name(),
            id: id.to_owned(),
            why,
        })
    }

    async fn documents(&self, keys: &[(DataType, String)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.read(keys, Part::Whole, |document| Bytes::from(to_json(document)))
            .await
    }

    async fn owners(&self, keys: &[(DataType, String)]) -> Result<Vec<Option<String>>, StoreError> {
        let told = |document: &Bson| owner(document).unwrap_or_default().to_owned();
        self.read(keys, Part::Owner, told).await
    }

    async fn apply(&self, writes: Vec<Write>) -> Result<Vec<Applied>, StoreError> {
        let shared = &self.shared;
        let database = &shared.link.handles().await?.database;
        let applying = apply::all(&shared.link, database, &shared.keys, writes);
        let applied = tokio::time::timeout(OPERATION_MAX, applying).await;
        applied.unwrap_or(Err(StoreError::Timeout(OPERATION_MAX)))
    }

    fn can_hold(&self, document: &[u8]) -> Result<(), ModelError> {
        fits::read(document).map(|_| ())
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.changed.clone())
    }

    async fn search(&self, query: SearchQuery, out: mpsc::Sender<Found>) -> Result<SearchDone, StoreError> {
        let Shared {
            link, turns, indexes, ..
        } = self.shared.as_ref();
        search::run(link, turns, indexes, query, out).await
    }
}
