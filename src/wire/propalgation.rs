//! What an app wants told to other peers: the payload of a `propalgation_event` (spelled so on the wire).

use bytes::Bytes;

use super::apart::{Apart, Check, Payload};
use super::datatype::DataType;
use super::error::WireError;
use super::json::{self, ReadLimits};
use super::names::Action;
use super::write::ObjectWriter;

const NAMES: [&str; 3] = ["datatype", "action", "payload"];

/// An action on a document of some kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropalgationMessage {
    /// The kind; [`DataType::Invalid`] leaves it to the envelope.
    pub datatype: DataType,
    /// What to do.
    pub action: Action,
    /// JSON, as it was inside; empty when there was none.
    pub payload: Bytes,
}

impl PropalgationMessage {
    /// Reads the payload of an envelope. Whether a large payload of it is JSON finds out whoever reads that.
    ///
    /// # Errors
    /// As for an envelope; also a missing or unknown action.
    pub fn read(bytes: &[u8], limits: &ReadLimits) -> Result<Self, WireError> {
        let Apart { rest, payload: apart } = Apart::of(bytes, limits, Check::Later)?;
        let [datatype, action, payload] = json::object(limits.check(&rest)?, &NAMES)?;
        Ok(Self {
            datatype: json::datatype(datatype)?,
            action: json::action(action, "action")?,
            payload: Payload::or_of(apart, payload, limits)?,
        })
    }

    /// The one written form.
    pub fn write(&self) -> Vec<u8> {
        ObjectWriter::new(self.payload.len() / 3 * 4 + 64)
            .number("datatype", self.datatype.code().into())
            .number("action", self.action.code().into())
            .bytes("payload", &self.payload)
            .finish()
    }

    /// The kind that counts when the envelope says one too: the inner one, unless it says nothing.
    pub fn effective_datatype(&self, envelope: DataType) -> DataType {
        if self.datatype == DataType::Invalid {
            envelope
        } else {
            self.datatype
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PropalgationMessage, WireError> {
        PropalgationMessage::read(text.as_bytes(), &ReadLimits::default())
    }

    #[test]
    fn actions_are_read_by_number_and_name() {
        for text in [r#"4"#, r#""4""#, r#""delete""#, r#""PB_DELETE""#, r#""PB_delete""#] {
            assert_eq!(
                read(&format!("{{\"Action\":{text}}}")).unwrap().action,
                Action::Delete,
                "{text}"
            );
        }
        for (text, rule) in [
            ("{}", "missing"),
            (r#"{"action":9}"#, "unknown_action"),
            (r#"{"action":[]}"#, "wrong_type"),
        ] {
            assert_eq!(read(text).map_err(|error| error.rule()), Err(rule), "{text}");
        }
    }

    #[test]
    fn the_inner_datatype_wins_unless_zero() {
        let silent = read(r#"{"action":2}"#).unwrap();
        assert_eq!(silent.effective_datatype(DataType::Peer), DataType::Peer);
        let own = read(r#"{"action":2,"datatype":"data_resource"}"#).unwrap();
        assert_eq!(own.effective_datatype(DataType::Peer), DataType::DataResource);
    }
}
