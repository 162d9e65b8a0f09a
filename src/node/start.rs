//! Starts the daemon's parts in their order, and ends them in the other.
//!
//! Owns that order and the daemon's own peer document. Always: nothing is taken from NATS before our DID is known (a
//! made-up one would silently send nothing), and at the end what was taken is finished before the connections close.

mod documents;
mod levels;
mod own_did;
mod wiring;

use self::documents::open_store;
use self::levels::{tell_intake, tell_network};
use super::Node;
use super::registry::Registry;
use super::search::SearchDesk;
use super::strangers::Strangers;
use super::wishes::Search;
use crate::bus::{self, Bus, IntakeState, Lease};
use crate::delivery::{Delivery, JournalError, Log};
use crate::discovery::{self, Discovery};
use crate::identity::Identity;
use crate::model::Federation;
use crate::network::{self, Network, Offered, Started, Stranger};
use crate::pubsub::PubSubService;
use crate::settings::{Settings, UnknownPeers, Writes};
use crate::store::{Store, StoreError};
use crate::stream::{self, Upward};
use crate::telemetry::{Metrics, Readiness, Refusals, Sides};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The journal's file in `state_dir`.
const JOURNAL: &str = "journal.db";
/// What the network may need to put the last written bytes on the wire.
const LINGER: Duration = Duration::from_millis(50);
/// How long peers that are written to directly may take for what they have been promised; one that reads nothing now may do so
/// for hours.
const DRAIN: Duration = Duration::from_secs(3);

/// What the daemon is started with.
pub struct NodeParts {
    /// The settings, to watch.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Key and PSK.
    pub identity: Identity,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to tell what is up.
    pub readiness: Readiness,
    /// Where to refuse.
    pub refusals: Refusals,
    /// Where those who ask find the running parts, from the moment in which our DID is known.
    pub up: watch::Sender<Option<Up>>,
    /// Cancelled when the daemon must finish what it has in hand and end.
    pub shutdown: CancellationToken,
}

/// The parts of a running daemon that people ask about, and ask of.
#[derive(Clone)]
pub struct Up {
    /// Our DID.
    pub did: String,
    /// What each partner has.
    pub delivery: Delivery,
    /// The documents.
    pub store: Arc<dyn Store>,
    /// How messages are taken from NATS.
    pub intake: watch::Receiver<IntakeState>,
    /// Who is who.
    pub federation: watch::Receiver<Arc<Federation>>,
    /// Connections.
    pub network: Network,
    /// Who is known from the network.
    pub discovery: Discovery,
    /// To change who is who.
    pub registry: Registry,
    /// To search what others have.
    pub search: Search,
}

/// What the daemon cannot start or go on with.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The store cannot be opened.
    #[error("store.url: {0}")]
    Store(#[from] StoreError),
    /// The journal cannot be opened.
    #[error("state_dir: {0}")]
    Journal(#[from] JournalError),
    /// NATS settings that cannot be used.
    #[error(transparent)]
    Nats(#[from] bus::ConnectError),
    /// The network cannot be started.
    #[error(transparent)]
    Network(#[from] network::StartError),
    /// A part of the daemon ended that never does.
    #[error("{0} ended although nobody told it to; see the log above")]
    Broke(&'static str),
    /// Another daemon answers for our DID.
    #[error(transparent)]
    Lease(#[from] bus::LeaseError),
}

/// The checks that make the daemon ready, in the order in which they are shown.
pub const CHECKS: [&str; 8] = [
    "store",
    "store_writes",
    "journal",
    "disk",
    "nats",
    "network",
    "identity",
    "listener",
];

/// Starts everything; returns once the daemon listens to others, while NATS may still be away.
///
/// # Errors
/// See [`NodeError`]: whatever an operator has to mend before a start can succeed.
pub async fn start(parts: NodeParts) -> Result<JoinHandle<Result<(), NodeError>>, NodeError> {
    let settings = Arc::clone(&parts.settings.borrow());
    let store = open_store(&settings, &parts).await?;
    let file = settings.state_dir.join(JOURNAL);
    let log = tokio::task::spawn_blocking(move || Log::open(&file))
        .await
        .unwrap_or(Err(JournalError::Closed))?;
    let journal = Sides::new(parts.readiness.clone(), "journal");
    let store_writes = Sides::new(parts.readiness.clone(), "store_writes");
    let bus = bus::connect(&settings.nats, &settings.limits, parts.metrics.clone()).await?;
    let (mut doors, incoming) = stream::inbox();
    let (record_doors, records) = discovery::inbox(settings.discovery.role);
    doors.extend(record_doors);
    // Ends after `shutdown`, when what was in hand is finished.
    let end = CancellationToken::new();
    let config = wiring::network_config(&settings, &parts, doors);
    let Started {
        network,
        gossip,
        strangers,
        offered,
    } = network::start(config, end.clone()).await?;
    tokio::spawn(tell_network(network.listening(), parts.readiness.clone()));
    info!(peer_id = %network.local(), listening = ?*network.listening().borrow(), "network is up");
    let daemon = Daemon {
        parts,
        settings,
        store,
        store_writes,
        log,
        journal,
        bus,
        network,
        end,
    };
    let heard = Heard {
        gossip,
        strangers,
        incoming,
        records,
        offered,
    };
    Ok(tokio::spawn(daemon.run(heard)))
}

/// What comes from other daemons.
struct Heard {
    gossip: mpsc::Receiver<network::Gossip>,
    strangers: mpsc::Receiver<Stranger>,
    incoming: mpsc::Receiver<network::Incoming>,
    /// Streams of the record protocols, when we are an indexer.
    records: mpsc::Receiver<network::Incoming>,
    offered: mpsc::Receiver<Offered>,
}

struct Daemon {
    parts: NodeParts,
    settings: Arc<Settings>,
    store: Arc<dyn Store>,
    /// The check of the store: whether it takes what is written.
    store_writes: Sides,
    log: Log,
    /// The check of the journal: whether it takes what is written.
    journal: Sides,
    bus: Bus,
    network: Network,
    end: CancellationToken,
}

impl Daemon {
    async fn run(self, heard: Heard) -> Result<(), NodeError> {
        let shutdown = self.parts.shutdown.clone();
        let (bus, readiness, end) = (self.bus.clone(), self.parts.readiness.clone(), self.end.clone());
        tokio::spawn(async move { end.run_until_cancelled(bus.tell_state(readiness)).await });
        let outcome = match self.wait_for_did().await {
            Some(did) => self.serve(did, heard).await,
            None => Ok(()),
        };
        if let Err(error) = &outcome {
            warn!(%error, "the daemon cannot go on");
        }
        shutdown.cancel();
        self.end.cancel();
        outcome
    }

    async fn serve(&self, did: String, heard: Heard) -> Result<(), NodeError> {
        let Heard {
            gossip,
            strangers: asked,
            incoming,
            records,
            offered,
        } = heard;
        let (parts, end) = (&self.parts, &self.end);
        let bus = self.bus.clone().marked_as(&did);
        let lease = Lease::new(&did, parts.identity.keypair.clone());
        // Before partners and indexers hear of us: they would take us for the other one, moved.
        lease.ask(&bus).await?;
        let (federation, seen) = watch::channel(Arc::new(Federation::default()));
        let discovery = self.start_discovery(&did, seen.clone(), records, offered).await?;
        let (streams, upward) = self.streams(&did, seen.clone(), discovery.clone());
        let registry = tokio::select! {
            () = parts.shutdown.cancelled() => return Ok(()),
            registry = self.start_registry(&did, federation, &discovery, &streams) => registry?,
        };
        let strangers = Strangers {
            store: Arc::clone(&self.store),
            registry: registry.clone(),
            discovery: discovery.clone(),
            refuses: self.settings.discovery.unknown_peers == UnknownPeers::Refuse,
            federation: seen.clone(),
        };
        tokio::spawn(strangers.run(asked, end.clone()));
        streams.take_streams(incoming);
        let Upward {
            events,
            search,
            delivery: sessions,
        } = upward;
        let no_more = CancellationToken::new();
        let delivery = self.start_delivery(&did, &streams, &seen, &bus, sessions).await?;
        let inbound = self.inbound(&seen, delivery.committer(), &bus);
        let mut inbound = tokio::spawn(inbound.run(events, no_more.clone()));
        let pubsub = PubSubService::new(self.network.clone(), &did, parts.identity.keypair.clone());
        tokio::spawn(
            pubsub
                .clone()
                .subscribe_events(self.listening(gossip, &seen, &streams, &discovery), end.clone()),
        );
        let desk = SearchDesk {
            bus: bus.clone(),
            store: Arc::clone(&self.store),
            discovery: discovery.clone(),
            streams: streams.clone(),
            pubsub,
            federation: seen.clone(),
            settings: parts.settings.clone(),
            metrics: parts.metrics.clone(),
            refusals: parts.refusals.clone(),
        };
        let (searches, search, desk) = desk.start(search, end.clone());
        let (asked_of, registry_of_up, discovery_of_end) = (seen.clone(), registry.clone(), discovery.clone());
        let node = Node {
            own_did: did.clone(),
            store: Arc::clone(&self.store),
            writes_store: self.settings.store.writes == Writes::Daemon,
            streams: streams.clone(),
            registry,
            searches,
            federation: seen,
            settings: parts.settings.clone(),
            delivery: delivery.clone(),
            intake: delivery.intake(),
            stopping: parts.shutdown.clone(),
            store_writes: self.store_writes.clone(),
            log: self.log.clone(),
            under_way: None,
            bus: bus.clone(),
            give_up: end.clone(),
            metrics: parts.metrics.clone(),
            refusals: parts.refusals.clone(),
        };
        let (taken, intake) = self.listen(&bus).await?;
        parts.up.send_replace(Some(Up {
            did: did.clone(),
            delivery: delivery.clone(),
            store: Arc::clone(&self.store),
            intake: intake.clone(),
            federation: asked_of,
            network: self.network.clone(),
            discovery,
            registry: registry_of_up,
            search,
        }));
        tokio::spawn(tell_intake(intake.clone(), parts.readiness.clone()));
        delivery.follow(intake);
        let mut listening = tokio::spawn(node.listen_nats(taken));
        let lease = lease.hold(bus.clone(), parts.refusals.clone(), parts.shutdown.clone());
        let outcome = tokio::select! {
            // First: a shutdown ends the others, too.
            biased;
            () = parts.shutdown.cancelled() => Ok(()),
            outcome = lease => outcome.map_err(NodeError::from),
            // Neither ends before the shutdown: a daemon that is ready and deaf would be worse than none.
            _ = &mut listening => Err(NodeError::Broke("the listener to NATS")),
            _ = &mut inbound => Err(NodeError::Broke("the handler of partners' events")),
        };
        parts.shutdown.cancel();
        // In hand: what was taken from NATS, then, side by side, what waits for peers and what peers have sent.
        finished(listening).await;
        finished(desk).await;
        let received = async {
            streams.stop_reading().await;
            no_more.cancel();
            finished(inbound).await;
            delivery.finish().await;
            let _ = bus.flush().await;
        };
        let drained = tokio::time::timeout(DRAIN, streams.drain());
        let (drained, ()) = tokio::join!(drained, received);
        if drained.is_err() {
            info!("some peers took nothing any more; what is journaled for them waits for the next life");
        }
        parts.up.send_replace(None);
        discovery_of_end.keep_for_next_life().await;
        tokio::time::sleep(LINGER).await;
        end.cancel();
        if let Err(error) = self.log.close().await {
            warn!(%error, "the journal was not closed in order; nothing is lost by it");
        }
        info!("everything in hand is finished");
        outcome
    }
}

/// Waits for a task, also when it has ended, or panicked, before.
async fn finished<T>(task: JoinHandle<T>) {
    if !task.is_finished() {
        let _ = task.await;
    }
}
