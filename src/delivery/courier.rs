//! A courier's I/O: does what the rules of `sender` want, and tells them what happened.
//!
//! Owns one destination's stream, its timer and its questions to the journal. Decides nothing. Always: what it waits for, it
//! waits for all at once, so that an answer is read while a line is written; a slow journal or partner holds up nobody else.

use super::commit::now;
use super::digest::{self, Difference};
use super::intake::{Batch, Intake, Reach};
use super::journal::{Journal, JournalError};
use super::log::Log;
use super::recent::Recent;
use super::sender::{Effect, Input, Sender, ask};
use super::status::CourierStatus;
use super::stored::StoreCheck;
use super::types::{Held, Key, Parked, PartnerNote, Row};
use crate::model::{Federation, Member, Relation};
use crate::network::{Network, OpenError, Pulse, Stream};
use crate::settings::DeliverySettings;
use crate::stream::{Lines, OutEvent, StreamService, split};
use crate::telemetry::{Metrics, Refusals};
use crate::wire::{ReadLimits, ReceiverLine, SenderLine, protocol};
use futures::future::BoxFuture;
use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncReadExt, AsyncWriteExt};
use rand::Rng;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long the stream may take nothing at all before it counts as dead. Long: a receiver whose NATS is away reads nothing.
const WRITE_TIME: Duration = Duration::from_secs(120);
/// How often what is acknowledged is noted in the journal: it is a cache for people.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// How often it is looked whether the stream is on the connection that is preferred now.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// What couriers share.
pub(super) struct Shared {
    pub(super) log: Log,
    pub(super) intake: Intake,
    pub(super) recent: Arc<Recent>,
    pub(super) reach: watch::Receiver<Reach>,
    pub(super) store: StoreCheck,
    pub(super) network: Network,
    pub(super) streams: StreamService,
    pub(super) federation: watch::Receiver<Arc<Federation>>,
    pub(super) limits: ReadLimits,
    pub(super) bounds: Arc<DeliverySettings>,
    pub(super) metrics: Metrics,
    pub(super) refusals: Refusals,
    pub(super) stop: CancellationToken,
}

/// The stream of a session.
struct Io {
    lines: Lines<ReadHalf<Stream>>,
    /// Not here while it is being written to.
    writer: Option<WriteHalf<Stream>>,
    pulse: Pulse,
}

type Opening = BoxFuture<'static, Result<Stream, OpenError>>;
type Writing = BoxFuture<'static, (WriteHalf<Stream>, bool)>;

/// One courier; see the module's first lines.
pub(super) struct Courier {
    shared: Arc<Shared>,
    did: String,
    sender: Sender,
    status: Arc<CourierStatus>,
    began: Instant,
    wake: Option<Instant>,
    io: Option<Io>,
    opening: Option<Opening>,
    writing: Option<Writing>,
    /// Lines that wait for the write under way.
    to_write: Vec<u8>,
    asking: Option<BoxFuture<'static, Input>>,
    /// What is to be noted of it, and since when.
    unnoted: Option<Instant>,
    note: PartnerNote,
    /// Everything there is was acknowledged, and that was said.
    abreast: bool,
    ended: bool,
}

impl Courier {
    pub(super) fn new(shared: Arc<Shared>, sender: Sender, note: PartnerNote, status: Arc<CourierStatus>) -> Self {
        Self {
            did: sender.did().to_owned(),
            shared,
            sender,
            status,
            began: Instant::now(),
            wake: None,
            io: None,
            opening: None,
            writing: None,
            to_write: Vec::new(),
            asking: None,
            unnoted: None,
            note,
            abreast: true,
            ended: false,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn member(&self) -> Option<Arc<Member>> {
        self.shared.federation.borrow().get(&self.did).cloned()
    }

    /// Runs until it has no destination any more, or the daemon leaves.
    pub(super) async fn run(mut self, mut told: mpsc::Receiver<Input>) {
        let stop = self.shared.stop.clone();
        let mut reach = self.shared.reach.clone();
        let mut connected = self.shared.network.connected();
        let mut was_connected = false;
        let mut look = tokio::time::interval(LOOK_EVERY);
        while !self.ended {
            let input = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                input = told.recv() => match input {
                    Some(input) => input,
                    None => break,
                },
                line = read(&mut self.io) => match line {
                    Some(piece) => {
                        self.on_piece(&piece).await;
                        continue;
                    }
                    None => self.stream_ended(),
                },
                input = ready(&mut self.asking) => {
                    self.asking = None;
                    input
                }
                done = ready(&mut self.writing) => {
                    self.writing = None;
                    match self.written(done) {
                        Some(input) => input,
                        None => continue,
                    }
                }
                _ = reach.changed() => {
                    let Reach { head, floor } = *reach.borrow_and_update();
                    Input::Head { head, floor }
                }
                opened = ready(&mut self.opening) => {
                    self.opening = None;
                    self.opened(opened)
                }
                _ = connected.changed() => {
                    let peer = self.member().and_then(|member| member.peer_id);
                    let is = peer.is_some_and(|peer| connected.borrow_and_update().contains_key(&peer));
                    if !std::mem::replace(&mut was_connected, is) && is {
                        Input::Nudge { asked: false }
                    } else {
                        continue;
                    }
                }
                () = at(self.wake) => {
                    self.wake = None;
                    Input::Tick
                }
                _ = look.tick() => match &self.io {
                    // Of two connections one is spare, and closes when its streams have moved.
                    Some(io) if !io.pulse.is_preferred() && self.writing.is_none() => Input::Move,
                    _ => continue,
                },
                () = at(self.unnoted) => {
                    self.note_now().await;
                    continue;
                }
            };
            self.on(input).await;
        }
        self.leave().await;
    }

    /// Ends the stream in good order: what was written is read by the peer, whether or not it is acknowledged before we go.
    async fn leave(&mut self) {
        if let Some(Io {
            writer: Some(mut writer),
            ..
        }) = self.io.take()
        {
            let _ = tokio::time::timeout(Duration::from_secs(1), writer.close()).await;
        }
        if self.unnoted.is_some() {
            self.note_now().await;
        }
    }

    async fn on_piece(&mut self, piece: &[u8]) {
        for line in split(piece) {
            match ReceiverLine::read_line(line, &self.shared.limits) {
                Ok(line) => self.on(Input::Line(line)).await,
                Err(error) => {
                    self.shared.refusals.refuse(error.rule(), &self.did, &error);
                    let input = self.stream_ended();
                    return self.on(input).await;
                }
            }
        }
    }

    fn stream_ended(&mut self) -> Input {
        (self.io, self.writing) = (None, None);
        self.to_write.clear();
        let peer = self.member().and_then(|member| member.peer_id);
        let alive = peer.is_some_and(|peer| self.shared.network.is_connected(&peer));
        self.status.failed("the stream ended");
        Input::Ended { alive }
    }

    fn opened(&mut self, opened: Result<Stream, OpenError>) -> Input {
        match opened {
            Ok(stream) => {
                let pulse = stream.pulse();
                let (reader, writer) = stream.split();
                self.io = Some(Io {
                    pulse,
                    lines: self.shared.streams.lines(reader),
                    writer: Some(writer),
                });
                Input::Opened
            }
            Err(error) => {
                let unsupported = matches!(error, OpenError::Unsupported(_));
                if !unsupported {
                    self.status.failed(&error.to_string());
                }
                Input::NotOpened { unsupported }
            }
        }
    }

    /// The stream took a piece: the next one, or a word that all is written.
    fn written(&mut self, (writer, taken): (WriteHalf<Stream>, bool)) -> Option<Input> {
        let io = self.io.as_mut()?;
        if !taken {
            return Some(self.stream_ended());
        }
        io.writer = Some(writer);
        if self.to_write.is_empty() {
            return Some(Input::Written);
        }
        self.write();
        None
    }

    fn write(&mut self) {
        if self.to_write.is_empty() || self.writing.is_some() {
            return;
        }
        let Some(mut writer) = self.io.as_mut().and_then(|io| io.writer.take()) else {
            return;
        };
        let bytes = std::mem::take(&mut self.to_write);
        self.writing = Some(Box::pin(async move {
            let write = async {
                writer.write_all(&bytes).await?;
                writer.flush().await
            };
            let taken = matches!(
                tokio::time::timeout(WRITE_TIME, write).await,
                Ok(Ok::<(), std::io::Error>(()))
            );
            (writer, taken)
        }));
    }

    async fn on(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let jitter = rand::thread_rng().r#gen();
            let effects = self.sender.on(self.now(), jitter, input);
            for effect in effects {
                if let Some(answer) = self.act(effect).await {
                    inputs.push_back(answer);
                }
            }
        }
        self.write();
        self.tell();
    }

    /// Does what is wanted; an answer that is there at once comes back.
    async fn act(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Open => self.opening = Some(self.open()),
            Effect::Close => {
                (self.io, self.writing, self.opening) = (None, None, None);
                self.to_write.clear();
            }
            Effect::Write(line) => {
                if let SenderLine::Line(line) = &line {
                    let action = line.action.map_or("delivery", |action| action.name());
                    self.shared.metrics.events_sent_many(action, 1);
                    debug!(to = %self.did, action, seq = line.seq, id = %line.id, "event written");
                }
                if matches!(line, SenderLine::End(..)) {
                    info!(partner = %self.did, "everything was compared with the partner");
                    self.shared.metrics.compared(&self.did);
                }
                self.to_write.extend_from_slice(&line.write_line());
            }
            Effect::Read {
                ticket,
                after,
                directed_only,
                max_rows,
                max_bytes,
            } => return self.read(ticket, after, directed_only, (max_rows, max_bytes)),
            Effect::Sum { ticket, after, to } => {
                let shared = Arc::clone(&self.shared);
                self.ask(ticket, async move {
                    shared.store.intake_drained().await;
                    let sum = move |journal: &dyn Journal| ask::sum(journal, ticket, after.as_ref(), to.as_ref());
                    shared.log.read(sum).await
                });
            }
            Effect::Compare {
                ticket,
                after,
                to,
                held,
            } => {
                let shared = Arc::clone(&self.shared);
                self.ask(ticket, async move { compare(&shared, ticket, after, to, held).await });
            }
            Effect::Acked { seq } => {
                self.note.acked_seq = seq;
                self.note.acked_at = now();
                self.note_soon();
            }
            Effect::DirectedDone { seq } => {
                let did = self.did.clone();
                self.spawn_write(move |journal| journal.directed_done(&did, seq));
            }
            Effect::Park { seq, key, code, detail } => self.park(seq, key, code, detail),
            Effect::Hold { code } => self.hold(code),
            Effect::Legacy(legacy) => {
                self.note.legacy = legacy;
                self.note_soon();
                if legacy {
                    info!(partner = %self.did, "the partner knows only the /1.0 protocols: what it gets is sent, not confirmed");
                }
            }
            Effect::Forget => {
                self.unnoted = None;
                let did = self.did.clone();
                let known = self
                    .member()
                    .is_some_and(|member| member.relation != Relation::Blacklist);
                self.spawn_write(move |journal| {
                    // What was said for it alone meanwhile is kept, and brings a courier of its own.
                    if known && journal.directed_waiting(&did)?.0 > 0 {
                        return Ok(());
                    }
                    journal.forget_dest(&did)
                });
                self.ended = true;
            }
            Effect::Wake { at } => {
                let at = self.began + Duration::from_millis(at);
                self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
            }
            Effect::LegacySend { row } => {
                let (shared, member, seq) = (Arc::clone(&self.shared), self.member(), row.seq);
                self.asking = Some(Box::pin(async move {
                    let taken = legacy_send(&shared, member, row).await;
                    Input::LegacySent { seq, taken }
                }));
            }
        }
        None
    }

    fn open(&self) -> Opening {
        let (shared, member) = (Arc::clone(&self.shared), self.member());
        Box::pin(async move {
            let member = member.ok_or(OpenError::Failed("its document is gone".into()))?;
            let peer = member
                .peer_id
                .ok_or(OpenError::Failed("its document names no PeerId".into()))?;
            let dialled = shared.network.connect(peer, &member.addresses).await;
            dialled.map_err(|error| OpenError::Failed(error.to_string()))?;
            shared.network.open(peer, protocol::DELIVERY).await
        })
    }

    /// Rows from memory, when they are there, else from the journal.
    fn read(&mut self, ticket: u64, after: u64, directed_only: bool, (rows, bytes): (usize, usize)) -> Option<Input> {
        if !directed_only && let Some((found, upto)) = self.shared.recent.behind(after, &self.did, rows, bytes) {
            return Some(Input::Rows {
                ticket,
                rows: found.into_iter().map(Arc::unwrap_or_clone).collect(),
                upto,
                floor: self.shared.reach.borrow().floor,
            });
        }
        let (log, did) = (self.shared.log.clone(), self.did.clone());
        self.ask(ticket, async move {
            log.read(move |journal| ask::rows(journal, &did, ticket, after, directed_only, rows, bytes))
                .await
        });
        None
    }

    fn ask(&mut self, ticket: u64, question: impl Future<Output = Result<Input, JournalError>> + Send + 'static) {
        let did = self.did.clone();
        self.asking = Some(Box::pin(async move {
            question.await.unwrap_or_else(|error| {
                warn!(%error, partner = %did, "the journal does not answer a courier");
                Input::Failed { ticket }
            })
        }));
    }

    /// Writes to the journal without waiting; what fails is done again by itself: the row is still there.
    fn spawn_write(&self, work: impl FnOnce(&mut dyn Journal) -> Result<(), JournalError> + Send + 'static) {
        let (log, did) = (self.shared.log.clone(), self.did.clone());
        tokio::spawn(async move {
            if let Err(error) = log.write(false, work).await {
                warn!(%error, partner = %did, "the journal cannot be written");
            }
        });
    }

    fn park(&mut self, seq: u64, key: Key, code: String, detail: String) {
        warn!(partner = %self.did, id = %key.id, %code, %detail, "the partner does not take a change: it is parked");
        self.shared.metrics.parked(&self.did);
        let keep = self.shared.bounds.parked;
        let parked = Parked {
            dest: self.did.clone(),
            key,
            seq,
            code,
            detail,
            at: now(),
        };
        self.spawn_write(move |journal| journal.park(&parked, keep));
    }

    fn hold(&mut self, code: String) {
        if code.is_empty() {
            info!(partner = %self.did, "the partner takes changes again");
        } else {
            warn!(partner = %self.did, %code, "the partner takes no changes now");
        }
        self.note.hold_code = code;
        self.note_soon();
    }

    fn note_soon(&mut self) {
        self.unnoted.get_or_insert_with(|| Instant::now() + NOTE_EVERY);
    }

    async fn note_now(&mut self) {
        self.unnoted = None;
        let note = self.note.clone();
        self.spawn_write(move |journal| {
            journal.note_partner(&note)?;
            journal.unpark_acked(&note.did, note.acked_seq)
        });
    }

    /// Tells people how it stands.
    fn tell(&mut self) {
        let head = self.shared.reach.borrow().head;
        let following = matches!(self.sender.state(), "tail" | "legacy");
        let abreast = following && self.note.acked_seq >= head;
        if abreast && !self.abreast {
            info!(partner = %self.did, seq = head, "the partner has everything");
        }
        self.abreast = abreast || (self.abreast && following);
        self.status.set(self.sender.state(), &self.note, head);
    }
}

/// Compares one range, asking the store about each key that differs.
async fn compare(
    shared: &Shared,
    ticket: u64,
    after: Option<Key>,
    to: Option<Key>,
    held: Vec<Held>,
) -> Result<Input, JournalError> {
    shared.store.intake_drained().await;
    let compared = shared
        .log
        .read(move |journal| digest::compare(journal, after.as_ref(), to.as_ref(), &held))
        .await?;
    let changes = shared.store.missing(&shared.log, &compared.keys, false).await?;
    if !changes.is_empty() {
        let batch = Batch {
            changes,
            ..Batch::default()
        };
        shared.intake.try_take(batch, false).await?;
    }
    let keys = compared.keys;
    let lines: Vec<Difference> = shared.log.read(move |journal| digest::lines(journal, keys)).await?;
    Ok(Input::RangeCompared {
        ticket,
        lines,
        upto: compared.upto,
    })
}

/// Sends a row by its `/1.0` protocol; whether the connection took it.
async fn legacy_send(shared: &Shared, member: Option<Arc<Member>>, row: Row) -> bool {
    let Some((member, peer)) = member.and_then(|member| member.peer_id.map(|peer| (member, peer))) else {
        return false;
    };
    if shared.network.connect(peer, &member.addresses).await.is_err() {
        return false;
    }
    let change = row.change;
    let event = shared
        .streams
        .event(change.action, change.key.datatype, &change.user, change.payload);
    let event = Arc::new(OutEvent::new(event, change.key.id, Instant::now()));
    shared.streams.publish_common(&member, event).await;
    shared.streams.written(peer).await
}

/// The next piece of lines; none at the end. For ever when there is no stream.
async fn read(io: &mut Option<Io>) -> Option<bytes::Bytes> {
    match io {
        Some(io) => match io.lines.next().await {
            Ok(piece) => piece,
            Err(error) => {
                debug!(%error, "a delivery stream ended");
                None
            }
        },
        None => std::future::pending().await,
    }
}

async fn ready<T>(task: &mut Option<BoxFuture<'static, T>>) -> T {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
