//! A link between two peers that is slower than this machine's own, and can be stalled and cut.
//!
//! What is dialled through it goes to its other end at so many bytes a second one way, and as fast as it can the other.

use crate::wait::until;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Pieces given on in a second.
const PIECES: usize = 50;

/// The link; it ends, and all connections through it, when dropped.
pub struct SlowLink {
    port: u16,
    task: JoinHandle<()>,
    state: watch::Sender<State>,
    dialled: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    stalled: bool,
    /// How often it was cut.
    cuts: u32,
}

impl SlowLink {
    /// A link to what listens on `to` of this machine; `rate` is in bytes a second, from the dialler to `to`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn new(to: u16, rate: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (state, told) = watch::channel(State::default());
        let dialled = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&dialled);
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                seen.store(true, Ordering::Relaxed);
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else {
                    continue;
                };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                open.spawn(carry(near_in, far_out, Some(rate), told.clone()));
                open.spawn(carry(far_in, near_out, None, told.clone()));
            }
        });
        Self {
            port,
            task,
            state,
            dialled,
        }
    }

    /// Waits until somebody has dialled it, whether or not anything goes through.
    ///
    /// # Panics
    /// When nobody does.
    pub async fn wait_dialled(&self) {
        let dialled = || std::future::ready(self.dialled.load(Ordering::Relaxed).then_some(()));
        until("the link to be dialled", dialled).await;
    }

    /// Nothing goes through any more, either way, and nobody is told; or all goes on.
    pub fn stall(&self, stalled: bool) {
        self.state.send_modify(|state| state.stalled = stalled);
    }

    /// Every connection through it ends; new ones may be made.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Where to dial it, as a multiaddr.
    pub fn address(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}", self.port)
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, rate: Option<usize>, mut told: watch::Receiver<State>) {
    let mut piece = vec![0; rate.map_or(64 * 1024, |rate| rate / PIECES)];
    let mut pace = tokio::time::interval(Duration::from_secs(1) / PIECES as u32);
    let born = told.borrow().cuts;
    loop {
        let read = tokio::select! {
            cut = told.wait_for(|state| state.cuts > born) => {
                let _ = cut;
                return;
            }
            read = from.read(&mut piece) => read.unwrap_or_default(),
        };
        if told
            .wait_for(|state| !state.stalled || state.cuts > born)
            .await
            .is_err()
        {
            return;
        }
        if read == 0 || to.write_all(&piece[..read]).await.is_err() {
            return;
        }
        if rate.is_some() {
            pace.tick().await;
        }
    }
}
