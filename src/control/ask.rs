//! The asking side of the socket, for the command line. Blocks.

use super::{Answer, Refused, Request, fits, socket_of};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

/// Of an answer: a thousand parked changes are below one MiB.
const ANSWER_BYTES: u64 = 16 * 1024 * 1024;
/// How long an answer may take.
const WAIT: Duration = Duration::from_secs(60);
/// The same of a backup, which copies whole files.
const WAIT_BACKUP: Duration = Duration::from_secs(6 * 3600);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no daemon runs on {}: nobody listens on its {}; start it with `oc-discovery run`", state_dir.display(), super::SOCKET)]
    NoDaemon {
        /// Whose socket.
        state_dir: PathBuf,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to another user: ask as the user that the daemon runs as", socket.display())]
    NotOurs {
        /// The socket.
        socket: PathBuf,
    },
    /// The system takes no such path, so that no daemon can listen there.
    #[error("{} is too long for a unix socket ({} bytes are the most): choose a shorter state_dir", socket.display(), super::PATH_BYTES)]
    TooLong {
        /// The socket.
        socket: PathBuf,
    },
    /// The talk broke.
    #[error("the daemon that listens on {} does not answer: {source}", socket.display())]
    Broke {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer is none.
    #[error("the answer of the daemon cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The daemon says no.
    #[error("{0}")]
    Refused(String),
}

/// Asks the daemon of `state_dir`.
///
/// # Errors
/// See [`AskError`].
pub fn ask<T: DeserializeOwned>(state_dir: &Path, request: &Request) -> Result<T, AskError> {
    let socket = socket_of(state_dir);
    if !fits(&socket) {
        return Err(AskError::TooLong { socket });
    }
    let stream = UnixStream::connect(&socket).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NoDaemon {
            state_dir: state_dir.to_owned(),
        },
        io::ErrorKind::PermissionDenied => AskError::NotOurs { socket: socket.clone() },
        _ => AskError::Broke {
            socket: socket.clone(),
            source,
        },
    })?;
    let wait = match request {
        Request::Backup { .. } => WAIT_BACKUP,
        _ => WAIT,
    };
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let answer = exchange(&stream, &line, wait).map_err(|source| AskError::Broke { socket, source })?;
    match serde_json::from_slice(&answer)? {
        Answer::Ok(value) => Ok(serde_json::from_value(value)?),
        Answer::Error(Refused { text, .. }) => Err(AskError::Refused(text)),
    }
}

fn exchange(mut stream: &UnixStream, line: &[u8], wait: Duration) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(wait))?;
    stream.write_all(line)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(ANSWER_BYTES)).read_until(b'\n', &mut answer)?;
    if answer.ends_with(b"\n") {
        Ok(answer)
    } else {
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it ended in the middle of its answer",
        ))
    }
}
