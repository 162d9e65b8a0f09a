//! When a record counts: it is signed by the key inside its PeerId, and it is of now.
//!
//! Pure: time is passed in. Always: what passes proves that the holder of the PeerId's key said it, and nothing more; its DID
//! is proven only when it follows from the key.

use crate::identity::{is_self_proving, key_of, public_key_of_base64};
use crate::model::{Addresses, peer_id_of};
use crate::wire::{PeerRecord, WireError, parse_timestamp};
use libp2p::{Multiaddr, PeerId};
use std::time::{Duration, SystemTime};

/// How long a record holds, from its making and from its receipt.
pub const LIFE: Duration = Duration::from_secs(120);
/// How far the clocks of two organisations may be apart.
const SKEW: Duration = Duration::from_secs(60);

/// A record that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// As it came.
    pub record: PeerRecord,
    /// Whose it is.
    pub peer: PeerId,
    /// Where it listens, without the `/p2p/` part.
    pub addresses: Vec<Multiaddr>,
    /// Until when, by its signer's clock; in milliseconds since 1970.
    pub expires: u64,
    /// Nobody else can have its DID.
    pub proven: bool,
}

/// Why a record does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It cannot be read, or its signature does not fit.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Its `peer_id` is none, or has no key in it.
    #[error("its peer_id is none with a key in it")]
    PeerId,
    /// Its `pub_key` is not the key inside its PeerId.
    #[error("its pub_key is not the key inside its peer_id")]
    Key,
    /// An address of it names another peer.
    #[error("an address of it names another peer")]
    Address,
    /// Its DID has control characters in it.
    #[error("its did is none")]
    Did,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time is too far away, or none.
    #[error("its expiry_date is no time within two minutes of now")]
    Expiry,
}

impl Wrong {
    /// A short code that never changes, for metric labels.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Wire(error) => error.rule(),
            Self::PeerId => "record_peer_id",
            Self::Key => "record_key",
            Self::Address => "record_address",
            Self::Did => "record_did",
            Self::Expired => "record_expired",
            Self::Expiry => "record_expiry",
        }
    }
}

/// Checks a record at `now`.
///
/// # Errors
/// See [`Wrong`].
pub fn verify(record: PeerRecord, now: SystemTime) -> Result<Verified, Wrong> {
    let expires = parse_timestamp(&record.expiry_date).ok_or(Wrong::Expiry)?;
    if expires + SKEW <= now {
        return Err(Wrong::Expired);
    }
    if expires > now + LIFE + SKEW {
        return Err(Wrong::Expiry);
    }
    verify_signature(record, expires)
}

/// Checks everything but its time: for records that were good when they came.
///
/// # Errors
/// See [`Wrong`].
pub fn verify_old(record: PeerRecord) -> Result<Verified, Wrong> {
    let expires = parse_timestamp(&record.expiry_date).ok_or(Wrong::Expiry)?;
    verify_signature(record, expires)
}

fn verify_signature(record: PeerRecord, expires: SystemTime) -> Result<Verified, Wrong> {
    if record.did.chars().any(char::is_control) {
        return Err(Wrong::Did);
    }
    let peer = peer_id_of(&record.peer_id).ok_or(Wrong::PeerId)?;
    let key = key_of(&peer).ok_or(Wrong::PeerId)?;
    if !record.pub_key.is_empty() && public_key_of_base64(&record.pub_key).as_ref() != Some(&key) {
        return Err(Wrong::Key);
    }
    let listens = Addresses::read(&record.stream_address);
    if listens.peer_ids.iter().any(|named| *named != peer) {
        return Err(Wrong::Address);
    }
    record.verify(&key)?;
    Ok(Verified {
        proven: is_self_proving(&record.did, &key),
        peer,
        addresses: listens.addresses,
        expires: millis(expires),
        record,
    })
}

/// Milliseconds since 1970.
#[must_use]
pub fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::identity::{derived_did, public_key_base64};
    use crate::wire::timestamp;
    use libp2p::identity::Keypair;

    /// A record of `key` that was made `at`.
    pub(crate) fn made(key: &Keypair, did: &str, name: &str, at: SystemTime) -> PeerRecord {
        let peer = key.public().to_peer_id();
        let mut record = PeerRecord::new(did, &peer.to_string());
        record.name = name.to_owned();
        record.pub_key = public_key_base64(&key.public());
        record.expiry_date = timestamp(at + LIFE);
        record.stream_address = format!("/ip4/10.0.0.1/tcp/4001/p2p/{peer}");
        record.sign(key).unwrap();
        record
    }

    pub(crate) fn good(key: &Keypair, did: &str, name: &str, at: SystemTime) -> Verified {
        verify(made(key, did, name, at), at).unwrap()
    }

    #[test]
    fn a_record_counts_for_two_minutes_and_a_little_for_the_clocks() {
        let (key, now) = (Keypair::generate_ed25519(), SystemTime::now());
        let record = made(&key, "d", "n", now);
        let at = |seconds: i64| {
            let shift = Duration::from_secs(seconds.unsigned_abs());
            let at = if seconds < 0 { now - shift } else { now + shift };
            verify(record.clone(), at).map(|_| ()).map_err(|wrong| wrong.rule())
        };
        assert_eq!((at(0), at(179), at(-59)), (Ok(()), Ok(()), Ok(())));
        assert_eq!((at(181), at(-61)), (Err("record_expired"), Err("record_expiry")));
        assert!(verify_old(record).is_ok());
    }

    #[test]
    fn a_did_is_proven_by_the_key_it_is_made_from() {
        let (key, now) = (Keypair::generate_ed25519(), SystemTime::now());
        assert!(good(&key, &derived_did(&key.public()), "n", now).proven);
        assert!(!good(&key, "did:other", "n", now).proven);
    }

    #[test]
    fn whatever_does_not_fit_together_is_refused_by_its_rule() {
        let (key, other, now) = (
            Keypair::generate_ed25519(),
            Keypair::generate_ed25519(),
            SystemTime::now(),
        );
        let change = |with: &dyn Fn(&mut PeerRecord), sign: bool| {
            let mut record = made(&key, "d", "n", now);
            with(&mut record);
            if sign {
                record.sign(&key).unwrap();
            }
            let record = PeerRecord::read(&record.write()).unwrap();
            verify(record, now).map(|_| ()).map_err(|wrong| wrong.rule())
        };
        let other_id = other.public().to_peer_id().to_string();
        assert_eq!(change(&|_| {}, true), Ok(()));
        assert_eq!(
            change(&|record| record.peer_id = "nobody".into(), true),
            Err("record_peer_id")
        );
        assert_eq!(
            change(&|record| record.peer_id = other_id.clone(), true),
            Err("record_key")
        );
        let take_over = |record: &mut PeerRecord| {
            record.peer_id = other_id.clone();
            record.pub_key = public_key_base64(&other.public());
            record.stream_address = String::new();
        };
        assert_eq!(change(&take_over, true), Err("bad_signature"));
        let elsewhere = format!("/ip4/1.2.3.4/tcp/1/p2p/{other_id}");
        assert_eq!(
            change(&|record| record.stream_address = elsewhere.clone(), true),
            Err("record_address")
        );
        assert_eq!(change(&|record| record.did = "a\u{7}".into(), true), Err("record_did"));
        assert_eq!(
            change(&|record| record.expiry_date = "soon".into(), true),
            Err("record_expiry")
        );
        assert_eq!(change(&|record| record.signature = None, false), Err("not_signed"));
    }
}
