//! DIDs made from keys: such a DID proves itself, any other is only as good as the first key seen with it.

use libp2p::PeerId;
use libp2p::identity::PublicKey;
use uuid::Uuid;

/// The DID of an organisation that has none yet: a UUID (v5, OID name space) of the public key's protobuf bytes.
pub fn derived_did(public_key: &PublicKey) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &public_key.encode_protobuf()).to_string()
}

/// Whether the DID is the one derived from this key.
pub fn is_self_proving(did: &str, public_key: &PublicKey) -> bool {
    did == derived_did(public_key)
}

/// The key inside an ed25519 PeerId; other kinds of key are hashed into it and cannot be read back.
#[must_use]
pub fn key_of(peer: &PeerId) -> Option<PublicKey> {
    let hash = peer.as_ref();
    (hash.code() == 0)
        .then(|| PublicKey::try_decode_protobuf(hash.digest()).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    #[test]
    fn a_derived_did_fits_its_key_alone() {
        let key = Keypair::ed25519_from_bytes((1..=32).collect::<Vec<u8>>())
            .unwrap()
            .public();
        let did = derived_did(&key);
        assert_eq!(did, DERIVED, "stored DIDs must stay the same in every version");
        assert!(is_self_proving(&did, &key));
        assert!(!is_self_proving(&did, &Keypair::generate_ed25519().public()));
        assert!(!is_self_proving("", &key));
    }

    /// Computed apart from this code: SHA-1 over the name space and the protobuf bytes of the ed25519 key of bytes 1 to 32.
    const DERIVED: &str = "47e4fe6d-116d-5323-8de3-4e87cf0f62b0";
}
