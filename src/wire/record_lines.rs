//! The lines of the record protocols: heartbeats with a record, questions for records, and what an indexer answers.
//!
//! Always holds: no answer lists more than [`RECORDS_MAX`] records or [`INDEXERS_MAX`] addresses; a longer one is refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::error::WireError;
use super::heartbeat::Heartbeat;
use super::json::{self, ReadLimits};
use super::names::NODE_KEY;
use super::record::{PeerRecord, RECORD_BYTES};
use super::write::ObjectWriter;

/// Records in one answer: as many as a look-up by name gives.
pub const RECORDS_MAX: usize = 100;
/// Further indexers told in one answer.
pub const INDEXERS_MAX: usize = 16;
/// Longest line of these protocols.
pub const RECORD_LINE_BYTES: usize = RECORDS_MAX * RECORD_BYTES + 4096;
/// Longest address of an indexer that is told.
const ADDRESS_BYTES: usize = 512;
/// Longest key asked for: `/node/` and a DID, a PeerId or a name.
const KEY_BYTES: usize = 512;
/// An object with a list of flat objects.
const DEPTH: usize = 6;

fn checked(line: &[u8]) -> Result<&str, WireError> {
    ReadLimits {
        message_bytes: RECORD_LINE_BYTES,
        depth: DEPTH,
    }
    .check(line)
}

/// A node's heartbeat to an indexer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordBeat {
    /// Who says so.
    pub beat: Heartbeat,
    /// Its fresh record; none from a node that publishes apart.
    pub record: Option<PeerRecord>,
}

impl RecordBeat {
    /// Reads one line; the record may be an object, or base64 of one.
    ///
    /// # Errors
    /// As for a heartbeat and for a record.
    pub fn read_line(line: &[u8]) -> Result<Self, WireError> {
        let text = checked(line)?;
        let [record] = json::object(text, &["record"])?;
        let limits = ReadLimits {
            message_bytes: RECORD_LINE_BYTES,
            depth: DEPTH,
        };
        Ok(Self {
            beat: Heartbeat::read_line(line, &limits)?,
            record: record_of(record)?,
        })
    }

    /// The one written form and a newline.
    pub fn write_line(&self) -> Vec<u8> {
        let record = self.record.as_ref().map(|record| text_of(record.write()));
        ObjectWriter::new(RECORD_BYTES)
            .string("name", &self.beat.name)
            .string("did", &self.beat.did)
            .string("peer_id", &self.beat.peer_id)
            .raw("record", record.as_deref().unwrap_or("null"))
            .finish_line()
    }
}

/// Written by an [`ObjectWriter`], so it is UTF-8.
fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}

fn record_of(raw: Option<&str>) -> Result<Option<PeerRecord>, WireError> {
    let Some(raw) = json::given(raw) else { return Ok(None) };
    match json::unquoted(raw, "record")? {
        None => PeerRecord::read(raw.as_bytes()).map(Some),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => {
            let bytes = STANDARD.decode(text.as_bytes());
            let bytes = bytes.map_err(|_| WireError::BadBase64("record"))?;
            PeerRecord::read(&bytes).map(Some)
        }
    }
}

/// Reads what is published: a record, or `{record: ...}`.
///
/// # Errors
/// As for a record.
pub fn read_published(line: &[u8]) -> Result<PeerRecord, WireError> {
    let text = checked(line)?;
    let [record] = json::object(text, &["record"])?;
    match record_of(record)? {
        Some(record) => Ok(record),
        None => PeerRecord::read(line.trim_ascii()),
    }
}

/// A question for records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordQuery {
    /// A DID, a PeerId or a name.
    pub key: String,
    /// Ours: another indexer asks; it is not passed on again.
    pub forwarded: bool,
}

impl RecordQuery {
    /// Reads one line; `/node/<DID>` means the DID.
    ///
    /// # Errors
    /// Neither `key` nor `peer_id`, or a key of more than 512 bytes.
    pub fn read_line(line: &[u8]) -> Result<Self, WireError> {
        let [key, peer_id, forwarded] = json::object(checked(line)?, &["key", "peerid", "forwarded"])?;
        let mut key = json::string_or_empty(key, "key")?;
        if key.is_empty() {
            key = json::needed_string(peer_id, "key")?;
        }
        Ok(Self {
            key: Self::checked(&key)?.to_owned(),
            forwarded: json::flag(forwarded, "forwarded")?,
        })
    }

    /// The key that is asked for by `text`, without `/node/` however often it stands before it: asker and indexer must mean
    /// the same by it, or an honest answer is one to something else.
    ///
    /// # Errors
    /// None, or one of more than 512 bytes.
    pub fn checked(text: &str) -> Result<&str, WireError> {
        let text = text.trim_start_matches(NODE_KEY);
        match text.len() {
            0 => Err(WireError::Missing("key")),
            size if size > KEY_BYTES => Err(WireError::TooLarge {
                what: "key",
                size,
                limit: KEY_BYTES,
            }),
            _ => Ok(text),
        }
    }

    /// The one written form and a newline.
    pub fn write_line(&self) -> Vec<u8> {
        let object = ObjectWriter::new(self.key.len() + 32).string("key", &self.key);
        if self.forwarded {
            object.flag("forwarded", true).finish_line()
        } else {
            object.finish_line()
        }
    }
}

/// The answer to a [`RecordQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordAnswer {
    /// All that match.
    pub records: Vec<PeerRecord>,
    /// Ours: why it was not looked up; empty when it was.
    pub why: String,
}

impl RecordAnswer {
    /// Reads one line. A record in it that cannot be read is left out and counted.
    ///
    /// # Errors
    /// No answer, or more than [`RECORDS_MAX`] records.
    pub fn read_line(line: &[u8]) -> Result<(Self, usize), WireError> {
        let [records, why] = json::object(checked(line)?, &["records", "why"])?;
        let raws: Vec<&RawValue> = match json::given(records) {
            None => Vec::new(),
            Some(list) => serde_json::from_str(list).map_err(|_| WireError::WrongType {
                key: "records",
                expected: "a list",
            })?,
        };
        if raws.len() > RECORDS_MAX {
            return Err(WireError::TooLarge {
                what: "records",
                size: raws.len(),
                limit: RECORDS_MAX,
            });
        }
        let read: Vec<PeerRecord> = raws
            .iter()
            .filter_map(|raw| record_of(Some(raw.get())).ok().flatten())
            .collect();
        let bad = raws.len() - read.len();
        let why = json::string_or_empty(why, "why")?;
        Ok((Self { records: read, why }, bad))
    }

    /// The one written form and a newline.
    pub fn write_line(&self) -> Vec<u8> {
        Self::line_of(self.records.iter().map(PeerRecord::write), &self.why)
    }

    /// The same of records that are kept as their texts.
    pub fn line_of(records: impl Iterator<Item = Vec<u8>>, why: &str) -> Vec<u8> {
        let list: Vec<String> = records.take(RECORDS_MAX).map(text_of).collect();
        let object = ObjectWriter::new(list.iter().map(|text| text.len() + 1).sum::<usize>() + 64)
            .flag("found", !list.is_empty())
            .raw("records", &format!("[{}]", list.join(",")));
        if why.is_empty() {
            object.finish_line()
        } else {
            object.string("why", why).finish_line()
        }
    }
}

/// What an indexer says to a heartbeat, or to a record that was published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BeatAnswer {
    /// Taken.
    pub ok: bool,
    /// Ours: why not, in one word.
    pub why: String,
    /// Ours: records that it keeps.
    pub records: u64,
    /// Ours: records that it can keep.
    pub capacity: u64,
    /// Ours: other indexers, each with its `/p2p/` part.
    pub indexers: Vec<String>,
}

impl BeatAnswer {
    /// Reads one line. An address of an indexer over 512 bytes is left out: reading it may take the square of its length.
    ///
    /// # Errors
    /// No object, a field of another kind, more than [`INDEXERS_MAX`] indexers.
    pub fn read_line(line: &[u8]) -> Result<Self, WireError> {
        let names = ["ok", "why", "records", "capacity", "indexers"];
        let [ok, why, records, capacity, indexers] = json::object(checked(line)?, &names)?;
        let mut indexers = json::strings(indexers, "indexers", INDEXERS_MAX)?;
        indexers.retain(|address| address.len() <= ADDRESS_BYTES);
        Ok(Self {
            ok: json::flag(ok, "ok")?,
            why: json::string_or_empty(why, "why")?,
            records: json::count(records, "records")?.unwrap_or(0),
            capacity: json::count(capacity, "capacity")?.unwrap_or(0),
            indexers,
        })
    }

    /// The one written form and a newline.
    pub fn write_line(&self) -> Vec<u8> {
        let mut object = ObjectWriter::new(256).flag("ok", self.ok);
        if !self.why.is_empty() {
            object = object.string("why", &self.why);
        }
        if self.capacity > 0 {
            object = object.number("records", self.records).number("capacity", self.capacity);
        }
        if !self.indexers.is_empty() {
            object = object.strings("indexers", &self.indexers);
        }
        object.finish_line()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_in_every_form() {
        for (line, key) in [
            (r#"{"key":"did:a"}"#, "did:a"),
            (r#"{"key":"/node/did:a"}"#, "did:a"),
            (r#"{"key":"/node//node/did:a"}"#, "did:a"),
            (r#"{"key":"","peer_id":"/node/12D3"}"#, "12D3"),
            (r#"{"Key":"","PeerID":"12D3"}"#, "12D3"),
            (r#"{"peer_id":"12D3"}"#, "12D3"),
        ] {
            assert_eq!(RecordQuery::read_line(line.as_bytes()).unwrap().key, key, "{line}");
        }
        for line in [
            "{}",
            r#"{"key":"/node/"}"#,
            r#"{"key":"/node//node/"}"#,
            r#"{"key":null}"#,
        ] {
            let read = RecordQuery::read_line(line.as_bytes()).map_err(|error| error.rule());
            assert_eq!(read, Err("missing"), "{line}");
        }
        let long = format!(r#"{{"key":"{}"}}"#, "k".repeat(KEY_BYTES + 1));
        let read = RecordQuery::read_line(long.as_bytes()).map_err(|error| error.rule());
        assert_eq!(read, Err("too_large"));
        let passed_on = RecordQuery {
            key: "k".into(),
            forwarded: true,
        };
        assert_eq!(RecordQuery::read_line(&passed_on.write_line()), Ok(passed_on));
    }

    #[test]
    fn answers_are_read_back_and_bounded() {
        let record = PeerRecord::new("d", "p");
        let answer = RecordAnswer {
            records: vec![record.clone(), record.clone()],
            why: String::new(),
        };
        assert_eq!(RecordAnswer::read_line(&answer.write_line()), Ok((answer, 0)));
        let none = RecordAnswer::default().write_line();
        assert_eq!(none, b"{\"found\":false,\"records\":[]}\n");
        let (read, bad) = RecordAnswer::read_line(br#"{"found":true,"records":[{"did":"d"},7,"%"]}"#).unwrap();
        assert_eq!((read.records.len(), bad), (0, 3));
        let text = text_of(record.write());
        let many = format!(r#"{{"records":[{}]}}"#, vec![text; RECORDS_MAX + 1].join(","));
        let read = RecordAnswer::read_line(many.as_bytes()).map_err(|error| error.rule());
        assert_eq!(read, Err("too_large"));
    }

    #[test]
    fn heartbeats_carry_a_record_as_an_object_or_in_base64() {
        let record = PeerRecord::new("d", "p");
        let line = RecordBeat {
            beat: Heartbeat {
                name: "n".into(),
                did: "d".into(),
                peer_id: "p".into(),
            },
            record: Some(record.clone()),
        };
        assert_eq!(RecordBeat::read_line(&line.write_line()), Ok(line));
        let packed = format!(
            r#"{{"did":"d","peer_id":"p","record":"{}"}}"#,
            STANDARD.encode(record.write())
        );
        let read = RecordBeat::read_line(packed.as_bytes()).unwrap();
        assert_eq!(read.record, Some(record.clone()));
        assert_eq!(read_published(&record.write()), Ok(record.clone()));
        let wrapped = format!(r#"{{"record":{}}}"#, text_of(record.write()));
        assert_eq!(read_published(wrapped.as_bytes()), Ok(record));
    }

    #[test]
    fn what_an_indexer_says_is_read_back() {
        let full = BeatAnswer {
            ok: false,
            why: "full".into(),
            records: 5,
            capacity: 5,
            indexers: vec!["/ip4/10.0.0.1/tcp/4001/p2p/x".into()],
        };
        assert_eq!(BeatAnswer::read_line(&full.write_line()), Ok(full));
        let long = format!(r#"{{"ok":true,"indexers":["{}","a"]}}"#, "x".repeat(ADDRESS_BYTES + 1));
        assert_eq!(BeatAnswer::read_line(long.as_bytes()).unwrap().indexers, ["a"]);
        let bare = BeatAnswer::read_line(br#"{"ok":true}"#).unwrap();
        assert_eq!((bare.ok, bare.capacity), (true, 0));
        assert_eq!(bare.write_line(), b"{\"ok\":true}\n");
    }
}
