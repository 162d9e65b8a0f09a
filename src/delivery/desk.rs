//! The desk: starts delivery, one courier for each partner, and ends both sides of it when a peer is no partner any more.
//!
//! Owns which couriers there are, and the chores: reconcile, purges, free disk, what people see. Decides nothing about a line.
//! Always: a peer that left PARTNER is forgotten in one transaction, after its session's batch in hand.

use super::commit::{Committer, now};
use super::courier::{Courier, Shared};
use super::intake::{Batch, Intake, Reach};
use super::journal::JournalError;
use super::log::Log;
use super::publisher::{Outlet, Published, Publisher};
use super::recent::Recent;
use super::sender::{Input, Sender};
use super::session::{Examiner, Sessions, room};
use super::status::{CourierStatus, PartnerStatus};
use super::stored::StoreCheck;
use super::types::{Feed, Parked, PartnerNote, Token};
use crate::bus::IntakeState;
use crate::model::{Federation, Relation};
use crate::network::{Incoming, Network};
use crate::settings::Settings;
use crate::store::Store;
use crate::stream::StreamService;
use crate::telemetry::{Metrics, Readiness, Refusals};
use crate::wire::ReadLimits;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Words for a courier that it has not heard yet; it hears them between two answers.
const WORDS: usize = 64;
/// How often what people see is brought up to date, and the disk looked at.
const TICK: Duration = Duration::from_secs(5);
/// How often old tombstones and ids are purged.
const PURGE_EVERY: Duration = Duration::from_secs(600);
/// Rows purged in one transaction.
const PURGE: usize = 10_000;
/// Keys of one step of a reconcile.
const RECONCILE: usize = 256;
/// A partner that is so far behind is told of in the log, in rows and seconds.
const BEHIND: (u64, u64) = (1_000, 60);
/// At the end, partners that take nothing for so long are left for the next start: nothing is lost.
const NO_PROGRESS: Duration = Duration::from_secs(1);
/// How often it is looked whether they have everything.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
/// The disk must have so much more than the bound, in percent, to be enough again.
const ENOUGH: u64 = 110;

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

struct Running {
    words: mpsc::Sender<Input>,
    status: Arc<CourierStatus>,
    partner: bool,
    directed: bool,
    task: JoinHandle<()>,
    behind: bool,
}

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
        let (feed, notes, published) = log
            .write(true, move |journal| {
                journal.begin_incarnation(life)?;
                Ok((journal.feed()?, journal.partners()?, journal.last_todo()?))
            })
            .await?;
        let first_todo = log.read(|journal| journal.todo(0, 1)).await?;
        let upto = first_todo.first().map_or(published, |row| row.n.saturating_sub(1));
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
            parts.refusals.clone(),
        );
        let (intake_idle, idle) = watch::channel(true);
        let limits = ReadLimits {
            message_bytes: parts.settings.limits.line_bytes,
            depth: parts.settings.limits.depth,
        };
        let (committer, committed) = Committer::new(log.clone());
        let (published_tell, published) = watch::channel(Published { upto, stuck: None });
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
        // One word a session that begins: sessions are bounded, and the desk takes them at once.
        let (heard, heard_of) = mpsc::unbounded_channel();
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
            wanted_full: Mutex::new(HashSet::new()),
        });
        let left = CancellationToken::new();
        let publisher = Publisher {
            log,
            outlet,
            published: published_tell,
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
        let publishing = tokio::spawn(publisher.run(committed, left.clone(), no_more));
        let taking = tokio::spawn(sessions.run(incoming, left));
        let desk = tokio::spawn(delivery.clone().run(heard_of));
        let chores = tokio::spawn(delivery.clone().chores());
        locked(&delivery.0.tasks).extend([taking, desk, chores, publishing]);
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

    /// Whether there is too little room on the disk to take anything.
    #[must_use]
    pub fn disk_low(&self) -> bool {
        self.0.disk_low.load(Ordering::Relaxed)
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
            let (mut gaps, mut syncing) = (0, false);
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
                        if counted > gaps {
                            delivery.0.reconcile.notify_one();
                        }
                        gaps = counted;
                        if !delivery.reached(head).await {
                            return;
                        }
                        delivery.0.intake_ready.send_replace(true);
                    }
                }
                tokio::select! {
                    () = delivery.0.stop.cancelled() => return,
                    changed = state.changed() => if changed.is_err() { return },
                }
            }
        });
    }

    /// Returns when the intake has passed `head`; false when the daemon leaves before.
    async fn reached(&self, head: u64) -> bool {
        let mut cursor = self.0.intake.cursor();
        tokio::select! {
            () = self.0.stop.cancelled() => false,
            reached = cursor.wait_for(|at| *at >= head) => reached.is_ok(),
        }
    }

    /// Returns when every partner that is being delivered to has everything, or none of them takes more.
    async fn drain(&self) {
        let mut last = Vec::new();
        let mut moved = tokio::time::Instant::now();
        loop {
            let head = self.0.shared.reach.borrow().head;
            let waiting: Vec<(String, u64)> = locked(&self.0.couriers)
                .values()
                .map(|courier| courier.status.get())
                .filter(|status| status.is_delivering() && status.acked_seq < head)
                .map(|status| (status.did, status.acked_seq))
                .collect();
            if waiting != last {
                (last, moved) = (waiting, tokio::time::Instant::now());
            }
            if last.is_empty() || moved.elapsed() >= NO_PROGRESS {
                return;
            }
            tokio::time::sleep(DRAIN_LOOK).await;
        }
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
    async fn run(self, mut heard: mpsc::UnboundedReceiver<String>) {
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
            let are: HashSet<String> = now.partners().map(|member| member.did.clone()).collect();
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

    /// At the start: what is kept of origins that left PARTNER while the daemon was away goes.
    async fn forget_strangers(&self) -> HashSet<String> {
        let federation = Arc::clone(&self.0.parts.federation.borrow());
        let partners: HashSet<String> = federation.partners().map(|member| member.did.clone()).collect();
        match self.0.parts.log.read(|journal| journal.origins()).await {
            Ok(origins) => {
                for did in origins.iter().filter(|did| !partners.contains(*did)) {
                    self.forget_origin(did).await;
                }
            }
            Err(error) => warn!(%error, "the journal does not answer the delivery desk"),
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

    async fn set_couriers(&self, federation: &Federation, directed: &HashSet<String>) {
        let mut wanted: BTreeMap<String, (bool, bool)> = BTreeMap::new();
        for member in federation.others() {
            let partner = member.relation == Relation::Partner;
            let has_rows = member.relation != Relation::Blacklist && directed.contains(&member.did);
            if (partner || has_rows) && member.did != self.0.parts.own_did {
                wanted.insert(member.did.clone(), (partner, has_rows));
            }
        }
        let mut words = Vec::new();
        {
            let mut couriers = locked(&self.0.couriers);
            couriers.retain(|_, courier| !courier.task.is_finished());
            for (did, courier) in couriers.iter_mut() {
                let (partner, directed) = wanted.remove(did).unwrap_or((false, false));
                if (courier.partner, courier.directed) != (partner, directed) {
                    (courier.partner, courier.directed) = (partner, directed);
                    words.push((courier.words.clone(), Input::Rights { partner, directed }));
                }
            }
            for (did, (partner, directed)) in wanted {
                let name = federation
                    .get(&did)
                    .map(|member| member.name.clone())
                    .unwrap_or_default();
                let courier = self.start_courier(&did, name, partner, directed);
                words.push((courier.words.clone(), Input::Rights { partner, directed }));
                words.push((courier.words.clone(), Input::IntakeReady(*self.0.intake_ready.borrow())));
                couriers.insert(did, courier);
            }
        }
        for (courier, word) in words {
            let _ = courier.send(word).await;
        }
    }

    fn start_courier(&self, did: &str, name: String, partner: bool, directed: bool) -> Running {
        let mut note = locked(&self.0.notes).remove(did).unwrap_or_default();
        note.did = did.to_owned();
        note.hold_code.clear();
        // The place noted is of an earlier life; the partner states its own. To a `/1.0` peer it is where to go on.
        let Reach { head, floor } = *self.0.shared.reach.borrow();
        let feed = Feed {
            head,
            floor,
            ..(*self.0.feed).clone()
        };
        let sender = Sender::new(did, Arc::new(feed), note.acked_seq);
        let status = Arc::new(CourierStatus::named(did, name));
        let (words, told) = mpsc::channel(WORDS);
        let courier = Courier::new(Arc::clone(&self.0.shared), sender, note, Arc::clone(&status));
        Running {
            words,
            status,
            partner,
            directed,
            task: tokio::spawn(courier.run(told)),
            behind: false,
        }
    }

    async fn tell_all(&self, word: impl Fn() -> Input) {
        let couriers: Vec<_> = locked(&self.0.couriers)
            .values()
            .map(|courier| courier.words.clone())
            .collect();
        for courier in couriers {
            let _ = courier.send(word()).await;
        }
    }

    /// False when it has no courier.
    async fn tell_one(&self, did: &str, word: Input) -> bool {
        let courier = locked(&self.0.couriers).get(did).map(|courier| courier.words.clone());
        match courier {
            Some(courier) => courier.send(word).await.is_ok(),
            None => false,
        }
    }

    /// Lag of each partner: metrics, and a line when one falls behind or has caught up.
    async fn tell_people(&self) {
        for status in self.status().await {
            self.0
                .parts
                .metrics
                .set_delivery_lag(&status.did, status.lag_rows, status.lag_seconds);
            let behind = status.lag_rows >= BEHIND.0 || status.lag_seconds >= BEHIND.1;
            let was = locked(&self.0.couriers)
                .get_mut(&status.did)
                .map(|courier| std::mem::replace(&mut courier.behind, behind));
            match (was, behind) {
                (Some(false), true) => warn!(
                    partner = %status.name, did = %status.did, rows = status.lag_rows, seconds = status.lag_seconds,
                    hold = %status.hold_code, why = %status.last_error, "a partner has fallen behind"
                ),
                (Some(true), false) => info!(partner = %status.name, did = %status.did, "a partner has caught up"),
                _ => {}
            }
        }
    }

    /// How every destination stands.
    pub async fn status(&self) -> Vec<PartnerStatus> {
        let all: Vec<PartnerStatus> = locked(&self.0.couriers)
            .values()
            .map(|courier| courier.status.get())
            .collect();
        let (head, at) = (self.0.shared.reach.borrow().head, now());
        let asked: Vec<(String, u64)> = all
            .iter()
            .map(|status| (status.did.clone(), status.acked_seq))
            .collect();
        let lags = self
            .0
            .parts
            .log
            .read(move |journal| {
                asked
                    .iter()
                    .map(|(did, acked)| {
                        let lag = if *acked < head {
                            journal.lag(*acked, did)?
                        } else {
                            (0, 0)
                        };
                        Ok((lag, journal.parked(Some(did), PARKED_COUNTED)?.len() as u64))
                    })
                    .collect::<Result<Vec<_>, JournalError>>()
            })
            .await
            .unwrap_or_default();
        all.into_iter()
            .zip(lags)
            .map(|(mut status, ((rows, oldest), parked))| {
                (status.head, status.lag_rows, status.parked) = (head, rows, parked);
                status.lag_seconds = if rows > 0 { at.saturating_sub(oldest) / 1000 } else { 0 };
                status
            })
            .collect()
    }

    /// Reconcile, purges and the look at the disk.
    async fn chores(self) {
        let inner = &self.0;
        let every = inner.parts.settings.delivery.reconcile_every;
        let mut ready = inner.intake_ready.subscribe();
        tokio::select! {
            () = inner.stop.cancelled() => return,
            _ = ready.wait_for(|ready| *ready) => {}
        }
        let mut reconcile = tokio::time::interval(every);
        let mut purge = tokio::time::interval(PURGE_EVERY);
        let mut disk = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = inner.stop.cancelled() => return,
                _ = reconcile.tick() => self.reconcile_all().await,
                () = inner.reconcile.notified() => self.reconcile_all().await,
                _ = purge.tick() => self.purge().await,
                _ = disk.tick() => self.look_at_disk(),
            }
        }
    }

    /// Compares every key that was propagated with the store.
    async fn reconcile_all(&self) {
        let (log, store) = (&self.0.parts.log, &self.0.shared.store);
        let mut after = None;
        let mut mended = 0;
        loop {
            let from = after.clone();
            let keys = match log
                .read(move |journal| journal.own_keys(from.as_ref(), None, RECONCILE))
                .await
            {
                Ok(keys) => keys,
                Err(error) => return warn!(%error, "the journal could not be compared with the store"),
            };
            let Some(last) = keys.last().map(|own| own.key.clone()) else {
                break;
            };
            let keys: Vec<_> = keys.into_iter().map(|own| own.key).collect();
            let changes = match store.missing(log, &keys, true).await {
                Ok(changes) => changes,
                Err(error) => return warn!(%error, "the journal could not be compared with the store"),
            };
            mended += changes.len();
            let batch = Batch {
                changes,
                ..Batch::default()
            };
            if !batch.is_empty()
                && let Err(error) = self.0.intake.try_take(batch, false).await
            {
                return warn!(%error, "the journal could not be mended from the store");
            }
            if self.0.stop.is_cancelled() {
                return;
            }
            after = Some(last);
        }
        if mended > 0 {
            self.0.parts.metrics.dropped_many("intake", "missed", mended as u64);
            info!(
                changes = mended,
                "the store had changes that were not heard of on NATS: they are journaled now"
            );
        }
    }

    async fn purge(&self) {
        let bounds = &self.0.parts.settings.delivery;
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let (tombstones, seen) = (millis(bounds.tombstone_age), millis(bounds.seen_age));
        let keep = bounds.tombstones;
        loop {
            let at = now();
            let reach = self.0.intake.reach();
            let purged = self.0.parts.log.write_then(
                false,
                move |journal| {
                    let tombs = journal.purge_tombstones(at.saturating_sub(tombstones), keep, PURGE)?;
                    let seen = journal.purge_seen(at.saturating_sub(seen), PURGE)?;
                    Ok((tombs.max(seen), journal.feed()?.floor))
                },
                move |(_, floor)| reach.send_modify(|reach| reach.floor = *floor),
            );
            match purged.await {
                Ok((purged, _)) if purged >= PURGE && !self.0.stop.is_cancelled() => {}
                Ok(_) => return,
                Err(error) => return warn!(%error, "old rows of the journal could not be purged"),
            }
        }
    }

    fn look_at_disk(&self) {
        let path: PathBuf = self.0.parts.settings.state_dir.clone();
        let bound = self.0.parts.settings.delivery.min_free_bytes as u64;
        let free = match rustix::fs::statvfs(&path) {
            Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
            Err(error) => return warn!(%error, path = %path.display(), "the free space of state_dir cannot be told"),
        };
        let was = self.0.disk_low.load(Ordering::Relaxed);
        let low = free < if was { bound.saturating_mul(ENOUGH) / 100 } else { bound };
        if low {
            let why = format!(
                "{} MiB are free in state_dir, delivery.min_free_bytes wants {}",
                free >> 20,
                bound >> 20
            );
            self.0.parts.readiness.set_bad("journal", why);
        } else if was {
            self.0.parts.readiness.set_ok("journal");
        }
        self.0.disk_low.store(low, Ordering::Relaxed);
    }

    /// What is parked, of one destination or of all, the oldest first; an empty destination is our own intake.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn parked(&self, dest: Option<String>, limit: usize) -> Result<Vec<Parked>, JournalError> {
        self.0
            .parts
            .log
            .read(move |journal| journal.parked(dest.as_deref(), limit))
            .await
    }

    /// Sends parked changes of a destination again, as they are now; says how many, and how many are gone for good.
    ///
    /// # Errors
    /// The journal cannot be used.
    pub async fn retry(&self, dest: &str, id: Option<&str>) -> Result<(usize, usize), JournalError> {
        let mut changes = Vec::new();
        let mut gone = 0;
        for parked in self.of(dest, id).await? {
            let (key, seq, to) = (parked.key.clone(), parked.seq, parked.dest.clone());
            let row = self.0.parts.log.read(move |journal| {
                let row = journal.row(&key)?;
                let directed = journal.rows_after(seq.saturating_sub(1), &to, true, 1, 1)?;
                Ok(row.or(directed.into_iter().find(|row| row.seq == seq)))
            });
            match row.await? {
                Some(row) => changes.push(row.change),
                None => gone += 1,
            }
            let (to, key) = (parked.dest, parked.key);
            self.0
                .parts
                .log
                .write(false, move |journal| journal.unpark(&to, &key))
                .await?;
        }
        let again = changes.len();
        let batch = Batch {
            changes,
            ..Batch::default()
        };
        if !batch.is_empty() {
            self.0.intake.try_take(batch, true).await?;
        }
        Ok((again, gone))
    }

    /// Forgets parked changes; says how many.
    ///
    /// # Errors
    /// The journal cannot be used.
    pub async fn drop_parked(&self, dest: &str, id: Option<&str>) -> Result<usize, JournalError> {
        let mut dropped = 0;
        for parked in self.of(dest, id).await? {
            let (to, key) = (parked.dest, parked.key);
            dropped += usize::from(
                self.0
                    .parts
                    .log
                    .write(false, move |journal| journal.unpark(&to, &key))
                    .await?,
            );
        }
        Ok(dropped)
    }

    async fn of(&self, dest: &str, id: Option<&str>) -> Result<Vec<Parked>, JournalError> {
        let mut parked = self.parked(Some(dest.to_owned()), PARKED_MAX).await?;
        parked.retain(|parked| id.is_none_or(|id| parked.key.id == id));
        Ok(parked)
    }

    /// Compares everything with a peer, both ways: what we have for it, and what it has for us. With `allow_deletes` the many
    /// deletes that a comparison holds back are let through. False when it has no courier.
    pub async fn resync(&self, did: &str, allow_deletes: bool) -> bool {
        self.0.sessions.want_full(did);
        let word = if allow_deletes {
            Input::AllowDeletes
        } else {
            Input::Compare
        };
        self.tell_one(did, word).await
    }

    /// Copies the journal, while it is used, to a new file.
    ///
    /// # Errors
    /// The name is taken, or the copy cannot be written.
    pub async fn backup(&self, to: &std::path::Path) -> Result<(), JournalError> {
        self.0.parts.log.backup(to).await
    }
}

/// Most parked changes counted for people.
const PARKED_COUNTED: usize = 1_000;
/// Most parked changes handled by one word of an operator.
const PARKED_MAX: usize = 10_000;
