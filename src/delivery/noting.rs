//! The second commit: what was published leaves the journal, and only then may it be acknowledged.
//!
//! Owns its order: what was stored is on the disk before the journal says that it is done. Always: what was published while the
//! disk was busy goes into the next one; ends with the publisher, when all is noted.

use super::journal::JournalError;
use super::log::Log;
use super::publisher::Published;
use crate::store::{Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::warn;

/// Pause after journal or store could not be written.
const AGAIN: Duration = Duration::from_millis(500);

/// Follows `done`, the number up to which rows are published, and tells `published` what is noted. `store` is the one into which
/// rows are written.
pub(super) async fn note(
    log: Log,
    store: Option<Arc<dyn Store>>,
    mut done: watch::Receiver<u64>,
    published: watch::Sender<Published>,
) {
    while done.changed().await.is_ok() {
        loop {
            let n = *done.borrow_and_update();
            let stored = match &store {
                Some(store) => store.sync().await,
                None => Ok(()),
            };
            match stored {
                Ok(()) => {}
                Err(StoreError::Closed) => return,
                Err(error) => {
                    warn!(%error, "what was stored cannot be brought to the disk; trying again");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            }
            match log.write(true, move |journal| journal.published(n)).await {
                Ok(()) => {
                    published.send_modify(|published| published.upto = published.upto.max(n));
                    break;
                }
                Err(JournalError::Closed) => return,
                Err(error) => {
                    warn!(%error, "what was published cannot be noted; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}
