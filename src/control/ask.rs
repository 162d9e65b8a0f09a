//! The asking side of the socket, for the command line. Blocks.

use super::{Answer, BAD_REQUEST, Refused, Request, fits, socket_of};
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
    #[error("no daemon runs on {}: nobody listens on its {}; start it with `oc-discovery run`, or name its settings with --config", state_dir.display(), super::SOCKET)]
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
    /// The daemon says that nothing of the kind can be asked.
    #[error("{0}")]
    Wrong(String),
}

/// Asks the daemon of `state_dir`.
///
/// # Errors
/// See [`AskError`].
pub fn ask<T: DeserializeOwned>(state_dir: &Path, request: &Request) -> Result<T, AskError> {
    let wait = match request {
        Request::Backup { .. } => WAIT_BACKUP,
        _ => WAIT,
    };
    let mut talk = Talk::begin(state_dir, request, wait)?;
    talk.answer()
}

/// Asks for what has many answers; `take` says of each whether it was the last.
///
/// # Errors
/// See [`AskError`]; and what `take` returns.
pub fn ask_many<T, E>(
    state_dir: &Path,
    request: &Request,
    wait: Duration,
    mut take: impl FnMut(T) -> Result<bool, E>,
) -> Result<(), E>
where
    T: DeserializeOwned,
    E: From<AskError>,
{
    let mut talk = Talk::begin(state_dir, request, wait)?;
    while !take(talk.answer()?)? {}
    Ok(())
}

/// A request that was sent, and the answers to come.
struct Talk {
    socket: PathBuf,
    answers: BufReader<UnixStream>,
}

impl Talk {
    fn begin(state_dir: &Path, request: &Request, wait: Duration) -> Result<Self, AskError> {
        let socket = socket_of(state_dir);
        if !fits(&socket) {
            return Err(AskError::TooLong { socket });
        }
        let mut stream = UnixStream::connect(&socket).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NoDaemon {
                state_dir: state_dir.to_owned(),
            },
            io::ErrorKind::PermissionDenied => AskError::NotOurs { socket: socket.clone() },
            _ => AskError::Broke {
                socket: socket.clone(),
                source,
            },
        })?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        let sent = stream
            .set_read_timeout(Some(wait))
            .and_then(|()| stream.set_write_timeout(Some(wait)))
            .and_then(|()| stream.write_all(&line));
        match sent {
            Ok(()) => Ok(Self {
                socket,
                answers: BufReader::new(stream),
            }),
            Err(source) => Err(AskError::Broke { socket, source }),
        }
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<T, AskError> {
        let line = self.line().map_err(|source| AskError::Broke {
            socket: self.socket.clone(),
            source,
        })?;
        match serde_json::from_slice(&line)? {
            Answer::Ok(value) => Ok(serde_json::from_value(value)?),
            Answer::Error(Refused { text, code }) if code == BAD_REQUEST => Err(AskError::Wrong(text)),
            Answer::Error(Refused { text, .. }) => Err(AskError::Refused(text)),
        }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        (&mut self.answers).take(ANSWER_BYTES).read_until(b'\n', &mut line)?;
        if line.ends_with(b"\n") {
            Ok(line)
        } else {
            Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it ended in the middle of its answer",
            ))
        }
    }
}
