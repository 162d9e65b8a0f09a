//! Finding each other: indexers that keep signed records, and the DHT.
//!
//! Owns what is known of peers from the network, and the indexers that are kept. Never grants anything: a record proves who
//! holds a key and says where it listens, nothing more. Always: what comes from outside is verified before it is used, every
//! question ends within a bound, and without indexers, or without any network, everything else goes on.

mod asking;
mod book;
mod cache;
mod choice;
mod client;
mod dht;
mod indexer;
mod invite;
mod keep;
mod lookup;
mod own;
mod rules;
mod shelf;
#[cfg(test)]
mod simulation;

pub use book::{Book, Bounds};
pub use cache::{Conflict, Found};
pub use choice::Shown;
pub use invite::{read_invite, write_invite};
pub use lookup::Depth;
pub use own::{Own, Says};
pub use rules::{Verified, millis};

use crate::model::{Federation, TokenBucket};
use crate::network::{ConnectError, Inbox, Incoming, Network, Offered, StreamProtocol};
use crate::settings::{Role, Settings};
use crate::telemetry::{Metrics, Refusals};
use crate::wire::{PeerRecord, protocol};
use cache::Cache;
use choice::{Choice, Lost, OF_A_NODE, OF_AN_INDEXER};
use libp2p::{Multiaddr, PeerId};
use own::Ours;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Streams of the record protocols waiting to be looked at. A stream that finds it full is reset and counted.
const INBOX: usize = 1024;
/// Look-ups at once. A further one gets what is known already, and is counted.
const LOOK_UPS: usize = 256;

/// Questions a second that an indexer passes on, and how many may come at once: below what another takes of one peer, so that
/// nobody can make us ask so much that we are let go there.
const PASSED_ON: (f64, f64) = (200.0, 1000.0);

/// Protocols that an indexer serves.
const SERVED: [&str; 3] = [protocol::HEARTBEAT, protocol::RECORD_GET, protocol::RECORD_PUBLISH];

/// The inbox to give to the network, and its other end. A node that is no indexer serves none of these protocols, so that others
/// learn at once that it is none.
#[must_use]
pub fn inbox(role: Role) -> (Vec<(StreamProtocol, Inbox)>, mpsc::Receiver<Incoming>) {
    let (inbox, incoming) = mpsc::channel(INBOX);
    let served = if role == Role::Indexer { SERVED.as_slice() } else { &[] };
    let doors = served.iter().map(|name| (StreamProtocol::new(name), inbox.clone()));
    (doors.collect(), incoming)
}

/// What the service is started with.
pub struct Parts {
    /// Who we are.
    pub own: Own,
    /// What our own peer document says now.
    pub says: Says,
    /// Connections.
    pub network: Network,
    /// Who is who by our store.
    pub federation: watch::Receiver<Arc<Federation>>,
    /// The settings of the start.
    pub settings: Arc<Settings>,
    /// The settings as they are now: `network.announce` may change.
    pub live: watch::Receiver<Arc<Settings>>,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to refuse.
    pub refusals: Refusals,
    /// The end of everything.
    pub shutdown: CancellationToken,
}

/// Cloneable handle; see the module's first lines.
#[derive(Clone)]
pub struct Discovery(Arc<Shared>);

struct Shared {
    parts: Parts,
    is_indexer: bool,
    book: Mutex<Book>,
    cache: Mutex<Cache>,
    choice: Mutex<Choice>,
    /// Something about the choice has changed.
    chosen: Notify,
    /// The sessions with indexers, and why one was told to end.
    sessions: Mutex<HashMap<PeerId, (CancellationToken, Option<Lost>)>>,
    /// One at a time writes what is kept: the last time may come while another is under way.
    keeping: Mutex<()>,
    says: Mutex<Says>,
    ours: watch::Sender<Ours>,
    flights: Mutex<HashMap<lookup::FlightKey, lookup::Flight>>,
    asking: Arc<Semaphore>,
    /// Questions of others that go on to other indexers.
    passed_on: Mutex<TokenBucket>,
}

/// A lock that a panicking holder left behind still guards plain data: take it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Now, in milliseconds since 1970.
fn now() -> u64 {
    millis(SystemTime::now())
}

fn chance() -> f64 {
    rand::Rng::r#gen(&mut rand::thread_rng())
}

impl Discovery {
    /// Starts it, with what an earlier life knew.
    pub async fn start(parts: Parts, incoming: mpsc::Receiver<Incoming>, offered: mpsc::Receiver<Offered>) -> Self {
        let is_indexer = parts.settings.discovery.role == Role::Indexer;
        let discovery = &parts.settings.discovery;
        let bounds = Bounds {
            records: discovery.records,
            of_address: discovery.records_of_address,
        };
        let wanted = if is_indexer { OF_AN_INDEXER } else { OF_A_NODE };
        let choice = Choice::new(wanted, parts.network.local(), &discovery.indexers, Instant::now());
        let service = Self(Arc::new(Shared {
            is_indexer,
            book: Mutex::new(Book::new(bounds)),
            cache: Mutex::default(),
            choice: Mutex::new(choice),
            chosen: Notify::new(),
            sessions: Mutex::default(),
            keeping: Mutex::default(),
            says: Mutex::new(parts.says.clone()),
            ours: watch::Sender::new(Ours::default()),
            flights: Mutex::default(),
            asking: Arc::new(Semaphore::new(LOOK_UPS)),
            passed_on: Mutex::new(TokenBucket::new(PASSED_ON.0, PASSED_ON.1)),
            parts,
        }));
        service.remember().await;
        service.find_own_addresses();
        tokio::spawn(service.clone().watch_own_addresses());
        tokio::spawn(service.clone().keep_indexers());
        if service.0.parts.settings.discovery.dht {
            tokio::spawn(service.clone().speak_to_dht());
        }
        tokio::spawn(service.clone().judge_offered(offered));
        tokio::spawn(service.clone().keep_state());
        if is_indexer {
            tokio::spawn(service.clone().serve(incoming));
        }
        service
    }

    /// Connects to a peer where `addresses` say, and else where a fresh record of it says. Nobody but the holder of its key
    /// answers there, so that no record can lead us to another.
    ///
    /// # Errors
    /// Why it cannot be reached where `addresses` say.
    pub async fn connect(&self, peer: PeerId, addresses: &[Multiaddr]) -> Result<(), ConnectError> {
        let network = &self.0.parts.network;
        let first = match network.connect(peer, addresses).await {
            Err(error @ (ConnectError::NoAddress | ConnectError::Failed(_) | ConnectError::Timeout)) => error,
            other => return other,
        };
        let mut others: Vec<Multiaddr> = Vec::new();
        for found in self.find(&peer.to_string(), Depth::All).await {
            let record = &found.record;
            let new = record.addresses.iter().filter(|address| !addresses.contains(address));
            others.extend(new.filter(|_| record.peer == peer).cloned());
        }
        if others.is_empty() {
            return Err(first);
        }
        network.connect(peer, &others).await?;
        self.0.parts.metrics.found_elsewhere();
        tracing::info!(%peer, "a peer is no longer where its document says: found by its record");
        Ok(())
    }

    /// Whether we are an indexer.
    #[must_use]
    pub fn is_indexer(&self) -> bool {
        self.0.is_indexer
    }

    /// The indexers that are known, kept ones first.
    #[must_use]
    pub fn indexers(&self) -> Vec<Shown> {
        locked(&self.0.choice).shown()
    }

    /// Records kept for others, and how many can be.
    #[must_use]
    pub fn records(&self) -> (usize, usize) {
        let book = locked(&self.0.book);
        (book.len(), book.capacity())
    }

    /// Records kept for others, by name, each with the time at which it came; at most so many.
    #[must_use]
    pub fn kept_records(&self, most: usize) -> Vec<(PeerRecord, u64)> {
        let texts: Vec<_> = {
            let book = locked(&self.0.book);
            let live = book.by_names(now()).take(most);
            live.map(|kept| (Arc::clone(&kept.text), kept.received)).collect()
        };
        let read = texts
            .iter()
            .filter_map(|(text, at)| Some((PeerRecord::read(text).ok()?, *at)));
        read.collect()
    }

    /// What a DID's bearer calls itself, by the last record of it; nobody is asked.
    #[must_use]
    pub fn name_of(&self, did: &str) -> Option<String> {
        let kept = locked(&self.0.book).name_of(did);
        kept.or_else(|| locked(&self.0.cache).name_of(did))
    }

    /// The last record that was refused because its DID is another's.
    #[must_use]
    pub fn conflict(&self, did: &str) -> Option<Conflict> {
        locked(&self.0.cache).conflict(did).cloned()
    }

    /// What is remembered of a peer, however old.
    #[must_use]
    pub fn remembered(&self, peer: &PeerId) -> Option<Found> {
        locked(&self.0.cache).of_peer(peer).cloned()
    }

    /// Our own peer document was read: what it says now is told at once.
    pub fn own_document_says(&self, says: Says) {
        *locked(&self.0.says) = says;
        if self.find_own_addresses() {
            tracing::info!("our own peer document says something else: telling it");
        }
    }

    /// Where we tell others that we listen, to those on the same site and to everybody.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<Multiaddr> {
        self.0.ours.borrow().told_to_all()
    }
}
