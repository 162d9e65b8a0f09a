//! The loop from NATS to the node: messages in, one batch after another into the journal.
//!
//! Owns how many messages make a batch, and the one that is being journaled. No rule is in it. Always: batches are journaled
//! one after another in the order of NATS, and at the end what was taken is finished.

use super::taking::Taking;
use super::{AGAIN, Node};
use crate::bus::Taken;
use crate::store::Store;
use crate::telemetry::Sides;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Messages taken from the queue in one go.
const BATCH: usize = 64;
/// The side of the store's check of what has to be on the disk.
const SYNC: &str = "sync";

/// The end of what is being journaled; never when nothing is.
async fn journaled(journaling: &mut Option<JoinHandle<bool>>) -> bool {
    match journaling {
        Some(journaling) => journaling.await.unwrap_or(false),
        None => std::future::pending().await,
    }
}

/// What was written to the store is on the disk; false when the daemon left before.
async fn synced(store: &dyn Store, check: &Sides, give_up: &CancellationToken) -> bool {
    while let Err(error) = store.sync().await {
        if check.bad(SYNC, error.to_string()) {
            warn!(%error, "nothing is taken from NATS: what was stored has to be on the disk first");
        }
        tokio::select! {
            () = give_up.cancelled() => return false,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
    check.good(SYNC);
    true
}

impl Node {
    /// `ListenNATS`: handles what is taken until the queue is closed and empty. While one batch is being journaled the next
    /// one is read.
    pub(super) async fn listen_nats(mut self, mut taken: mpsc::Receiver<Taken>) {
        let mut messages = Vec::with_capacity(BATCH);
        let mut taking = Taking::default();
        let mut journaling = None;
        let mut closed = false;
        while !closed || journaling.is_some() || !taking.is_empty() {
            if journaling.is_none() && !taking.is_empty() {
                if taking.given_up && taking.batch.cursor.is_some() {
                    // The daemon is leaving before the store took it: in the stream it waits for the next start.
                    return;
                }
                journaling = Some(self.journal(std::mem::take(&mut taking)));
            }
            let may_take = !closed && !taking.is_full();
            tokio::select! {
                biased;
                journaled = journaled(&mut journaling) => {
                    journaling = None;
                    if !journaled {
                        return;
                    }
                    self.under_way = None;
                    self.metrics.set_intake_waiting(taken.len());
                    self.delivery.intake_is_idle(taken.is_empty() && taking.is_empty());
                    while self.delivery.disk_low() && !self.stopping.is_cancelled() {
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                count = taken.recv_many(&mut messages, BATCH), if may_take => {
                    closed = count == 0;
                    self.delivery.intake_is_idle(false);
                    for message in messages.drain(..) {
                        self.on_message(message, &mut taking).await;
                    }
                    self.metrics.set_intake_waiting(taken.len());
                }
            }
        }
    }

    /// Journals what was gathered, then tells the apps that asked for it; false when it was given up.
    fn journal(&mut self, taking: Taking) -> JoinHandle<bool> {
        let promised = taking.is_promised();
        let Taking {
            batch,
            answers,
            began,
            wrote,
            ..
        } = taking;
        let store = wrote.then(|| Arc::clone(&self.store));
        let rows = Arc::new(batch);
        self.under_way = Some(Arc::clone(&rows));
        let (intake, bus, metrics) = (self.intake.clone(), self.bus.clone(), self.metrics.clone());
        let (give_up, check) = (self.give_up.clone(), self.store_writes.clone());
        // A task of its own: it goes on while a message that is read meanwhile waits for the store.
        tokio::spawn(async move {
            // First: a store that a power cut sets behind the journal would be taken for newer than that.
            if let Some(store) = store
                && !synced(store.as_ref(), &check, &give_up).await
            {
                return false;
            }
            if !rows.is_empty() && !intake.take(&rows, promised, &give_up).await {
                return false;
            }
            if let Some(began) = began.filter(|_| !rows.changes.is_empty()) {
                metrics.event_took(began.elapsed());
            }
            bus.answer(answers).await;
            true
        })
    }
}
