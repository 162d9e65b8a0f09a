//! The event that travels between daemons, on streams and on gossip, and its signature.
//!
//! Always holds: a signature covers the six fields exactly as their texts were received, whatever escapes the writer used.
//! `search_id` and `end` are ours, lie outside the signature and are written only when set; other readers skip them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use libp2p::identity::{Keypair, PublicKey};

use super::apart::{Apart, Check, Payload};
use super::datatype::DataType;
use super::error::WireError;
use super::ids::{ID_MAX, TEXT_MAX};
use super::json::{self, ReadLimits};
use super::names::Action;
use super::plain;
use super::write::ObjectWriter;

const NAMES: [&str; 9] = [
    "type", "from", "user", "datatype", "ts", "payload", "sig", "searchid", "end",
];
/// Longest time: RFC 3339 needs 35 bytes.
const TIME_MAX: usize = 128;
const SIGNED_KEYS: [&str; 6] = ["type", "from", "User", "datatype", "ts", "payload"];

/// One message from daemon to daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it is about; on the wire the action's name.
    pub kind: Action,
    /// DID of the sender.
    pub from: String,
    /// The user it is done for, may be empty.
    pub user: String,
    /// The kind of the payload's document.
    pub datatype: DataType,
    /// When it was made, RFC 3339; see [`super::parse_timestamp`].
    pub ts: String,
    /// JSON, as it was inside; empty when there was none.
    pub payload: Bytes,
    /// ed25519 signature; none when unsigned.
    pub sig: Option<Vec<u8>>,
    /// Ours: the search this belongs to. Not signed.
    pub search_id: Option<String>,
    /// Ours: the answer set ends with this event. Not signed.
    pub end: Option<SearchEndMark>,
    /// What the signature was made over, as received (or as signed here); kept only beside a signature.
    signed_text: Option<Vec<u8>>,
}

/// How an answer set ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchEndMark {
    /// Answers that were sent.
    pub results: usize,
    /// Whether there were more.
    pub truncated: bool,
}

impl Event {
    /// An unsigned event. `ts` is a text of [`super::timestamp`].
    pub fn new(
        kind: Action,
        from: &str,
        user: &str,
        datatype: DataType,
        payload: Bytes,
        ts: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            from: from.to_owned(),
            user: user.to_owned(),
            datatype,
            ts: ts.into(),
            payload,
            sig: None,
            search_id: None,
            end: None,
            signed_text: None,
        }
    }

    /// Reads one line (its newline may be there or not).
    ///
    /// # Errors
    /// As for an envelope; also a missing `type` or `from`, an unknown `type`, a `sig` that is not base64, a `from` over 256
    /// bytes, a `User` or `search_id` over 1,024: what is looked up, or kept, by them has its bound here.
    pub fn read_line(line: &[u8], limits: &ReadLimits) -> Result<Self, WireError> {
        Self::read(line, limits, Check::Here)
    }

    /// As [`Event::read_line`], also in the form of [`Event::write_plain_line_onto`], for payloads that are read as a question
    /// or a document before anything comes of them: here it is not looked whether what base64 held, or the document, is JSON.
    ///
    /// # Errors
    /// The same.
    pub fn read_line_of_search(line: &[u8], limits: &ReadLimits) -> Result<Self, WireError> {
        limits.check_size(line)?;
        let Some((rest, document)) = plain::part(line) else {
            return Self::read(line, limits, Check::Later);
        };
        limits.check_depth(document)?;
        let event = Self::read(&rest, limits, Check::Here)?;
        if !event.payload.is_empty() {
            return Err(WireError::DuplicateKey("payload"));
        }
        Ok(Self {
            payload: Bytes::copy_from_slice(document),
            ..event
        })
    }

    fn read(line: &[u8], limits: &ReadLimits, check: Check) -> Result<Self, WireError> {
        let Apart { rest, payload: apart } = Apart::of(line, limits, check)?;
        let fields = json::object(limits.check(&rest)?, &NAMES)?;
        let [kind, from, user, datatype, ts, payload, sig, search_id, end] = fields;
        let sig = read_signature(sig)?;
        let signed_text = sig.is_some().then(|| {
            let payload = apart.as_ref().map_or(payload, Payload::text);
            received_text([kind, from, user, datatype, ts, payload])
        });
        Ok(Self {
            kind: json::action(kind, "type")?,
            from: json::at_most(json::needed_string(from, "from")?, "from", ID_MAX)?,
            user: json::at_most(json::string_or_empty(user, "User")?, "User", TEXT_MAX)?,
            datatype: json::datatype(datatype)?,
            ts: json::at_most(json::string_or_empty(ts, "ts")?, "ts", TIME_MAX)?,
            payload: Payload::or_of(apart, payload, limits)?,
            sig,
            search_id: json::string(search_id, "search_id")?
                .map(|id| json::at_most(id.into(), "search_id", TEXT_MAX))
                .transpose()?,
            end: json::given(end).map(SearchEndMark::read).transpose()?,
            signed_text,
        })
    }

    /// The one written form and a newline, as Go's `json.Encoder` writes it. A received event written again has our
    /// escapes, not its writer's: pass on the received bytes where a foreign signature must survive.
    pub fn write_line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(self.room());
        self.write_line_onto(&mut line);
        line
    }

    /// The same behind what is there.
    pub fn write_line_onto(&self, lines: &mut Vec<u8>) {
        lines.reserve(self.room());
        let head = self
            .write_signed_fields(std::mem::take(lines))
            .bytes("sig", self.sig.as_deref().unwrap_or_default());
        let with_search = head.optional_string("search_id", self.search_id.as_deref());
        *lines = match &self.end {
            Some(end) => with_search.raw("end", &end.write()),
            None => with_search,
        }
        .finish_line();
    }

    /// The form of an answer for those that told [`super::protocol::TAKES_PLAIN`]: unsigned, its document as it is. One that
    /// cannot stand in a line is written as ever.
    pub fn write_plain_line_onto(&self, lines: &mut Vec<u8>) {
        let texts = self.from.len() + self.user.len() + self.search_id.as_ref().map_or(0, String::len);
        if !plain::fits(&self.payload, texts) {
            return self.write_line_onto(lines);
        }
        lines.reserve(self.payload.len() + 384);
        *lines = self
            .write_head(std::mem::take(lines))
            .optional_string("search_id", self.search_id.as_deref())
            .json(plain::DOCUMENT, &self.payload)
            .finish_line();
    }

    /// About as many bytes as the line has.
    fn room(&self) -> usize {
        self.payload.len() / 3 * 4 + 384
    }

    /// Signs the six fields as they are now.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(&mut self, key: &Keypair) -> Result<(), WireError> {
        let text = self.own_text();
        self.sig = Some(
            key.sign(&text)
                .map_err(|error| WireError::CannotSign(error.to_string()))?,
        );
        self.signed_text = Some(text);
        Ok(())
    }

    /// Whether there is a signature, right or wrong.
    pub fn is_signed(&self) -> bool {
        self.sig.is_some()
    }

    /// Checks the signature over the text as received.
    ///
    /// # Errors
    /// [`WireError::NotSigned`] or [`WireError::BadSignature`].
    pub fn verify(&self, key: &PublicKey) -> Result<(), WireError> {
        let sig = self.sig.as_deref().ok_or(WireError::NotSigned)?;
        let fits = match &self.signed_text {
            Some(text) => key.verify(text, sig),
            None => key.verify(&self.own_text(), sig),
        };
        if fits { Ok(()) } else { Err(WireError::BadSignature) }
    }

    fn own_text(&self) -> Vec<u8> {
        let text = Vec::with_capacity(self.room());
        self.write_signed_fields(text).raw("sig", "null").finish()
    }

    fn write_signed_fields(&self, behind: Vec<u8>) -> ObjectWriter {
        let [.., payload] = SIGNED_KEYS;
        self.write_head(behind).bytes(payload, &self.payload)
    }

    /// What stands before the payload.
    fn write_head(&self, behind: Vec<u8>) -> ObjectWriter {
        let [kind, from, user, datatype, ts, _] = SIGNED_KEYS;
        ObjectWriter::behind(behind)
            .string(kind, self.kind.name())
            .string(from, &self.from)
            .string(user, &self.user)
            .number(datatype, self.datatype.code().into())
            .string(ts, &self.ts)
    }
}

/// The signed text rebuilt from the received texts. A field that was not there can only have been signed as `null`.
fn received_text(raws: [Option<&str>; 6]) -> Vec<u8> {
    let size: usize = raws.iter().flatten().map(|raw| raw.len() + 16).sum();
    let object = ObjectWriter::new(size + 16);
    let fields = SIGNED_KEYS.iter().zip(raws);
    fields
        .fold(object, |object, (key, raw)| object.raw(key, raw.unwrap_or("null")))
        .raw("sig", "null")
        .finish()
}

fn read_signature(raw: Option<&str>) -> Result<Option<Vec<u8>>, WireError> {
    let Some(text) = json::string(raw, "sig")?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    STANDARD
        .decode(text.as_bytes())
        .map(Some)
        .map_err(|_| WireError::BadBase64("sig"))
}

impl SearchEndMark {
    fn read(raw: &str) -> Result<Self, WireError> {
        let [results, truncated] = json::object(raw, &["results", "truncated"])?;
        let results = json::count(results, "results")?.unwrap_or(0);
        Ok(Self {
            results: usize::try_from(results).unwrap_or(usize::MAX),
            truncated: json::flag(truncated, "truncated")?,
        })
    }

    fn write(self) -> String {
        format!("{{\"results\":{},\"truncated\":{}}}", self.results, self.truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(key: &Keypair) -> Event {
        let payload = Bytes::from_static(b"{\"search\":\"<&>\"}");
        let mut event = Event::new(
            Action::Search,
            "did:a",
            "u<1>",
            DataType::Invalid,
            payload,
            "2024-01-02T03:04:05Z",
        );
        event.sign(key).unwrap();
        event
    }

    fn read(line: &str) -> Result<Event, WireError> {
        Event::read_line(line.as_bytes(), &ReadLimits::default())
    }

    #[test]
    fn a_signature_holds_for_its_key_and_text_only() {
        let key = Keypair::generate_ed25519();
        let line = String::from_utf8(signed(&key).write_line()).unwrap();
        let event = read(&line).unwrap();
        assert_eq!(event, signed(&key));
        assert_eq!(event.verify(&key.public()), Ok(()));
        assert_eq!(
            event.verify(&Keypair::generate_ed25519().public()),
            Err(WireError::BadSignature)
        );
        for (from, to) in [
            ("did:a", "did:b"),
            ("\"search\"", "\"create\""),
            ("03:04:05", "03:04:06"),
            (":0,", ":1,"),
        ] {
            let changed = read(&line.replacen(from, to, 1)).unwrap();
            assert_eq!(changed.verify(&key.public()), Err(WireError::BadSignature), "{from}");
        }
    }

    #[test]
    fn other_escapes_of_the_writer_verify() {
        let key = Keypair::generate_ed25519();
        let text = r#"{"type":"search","from":"did:\u0061","User":"<>","datatype":"peer","ts":"t","payload":{"search":"x\/y"},"sig":null}"#;
        let sig = STANDARD.encode(key.sign(text.as_bytes()).unwrap());
        let line = text.replace("null", &format!("\"{sig}\""));
        let shuffled = format!(
            "{{ \"SIG\": \"{sig}\", {}",
            text.trim_start_matches('{').replace(",\"sig\":null", "")
        );
        for line in [line, shuffled] {
            let event = read(&line).unwrap();
            assert_eq!((event.from.as_str(), event.datatype), ("did:a", DataType::Peer));
            assert_eq!(event.verify(&key.public()), Ok(()), "{line}");
        }
    }

    #[test]
    fn what_is_outside_the_signature_may_be_there() {
        let key = Keypair::generate_ed25519();
        let mut event = signed(&key);
        event.search_id = Some("s".into());
        event.end = Some(SearchEndMark {
            results: 3,
            truncated: true,
        });
        let line = event.write_line();
        assert!(line.ends_with(b",\"search_id\":\"s\",\"end\":{\"results\":3,\"truncated\":true}}\n"));
        let back = Event::read_line(&line, &ReadLimits::default()).unwrap();
        assert_eq!(back, event);
        assert_eq!(back.verify(&key.public()), Ok(()));
    }

    #[test]
    fn refusals_have_their_rule() {
        for (line, rule) in [
            (r#"{"from":"a"}"#, "missing"),
            (r#"{"type":"search"}"#, "missing"),
            (r#"{"type":"search","from":""}"#, "missing"),
            (r#"{"type":"greet","from":"a"}"#, "unknown_action"),
            (r#"{"type":"search","from":"a","sig":"%"}"#, "bad_base64"),
            (r#"{"type":"search","from":"a","sig":1}"#, "wrong_type"),
            (r#"{"type":"search","from":"a","User":"x","user":"y"}"#, "duplicate_key"),
            (r#"{"type":"search","from":"a","end":[]}"#, "wrong_type"),
        ] {
            assert_eq!(read(line).map_err(|error| error.rule()), Err(rule), "{line}");
        }
        for (key, most) in [("from", 256), ("user", 1024), ("ts", 128), ("search_id", 1024)] {
            let from = if key == "from" { "" } else { r#","from":"a""# };
            let line = |size: usize| format!(r#"{{"type":"search"{from},"{key}":"{}"}}"#, "x".repeat(size));
            assert_eq!(read(&line(most)).map(|_| ()), Ok(()), "{key}");
            assert_eq!(
                read(&line(most + 1)).map_err(|error| error.rule()),
                Err("too_large"),
                "{key}"
            );
        }
        let unsigned = read(r#"{"type":"search","from":"a","sig":null}"#).unwrap();
        assert!(!unsigned.is_signed());
        assert_eq!(
            unsigned.verify(&Keypair::generate_ed25519().public()),
            Err(WireError::NotSigned)
        );
        let short = read(r#"{"type":"search","from":"a","sig":"AAAA"}"#).unwrap();
        assert_eq!(
            short.verify(&Keypair::generate_ed25519().public()),
            Err(WireError::BadSignature)
        );
    }
}
