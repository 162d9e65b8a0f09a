//! The `/1.0` event protocols, writing side: one queue and one task for each peer that is written to.
//!
//! Owns the long-lived outgoing streams and the bounds of waiting events. Always: events of one peer leave in the order
//! they were given, a slow or absent peer delays nobody else for longer than [`FULL_WAIT`], and whatever is given up is
//! counted. This is the "sent once" of `/1.0`: what was written is not known to have arrived.

mod task;

use super::{OutEvent, StreamService, locked};
use crate::model::Member;
use crate::wire::Action;
use libp2p::PeerId;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use task::Task;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Events written in one go.
const RUN: usize = 256;
/// How long a full queue of a connected peer is waited for. A peer that takes nothing for so long is stalled: from then
/// on its events are dropped at once, until its queue has moved again.
const FULL_WAIT: Duration = Duration::from_secs(1);
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
