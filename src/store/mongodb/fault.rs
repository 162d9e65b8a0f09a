//! What an error of the driver means: away for now, refused until somebody mends it, or out of time.
//!
//! Pure. Always: no address is told with its user-info, and the driver's inner debris is cut.

use mongodb::error::{Error, ErrorKind, WriteFailure};

use crate::store::StoreError;

/// A unique key is taken.
const DUPLICATE: [i32; 3] = [11000, 11001, 12582];
/// The server has ended what ran for too long.
const TIME: [i32; 2] = [50, 262];
/// The server does not let us: unauthorized, authentication failed, and such.
const RIGHTS: [i32; 4] = [13, 18, 8000, 31];
/// The server does not keep this document, whatever else happens: invalid names and values (2, 9, 14, 15, 16, 22, 28, 52 to 57, 66),
/// a validator of the apps (121), its size (10334, 17419, 17420), what an index of theirs cannot take (171, 17280, geometry,
/// hashed, text). Any other code may be the server's own trouble, and what it refused is tried again.
const OF_DOCUMENT: [i32; 30] = [
    2, 9, 14, 15, 16, 22, 28, 52, 53, 54, 55, 56, 57, 66, 121, 171, 10334, 13026, 13027, 13065, 13068, 13654, 16755,
    16766, 16804, 17261, 17262, 17280, 17419, 17420,
];
/// Longest text of a driver's error that is kept: it repeats itself for each server.
const WORDS: usize = 300;

/// The server's code.
pub(super) fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        _ => None,
    }
}

/// Whether a document with the same key is there.
pub(super) fn is_duplicate(error: &Error) -> bool {
    code(error).is_some_and(|code| DUPLICATE.contains(&code))
}

/// Whether the document itself is what the server, or the driver before it, does not take.
pub(super) fn is_of_document(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::InvalidArgument { .. } => true,
        // A document too large is no command that can be read.
        ErrorKind::Command(_) => code(error) == Some(10334),
        ErrorKind::Write(WriteFailure::WriteError(error)) => OF_DOCUMENT.contains(&error.code),
        _ => false,
    }
}

/// Whether the server ended it because its time was up.
pub(super) fn is_time(error: &Error) -> bool {
    code(error).is_some_and(|code| TIME.contains(&code))
}

/// What it means for whoever runs the daemon; `store`: the address without user-info.
pub(super) fn told(store: &str, error: &Error) -> StoreError {
    let store = store.to_owned();
    let why = reason(error);
    let refused = code(error).is_some_and(|code| RIGHTS.contains(&code));
    match error.kind.as_ref() {
        ErrorKind::Authentication { .. } | ErrorKind::InvalidTlsConfig { .. } => StoreError::NotLetIn { store, why },
        ErrorKind::InvalidArgument { .. } | ErrorKind::IncompatibleServer { .. } => StoreError::Database { store, why },
        _ if refused => StoreError::NotLetIn { store, why },
        ErrorKind::Command(_) | ErrorKind::Write(_) if !is_passing(error) => StoreError::Database { store, why },
        _ => StoreError::Away { store, why },
    }
}

/// The same in short.
pub(super) fn reason(error: &Error) -> String {
    let mut why = words(error.kind.as_ref());
    if let Some((cut, _)) = why.char_indices().nth(WORDS) {
        why.truncate(cut);
        why.push_str(" ...");
    }
    why
}

/// What the driver says, without how it says it: it prints its own structures.
fn words(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::ServerSelection { message, .. } => servers(message),
        ErrorKind::Command(command) if !command.message.is_empty() => {
            format!("{} (code {})", command.message, command.code)
        }
        ErrorKind::Write(WriteFailure::WriteError(error)) => {
            format!("{} (code {})", unquoting(&error.message), error.code)
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => error.message.clone(),
        ErrorKind::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// What a server says of a document, without what it quotes of it: that is nobody's business in a log.
fn unquoting(message: &str) -> &str {
    let quotes = message.find(['{', '"']).unwrap_or(message.len());
    let plain = message.get(..quotes).unwrap_or_default().trim_end_matches([' ', ':']);
    plain.strip_suffix(" dup key").unwrap_or(plain)
}

/// Which servers were tried and what came of each, out of the driver's picture of them.
fn servers(message: &str) -> String {
    let tried: Vec<String> = message.split("{ Address: ").skip(1).map(server).collect();
    if tried.is_empty() {
        let first = message.split(" Topology: ").next().unwrap_or(message);
        return first.trim_end_matches('.').to_owned();
    }
    let none = if message.contains("None of the available servers") {
        "none of the servers that answer is the one needed"
    } else {
        "no server answers"
    };
    format!("{none} ({})", tried.join("; "))
}

/// One server of that picture: `host:port, Type: Unknown, Error: Kind: I/O error: refused, labels: {}, ...`.
fn server(told: &str) -> String {
    let (address, rest) = told.split_once(", Type: ").unwrap_or((told, ""));
    let error = rest.split_once("Error: Kind: ").map(|(_, error)| error);
    match error {
        Some(error) => {
            let error = error.split(", labels: ").next().unwrap_or(error);
            format!("{address}: {}", error.strip_prefix("I/O error: ").unwrap_or(error))
        }
        // It has no error: it was not asked yet, or is of another kind than is needed.
        None => format!("{address}: {}", rest.split([',', ' ']).next().unwrap_or_default()),
    }
}

/// Codes of a server that is stepping down, starting or shutting down.
fn is_passing(error: &Error) -> bool {
    const PASSING: [i32; 13] = [6, 7, 64, 89, 91, 112, 134, 189, 9001, 10107, 11600, 11602, 13435];
    error.contains_label("RetryableWriteError")
        || error.contains_label("TransientTransactionError")
        || code(error).is_some_and(|code| PASSING.contains(&code) || code == 13436 || TIME.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_knows_of_servers_is_told_in_words() {
        let refused = "Server selection timeout: No available servers. Topology: { Type: Unknown, Servers: [ { Address: \
                       h:1, Type: Unknown, Error: Kind: I/O error: Connection refused (os error 111), labels: {}, source: \
                       None, server response: None }, { Address: i:2, Type: Unknown } ] }";
        assert_eq!(
            servers(refused),
            "no server answers (h:1: Connection refused (os error 111); i:2: Unknown)"
        );
        let secondary = "Server selection timeout: None of the available servers suitable for criteria \
                         ReadPreference(Primary). Topology: { Type: ReplicaSetNoPrimary, Set Name: rs0, Servers: [ { \
                         Address: h:1, Type: RsSecondary, Average RTT: 1ms } ] }";
        assert_eq!(
            servers(secondary),
            "none of the servers that answer is the one needed (h:1: RsSecondary)"
        );
        let other = "Server selection timeout: No available servers. Topology: { Type: Unknown }";
        assert_eq!(servers(other), "Server selection timeout: No available servers");
    }

    #[test]
    fn nothing_is_told_of_what_stands_in_a_document() {
        for (message, wanted) in [
            (
                "E11000 duplicate key error collection: oc.data index: name_1 dup key: { name: \"secret\" }",
                "E11000 duplicate key error collection: oc.data index: name_1",
            ),
            (
                "Can't extract geo keys: { secret: 1 } Point must be",
                "Can't extract geo keys",
            ),
            ("Document failed validation", "Document failed validation"),
            ("", ""),
        ] {
            assert_eq!(unquoting(message), wanted);
        }
    }

    #[test]
    fn what_is_refused_for_good_is_told_from_what_passes() {
        let refused = |code: i32| {
            let document = mongodb::bson::doc! { "code": code, "errmsg": "why" };
            let write = mongodb::bson::deserialize_from_document(document).unwrap();
            Error::from(ErrorKind::Write(WriteFailure::WriteError(write)))
        };
        for (code, wanted) in [
            (121, true),
            (10334, true),
            (17262, true),
            (11000, false),
            (13, false),
            (14031, false),
            (10107, false),
        ] {
            assert_eq!(is_of_document(&refused(code)), wanted, "{code}");
        }
        assert_eq!(reason(&refused(121)), "why (code 121)");
    }
}
