//! The line a partner writes every few seconds to say that it lives.

use super::error::WireError;
use super::json::{self, ReadLimits};
use super::write::ObjectWriter;

const NAMES: [&str; 3] = ["name", "did", "peerid"];

/// Who the sender says it is; the receiver compares it with the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Its name, for people.
    pub name: String,
    /// Its DID.
    pub did: String,
    /// Its libp2p peer id.
    pub peer_id: String,
}

impl Heartbeat {
    /// Reads one line.
    ///
    /// # Errors
    /// Over a limit, not an object of strings, `did` or `peer_id` missing.
    pub fn read_line(line: &[u8], limits: &ReadLimits) -> Result<Self, WireError> {
        let [name, did, peer_id] = json::object(limits.check(line)?, &NAMES)?;
        Ok(Self {
            name: json::string_or_empty(name, "name")?,
            did: json::needed_string(did, "did")?,
            peer_id: json::needed_string(peer_id, "peer_id")?,
        })
    }

    /// The one written form and a newline.
    pub fn write_line(&self) -> Vec<u8> {
        ObjectWriter::new(self.name.len() + self.did.len() + self.peer_id.len() + 48)
            .string("name", &self.name)
            .string("did", &self.did)
            .string("peer_id", &self.peer_id)
            .finish_line()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_read_and_identity_is_needed() {
        let read = |line: &str| Heartbeat::read_line(line.as_bytes(), &ReadLimits::default());
        let beat = Heartbeat {
            name: "n".into(),
            did: "d".into(),
            peer_id: "p".into(),
        };
        assert_eq!(read(r#"{"Name":"n","DID":"d","PeerID":"p","record":{}}"#), Ok(beat));
        assert_eq!(read(r#"{"did":"d"}"#), Err(WireError::Missing("peer_id")));
        assert_eq!(read(r#"{"peer_id":"p"}"#), Err(WireError::Missing("did")));
    }
}
