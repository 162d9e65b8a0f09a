//! Look-ups: what is known already, then the indexers, then the DHT.
//!
//! Owns the order, and that one look-up runs for each key however many ask. Always: every look-up ends within a bound; what is
//! found is verified and fits the keys that were seen before; a refused claim of a DID is counted, said and remembered.

use super::cache::{Conflict, Found, Whence};
use super::rules::verify;
use super::shelf::key_of_did;
use super::{Discovery, locked, now};
use crate::identity::{derived_did, key_of};
use crate::model::peer_id_of;
use crate::wire::{PeerRecord, RecordQuery};
use futures::FutureExt;
use futures::future::Shared;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::sync::oneshot;
use tracing::{debug, warn};

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Depth {
    /// The indexers.
    Indexers,
    /// The DHT after them, and then what was known once.
    All,
}

/// A look-up under way.
pub(super) type Flight = Shared<oneshot::Receiver<Arc<Vec<Found>>>>;

/// A look-up by its key, how far it goes, and whether another indexer asks.
pub(super) type FlightKey = (String, Depth, bool);

/// Whether the key is the record's DID or PeerId, and not a name that others may bear, too.
fn is_exactly(key: &str, record: &super::Verified) -> bool {
    record.record.did == key || record.record.peer_id == key
}

impl Discovery {
    /// What [`Discovery::find`] tells of a DID or a PeerId without asking anybody; none when it would ask indexers.
    #[must_use]
    pub fn at_hand(&self, key: &str) -> Option<Vec<Found>> {
        let Ok(key) = RecordQuery::checked(key) else {
            return Some(Vec::new());
        };
        let own = self.own_book(key);
        if own.iter().any(|(record, _)| is_exactly(key, record)) {
            return Some(self.taken(own));
        }
        let cache = locked(&self.0.cache);
        match cache.fresh(key, now()) {
            Some(found) => Some(vec![found]),
            None => cache.is_absent(key, false, now()).then(Vec::new),
        }
    }

    /// The records of a DID, a PeerId or a name. Of a name there may be several; of what no question can ask for, none.
    pub async fn find(&self, key: &str, depth: Depth) -> Vec<Found> {
        // Anybody may name a key: what no indexer would take is neither sent nor remembered.
        let Ok(key) = RecordQuery::checked(key) else {
            return Vec::new();
        };
        // What it was told itself is newer than what it found once.
        let own = self.own_book(key);
        if own.iter().any(|(record, _)| is_exactly(key, record)) {
            self.count("book", true);
            return self.taken(own);
        }
        if let Some(found) = locked(&self.0.cache).fresh(key, now()) {
            self.count("cache", true);
            return vec![found];
        }
        if locked(&self.0.cache).is_absent(key, depth == Depth::All, now()) {
            self.count("cache", false);
            return if depth == Depth::All {
                self.last_known(key)
            } else {
                Vec::new()
            };
        }
        self.fly((key.to_owned(), depth, false)).await
    }

    /// One look-up for each key at a time.
    async fn fly(&self, key: FlightKey) -> Vec<Found> {
        let flight = {
            let mut flights = locked(&self.0.flights);
            match flights.get(&key) {
                Some(flight) => flight.clone(),
                None => {
                    let Ok(turn) = Arc::clone(&self.0.asking).try_acquire_owned() else {
                        let refusals = &self.0.parts.refusals;
                        refusals.dropped("look_up", "full", 1, "", "too many look-ups at once");
                        return self.last_known(&key.0);
                    };
                    let (landed, flight) = oneshot::channel();
                    let flight = flight.shared();
                    flights.insert(key.clone(), flight.clone());
                    let service = self.clone();
                    tokio::spawn(async move {
                        let found = service.look_up(&key.0, key.1).await;
                        locked(&service.0.flights).remove(&key);
                        let _ = landed.send(Arc::new(found));
                        drop(turn);
                    });
                    flight
                }
            }
        };
        flight.await.map_or_else(|_| Vec::new(), |found| found.as_ref().clone())
    }

    async fn look_up(&self, key: &str, depth: Depth) -> Vec<Found> {
        // An indexer passes the question on to others once, so that it is found wherever it is kept.
        let asked = self.ask_indexers(key, self.0.is_indexer).await;
        let mut records = self.own_book(key);
        records.extend(asked.records);
        let answered = asked.answers > 0 || self.0.is_indexer;
        if !records.is_empty() {
            self.count("indexer", true);
            return self.taken(records);
        }
        if answered {
            self.count("indexer", false);
        }
        if depth == Depth::Indexers {
            if answered {
                locked(&self.0.cache).nobody_has(key, false, now());
            }
            return Vec::new();
        }
        // A DID has no spaces in it, a name may.
        let records = if key.contains(char::is_whitespace) {
            Vec::new()
        } else {
            self.ask_dht(key).await
        };
        let found = self.taken(records);
        self.count("dht", !found.is_empty());
        if !found.is_empty() {
            return found;
        }
        locked(&self.0.cache).nobody_has(key, true, now());
        self.last_known(key)
    }

    /// Whether anybody at all can be asked about a peer that is not known.
    #[must_use]
    pub fn can_ask(&self) -> bool {
        self.0.is_indexer || !locked(&self.0.choice).kept().is_empty()
    }

    fn last_known(&self, key: &str) -> Vec<Found> {
        let found = locked(&self.0.cache).last_known(key, now());
        if !found.is_empty() {
            self.count("last_known", true);
        }
        found
    }

    fn own_book(&self, key: &str) -> Vec<(super::Verified, Whence)> {
        if !self.0.is_indexer {
            return Vec::new();
        }
        let texts: Vec<Arc<[u8]>> = {
            let book = locked(&self.0.book);
            book.find(key, now())
                .into_iter()
                .map(|kept| kept.text.clone())
                .collect()
        };
        let read = texts.iter().filter_map(|text| PeerRecord::read(text).ok());
        let good = read.filter_map(|record| verify(record, SystemTime::now()).ok());
        good.map(|record| (record, Whence::Book)).collect()
    }

    /// The record of a DID; a PeerId leads to the DID that follows from its key.
    async fn ask_dht(&self, key: &str) -> Vec<(super::Verified, Whence)> {
        let did = match peer_id_of(key) {
            Some(peer) => match key_of(&peer) {
                Some(key) => derived_did(&key),
                None => return Vec::new(),
            },
            None => key.to_owned(),
        };
        let mut records = Vec::new();
        for value in self.0.parts.network.dht_get(key_of_did(&did)).await {
            let read = PeerRecord::read(&value).map_err(super::rules::Wrong::from);
            match read.and_then(|record| verify(record, SystemTime::now())) {
                Ok(record) if record.record.did == did => records.push((record, Whence::Dht)),
                Ok(_) => self
                    .0
                    .parts
                    .refusals
                    .refuse("dht_other_key", &did, "a record of another DID"),
                Err(wrong) => self
                    .0
                    .parts
                    .refusals
                    .refuse(wrong.rule(), &did, format_args!("from the DHT: {wrong}")),
            }
        }
        records
    }

    /// What counts of the records that a look-up brought.
    fn taken(&self, records: Vec<(super::Verified, Whence)>) -> Vec<Found> {
        let federation = Arc::clone(&self.0.parts.federation.borrow());
        let (own_did, own_peer) = (&self.0.parts.own.did, self.0.parts.network.local());
        let pinned = |did: &str| {
            let stored = federation.get(did).and_then(|member| member.peer_id);
            stored.or_else(|| (did == own_did).then_some(own_peer))
        };
        let (found, conflicts) = locked(&self.0.cache).take(records, pinned, now());
        for (did, conflict) in conflicts {
            self.show(&did, &conflict);
        }
        found
    }

    fn show(&self, did: &str, conflict: &Conflict) {
        let Conflict {
            claims, owner, from, ..
        } = conflict;
        let whose = owner.map_or("several claim it and nobody proves it".to_owned(), |owner| {
            format!("it is {owner}'s")
        });
        let detail = format_args!("{claims} claims this DID, by {from}; {whose}");
        self.0.parts.refusals.refuse("did_of_another", did, detail);
        debug!(did, %claims, "a record was refused for its DID");
    }

    fn count(&self, way: &'static str, found: bool) {
        self.0
            .parts
            .metrics
            .looked_up(way, if found { "found" } else { "none" });
    }

    /// Another daemon asks us, an indexer.
    pub(super) async fn find_for(&self, query: &RecordQuery) -> Vec<Vec<u8>> {
        let RecordQuery { key, forwarded } = query;
        let here: Vec<Vec<u8>> = {
            let book = locked(&self.0.book);
            book.find(key, now())
                .into_iter()
                .map(|kept| kept.text.to_vec())
                .collect()
        };
        let mut read = here.iter().filter_map(|text| PeerRecord::read(text).ok());
        let has_all = read.any(|record| record.did == *key || record.peer_id == *key);
        if *forwarded || has_all {
            return here;
        }
        if locked(&self.0.cache).is_absent(key, false, now()) {
            return here;
        }
        let mut all = here;
        if let Some(found) = locked(&self.0.cache).fresh(key, now()) {
            all.push(found.record.record.write());
            return all;
        }
        let had = locked(&self.0.cache).had(key, now()).map(<[Found]>::to_vec);
        let elsewhere = match had {
            Some(had) => had,
            None if !locked(&self.0.passed_on).take(Instant::now()) => {
                let refusals = &self.0.parts.refusals;
                refusals.dropped("look_up", "passed_on", 1, "", "more questions than may be passed on");
                Vec::new()
            }
            None => {
                let found = self.fly((key.clone(), Depth::Indexers, true)).await;
                locked(&self.0.cache).others_have(key, &found, now());
                found
            }
        };
        for found in elsewhere {
            let text = found.record.record.write();
            if !all.contains(&text) {
                all.push(text);
            }
        }
        all
    }

    /// Says once that nobody is left to ask, and once that there is somebody again.
    pub(super) fn say_alone(&self, alone: bool) {
        if alone {
            warn!("no indexer can be reached: peers are found by what is known of them, and by the DHT");
        } else {
            tracing::info!("an indexer is kept again");
        }
    }
}
