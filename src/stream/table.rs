//! Which streams are open, kept by (protocol, peer, direction), and how to end them.
//!
//! Pure but for the cancellation tokens it hands out: time is passed in. Always: of two long-lived streams with the
//! same key the newest is kept and the older one ends; the two directions never replace one another, since both sides
//! are each other's PARTNER and each opens its own.

use libp2p::PeerId;
use std::collections::HashMap;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Who opened a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The peer.
    In,
    /// We.
    Out,
}

/// What identifies a kept stream at its peer.
type Key = (&'static str, Direction);

#[derive(Debug)]
struct Kept {
    serial: u64,
    expiry: Option<Instant>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Peer {
    /// Ends every task of this peer, also those of streams that are not kept by key.
    all: CancellationToken,
    kept: HashMap<Key, Kept>,
}

/// Tells which entry of the table a task owns, so that a replaced task cannot remove its successor.
#[derive(Debug, Clone)]
pub struct Ticket {
    peer: PeerId,
    key: Key,
    serial: u64,
    /// Cancelled when the stream must end.
    pub stop: CancellationToken,
}

/// The table; see the module's first lines.
#[derive(Debug, Default)]
pub struct StreamTable {
    serial: u64,
    peers: HashMap<PeerId, Peer>,
    /// The tasks that keep partners connected, by DID: they exist before a PeerId is known.
    links: HashMap<String, CancellationToken>,
}

impl StreamTable {
    /// Keeps a long-lived stream; an older one of the same key is told to end.
    pub fn keep(
        &mut self,
        peer: PeerId,
        protocol: &'static str,
        direction: Direction,
        expiry: Option<Instant>,
    ) -> Ticket {
        self.serial += 1;
        let serial = self.serial;
        let entry = self.peers.entry(peer).or_default();
        let stop = entry.all.child_token();
        let key = (protocol, direction);
        if let Some(older) = entry.kept.insert(
            key,
            Kept {
                serial,
                expiry,
                stop: stop.clone(),
            },
        ) {
            older.stop.cancel();
        }
        Ticket {
            peer,
            key,
            serial,
            stop,
        }
    }

    /// A token that ends with the peer's right to have streams, for streams that are not kept by key.
    pub fn stop_of(&mut self, peer: PeerId) -> CancellationToken {
        self.peers.entry(peer).or_default().all.child_token()
    }

    /// Moves a stream's expiry, if it is still the kept one.
    pub fn renew(&mut self, ticket: &Ticket, expiry: Instant) {
        if let Some(kept) = self.entry(ticket) {
            kept.expiry = Some(expiry);
        }
    }

    /// A stream ended by itself.
    pub fn forget(&mut self, ticket: &Ticket) {
        if self.entry(ticket).is_some()
            && let Some(peer) = self.peers.get_mut(&ticket.peer)
        {
            peer.kept.remove(&ticket.key);
        }
    }

    /// Ends everything of a peer; says how many kept streams that were.
    pub fn close_peer(&mut self, did: &str, peer: Option<PeerId>) -> usize {
        if let Some(link) = self.links.remove(did) {
            link.cancel();
        }
        let Some(peer) = peer.and_then(|peer| self.peers.remove(&peer)) else {
            return 0;
        };
        peer.all.cancel();
        peer.kept.len()
    }

    /// Notes the task that keeps a partner connected; false when there is one already.
    pub fn link_started(&mut self, did: &str, stop: CancellationToken) -> bool {
        match self.links.get(did) {
            Some(running) if !running.is_cancelled() => false,
            _ => {
                self.links.insert(did.to_owned(), stop);
                true
            }
        }
    }

    /// Ends what is past its expiry and forgets peers that nothing lives of; says how many ended.
    pub fn sweep(&mut self, now: Instant, lives: impl Fn(&PeerId) -> bool) -> usize {
        let mut swept = 0;
        self.peers.retain(|id, peer| {
            peer.kept.retain(|_, kept| {
                let expired = kept.expiry.is_some_and(|expiry| expiry < now);
                if expired {
                    kept.stop.cancel();
                    swept += 1;
                }
                !expired
            });
            !peer.kept.is_empty() || lives(id)
        });
        swept
    }

    /// How many peers have a kept stream of `protocol`, in either direction.
    #[cfg(test)]
    fn peers_with(&self, protocol: &str) -> usize {
        self.peers
            .values()
            .filter(|peer| peer.kept.keys().any(|(name, _)| *name == protocol))
            .count()
    }

    fn entry(&mut self, ticket: &Ticket) -> Option<&mut Kept> {
        let kept = self.peers.get_mut(&ticket.peer)?.kept.get_mut(&ticket.key)?;
        (kept.serial == ticket.serial).then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PROTOCOL: &str = "/opencloud/resource/heartbeat/partner/1.0";

    #[test]
    fn the_newest_wins_in_its_direction_and_the_other_direction_stays() {
        let (mut table, peer) = (StreamTable::default(), PeerId::random());
        let out = table.keep(peer, PROTOCOL, Direction::Out, None);
        let old = table.keep(peer, PROTOCOL, Direction::In, None);
        let new = table.keep(peer, PROTOCOL, Direction::In, None);
        assert!(old.stop.is_cancelled() && !new.stop.is_cancelled() && !out.stop.is_cancelled());
        table.forget(&old);
        table.forget(&out);
        assert_eq!(
            table.peers_with(PROTOCOL),
            1,
            "a replaced stream must not remove its successor"
        );
    }

    #[test]
    fn closing_a_peer_ends_every_stream_and_its_link() {
        let (mut table, peer, other) = (StreamTable::default(), PeerId::random(), PeerId::random());
        let link = CancellationToken::new();
        assert!(table.link_started("did", link.clone()));
        assert!(!table.link_started("did", CancellationToken::new()));
        let kept = table.keep(peer, PROTOCOL, Direction::Out, None);
        let loose = table.stop_of(peer);
        let foreign = table.keep(other, PROTOCOL, Direction::Out, None);
        assert_eq!(table.close_peer("did", Some(peer)), 1);
        assert!(kept.stop.is_cancelled() && loose.is_cancelled() && link.is_cancelled());
        assert!(!foreign.stop.is_cancelled());
        assert!(
            table.link_started("did", CancellationToken::new()),
            "a closed partner may be linked again"
        );
    }

    #[test]
    fn an_expired_stream_is_swept_and_a_renewed_one_is_not() {
        let (mut table, peer, start) = (StreamTable::default(), PeerId::random(), Instant::now());
        let ten = Duration::from_secs(10);
        let expired = table.keep(peer, PROTOCOL, Direction::In, Some(start + ten));
        let renewed = table.keep(peer, PROTOCOL, Direction::Out, Some(start + ten));
        table.renew(&renewed, start + 2 * ten);
        assert_eq!(table.sweep(start + ten + Duration::from_millis(1), |_| true), 1);
        assert!(expired.stop.is_cancelled() && !renewed.stop.is_cancelled());
    }
}
