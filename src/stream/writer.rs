//! The `/1.0` event protocols, writing side: one queue and one task for each peer that is written to.
//!
//! Owns the long-lived outgoing streams and the bounds of waiting events. Always: events of one peer leave in the order
//! they were given, a slow or absent peer delays nobody else for longer than [`FULL_WAIT`], and whatever is given up is
//! counted. This is the "sent once" of `/1.0`: what was written is not known to have arrived.

use super::{StreamService, locked};
use crate::model::Member;
use crate::network::{OpenError, Stream};
use crate::wire::{Action, Event};
use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use libp2p::PeerId;
use libp2p::identity::Keypair;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Events written in one go.
const RUN: usize = 256;
/// Bytes written in one go.
const RUN_BYTES: usize = 96 * 1024;
/// How long a full queue of a connected peer is waited for. A peer that takes nothing for so long is stalled: from then
/// on its events are dropped at once, until its queue has moved again.
const FULL_WAIT: Duration = Duration::from_secs(1);
/// A write that the peer does not take for this long means that it is stuck.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// Pause between two tries to reach a peer that an event waits for.
const RETRY: Duration = Duration::from_millis(250);
/// A writer without work for this long ends; the next event starts another.
const IDLE: Duration = Duration::from_secs(300);

/// One event on its way to one or many peers; its line is made once for all of them.
#[derive(Debug)]
pub struct OutEvent {
    event: Event,
    /// The resource's id, for the log.
    pub id: String,
    /// When it was taken from NATS.
    pub at: Instant,
    plain: OnceLock<Bytes>,
    signed: OnceLock<Bytes>,
}

impl OutEvent {
    /// An event that was taken from NATS at `at`.
    #[must_use]
    pub fn new(event: Event, id: String, at: Instant) -> Self {
        Self {
            event,
            id,
            at,
            plain: OnceLock::new(),
            signed: OnceLock::new(),
        }
    }

    fn action(&self) -> Action {
        self.event.kind
    }

    /// Bytes that it roughly takes on the wire and in memory.
    fn weight(&self) -> u32 {
        u32::try_from(self.event.payload.len().saturating_mul(2) + 512).unwrap_or(u32::MAX)
    }

    fn line(&self, unsigned: bool, key: &Keypair) -> Bytes {
        if unsigned {
            return self.plain.get_or_init(|| self.event.write_line().into()).clone();
        }
        let signed = || {
            let mut event = self.event.clone();
            if let Err(error) = event.sign(key) {
                // Unsigned events are taken from the authenticated connection, so this is no reason to lose one.
                warn!(%error, "an event could not be signed");
            }
            event.write_line().into()
        };
        self.signed.get_or_init(signed).clone()
    }
}

/// What became of an event given to a peer's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits, or is being written.
    Queued,
    /// It was given up, for this counted reason.
    Dropped(&'static str),
}

enum Item {
    Event(
        Arc<OutEvent>,
        #[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit,
    ),
    Close(Action),
    Drain(oneshot::Sender<()>),
}

/// A peer's queue.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Item>,
    room: Arc<Semaphore>,
    stalled: Arc<AtomicBool>,
}

impl Writer {
    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Half of the queue is free again.
    fn has_moved(&self) -> bool {
        self.queue.capacity() * 2 >= self.queue.max_capacity()
    }

    async fn give(&self, event: Arc<OutEvent>, connected: bool) -> Enqueued {
        if self.stalled.load(Ordering::Relaxed) {
            if !self.has_moved() {
                return Enqueued::Dropped("stalled");
            }
            self.stalled.store(false, Ordering::Relaxed);
        }
        let weight = event.weight();
        let give = async {
            let room = Arc::clone(&self.room).acquire_many_owned(weight).await.ok()?;
            self.queue.send(Item::Event(event, room)).await.ok()
        };
        // The common case needs no timer.
        let wait = if connected { FULL_WAIT } else { Duration::ZERO };
        match tokio::time::timeout(wait, give).await {
            Ok(Some(())) => Enqueued::Queued,
            Ok(None) => Enqueued::Dropped("closed"),
            Err(_) => {
                self.stalled.store(connected, Ordering::Relaxed);
                Enqueued::Dropped(if connected { "stalled" } else { "away" })
            }
        }
    }
}

impl StreamService {
    /// The diagrams' `PublishCommon`: one event to one peer, on its action's protocol.
    pub async fn publish_common(&self, to: &Arc<Member>, event: Arc<OutEvent>) -> Enqueued {
        let action = event.action();
        let outcome = match to.peer_id {
            Some(peer) => {
                let writer = self.writer_of(peer, to);
                writer.give(event, self.0.network.is_connected(&peer)).await
            }
            None => Enqueued::Dropped("no_peer_id"),
        };
        if let Enqueued::Dropped(reason) = outcome {
            self.0.metrics.dropped("peer_queue", reason);
            let detail = format_args!("events for {} are given up, {} first", to.name, action.name());
            self.0.refusals.refuse(reason, &to.did, detail);
        }
        outcome
    }

    /// The diagrams' closing of `Streams[protocol][peer]`: the outgoing stream of `action` ends after what waits.
    pub fn close_stream(&self, peer: PeerId, action: Action) {
        let writer = locked(&self.0.writers).get(&peer).cloned();
        if let Some(writer) = writer {
            // A queue too full for this word is a queue that still has lines for that stream.
            if writer.queue.try_send(Item::Close(action)).is_err() {
                self.0.metrics.dropped("peer_queue", "close_on_full");
            }
        }
    }

    /// Writes what waits for all peers and closes their streams. The caller bounds it.
    pub async fn drain(&self) {
        let writers: Vec<Writer> = locked(&self.0.writers).drain().map(|(_, writer)| writer).collect();
        let drained = writers.into_iter().map(|writer| async move {
            let (done, ended) = oneshot::channel();
            if writer.queue.send(Item::Drain(done)).await.is_ok() {
                let _ = ended.await;
            }
        });
        futures::future::join_all(drained).await;
    }

    fn writer_of(&self, peer: PeerId, to: &Arc<Member>) -> Writer {
        let mut writers = locked(&self.0.writers);
        if let Some(writer) = writers.get(&peer).filter(|writer| !writer.is_closed()) {
            return writer.clone();
        }
        let (queue, items) = mpsc::channel(self.0.limits.peer_queue_messages);
        let writer = Writer {
            queue,
            room: Arc::new(Semaphore::new(self.0.limits.peer_queue_bytes)),
            stalled: Arc::new(AtomicBool::new(false)),
        };
        writers.insert(peer, writer.clone());
        let stop = locked(&self.0.table).stop_of(peer);
        let task = Task {
            service: self.clone(),
            peer,
            did: to.did.clone(),
            open: HashMap::new(),
            buffer: Vec::new(),
            stop,
        };
        tokio::spawn(task.run(items));
        writer
    }
}

/// The task behind a [`Writer`].
struct Task {
    service: StreamService,
    peer: PeerId,
    did: String,
    open: HashMap<Action, Stream>,
    /// Lines of the piece being written; given back when nothing waits.
    buffer: Vec<u8>,
    stop: CancellationToken,
}

impl Task {
    async fn run(mut self, mut items: mpsc::Receiver<Item>) {
        let mut batch = Vec::new();
        loop {
            let stop = self.stop.clone();
            tokio::select! {
                () = stop.cancelled() => break,
                taken = tokio::time::timeout(IDLE, items.recv_many(&mut batch, RUN)) => {
                    if !matches!(taken, Ok(1..)) {
                        break;
                    }
                }
            }
            let finished = tokio::select! {
                () = stop.cancelled() => break,
                finished = self.work(&mut batch) => finished,
            };
            if finished {
                break;
            }
            if items.is_empty() {
                self.buffer = Vec::new();
            }
            self.service.0.metrics.set_peer_queue_waiting(&self.did, items.len());
        }
        let left = items.len() + batch.len();
        if left > 0 {
            self.service
                .0
                .metrics
                .dropped_many("peer_queue", "peer_closed", left as u64);
        }
    }

    /// Works off a batch; true when the daemon is leaving and everything is written.
    async fn work(&mut self, batch: &mut Vec<Item>) -> bool {
        let mut run: Vec<Arc<OutEvent>> = Vec::new();
        let mut rooms = Vec::new();
        let mut drained = None;
        for item in batch.drain(..) {
            match item {
                Item::Event(event, room) => {
                    if run.first().is_some_and(|first| first.action() != event.action()) {
                        self.write(&std::mem::take(&mut run)).await;
                    }
                    run.push(event);
                    rooms.push(room);
                }
                Item::Close(action) => {
                    self.write(&std::mem::take(&mut run)).await;
                    self.close(action).await;
                }
                Item::Drain(done) => drained = Some(done),
            }
        }
        self.write(&run).await;
        let Some(done) = drained else { return false };
        let open: Vec<Action> = self.open.keys().copied().collect();
        for action in open {
            self.close(action).await;
        }
        let _ = done.send(());
        true
    }

    /// Writes events of one action, in pieces that a connection takes well.
    async fn write(&mut self, events: &[Arc<OutEvent>]) {
        let mut rest = events;
        while let Some(first) = rest.first() {
            let action = first.action();
            let deadline = first.at + self.service.0.limits.send_wait;
            let unsigned = self.takes_unsigned();
            let mut bytes = std::mem::take(&mut self.buffer);
            let mut count = 0;
            for event in rest {
                if count > 0 && bytes.len() >= RUN_BYTES {
                    break;
                }
                bytes.extend_from_slice(&event.line(unsigned, &self.service.0.own.keypair));
                count += 1;
            }
            let (piece, later) = rest.split_at(count);
            rest = later;
            let written = self.write_piece(action, &bytes, deadline).await;
            bytes.clear();
            self.buffer = bytes;
            match written {
                Ok(()) => self.count_sent(action, piece),
                Err(reason) => {
                    self.service.0.metrics.dropped_many("peer_queue", reason, count as u64);
                    let (did, action) = (&self.did, action.name());
                    self.service
                        .0
                        .refusals
                        .refuse(reason, did, format_args!("{count} events of {action} given up"));
                }
            }
        }
    }

    fn count_sent(&self, action: Action, events: &[Arc<OutEvent>]) {
        self.service.0.metrics.events_sent_many(action.name(), events.len());
        for event in events {
            self.service.0.metrics.event_took(event.at.elapsed());
            debug!(to = %self.did, action = action.name(), id = %event.id, "event written");
        }
    }

    /// Writes one piece on the action's stream, opening it, and dialling the peer, until `deadline`.
    async fn write_piece(&mut self, action: Action, bytes: &[u8], deadline: Instant) -> Result<(), &'static str> {
        loop {
            let failure = match self.stream(action).await {
                Ok(stream) => {
                    let write = async {
                        stream.write_all(bytes).await?;
                        stream.flush().await
                    };
                    match tokio::time::timeout(WRITE_TIME, write).await {
                        Ok(Ok(())) => return Ok(()),
                        Ok(Err(error)) => error.to_string(),
                        Err(_) => "the peer takes nothing".to_owned(),
                    }
                }
                Err(OpenError::Unsupported(_)) => return Err("peer_lacks_protocol"),
                Err(error) => error.to_string(),
            };
            self.open.remove(&action);
            if Instant::now() >= deadline {
                return Err("peer_away");
            }
            debug!(to = %self.did, action = action.name(), why = %failure, "not written yet");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The kept stream of `action`, or a new one when there is none or the peer has ended it.
    async fn stream(&mut self, action: Action) -> Result<&mut Stream, OpenError> {
        // The other side writes nothing on these streams: anything to be read, also an end, means it left.
        let mut byte = [0; 1];
        let gone = self
            .open
            .get_mut(&action)
            .is_some_and(|stream| stream.read(&mut byte).now_or_never().is_some());
        if gone {
            self.open.remove(&action);
        }
        if !self.open.contains_key(&action) {
            let stream = self.open_stream(action).await?;
            self.open.insert(action, stream);
        }
        self.open.get_mut(&action).ok_or(OpenError::Gone)
    }

    async fn open_stream(&mut self, action: Action) -> Result<Stream, OpenError> {
        let network = &self.service.0.network;
        if !network.is_connected(&self.peer) {
            let member = self
                .service
                .federation()
                .of_peer(&self.peer)
                .cloned()
                .ok_or(OpenError::NotConnected)?;
            let dialled = network.connect(self.peer, &member.addresses).await;
            dialled.map_err(|error| OpenError::Failed(error.to_string()))?;
        }
        network.open(self.peer, action.protocol().unwrap_or_default()).await
    }

    /// Ends a stream in good order: what was written is read by the peer before this returns, if the peer is there.
    async fn close(&mut self, action: Action) {
        let Some(mut stream) = self.open.remove(&action) else {
            return;
        };
        let farewell = async {
            stream.close().await?;
            let mut byte = [0; 1];
            // The peer's own end tells that it has read ours.
            stream.read(&mut byte).await
        };
        let _: Result<std::io::Result<usize>, _> = tokio::time::timeout(FULL_WAIT, farewell).await;
    }

    fn takes_unsigned(&self) -> bool {
        let connected = self.service.0.network.connected();
        let links = connected.borrow();
        links.get(&self.peer).is_some_and(|link| link.takes_unsigned)
    }
}
