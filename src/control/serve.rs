//! The daemon's side of the socket.
//!
//! Owns the socket's file, and how many may be connected, how long a request may be and how long it may take to come.

use super::verbs::Answering;
use super::{Verbs, fits, socket_of};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Connections at a time; a further one waits in the system's queue until one ends.
const CONNECTIONS: usize = 8;
/// Those that wait there.
const BACKLOG: i32 = 16;
/// Of a request: a path and a name are all that is long in one.
const REQUEST_BYTES: u64 = 16 * 1024;
/// How long a request may take to come, and an answer to be taken.
const TALK_TIME: Duration = Duration::from_secs(10);
/// Requests of one connection, so that none holds its place for ever.
const REQUESTS: usize = 64;
/// Pause after a failed accept, which is most often a want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The system takes no such path.
    #[error(
        "{} is too long for a unix socket ({} bytes are the most): `outbox`, `peer` and `backup` cannot reach this daemon; \
         choose a shorter state_dir", path.display(), super::PATH_BYTES
    )]
    TooLong {
        /// The socket.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("{} cannot be made: {source}", path.display())]
    Make {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The open door; dropping it closes it and removes its file.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Control {
    /// Listens in `state_dir`, which the caller has locked: a socket that is there is one of a daemon that died.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn open(state_dir: &Path, verbs: Verbs) -> Result<Self, ControlError> {
        let path = socket_of(state_dir);
        if !fits(&path) {
            return Err(ControlError::TooLong { path });
        }
        let listener = made(&path).map_err(|source| ControlError::Make {
            path: path.clone(),
            source,
        })?;
        let task = tokio::spawn(serve(listener, Arc::new(verbs)));
        Ok(Self { path, task })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

fn made(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Before it listens, so that there is no moment in which others could connect.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listen(&socket, BACKLOG)?;
    UnixListener::from_std(StdListener::from(socket))
}

async fn serve(listener: UnixListener, verbs: Arc<Verbs>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let verbs = Arc::clone(&verbs);
                tokio::spawn(async move {
                    if let Err(error) = talk(stream, &verbs).await {
                        tracing::debug!(%error, "a talk with an operator ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection of an operator could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn talk(mut stream: UnixStream, verbs: &Verbs) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading);
    for _ in 0..REQUESTS {
        let mut line = Vec::new();
        let mut bounded = (&mut reading).take(REQUEST_BYTES);
        let read = timeout(TALK_TIME, bounded.read_until(b'\n', &mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        if !whole {
            return write(&mut writing, Verbs::cut_short()).await;
        }
        match verbs.answer(&line).await {
            Answering::One(answer) => write(&mut writing, answer).await?,
            // Dropping the lines ends what makes them.
            Answering::Many(mut lines) => loop {
                tokio::select! {
                    line = lines.recv() => match line {
                        Some(line) => write(&mut writing, line).await?,
                        None => break,
                    },
                    // Whoever has asked something else by then is answered behind the last line.
                    left = has_left(&mut reading), if reading.buffer().is_empty() => if left? {
                        return Ok(());
                    },
                }
            },
        }
    }
    Ok(())
}

async fn write(writing: &mut WriteHalf<'_>, mut line: Vec<u8>) -> io::Result<()> {
    line.push(b'\n');
    timeout(TALK_TIME, writing.write_all(&line)).await?
}

async fn has_left(reading: &mut BufReader<ReadHalf<'_>>) -> io::Result<bool> {
    reading.fill_buf().await.map(<[u8]>::is_empty)
}
