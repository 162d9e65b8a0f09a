//! Small payloads that name peers or a document: `peer_ids`, `peer_id`, `id`.

use super::error::WireError;
use super::json;

/// Most peers one consideration may list; more is refused, the sender splits it.
pub const PEER_IDS_MAX: usize = 10_000;
/// Longest id, in bytes. UUIDs, DIDs and peer ids are well below.
pub(super) const ID_MAX: usize = 256;
/// Longest user, and longest id that an app gives its search.
pub(super) const TEXT_MAX: usize = 1024;

/// The DIDs or peer ids of `{peer_ids: [...]}`, empty when it lists none.
///
/// # Errors
/// Not an object, `peer_ids` missing or not a list of strings, more than [`PEER_IDS_MAX`], an id over 256 bytes.
pub fn read_peer_ids(payload: &[u8]) -> Result<Vec<String>, WireError> {
    let [ids] = json::object(json::text(payload)?, &["peerids"])?;
    let ids = json::strings(
        Some(ids.ok_or(WireError::Missing("peer_ids"))?),
        "peer_ids",
        PEER_IDS_MAX,
    )?;
    match ids.iter().map(String::len).max() {
        Some(size) if size > ID_MAX => Err(WireError::TooLarge {
            what: "peer_ids entry",
            size,
            limit: ID_MAX,
        }),
        _ => Ok(ids),
    }
}

/// The DID or peer id of `{peer_id, ...}`.
///
/// # Errors
/// Not an object, `peer_id` missing, not a string or over 256 bytes.
pub fn read_peer_id(payload: &[u8]) -> Result<String, WireError> {
    let [id] = json::object(json::text(payload)?, &["peerid"])?;
    json::at_most(json::needed_string(id, "peer_id")?, "peer_id", ID_MAX)
}

/// The id of `{id, ...}`: of a removed document, or of a search to end.
///
/// # Errors
/// Not an object, `id` missing, not a string or over 256 bytes.
pub fn read_id(payload: &[u8]) -> Result<String, WireError> {
    let [id] = json::object(json::text(payload)?, &["id"])?;
    json::at_most(json::needed_string(id, "id")?, "id", ID_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_peers_are_read_by_alias_and_bounded() {
        for key in ["peer_ids", "PeerIDs", "PeerIds", "peerids"] {
            let payload = format!("{{\"{key}\":[\"a\",\"b\"],\"x\":1}}");
            assert_eq!(read_peer_ids(payload.as_bytes()).unwrap(), ["a", "b"]);
        }
        assert_eq!(read_peer_ids(br#"{"peer_ids":null}"#), Ok(vec![]));
        assert_eq!(read_peer_ids(b"{}"), Err(WireError::Missing("peer_ids")));
        let list = |count: usize| format!("{{\"peer_ids\":{:?}}}", vec!["a"; count]);
        assert_eq!(
            read_peer_ids(list(PEER_IDS_MAX).as_bytes()).unwrap().len(),
            PEER_IDS_MAX
        );
        assert_eq!(
            read_peer_ids(list(PEER_IDS_MAX + 1).as_bytes()).map_err(|e| e.rule()),
            Err("too_large")
        );
        let long = format!("{{\"peer_ids\":[\"{}\"]}}", "a".repeat(257));
        assert_eq!(read_peer_ids(long.as_bytes()).map_err(|e| e.rule()), Err("too_large"));
    }

    #[test]
    fn single_ids_are_needed() {
        assert_eq!(read_peer_id(br#"{"PeerID":"p","more":{}}"#), Ok("p".to_owned()));
        assert_eq!(read_id(br#"{"id":"1"}"#), Ok("1".to_owned()));
        for payload in [r#"{"id":""}"#, r#"{"id":null}"#, "{}"] {
            assert_eq!(read_id(payload.as_bytes()), Err(WireError::Missing("id")));
        }
        assert_eq!(read_id(br#"{"id":7}"#).map_err(|e| e.rule()), Err("wrong_type"));
        assert_eq!(read_id(b"\xff").map_err(|e| e.rule()), Err("bad_utf8"));
    }
}
