//! The desk beside the partner table: hears of peers, re-reads the store, and puts every change into effect.
//!
//! Owns the table and its I/O, and is the only one to tell the services who is whose partner. Always: when
//! [`Registry::changed`] returns, the change is in effect, however long the store takes; the store is re-read every
//! [`REREAD`], so that a missed event heals, when an event has had its time, and when the store says that it was changed.

mod pins;
mod standing;

use super::mesh::{Mesh, kept};
use super::own_document::tell_key;
use super::partners::{Conflict, PartnerTable, Unseen, member_of};
use crate::delivery::{Log, Pin};
use crate::discovery::{Discovery, Says};
use crate::model::{Federation, Member, Relation};
use crate::network::Network;
use crate::settings::UnknownPeers;
use crate::store::{Peers, Store, StoreError};
use crate::stream::StreamService;
use crate::telemetry::{Metrics, Readiness, Refusals};
use libp2p::PeerId;
use standing::{Standing, wrong_in};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// Pause between two readings of the store.
const REREAD: Duration = Duration::from_secs(30);
/// How often it is looked whether an event has had its time, and whether gossip has connections enough.
const TICK: Duration = Duration::from_secs(5);
/// Peer events waiting. The node waits when it is full: a partner must be in effect before what follows it is sent.
const WAITING: usize = 64;

/// A peer event, answered when it is in effect.
enum Event {
    /// With why the document is not used, when it is not.
    Changed(Box<Member>, oneshot::Sender<Option<Conflict>>),
    Removed(String, oneshot::Sender<()>),
    Found(PeerId, oneshot::Sender<()>),
}

/// Cloneable handle.
#[derive(Clone)]
pub struct Registry {
    events: mpsc::Sender<Event>,
    conflicts: watch::Receiver<Arc<Vec<Conflict>>>,
    discovery: Discovery,
}

/// What the desk works with.
pub struct Parts {
    /// Where peer documents are.
    pub store: Arc<dyn Store>,
    /// Where pins are kept.
    pub log: Log,
    /// To block and keep connections.
    pub network: Network,
    /// To find peers that have moved.
    pub discovery: Discovery,
    /// To connect and close partners.
    pub streams: StreamService,
    /// Where the snapshot goes.
    pub federation: watch::Sender<Arc<Federation>>,
    /// Peer documents read at most.
    pub peers: usize,
    /// Whether peers that our store does not know may be connected.
    pub unknown_peers: UnknownPeers,
    /// Our PeerId.
    pub own_peer: PeerId,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to tell whether the store answers.
    pub readiness: Readiness,
    /// Where to refuse.
    pub refusals: Refusals,
}

impl Registry {
    /// Starts the desk of the daemon `own_did`, with the pins of earlier lives; returns after the first reading of the store.
    pub async fn start(own_did: String, pins: Vec<Pin>, parts: Parts, shutdown: CancellationToken) -> Self {
        let (sender, events) = mpsc::channel(WAITING);
        let mut table = PartnerTable::new(own_did.clone(), parts.own_peer);
        let pins = pins
            .into_iter()
            .filter_map(|pin| Some((pin.did, pin.peer_id.parse().ok()?)));
        table.remember_pins(pins);
        let (told, conflicts) = watch::channel(Arc::default());
        let mut desk = Desk {
            own_did,
            parts,
            table,
            linked: HashSet::new(),
            mesh: Mesh::default(),
            reading: None,
            waiting: Vec::new(),
            conflicts: told,
            in_store: Standing::default(),
            in_table: Standing::default(),
        };
        let changes = desk.parts.store.changes();
        let discovery = desk.parts.discovery.clone();
        // Without it nobody would be a partner, and what is held of partners would be forgotten.
        while !desk.first_reading().await {
            tokio::time::sleep(TICK).await;
        }
        desk.put_into_effect().await;
        tokio::spawn(desk.run(events, changes, shutdown));
        Self {
            events: sender,
            conflicts,
            discovery,
        }
    }

    /// The documents that are not used now, and why.
    #[must_use]
    pub fn conflicts(&self) -> Arc<Vec<Conflict>> {
        Arc::clone(&self.conflicts.borrow())
    }

    /// A peer was created or changed here; returns when that is in effect, or with why it is not used.
    pub async fn changed(&self, member: Member) -> Option<Conflict> {
        self.tell(|done| Event::Changed(Box::new(member), done)).await.flatten()
    }

    /// Our own peer document was changed here: what it says now is told to others.
    pub fn own_changed(&self, says: Says) {
        self.discovery.own_document_says(says);
    }

    /// A peer was removed here; returns when that is in effect.
    pub async fn removed(&self, did: String) {
        self.tell(|done| Event::Removed(did, done)).await;
    }

    /// A peer was found in the store; returns when it has been read, with all that was written until then.
    pub async fn read_for(&self, peer: PeerId) {
        self.tell(|done| Event::Found(peer, done)).await;
    }

    /// None when the desk has ended.
    async fn tell<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Option<T> {
        let (done, in_effect) = oneshot::channel();
        self.events.send(event(done)).await.ok()?;
        in_effect.await.ok()
    }
}

struct Desk {
    own_did: String,
    parts: Parts,
    table: PartnerTable,
    /// The partners that are being kept connected.
    linked: HashSet<String>,
    mesh: Mesh,
    /// The reading that is going on: a slow store holds nobody up who only has something to tell.
    reading: Option<Reading>,
    /// Who waits for a reading that began after they asked.
    waiting: Vec<(Instant, oneshot::Sender<()>)>,
    /// Whoever asks finds here which documents are not used.
    conflicts: watch::Sender<Arc<Vec<Conflict>>>,
    /// What the last reading found wrong with documents, and what the table does.
    in_store: Standing,
    in_table: Standing,
}

struct Reading {
    began: Instant,
    task: JoinHandle<Result<Peers, StoreError>>,
}

impl Desk {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut changes: Option<watch::Receiver<u64>>,
        shutdown: CancellationToken,
    ) {
        let start = tokio::time::Instant::now();
        let mut reread = tokio::time::interval_at(start + REREAD, REREAD);
        let mut tick = tokio::time::interval_at(start + TICK, TICK);
        loop {
            let (mut done, mut changed) = (Vec::new(), None);
            tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.recv() => match event {
                    None => return,
                    Some(Event::Changed(member, told)) => {
                        changed = Some((member.did.clone(), told));
                        self.table.changed(*member, Instant::now());
                    }
                    Some(Event::Removed(did, told)) => {
                        self.table.removed(&did, Instant::now());
                        done.push(told);
                    }
                    Some(Event::Found(peer, told)) => {
                        // Several may have been found before the reading that the first of them caused.
                        if self.parts.federation.borrow().of_peer(&peer).is_none() {
                            self.waiting.push((Instant::now(), told));
                            self.read_store();
                        } else {
                            done.push(told);
                        }
                    }
                },
                (began, read) = finished(&mut self.reading) => {
                    self.reading = None;
                    self.take_reading(began, read);
                    let (served, waiting) = self.waiting.drain(..).partition(|(asked, _)| *asked <= began);
                    self.waiting = waiting;
                    let served: Vec<(Instant, oneshot::Sender<()>)> = served;
                    done.extend(served.into_iter().map(|(_, told)| told));
                    if !self.waiting.is_empty() {
                        self.read_store();
                    }
                }
                () = told(&mut changes) => self.read_store(),
                _ = reread.tick() => {
                    self.read_store();
                    self.parts.streams.sweep();
                }
                _ = tick.tick() => {
                    if self.table.wants_reading(Instant::now()) {
                        self.read_store();
                    }
                    self.fill_mesh().await;
                }
            }
            self.put_into_effect().await;
            for done in done {
                let _ = done.send(());
            }
            if let Some((did, told)) = changed {
                let unused = self
                    .conflicts
                    .borrow()
                    .iter()
                    .find(|conflict| conflict.did == did)
                    .cloned();
                let _ = told.send(unused);
            }
        }
    }

    /// Begins to read every peer document, unless that goes on already.
    fn read_store(&mut self) {
        if self.reading.is_none() {
            let (store, limit) = (Arc::clone(&self.parts.store), self.parts.peers);
            let began = Instant::now();
            let task = tokio::spawn(async move { store.peers(limit).await });
            self.reading = Some(Reading { began, task });
        }
    }

    /// False when the store does not answer.
    async fn first_reading(&mut self) -> bool {
        let began = Instant::now();
        let read = self.parts.store.peers(self.parts.peers).await;
        self.take_reading(began, read)
    }

    /// Takes what was read. When the store does not answer, or is not the one that we know, what was read and heard before stands,
    /// and it is false.
    fn take_reading(&mut self, began: Instant, read: Result<Peers, StoreError>) -> bool {
        match read {
            Ok(peers) => {
                self.parts.readiness.set_ok("store");
                self.in_store
                    .is(wrong_in(&peers, self.parts.peers), &self.parts.refusals);
                let kept = peers.unreadable.iter().map(|(id, _)| id.as_str());
                let is_ours = |id: &str| id == self.own_did;
                if !(peers.truncated || peers.peers.iter().any(|peer| is_ours(&peer.did)) || kept.clone().any(is_ours))
                {
                    // An emptied database, or another one: it must not end every partnership.
                    let why =
                        "our own peer document has left the store; what was known before counts; is it the right one?";
                    self.parts.readiness.set_bad("identity", why.to_owned());
                    return false;
                }
                let own = peers.peers.iter().find(|peer| is_ours(&peer.did));
                tell_key(&self.parts.readiness, own, &self.parts.own_peer);
                if let Some(own) = own {
                    self.parts.discovery.own_document_says(Says::of(own));
                }
                let unseen = Unseen {
                    ids: kept.collect(),
                    more: peers.truncated,
                };
                self.table.read_store(peers.peers.iter().map(member_of), &unseen, began);
                true
            }
            Err(error) => {
                self.parts.readiness.set_bad("store", error.to_string());
                false
            }
        }
    }

    async fn put_into_effect(&mut self) {
        let (federation, conflicts) = self.table.settle();
        self.in_table.is(conflicts.iter().cloned(), &self.parts.refusals);
        self.conflicts.send_replace(Arc::new(conflicts));
        self.save_pins().await;
        self.count(&federation);
        let before = Arc::clone(&self.parts.federation.borrow());
        if *before == federation {
            return;
        }
        let after = Arc::new(federation);
        self.parts.federation.send_replace(Arc::clone(&after));
        self.parts.network.block(after.blacklist()).await;
        let known = after.others().filter(|member| member.relation != Relation::Blacklist);
        let known = known.filter_map(|member| member.peer_id).collect();
        self.parts
            .network
            .know(known, self.parts.unknown_peers == UnknownPeers::Allow)
            .await;
        self.keep_connections(&after).await;
        for old in before.others() {
            let new = after.get(&old.did);
            let still_partner = new.is_some_and(|new| new.relation == Relation::Partner);
            let same_peer = new.is_some_and(|new| new.peer_id == old.peer_id);
            // Whoever stops being PARTNER, or becomes somebody else, keeps no stream. So does whoever is blacklisted.
            let was_partner = old.relation == Relation::Partner;
            let now_black =
                old.relation != Relation::Blacklist && new.is_some_and(|new| new.relation == Relation::Blacklist);
            if (was_partner && !(still_partner && same_peer)) || now_black || new.is_none() {
                self.parts.streams.close_peer(&old.did, old.peer_id);
                self.linked.remove(&old.did);
            }
        }
        for partner in after.partners() {
            if self.linked.insert(partner.did.clone()) {
                info!(partner = %partner.name, did = %partner.did, "a peer is PARTNER: connecting");
                self.parts.streams.connect_to_partner(Arc::clone(partner));
            }
        }
    }

    /// Dials known peers while gossip has too few connections.
    async fn fill_mesh(&mut self) {
        let federation = Arc::clone(&self.parts.federation.borrow());
        let network = &self.parts.network;
        let is_connected = |peer: &PeerId| network.is_connected(peer);
        let chance = || rand::Rng::r#gen(&mut rand::thread_rng());
        for member in self.mesh.wanted(&federation, is_connected, Instant::now(), chance) {
            let discovery = self.parts.discovery.clone();
            tokio::spawn(async move {
                let Some(peer) = member.peer_id else { return };
                if let Err(error) = discovery.connect(peer, &member.addresses).await {
                    debug!(did = %member.did, %error, "a known peer cannot be reached for gossip");
                }
            });
        }
        self.keep_connections(&federation).await;
    }

    async fn keep_connections(&self, federation: &Federation) {
        let wanted = kept(federation, |peer| self.parts.network.is_connected(peer));
        self.parts.network.keep(wanted).await;
    }

    fn count(&self, federation: &Federation) {
        let connected = self.parts.network.connected();
        let links = connected.borrow();
        let all = federation.partners().count();
        let here = federation
            .partners()
            .filter(|p| p.peer_id.is_some_and(|peer| links.contains_key(&peer)))
            .count();
        self.parts.metrics.set_partners(here, all.saturating_sub(here));
    }
}

/// What the reading that goes on has come to.
async fn finished(reading: &mut Option<Reading>) -> (Instant, Result<Peers, StoreError>) {
    match reading {
        Some(reading) => {
            let read = (&mut reading.task).await;
            (reading.began, read.unwrap_or(Err(StoreError::Closed)))
        }
        None => std::future::pending().await,
    }
}

/// The store was changed by somebody else.
async fn told(changes: &mut Option<watch::Receiver<u64>>) {
    let ended = match changes {
        Some(changes) => changes.changed().await.is_err(),
        None => std::future::pending().await,
    };
    if ended {
        *changes = None;
    }
}
