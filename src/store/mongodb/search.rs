//! Searching: kind after kind, those that an index leads to first, streaming what is found.
//!
//! The server narrows, the access rule and the words decide: every document sent has passed both. Always: it ends at the limit,
//! the deadline, the cancelling or when nobody listens, at the server as well (its time limit, and the end of its cursor);
//! what no index leads to is looked through one search at a time, and for no longer than [`SCAN_MAX`] in all its kinds.

use std::time::{Duration, Instant};

use mongodb::Database;
use mongodb::bson::{Document, RawDocumentBuf};
use mongodb::error::Error;
use tokio::sync::{Semaphore, mpsc};

use super::fault;
use super::indexes::Indexes;
use super::link::Link;
use super::narrow;
use super::to_json::{agrees, to_json};
use crate::model::{ACCESS_FIELDS, Document as Json, may_see, read_stored};
use crate::store::words::Wanted;
use crate::store::{Found, SearchDone, SearchQuery, StoreError};
use crate::wire::DataType;

/// Longest a search may run, whatever its deadline.
const SEARCH_MAX: Duration = Duration::from_secs(60);
/// Longest a search may look through collections without an index, all of them together.
const SCAN_MAX: Duration = Duration::from_secs(2);
/// Searches at once; further ones wait.
const AT_ONCE: usize = 4;
/// Documents of the first answers of the server: few, so that the first leave early, and an end is soon seen.
const BATCH: u32 = 100;

/// How many may search.
pub(super) struct Turns {
    all: Semaphore,
    scans: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            all: Semaphore::new(AT_ONCE),
            scans: Semaphore::new(1),
        }
    }
}

/// How a walk through one kind ended.
enum Walked {
    ToItsEnd,
    Cut,
    Stopped,
}

pub(super) async fn run(
    link: &Link,
    turns: &Turns,
    indexes: &Indexes,
    query: SearchQuery,
    out: mpsc::Sender<Found>,
) -> Result<SearchDone, StoreError> {
    let query = query.within(SEARCH_MAX)?;
    let mut walk = Walk {
        wanted: Wanted::read(&query.text),
        query,
        out,
        results: 0,
    };
    let cancel = walk.query.cancel.clone();
    let deadline = walk.query.deadline.into();
    let ended = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        () = tokio::time::sleep_until(deadline) => None,
        ended = walk.all(link, turns, indexes) => Some(ended),
    };
    let truncated = match ended {
        Some(ended) => ended?,
        None => true,
    };
    Ok(SearchDone {
        truncated,
        results: walk.results,
    })
}

struct Walk {
    wanted: Wanted,
    query: SearchQuery,
    out: mpsc::Sender<Found>,
    results: usize,
}

impl Walk {
    /// Whether it was cut.
    async fn all(&mut self, link: &Link, turns: &Turns, indexes: &Indexes) -> Result<bool, StoreError> {
        let _turn = turns.all.acquire().await.map_err(|_| StoreError::Closed)?;
        let database = &link.handles().await?.searching;
        let asked = |kind: &DataType| self.query.datatypes.is_empty() || self.query.datatypes.contains(kind);
        let kinds = DataType::RESOURCE_KINDS.into_iter().filter(asked);
        let (led, scanned): (Vec<_>, Vec<_>) = kinds.partition(|kind| indexes.lead_to_owner(*kind));
        let deadline = self.query.deadline;
        let mut ended = self.kinds(link, database, &led, deadline).await?;
        if !scanned.is_empty() && !matches!(ended, Walked::Stopped) {
            // One turn and one time for all of them.
            let _scan = turns.scans.acquire().await.map_err(|_| StoreError::Closed)?;
            let deadline = deadline.min(Instant::now() + SCAN_MAX);
            match self.kinds(link, database, &scanned, deadline).await? {
                Walked::ToItsEnd => {}
                other => ended = other,
            }
        }
        Ok(!matches!(ended, Walked::ToItsEnd))
    }

    /// One kind after another; a kind that is cut ends none of the others.
    async fn kinds(
        &mut self,
        link: &Link,
        database: &Database,
        kinds: &[DataType],
        deadline: Instant,
    ) -> Result<Walked, StoreError> {
        let mut ended = Walked::ToItsEnd;
        for kind in kinds.iter().copied() {
            let (own, trusted) = (&self.query.own_did, self.query.asker.trusted);
            let Some(filter) = narrow::filter(kind, own, trusted, &self.wanted) else {
                continue;
            };
            match self.one(database, kind, filter, deadline).await {
                Ok(Walked::ToItsEnd) => {}
                Ok(Walked::Cut) => ended = Walked::Cut,
                Ok(Walked::Stopped) => return Ok(Walked::Stopped),
                Err(error) if fault::is_time(&error) => ended = Walked::Cut,
                Err(error) => return Err(link.told(&error)),
            }
        }
        Ok(ended)
    }

    async fn one(
        &mut self,
        database: &Database,
        kind: DataType,
        filter: Document,
        deadline: Instant,
    ) -> Result<Walked, Error> {
        let time = deadline.saturating_duration_since(Instant::now());
        if time.is_zero() {
            return Ok(Walked::Cut);
        }
        let walking = async {
            let collection = database.collection::<RawDocumentBuf>(kind.name());
            let mut cursor = collection.find(filter).batch_size(BATCH).max_time(time).await?;
            // Dropped at every end of this function, the cursor ends at the server, too.
            while cursor.advance().await? {
                let Ok(document) = Document::try_from(cursor.current()) else {
                    continue;
                };
                let Some(found) = self.visible(kind, &document) else {
                    continue;
                };
                if self.results >= self.query.limit || !self.send(found).await {
                    return Ok(Walked::Stopped);
                }
                self.results += 1;
            }
            Ok(Walked::ToItsEnd)
        };
        tokio::time::timeout_at(deadline.into(), walking)
            .await
            .unwrap_or(Ok(Walked::Cut))
    }

    /// False when nobody listens any more.
    async fn send(&self, found: Found) -> bool {
        if let Some(room) = &self.query.room {
            tokio::select! {
                () = room.take(&found) => {}
                () = self.out.closed() => return false,
            }
        }
        self.out.send(found).await.is_ok()
    }

    /// The document when it is meant and the asker may see it. One that cannot be read wholly is shown to nobody.
    fn visible(&self, kind: DataType, document: &Document) -> Option<Found> {
        // Lifting lets the top win: an app that reads the nested value must not be outvoted.
        if !agrees(document, &ACCESS_FIELDS) {
            return None;
        }
        let json = to_json(document);
        let meant = may_see(&json, &self.query.own_did, &self.query.asker.as_asker())
            && self.is_meant(&json, kind.attributes());
        let document = meant.then(|| Json::new(json)).and_then(Result::ok);
        document.map(|document| Found {
            datatype: kind,
            document,
        })
    }

    fn is_meant(&self, json: &[u8], attributes: &[&str]) -> bool {
        self.wanted == Wanted::Everything
            || read_stored(json, attributes).is_ok_and(|fields| self.wanted.is_in(fields.texts()))
    }
}
