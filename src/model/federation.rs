//! The peers of our store as they stand now: who is whose partner, who is blacklisted, which PeerId is which DID.
//!
//! An immutable snapshot, made by the partner table and read by everybody else. Always: a PeerId belongs to at most one
//! member, so "who is at the other end of this connection" has one answer.

use super::{Relation, peer_id_of};
use libp2p::{Multiaddr, PeerId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// One peer of our store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its DID: the `id` of its peer document.
    pub did: String,
    /// What it is called, for people.
    pub name: String,
    /// What it is to us.
    pub relation: Relation,
    /// Its libp2p identity, when the document or an earlier meeting tells.
    pub peer_id: Option<PeerId>,
    /// Where it listens.
    pub addresses: Vec<Multiaddr>,
}

/// All peers of our store, and ourselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Federation {
    own_did: String,
    members: HashMap<String, Arc<Member>>,
    by_peer: HashMap<PeerId, Arc<Member>>,
    aside: HashSet<String>,
}

impl Federation {
    /// A snapshot. Of two members that claim one PeerId, the later is left out of [`Federation::of_peer`]; the caller
    /// has settled such conflicts before.
    #[must_use]
    pub fn new(own_did: String, members: impl IntoIterator<Item = Member>) -> Self {
        let mut federation = Self {
            own_did,
            ..Self::default()
        };
        for member in members {
            let member = Arc::new(member);
            if let Some(peer) = member.peer_id {
                federation.by_peer.entry(peer).or_insert_with(|| Arc::clone(&member));
            }
            federation.members.insert(member.did.clone(), member);
        }
        federation
    }

    /// The same, with DIDs that are no members now although they are in the store: their documents cannot be read, or contradict
    /// others. They have no right, but nothing of theirs is forgotten before people have mended that.
    #[must_use]
    pub fn with_aside(mut self, dids: impl IntoIterator<Item = String>) -> Self {
        let members = &self.members;
        self.aside = dids.into_iter().filter(|did| !members.contains_key(did)).collect();
        self
    }

    /// Whether this DID is in the store and no member.
    #[must_use]
    pub fn is_aside(&self, did: &str) -> bool {
        self.aside.contains(did)
    }

    /// The member with this DID.
    #[must_use]
    pub fn get(&self, did: &str) -> Option<&Arc<Member>> {
        self.members.get(did)
    }

    /// The member at the other end of a connection.
    #[must_use]
    pub fn of_peer(&self, peer: &PeerId) -> Option<&Arc<Member>> {
        self.by_peer.get(peer)
    }

    /// A member by DID or by PeerId in text. A name is never an identity.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Arc<Member>> {
        self.members.get(key).or_else(|| self.by_peer.get(&peer_id_of(key)?))
    }

    /// Every member but ourselves.
    pub fn others(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members
            .values()
            .filter(|member| member.did != self.own_did && member.relation != Relation::SelfPeer)
    }

    /// Every PARTNER.
    pub fn partners(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.others().filter(|member| member.relation == Relation::Partner)
    }

    /// The PeerIds refused both ways.
    #[must_use]
    pub fn blacklist(&self) -> HashSet<PeerId> {
        let black = self.others().filter(|member| member.relation == Relation::Blacklist);
        black.filter_map(|member| member.peer_id).collect()
    }

    /// Whether `peer` is a PARTNER.
    #[must_use]
    pub fn is_partner(&self, peer: &PeerId) -> bool {
        self.of_peer(peer)
            .is_some_and(|member| member.relation == Relation::Partner)
    }

    /// The member at the other end, unless unknown or blacklisted.
    #[must_use]
    pub fn known(&self, peer: &PeerId) -> Option<&Arc<Member>> {
        self.of_peer(peer)
            .filter(|member| member.relation != Relation::Blacklist)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(did: &str, relation: Relation, peer_id: Option<PeerId>) -> Member {
        Member {
            did: did.into(),
            name: did.into(),
            relation,
            peer_id,
            addresses: vec![],
        }
    }

    #[test]
    fn partners_and_blacklist_are_what_the_documents_say_and_we_are_neither() {
        let (a, b, c) = (PeerId::random(), PeerId::random(), PeerId::random());
        let federation = Federation::new(
            "me".into(),
            [
                member("me", Relation::SelfPeer, Some(a)),
                member("friend", Relation::Partner, Some(b)),
                member("foe", Relation::Blacklist, Some(c)),
                member("stranger", Relation::None, None),
            ],
        );
        assert_eq!(
            federation.partners().map(|m| m.did.as_str()).collect::<Vec<_>>(),
            ["friend"]
        );
        assert_eq!(federation.blacklist(), HashSet::from([c]));
        assert!(federation.is_partner(&b) && !federation.is_partner(&a) && !federation.is_partner(&c));
        assert!(federation.known(&c).is_none() && federation.known(&b).is_some());
        assert_eq!(federation.find(&b.to_string()).map(|m| m.did.as_str()), Some("friend"));
        assert_eq!(federation.others().count(), 3);
    }
}
