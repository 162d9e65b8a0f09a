//! Which connections each peer has, and which of several is used for new streams.
//!
//! Pure. Always: two sides that dialled each other at the same instant prefer the same connection, the one dialled by
//! the smaller PeerId, newest first. The other one is spare: it is not torn down under its streams, but closes when the
//! last of them has ended or moved.

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use std::collections::HashMap;

/// The connections of all peers.
#[derive(Debug)]
pub struct Connections {
    local: PeerId,
    of: HashMap<PeerId, Vec<(ConnectionId, bool)>>,
}

impl Connections {
    /// No connections yet, seen from `local`.
    #[must_use]
    pub fn new(local: PeerId) -> Self {
        Self {
            local,
            of: HashMap::new(),
        }
    }

    /// A connection was made; `dialled` when by us.
    pub fn opened(&mut self, peer: PeerId, connection: ConnectionId, dialled: bool) {
        self.of.entry(peer).or_default().push((connection, dialled));
    }

    /// A connection ended.
    pub fn closed(&mut self, peer: &PeerId, connection: ConnectionId) {
        if let Some(list) = self.of.get_mut(peer) {
            list.retain(|(known, _)| *known != connection);
            if list.is_empty() {
                self.of.remove(peer);
            }
        }
    }

    /// All connections to `peer`, oldest first.
    #[must_use]
    pub fn of(&self, peer: &PeerId) -> Vec<ConnectionId> {
        self.of
            .get(peer)
            .into_iter()
            .flatten()
            .map(|(connection, _)| *connection)
            .collect()
    }

    /// Every connection that is not the preferred one of its peer.
    pub fn spare(&self) -> impl Iterator<Item = (PeerId, ConnectionId)> {
        let several = self.of.iter().filter(|(_, list)| list.len() > 1);
        several.flat_map(|(peer, list)| {
            let preferred = self.preferred(peer);
            let spare = list.iter().filter(move |(known, _)| Some(*known) != preferred);
            spare.map(|(known, _)| (*peer, *known))
        })
    }

    /// The connection on which a new stream to `peer` is opened.
    #[must_use]
    pub fn preferred(&self, peer: &PeerId) -> Option<ConnectionId> {
        let list = self.of.get(peer)?;
        let ours_wins = self.local < *peer;
        let agreed = list.iter().rev().find(|(_, dialled)| *dialled == ours_wins);
        agreed.or(list.last()).map(|(connection, _)| *connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_preferred_one_are_spare() {
        let (small, large) = two_peers();
        let mut seen = Connections::new(small);
        let [a, b, c] = [1, 2, 3].map(ConnectionId::new_unchecked);
        seen.opened(large, a, false);
        assert_eq!(seen.spare().count(), 0);
        seen.opened(large, b, true);
        assert_eq!(seen.spare().collect::<Vec<_>>(), [(large, a)]);
        seen.opened(large, c, true);
        assert_eq!(seen.spare().collect::<Vec<_>>(), [(large, a), (large, b)]);
        seen.closed(&large, c);
        seen.closed(&large, a);
        assert_eq!(seen.spare().count(), 0);
    }

    fn two_peers() -> (PeerId, PeerId) {
        let (a, b) = (PeerId::random(), PeerId::random());
        if a < b { (a, b) } else { (b, a) }
    }

    #[test]
    fn both_sides_of_a_simultaneous_dial_prefer_the_connection_of_the_smaller_peer_id() {
        let (small, big) = two_peers();
        let (by_small, by_big) = (ConnectionId::new_unchecked(1), ConnectionId::new_unchecked(2));
        let mut at_small = Connections::new(small);
        at_small.opened(big, by_small, true);
        at_small.opened(big, by_big, false);
        let mut at_big = Connections::new(big);
        at_big.opened(small, by_big, true);
        at_big.opened(small, by_small, false);
        assert_eq!(at_small.preferred(&big), Some(by_small));
        assert_eq!(at_big.preferred(&small), Some(by_small));
    }

    #[test]
    fn the_other_serves_when_the_preferred_one_closed_and_the_newest_of_a_kind_wins() {
        let (small, big) = two_peers();
        let ids: Vec<ConnectionId> = (1..=3).map(ConnectionId::new_unchecked).collect();
        let mut table = Connections::new(small);
        table.opened(big, ids[0], true);
        table.opened(big, ids[1], true);
        table.opened(big, ids[2], false);
        assert_eq!(table.preferred(&big), Some(ids[1]));
        table.closed(&big, ids[1]);
        assert_eq!(table.preferred(&big), Some(ids[0]));
        table.closed(&big, ids[0]);
        assert_eq!(table.preferred(&big), Some(ids[2]));
        table.closed(&big, ids[2]);
        assert_eq!(table.preferred(&big), None);
        assert!(table.of(&big).is_empty());
    }
}
