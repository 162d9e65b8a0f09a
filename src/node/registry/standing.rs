//! What is wrong with peer documents, as long as it is.
//!
//! Owns what of it was told already. Always: it is told and counted when it begins, and again when it comes back after it
//! had ended, but not at each reading that finds it still so.

use super::super::partners::Conflict;
use crate::store::Peers;
use crate::telemetry::Refusals;
use std::collections::HashSet;

/// What one way of looking finds wrong; see the module's first lines. As large as what is found, so within `limits.peers`.
#[derive(Debug, Default)]
pub(super) struct Standing(HashSet<Conflict>);

impl Standing {
    /// All that is found wrong now: what was not so the last time is told.
    pub(super) fn is(&mut self, now: impl IntoIterator<Item = Conflict>, refusals: &Refusals) {
        let now: HashSet<Conflict> = now.into_iter().collect();
        for Conflict { did, rule, why } in now.difference(&self.0) {
            refusals.refuse(rule, did, why);
        }
        self.0 = now;
    }
}

/// The documents of a reading that do not count, or not wholly.
pub(super) fn wrong_in(read: &Peers, limit: usize) -> Vec<Conflict> {
    let conflict = |did: &str, rule, why: String| Conflict {
        did: did.to_owned(),
        rule,
        why,
    };
    let unreadable = read.unreadable.iter();
    let unreadable = unreadable.map(|(id, why)| conflict(id, "unreadable_peer", why.to_string()));
    let addresses = read.peers.iter().filter_map(|peer| {
        let error = peer.address_error.as_ref()?;
        Some(conflict(&peer.did, "bad_address", error.to_string()))
    });
    let more = || conflict("", "too_many_peers", format!("limits.peers is {limit}"));
    unreadable.chain(addresses).chain(read.truncated.then(more)).collect()
}
