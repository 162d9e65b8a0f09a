//! The partner table: who is who, as a function of the store and of the peer events since.
//!
//! Pure: time is passed in. The table's only writer is the desk beside it, which also keeps the pins. Owns relations, the
//! pins DID -> PeerId and their conflicts. Always: an event overrides the store until a reading that began [`FRESH`] after it (it may come
//! before the app's write), and the store alone decides after that, so that a missed event heals; between two readings
//! nothing changes by itself; one PeerId is one member.

use crate::identity::is_self_proving;
use crate::model::{Federation, Member, Peer, Relation};
use crate::stream::key_of;
use libp2p::PeerId;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

/// How long the app may take to write what its event says: readings that begin sooner do not override the event.
pub const FRESH: Duration = Duration::from_secs(30);
/// Fresh events kept; apps do not change peers by the thousand. Past it the oldest goes, and the store decides sooner.
const FRESH_EVENTS: usize = 10_000;

/// Why a peer document is not used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Conflict {
    /// The document's DID.
    pub did: String,
    /// Its rule, a metric label.
    pub rule: &'static str,
    /// For people.
    pub why: String,
}

#[derive(Debug, Clone)]
struct Fresh {
    /// `None`: it was removed.
    member: Option<Member>,
    until: Instant,
}

/// The table; see the module's first lines.
#[derive(Debug)]
pub struct PartnerTable {
    own_did: String,
    own_peer: PeerId,
    stored: BTreeMap<String, Member>,
    fresh: BTreeMap<String, Fresh>,
    /// The first PeerId that each DID had.
    pins: HashMap<String, PeerId>,
    /// What has changed of them and is not written yet; none: the pin is gone.
    unsaved: BTreeMap<String, Option<PeerId>>,
}

/// What a reading of the store did not show although it is there.
#[derive(Debug, Default)]
pub struct Unseen<'a> {
    /// Documents that could not be read.
    pub ids: HashSet<&'a str>,
    /// There are more than were asked for.
    pub more: bool,
}

/// What the table needs of a peer document.
#[must_use]
pub fn member_of(peer: &Peer) -> Member {
    Member {
        did: peer.did.clone(),
        name: if peer.name.is_empty() {
            peer.did.clone()
        } else {
            peer.name.clone()
        },
        relation: peer.relation,
        peer_id: peer.peer_id,
        addresses: peer.addresses.clone(),
    }
}

impl PartnerTable {
    /// An empty table of the daemon `own_did`.
    #[must_use]
    pub fn new(own_did: String, own_peer: PeerId) -> Self {
        Self {
            own_did,
            own_peer,
            stored: BTreeMap::new(),
            fresh: BTreeMap::new(),
            pins: HashMap::new(),
            unsaved: BTreeMap::new(),
        }
    }

    /// Pins of earlier lives.
    pub fn remember_pins(&mut self, pins: impl IntoIterator<Item = (String, PeerId)>) {
        self.pins.extend(pins);
    }

    /// What has changed of the pins since the last time; none: the pin is gone.
    pub fn take_pin_changes(&mut self) -> BTreeMap<String, Option<PeerId>> {
        std::mem::take(&mut self.unsaved)
    }

    /// They could not be written: they are due again, unless something newer is.
    pub fn put_pin_changes_back(&mut self, mut changes: BTreeMap<String, Option<PeerId>>) {
        changes.append(&mut self.unsaved);
        self.unsaved = changes;
    }

    fn pin(&mut self, did: &str, peer: PeerId) {
        if self.pins.insert(did.to_owned(), peer) != Some(peer) {
            self.unsaved.insert(did.to_owned(), Some(peer));
        }
    }

    fn unpin(&mut self, did: &str) {
        if self.pins.remove(did).is_some() {
            self.unsaved.insert(did.to_owned(), None);
        }
    }

    /// The store was read, from the instant `began` on. Only here does an event stop to count: the reading before may
    /// be older than the event, and a partner would be let go who is in the store.
    pub fn read_store(&mut self, peers: impl IntoIterator<Item = Member>, unseen: &Unseen<'_>, began: Instant) {
        self.stored = peers.into_iter().map(|member| (member.did.clone(), member)).collect();
        self.fresh.retain(|_, fresh| fresh.until > began);
        // Who is in the store no more has no pin: its removal may have been missed, and it may come back with a new key.
        if unseen.more {
            return;
        }
        let is_there = |did: &String| {
            self.stored.contains_key(did) || self.fresh.contains_key(did) || unseen.ids.contains(did.as_str())
        };
        let gone: Vec<String> = self.pins.keys().filter(|did| !is_there(did)).cloned().collect();
        for did in gone {
            self.unpin(&did);
        }
    }

    /// Whether an event waits for a reading of the store to take its place.
    #[must_use]
    pub fn wants_reading(&self, now: Instant) -> bool {
        self.fresh.values().any(|fresh| fresh.until <= now)
    }

    /// CREATE_RESOURCE of a PEER was heard.
    pub fn changed(&mut self, member: Member, now: Instant) {
        self.overlay(member.did.clone(), Some(member), now);
    }

    /// REMOVE_RESOURCE of a PEER was heard: its pin goes too, so that the operator can admit it anew with another key.
    pub fn removed(&mut self, did: &str, now: Instant) {
        self.unpin(did);
        self.overlay(did.to_owned(), None, now);
    }

    fn overlay(&mut self, did: String, member: Option<Member>, now: Instant) {
        if self.fresh.len() >= FRESH_EVENTS && !self.fresh.contains_key(&did) {
            let oldest = self
                .fresh
                .iter()
                .min_by_key(|(_, fresh)| fresh.until)
                .map(|(did, _)| did.clone());
            if let Some(oldest) = oldest {
                self.fresh.remove(&oldest);
            }
        }
        self.fresh.insert(
            did,
            Fresh {
                member,
                until: now + FRESH,
            },
        );
    }

    /// The federation as it stands, and the documents that are not used.
    pub fn settle(&mut self) -> (Federation, Vec<Conflict>) {
        let mut candidates = self.stored.clone();
        for (did, fresh) in &self.fresh {
            match &fresh.member {
                Some(member) => drop(candidates.insert(did.clone(), member.clone())),
                None => drop(candidates.remove(did)),
            }
        }
        let mut conflicts = Vec::new();
        let mut owners: HashMap<PeerId, String> = self.pins.iter().map(|(did, peer)| (*peer, did.clone())).collect();
        owners.insert(self.own_peer, self.own_did.clone());
        let mut members = Vec::new();
        for (did, mut member) in candidates {
            if let Err(conflict) = self.settle_one(&mut member, &mut owners) {
                conflicts.push(conflict);
                // A blacklisting counts whatever else is wrong with the document.
                if member.relation != Relation::Blacklist {
                    continue;
                }
                member.peer_id = self.pins.get(&did).copied();
            }
            members.push(member);
        }
        // A pin goes when the document is gone: who has one and is no member has a document that does not count.
        let federation = Federation::new(self.own_did.clone(), members).with_aside(self.pins.keys().cloned());
        (federation, conflicts)
    }

    fn settle_one(&mut self, member: &mut Member, owners: &mut HashMap<PeerId, String>) -> Result<(), Conflict> {
        let did = member.did.clone();
        let conflict = |rule, why: String| {
            Err(Conflict {
                did: did.clone(),
                rule,
                why,
            })
        };
        if member.relation == Relation::SelfPeer && member.did != self.own_did {
            return conflict("self_relation", "a second peer document with relation SELF".to_owned());
        }
        let Some(peer) = member.peer_id else { return Ok(()) };
        if let Some(owner) = owners.get(&peer).filter(|owner| **owner != member.did) {
            return conflict("peer_id_taken", format!("its PeerId {peer} is already that of {owner}"));
        }
        match self.pins.get(&member.did) {
            Some(pinned) if *pinned != peer && !proves_itself(&member.did, &peer) => conflict(
                "pinned_to_another_peer",
                format!(
                    "it is pinned to {pinned}, its document now says {peer}; remove the peer and add it again to change that"
                ),
            ),
            _ => {
                owners.insert(peer, member.did.clone());
                if member.did != self.own_did {
                    self.pin(&member.did, peer);
                }
                Ok(())
            }
        }
    }
}

/// Whether nobody but the holder of this PeerId's key can have the DID: then no earlier pair counts against it.
fn proves_itself(did: &str, peer: &PeerId) -> bool {
    key_of(peer).is_some_and(|key| is_self_proving(did, &key))
}

#[cfg(test)]
#[path = "partners_tests.rs"]
mod tests;
