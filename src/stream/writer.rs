//! The `/1.0` event protocols, writing side: one queue and one task for each peer that is written to.
//!
//! Owns the long-lived outgoing streams and the bounds of waiting events. Always: events of one peer leave in the order
//! they were given, a slow or absent peer delays nobody else for longer than [`FULL_WAIT`], and whatever is given up is
//! counted. This is the "sent once" of `/1.0`: what was written is not known to have arrived.

use super::{OutEvent, StreamService, locked};
use crate::model::Member;
use crate::network::{OpenError, Stream};
use crate::wire::Action;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use libp2p::PeerId;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Events written in one go.
const RUN: usize = 256;
/// Bytes written in one go.
const RUN_BYTES: usize = 96 * 1024;
/// How long a full queue of a connected peer is waited for. A peer that takes nothing for so long is stalled: from then
/// on its events are dropped at once, until its queue has moved again.
const FULL_WAIT: Duration = Duration::from_secs(1);
/// Pause between two tries to reach a peer that an event waits for.
const RETRY: Duration = Duration::from_millis(250);
/// The queue's writer has ended.
const CLOSED: &str = "closed";
/// A writer without work for this long ends; the next event starts another.
const IDLE: Duration = Duration::from_secs(300);

/// What became of an event given to a peer's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits, or is being written.
    Queued,
    /// It was given up, for this counted reason.
    Dropped(&'static str),
}

enum Item {
    /// An event, and the room that it takes until it is written.
    Event(
        Arc<OutEvent>,
        #[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit,
    ),
    Close(Action),
    Drain(oneshot::Sender<()>),
    /// Answered with whether everything since the mark before was written.
    Mark(oneshot::Sender<bool>),
}

/// A peer's queue.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Item>,
    room: Arc<Semaphore>,
    /// All of `room`.
    bytes: usize,
    stalled: Arc<AtomicBool>,
}

impl Writer {
    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Half of the queue is free again, of its places and of its bytes.
    fn has_moved(&self) -> bool {
        self.queue.capacity() * 2 >= self.queue.max_capacity() && self.room.available_permits() * 2 >= self.bytes
    }

    async fn give(&self, event: Arc<OutEvent>, connected: bool) -> Enqueued {
        if self.stalled.load(Ordering::Relaxed) {
            if !self.has_moved() {
                return Enqueued::Dropped("stalled");
            }
            self.stalled.store(false, Ordering::Relaxed);
        }
        let weight = event.weight().min(u32::try_from(self.bytes).unwrap_or(u32::MAX));
        let give = async {
            let room = Arc::clone(&self.room).acquire_many_owned(weight).await.ok()?;
            self.queue.send(Item::Event(event, room)).await.ok()
        };
        // The common case needs no timer.
        let wait = if connected { FULL_WAIT } else { Duration::ZERO };
        match tokio::time::timeout(wait, give).await {
            Ok(Some(())) => Enqueued::Queued,
            Ok(None) => Enqueued::Dropped(CLOSED),
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
                let connected = self.0.network.is_connected(&peer);
                match self.writer_of(peer, to).give(Arc::clone(&event), connected).await {
                    // It ended in this instant, for want of work; another one begins.
                    Enqueued::Dropped(CLOSED) => self.writer_of(peer, to).give(event, connected).await,
                    outcome => outcome,
                }
            }
            None => Enqueued::Dropped("no_peer_id"),
        };
        if let Enqueued::Dropped(reason) = outcome {
            let detail = format_args!("events for {} are given up, {} first", to.name, action.name());
            self.0.refusals.dropped("peer_queue", reason, 1, &to.did, detail);
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

    /// Returns when everything given for `peer` before is written or given up, and says whether all of it was written
    /// since this was asked last.
    pub async fn written(&self, peer: PeerId) -> bool {
        let writer = locked(&self.0.writers).get(&peer).cloned();
        let (mark, reached) = oneshot::channel();
        match writer {
            Some(writer) => writer.queue.send(Item::Mark(mark)).await.is_ok() && reached.await.unwrap_or(false),
            None => false,
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
            bytes: self.0.limits.peer_queue_bytes,
            stalled: Arc::new(AtomicBool::new(false)),
        };
        writers.insert(peer, writer.clone());
        let stop = locked(&self.0.table).stop_of(peer);
        let task = Task {
            service: self.clone(),
            peer,
            did: to.did.clone(),
            open: HashMap::new(),
            waiting: VecDeque::new(),
            absent_since: None,
            buffer: Vec::new(),
            lost: false,
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
    /// Taken from the queue and not yet written; whatever ends the task, what is left here is counted.
    waiting: VecDeque<Item>,
    /// Since when the peer cannot be written to.
    absent_since: Option<Instant>,
    /// Lines of the piece being written; given back when nothing waits.
    buffer: Vec<u8>,
    /// Something was given up since the last mark.
    lost: bool,
    stop: CancellationToken,
}

impl Task {
    async fn run(mut self, mut items: mpsc::Receiver<Item>) {
        let mut batch = Vec::new();
        let stop = self.stop.clone();
        loop {
            if self.waiting.is_empty() {
                self.buffer = Vec::new();
                let taken = tokio::select! {
                    () = stop.cancelled() => break,
                    taken = tokio::time::timeout(IDLE, items.recv_many(&mut batch, RUN)) => taken,
                };
                match taken {
                    Ok(0) => break,
                    Ok(_) => self.waiting.extend(batch.drain(..)),
                    // From here on a giver starts another writer; what came in this instant is still written.
                    Err(_) => items.close(),
                }
            }
            let finished = tokio::select! {
                () = stop.cancelled() => break,
                finished = self.step() => finished,
            };
            if finished {
                break;
            }
            self.service
                .0
                .metrics
                .set_peer_queue_waiting(&self.did, items.len() + self.waiting.len());
        }
        items.close();
        while let Ok(item) = items.try_recv() {
            self.waiting.push_back(item);
        }
        let left = self
            .waiting
            .iter()
            .filter(|item| matches!(item, Item::Event(..)))
            .count();
        if left > 0 {
            let detail = format_args!("{left} events waited when its streams were closed");
            self.service
                .0
                .refusals
                .dropped("peer_queue", "peer_closed", left as u64, &self.did, detail);
        }
    }

    /// Does what stands first: writes a piece of events of one action, or follows a word. True when the daemon is
    /// leaving and everything is written.
    async fn step(&mut self) -> bool {
        match self.waiting.front() {
            None => {}
            Some(Item::Event(first, _)) => {
                let (action, deadline) = (first.action(), first.at + self.service.0.limits.send_wait);
                self.write(action, deadline).await;
            }
            Some(Item::Close(action)) => {
                let action = *action;
                self.close(action).await;
                self.waiting.pop_front();
            }
            Some(Item::Mark(_)) => {
                if let Some(Item::Mark(reached)) = self.waiting.pop_front() {
                    let _ = reached.send(!std::mem::take(&mut self.lost));
                }
            }
            Some(Item::Drain(_)) => {
                let open: Vec<Action> = self.open.keys().copied().collect();
                for action in open {
                    self.close(action).await;
                }
                if let Some(Item::Drain(done)) = self.waiting.pop_front() {
                    let _ = done.send(());
                }
                return true;
            }
        }
        false
    }

    /// Writes the events of `action` that stand first, as many as a connection takes well in one piece.
    async fn write(&mut self, action: Action, deadline: Instant) {
        let unsigned = self.takes_unsigned();
        let mut bytes = std::mem::take(&mut self.buffer);
        let mut count = 0;
        for item in &self.waiting {
            let Item::Event(event, _) = item else { break };
            if event.action() != action || bytes.len() >= RUN_BYTES {
                break;
            }
            bytes.extend_from_slice(&event.line(unsigned, &self.service.0.own.keypair));
            count += 1;
        }
        let written = self.write_piece(action, &bytes, deadline).await;
        bytes.clear();
        self.buffer = bytes;
        let piece: Vec<Item> = self.waiting.drain(..count).collect();
        match written {
            Ok(()) => self.count_sent(action, &piece),
            Err(reason) => {
                self.lost = true;
                let detail = format_args!("{count} events of {} given up", action.name());
                self.service
                    .0
                    .refusals
                    .dropped("peer_queue", reason, count as u64, &self.did, detail);
            }
        }
    }

    fn count_sent(&self, action: Action, piece: &[Item]) {
        self.service.0.metrics.events_sent_many(action.name(), piece.len());
        for item in piece {
            let Item::Event(event, _) = item else { continue };
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
                    // A peer that takes nothing now is waited for as long as it is connected: its NATS may be away, and
                    // to write the same again on another stream would double what it has taken already.
                    match write.await {
                        Ok(()) => {
                            self.absent_since = None;
                            return Ok(());
                        }
                        Err(error) => error.to_string(),
                    }
                }
                Err(OpenError::Unsupported(_)) => return Err("peer_lacks_protocol"),
                Err(error) => error.to_string(),
            };
            self.open.remove(&action);
            let deadline =
                deadline.max(*self.absent_since.get_or_insert_with(Instant::now) + self.service.0.limits.send_wait);
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
        // Of two connections one is spare, and closes when its streams have moved. In good order, so that what was written
        // on the old stream is read before what comes on the new one.
        if self.open.get(&action).is_some_and(|stream| !stream.is_preferred()) {
            self.close(action).await;
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
