//! The desk: starts delivery, one courier for each partner, and ends both sides of it when a peer is no partner any more.
//!
//! Owns what each part is given, and the order of the start and of the end; `couriers`, `chores` and `operator` are its
//! rooms. Decides nothing about a line.
//! Always: a peer that left PARTNER is forgotten in one transaction, after its session's batch in hand.

mod chores;
mod couriers;
mod operator;

use couriers::Running;
pub use operator::{PARKED_COUNTED, Resynced};

use super::commit::Committer;
use super::courier::{Shared, forget};
use super::intake::{Intake, Reach};
use super::journal::JournalError;
use super::log::Log;
use super::publisher::{Outlet, Published, Publisher};
use super::recent::Recent;
use super::sender::Input;
use super::session::{Examiner, Sessions, room};
use super::stored::StoreCheck;
use super::types::{Feed, PartnerNote, Token};
use crate::bus::IntakeState;
use crate::model::Federation;
use crate::network::{Incoming, Network};
use crate::settings::Settings;
use crate::store::Store;
use crate::stream::StreamService;
use crate::telemetry::{Metrics, Readiness, Refusals, Sides};
use crate::wire::ReadLimits;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often what people see is brought up to date, and the disk looked at.
const TICK: Duration = Duration::from_secs(5);

/// Partners that began to deliver and whose couriers are not told yet. One more is not told: its courier tries by itself.
const HEARD: usize = 256;

/// What delivery is started with.
pub struct Parts {
    /// Our DID.
    pub own_did: String,
    /// The journal.
    pub log: Log,
    /// The documents.
    pub store: Arc<dyn Store>,
    /// Whether the apps write it.
    pub apps_own_store: bool,
    /// Connections.
    pub network: Network,
    /// Streams.
    pub streams: StreamService,
    /// Who is who.
    pub federation: watch::Receiver<Arc<Federation>>,
    /// The settings of the start.
    pub settings: Arc<Settings>,
    /// The rules for partners' lines.
    pub examiner: Arc<dyn Examiner>,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to tell whether there is room on the disk.
    pub readiness: Readiness,
    /// The check of the journal: whether it takes what is written.
    pub journal: Sides,
    /// The same of the store.
    pub store_writes: Sides,
    /// Where to refuse.
    pub refusals: Refusals,
    /// The daemon is leaving: nothing new is begun.
    pub shutdown: CancellationToken,
    /// The end of everything.
    pub end: CancellationToken,
}

/// Cloneable handle; see the module's first lines.
#[derive(Clone)]
pub struct Delivery(Arc<Inner>);

struct Inner {
    parts: Parts,
    feed: Arc<Feed>,
    shared: Arc<Shared>,
    sessions: Arc<Sessions>,
    committer: Committer,
    intake: Intake,
    intake_idle: watch::Sender<bool>,
    intake_ready: watch::Sender<bool>,
    couriers: Mutex<BTreeMap<String, Running>>,
    notes: Mutex<HashMap<String, PartnerNote>>,
    /// Directed rows were journaled.
    directed: Arc<Notify>,
    reconcile: Notify,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Ends couriers and sessions.
    stop: CancellationToken,
    /// Ends the publisher, after them.
    no_more: CancellationToken,
    disk_low: Arc<AtomicBool>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Delivery {
    /// Begins a new life of the journal and starts everything: what an earlier life committed is published first, then
    /// sessions are taken; couriers wait for the intake.
    ///
    /// # Errors
    /// The journal cannot be used.
    pub async fn start(
        parts: Parts,
        outlet: impl Outlet + 'static,
        incoming: mpsc::Receiver<Incoming>,
    ) -> Result<Self, JournalError> {
        let life = Token(rand::random());
        let log = parts.log.clone();
        let (feed, notes, last_todo) = log
            .write(true, move |journal| {
                journal.begin_incarnation(life)?;
                Ok((journal.feed()?, journal.partners()?, journal.last_todo()?))
            })
            .await?;
        let first_todo = log.read(|journal| journal.todo(0, 1)).await?;
        let upto = first_todo.first().map_or(last_todo, |row| row.n.saturating_sub(1));
        let feed = Arc::new(feed);
        let stop = parts.end.child_token();
        let no_more = parts.end.child_token();
        let bounds = Arc::new(parts.settings.delivery.clone());
        let (reach_tell, reach) = watch::channel(Reach {
            head: feed.head,
            floor: feed.floor,
        });
        let recent = Arc::new(Recent::default());
        let directed = Arc::new(Notify::new());
        let told = (reach_tell, Arc::clone(&directed));
        let intake = Intake::new(
            log.clone(),
            Arc::clone(&recent),
            told,
            Arc::clone(&bounds),
            (parts.journal.clone(), parts.refusals.clone()),
        );
        let (intake_idle, idle) = watch::channel(true);
        let limits = ReadLimits {
            message_bytes: parts.settings.limits.line_bytes,
            depth: parts.settings.limits.depth,
        };
        let (committer, committed) = Committer::new(log.clone());
        let (published_tell, published) = watch::channel(Published {
            upto,
            ..Published::default()
        });
        let disk_low = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared {
            log: log.clone(),
            intake: intake.clone(),
            recent,
            reach,
            store: StoreCheck {
                own_did: parts.own_did.clone(),
                store: Arc::clone(&parts.store),
                apps_own_store: parts.apps_own_store,
                absent: Arc::default(),
                intake_idle: idle,
            },
            network: parts.network.clone(),
            streams: parts.streams.clone(),
            federation: parts.federation.clone(),
            limits,
            bounds,
            metrics: parts.metrics.clone(),
            refusals: parts.refusals.clone(),
            stop: stop.clone(),
        });
        let (heard, heard_of) = mpsc::channel(HEARD);
        let left = CancellationToken::new();
        let sessions = Arc::new(Sessions {
            log: log.clone(),
            committer: committer.clone(),
            published,
            examiner: Arc::clone(&parts.examiner),
            streams: parts.streams.clone(),
            federation: parts.federation.clone(),
            limits,
            disk_low: Arc::clone(&disk_low),
            metrics: parts.metrics.clone(),
            refusals: parts.refusals.clone(),
            stop: stop.clone(),
            room: room(),
            turns: Mutex::new(HashMap::new()),
            heard,
            left: left.clone(),
            wanted_full: Mutex::new(HashSet::new()),
        });
        let publisher = Publisher {
            log,
            outlet,
            published: published_tell,
            store: (!parts.apps_own_store).then(|| Arc::clone(&parts.store)),
            left_upto: last_todo,
            checks: (parts.store_writes.clone(), parts.journal.clone()),
        };
        let delivery = Self(Arc::new(Inner {
            feed,
            shared,
            sessions: Arc::clone(&sessions),
            committer,
            intake,
            intake_idle,
            intake_ready: watch::Sender::new(false),
            couriers: Mutex::new(BTreeMap::new()),
            notes: Mutex::new(notes.into_iter().map(|note| (note.did.clone(), note)).collect()),
            directed,
            reconcile: Notify::new(),
            tasks: Mutex::new(Vec::new()),
            stop,
            no_more: no_more.clone(),
            disk_low,
            parts,
        }));
        let publishing = tokio::spawn(publisher.run(committed, left, no_more));
        let taking = tokio::spawn(sessions.run(incoming));
        let desk = tokio::spawn(delivery.clone().run(heard_of));
        let chores = tokio::spawn(delivery.clone().chores());
        let reconciles = tokio::spawn(delivery.clone().reconciles());
        locked(&delivery.0.tasks).extend([taking, desk, chores, reconciles, publishing]);
        Ok(delivery)
    }

    /// Where what is taken from NATS goes.
    #[must_use]
    pub fn intake(&self) -> Intake {
        self.0.intake.clone()
    }

    /// Where `/1.0` events go.
    #[must_use]
    pub fn committer(&self) -> Committer {
        self.0.committer.clone()
    }

    /// Everything taken from NATS is journaled, or is not.
    pub fn intake_is_idle(&self, idle: bool) {
        self.0
            .intake_idle
            .send_if_modified(|was| std::mem::replace(was, idle) != idle);
    }

    /// Follows the intake: couriers begin when it has passed what was there when it began; a gap is healed by the store.
    pub fn follow(&self, mut state: watch::Receiver<IntakeState>) {
        let delivery = self.clone();
        tokio::spawn(async move {
            let (mut gaps, mut syncing, mut owed) = (0, false, false);
            loop {
                let now = state.borrow_and_update().clone();
                match now {
                    IntakeState::Choosing(_) => {}
                    IntakeState::Core => {
                        if !std::mem::replace(&mut syncing, true) {
                            let stop = delivery.0.no_more.clone();
                            tokio::spawn(delivery.0.intake.clone().keep_synced(stop));
                        }
                        delivery.0.intake_ready.send_replace(true);
                    }
                    IntakeState::Stream { head, gaps: counted } => {
                        owed |= counted > gaps;
                        gaps = counted;
                        let mut cursor = delivery.0.intake.cursor();
                        tokio::select! {
                            () = delivery.0.stop.cancelled() => return,
                            // It may be another stream by now, or known better where the old messages end.
                            changed = state.changed() => match changed {
                                Ok(()) => continue,
                                Err(_) => return,
                            },
                            _ = cursor.wait_for(|at| *at >= head) => {}
                        }
                        delivery.0.intake_ready.send_replace(true);
                        // Only now: what is still in the stream was not missed, and must not be followed by what is older.
                        if std::mem::take(&mut owed) {
                            delivery.0.reconcile.notify_one();
                        }
                    }
                }
                tokio::select! {
                    () = delivery.0.stop.cancelled() => return,
                    changed = state.changed() => if changed.is_err() { return },
                }
            }
        });
    }

    /// Ends in order: couriers and sessions, then the publisher.
    pub async fn finish(&self) {
        self.drain().await;
        self.0.stop.cancel();
        let couriers: Vec<Running> = std::mem::take(&mut *locked(&self.0.couriers)).into_values().collect();
        for courier in couriers {
            let _ = courier.task.await;
        }
        let tasks = std::mem::take(&mut *locked(&self.0.tasks));
        let mut tasks = tasks.into_iter().collect::<Vec<_>>();
        let publishing = tasks.pop();
        for task in tasks {
            let _ = task.await;
        }
        self.0.no_more.cancel();
        if let Some(publishing) = publishing {
            let _ = publishing.await;
        }
    }

    /// Keeps one courier for each peer that is entitled to one.
    async fn run(self, mut heard: mpsc::Receiver<String>) {
        let inner = &self.0;
        let mut federation = inner.parts.federation.clone();
        let mut ready = inner.intake_ready.subscribe();
        let mut tick = tokio::time::interval(TICK);
        let mut partners = self.forget_strangers().await;
        loop {
            let directed = inner.parts.log.read(|journal| journal.directed_dests()).await;
            let now = Arc::clone(&federation.borrow_and_update());
            match directed {
                Ok(directed) => self.set_couriers(&now, &directed.into_iter().collect()).await,
                Err(error) => warn!(%error, "the journal does not answer the delivery desk"),
            }
            let mut are: HashSet<String> = now.partners().map(|member| member.did.clone()).collect();
            are.extend(partners.iter().filter(|did| now.is_aside(did)).cloned());
            for did in partners.difference(&are) {
                self.forget_origin(did).await;
            }
            partners = are;
            tokio::select! {
                () = inner.stop.cancelled() => return,
                changed = federation.changed() => if changed.is_err() { return },
                () = inner.directed.notified() => {}
                _ = ready.changed() => {
                    let ready = *ready.borrow_and_update();
                    self.tell_all(|| Input::IntakeReady(ready)).await;
                }
                _ = tick.tick() => self.tell_people().await,
                Some(did) = heard.recv() => {
                    self.tell_one(&did, Input::Nudge { asked: true }).await;
                    continue;
                }
            }
        }
    }

    /// At the start: what is kept of origins that left PARTNER while the daemon was away goes, and what is noted of peers that are
    /// in the store no more. What waits for one of those stays, within its bounds: its app may have told of it and not stored it yet.
    async fn forget_strangers(&self) -> HashSet<String> {
        let federation = Arc::clone(&self.0.parts.federation.borrow());
        let partners: HashSet<String> = federation.partners().map(|member| member.did.clone()).collect();
        match self.0.parts.log.read(|journal| journal.origins()).await {
            Ok(origins) => {
                let left = |did: &&String| !partners.contains(*did) && !federation.is_aside(did);
                for did in origins.iter().filter(left) {
                    self.forget_origin(did).await;
                }
            }
            Err(error) => warn!(%error, "the journal does not answer the delivery desk"),
        }
        let noted: Vec<String> = locked(&self.0.notes).keys().cloned().collect();
        let gone = |did: &String| federation.get(did).is_none() && !federation.is_aside(did);
        for did in noted.into_iter().filter(gone) {
            locked(&self.0.notes).remove(&did);
            forget(&self.0.shared, did, true).await;
        }
        partners
    }

    /// A peer left PARTNER: what it sent is not ours to keep, and a new admission compares everything.
    async fn forget_origin(&self, did: &str) {
        let turn = self.0.sessions.hold(did).await;
        let origin = did.to_owned();
        let forgotten = self
            .0
            .parts
            .log
            .write(false, move |journal| journal.forget_origin(&origin))
            .await;
        drop(turn);
        match forgotten {
            Ok(()) => info!(%did, "no partner any more: its place and what was held of it are forgotten"),
            Err(error) => warn!(%did, %error, "a former partner could not be forgotten"),
        }
    }
}
