//! Which records of others this node keeps for the DHT.
//!
//! Pure: time is passed in, in milliseconds since 1970. Always: the key is that of the record's DID; a newer record of the same
//! peer takes the place of an older one; that of another peer only when it proves its DID, or when the older one is over; nobody
//! fills it alone.

use super::rules::Verified;
use crate::wire::NODE_KEY;
use libp2p::PeerId;
use std::collections::HashMap;

/// DIDs remembered: as many as records are kept.
const DIDS: usize = 4_096;

/// DIDs that one node may have brought: its own, and some that it corrects for others.
const OF_A_NODE: usize = 64;

/// See the module's first lines.
#[derive(Debug, Default)]
pub struct Shelf(HashMap<String, Place>);

#[derive(Debug)]
struct Place {
    peer: PeerId,
    expires: u64,
    proven: bool,
    from: PeerId,
}

/// The DHT's key of a DID.
#[must_use]
pub fn key_of_did(did: &str) -> Vec<u8> {
    format!("{NODE_KEY}{did}").into_bytes()
}

impl Shelf {
    /// Whether a record that `from` brought may be kept under `key`.
    ///
    /// # Errors
    /// A word for why not.
    pub fn may_keep(&mut self, key: &[u8], record: &Verified, from: PeerId, now: u64) -> Result<(), &'static str> {
        let did = &record.record.did;
        if key != key_of_did(did) {
            return Err("dht_other_key");
        }
        if let Some(place) = self.0.get(did).filter(|place| now < place.expires) {
            if place.peer != record.peer && (!record.proven || place.proven) {
                return Err("did_taken");
            }
            if place.peer == record.peer && place.expires > record.expires {
                return Err("older");
            }
        }
        let is_new = self.0.get(did).is_none_or(|place| place.from != from);
        let brought = self
            .0
            .values()
            .filter(|place| place.from == from && now < place.expires);
        if is_new && brought.count() >= OF_A_NODE {
            return Err("dht_too_many");
        }
        if self.0.len() >= DIDS && !self.0.contains_key(did) {
            self.0.retain(|_, place| now < place.expires);
            if self.0.len() >= DIDS {
                return Err("full");
            }
        }
        let place = Place {
            peer: record.peer,
            expires: record.expires,
            proven: record.proven,
            from,
        };
        self.0.insert(did.clone(), place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::rules::millis;
    use crate::discovery::rules::tests::good;
    use crate::identity::derived_did;
    use libp2p::identity::Keypair;
    use std::time::{Duration, SystemTime};

    #[test]
    fn what_is_kept_fits_its_key_and_is_newer_and_its_peers_own() {
        let (mut shelf, at) = (Shelf::default(), SystemTime::now());
        let now = millis(at);
        let (owner, squatter) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let did = derived_did(&owner.public());
        let from = PeerId::random();
        let mut keep = |key: &Keypair, at: SystemTime, now: u64| {
            shelf.may_keep(&key_of_did(&did), &good(key, &did, "n", at), from, now)
        };
        let later = |seconds| at + Duration::from_secs(seconds);
        assert_eq!(keep(&squatter, at, now), Ok(()));
        assert_eq!(keep(&owner, later(1), now), Ok(()));
        assert_eq!(keep(&squatter, later(2), now), Err("did_taken"));
        assert_eq!(keep(&owner, at, now), Err("older"));
        assert_eq!(keep(&owner, later(3), now), Ok(()));
        assert_eq!(keep(&squatter, later(130), now + 124_000), Ok(()), "it is over");
        let other = good(&owner, &did, "n", at);
        assert_eq!(shelf.may_keep(b"/node/other", &other, from, now), Err("dht_other_key"));
    }
    #[test]
    fn nobody_fills_it_alone() {
        let (mut shelf, at) = (Shelf::default(), SystemTime::now());
        let (now, key) = (millis(at), Keypair::generate_ed25519());
        let (flooder, other) = (PeerId::random(), PeerId::random());
        let mut keep = |n: usize, from: PeerId, now: u64| {
            let did = format!("did:{n}");
            shelf.may_keep(&key_of_did(&did), &good(&key, &did, "n", at), from, now)
        };
        for n in 0..OF_A_NODE {
            assert_eq!(keep(n, flooder, now), Ok(()));
        }
        assert_eq!(keep(OF_A_NODE, flooder, now), Err("dht_too_many"));
        assert_eq!(keep(0, flooder, now), Ok(()), "what it has it may renew");
        assert_eq!(keep(OF_A_NODE, other, now), Ok(()));
        assert_eq!(
            keep(OF_A_NODE + 1, flooder, now + 200_000),
            Ok(()),
            "the others are over"
        );
    }
}
