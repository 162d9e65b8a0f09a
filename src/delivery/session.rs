//! A session's I/O at the receiving side: lines in, one transaction a piece, answers out.
//!
//! Owns the turn of sessions: one an origin at a time, a new one waits until the batch in hand of the old one is done;
//! `lines` is what it does with a piece, `io` its stream. While one transaction is under way the lines of the next one are
//! read. Never judges a line. Always: what is not published is bounded, for each session and for all; a sender that has no
//! right is told so in one line.

mod io;
mod lines;

use io::Io;
use lines::{Committing, ended, stop_code};

use super::commit::Committer;
use super::log::Log;
use super::publisher::Published;
use super::receiver::{Receiver, Refusal};
use super::types::Position;
use crate::model::{Federation, Member, Relation};
use crate::network::{Incoming, LineError};
use crate::stream::{StreamService, split};
use crate::telemetry::{Metrics, Refusals};
use crate::wire::{DeliveryLine, ReadLimits, ReceiverLine, protocol};
use async_trait::async_trait;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// Bytes of lines that are committed and not yet published, of all sessions. A session that wants more waits, and with it
/// its sender.
const UNPUBLISHED: usize = 64 * 1024 * 1024;
/// What may gather while a transaction is under way: more does not make the next one cheaper.
const GATHERED: usize = 512;
/// The same in bytes of payload, past the piece that passes it.
const GATHERED_BYTES: usize = 1024 * 1024;
/// How long the first line may take.
const FIRST_LINE: Duration = Duration::from_secs(10);
/// How long a session waits for what an earlier life committed to be published: most often that takes milliseconds.
const LEFT_TIME: Duration = Duration::from_secs(1);
/// When a sender that was told to stop may ask again, in seconds: short, since what is in the way may end at any time.
const RETRY: u64 = 5;
/// The same for one that is no partner: that ends when people decide so, and then the sender is heard of.
const RETRY_PARTNER: u64 = 30;

/// The rules for lines of a partner.
#[async_trait]
pub trait Examiner: Send + Sync {
    /// For each line, whether it may be taken; an error when nobody can tell now.
    async fn examine(&self, from: &Member, lines: &[&DeliveryLine]) -> Result<Vec<Result<(), Refusal>>, String>;
}

/// What sessions share; see the module's first lines.
pub struct Sessions {
    /// The journal.
    pub log: Log,
    /// Into it, and on to the publisher.
    pub committer: Committer,
    /// How far publishing has come.
    pub published: watch::Receiver<Published>,
    /// The rules.
    pub examiner: Arc<dyn Examiner>,
    /// To read streams, and to know when a right ends.
    pub streams: StreamService,
    /// Who is who.
    pub federation: watch::Receiver<Arc<Federation>>,
    /// Bounds of reading.
    pub limits: ReadLimits,
    /// There is too little room on the disk.
    pub disk_low: Arc<AtomicBool>,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to refuse.
    pub refusals: Refusals,
    /// What an earlier life committed is published.
    pub left: CancellationToken,
    /// Nothing more is taken.
    pub stop: CancellationToken,
    /// Bytes that may wait to be published.
    pub room: Arc<Semaphore>,
    /// The turns, by origin.
    pub turns: Mutex<HashMap<String, Turn>>,
    /// Told of each partner that begins to deliver: it counts us as its partner, too.
    pub heard: mpsc::Sender<String>,
    /// Origins of which a whole comparison is wanted.
    pub wanted_full: Mutex<HashSet<String>>,
}

/// One origin's turn.
#[derive(Clone, Default)]
pub struct Turn {
    /// Held by the session that has it.
    gate: Arc<tokio::sync::Mutex<()>>,
    /// Ends it.
    over: CancellationToken,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Room for what is committed and not published.
#[must_use]
pub fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(UNPUBLISHED))
}

/// How a session ended.
enum End {
    /// The sender is told to come again.
    Stop(&'static str, u64),
    /// The stream is reset, for a counted reason.
    Broken(&'static str, String),
    /// The sender ended it in good order.
    Left,
    /// The stream broke, or the sender lost its right, or a newer session began.
    Over(&'static str),
}

impl Sessions {
    /// Takes streams until the end.
    pub async fn run(self: Arc<Self>, mut incoming: mpsc::Receiver<Incoming>) {
        let tasks = tokio_util::task::TaskTracker::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                stream = incoming.recv() => match stream {
                    Some(stream) => drop(tasks.spawn(Arc::clone(&self).serve(stream))),
                    None => break,
                },
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// Wants a comparison of everything that `did` has for us, from its next session on; ends the one that is.
    pub fn want_full(&self, did: &str) {
        locked(&self.wanted_full).insert(did.to_owned());
        self.end_of(did);
    }

    /// Ends the session of `did`, if there is one. What is in hand is committed before the next begins.
    pub fn end_of(&self, did: &str) {
        if let Some(turn) = locked(&self.turns).get(did) {
            turn.over.cancel();
        }
    }

    /// Returns when no session of `did` is in a transaction, and holds further ones back as long as the guard lives.
    pub async fn hold(&self, did: &str) -> tokio::sync::OwnedMutexGuard<()> {
        self.take_turn(did).await.1
    }

    async fn take_turn(&self, did: &str) -> (CancellationToken, tokio::sync::OwnedMutexGuard<()>) {
        let (gate, over) = {
            let mut turns = locked(&self.turns);
            let turn = turns.entry(did.to_owned()).or_default();
            turn.over.cancel();
            turn.over = CancellationToken::new();
            (Arc::clone(&turn.gate), turn.over.clone())
        };
        (over, gate.lock_owned().await)
    }

    /// Who it is, and whether it is a partner; none when it has no right at all.
    fn sender(&self, peer: &PeerId) -> Option<(Arc<Member>, bool)> {
        let federation = self.federation.borrow();
        let member = Arc::clone(federation.known(peer)?);
        let partner = member.relation == Relation::Partner;
        Some((member, partner))
    }

    async fn serve(self: Arc<Self>, incoming: Incoming) {
        let Incoming {
            peer, stream, place, ..
        } = incoming;
        let _place = place;
        self.metrics.stream_opened(protocol::DELIVERY);
        let right = self.streams.right_of(peer);
        let (reader, writer) = stream.split();
        let mut io = Io {
            lines: self.streams.lines(peer, reader),
            writer,
            ends: Vec::new(),
        };
        let from = self.sender(&peer);
        let end = match &from {
            Some((member, _)) => {
                let (over, turn) = self.take_turn(&member.did).await;
                io.ends = vec![over.clone(), right.clone(), self.stop.clone()];
                // Asked again: it may have lost its right, and been forgotten, before its turn came.
                let end = match self.sender(&peer).filter(|(now, _)| now.did == member.did) {
                    Some((member, partner)) => self.session(&mut io, &member, partner, &over, &right).await,
                    None => End::Stop("not_partner", RETRY_PARTNER),
                };
                io.ends.clear();
                drop(turn);
                end
            }
            None => {
                self.refusals
                    .refuse("not_partner", &peer.to_string(), "a delivery stream");
                End::Stop("not_partner", RETRY_PARTNER)
            }
        };
        let did = from
            .as_ref()
            .map_or_else(|| peer.to_string(), |(member, _)| member.did.clone());
        self.metrics.stream_closed(protocol::DELIVERY);
        match end {
            End::Stop(code, retry_after) => {
                debug!(from = %did, code, "told to stop");
                let stop = ReceiverLine::Stop {
                    code: code.to_owned(),
                    retry_after,
                };
                if io.write(&stop.write_line()).await.is_ok() {
                    io.farewell().await;
                }
            }
            End::Broken(rule, detail) => self.refusals.refuse(rule, &did, detail),
            End::Left => {
                let _ = io.writer.close().await;
            }
            End::Over(why) => {
                debug!(from = %did, why, "a delivery session ended");
                let _ = io.writer.close().await;
            }
        }
    }

    /// Why nothing can be taken from anybody now.
    async fn in_the_way(&self) -> Option<&'static str> {
        let published = tokio::time::timeout(LEFT_TIME, self.left.cancelled()).await;
        let stuck = self.published.borrow().stuck.as_ref().map(|stuck| stuck.code);
        if published.is_err() {
            Some(stuck.unwrap_or("nats"))
        } else if self.disk_low.load(Ordering::Relaxed) {
            Some("disk")
        } else {
            stuck
        }
    }

    async fn session(
        &self,
        io: &mut Io,
        from: &Arc<Member>,
        partner: bool,
        over: &CancellationToken,
        right: &CancellationToken,
    ) -> End {
        if let Some(code) = self.in_the_way().await {
            return End::Stop(code, RETRY);
        }
        let did = from.did.clone();
        let stands = self.log.read(move |journal| journal.origin(&did)).await;
        let position: Option<Position> = match stands {
            Ok(position) => position,
            Err(error) => return End::Stop(stop_code(&error), RETRY),
        };
        let full = locked(&self.wanted_full).contains(&from.did);
        let mut published = self.published.clone();
        let upto = published.borrow_and_update().upto;
        let (mut receiver, have) = Receiver::new(position, partner, full, upto);
        if io.write(&have.write_line()).await.is_err() {
            return End::Over("the sender left");
        }
        if partner {
            let position = position.map_or_else(|| "none, everything is compared".to_owned(), |at| at.to_string());
            info!(from = %from.name, did = %from.did, position, "a partner delivers");
            // Full: the desk has much to do, and the partner's own courier tries again by itself.
            let _ = self.heard.try_send(from.did.clone());
        }
        let mut committing = None;
        let end = self
            .follow(
                io,
                (&mut receiver, &mut committing),
                (from, partner),
                (over, right),
                published,
            )
            .await;
        self.finish(io, (receiver, committing), &end, from).await;
        end
    }

    /// Reads, and commits what was read meanwhile, until the end.
    async fn follow<'a>(
        &'a self,
        io: &mut Io,
        (receiver, committing): (&mut Receiver, &mut Option<Committing<'a>>),
        (from, partner): (&'a Arc<Member>, bool),
        (over, right): (&CancellationToken, &CancellationToken),
        mut published: watch::Receiver<Published>,
    ) -> End {
        let mut federation = self.federation.clone();
        let first = tokio::time::sleep(FIRST_LINE);
        tokio::pin!(first);
        let mut began = false;
        // Over its rate the sender is read later; all else goes on.
        let mut pause = None;
        loop {
            if committing.is_none() {
                *committing = self.commit(io, receiver, from);
            }
            let gathered = receiver.pending();
            let may_read = pause.is_none() && gathered.size() < GATHERED && gathered.bytes() < GATHERED_BYTES;
            let piece = tokio::select! {
                () = self.stop.cancelled() => return End::Stop("busy", 1),
                () = over.cancelled() => return End::Over("a newer session of this origin began"),
                () = right.cancelled() => return End::Over("the sender lost its right"),
                () = &mut first, if !began => return End::Broken("line_too_slow", "no first line on a delivery stream".into()),
                _ = federation.changed() => {
                    let now = federation.borrow_and_update().get(&from.did).map(|member| member.relation);
                    match (now == Some(Relation::Partner), partner) {
                        // What it may do has changed: it greets anew.
                        (true, false) => return End::Stop("admitted", 0),
                        (false, true) => return End::Stop("not_partner", RETRY_PARTNER),
                        _ => continue,
                    }
                }
                _ = published.changed() => {
                    let now = published.borrow_and_update().clone();
                    for answer in receiver.published(now.upto, &now.given_up) {
                        if let Err(end) = self.answer(io, answer, &from.did).await {
                            return end;
                        }
                    }
                    if let Some(stuck) = now.stuck {
                        return End::Stop(stuck.code, RETRY);
                    }
                    continue;
                }
                () = at(pause), if pause.is_some() => {
                    pause = None;
                    continue;
                }
                done = ended(committing) => {
                    *committing = None;
                    if let Err(end) = self.committed(io, receiver, from, done).await {
                        return end;
                    }
                    continue;
                }
                piece = io.lines.next(), if may_read => piece,
            };
            began = true;
            let piece = match piece {
                Ok(Some(piece)) => piece,
                Ok(None) => return End::Left,
                // Not the fault of the row in hand: a sender that saw a reset would come to take it for poison.
                Err(LineError::NoRoom) => {
                    self.refusals.refuse(
                        "half_read",
                        &from.did,
                        "a long line on a delivery stream; it is told to come again",
                    );
                    return End::Stop("busy", RETRY);
                }
                Err(error) => match error.rule() {
                    Some(rule) => return End::Broken(rule, error.to_string()),
                    None => return End::Over("the stream broke"),
                },
            };
            if let Err(end) = self.piece(receiver, from, &piece).await {
                return end;
            }
            let wait = self.streams.pace(&from.did, split(&piece).count(), "delivery");
            pause = (!wait.is_zero()).then(|| tokio::time::Instant::now() + wait);
        }
    }
}

/// Ends then; never without an instant.
async fn at(instant: Option<tokio::time::Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
