//! What is taken from NATS, on its way into the journal.
//!
//! Owns the one transaction in which rows and cursor move, and the bound of what waits for one peer alone. Always: couriers
//! see rows in the order of their commits; what is over the bound is parked where people see it.

use super::commit::now;
use super::journal::{Journal, JournalError, Result};
use super::log::{How, Log};
use super::recent::Recent;
use super::types::{Change, Cursor, Parked, Row};
use crate::settings::DeliverySettings;
use crate::telemetry::{Refusals, Sides};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// From core NATS nothing comes again: what is committed reaches the disk this soon.
const SYNC_WITHIN: Duration = Duration::from_millis(10);
/// Pause after the journal could not be written.
const AGAIN: Duration = Duration::from_millis(500);

/// What one batch of messages comes to.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Changes, in the order of NATS.
    pub changes: Vec<Change>,
    /// What could not be taken, and why.
    pub parked: Vec<Parked>,
    /// Where the intake stands behind it, when it is from a stream.
    pub cursor: Option<Cursor>,
}

impl Batch {
    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.parked.is_empty() && self.cursor.is_none()
    }
}

/// A change that the journal has missed.
#[derive(Debug, Clone)]
pub(super) struct Missed {
    /// The change.
    pub(super) change: Change,
    /// The seq of the key's row when the store was asked; none: there was no row.
    pub(super) seq: Option<u64>,
}

/// How far our feed reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// The newest seq.
    pub head: u64,
    /// The highest purged tombstone.
    pub floor: u64,
}

/// Cloneable handle.
#[derive(Clone)]
pub struct Intake {
    log: Log,
    recent: Arc<Recent>,
    reach: watch::Sender<Reach>,
    /// Rows for one peer alone were journaled.
    directed: Arc<Notify>,
    /// The newest seq of the stream that is journaled.
    cursor: watch::Sender<u64>,
    bounds: Arc<DeliverySettings>,
    dirty: Arc<Notify>,
    /// Whether the journal takes.
    journal: Sides,
    refusals: Refusals,
}

impl Intake {
    /// Writes to `log`, and tells couriers by `recent` and `reach`.
    #[must_use]
    pub fn new(
        log: Log,
        recent: Arc<Recent>,
        (reach, directed): (watch::Sender<Reach>, Arc<Notify>),
        bounds: Arc<DeliverySettings>,
        (journal, refusals): (Sides, Refusals),
    ) -> Self {
        Self {
            log,
            recent,
            reach,
            directed,
            cursor: watch::Sender::new(0),
            bounds,
            dirty: Arc::new(Notify::new()),
            journal,
            refusals,
        }
    }

    /// How far the intake has come in its stream in this life, to watch.
    #[must_use]
    pub fn cursor(&self) -> watch::Receiver<u64> {
        self.cursor.subscribe()
    }

    pub(super) fn reach(&self) -> watch::Sender<Reach> {
        self.reach.clone()
    }

    /// Commits a batch, however long that takes. False when `stop` came first: then nobody may be told that it is safe.
    ///
    /// `promised`: somebody is told that it is safe, so it is on the disk when this returns. It is committed once, however often
    /// the disk has to be asked: what is for one peer alone would be there as often.
    pub async fn take(&self, batch: &Arc<Batch>, promised: bool, stop: &CancellationToken) -> bool {
        let mut committed = false;
        loop {
            let done = match committed {
                false => self.try_take(Arc::clone(batch)).await,
                true => self.log.write(true, |_| Ok(())).await,
            };
            match done {
                Ok(()) if promised && !committed => {
                    committed = true;
                    continue;
                }
                Ok(()) => {
                    if self.journal.good("intake") {
                        info!("the journal takes again");
                    }
                    return true;
                }
                Err(JournalError::Closed) => return false,
                Err(error) => {
                    if self.journal.bad("intake", error.to_string()) {
                        warn!(%error, "nothing is taken from NATS: the journal cannot be written");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    /// Commits what the store has and the journal missed, unless the journal has heard of the key meanwhile: what comes by
    /// NATS is newer than what was read. Says how many were.
    ///
    /// # Errors
    /// Nothing of it was taken.
    pub(super) async fn mend(&self, found: Vec<Missed>) -> Result<usize> {
        if found.is_empty() {
            return Ok(0);
        }
        let rows = found.len();
        let work = move |journal: &mut dyn Journal| {
            let mut changes = Vec::with_capacity(rows);
            for Missed { change, seq } in found {
                if journal.row(&change.key)?.map(|row| row.seq) == seq {
                    changes.push(change);
                }
            }
            Ok((changes.len(), journal.take(&changes, None)?))
        };
        self.commit(How::of_rows(false, rows), None, work).await
    }

    /// Commits a batch, or says why not.
    ///
    /// # Errors
    /// Nothing of it was taken.
    pub async fn try_take(&self, batch: Arc<Batch>) -> Result<()> {
        let bounds = Arc::clone(&self.bounds);
        let last_seq = batch.cursor.as_ref().map(|cursor| cursor.last_seq);
        let rows = batch.changes.len() + batch.parked.len();
        let work = move |journal: &mut dyn Journal| {
            for parked in &batch.parked {
                journal.park(parked, bounds.parked)?;
            }
            Ok(((), journal.take(&batch.changes, batch.cursor.as_ref())?))
        };
        self.commit(How::of_rows(false, rows), last_seq, work).await
    }

    /// Journals parked changes again, as they are now, in the transaction in which they are no more parked; says how many,
    /// and how many are gone for good.
    ///
    /// # Errors
    /// Nothing was done.
    pub(super) async fn again(&self, parked: Vec<Parked>) -> Result<(usize, usize)> {
        let parked_rows = parked.len();
        let work = move |journal: &mut dyn Journal| {
            let (mut changes, mut gone) = (Vec::new(), 0);
            for parked in parked {
                if !journal.unpark(&parked.dest, &parked.key)? {
                    continue;
                }
                let directed = journal.rows_after(parked.seq.saturating_sub(1), &parked.dest, true, 1, 1)?;
                let directed = directed.into_iter().find(|row| row.seq == parked.seq);
                match directed.map_or_else(|| journal.row(&parked.key), |row| Ok(Some(row)))? {
                    Some(row) => changes.push(row.change),
                    None => gone += 1,
                }
            }
            Ok(((changes.len(), gone), journal.take(&changes, None)?))
        };
        self.commit(How::of_rows(true, parked_rows), None, work).await
    }

    /// Commits what `work` journals, and tells couriers.
    async fn commit<T: Send + 'static>(
        &self,
        how: How,
        last_seq: Option<u64>,
        work: impl FnOnce(&mut dyn Journal) -> Result<(T, Vec<Row>)> + Send + 'static,
    ) -> Result<T> {
        let bounds = Arc::clone(&self.bounds);
        let (recent, reach) = (Arc::clone(&self.recent), self.reach.clone());
        let (directed, cursor) = (Arc::clone(&self.directed), self.cursor.clone());
        let dirty = Arc::clone(&self.dirty);
        let done = self.log.write_then(
            how,
            move |journal| {
                let (done, rows) = work(journal)?;
                let dests: BTreeSet<&str> = rows.iter().map(|row| row.change.dest.as_str()).collect();
                let mut expired = Vec::new();
                for dest in dests.into_iter().filter(|dest| !dest.is_empty()) {
                    expired.extend(expire(journal, dest, &bounds)?);
                }
                Ok((done, rows, expired))
            },
            move |(_, rows, expired): &(T, Vec<Row>, Vec<(String, u64)>)| {
                recent.add(rows);
                for (_, seq) in expired {
                    recent.forget(*seq);
                }
                if let Some(last_seq) = last_seq {
                    cursor.send_replace(last_seq);
                }
                if !how.durable {
                    dirty.notify_one();
                }
                if rows.iter().any(|row| !row.change.dest.is_empty()) {
                    directed.notify_one();
                }
                // Last: whoever is woken last runs next on this thread, and that is to be a courier.
                if let Some(last) = rows.last() {
                    reach.send_modify(|reach| reach.head = reach.head.max(last.seq));
                }
            },
        );
        let (done, _, expired) = done.await?;
        for (dest, _) in expired {
            let detail = "delivery.directed_rows or delivery.directed_bytes is reached; the oldest is parked";
            self.refusals.dropped("directed", "expired", 1, &dest, detail);
        }
        Ok(done)
    }

    /// Brings what is committed to the disk, soon after each commit, until `stop`; a disk that fails is asked again, whether or not
    /// more is committed. For an intake from core NATS.
    pub async fn keep_synced(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.dirty.notified() => tokio::time::sleep(SYNC_WITHIN).await,
            }
            loop {
                match self.log.write(true, |_| Ok(())).await {
                    Ok(()) => {
                        if self.journal.good("sync") {
                            info!("the journal is brought to the disk again");
                        }
                        break;
                    }
                    Err(JournalError::Closed) => return,
                    Err(error) => {
                        if self.journal.bad("sync", error.to_string()) {
                            warn!(%error, "the journal cannot be brought to the disk: a power cut now loses what was taken; trying again");
                        }
                    }
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(AGAIN) => {}
                }
            }
        }
    }
}

/// Parks the oldest of what waits for one peer alone until it is within its bound.
fn expire(journal: &mut dyn Journal, dest: &str, bounds: &DeliverySettings) -> Result<Vec<(String, u64)>> {
    let mut expired = Vec::new();
    loop {
        let (rows, bytes) = journal.directed_waiting(dest)?;
        if rows <= bounds.directed_rows as u64 && bytes <= bounds.directed_bytes as u64 {
            return Ok(expired);
        }
        let Some(oldest) = journal.rows_after(0, dest, true, 1, 1)?.into_iter().next() else {
            return Ok(expired);
        };
        journal.directed_done(dest, oldest.seq)?;
        let parked = Parked {
            dest: dest.to_owned(),
            key: oldest.change.key,
            seq: oldest.seq,
            code: "expired".into(),
            detail: format!("more than {} wait for this peer", bounds.directed_rows),
            at: now(),
        };
        journal.park(&parked, bounds.parked)?;
        expired.push((dest.to_owned(), oldest.seq));
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
