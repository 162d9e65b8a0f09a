//! The journal against the document store: the I/O of `reconcile`.
//!
//! Owns which of our documents count as ours. Always: a key is looked at only because it was propagated before or a partner
//! holds it of us; what the store cannot tell is left as it is.

use super::absent::Absent;
use super::commit::now;
use super::intake::Missed;
use super::journal::JournalError;
use super::log::Log;
use super::reconcile::{is_settled, missing};
use super::types::{Key, Row};
use crate::model::read_header;
use crate::store::Store;
use crate::wire::Action;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long the first step of a comparison waits for the intake, and each further one, since under a constant load it is
/// never idle. After that it goes on: a partner is told something that the next rows mend.
const DRAIN_TIME: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(100));

/// See the module's first lines.
#[derive(Clone)]
pub(super) struct StoreCheck {
    pub(super) own_did: String,
    pub(super) store: Arc<dyn Store>,
    /// The apps keep everything there: what is not there was deleted.
    pub(super) apps_own_store: bool,
    /// How much may be taken for deleted because it is not there.
    pub(super) absent: Arc<Absent>,
    /// Whether everything taken from NATS is journaled.
    pub(super) intake_idle: watch::Receiver<bool>,
}

impl StoreCheck {
    /// Returns when everything that was taken from NATS is journaled, so that the store knows nothing newer.
    pub(super) async fn intake_drained(&self, first: bool) {
        let mut idle = self.intake_idle.clone();
        let patience = if first { DRAIN_TIME.0 } else { DRAIN_TIME.1 };
        let _ = tokio::time::timeout(patience, idle.wait_for(|idle| *idle)).await;
    }

    /// What the journal has missed of `keys`, as the comparison `of` asks: with a partner (its DID) or with the store. Rows that are too young to be told from an app that has not stored yet are left
    /// alone: those of this life, and with `settled_only` all others, too (a journal that was set back may have young ones).
    ///
    /// # Errors
    /// The journal or the store does not answer: a journal that was set back must not be believed alone.
    pub(super) async fn missing(
        &self,
        log: &Log,
        of: &str,
        keys: &[Key],
        settled_only: bool,
    ) -> Result<Vec<Missed>, JournalError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = keys.to_vec();
        let (life, rows): (u64, Vec<(Key, Option<Row>, bool)>) = log
            .read(move |journal| {
                let rows = wanted.into_iter().map(|key| {
                    let (row, stored) = (journal.row(&key)?, journal.was_stored(&key)?);
                    Ok((key, row, stored))
                });
                let rows = rows.collect::<Result<_, JournalError>>()?;
                let life = journal.feed()?.incarnations.last().map(|life| life.first_seq);
                Ok((life.unwrap_or_default(), rows))
            })
            .await?;
        let asked: Vec<_> = keys.iter().map(|key| (key.datatype, key.id.clone())).collect();
        let documents = self.store.documents(&asked).await;
        let documents =
            documents.map_err(|error| JournalError::Failed(format!("the store does not answer: {error}")))?;
        let at = now();
        let (mut changes, mut seen) = (Vec::new(), Vec::new());
        for ((key, row, was_stored), document) in rows.into_iter().zip(documents) {
            let ours = document.filter(|document| self.is_ours(document));
            if ours.is_some() && !was_stored && row.is_some() {
                seen.push(key.clone());
            }
            let too_young = |row: &Row| !is_settled(row, at) && (settled_only || row.seq >= life);
            if row.as_ref().is_some_and(too_young) {
                continue;
            }
            let absence_counts = was_stored || self.apps_own_store;
            let found = missing(&key, row.as_ref(), ours.as_ref(), absence_counts, at);
            let seq = row.as_ref().map(|row| row.seq);
            changes.extend(found.map(|change| Missed { change, seq }));
        }
        let deletes = changes
            .iter()
            .filter(|missed| missed.change.action == Action::Delete)
            .count();
        if deletes > 0 && !(self.is_our_store().await? && self.absent.take(log, of, deletes as u64).await?) {
            changes.retain(|missed| missed.change.action != Action::Delete);
        }
        if !seen.is_empty() {
            log.write(false, move |journal| journal.note_stored(&seen)).await?;
        }
        Ok(changes)
    }

    /// Whether the store still knows us: an emptied database, or another one, says nothing about what was deleted.
    async fn is_our_store(&self) -> Result<bool, JournalError> {
        let me = self.store.self_peer().await;
        let me = me.map_err(|error| JournalError::Failed(format!("the store does not answer: {error}")))?;
        Ok(me.is_some_and(|me| me.did == self.own_did))
    }

    fn is_ours(&self, document: &Bytes) -> bool {
        read_header(document).is_ok_and(|header| header.creator_id == self.own_did)
    }
}
