//! What look-ups have brought: records, that there is none, and which DID is whose.
//!
//! Pure: time is passed in, in milliseconds since 1970. Always: the first key seen with a DID keeps it, unless another proves
//! that the DID is its own; of two records of a peer the newer counts; everything is bounded, and the oldest makes room.

use super::rules::Verified;
use crate::model::peer_id_of;
use libp2p::PeerId;
use std::collections::HashMap;
use std::sync::Arc;

/// How long a record is taken from here without asking anybody.
const FRESH: u64 = 30_000;
/// How long "nobody has one" counts.
const ABSENT: u64 = 10_000;
/// How long a record is the last word about its peer when nobody else can be asked.
const LAST_KNOWN: u64 = 24 * 3600 * 1000;
/// How long what other indexers have under a name is told without asking them again: each question would become one to all.
const NAMED: u64 = 5_000;
/// Names of which that is remembered.
const NAMES: usize = 1_000;
/// Records, absences and conflicts kept, each.
const KEPT: usize = 10_000;

/// Where a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// It was given to us: we are an indexer.
    Book,
    /// This indexer has it.
    Indexer(PeerId),
    /// The DHT.
    Dht,
    /// An earlier life of this daemon had it.
    Before,
}

impl std::fmt::Display for Whence {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Book => out.write_str("our own book"),
            Self::Indexer(peer) => write!(out, "the indexer {peer}"),
            Self::Dht => out.write_str("the DHT"),
            Self::Before => out.write_str("an earlier life of this daemon"),
        }
    }
}

/// A record, where it came from, and when.
#[derive(Debug, Clone)]
pub struct Found {
    /// The record, verified.
    pub record: Arc<Verified>,
    /// Where it came from.
    pub from: Whence,
    /// When, in milliseconds since 1970.
    pub at: u64,
}

/// A record that was refused because its DID is another's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who claims it.
    pub claims: PeerId,
    /// Whose it is; none when several claim it and nobody proves it.
    pub owner: Option<PeerId>,
    /// Where the claim came from.
    pub from: Whence,
    /// When.
    pub at: u64,
}

/// The cache; see the module's first lines.
#[derive(Debug, Default)]
pub struct Cache {
    by_peer: HashMap<PeerId, Found>,
    by_did: HashMap<String, PeerId>,
    /// Until when nobody has one: as far as the indexers know, and as far as the DHT knows, too.
    absent: HashMap<String, (u64, u64)>,
    conflicts: HashMap<String, Conflict>,
    /// What other indexers had under a name, for those who ask us.
    named: HashMap<String, (u64, Vec<Found>)>,
}

fn is_meant(key: &str, found: &Found) -> bool {
    let record = &found.record;
    record.record.did == key || record.record.name == key || record.record.peer_id == key
}

impl Cache {
    /// Takes records that one look-up brought. `pinned` says whose a DID is by our store. What is refused for its DID comes
    /// back as conflicts.
    pub fn take(
        &mut self,
        records: Vec<(Verified, Whence)>,
        pinned: impl Fn(&str) -> Option<PeerId>,
        now: u64,
    ) -> (Vec<Found>, Vec<(String, Conflict)>) {
        let mut found: Vec<Found> = Vec::new();
        let mut conflicts = Vec::new();
        let disputed = self.disputed(&records, &pinned);
        for (record, from) in records {
            let did = record.record.did.clone();
            let owner = pinned(&did).or_else(|| self.owner(&did, &record));
            let refused = disputed.contains(&did) && !record.proven;
            if refused || owner.is_some_and(|owner| owner != record.peer) {
                let conflict = Conflict {
                    claims: record.peer,
                    owner,
                    from,
                    at: now,
                };
                bounded(&mut self.conflicts, &did, |conflict| conflict.at);
                self.conflicts.insert(did.clone(), conflict.clone());
                conflicts.push((did, conflict));
                continue;
            }
            let taken = self.put(record, from, now);
            match found.iter_mut().find(|known| known.record.peer == taken.record.peer) {
                Some(known) => *known = taken,
                None => found.push(taken),
            }
        }
        (found, conflicts)
    }

    /// DIDs that several claim in one look-up, and nobody proves or had before.
    fn disputed(&self, records: &[(Verified, Whence)], pinned: &impl Fn(&str) -> Option<PeerId>) -> Vec<String> {
        let mut claims: HashMap<&str, PeerId> = HashMap::new();
        let mut disputed = Vec::new();
        for (record, _) in records.iter().filter(|(record, _)| !record.proven) {
            let did = record.record.did.as_str();
            let first = *claims.entry(did).or_insert(record.peer);
            let settled = pinned(did).is_some() || self.by_did.contains_key(did);
            if first != record.peer && !settled {
                disputed.push(did.to_owned());
            }
        }
        disputed
    }

    /// Whose the DID is by what was seen before.
    fn owner(&self, did: &str, record: &Verified) -> Option<PeerId> {
        let owner = *self.by_did.get(did)?;
        let proven = self.by_peer.get(&owner).is_some_and(|found| found.record.proven);
        (proven || !record.proven).then_some(owner)
    }

    fn put(&mut self, record: Verified, from: Whence, now: u64) -> Found {
        let peer = record.peer;
        if let Some(known) = self.by_peer.get_mut(&peer)
            && known.record.expires >= record.expires
            && known.record.record.did == record.record.did
        {
            // Not newer than what is known; but it is still so.
            known.at = now;
            known.from = from;
            return known.clone();
        }
        if self.by_peer.len() >= KEPT && !self.by_peer.contains_key(&peer) {
            let oldest = self.by_peer.iter().min_by_key(|(_, found)| found.at);
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.forget(&oldest);
            }
        }
        self.forget(&peer);
        for key in [&record.record.did, &record.record.name, &record.record.peer_id] {
            self.absent.remove(key);
        }
        let found = Found {
            record: Arc::new(record),
            from,
            at: now,
        };
        self.by_did.insert(found.record.record.did.clone(), peer);
        self.by_peer.insert(peer, found.clone());
        found
    }

    fn forget(&mut self, peer: &PeerId) {
        if let Some(old) = self.by_peer.remove(peer) {
            self.by_did.remove(&old.record.record.did);
        }
    }

    /// Nobody has a record under this key; `dht` when the DHT was asked, too.
    pub fn nobody_has(&mut self, key: &str, dht: bool, now: u64) {
        bounded(&mut self.absent, key, |until| until.0);
        let until = self.absent.entry(key.to_owned()).or_default();
        until.0 = now + ABSENT;
        if dht {
            until.1 = now + ABSENT;
        }
    }

    /// Others have these under a name.
    pub fn others_have(&mut self, name: &str, found: &[Found], now: u64) {
        if self.named.len() >= NAMES {
            self.named.retain(|_, (until, _)| now < *until);
        }
        if self.named.len() < NAMES {
            self.named.insert(name.to_owned(), (now + NAMED, found.to_vec()));
        }
    }

    /// What others had under a name a moment ago.
    #[must_use]
    pub fn had(&self, name: &str, now: u64) -> Option<&[Found]> {
        let (until, found) = self.named.get(name)?;
        (now < *until).then_some(found.as_slice())
    }

    /// Whether nobody had one a moment ago; with `dht` only when the DHT was asked, too.
    #[must_use]
    pub fn is_absent(&self, key: &str, dht: bool, now: u64) -> bool {
        let until = self.absent.get(key);
        let until = until.map_or(0, |(indexers, all)| if dht { *all } else { *indexers });
        // Not when the clock was set back meanwhile: then it would count as long as that was.
        now < until && until - now <= ABSENT
    }

    /// The record of a DID or a PeerId, when it is new enough to be used without asking. A name always has to be asked for.
    #[must_use]
    pub fn fresh(&self, key: &str, now: u64) -> Option<Found> {
        let peer = self.by_did.get(key).copied().or_else(|| peer_id_of(key))?;
        let found = self.by_peer.get(&peer)?;
        let counts = found.from != Whence::Before && now.saturating_sub(found.at) < FRESH && now < found.record.expires;
        counts.then(|| found.clone())
    }

    /// All records under a DID, PeerId or name that are not older than a day.
    #[must_use]
    pub fn last_known(&self, key: &str, now: u64) -> Vec<Found> {
        let live = self
            .by_peer
            .values()
            .filter(|found| now.saturating_sub(found.at) < LAST_KNOWN);
        live.filter(|found| is_meant(key, found)).cloned().collect()
    }

    /// What is known of one peer, however old.
    #[must_use]
    pub fn of_peer(&self, peer: &PeerId) -> Option<&Found> {
        self.by_peer.get(peer)
    }

    /// What the bearer of a DID calls itself, however old that is.
    #[must_use]
    pub fn name_of(&self, did: &str) -> Option<String> {
        let found = self.by_peer.get(self.by_did.get(did)?)?;
        Some(found.record.record.name.clone())
    }

    /// The last conflict about a DID.
    #[must_use]
    pub fn conflict(&self, did: &str) -> Option<&Conflict> {
        self.conflicts.get(did)
    }

    /// The newest records, at most so many: what the next life begins with.
    #[must_use]
    pub fn newest(&self, most: usize) -> Vec<Found> {
        let mut all: Vec<Found> = self.by_peer.values().cloned().collect();
        all.sort_by_key(|found| std::cmp::Reverse(found.at));
        all.truncate(most);
        all
    }
}

/// Makes room for `key` by the entry with the smallest time.
fn bounded<V>(map: &mut HashMap<String, V>, key: &str, time: impl Fn(&V) -> u64) {
    if map.len() >= KEPT && !map.contains_key(key) {
        let oldest = map
            .iter()
            .min_by_key(|(_, value)| time(value))
            .map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            map.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::rules::tests::good;
    use crate::identity::derived_did;
    use libp2p::identity::Keypair;
    use std::time::{Duration, SystemTime};

    fn key() -> Keypair {
        Keypair::generate_ed25519()
    }

    fn nobody(_: &str) -> Option<PeerId> {
        None
    }

    #[test]
    fn a_record_is_fresh_for_a_while_and_the_last_word_for_a_day() {
        let (mut cache, at) = (Cache::default(), SystemTime::now());
        let now = super::super::rules::millis(at);
        let owner = key();
        let record = good(&owner, "did:1", "site", at);
        let (found, conflicts) = cache.take(vec![(record, Whence::Dht)], nobody, now);
        assert_eq!((found.len(), conflicts.len()), (1, 0));
        let peer = owner.public().to_peer_id();
        for key in ["did:1", &peer.to_string()] {
            assert!(cache.fresh(key, now + FRESH - 1).is_some() && cache.fresh(key, now + FRESH).is_none());
        }
        assert!(cache.fresh("site", now).is_none(), "a name is asked for each time");
        assert_eq!(cache.last_known("site", now + LAST_KNOWN - 1).len(), 1);
        assert_eq!(cache.last_known("site", now + LAST_KNOWN).len(), 0);
    }

    #[test]
    fn a_text_far_too_long_for_a_peer_id_is_not_read_as_one() {
        // Read as one it would take minutes.
        assert!(Cache::default().fresh(&"z".repeat(4 << 20), 1).is_none());
    }

    #[test]
    fn that_there_is_none_counts_for_ten_seconds_or_until_there_is_one() {
        let (mut cache, at) = (Cache::default(), SystemTime::now());
        cache.nobody_has("did:1", false, 1_000);
        let is = |cache: &Cache, dht, after| cache.is_absent("did:1", dht, 1_000 + after);
        assert!(is(&cache, false, ABSENT - 1) && !is(&cache, false, ABSENT));
        assert!(!is(&cache, true, 0), "the DHT was not asked");
        cache.nobody_has("did:1", true, 1_000);
        assert!(!cache.is_absent("did:1", false, 999), "the clock was set back");
        assert!(is(&cache, true, 0) && is(&cache, false, 0));
        cache.take(vec![(good(&key(), "did:1", "n", at), Whence::Dht)], nobody, 1_001);
        assert!(!is(&cache, false, 2));
        for n in 0..2 * KEPT {
            cache.nobody_has(&n.to_string(), true, n as u64);
        }
        assert_eq!(cache.absent.len(), KEPT);
    }

    #[test]
    fn the_first_key_keeps_the_did_unless_another_proves_it_and_the_store_has_the_last_word() {
        let (mut cache, at, now) = (Cache::default(), SystemTime::now(), 5);
        let (owner, squatter) = (key(), key());
        let proven = derived_did(&owner.public());
        let false_claim = || (good(&squatter, &proven, "false", at), Whence::Dht);
        let (found, _) = cache.take(vec![false_claim()], nobody, now);
        assert_eq!(found.len(), 1, "nobody else has shown up");
        let real = || (good(&owner, &proven, "real", at), Whence::Dht);
        let (found, conflicts) = cache.take(vec![false_claim(), real()], nobody, now);
        assert_eq!(found.last().unwrap().record.record.name, "real");
        let (found2, again) = cache.take(vec![false_claim()], nobody, now);
        assert_eq!((found2.len(), again.len(), conflicts.len()), (0, 1, 0));
        assert_eq!(
            cache.conflict(&proven).unwrap().owner,
            Some(owner.public().to_peer_id())
        );
        assert_eq!(found.len(), 2);

        let pinned = |_: &str| Some(owner.public().to_peer_id());
        let claim = (good(&squatter, "did:new", "n", at), Whence::Dht);
        let (found, conflicts) = cache.take(vec![claim], pinned, now);
        assert_eq!((found.len(), conflicts.len()), (0, 1));
    }

    #[test]
    fn a_did_that_two_claim_at_once_and_nobody_proves_is_nobodys() {
        let (mut cache, at) = (Cache::default(), SystemTime::now());
        let claim = |n: u8| (good(&key(), "did:1", "n", at), Whence::Indexer(PeerId::random()), n);
        let records = vec![claim(1), claim(2)]
            .into_iter()
            .map(|(record, from, _)| (record, from));
        let (found, conflicts) = cache.take(records.collect(), nobody, 1);
        assert_eq!((found.len(), conflicts.len()), (0, 2));
    }

    #[test]
    fn of_two_records_of_a_peer_the_newer_counts_whatever_comes_last() {
        let (mut cache, at) = (Cache::default(), SystemTime::now());
        let owner = key();
        let (old, new) = (
            good(&owner, "did:1", "old", at),
            good(&owner, "did:1", "new", at + Duration::from_secs(1)),
        );
        cache.take(vec![(new, Whence::Dht)], nobody, 1);
        let (found, _) = cache.take(vec![(old, Whence::Dht)], nobody, 2);
        assert_eq!((found[0].record.record.name.as_str(), found[0].at), ("new", 2));
    }
}
