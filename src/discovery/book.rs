//! What an indexer keeps: the newest record of each peer, found by DID, PeerId and name.
//!
//! Pure: time is passed in, in milliseconds since 1970 by our own clock. Owns the bounds. Always: a record is kept for
//! [`LIFE`] from its receipt; a live one never makes room for a newcomer; one address has its share and no more; a DID stays
//! with the key that first brought it here, unless another key proves that it is its own, or too many DIDs have come since its
//! last record.

use super::rules::{LIFE, Verified};
use crate::identity::{is_self_proving, key_of};
use crate::model::peer_id_of;
use crate::network::Source;
use crate::wire::RECORDS_MAX;
use libp2p::PeerId;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// How long a DID stays with its key after its last record, in milliseconds: a peer that is away for a day finds its DID.
const PINNED: u64 = 24 * 3600 * 1000;
/// Pins for each record that may be kept: when there are so many, no record stands behind half of them.
const PINS_PER_RECORD: usize = 2;
/// The part of all pins that makes room at a time: looking for the oldest takes a look at each.
const ROOM: usize = 64;

/// The bounds of a book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Records in all.
    pub records: usize,
    /// Records that came from one address.
    pub of_address: usize,
}

/// Why a record is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// All places are taken.
    Full,
    /// All places of its address are taken.
    AddressFull,
    /// Its DID is another key's.
    DidTaken,
    /// A newer one of the same peer is kept.
    Older,
}

impl Refused {
    /// In one word, for metrics and for the answer.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address_full",
            Self::DidTaken => "did_taken",
            Self::Older => "older",
        }
    }
}

/// A record that is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// As it came.
    pub text: Arc<[u8]>,
    /// When.
    pub received: u64,
    did: Arc<str>,
    name: Arc<str>,
    expires: u64,
    source: Source,
}

#[derive(Debug, Clone, Copy)]
struct Pin {
    peer: PeerId,
    seen: u64,
    proven: bool,
}

/// The book; see the module's first lines.
#[derive(Debug)]
pub struct Book {
    bounds: Bounds,
    kept: HashMap<PeerId, Kept>,
    by_did: HashMap<Arc<str>, Pin>,
    /// Name and PeerId; the id as bytes, so that a search can begin before all of them.
    by_name: BTreeSet<(Arc<str>, Box<[u8]>)>,
    of_address: HashMap<Source, usize>,
}

/// [`LIFE`] in milliseconds.
pub(super) fn life() -> u64 {
    u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX)
}

impl Book {
    /// An empty book.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            kept: HashMap::new(),
            by_did: HashMap::new(),
            by_name: BTreeSet::new(),
            of_address: HashMap::new(),
        }
    }

    /// Records kept, expired ones that were not swept yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Records that can be kept.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bounds.records
    }

    /// Takes a record that came from `source`.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn take(&mut self, record: &Verified, source: Source, now: u64) -> Result<(), Refused> {
        self.take_of(record, source, now, now)
    }

    /// Takes a record of an earlier life, as of when it had come.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn take_of(&mut self, record: &Verified, source: Source, received: u64, now: u64) -> Result<(), Refused> {
        let (peer, did) = (record.peer, record.record.did.as_str());
        let before = self.kept.get(&peer);
        if before.is_some_and(|before| before.expires > record.expires && before.is_live(now)) {
            return Err(Refused::Older);
        }
        let again = before.is_some_and(|before| before.expires == record.expires && &*before.did == did);
        if again {
            // The same one again: it lives no longer by that.
            return Ok(());
        }
        let is_here = before.is_some();
        let moves = before.is_none_or(|before| before.source != source);
        self.may_have(did, record, now)?;
        if !is_here && self.kept.len() >= self.bounds.records {
            return Err(Refused::Full);
        }
        if moves
            && self
                .of_address
                .get(&source)
                .is_some_and(|count| *count >= self.bounds.of_address)
        {
            return Err(Refused::AddressFull);
        }
        if self.by_did.len() >= self.most_pins() && !self.by_did.contains_key(did) {
            self.unpin_some();
        }
        self.put(record, source, received);
        Ok(())
    }

    fn most_pins(&self) -> usize {
        self.bounds.records.saturating_mul(PINS_PER_RECORD)
    }

    /// Makes room for pins, or whoever brings many fresh keys would keep every new DID out for a day. Those go behind which no
    /// record stands: first those that their key proves again, then the others, each by age.
    fn unpin_some(&mut self) {
        let stands = |did: &Arc<str>, pin: &Pin| self.kept.get(&pin.peer).is_some_and(|kept| kept.did == *did);
        let idle = self.by_did.iter().filter(|(did, pin)| !stands(did, pin));
        let mut idle: Vec<_> = idle
            .map(|(did, pin)| (!pin.proven, pin.seen, Arc::clone(did)))
            .collect();
        let count = (self.most_pins() / ROOM).max(1);
        if count < idle.len() {
            idle.select_nth_unstable(count);
            idle.truncate(count);
        }
        for (_, _, did) in idle {
            self.by_did.remove(&did);
        }
    }

    fn may_have(&mut self, did: &str, record: &Verified, now: u64) -> Result<(), Refused> {
        let Some(pin) = self.by_did.get(did).copied() else {
            return Ok(());
        };
        let holds = pin.peer != record.peer && now.saturating_sub(pin.seen) < PINNED;
        match holds {
            true if record.proven && !pin.proven => {
                self.remove(&pin.peer);
                Ok(())
            }
            true => Err(Refused::DidTaken),
            false => Ok(()),
        }
    }

    fn put(&mut self, record: &Verified, source: Source, received: u64) {
        let peer = record.peer;
        let old = self.remove(&peer);
        // Most renewals change nothing but the time: the names are shared.
        let same = |old: Option<Arc<str>>, text: &str| old.filter(|old| **old == *text).unwrap_or_else(|| text.into());
        let (old_did, old_name) = old.map_or((None, None), |old| (Some(old.did), Some(old.name)));
        if let Some(gone) = old_did.as_ref().filter(|old| ***old != *record.record.did) {
            self.by_did.remove(gone);
        }
        let did = same(old_did, &record.record.did);
        let name = same(old_name, &record.record.name);
        self.by_did.insert(
            Arc::clone(&did),
            Pin {
                peer,
                seen: received,
                proven: record.proven,
            },
        );
        self.by_name.insert((Arc::clone(&name), bytes(&peer)));
        *self.of_address.entry(source).or_default() += 1;
        let kept = Kept {
            text: record.record.write().into(),
            received,
            did,
            name,
            expires: record.expires,
            source,
        };
        self.kept.insert(peer, kept);
    }

    fn remove(&mut self, peer: &PeerId) -> Option<Kept> {
        let old = self.kept.remove(peer)?;
        self.by_name.remove(&(Arc::clone(&old.name), bytes(peer)));
        if let Some(count) = self.of_address.get_mut(&old.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_address.remove(&old.source);
            }
        }
        Some(old)
    }

    /// The live records whose DID, PeerId or name is `key`: all of them, up to what one answer may list.
    #[must_use]
    pub fn find(&self, key: &str, now: u64) -> Vec<&Kept> {
        let mut found: Vec<&Kept> = Vec::new();
        let by_did = self.by_did.get(key).map(|pin| pin.peer);
        for peer in [by_did, peer_id_of(key)].into_iter().flatten() {
            let kept = self.kept.get(&peer).filter(|kept| kept.is_live(now));
            found.extend(kept.filter(|kept| &*kept.did == key || by_did != Some(peer)));
        }
        let named = self.by_name.range((Arc::from(key), Box::default())..);
        let named = named.take_while(|(name, _)| **name == *key);
        let named = named.filter_map(|(_, peer)| self.kept.get(&PeerId::from_bytes(peer).ok()?));
        let named = named.filter(|kept| kept.is_live(now));
        for kept in named {
            if found.len() >= RECORDS_MAX {
                break;
            }
            if !found.iter().any(|known| std::ptr::eq(*known, kept)) {
                found.push(kept);
            }
        }
        found
    }

    /// The live records in the order of their names.
    pub fn by_names(&self, now: u64) -> impl Iterator<Item = &Kept> {
        let kept = self.by_name.iter();
        kept.filter_map(|(_, peer)| self.kept.get(&PeerId::from_bytes(peer).ok()?))
            .filter(move |kept| kept.is_live(now))
    }

    /// What the bearer of a DID calls itself.
    #[must_use]
    pub fn name_of(&self, did: &str) -> Option<String> {
        let kept = self.kept.get(&self.by_did.get(did)?.peer)?;
        (*kept.did == *did).then(|| kept.name.to_string())
    }

    /// Every record kept: as it came, when, and from where.
    pub fn all(&self) -> impl Iterator<Item = (Arc<[u8]>, u64, Source)> {
        self.kept
            .values()
            .map(|kept| (Arc::clone(&kept.text), kept.received, kept.source))
    }

    /// Whose each DID is, and when its last record came.
    pub fn pins(&self) -> impl Iterator<Item = (Arc<str>, PeerId, u64)> {
        self.by_did
            .iter()
            .map(|(did, pin)| (Arc::clone(did), pin.peer, pin.seen))
    }

    /// Takes a pin of an earlier life, before the records of it.
    pub fn put_pin(&mut self, did: &str, peer: PeerId, seen: u64) {
        if self.by_did.len() < self.most_pins() {
            let proven = key_of(&peer).is_some_and(|key| is_self_proving(did, &key));
            self.by_did.insert(did.into(), Pin { peer, seen, proven });
        }
    }

    /// Forgets what has expired; says how many records that were.
    pub fn sweep(&mut self, now: u64) -> usize {
        let dead = self.kept.iter().filter(|(_, kept)| !kept.is_live(now));
        let dead: Vec<PeerId> = dead.map(|(peer, _)| *peer).collect();
        for peer in &dead {
            self.remove(peer);
        }
        self.by_did.retain(|_, pin| now.saturating_sub(pin.seen) < PINNED);
        dead.len()
    }
}

impl Kept {
    fn is_live(&self, now: u64) -> bool {
        now.saturating_sub(self.received) < life()
    }
}

fn bytes(peer: &PeerId) -> Box<[u8]> {
    peer.to_bytes().into_boxed_slice()
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
