//! What operators ask of delivery: how each destination stands, what is parked, again or no more, compare, copy.
//!
//! Owns their answers. Decides nothing about a line. Always: what is parked leaves only by a word of theirs, by a newer
//! change that was acknowledged, or by the bound; sending again goes the usual way, through the intake.

use super::{Delivery, locked};
use crate::delivery::commit::now;
use crate::delivery::journal::{Journal, JournalError};
use crate::delivery::publisher::Stuck;
use crate::delivery::sender::Input;
use crate::delivery::status::PartnerStatus;
use crate::delivery::types::{Cursor, Parked};
use tracing::warn;

/// Most parked changes counted for people.
pub const PARKED_COUNTED: usize = 1_000;
/// Most parked changes handled by one word of an operator.
const PARKED_MAX: usize = 10_000;
/// Parked changes sent again in one transaction: each may be as large as a document.
const RETRY: usize = 64;

impl Delivery {
    /// How every destination stands.
    pub async fn status(&self) -> Vec<PartnerStatus> {
        // One that has ended is no destination any more.
        let all: Vec<(PartnerStatus, bool)> = locked(&self.0.couriers)
            .values()
            .filter(|courier| !courier.task.is_finished())
            .map(|courier| (courier.status.get(), courier.partner))
            .collect();
        let known: Vec<PartnerStatus> = all.iter().map(|(status, _)| status.clone()).collect();
        // As of one moment: head, lag and parked fit each other.
        let reading = self.0.parts.log.read(move |journal| {
            let (head, _) = journal.bounds()?;
            let at = now();
            let mut told = Vec::with_capacity(all.len());
            for (mut status, partner) in all {
                let (rows, oldest) = match partner {
                    true if status.acked_seq < head => journal.lag(status.acked_seq, &status.did)?,
                    true => (0, 0),
                    // Nothing else is for it.
                    false => directed_lag(journal, &status.did)?,
                };
                (status.head, status.lag_rows) = (head, rows);
                status.lag_seconds = if rows > 0 { at.saturating_sub(oldest) / 1000 } else { 0 };
                status.parked = journal.parked(Some(&status.did), PARKED_COUNTED)?.len() as u64;
                told.push(status);
            }
            Ok(told)
        });
        reading.await.unwrap_or_else(|error| {
            warn!(%error, "the journal does not answer: how far partners are behind is as it was last known");
            known
        })
    }

    /// How many of partners' changes are committed here and not yet published on our NATS, and why nothing goes on with them, once
    /// that is so for a while.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn to_publish(&self) -> Result<(u64, Option<Stuck>), JournalError> {
        let waiting = self.0.parts.log.read(|journal| journal.todo_waiting()).await?;
        let stuck = self.0.sessions.published.borrow().stuck.clone();
        // What was published last may have turned out not to be: then nothing waits, and it is told all the same.
        Ok((waiting, stuck))
    }

    /// What is parked, of one destination or of all, the oldest first; an empty destination is our own intake.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn parked(&self, dest: Option<String>, limit: usize) -> Result<Vec<Parked>, JournalError> {
        self.0
            .parts
            .log
            .read(move |journal| journal.parked(dest.as_deref(), limit))
            .await
    }

    /// Sends parked changes of a destination again, as they are now; says how many, and how many are gone for good.
    ///
    /// # Errors
    /// The journal cannot be used; some may have been sent again.
    pub async fn retry(&self, dest: &str, id: Option<&str>) -> Result<(usize, usize), JournalError> {
        let parked = self.of(dest, id).await?;
        let (mut again, mut gone) = (0, 0);
        for some in parked.chunks(RETRY) {
            let done = self.0.intake.again(some.to_vec()).await?;
            (again, gone) = (again + done.0, gone + done.1);
        }
        Ok((again, gone))
    }

    /// Forgets parked changes; says how many.
    ///
    /// # Errors
    /// The journal cannot be used, and nothing was forgotten.
    pub async fn drop_parked(&self, dest: &str, id: Option<&str>) -> Result<usize, JournalError> {
        let parked = self.of(dest, id).await?;
        let dropping = self.0.parts.log.write(true, move |journal| {
            let mut dropped = 0;
            for parked in &parked {
                dropped += usize::from(journal.unpark(&parked.dest, &parked.key)?);
            }
            Ok(dropped)
        });
        dropping.await
    }

    async fn of(&self, dest: &str, id: Option<&str>) -> Result<Vec<Parked>, JournalError> {
        let mut parked = self.parked(Some(dest.to_owned()), PARKED_MAX).await?;
        parked.retain(|parked| id.is_none_or(|id| parked.key.id == id));
        Ok(parked)
    }

    /// Where the intake stands in its stream; none before the first message of one.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn place(&self) -> Result<Option<Cursor>, JournalError> {
        self.0.parts.log.read(|journal| journal.cursor()).await
    }

    /// Compares everything with a peer, both ways: what we have for it, and what it has for us. With `allow_deletes` the many
    /// deletes that a comparison holds back are let through. False when it has no courier.
    pub async fn resync(&self, did: &str, allow_deletes: bool) -> bool {
        self.0.sessions.want_full(did);
        if allow_deletes {
            self.0.shared.store.absent.lift();
        }
        let word = if allow_deletes {
            Input::AllowDeletes
        } else {
            Input::Compare
        };
        self.tell_one(did, word).await
    }

    /// Copies the journal, while it is used, to a new file.
    ///
    /// # Errors
    /// The name is taken, or the copy cannot be written.
    pub async fn backup(&self, to: &std::path::Path) -> Result<(), JournalError> {
        self.0.parts.log.backup(to).await
    }
}

/// Rows that wait for `dest` alone, and when the oldest of them was taken.
fn directed_lag(journal: &dyn Journal, dest: &str) -> Result<(u64, u64), JournalError> {
    let (rows, _) = journal.directed_waiting(dest)?;
    let oldest = journal.rows_after(0, dest, true, 1, 1)?;
    Ok((rows, oldest.first().map(|row| row.change.at).unwrap_or_default()))
}
