//! Puts into effect what the gate decides about strangers: who is asked about, who is let in, who is dropped.
//!
//! Owns nothing. Always: whoever is let in is so on all of its connections, and what was given up at a bound is counted.

use super::Stranger;
use super::explain::innermost;
use super::gate::{PATIENCE, Standing, Told};
use super::limits::Exceeded;
use super::pending::TooManyPending;
use super::source::Source;
use super::swarm::Actor;
use libp2p::swarm::ListenError;
use libp2p::{Multiaddr, PeerId};
use std::collections::HashSet;
use std::time::Instant;
use tokio::sync::oneshot;

impl Actor {
    pub(super) fn know(&mut self, peers: HashSet<PeerId>, allow_unknown: bool) {
        let open = self.gate.know(peers, allow_unknown, Instant::now());
        self.make_room();
        for (peer, standing) in open {
            self.stands(peer, standing);
        }
        let leaving: Vec<PeerId> = self
            .links
            .keys()
            .filter(|peer| self.gate.must_go(peer))
            .copied()
            .collect();
        for peer in leaving {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        self.look_up();
    }

    /// Whoever is counted on is connected whatever strangers take up.
    fn make_room(&mut self) {
        let counted_on = self.gate.counted_on();
        self.swarm.behaviour_mut().limits.count_on(counted_on);
    }

    /// Asks about as many strangers as the gate allows.
    fn look_up(&mut self) {
        while let Some(peer) = self.gate.next() {
            let (answer, told) = oneshot::channel();
            let _ = self.strangers.try_send(Stranger { peer, answer });
            let look_up = async move {
                let told = tokio::time::timeout(PATIENCE, told).await;
                (peer, told.map_or(Told::Failed, |told| told.unwrap_or(Told::Failed)))
            };
            self.look_ups.push(Box::pin(look_up));
        }
    }

    pub(super) fn told(&mut self, peer: PeerId, told: Told) {
        if let Some(standing) = self.gate.told(peer, told, Instant::now()) {
            self.stands(peer, standing);
        }
        self.look_up();
    }

    /// Puts into effect what becomes of a connected peer.
    pub(super) fn stands(&mut self, peer: PeerId, standing: Standing) {
        match standing {
            Standing::Open => {
                self.bars.lift(&peer);
                self.routable(peer);
            }
            Standing::Waits => self.look_up(),
            Standing::Refused => {
                let detail = "discovery.unknown_peers is refuse";
                self.refusals.refuse("unknown_peer", &peer.to_string(), detail);
                let _ = self.swarm.disconnect_peer_id(peer);
            }
        }
    }

    /// Counts a connection that was given up at a bound.
    pub(super) fn count_denied(&self, from: &Multiaddr, error: &ListenError) {
        let ListenError::Denied { cause } = error else { return };
        let reason = if cause.downcast_ref::<TooManyPending>().is_some() {
            "pending_of_address"
        } else if cause.downcast_ref::<Exceeded>().is_some() {
            "too_many"
        } else {
            return;
        };
        let from = Source::of(from).to_string();
        self.refusals
            .dropped("inbound_connection", reason, 1, &from, innermost(error));
    }

    /// Our indexers: whatever the store says of them, they are let in.
    pub(super) fn need(&mut self, peers: HashSet<PeerId>) {
        let open = self.gate.need(peers);
        self.make_room();
        for (peer, standing) in open {
            self.stands(peer, standing);
        }
    }

    /// A peer that waits has shown who it is.
    pub(super) fn admit(&mut self, peer: PeerId) {
        if let Some(standing) = self.gate.admit(peer) {
            self.stands(peer, standing);
        }
    }

    /// Those whose time is up.
    pub(super) fn let_overdue_go(&mut self) {
        for (peer, standing) in self.gate.overdue(Instant::now()) {
            self.refusals.dropped(
                "quarantine",
                "no_verdict",
                1,
                &peer.to_string(),
                "nobody could tell in time",
            );
            self.stands(peer, standing);
        }
    }
}
