//! The envelope of every NATS message, both ways.

use bytes::Bytes;

use super::apart::{Apart, Check, Payload};
use super::datatype::DataType;
use super::error::WireError;
use super::ids::TEXT_MAX;
use super::json::{self, ReadLimits};
use super::write::ObjectWriter;

const NAMES: [&str; 6] = ["fromapp", "datatype", "user", "groups", "payload", "searchid"];

/// What goes over NATS: who says it, about which kind, on whose behalf, and the payload.
///
/// The wire also has a `method`: written 0, ignored when read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The app that sent it; [`super::OWN_NAME`] when it is this daemon.
    pub from_app: String,
    /// The kind of the payload's document.
    pub datatype: DataType,
    /// The user it is done for, may be empty.
    pub user: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// JSON, as it was inside; empty when there was none.
    pub payload: Bytes,
    /// Ours: the search this answers, written only when there is one.
    pub search_id: Option<String>,
}

impl Envelope {
    /// Reads one message. Whether a large payload is JSON finds out whoever reads that.
    ///
    /// # Errors
    /// Over a limit, not one JSON object, a header key twice or of the wrong kind, a user over 1,024 bytes (no daemon would take
    /// what is done for it), an unknown datatype.
    pub fn read(bytes: &[u8], limits: &ReadLimits) -> Result<Self, WireError> {
        let Apart { rest, payload: apart } = Apart::of(bytes, limits, Check::Later)?;
        let [from_app, datatype, user, groups, payload, search_id] = json::object(limits.check(&rest)?, &NAMES)?;
        Ok(Self {
            from_app: json::string_or_empty(from_app, "from_app")?,
            datatype: json::datatype(datatype)?,
            user: json::at_most(json::string_or_empty(user, "user")?, "user", TEXT_MAX)?,
            groups: json::strings(groups, "groups", limits.message_bytes)?,
            payload: Payload::or_of(apart, payload, limits)?,
            search_id: json::string(search_id, "search_id")?.map(Into::into),
        })
    }

    /// The one written form.
    pub fn write(&self) -> Vec<u8> {
        ObjectWriter::new(self.payload.len() / 3 * 4 + 256)
            .string("from_app", &self.from_app)
            .number("datatype", self.datatype.code().into())
            .string("user", &self.user)
            .strings("groups", &self.groups)
            .number("method", 0)
            .bytes("payload", &self.payload)
            .optional_string("search_id", self.search_id.as_deref())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Envelope, WireError> {
        Envelope::read(text.as_bytes(), &ReadLimits::default())
    }

    #[test]
    fn aliases_names_and_plain_payloads_are_read() {
        let wanted = read(r#"{"from_app":"a","datatype":9,"user":"u","groups":["g"],"method":3,"payload":"e30="}"#);
        for text in [
            r#"{"FromApp":"a","Datatype":"9","User":"u","Groups":["g"],"Method":3,"Payload":{}}"#,
            r#"{"fromapp":"a","data_type":"peer","USER":"u","groups":["g"],"payload":{},"more":[{}]}"#,
            r#" {"Fr\u006fm_App":"\u0061","DataType":9,"user":"u","groups":["g"],"payload":"e30="} "#,
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn nil_and_missing_are_empty() {
        let empty = read("{}").unwrap();
        assert_eq!(
            read(r#"{"groups":null,"user":null,"payload":null,"datatype":0,"search_id":null}"#).unwrap(),
            empty
        );
        assert_eq!(empty.datatype, DataType::Invalid);
        assert!(empty.payload.is_empty() && empty.groups.is_empty() && empty.search_id.is_none());
    }

    #[test]
    fn refusals_have_their_rule() {
        let long = format!(r#"{{"user":"{}"}}"#, "u".repeat(1025));
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(64), "]".repeat(64));
        for (text, rule) in [
            ("", "not_json"),
            ("{", "not_json"),
            ("{}{}", "not_json"),
            ("[]", "wrong_type"),
            (r#"{"from_app":"a","FromApp":"a"}"#, "duplicate_key"),
            (r#"{"user":1}"#, "wrong_type"),
            (&format!(r#"{{"user":"{}"}}"#, "u".repeat(TEXT_MAX + 1)), "too_large"),
            (r#"{"groups":"g"}"#, "wrong_type"),
            (r#"{"datatype":true}"#, "wrong_type"),
            (r#"{"datatype":17}"#, "unknown_datatype"),
            (r#"{"datatype":-1}"#, "unknown_datatype"),
            (r#"{"datatype":1.0}"#, "unknown_datatype"),
            (r#"{"datatype":"Peer"}"#, "unknown_datatype"),
            (r#"{"user":"\ud800"}"#, "wrong_type"),
            (&deep, "too_deep"),
            (&long, "too_large"),
        ] {
            assert_eq!(read(text).map_err(|error| error.rule()), Err(rule), "{text}");
        }
        let limits = ReadLimits {
            message_bytes: 3,
            depth: 64,
        };
        assert_eq!(
            Envelope::read(b"{  }", &limits).map_err(|error| error.rule()),
            Err("too_large")
        );
        assert_eq!(
            Envelope::read(b"{\"user\":\"\xff\"}", &ReadLimits::default()).map_err(|error| error.rule()),
            Err("bad_utf8")
        );
    }
}
