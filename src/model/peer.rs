//! A peer document: who it is, how it is reached, what it is to us.
//!
//! Always holds: `peer_id`, the `/p2p/` of `stream_address` and `public_key` name one peer, or the document is refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use libp2p::identity::PublicKey;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use serde_json::Value;

use super::document::Document;
use super::error::ModelError;
use super::fields::{self, get};
use super::header::check_id;
use super::relation::Relation;

/// Most addresses kept of one peer.
pub const ADDRESSES_MAX: usize = 16;

/// Longest text of a PeerId, in bytes: a key in full needs 60, and reading takes the square of the length.
const PEER_ID_TEXT_MAX: usize = 128;

/// Keys that decide who a peer is and what it may: one of each, in this spelling, or readers would differ about it.
const NAMES: [&str; 5] = ["id", "relation", "peer_id", "public_key", "stream_address"];

/// Longest text of an address, in bytes: it may hold a PeerId, of which the same is true.
const ADDRESS_TEXT_MAX: usize = 512;

/// Longest name of a host.
const HOST_BYTES: usize = 253;

/// The PeerId that a text is, if it is one.
#[must_use]
pub fn peer_id_of(text: &str) -> Option<PeerId> {
    (text.len() <= PEER_ID_TEXT_MAX).then(|| text.parse().ok()).flatten()
}

/// A peer as its document describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The document's `id`.
    pub did: String,
    /// For people; never an identity.
    pub name: String,
    /// What it is to us.
    pub relation: Relation,
    /// Its libp2p id: as stated, else from its address, else from its key.
    pub peer_id: Option<PeerId>,
    /// Its key, when the document has one that can be read.
    pub public_key: Option<PublicKey>,
    /// `public_key` as written.
    pub public_key_text: String,
    /// Why `public_key` could not be read.
    pub key_error: Option<String>,
    /// The addresses in `stream_address` that can be dialled, without their `/p2p/` part.
    pub addresses: Vec<Multiaddr>,
    /// Why an address in `stream_address` could not be read.
    pub address_error: Option<String>,
    /// `stream_address` as written.
    pub stream_address: String,
    /// `api_url` as written.
    pub api_url: String,
    /// `nats_address` as written.
    pub nats_address: String,
    /// `wallet_address` as written.
    pub wallet_address: String,
    /// The whole document.
    pub document: Document,
}

impl Peer {
    /// Reads a peer document, nested parts included.
    ///
    /// # Errors
    /// Not an object, no usable `id`, an unknown relation, a `peer_id` that is none, or two different peers named. An address
    /// or key that cannot be read is no error: the peer is read without it and says so.
    pub fn read(doc: &[u8]) -> Result<Self, ModelError> {
        let document = Document::new(Bytes::copy_from_slice(doc))?;
        let value = document.value()?;
        let text = |key| get(&value, key).and_then(Value::as_str).unwrap_or_default().to_owned();

        let did = text("id");
        check_id(&did, "id")?;
        let stream_address = text("stream_address");
        let dialled = Addresses::read(&stream_address);
        let public_key_text = text("public_key");
        let (public_key, key_error) = read_key(&public_key_text);
        let mut identity = Identity::default();
        identity.add("peer_id", read_peer_id(&text("peer_id"))?)?;
        for peer_id in &dialled.peer_ids {
            identity.add("stream_address", Some(*peer_id))?;
        }
        identity.add("public_key", public_key.as_ref().map(PublicKey::to_peer_id))?;
        Ok(Self {
            did,
            name: text("name"),
            relation: Relation::read(get(&value, "relation"))?,
            peer_id: identity.0.map(|(_, peer_id)| peer_id),
            public_key,
            public_key_text,
            key_error,
            addresses: dialled.addresses,
            address_error: dialled.error,
            stream_address,
            api_url: text("api_url"),
            nats_address: text("nats_address"),
            wallet_address: text("wallet_address"),
            document,
        })
    }
}

impl Peer {
    /// As [`Peer::read`], for a document that somebody writes now and can mend. One that is stored counts as it was always read:
    /// a blacklisting, say, must not end because of a key beside it.
    ///
    /// # Errors
    /// Those of reading; and one of the keys that decide who it is and what it may twice, or in another spelling.
    pub fn read_new(doc: &[u8]) -> Result<Self, ModelError> {
        let peer = Self::read(doc)?;
        if let Some(irregular) = fields::read(doc, &NAMES)?.irregular {
            return Err(irregular);
        }
        match misspelt(&peer.document.value()?) {
            Some(name) => Err(ModelError::CaseVariant(name)),
            None => Ok(peer),
        }
    }
}

/// A key that means one of [`NAMES`] and is not spelled so, such as `StreamAddress`: it would be overlooked in silence.
fn misspelt(value: &Value) -> Option<&'static str> {
    let folded = |key: &str| key.replace('_', "").to_ascii_lowercase();
    let is_variant = |key: &str, name: &str| key != name && !key.starts_with('_') && folded(key) == folded(name);
    let keys = || value.as_object().into_iter().flatten().map(|(key, _)| key);
    NAMES.into_iter().find(|name| keys().any(|key| is_variant(key, name)))
}

/// The first id found and where; every further one must be the same.
#[derive(Default)]
struct Identity(Option<(&'static str, PeerId)>);

impl Identity {
    fn add(&mut self, other: &'static str, peer_id: Option<PeerId>) -> Result<(), ModelError> {
        match (self.0, peer_id) {
            (None, Some(peer_id)) => self.0 = Some((other, peer_id)),
            (Some((one, first)), Some(second)) if first != second => {
                return Err(ModelError::Conflict {
                    one,
                    first: first.to_string(),
                    other,
                    second: second.to_string(),
                });
            }
            _ => {}
        }
        Ok(())
    }
}

fn read_peer_id(text: &str) -> Result<Option<PeerId>, ModelError> {
    match text.trim() {
        "" => Ok(None),
        text if text.len() > PEER_ID_TEXT_MAX => Err(ModelError::BadPeerId("it is too long".to_owned())),
        text => text
            .parse()
            .map(Some)
            .map_err(|error| ModelError::BadPeerId(format!("{error}"))),
    }
}

fn read_key(text: &str) -> (Option<PublicKey>, Option<String>) {
    let text = text.trim();
    if text.is_empty() {
        return (None, None);
    }
    let key = STANDARD
        .decode(text)
        .map_err(|error| format!("`public_key` is not base64: {error}"))
        .and_then(|bytes| {
            PublicKey::try_decode_protobuf(&bytes).map_err(|error| format!("`public_key` is no libp2p key: {error}"))
        });
    match key {
        Ok(key) => (Some(key), None),
        Err(why) => (None, Some(why)),
    }
}

/// What a text of addresses says.
#[derive(Debug, Default)]
pub struct Addresses {
    /// Those that can be read, without their `/p2p/` part.
    pub addresses: Vec<Multiaddr>,
    /// Whose they are, as those parts say.
    pub peer_ids: Vec<PeerId>,
    /// Why one of them could not be read.
    pub error: Option<String>,
}

impl Addresses {
    /// Multiaddrs separated by commas or white space; at most [`ADDRESSES_MAX`].
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut read = Self::default();
        let parts = text
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|part| !part.is_empty());
        for (index, part) in parts.enumerate() {
            if index >= ADDRESSES_MAX {
                read.error
                    .get_or_insert(format!("`stream_address` has more than {ADDRESSES_MAX} addresses"));
                break;
            }
            if part.len() > ADDRESS_TEXT_MAX {
                let why = format!("an address in `stream_address` is longer than {ADDRESS_TEXT_MAX} bytes");
                read.error.get_or_insert(why);
                continue;
            }
            match part.parse::<Multiaddr>() {
                Ok(address) if !names_a_host(&address) => {
                    let why = format!("{part:?} in `stream_address` has a host in it that is no name");
                    read.error.get_or_insert(why);
                }
                Ok(address) => read.add(address),
                Err(error) => {
                    let why =
                        format!("{part:?} in `stream_address` is not a multiaddr such as /dns4/host/tcp/4001: {error}");
                    read.error.get_or_insert(why);
                }
            }
        }
        read
    }

    fn add(&mut self, mut address: Multiaddr) {
        if let Some(Protocol::P2p(peer_id)) = address.iter().last() {
            self.peer_ids.push(peer_id);
            address.pop();
        }
        if !address.is_empty() && !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
    }
}

/// Whether every name in it is one: a multiaddr takes any text, also what moves the cursor of a terminal.
fn names_a_host(address: &Multiaddr) -> bool {
    address.iter().all(|part| match part {
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) | Protocol::Dnsaddr(name) => {
            name.len() <= HOST_BYTES && name.chars().all(|c| c.is_alphanumeric() || "-._".contains(c))
        }
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;
    use serde_json::json;

    use super::*;

    fn read(doc: Value) -> Result<Peer, ModelError> {
        Peer::read(doc.to_string().as_bytes())
    }

    fn key() -> (PublicKey, String, String) {
        let key = Keypair::generate_ed25519().public();
        let text = STANDARD.encode(key.encode_protobuf());
        let peer_id = key.to_peer_id().to_string();
        (key, text, peer_id)
    }

    #[test]
    fn a_whole_document_is_read_and_kept() {
        let (public_key, key_text, peer_id) = key();
        let text = format!(
            r#"{{ "id":"d","name":"Site","relation":2,"peer_id":"{peer_id}","public_key":"{key_text}","api_url":"http://a",
            "stream_address":"/ip4/10.0.0.1/tcp/4001/p2p/{peer_id}, /dns4/a.example/tcp/4001 /ip4/10.0.0.1/tcp/4001" }}"#
        );
        let peer = Peer::read(text.as_bytes()).unwrap();
        assert_eq!(
            (peer.did.as_str(), peer.name.as_str(), peer.relation),
            ("d", "Site", Relation::Partner)
        );
        assert_eq!(peer.peer_id, Some(public_key.to_peer_id()));
        assert_eq!(peer.public_key, Some(public_key));
        assert_eq!(
            peer.addresses,
            ["/ip4/10.0.0.1/tcp/4001", "/dns4/a.example/tcp/4001"].map(|a| a.parse().unwrap())
        );
        assert_eq!(
            (peer.api_url.as_str(), peer.address_error, peer.key_error),
            ("http://a", None, None)
        );
        assert_eq!(peer.document.as_ref(), text.as_bytes());
    }

    #[test]
    fn the_id_comes_from_wherever_it_stands() {
        let (public_key, key_text, peer_id) = key();
        for doc in [
            json!({ "id": "d", "peer_id": peer_id }),
            json!({ "id": "d", "stream_address": format!("/ip4/1.2.3.4/tcp/1/p2p/{peer_id}") }),
            json!({ "id": "d", "stream_address": format!("/p2p/{peer_id}") }),
            json!({ "abstractobject": { "id": "d" }, "public_key": key_text }),
        ] {
            assert_eq!(
                read(doc.clone()).unwrap().peer_id,
                Some(public_key.to_peer_id()),
                "{doc}"
            );
        }
        let bare = read(json!({ "id": "d", "relation": null, "name": 3 })).unwrap();
        assert_eq!(
            (bare.peer_id, bare.relation, bare.name.as_str()),
            (None, Relation::None, "")
        );
    }

    #[test]
    fn two_identities_are_a_conflict() {
        let (_, key_text, one) = key();
        let (_, _, other) = key();
        let address = |id: &str| format!("/ip4/1.2.3.4/tcp/1/p2p/{id}");
        for doc in [
            json!({ "id": "d", "peer_id": other, "public_key": key_text }),
            json!({ "id": "d", "peer_id": other, "stream_address": address(&one) }),
            json!({ "id": "d", "public_key": key_text, "stream_address": address(&other) }),
            json!({ "id": "d", "stream_address": format!("{},{}", address(&one), address(&other)) }),
        ] {
            assert_eq!(
                read(doc.clone()).map_err(|error| error.rule()),
                Err("conflict"),
                "{doc}"
            );
        }
    }

    #[test]
    fn unreadable_addresses_and_keys_are_told_not_fatal() {
        let peer = read(json!({ "id": "d", "stream_address": "host:4001 /ip4/1.2.3.4/tcp/1", "public_key": "/a.pem" }));
        let peer = peer.unwrap();
        assert!(peer.address_error.unwrap().contains("host:4001"));
        assert_eq!(peer.addresses.len(), 1);
        assert!(peer.key_error.is_some() && peer.public_key.is_none());
        let hostile =
            read(json!({ "id": "d", "stream_address": "/dns4/a\u{1b}[2J.example/tcp/1 /dns4/b.example/tcp/1" }));
        let hostile = hostile.unwrap();
        assert_eq!(hostile.addresses, ["/dns4/b.example/tcp/1".parse().unwrap()]);
        assert!(!hostile.address_error.unwrap().contains('\u{1b}'));
        // Read it would take minutes.
        let endless = format!("/p2p/{} /ip4/1.2.3.4/tcp/1", "z".repeat(4 << 20));
        let peer = read(json!({ "id": "d", "stream_address": endless })).unwrap();
        assert!(peer.addresses.len() == 1 && peer.address_error.unwrap().contains("longer than"));
        let many: Vec<String> = (0..20).map(|port| format!("/ip4/1.2.3.4/tcp/{}", port + 1)).collect();
        let peer = read(json!({ "id": "d", "stream_address": many.join(",") })).unwrap();
        assert_eq!(
            (peer.addresses.len(), peer.address_error.is_some()),
            (ADDRESSES_MAX, true)
        );
    }

    #[test]
    fn refusals_have_their_rule() {
        for (doc, rule) in [
            (json!({}), "missing"),
            (json!({ "id": "" }), "missing"),
            (json!({ "id": "a".repeat(257) }), "bad_id"),
            (json!({ "id": "a\u{0}" }), "bad_id"),
            (json!({ "id": "d", "relation": 9 }), "unknown_relation"),
            (json!({ "id": "d", "peer_id": "nobody" }), "bad_peer_id"),
            (json!([]), "not_object"),
        ] {
            assert_eq!(read(doc.clone()).map_err(|error| error.rule()), Err(rule), "{doc}");
        }
    }

    #[test]
    fn what_readers_could_disagree_on_is_refused_when_it_is_written_and_read_where_it_is_stored() {
        for (doc, rule) in [
            (r#"{"id":"d","Relation":2}"#, "case_variant"),
            (r#"{"id":"d","StreamAddress":"/ip4/1.2.3.4/tcp/1"}"#, "case_variant"),
            (
                r#"{"id":"d","relation":2,"abstractobject":{"relation":3}}"#,
                "nested_differs",
            ),
            (r#"{"id":"d","relation":2,"relation":3}"#, "duplicate_key"),
        ] {
            let new = Peer::read_new(doc.as_bytes());
            assert_eq!(new.map_err(|error| error.rule()), Err(rule), "{doc}");
            assert!(Peer::read(doc.as_bytes()).is_ok(), "{doc}");
        }
        let own = Peer::read_new(br#"{"_id":"x","id":"d"}"#);
        assert!(own.is_ok(), "a database's own id is none of ours");
    }
}
