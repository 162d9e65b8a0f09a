//! A courier's I/O: does what the rules of `sender` want, and tells them what happened.
//!
//! Owns one destination's stream, its timer and its questions to the journal. Decides nothing. Always: what it waits for, it
//! waits for all at once, so that an answer is read while a line is written; a slow journal or partner holds up nobody else.

mod act;
mod io;

pub(super) use act::forget;

use super::intake::{Intake, Reach};
use super::log::Log;
use super::recent::Recent;
use super::sender::{Input, Sender};
use super::status::CourierStatus;
use super::stored::StoreCheck;
use super::types::PartnerNote;
use crate::model::{Federation, Member};
use crate::network::Network;
use crate::settings::DeliverySettings;
use crate::stream::{StreamService, split};
use crate::telemetry::{Metrics, Refusals};
use crate::wire::{ReadLimits, ReceiverLine};
use futures::AsyncWriteExt;
use futures::future::BoxFuture;
use io::{Io, Opening, Writing, read, ready};
use rand::Rng;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

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

/// One courier; see the module's first lines.
pub(super) struct Courier {
    shared: Arc<Shared>,
    did: String,
    sender: Sender,
    status: Arc<CourierStatus>,
    began: Instant,
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
    /// The comparison that runs has waited for the intake.
    drained: bool,
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
            io: None,
            opening: None,
            writing: None,
            to_write: Vec::new(),
            asking: None,
            unnoted: None,
            note,
            abreast: true,
            drained: false,
            ended: false,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn due(&self) -> Option<Instant> {
        let due = self.sender.due()?;
        self.began.checked_add(Duration::from_millis(due))
    }

    fn member(&self) -> Option<Arc<Member>> {
        self.shared.federation.borrow().get(&self.did).cloned()
    }

    fn is_connected(&self) -> bool {
        let peer = self.member().and_then(|member| member.peer_id);
        peer.is_some_and(|peer| self.shared.network.is_connected(&peer))
    }

    /// Runs until it has no destination any more, or the daemon leaves.
    pub(super) async fn run(mut self, mut told: mpsc::Receiver<Input>) {
        let stop = self.shared.stop.clone();
        let mut reach = self.shared.reach.clone();
        let mut connected = self.shared.network.connected();
        let mut was_connected = false;
        let mut look = tokio::time::interval(LOOK_EVERY);
        while !self.ended {
            let due = self.due();
            let input = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                input = told.recv() => match input {
                    Some(rights @ Input::Rights { .. }) => {
                        self.on(rights).await;
                        // One that is connected by now needs no spreading of the first tries.
                        if !self.is_connected() {
                            continue;
                        }
                        Input::Nudge { asked: false }
                    }
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
                () = at(due) => Input::Tick,
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
        self.shared.metrics.delivery_bytes("received", piece.len());
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

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
