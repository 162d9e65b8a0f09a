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

/// Whether the server ended it because its time was up.
pub(super) fn is_time(error: &Error) -> bool {
    code(error).is_some_and(|code| TIME.contains(&code))
}

/// What it means for whoever runs the daemon; `store`: the address without user-info.
pub(super) fn told(store: &str, error: &Error) -> StoreError {
    let store = store.to_owned();
    let mut why = words(error.kind.as_ref());
    if let Some((cut, _)) = why.char_indices().nth(WORDS) {
        why.truncate(cut);
        why.push_str(" ...");
    }
    let refused = code(error).is_some_and(|code| RIGHTS.contains(&code));
    match error.kind.as_ref() {
        ErrorKind::Authentication { .. } | ErrorKind::InvalidTlsConfig { .. } => StoreError::NotLetIn { store, why },
        ErrorKind::InvalidArgument { .. } | ErrorKind::IncompatibleServer { .. } => StoreError::Database { store, why },
        _ if refused => StoreError::NotLetIn { store, why },
        ErrorKind::Command(_) | ErrorKind::Write(_) if !is_passing(error) => StoreError::Database { store, why },
        _ => StoreError::Away { store, why },
    }
}

/// What the driver says, without how it says it: it prints its own structures.
fn words(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::ServerSelection { message, .. } => servers(message),
        ErrorKind::Command(command) if !command.message.is_empty() => {
            format!("{} (code {})", command.message, command.code)
        }
        ErrorKind::Write(WriteFailure::WriteError(error)) => error.message.clone(),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => error.message.clone(),
        ErrorKind::Io(error) => error.to_string(),
        other => other.to_string(),
    }
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
}
