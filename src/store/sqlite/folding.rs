//! The log beside the store's file is kept short, also where searches overlap without end.
//!
//! Owns when it is folded by force. SQLite writes its log from the start again only in a moment in which nobody reads from it,
//! and partners who search without a pause, and take their results slowly, leave no such moment. Always: further searches wait
//! then until those under way have ended, but not long before the log is very long; look-ups go on, writes after the folding.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::debug;

use super::readers::{Readers, SEARCHES_MAX};
use super::writer::Writer;
use crate::store::{StoreError, file};

/// Bytes of the log at which it is folded by force: far more than what the writer folds by itself when nobody is in its way.
const MOST: u64 = 8 * file::LOG_BYTES;
/// How long searches are held back for it.
const PATIENCE: Duration = Duration::from_secs(3);
/// So many times as long as it should be: then they are held back as long as it takes, which is a search's longest time.
const TOO_LONG: u64 = 4;
/// Pause after it could not be folded.
const AGAIN: Duration = Duration::from_secs(30);

/// See the module's first lines.
#[derive(Debug)]
pub(super) struct Folding {
    path: PathBuf,
    most: u64,
    under_way: Arc<AtomicBool>,
}

impl Folding {
    pub(super) fn of(path: PathBuf) -> Self {
        Self {
            path,
            most: MOST,
            under_way: Arc::default(),
        }
    }

    /// To be called after writes; returns at once.
    pub(super) fn look(&self, readers: &Readers, writer: &Writer) {
        let bytes = file::log_bytes(&self.path);
        if bytes <= self.most || self.under_way.swap(true, Ordering::AcqRel) {
            return;
        }
        let too_long = bytes > TOO_LONG * self.most;
        let (searches, writer) = (readers.searches(), writer.clone());
        let under_way = Arc::clone(&self.under_way);
        tokio::spawn(async move {
            let ended = searches.acquire_many(SEARCHES_MAX as u32);
            let none = match too_long {
                true => ended.await.ok(),
                false => tokio::time::timeout(PATIENCE, ended).await.ok().and_then(Result::ok),
            };
            let folded = match none {
                Some(_) => writer.fold().await,
                None => Err(StoreError::Timeout(PATIENCE)),
            };
            drop(none);
            if let Err(error) = folded {
                debug!(%error, bytes, "the store's log is long, and was not folded into its file");
                tokio::time::sleep(AGAIN).await;
            }
            under_way.store(false, Ordering::Release);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::SqliteStore;
    use super::super::readers::Stop;
    use super::*;
    use crate::store::{Change, Store, Write};
    use crate::wire::DataType;
    use std::time::Instant;
    use tokio_util::sync::CancellationToken;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn searches_without_a_pause_do_not_make_the_log_grow() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("documents.db");
        let mut store = SqliteStore::open(&path).unwrap();
        store.folding.most = 1024 * 1024;
        let store = Arc::new(store);
        let (end, searching) = (CancellationToken::new(), tokio_util::task::TaskTracker::new());
        // Each reads for a while from the log as it was, and another always does when one ends.
        for n in 0..SEARCHES_MAX as u64 {
            let (store, end) = (Arc::clone(&store), end.clone());
            searching.spawn(async move {
                while !end.is_cancelled() {
                    let stop = Stop {
                        cancel: CancellationToken::new(),
                        deadline: Instant::now() + oc_testkit::PATIENCE,
                    };
                    let slow = move |connection: &rusqlite::Connection| {
                        let reading = connection.unchecked_transaction().unwrap();
                        let count = "SELECT count(*) FROM document";
                        let _: i64 = reading.query_row(count, [], |row| row.get(0)).unwrap();
                        std::thread::sleep(Duration::from_millis(40 + 10 * n));
                        Ok(())
                    };
                    store.readers.search(stop, slow).await.unwrap();
                }
            });
        }
        let text = format!("{{\"text\":\"{}\"}}", "x".repeat(64 * 1024));
        for n in 0..400 {
            let write = Write {
                datatype: DataType::DataResource,
                id: format!("r{}", n % 10),
                change: Change::Put(text.replace('x', &char::from(b'a' + n as u8 % 26).to_string()).into()),
                only_if_owner: None,
            };
            store.apply(vec![write]).await.unwrap();
        }
        oc_testkit::until("the log to be short", || {
            store.folding.look(&store.readers, &store.writer);
            std::future::ready((file::log_bytes(&path) <= store.folding.most).then_some(()))
        })
        .await;
        end.cancel();
        searching.close();
        searching.wait().await;
    }
}
