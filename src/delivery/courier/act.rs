//! What the rules want done: each effect, and the questions to journal and store.
//!
//! Owns how an effect is done. Decides nothing. Always: nothing here waits; what takes time becomes an answer later.

use super::io::Opening;
use super::{Courier, Shared};
use crate::delivery::commit::now;
use crate::delivery::digest::{self, Difference};
use crate::delivery::journal::{Journal, JournalError};
use crate::delivery::sender::{Effect, Input, WINDOW_BYTES, ask};
use crate::delivery::types::{Held, Key, Parked, Row};
use crate::model::{Member, Relation};
use crate::network::{ConnectError, OpenError};
use crate::stream::{Enqueued, OutEvent};
use crate::wire::{SenderLine, protocol};
use libp2p::PeerId;
use std::sync::Arc;
use std::time::Instant;
use tracing::{debug, info, warn};

impl Courier {
    /// Does what is wanted; an answer that is there at once comes back.
    pub(super) async fn act(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Open => {
                self.drained = false;
                self.opening = Some(self.open());
            }
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
                let why = self.sender.set_back_because();
                match line {
                    SenderLine::Begin { .. } if !why.is_empty() => {
                        info!(partner = %self.name(), did = %self.did, why, "the partner is sent again what it has lost");
                    }
                    SenderLine::List => {
                        info!(partner = %self.name(), did = %self.did, why, "everything is being compared with the partner");
                    }
                    SenderLine::End(..) => {
                        info!(partner = %self.did, "everything was compared with the partner");
                        self.shared.metrics.compared(&self.did);
                    }
                    _ => {}
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
                let (shared, first) = (Arc::clone(&self.shared), !std::mem::replace(&mut self.drained, true));
                self.ask(ticket, async move {
                    shared.store.intake_drained(first).await;
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
                let (shared, first) = (Arc::clone(&self.shared), !std::mem::replace(&mut self.drained, true));
                let did = self.did.clone();
                self.ask(ticket, async move {
                    shared.store.intake_drained(first).await;
                    compare(&shared, &did, ticket, (after, to), held).await
                });
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
            Effect::Arrived { keys } => {
                let did = self.did.clone();
                self.spawn_write(move |journal| keys.iter().try_for_each(|key| journal.unpark(&did, key).map(drop)));
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
                let shared = Arc::clone(&self.shared);
                tokio::spawn(async move { forget(&shared, did, known).await });
                self.ended = true;
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

    fn name(&self) -> String {
        self.member().map(|member| member.name.clone()).unwrap_or_default()
    }

    fn open(&self) -> Opening {
        let (shared, member) = (Arc::clone(&self.shared), self.member());
        let no_member = match shared.federation.borrow().is_aside(&self.did) {
            true => "its document cannot be read, or contradicts what is known: see `peer explain`",
            false => "its document is gone",
        };
        Box::pin(async move {
            let member = member.ok_or(OpenError::Failed(no_member.into()))?;
            let peer = member
                .peer_id
                .ok_or(OpenError::Failed("its document names no PeerId".into()))?;
            let reached = reach(&shared, peer, &member).await;
            reached.map_err(|error| OpenError::Failed(error.to_string()))?;
            let stream = shared.network.open(peer, protocol::DELIVERY).await?;
            Ok((peer, stream))
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
    pub(super) fn spawn_write(&self, work: impl FnOnce(&mut dyn Journal) -> Result<(), JournalError> + Send + 'static) {
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
}

/// Forgets a destination; with `unless_waiting` only when nothing waits for it alone, since that brings a courier of its own.
pub(in crate::delivery) async fn forget(shared: &Shared, did: String, unless_waiting: bool) {
    let dest = did.clone();
    let forgotten = shared.log.write(false, move |journal| {
        let (waiting, _) = journal.directed_waiting(&dest)?;
        if unless_waiting && waiting > 0 {
            return Ok(0);
        }
        journal.forget_dest(&dest)?;
        Ok(waiting)
    });
    match forgotten.await {
        Ok(0) => {}
        Ok(waiting) => {
            let detail = "what waited for this peer alone goes with it";
            shared.refusals.dropped("journal", "peer_gone", waiting, &did, detail);
        }
        Err(error) => warn!(%error, partner = %did, "the journal cannot be written"),
    }
}

/// Compares one range, asking the store about each key that differs.
async fn compare(
    shared: &Shared,
    did: &str,
    ticket: u64,
    (after, to): (Option<Key>, Option<Key>),
    held: Vec<Held>,
) -> Result<Input, JournalError> {
    let compared = shared
        .log
        .read(move |journal| digest::compare(journal, after.as_ref(), to.as_ref(), &held, WINDOW_BYTES))
        .await?;
    let changes = shared.store.missing(&shared.log, did, &compared.keys, false).await?;
    shared.intake.mend(changes).await?;
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
    if reach(shared, peer, &member).await.is_err() {
        return false;
    }
    let change = row.change;
    let event = shared
        .streams
        .event(change.action, change.key.datatype, &change.user, change.payload);
    let event = Arc::new(OutEvent::new(event, change.key.id, Instant::now()));
    // What is given up at the queue was not sent, however much of what waits before it is.
    let queued = shared.streams.publish_common(&member, event).await == Enqueued::Queued;
    queued && shared.streams.written(peer).await
}

/// Connects. A partner is looked for elsewhere by whoever keeps its heartbeat; nobody but us looks for another peer.
async fn reach(shared: &Shared, peer: PeerId, member: &Member) -> Result<(), ConnectError> {
    match member.relation {
        Relation::Partner => shared.network.connect(peer, &member.addresses).await,
        _ => shared.streams.connect(peer, member).await,
    }
}
