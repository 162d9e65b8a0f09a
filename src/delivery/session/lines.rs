//! The lines of a session: rules, transactions, answers.
//!
//! Owns what may wait to be published. Never judges a line. Always: one transaction at a time, in the order of the lines; what
//! is answered was committed before, and an answer that cannot be written ends the session.

use super::io::{Io, any};
use super::{End, RETRY, Sessions, UNPUBLISHED, locked};
use crate::delivery::commit::now;
use crate::delivery::digest;
use crate::delivery::journal::JournalError;
use crate::delivery::publisher::Published;
use crate::delivery::receiver::{Answer, Batch, Committed, Receiver};
use crate::model::Member;
use crate::stream::split;
use crate::wire::{Action, DeliveryLine, ReceiverLine, SenderLine};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Lines that are judged together.
const LINES: usize = 256;
/// What a line takes beside its payload, roughly.
const LINE_OVERHEAD: usize = 256;

/// A transaction under way.
pub(super) type Committing<'a> = BoxFuture<'a, Result<(Batch, Committed), End>>;

/// The end of the transaction under way; never when there is none.
pub(super) async fn ended(committing: &mut Option<Committing<'_>>) -> Result<(Batch, Committed), End> {
    match committing {
        Some(committing) => committing.await,
        None => std::future::pending().await,
    }
}

impl Sessions {
    /// Takes in the lines of one piece.
    pub(super) async fn piece(&self, receiver: &mut Receiver, from: &Arc<Member>, piece: &[u8]) -> Result<(), End> {
        self.metrics.delivery_bytes("received", piece.len());
        let (mut lines, mut broken) = (Vec::new(), Ok(()));
        for line in split(piece) {
            match SenderLine::read_line(line, &self.limits) {
                Ok(line) => lines.push(line),
                Err(error) => {
                    // What came before it counts, else its sender would look for the fault in those.
                    broken = Err(End::Broken(error.rule(), error.to_string()));
                    break;
                }
            }
        }
        while !lines.is_empty() {
            let rest = lines.split_off(lines.len().min(LINES));
            let some = std::mem::replace(&mut lines, rest);
            self.some_lines(receiver, from, some).await?;
        }
        broken
    }

    async fn some_lines(&self, receiver: &mut Receiver, from: &Arc<Member>, lines: Vec<SenderLine>) -> Result<(), End> {
        if self.disk_low.load(Ordering::Relaxed) {
            return Err(End::Stop("disk", RETRY));
        }
        let changes: Vec<&DeliveryLine> = lines
            .iter()
            .filter_map(|line| match line {
                SenderLine::Line(line) => Some(line),
                _ => None,
            })
            .collect();
        let examined = self.examiner.examine(from, &changes).await;
        let mut verdicts = examined
            .map_err(|error| {
                debug!(%error, from = %from.did, "the store does not answer; a delivery waits");
                End::Stop("store", RETRY)
            })?
            .into_iter();
        for line in lines {
            let verdict = match &line {
                SenderLine::Line(line) => {
                    self.metrics
                        .events_received_many(line.action.map_or("unknown", Action::name), 1);
                    verdicts.next().unwrap_or(Ok(()))
                }
                _ => Ok(()),
            };
            if let Err(refusal) = verdict {
                self.refusals
                    .refuse(refusal.code, &from.did, "a line of a delivery stream");
            }
            receiver
                .line(line, |_| verdict)
                .map_err(|error| End::Broken("broken_session", error.to_string()))?;
        }
        Ok(())
    }

    /// The transaction of what has gathered; none when nothing has.
    pub(super) fn commit<'a>(
        &'a self,
        io: &Io,
        receiver: &mut Receiver,
        from: &'a Arc<Member>,
    ) -> Option<Committing<'a>> {
        let batch = receiver.take();
        if batch.is_empty() {
            return None;
        }
        let ends = io.ends.clone();
        Some(Box::pin(async move {
            let bytes = batch.bytes() + batch.lines() * LINE_OVERHEAD;
            let room = self.take_room(ends, bytes).await?;
            let done = self.committer.session(&from.did, batch, room, now()).await;
            done.map_err(|error| {
                debug!(%error, from = %from.did, "the journal takes nothing; a delivery waits");
                End::Stop(stop_code(&error), RETRY)
            })
        }))
    }

    /// A transaction has ended: what is answered.
    pub(super) async fn committed(
        &self,
        io: &mut Io,
        receiver: &mut Receiver,
        from: &Arc<Member>,
        done: Result<(Batch, Committed), End>,
    ) -> Result<(), End> {
        let (batch, committed) = done?;
        if receiver.has_compared(&batch) {
            locked(&self.wanted_full).remove(&from.did);
        }
        for answer in receiver.committed(batch, committed) {
            self.answer(io, answer, &from.did).await?;
        }
        Ok(())
    }

    /// The session is over: the transaction under way is waited for; what was read before a good end, or before a line that
    /// makes no sense, counts.
    pub(super) async fn finish<'a>(
        &'a self,
        io: &mut Io,
        (mut receiver, mut committing): (Receiver, Option<Committing<'a>>),
        end: &End,
        from: &'a Arc<Member>,
    ) {
        loop {
            if let Some(committing) = committing.take() {
                let done = committing.await;
                if self.committed(io, &mut receiver, from, done).await.is_err() {
                    return;
                }
            }
            if !matches!(end, End::Broken(..) | End::Left) {
                return;
            }
            committing = self.commit(io, &mut receiver, from);
            if committing.is_none() {
                return;
            }
        }
    }

    /// Waits for room, as long as something is being published; what is in hand is given up when the session has to end.
    async fn take_room(&self, ends: Vec<CancellationToken>, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, End> {
        let bytes = u32::try_from(bytes.min(UNPUBLISHED)).unwrap_or(u32::MAX);
        let mut published = self.published.clone();
        tokio::select! {
            biased;
            room = Arc::clone(&self.room).acquire_many_owned(bytes) => Ok(room.ok()),
            code = stuck(&mut published) => Err(End::Stop(code, RETRY)),
            () = any(&ends) => Err(End::Over("it had to end while it waited for room")),
        }
    }

    pub(super) async fn answer(&self, io: &mut Io, answer: Answer, origin: &str) -> Result<(), End> {
        let left = |_| End::Over("the sender does not read");
        let failed = |error: JournalError| End::Stop(stop_code(&error), RETRY);
        match answer {
            Answer::Line(line) => io.write(&line.write_line()).await.map_err(left),
            Answer::Pages => {
                let did = origin.to_owned();
                let pages = self
                    .log
                    .read(move |journal| digest::pages(journal, &did))
                    .await
                    .map_err(failed)?;
                let lines: Vec<u8> = pages.iter().flat_map(ReceiverLine::write_line).collect();
                io.write(&lines).await.map_err(left)
            }
            Answer::Keys { after, to } => {
                let mut after = after;
                loop {
                    let (did, from, upto) = (origin.to_owned(), after.clone(), to.clone());
                    let keys = self
                        .log
                        .read(move |journal| digest::keys(journal, &did, from.as_ref(), upto.as_ref()));
                    let (line, next) = keys.await.map_err(failed)?;
                    io.write(&line.write_line()).await.map_err(left)?;
                    match next {
                        Some(next) => after = Some(next),
                        None => return Ok(()),
                    }
                }
            }
        }
    }
}

/// Returns when nothing more is published, with the code for senders.
async fn stuck(published: &mut watch::Receiver<Published>) -> &'static str {
    let published = published.wait_for(|published| published.stuck.is_some()).await;
    let stuck = published
        .ok()
        .and_then(|published| published.stuck.as_ref().map(|stuck| stuck.code));
    // None: the publisher has ended, with the daemon.
    stuck.unwrap_or("busy")
}

/// What a sender is told when the journal takes nothing.
pub(super) fn stop_code(error: &JournalError) -> &'static str {
    match error {
        JournalError::Full { .. } => "disk",
        _ => "busy",
    }
}
