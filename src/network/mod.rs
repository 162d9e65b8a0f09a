//! The libp2p side: one swarm, owned by one actor, behind a cloneable [`Network`] handle.
//!
//! Owns connections: dialling, refusing, closing. Never knows what a stream or a gossip message means, nor who is a
//! partner. Always: every request ends in an answer, and the set of connected peers is published as a level
//! ([`Connected`]), so that a slow reader sees the newest state instead of missing a change.

mod accepting;
mod by_name;
mod connections;
mod dht;
mod dht_store;
pub mod dial;
mod explain;
mod frame;
mod fresh_port;
mod gate;
mod gossip;
mod handler;
mod limits;
mod lines;
mod pending;
mod private;
mod pulse;
mod quarantine;
mod reach;
mod security;
mod source;
mod spelled;
mod spelling;
mod start;
pub mod streams;
mod swarm;
mod transport;
mod verdicts;

pub(crate) use by_name::ByName;
pub use dht::Offered;
pub use gate::Told;
pub use gossip::{Gossip, GossipVerdict, PublishError};
pub use libp2p::swarm::StreamProtocol;
pub use lines::{HalfRead, LineError, LineLimits, Lines, split};
pub use pulse::{Pulse, Stream};
pub use reach::{Reach, reach_of};
pub use source::Source;
pub use start::{Config, StartError, Started, start};
pub use streams::{Inbox, Incoming, OpenError};

use crate::wire::INDEXERS_KEY;
use libp2p::{Multiaddr, PeerId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Commands waiting for the swarm. A full queue makes callers wait: each of them is a task with one thing to do.
const COMMANDS: usize = 256;

/// Longest wait for a stream to be negotiated, one round trip at the least.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Records of the DHT that wait to be judged. Further ones are dropped and counted: they are put again every minute.
const OFFERED: usize = 256;

/// The peers connected now.
pub type Connected = Arc<HashMap<PeerId, Link>>;

/// What is known of a connected peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// It told (by identify) that it takes unsigned events from an authenticated connection.
    pub takes_unsigned: bool,
    /// It told that it takes answers whose document stands as it is.
    pub takes_plain: bool,
    /// Where its first connection comes from, or leads to.
    pub source: Source,
    /// From how far that address can be reached.
    pub reach: Reach,
}

/// Where others see us, by who they are.
pub type SeenAt = HashMap<PeerId, Multiaddr>;

/// What the network would do with a peer now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// It has a connection.
    pub connected: bool,
    /// It is refused both ways.
    pub blocked: bool,
    /// See [`gate::Gate::view`].
    pub gate: &'static str,
}

/// A connected peer that is in nobody's list: it waits in quarantine until somebody says who it is.
#[derive(Debug)]
pub struct Stranger {
    /// The authenticated peer.
    pub peer: PeerId,
    /// Where to say so. Dropped, nobody could tell.
    pub answer: oneshot::Sender<Told>,
}

/// Why a peer could not be connected.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum ConnectError {
    /// There is no address that this host can dial.
    #[error("no address that can be dialled")]
    NoAddress,
    /// The peer is blacklisted.
    #[error("the peer is blacklisted")]
    Blocked,
    /// Nobody knows the peer, and such peers are refused.
    #[error("nobody knows the peer, and discovery.unknown_peers is refuse")]
    Unknown,
    /// Every address failed.
    #[error("{0}")]
    Failed(String),
    /// No answer in time.
    #[error("no connection in time (is it reachable, and the PSK the same on both sides?)")]
    Timeout,
    /// The daemon is shutting down.
    #[error("the network is shut down")]
    Down,
}

/// What the handle asks of the actor.
enum Command {
    Dial {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<(), ConnectError>>,
    },
    Open {
        peer: PeerId,
        protocol: StreamProtocol,
        reply: oneshot::Sender<Result<Stream, OpenError>>,
    },
    Disconnect {
        peer: PeerId,
    },
    Block {
        peers: HashSet<PeerId>,
    },
    Keep {
        peers: HashSet<PeerId>,
    },
    Know {
        peers: HashSet<PeerId>,
        allow_unknown: bool,
    },
    Need {
        peers: HashSet<PeerId>,
    },
    Admit {
        peer: PeerId,
    },
    Tell {
        addresses: Vec<Multiaddr>,
    },
    View {
        peer: PeerId,
        reply: oneshot::Sender<PeerView>,
    },
    Dht(dht::DhtCommand),
    Publish {
        topic: &'static str,
        data: Vec<u8>,
        reply: oneshot::Sender<Result<usize, PublishError>>,
    },
    Judge {
        verdict: GossipVerdict,
    },
}

/// Cloneable handle of the swarm's actor.
#[derive(Clone)]
pub struct Network {
    local: PeerId,
    commands: mpsc::Sender<Command>,
    connected: watch::Receiver<Connected>,
    listening: watch::Receiver<Vec<Multiaddr>>,
    seen_at: watch::Receiver<SeenAt>,
    dial_timeout: Duration,
}

impl Network {
    /// Our own PeerId.
    #[must_use]
    pub fn local(&self) -> PeerId {
        self.local
    }

    /// The connected peers, to watch.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<Connected> {
        self.connected.clone()
    }

    /// The addresses listened on, to watch.
    #[must_use]
    pub fn listening(&self) -> watch::Receiver<Vec<Multiaddr>> {
        self.listening.clone()
    }

    /// Where others see us, to watch.
    #[must_use]
    pub fn seen_at(&self) -> watch::Receiver<SeenAt> {
        self.seen_at.clone()
    }

    /// Where `peer` is connected from; nothing when it is not connected.
    #[must_use]
    pub fn source_of(&self, peer: &PeerId) -> Option<Source> {
        self.connected.borrow().get(peer).map(|link| link.source)
    }

    /// Whether `peer` is connected now.
    #[must_use]
    pub fn is_connected(&self, peer: &PeerId) -> bool {
        self.connected.borrow().contains_key(peer)
    }

    /// Connects to `peer`. Already connected is success; several callers share one dial.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, peer: PeerId, addresses: &[Multiaddr]) -> Result<(), ConnectError> {
        if self.is_connected(&peer) {
            return Ok(());
        }
        let addresses = dial::dialable(addresses, peer);
        if addresses.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let (reply, answer) = oneshot::channel();
        let wish = Command::Dial { peer, addresses, reply };
        let attempt = async {
            self.commands.send(wish).await.map_err(|_| ConnectError::Down)?;
            answer.await.map_err(|_| ConnectError::Down)?
        };
        tokio::time::timeout(self.dial_timeout, attempt)
            .await
            .unwrap_or(Err(ConnectError::Timeout))
    }

    /// Opens a stream on an existing connection.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(&self, peer: PeerId, protocol: &'static str) -> Result<Stream, OpenError> {
        let (reply, answer) = oneshot::channel();
        let wish = Command::Open {
            peer,
            protocol: StreamProtocol::new(protocol),
            reply,
        };
        let attempt = async {
            self.commands.send(wish).await.map_err(|_| OpenError::Gone)?;
            answer.await.map_err(|_| OpenError::Gone)?
        };
        let timed = tokio::time::timeout(OPEN_TIMEOUT, attempt).await;
        timed.unwrap_or_else(|_| Err(OpenError::Failed("no answer in time".into())))
    }

    /// Drops every connection to `peer`.
    pub async fn disconnect(&self, peer: PeerId) {
        let _ = self.commands.send(Command::Disconnect { peer }).await;
    }

    /// Refuses exactly these peers both ways from now on, and drops the connections that they have.
    pub async fn block(&self, peers: HashSet<PeerId>) {
        let _ = self.commands.send(Command::Block { peers }).await;
    }

    /// Keeps the connections of exactly these peers although nothing is open on them.
    pub async fn keep(&self, peers: HashSet<PeerId>) {
        let _ = self.commands.send(Command::Keep { peers }).await;
    }

    /// These are the peers of our store: they are connected whatever others take up, and never wait for a verdict. Before
    /// the first word of it everybody waits. Others may stay only with `allow_unknown`.
    pub async fn know(&self, peers: HashSet<PeerId>, allow_unknown: bool) {
        let _ = self.commands.send(Command::Know { peers, allow_unknown }).await;
    }

    /// These peers are counted on: they never wait for a verdict, and stay where unknown peers are refused.
    pub async fn need(&self, peers: HashSet<PeerId>) {
        let _ = self.commands.send(Command::Need { peers }).await;
    }

    /// A connected peer has shown a record of its own: it waits no longer.
    pub async fn admit(&self, peer: PeerId) {
        let _ = self.commands.send(Command::Admit { peer }).await;
    }

    /// Others are told these addresses of ours, and no others.
    pub async fn tell(&self, addresses: Vec<Multiaddr>) {
        let _ = self.commands.send(Command::Tell { addresses }).await;
    }

    /// What the network would do with `peer` now; nothing when it is shutting down.
    pub async fn view(&self, peer: PeerId) -> Option<PeerView> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::View { peer, reply }).await.ok()?;
        answer.await.ok()
    }

    async fn tell_dht(&self, command: dht::DhtCommand) {
        let _ = self.commands.send(Command::Dht(command)).await;
    }

    /// Publishes on a gossip topic; says to how many subscribed peers it can go.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, topic: &'static str, data: Vec<u8>) -> Result<usize, PublishError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Publish { topic, data, reply })
            .await
            .map_err(|_| PublishError::Down)?;
        answer.await.map_err(|_| PublishError::Down)?
    }

    /// Says whether a gossip message may travel on.
    pub async fn judge(&self, verdict: GossipVerdict) {
        let _ = self.commands.send(Command::Judge { verdict }).await;
    }
}
