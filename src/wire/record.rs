//! The signed record by which a peer says who it is and where it listens, and its signature.
//!
//! Always holds: a signature covers the nine fields exactly as their texts were received, and a record that is passed on has
//! those texts, so that it can be checked by whoever gets it. What it claims is another's to judge.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libp2p::identity::{Keypair, PublicKey};

use super::error::WireError;
use super::json::{self, ReadLimits};
use super::write::ObjectWriter;

const NAMES: [&str; 10] = [
    "name",
    "did",
    "pubkey",
    "expirydate",
    "peerid",
    "apiurl",
    "streamaddress",
    "natsaddress",
    "walletaddress",
    "signature",
];
const SIGNED_KEYS: [&str; 9] = [
    "name",
    "did",
    "pub_key",
    "expiry_date",
    "peer_id",
    "api_url",
    "stream_address",
    "nats_address",
    "wallet_address",
];

/// Largest record, in bytes: sixteen long addresses and some names are half of it.
pub const RECORD_BYTES: usize = 4 * 1024;
/// Longest of its texts but the addresses.
const TEXT_BYTES: usize = 512;
/// A record is one flat object.
const DEPTH: usize = 4;

/// Who a peer says it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerRecord {
    /// For people; never an identity.
    pub name: String,
    /// Its DID.
    pub did: String,
    /// Its key: base64 of libp2p's protobuf form.
    pub pub_key: String,
    /// Until when it holds, RFC 3339; see [`super::parse_timestamp`].
    pub expiry_date: String,
    /// Its libp2p peer id.
    pub peer_id: String,
    /// Where its API is.
    pub api_url: String,
    /// Where it listens: multiaddrs separated by commas.
    pub stream_address: String,
    /// Where its NATS is.
    pub nats_address: String,
    /// Its wallet.
    pub wallet_address: String,
    /// ed25519 signature; none when unsigned.
    pub signature: Option<Vec<u8>>,
    /// What the signature was made over, as received (or as signed here); kept only beside a signature.
    signed_text: Option<Vec<u8>>,
}

impl PeerRecord {
    /// A record that says nothing yet but who it is of.
    pub fn new(did: &str, peer_id: &str) -> Self {
        Self {
            did: did.to_owned(),
            peer_id: peer_id.to_owned(),
            ..Self::default()
        }
    }

    /// Reads one record.
    ///
    /// # Errors
    /// Over [`RECORD_BYTES`], as it came or as it is passed on, not an object of strings, `did` or `peer_id` missing, a text of more than 512 bytes, a
    /// signature that is not base64.
    pub fn read(bytes: &[u8]) -> Result<Self, WireError> {
        let limits = ReadLimits {
            message_bytes: RECORD_BYTES,
            depth: DEPTH,
        };
        let fields = json::object(limits.check(bytes)?, &NAMES)?;
        let [name, did, key, expiry, peer_id, api, stream, nats, wallet, signature] = fields;
        let signature = read_signature(signature)?;
        let signed_text = signature
            .is_some()
            .then(|| received_text([name, did, key, expiry, peer_id, api, stream, nats, wallet]));
        let record = Self {
            name: json::string_or_empty(name, "name")?,
            did: json::needed_string(did, "did")?,
            pub_key: json::string_or_empty(key, "pub_key")?,
            expiry_date: json::string_or_empty(expiry, "expiry_date")?,
            peer_id: json::needed_string(peer_id, "peer_id")?,
            api_url: json::string_or_empty(api, "api_url")?,
            stream_address: json::string_or_empty(stream, "stream_address")?,
            nats_address: json::string_or_empty(nats, "nats_address")?,
            wallet_address: json::string_or_empty(wallet, "wallet_address")?,
            signature,
            signed_text,
        };
        record.check_sizes()?;
        // It is passed on as its signer wrote it, keys that were left out as `null`: so it must be readable, too.
        match record.write().len() {
            size if size > RECORD_BYTES => Err(WireError::TooLarge {
                what: "the record as it is passed on",
                size,
                limit: RECORD_BYTES,
            }),
            _ => Ok(record),
        }
    }

    fn check_sizes(&self) -> Result<(), WireError> {
        let texts = [
            ("name", &self.name),
            ("did", &self.did),
            ("pub_key", &self.pub_key),
            ("peer_id", &self.peer_id),
            ("api_url", &self.api_url),
            ("nats_address", &self.nats_address),
            ("wallet_address", &self.wallet_address),
        ];
        match texts.into_iter().find(|(_, text)| text.len() > TEXT_BYTES) {
            Some((what, text)) => Err(WireError::TooLarge {
                what,
                size: text.len(),
                limit: TEXT_BYTES,
            }),
            None => Ok(()),
        }
    }

    /// The one written form, without a newline. A received record keeps the texts of its signer.
    pub fn write(&self) -> Vec<u8> {
        let mut text = match &self.signed_text {
            Some(text) => text.clone(),
            None => self.own_text(),
        };
        let Some(signature) = &self.signature else { return text };
        // Both end with `null}`, in the place of the signature.
        text.truncate(text.len().saturating_sub(UNSIGNED.len()));
        text.push(b'"');
        base64_simd::STANDARD.encode_append(signature, &mut text);
        text.extend_from_slice(b"\"}");
        text
    }

    /// Signs the nine fields as they are now.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(&mut self, key: &Keypair) -> Result<(), WireError> {
        let text = self.own_text();
        let signature = key
            .sign(&text)
            .map_err(|error| WireError::CannotSign(error.to_string()))?;
        self.signature = Some(signature);
        self.signed_text = Some(text);
        Ok(())
    }

    /// Checks the signature over the text as received.
    ///
    /// # Errors
    /// [`WireError::NotSigned`] or [`WireError::BadSignature`].
    pub fn verify(&self, key: &PublicKey) -> Result<(), WireError> {
        let signature = self.signature.as_deref().ok_or(WireError::NotSigned)?;
        let fits = match &self.signed_text {
            Some(text) => key.verify(text, signature),
            None => key.verify(&self.own_text(), signature),
        };
        if fits { Ok(()) } else { Err(WireError::BadSignature) }
    }

    fn own_text(&self) -> Vec<u8> {
        let texts = [
            &self.name,
            &self.did,
            &self.pub_key,
            &self.expiry_date,
            &self.peer_id,
            &self.api_url,
            &self.stream_address,
            &self.nats_address,
            &self.wallet_address,
        ];
        let object = ObjectWriter::new(texts.iter().map(|text| text.len() + 20).sum());
        let fields = SIGNED_KEYS.iter().zip(texts);
        fields
            .fold(object, |object, (key, text)| object.string(key, text))
            .raw("signature", "null")
            .finish()
    }
}

/// How an unsigned text ends.
const UNSIGNED: &str = "null}";

/// The signed text rebuilt from the received texts. A field that was not there can only have been signed as `null`.
fn received_text(raws: [Option<&str>; 9]) -> Vec<u8> {
    let size: usize = raws.iter().flatten().map(|raw| raw.len() + 20).sum();
    let fields = SIGNED_KEYS.iter().zip(raws);
    fields
        .fold(ObjectWriter::new(size), |object, (key, raw)| {
            object.raw(key, raw.unwrap_or("null"))
        })
        .raw("signature", "null")
        .finish()
}

fn read_signature(raw: Option<&str>) -> Result<Option<Vec<u8>>, WireError> {
    let Some(text) = json::string(raw, "signature")?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    STANDARD
        .decode(text.as_bytes())
        .map(Some)
        .map_err(|_| WireError::BadBase64("signature"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> PeerRecord {
        PeerRecord {
            name: "Site <A>".into(),
            did: "did:a".into(),
            peer_id: "12D3KooW".into(),
            expiry_date: "2024-01-02T03:04:05Z".into(),
            stream_address: "/ip4/10.0.0.1/tcp/4001".into(),
            ..PeerRecord::default()
        }
    }

    #[test]
    fn a_signature_holds_for_its_key_and_text_only_and_survives_being_passed_on() {
        let key = Keypair::generate_ed25519();
        let mut signed = record();
        signed.sign(&key).unwrap();
        let text = String::from_utf8(signed.write()).unwrap();
        let read = PeerRecord::read(text.as_bytes()).unwrap();
        assert_eq!((&read, read.verify(&key.public())), (&signed, Ok(())));
        assert_eq!(read.write(), text.as_bytes());
        let other = Keypair::generate_ed25519().public();
        assert_eq!(read.verify(&other), Err(WireError::BadSignature));
        for (from, to) in [
            ("did:a", "did:b"),
            ("4001", "4002"),
            ("03:04", "04:04"),
            ("KooW", "KooX"),
        ] {
            let changed = PeerRecord::read(text.replacen(from, to, 1).as_bytes()).unwrap();
            assert_eq!(changed.verify(&key.public()), Err(WireError::BadSignature), "{from}");
        }
    }

    #[test]
    fn other_escapes_and_another_order_verify_and_are_passed_on_as_they_came() {
        let key = Keypair::generate_ed25519();
        let text = r#"{"name":"\u0041<b>","did":"d","pub_key":"","expiry_date":"t","peer_id":"p","api_url":"http:\/\/a","stream_address":"","nats_address":null,"wallet_address":"w","signature":null}"#;
        let signature = STANDARD.encode(key.sign(text.as_bytes()).unwrap());
        let line = text.replace("\"signature\":null", &format!("\"signature\":\"{signature}\""));
        let shuffled = format!(
            "{{ \"Signature\" : \"{signature}\", \"more\":[1], {}",
            text.trim_start_matches('{').replace(",\"signature\":null", "")
        );
        for given in [&line, &shuffled] {
            let read = PeerRecord::read(given.as_bytes()).unwrap();
            assert_eq!((read.name.as_str(), read.api_url.as_str()), ("A<b>", "http://a"));
            assert_eq!(read.verify(&key.public()), Ok(()), "{given}");
            assert_eq!(String::from_utf8(read.write()).unwrap(), line);
        }
    }

    #[test]
    fn what_is_taken_can_be_read_by_whom_it_is_passed_on_to() {
        // The keys that are missing are written when it is passed on.
        let text = |size: usize| {
            let head = r#"{"did":"d","peer_id":"p","signature":"AAAA","stream_address":""#;
            format!("{head}{}\"}}", "a".repeat(size - head.len() - 2))
        };
        let longest = (0..=RECORD_BYTES)
            .rev()
            .take(200)
            .find(|size| PeerRecord::read(text(*size).as_bytes()).is_ok());
        let longest = longest.unwrap();
        assert!(longest < RECORD_BYTES);
        let passed_on = PeerRecord::read(text(longest).as_bytes()).unwrap().write();
        assert!(PeerRecord::read(&passed_on).is_ok() && passed_on.len() == RECORD_BYTES);
        let too_long = PeerRecord::read(text(RECORD_BYTES).as_bytes());
        assert_eq!(too_long.map_err(|error| error.rule()), Err("too_large"));
    }

    #[test]
    fn refusals_have_their_rule() {
        let long = format!(r#"{{"did":"d","peer_id":"p","name":"{}"}}"#, "n".repeat(TEXT_BYTES + 1));
        let huge = format!(r#"{{"did":"d","stream_address":"{}"}}"#, "n".repeat(RECORD_BYTES));
        for (text, rule) in [
            (r#"{"did":"d"}"#, "missing"),
            (r#"{"peer_id":"p"}"#, "missing"),
            (r#"{"did":"d","DID":"e","peer_id":"p"}"#, "duplicate_key"),
            (r#"{"did":"d","peer_id":"p","signature":"%"}"#, "bad_base64"),
            (r#"{"did":"d","peer_id":7}"#, "wrong_type"),
            ("[]", "wrong_type"),
            (&long, "too_large"),
            (&huge, "too_large"),
        ] {
            let read = PeerRecord::read(text.as_bytes()).map_err(|error| error.rule());
            assert_eq!(read.map(|_| ()), Err(rule), "{text}");
        }
        let key = Keypair::generate_ed25519().public();
        assert_eq!(record().verify(&key), Err(WireError::NotSigned));
    }
}
