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
    let mut why = error.kind.to_string();
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

/// Codes of a server that is stepping down, starting or shutting down.
fn is_passing(error: &Error) -> bool {
    const PASSING: [i32; 13] = [6, 7, 64, 89, 91, 112, 134, 189, 9001, 10107, 11600, 11602, 13435];
    error.contains_label("RetryableWriteError")
        || error.contains_label("TransientTransactionError")
        || code(error).is_some_and(|code| PASSING.contains(&code) || code == 13436 || TIME.contains(&code))
}
