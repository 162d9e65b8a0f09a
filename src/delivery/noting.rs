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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Change, SqliteStore, Write};
    use crate::wire::DataType;
    use bytes::Bytes;

    #[tokio::test]
    async fn nothing_is_noted_that_the_store_has_not_on_its_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("documents.db")).unwrap();
        let write = Write {
            datatype: DataType::DataResource,
            id: "r".into(),
            change: Change::Put(Bytes::from_static(b"{\"id\":\"r\",\"creator_id\":\"did:a\"}")),
            only_if_owner: None,
        };
        store.apply(vec![write]).await.unwrap();
        let (wal, away) = (dir.path().join("documents.db-wal"), dir.path().join("away"));
        std::fs::rename(&wal, &away).unwrap();
        let log = Log::open(&dir.path().join("journal.db")).unwrap();
        let (done_upto, done) = watch::channel(0);
        let (tell, mut published) = watch::channel(Published::default());
        let noting = tokio::spawn(note(log, Some(Arc::new(store)), done, tell));
        done_upto.send_replace(3);
        let noted = tokio::time::timeout(Duration::from_secs(1), published.changed()).await;
        assert!(noted.is_err(), "{:?}", published.borrow());
        std::fs::rename(&away, &wal).unwrap();
        published.wait_for(|published| published.upto == 3).await.unwrap();
        drop(done_upto);
        noting.await.unwrap();
    }
}
