//! StreamService: every libp2p stream between this daemon and others, by protocol, peer and direction.
//!
//! Owns the open streams and the tasks that read and write them. Never decides what an event means: what it reads goes
//! up as [`Inbound`], what it writes comes from the node. Always: a stream lives no longer than its peer's right to it
//! (revocation and blacklist cancel every task of a peer at once), and no peer can make it hold more than its bounds.

mod answers;
mod events;
mod heartbeat;
mod out_event;
mod pace;
mod partner;
mod probe;
mod questions;
mod shares;
mod strangers;
mod table;
mod writer;

pub use crate::identity::key_of;
pub use crate::network::{LineError, Lines, split};
pub use answers::Asked;
pub use events::{Inbound, may_send};
pub use heartbeat::{Beat, EXPIRY, PERIOD};
pub use out_event::OutEvent;
pub use questions::{AnswerFrom, Answers, SearchLine};
pub use table::{Direction, StreamTable};
pub use writer::Enqueued;

use crate::discovery::{Discovery, Own};
use crate::model::{Federation, Member};
use crate::network::{ConnectError, HalfRead, Inbox, Incoming, Network, StreamProtocol};
use crate::settings::{Limits, Settings};
use crate::telemetry::{Metrics, Refusals};
use crate::wire::{Action, DataType, Event, protocol, timestamp};
use bytes::Bytes;
use libp2p::PeerId;
use shares::Shares;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Inbound streams waiting to be looked at, over all protocols. A stream that finds it full is reset and counted.
const INBOX: usize = 1024;
/// Batches of events read and not yet handled; each is at most what one read brought (64 KiB). When it is full the
/// readers wait, and with them the senders: that is the back-pressure from NATS B to NATS A.
const INBOUND: usize = 256;
/// Bytes of events read and not yet handled, of all peers. Readers wait when it is used up.
const INBOUND_BYTES: usize = 64 * 1024 * 1024;
/// Questions, and answers as many as one read brought (64 KiB, or one long line), read and not yet handled. Readers wait when
/// it is full.
const SEARCH_LINES: usize = 32;

/// Delivery streams opened to us and not looked at yet. A further one is reset and counted; its opener comes again.
const DELIVERIES: usize = 256;

/// Questions that wait for an answer or are being answered. Further ones are refused: their askers' time would be up
/// before their turn.
const QUESTIONS: usize = 256;
/// Of the room for half-read lines one peer may have this part, one line at the least.
const SHARES: usize = 8;

/// The actions that have an event protocol of their own.
const EVENT_ACTIONS: [Action; 5] = [
    Action::Create,
    Action::Update,
    Action::Delete,
    Action::Considers,
    Action::Planner,
];

/// Protocols that others may open to us.
const SERVED: [&str; 9] = [
    protocol::DELIVERY,
    protocol::CREATE,
    protocol::UPDATE,
    protocol::DELETE,
    protocol::CONSIDERS,
    protocol::PLANNER,
    protocol::SEARCH,
    protocol::HEARTBEAT_PARTNER,
    protocol::PROBE,
];

/// The inbox to give to the network, and its other end for [`StreamService::take_streams`].
#[must_use]
pub fn inbox() -> (Vec<(StreamProtocol, Inbox)>, mpsc::Receiver<Incoming>) {
    let (inbox, incoming) = mpsc::channel(INBOX);
    let doors = SERVED
        .iter()
        .map(|name| (StreamProtocol::new(name), inbox.clone()))
        .collect();
    (doors, incoming)
}

/// What the service is started with.
pub struct Parts {
    /// Who we are.
    pub own: Own,
    /// Connections.
    pub network: Network,
    /// Where peers are that have moved, and who others are.
    pub discovery: Discovery,
    /// Who is who.
    pub federation: watch::Receiver<Arc<Federation>>,
    /// The settings, to watch.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to refuse.
    pub refusals: Refusals,
    /// The end of everything.
    pub shutdown: CancellationToken,
}

/// What comes up from the streams.
pub struct Upward {
    /// Events of partners and known peers, in order for each stream.
    pub events: mpsc::Receiver<Inbound>,
    /// Questions and answers of searches.
    pub search: mpsc::Receiver<SearchLine>,
    /// Delivery streams that others opened.
    pub delivery: mpsc::Receiver<Incoming>,
}

/// Cloneable handle; see the module's first lines.
#[derive(Clone)]
pub struct StreamService(Arc<Shared>);

struct Shared {
    own: Own,
    network: Network,
    discovery: Discovery,
    federation: watch::Receiver<Arc<Federation>>,
    settings: watch::Receiver<Arc<Settings>>,
    limits: Limits,
    metrics: Metrics,
    refusals: Refusals,
    shutdown: CancellationToken,
    /// Cancelled first when the daemon leaves: nothing more is read from others.
    stop_reading: CancellationToken,
    readers: TaskTracker,
    table: Mutex<StreamTable>,
    writers: Mutex<HashMap<PeerId, writer::Writer>>,
    probes: Mutex<probe::Ledger>,
    paces: Mutex<pace::Paces>,
    half_read: Arc<Semaphore>,
    /// Of it, what each peer may take.
    half_read_of: Shares<PeerId>,
    inbound_room: Arc<Semaphore>,
    /// Running and waiting answers of each asker.
    askers: Shares<String>,
    /// Questions taken and not yet answered, waiting ones included; and of each asker.
    questions: Semaphore,
    /// Those of askers that our store does not name: half, so that they keep no partner out.
    strange_questions: Semaphore,
    waiting: Shares<String>,
    /// Queries that run in our store at once.
    searching: Semaphore,
    /// Whose answers are looked up.
    strangers: strangers::Strangers,
    last_ts: Mutex<SystemTime>,
    events: mpsc::Sender<Inbound>,
    search: mpsc::Sender<SearchLine>,
    delivery: mpsc::Sender<Incoming>,
}

/// A lock that a panicking holder left behind still guards plain data: take it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StreamService {
    /// The service; it takes no stream before [`StreamService::take_streams`].
    #[must_use]
    pub fn new(parts: Parts) -> (Self, Upward) {
        let (events, events_up) = mpsc::channel(INBOUND);
        let (search, search_up) = mpsc::channel(SEARCH_LINES);
        let (delivery, delivery_up) = mpsc::channel(DELIVERIES);
        let limits = parts.settings.borrow().limits.clone();
        let service = Self(Arc::new(Shared {
            own: parts.own,
            network: parts.network,
            discovery: parts.discovery,
            federation: parts.federation,
            // One line must fit, or none would.
            half_read: Arc::new(Semaphore::new(limits.half_read_bytes.max(limits.line_bytes))),
            half_read_of: Shares::new((limits.half_read_bytes / SHARES).max(limits.line_bytes)),
            questions: Semaphore::new(QUESTIONS),
            strange_questions: Semaphore::new(QUESTIONS / 2),
            waiting: Shares::new(answers::PLACES_OF_ONE),
            inbound_room: Arc::new(Semaphore::new(INBOUND_BYTES)),
            askers: Shares::new(answers::TURNS_OF_ONE),
            searching: Semaphore::new(limits.search_concurrency),
            strangers: strangers::Strangers::new(),
            paces: Mutex::new(pace::Paces::new(
                limits.partner_events_per_second,
                limits.partner_events_burst,
            )),
            settings: parts.settings,
            limits,
            stop_reading: parts.shutdown.child_token(),
            readers: TaskTracker::new(),
            metrics: parts.metrics,
            refusals: parts.refusals,
            shutdown: parts.shutdown.clone(),
            table: Mutex::new(StreamTable::default()),
            writers: Mutex::new(HashMap::new()),
            probes: Mutex::new(probe::Ledger::default()),
            last_ts: Mutex::new(SystemTime::UNIX_EPOCH),
            events,
            search,
            delivery,
        }));
        (
            service,
            Upward {
                events: events_up,
                search: search_up,
                delivery: delivery_up,
            },
        )
    }

    /// Takes streams from now on. Before it is known who is whose partner, each would be refused, and what its writer
    /// had written on it already would be lost.
    pub fn take_streams(&self, mut incoming: mpsc::Receiver<Incoming>) {
        let taker = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = taker.0.shutdown.cancelled() => break,
                    stream = incoming.recv() => match stream {
                        Some(stream) => taker.take(stream),
                        None => break,
                    },
                }
            }
        });
    }

    /// One task for each inbound stream, by its protocol.
    fn take(&self, incoming: Incoming) {
        let service = self.clone();
        match incoming.protocol.as_ref() {
            protocol::HEARTBEAT_PARTNER => drop(tokio::spawn(service.handle_partner_heartbeat(incoming))),
            protocol::PROBE => drop(tokio::spawn(service.echo_probe(incoming))),
            protocol::DELIVERY => {
                if self.0.delivery.try_send(incoming).is_err() {
                    self.0.metrics.dropped("stream_inbox", "delivery");
                }
            }
            protocol::SEARCH => drop(tokio::spawn(service.read_search(incoming))),
            name => match EVENT_ACTIONS.into_iter().find(|action| action.protocol() == Some(name)) {
                Some(action) => drop(self.0.readers.spawn(service.read_loop(incoming, action))),
                None => drop(incoming),
            },
        }
    }

    /// The diagrams' `ConnectToPartner`: from now on this partner is dialled whenever it is away, and its heartbeat
    /// stream kept, until [`StreamService::close_peer`].
    pub fn connect_to_partner(&self, partner: Arc<Member>) {
        let stop = self.0.shutdown.child_token();
        if locked(&self.0.table).link_started(&partner.did, stop.clone()) {
            tokio::spawn(self.clone().keep_partner(partner, stop));
        }
    }

    /// Closes and forgets every stream of a peer, in every protocol and direction, and stops dialling it.
    pub fn close_peer(&self, did: &str, peer: Option<PeerId>) {
        let closed = locked(&self.0.table).close_peer(did, peer);
        if let Some(peer) = peer {
            locked(&self.0.writers).remove(&peer);
        }
        self.0.metrics.forget_partner(did);
        tracing::info!(did, streams = closed, "closed every stream of a peer");
    }

    /// Reads nothing more from others; returns when what was read before has gone up.
    pub async fn stop_reading(&self) {
        self.0.stop_reading.cancel();
        self.0.readers.close();
        self.0.readers.wait().await;
    }

    /// Forgets what expired although its task never said so. Called every 30 s.
    pub fn sweep(&self) {
        let now = std::time::Instant::now();
        locked(&self.0.writers).retain(|_, writer| !writer.is_closed());
        let swept = {
            let writers = locked(&self.0.writers);
            let lives = |peer: &PeerId| self.0.network.is_connected(peer) || writers.contains_key(peer);
            locked(&self.0.table).sweep(now, lives)
        };
        if swept > 0 {
            tracing::debug!(swept, "swept expired streams");
        }
        locked(&self.0.probes).sweep(now);
        let federation = self.federation();
        locked(&self.0.paces).sweep(|did| federation.get(did).is_some());
    }

    /// An event of ours. Its time never repeats and never goes back, so that receivers can tell which of two is newer.
    #[must_use]
    pub fn event(&self, action: Action, datatype: DataType, user: &str, payload: Bytes) -> Event {
        let at = {
            let mut last = locked(&self.0.last_ts);
            *last = SystemTime::now().max(*last + Duration::from_nanos(1));
            *last
        };
        Event::new(action, &self.0.own.did, user, datatype, payload, timestamp(at))
    }

    /// Whether a search is open that everybody may answer: without one, strangers' answers are not looked up.
    pub fn strangers_may_answer(&self, wanted: bool) {
        self.0.strangers.are_wanted(wanted);
    }

    /// Ends when `peer` loses its right to have streams.
    #[must_use]
    pub fn right_of(&self, peer: PeerId) -> CancellationToken {
        locked(&self.0.table).stop_of(peer)
    }

    /// Reads a stream of `peer` line by line, within the bounds of all its streams, and of everybody's.
    #[must_use]
    pub fn lines<R: futures::AsyncRead + Unpin>(&self, peer: PeerId, reader: R) -> Lines<R> {
        Lines::new(reader, self.line_limits(), self.half_read(peer))
    }

    /// Connects to a peer where its document says, and else where a fresh record of it says.
    ///
    /// # Errors
    /// Why it cannot be reached where its document says.
    pub async fn connect(&self, peer: PeerId, to: &Member) -> Result<(), ConnectError> {
        self.0.discovery.connect(peer, &to.addresses).await
    }

    fn half_read(&self, peer: PeerId) -> HalfRead {
        HalfRead::share(self.0.half_read_of.of(peer), Arc::clone(&self.0.half_read))
    }

    fn federation(&self) -> Arc<Federation> {
        Arc::clone(&self.0.federation.borrow())
    }

    fn read_limits(&self) -> crate::wire::ReadLimits {
        crate::wire::ReadLimits {
            message_bytes: self.0.limits.line_bytes,
            depth: self.0.limits.depth,
        }
    }
}
