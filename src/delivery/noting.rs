//! The second commit: what was published leaves the journal, and only then may it be acknowledged.
//!
//! Owns its order: what was stored is on the disk before the journal says that it is done. Always: what was published while the
//! disk was busy goes into the next one; what our side will never have is not held as if it were here; ends with the
//! publisher, when all is noted.

use super::journal::{Journal, JournalError};
use super::log::Log;
use super::publisher::Published;
use super::receiver::{GivenUp, Refusal, Unkept};
use super::types::{Hash, Key, Todo};
use crate::store::{Store, StoreError};
use crate::telemetry::Sides;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tracing::warn;

/// Pause after journal or store could not be written.
const AGAIN: Duration = Duration::from_millis(500);
/// Our side of the checks.
const SIDE: &str = "published";
/// The code of a refusal that is none of the row's own.
const NOT_PARTNER: &str = "not_partner";
/// Refusals that sessions are told of, the newest: far more than may be on its way between two looks at it.
const GIVEN_UP: usize = 4096;

/// Tells what is done; its end ends [`note`].
pub(super) struct Done {
    upto: watch::Sender<u64>,
    // Not bounded by itself: small notes of what is refused between two commits, and while the disk takes none.
    given_up: mpsc::UnboundedSender<Refused>,
}

/// The other end of [`Done`].
pub(super) struct ToNote {
    upto: watch::Receiver<u64>,
    given_up: mpsc::UnboundedReceiver<Refused>,
}

/// A row that our side will never have, and whose it is.
struct Refused {
    origin: String,
    row: Unkept,
}

/// Both ends.
pub(super) fn done() -> (Done, ToNote) {
    let (upto, upto_seen) = watch::channel(0);
    let (given_up, refused) = mpsc::unbounded_channel();
    let to_note = ToNote {
        upto: upto_seen,
        given_up: refused,
    };
    (Done { upto, given_up }, to_note)
}

impl Done {
    /// This row is one that our side will never have. To be said before it is done.
    pub(super) fn gave_up(&self, row: &Todo, refusal: Refusal) {
        let refused = Refused {
            origin: row.origin.clone(),
            row: Unkept {
                n: row.n,
                key: row.key.clone(),
                hash: row.hash,
                refusal,
            },
        };
        // Closed only when the journal is: nothing is noted any more.
        let _ = self.given_up.send(refused);
    }

    /// Everything up to this number is done.
    pub(super) fn upto(&self, n: u64) {
        self.upto.send_replace(n);
    }
}

/// Follows what is `done`, and tells `published` what is noted. `store` is the one into which rows are written.
pub(super) async fn note(
    log: Log,
    store: Option<Arc<dyn Store>>,
    mut done: ToNote,
    published: watch::Sender<Published>,
    (store_writes, journal): (Sides, Sides),
) {
    let mut refused: Vec<Refused> = Vec::new();
    while done.upto.changed().await.is_ok() {
        loop {
            let n = *done.upto.borrow_and_update();
            refused.extend(std::iter::from_fn(|| done.given_up.try_recv().ok()));
            let stored = match &store {
                Some(store) => store.sync().await,
                None => Ok(()),
            };
            match stored {
                Ok(()) => drop(store_writes.good(SIDE)),
                Err(StoreError::Closed) => return,
                Err(error) => {
                    if store_writes.bad(SIDE, error.to_string()) {
                        warn!(%error, "what was stored cannot be brought to the disk; trying again");
                    }
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            }
            match commit(&log, n, &refused).await {
                Ok(()) => {
                    journal.good(SIDE);
                    let refused = std::mem::take(&mut refused);
                    published.send_modify(|published| {
                        published.upto = published.upto.max(n);
                        tell(&mut published.given_up, refused);
                    });
                    break;
                }
                Err(JournalError::Closed) => return,
                Err(error) => {
                    if journal.bad(SIDE, error.to_string()) {
                        warn!(%error, "what was published cannot be noted; trying again");
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

async fn commit(log: &Log, n: u64, refused: &[Refused]) -> Result<(), JournalError> {
    let given_up = refused
        .iter()
        .map(|Refused { origin, row }| (origin.clone(), row.key.clone(), row.hash));
    let given_up: Vec<(String, Key, Hash)> = given_up.collect();
    let work = move |journal: &mut dyn Journal| {
        for (origin, key, hash) in &given_up {
            journal.give_up(origin, key, *hash)?;
        }
        journal.published(n)
    };
    log.write(true, work).await
}

/// That a peer is no partner any more is told by the end of its session: that parks nothing.
fn tell(given_up: &mut GivenUp, mut refused: Vec<Refused>) {
    refused.retain(|refused| refused.row.refusal.code != NOT_PARTNER);
    if refused.is_empty() {
        return;
    }
    let told = Arc::make_mut(given_up);
    told.extend(refused.into_iter().map(|refused| refused.row));
    told.drain(..told.len().saturating_sub(GIVEN_UP));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Change, SqliteStore, Write};
    use crate::telemetry::Readiness;
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
        let (done, to_note) = done();
        let (tell, mut published) = watch::channel(Published::default());
        let readiness = Readiness::new(&[]);
        let checks = ("store_writes", "journal");
        let checks = (
            Sides::new(readiness.clone(), checks.0),
            Sides::new(readiness.clone(), checks.1),
        );
        let noting = tokio::spawn(note(log, Some(Arc::new(store)), to_note, tell, checks));
        done.upto(3);
        let noted = tokio::time::timeout(Duration::from_secs(1), published.changed()).await;
        assert!(noted.is_err(), "{:?}", published.borrow());
        assert!(matches!(
            &readiness.snapshot()[..],
            [("store_writes", Some(_)), ("journal", None)]
        ));
        std::fs::rename(&away, &wal).unwrap();
        published.wait_for(|published| published.upto == 3).await.unwrap();
        assert!(readiness.ready());
        drop(done);
        noting.await.unwrap();
    }
}
