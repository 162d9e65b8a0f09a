//! What delivery does by the clock: the journal against the store, old rows, free disk.
//!
//! Owns when each of them is due. Never touches a session. Always: they begin once the intake has passed what was there at
//! the start, since a change that waits in NATS is not one that was missed.

use super::{Delivery, TICK};
use crate::delivery::absent::STORE;
use crate::delivery::commit::now;
use crate::delivery::journal::JournalError;
use crate::delivery::log::How;
use crate::identity::free_bytes;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::{info, warn};

/// How often old tombstones and ids are purged.
const PURGE_EVERY: Duration = Duration::from_secs(600);
/// Ids of directed events kept of one origin: far more than can be under way, and a bound for one that sends without end.
const SEEN_OF_ONE: usize = 100_000;
/// Rows purged in one transaction.
const PURGE: usize = 10_000;
/// Keys of one step of a reconcile.
const RECONCILE: usize = 256;
/// The disk must have so much more than the bound, in percent, to be enough again.
const ENOUGH: u64 = 110;

impl Delivery {
    /// The journal against the store: by the clock, and when it is asked for. Beside the rest, since a slow store may take hours.
    pub(super) async fn reconciles(self) {
        let inner = &self.0;
        let mut ready = inner.intake_ready.subscribe();
        tokio::select! {
            () = inner.stop.cancelled() => return,
            _ = ready.wait_for(|ready| *ready) => {}
        }
        let mut reconcile = tokio::time::interval(inner.parts.settings.delivery.reconcile_every);
        loop {
            tokio::select! {
                () = inner.stop.cancelled() => return,
                _ = reconcile.tick() => {}
                () = inner.reconcile.notified() => {}
            }
            self.reconcile_all().await;
        }
    }

    /// Purges and the look at the disk.
    pub(super) async fn chores(self) {
        let inner = &self.0;
        let mut ready = inner.intake_ready.subscribe();
        let mut disk = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = inner.stop.cancelled() => return,
                _ = disk.tick() => self.look_at_disk(),
                _ = ready.wait_for(|ready| *ready) => break,
            }
        }
        let mut purge = tokio::time::interval(PURGE_EVERY);
        loop {
            tokio::select! {
                () = inner.stop.cancelled() => return,
                _ = purge.tick() => self.purge().await,
                _ = disk.tick() => {
                    self.look_at_disk();
                    self.tell_journal().await;
                }
            }
        }
    }

    /// Compares every key that was propagated with the store.
    async fn reconcile_all(&self) {
        let (log, store) = (&self.0.parts.log, &self.0.shared.store);
        let mut after = None;
        let mut mended = 0;
        loop {
            let from = after.clone();
            let keys = match log
                .read(move |journal| journal.own_keys(from.as_ref(), None, RECONCILE))
                .await
            {
                Ok(keys) => keys,
                Err(error) => return warn!(%error, "the journal could not be compared with the store"),
            };
            let Some(last) = keys.last().map(|own| own.key.clone()) else {
                break;
            };
            let keys: Vec<_> = keys.into_iter().map(|own| own.key).collect();
            store.intake_drained(after.is_none()).await;
            let changes = match store.missing(log, STORE, &keys, true).await {
                Ok(changes) => changes,
                Err(error) => return warn!(%error, "the journal could not be compared with the store"),
            };
            match self.0.intake.mend(changes).await {
                Ok(taken) => mended += taken,
                Err(error) => return warn!(%error, "the journal could not be mended from the store"),
            }
            if self.0.stop.is_cancelled() {
                return;
            }
            after = Some(last);
        }
        if mended > 0 {
            self.0.parts.metrics.dropped_many("intake", "missed", mended as u64);
            info!(
                changes = mended,
                "the store had changes that were not heard of on NATS: they are journaled now"
            );
        }
    }

    async fn purge(&self) {
        let bounds = &self.0.parts.settings.delivery;
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let (tombstones, seen) = (millis(bounds.tombstone_age), millis(bounds.seen_age));
        let keep = bounds.tombstones;
        loop {
            let at = now();
            let reach = self.0.intake.reach();
            let purged = self.0.parts.log.write_then(
                How::of_rows(false, PURGE),
                move |journal| {
                    let tombs = journal.purge_tombstones(at.saturating_sub(tombstones), keep, PURGE)?;
                    let seen = journal.purge_seen(at.saturating_sub(seen), PURGE)?;
                    Ok((tombs.max(seen), journal.feed()?.floor))
                },
                move |(_, floor)| reach.send_modify(|reach| reach.floor = *floor),
            );
            match purged.await {
                Ok((purged, _)) if purged >= PURGE && !self.0.stop.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => return warn!(%error, "old rows of the journal could not be purged"),
            }
        }
        if let Err(error) = self.cap_seen().await {
            warn!(%error, "ids of directed events could not be purged");
        }
    }

    /// Of each origin no more than so many ids: counted once, then forgotten in steps between which others write.
    async fn cap_seen(&self) -> Result<(), JournalError> {
        let log = &self.0.parts.log;
        for (origin, over) in log.read(|journal| journal.seen_over(SEEN_OF_ONE)).await? {
            let mut left = over;
            while left > 0 && !self.0.stop.is_cancelled() {
                let (of, most) = (origin.clone(), left.min(PURGE));
                log.write(false, move |journal| journal.forget_seen(&of, most)).await?;
                left -= most;
            }
        }
        Ok(())
    }

    /// How large the journal is, and what waits in it to be published.
    async fn tell_journal(&self) {
        if let Ok(waiting) = self.0.parts.log.read(|journal| journal.todo_waiting()).await {
            self.0.parts.metrics.set_journal(waiting, self.0.parts.log.bytes());
        }
    }

    /// Whether there is too little room on the disk to take anything.
    #[must_use]
    pub fn disk_low(&self) -> bool {
        self.0.disk_low.load(Ordering::Relaxed)
    }

    fn look_at_disk(&self) {
        let path: PathBuf = self.0.parts.settings.state_dir.clone();
        let bound = self.0.parts.settings.delivery.min_free_bytes as u64;
        let free = match free_bytes(&path) {
            Ok(free) => free,
            // Nobody knows that it is low: what is taken says soon enough whether it can be written.
            Err(error) => {
                warn!(%error, path = %path.display(), "the free space of state_dir cannot be told");
                return self.disk_is(None);
            }
        };
        let was = self.disk_low();
        let low = free < if was { bound.saturating_mul(ENOUGH) / 100 } else { bound };
        self.disk_is(low.then(|| {
            format!(
                "{} MiB are free in state_dir, delivery.min_free_bytes wants {}",
                free >> 20,
                bound >> 20
            )
        }));
    }

    /// Puts into effect whether it is low, and why.
    fn disk_is(&self, low: Option<String>) {
        self.0.disk_low.store(low.is_some(), Ordering::Relaxed);
        match low {
            Some(why) => self.0.parts.readiness.set_bad("disk", why),
            None => self.0.parts.readiness.set_ok("disk"),
        }
    }
}
