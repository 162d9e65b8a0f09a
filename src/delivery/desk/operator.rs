//! What operators ask of delivery: how each destination stands, what is parked, again or no more, compare, copy.
//!
//! Owns their answers. Decides nothing about a line. Always: what is parked leaves only by a word of theirs, by a newer
//! change that was acknowledged, or by the bound; sending again goes the usual way, through the intake.

use super::{Delivery, locked};
use crate::delivery::absent::STORE;
use crate::delivery::commit::now;
use crate::delivery::journal::{Journal, JournalError};
use crate::delivery::publisher::Stuck;
use crate::delivery::sender::Input;
use crate::delivery::status::PartnerStatus;
use crate::delivery::types::{Cursor, Parked};
use tracing::warn;

/// Most parked changes counted for people.
pub const PARKED_COUNTED: usize = 1_000;
/// Parked changes looked at in one go.
const PARKED_STEP: usize = 10_000;
/// Parked changes sent again in one transaction: each may be as large as a document.
const RETRY: usize = 64;

/// What became of the wish to compare everything with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resynced {
    /// It is compared as soon as it can be reached.
    Begun,
    /// It is no partner: there is nothing to compare.
    NotPartner,
    /// It knows only the `/1.0` protocols, which compare nothing. It is asked again whether it knows more by now.
    Legacy,
}

impl Delivery {
    /// How every destination stands.
    pub async fn status(&self) -> Vec<PartnerStatus> {
        // One that has ended is no destination any more.
        let all: Vec<(PartnerStatus, bool)> = locked(&self.0.couriers)
            .values()
            .filter(|courier| !courier.task.is_finished())
            .map(|courier| (courier.status.get(), courier.partner))
            .collect();
        let all = self.named(all);
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

    /// With the names that they have now: a peer may be renamed while its courier runs.
    fn named(&self, mut all: Vec<(PartnerStatus, bool)>) -> Vec<(PartnerStatus, bool)> {
        let federation = self.0.parts.federation.borrow();
        for (status, _) in &mut all {
            if let Some(member) = federation.get(&status.did) {
                member.name.clone_into(&mut status.name);
            }
        }
        drop(federation);
        all
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

    /// The same behind `skip` of them, of one id when it is given; and how many there are in all.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn parked_page(
        &self,
        dest: Option<String>,
        id: Option<String>,
        skip: usize,
        limit: usize,
    ) -> Result<(Vec<Parked>, u64), JournalError> {
        let reading = self.0.parts.log.read(move |journal| {
            let (dest, id) = (dest.as_deref(), id.as_deref());
            Ok((
                journal.parked_page(dest, id, skip, limit)?,
                journal.parked_count(dest, id)?,
            ))
        });
        reading.await
    }

    /// Sends parked changes of a destination again, as they are now; says how many, and how many are gone for good.
    ///
    /// # Errors
    /// The journal cannot be used; some may have been sent again.
    pub async fn retry(&self, dest: &str, id: Option<&str>) -> Result<(usize, usize), JournalError> {
        let (mut again, mut gone) = (0, 0);
        // What is parked anew meanwhile comes behind these, and waits for another word.
        let (_, mut left) = self.of(dest, id, 0).await?;
        while left > 0 {
            let (parked, _) = self.of(dest, id, left.min(PARKED_STEP)).await?;
            if parked.is_empty() {
                break;
            }
            left = left.saturating_sub(parked.len());
            for some in parked.chunks(RETRY) {
                let done = self.0.intake.again(some.to_vec()).await?;
                (again, gone) = (again + done.0, gone + done.1);
            }
        }
        Ok((again, gone))
    }

    /// Forgets parked changes; says how many.
    ///
    /// # Errors
    /// The journal cannot be used; some may have been forgotten.
    pub async fn drop_parked(&self, dest: &str, id: Option<&str>) -> Result<usize, JournalError> {
        let mut dropped = 0;
        let (_, mut left) = self.of(dest, id, 0).await?;
        while left > 0 {
            let (parked, _) = self.of(dest, id, left.min(PARKED_STEP)).await?;
            if parked.is_empty() {
                break;
            }
            left = left.saturating_sub(parked.len());
            let dropping = self.0.parts.log.write(true, move |journal| {
                let mut dropped = 0;
                for parked in &parked {
                    dropped += usize::from(journal.unpark(&parked.dest, &parked.key)?);
                }
                Ok(dropped)
            });
            dropped += dropping.await?;
        }
        Ok(dropped)
    }

    /// The oldest of what is parked for `dest`, of one id when it is given; and how many there are.
    async fn of(&self, dest: &str, id: Option<&str>, most: usize) -> Result<(Vec<Parked>, usize), JournalError> {
        let (dest, id) = (Some(dest.to_owned()), id.map(str::to_owned));
        let (parked, count) = self.parked_page(dest, id, 0, most).await?;
        Ok((parked, usize::try_from(count).unwrap_or(usize::MAX)))
    }

    /// Where the intake stands in its stream; none before the first message of one.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn place(&self) -> Result<Option<Cursor>, JournalError> {
        self.0.parts.log.read(|journal| journal.cursor()).await
    }

    /// Compares everything with a partner, both ways: what we have for it, and what it has for us. With `allow_deletes` the many
    /// deletes that the comparison with this one holds back are let through.
    pub async fn resync(&self, did: &str, allow_deletes: bool) -> Resynced {
        let courier = locked(&self.0.couriers)
            .get(did)
            .map(|courier| (courier.partner, courier.status.get().legacy));
        match courier {
            Some((true, false)) => {}
            Some((true, true)) => {
                self.tell_one(did, Input::Nudge { asked: true }).await;
                return Resynced::Legacy;
            }
            _ => return Resynced::NotPartner,
        }
        let word = if allow_deletes {
            Input::AllowDeletes
        } else {
            Input::Compare
        };
        if !self.tell_one(did, word).await {
            return Resynced::NotPartner;
        }
        self.0.sessions.want_full(did);
        // Only once there is a comparison for which it is meant.
        if allow_deletes {
            self.0.shared.store.absent.lift(did);
        }
        Resynced::Begun
    }

    /// Compares what was propagated with our store, now. With `allow_deletes` the many deletes that this holds back are let through,
    /// to every partner: what is not in the store is gone for all.
    pub fn compare_with_store(&self, allow_deletes: bool) {
        if allow_deletes {
            self.0.shared.store.absent.lift(STORE);
        }
        self.0.reconcile.notify_one();
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
