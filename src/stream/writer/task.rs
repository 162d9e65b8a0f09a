//! The task behind a peer's queue: writes what stands first, on the stream of its action.
//!
//! Owns the open streams of one peer. Always: whatever ends it, what was taken and not written is counted.

use super::super::StreamService;
use super::{FULL_WAIT, IDLE, Item, RUN};
use crate::network::{OpenError, Stream};
use crate::wire::Action;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use libp2p::PeerId;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Bytes written in one go.
const RUN_BYTES: usize = 96 * 1024;
/// Pause between two tries to reach a peer that an event waits for.
const RETRY: Duration = Duration::from_millis(250);

/// The task behind a [`Writer`].
pub(super) struct Task {
    pub(super) service: StreamService,
    pub(super) peer: PeerId,
    pub(super) did: String,
    pub(super) open: HashMap<Action, Stream>,
    /// Taken from the queue and not yet written; whatever ends the task, what is left here is counted.
    pub(super) waiting: VecDeque<Item>,
    /// Since when the peer cannot be written to.
    pub(super) absent_since: Option<Instant>,
    /// Lines of the piece being written; given back when nothing waits.
    pub(super) buffer: Vec<u8>,
    /// Something was given up since the last mark.
    pub(super) lost: bool,
    pub(super) stop: CancellationToken,
}

impl Task {
    pub(super) async fn run(mut self, mut items: mpsc::Receiver<Item>) {
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
