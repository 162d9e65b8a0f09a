//! Our DID: the id of the peer document with relation SELF in the store.
//!
//! Owns when that document may be made. Always: never for a journal that knows an earlier life: a store that was lost, or another one
//! than meant, would make all that was propagated look deleted.

use super::Daemon;
use crate::delivery::JournalError;
use crate::identity::remember_did;
use crate::model::Peer;
use crate::node::own_document::{make_self, tell_key};
use crate::settings::{StoreUrl, Writes};
use crate::store::StoreError;
use std::fmt;
use std::time::Duration;
use tracing::{info, warn};

/// Pause between two looks for our peer document, when there is none yet.
const WAIT_FOR_SELF: Duration = Duration::from_secs(2);

/// Why there is no DID yet.
#[derive(Debug, thiserror::Error)]
enum NoDid {
    #[error("the store has no peer document with relation SELF yet; {0}")]
    NotWritten(&'static str),
    #[error(
        "{store} has no peer document of our own, but journal.db in state_dir is of an earlier life ({life}). Is store.url \
         the right one? Stop the daemon, and restore the store (README, Backup and restore); or remove journal.db (with \
         its -wal and -shm): then it begins anew with this store, and partners end with what that has"
    )]
    Lost { store: String, life: Earlier },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// What a journal keeps of an earlier life.
#[derive(Debug, PartialEq, Eq)]
struct Earlier {
    changes: u64,
    origins: usize,
    pins: usize,
}

impl Earlier {
    /// Whether a store that has nothing is no loss.
    fn is_nothing(&self) -> bool {
        *self
            == Self {
                changes: 0,
                origins: 0,
                pins: 0,
            }
    }
}

impl fmt::Display for Earlier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { changes, origins, pins } = self;
        write!(
            out,
            "changes of ours: {changes}, partners heard: {origins}, peers known: {pins}"
        )
    }
}

impl Daemon {
    /// Our DID. Its document is made when the daemon owns the store and neither it nor the journal was used before; else it is
    /// waited for. None when the daemon is told to stop before.
    pub(super) async fn wait_for_did(&self) -> Option<String> {
        loop {
            match self.look_for_did().await {
                Ok((did, document)) => {
                    // A key of another is not the end: our document may be published with the new one.
                    tell_key(&self.parts.readiness, document.as_ref(), &self.network.local());
                    info!(%did, "this is our DID");
                    if let Err(error) = remember_did(&self.settings.state_dir, &did) {
                        warn!(%error, "the DID is not remembered; `oc-discovery id` will not tell it");
                    }
                    return Some(did);
                }
                Err(why) => self.parts.readiness.set_bad("identity", why.to_string()),
            }
            tokio::select! {
                () = self.parts.shutdown.cancelled() => return None,
                () = tokio::time::sleep(WAIT_FOR_SELF) => {}
            }
        }
    }

    /// Our DID, and its document when it was there before.
    async fn look_for_did(&self) -> Result<(String, Option<Peer>), NoDid> {
        if let Some(document) = self.store.self_peer().await? {
            return Ok((document.did.clone(), Some(document)));
        }
        if self.settings.store.writes == Writes::Apps {
            return Err(NoDid::NotWritten(match self.settings.store.url {
                StoreUrl::MongoDb(_) => "the apps have to write it (docs/mongodb.md shows one)",
                StoreUrl::Sqlite(_) => {
                    "store.writes is `apps`, so that another program has to write it into the SQLite file; when there is \
                     none, leave store.writes as it is by default, `daemon`"
                }
            }));
        }
        let life = self.earlier_life().await?;
        if !life.is_nothing() {
            let store = match &self.settings.store.url {
                StoreUrl::Sqlite(path) => path.display().to_string(),
                // Its address may hold a password.
                StoreUrl::MongoDb(_) => "the database of store.url".to_owned(),
            };
            return Err(NoDid::Lost { store, life });
        }
        let did = make_self(self.store.as_ref(), &self.parts.identity, &self.network, &self.settings);
        Ok((did.await?, None))
    }

    async fn earlier_life(&self) -> Result<Earlier, JournalError> {
        let known = self.log.read(|journal| {
            Ok(Earlier {
                changes: journal.bounds()?.0,
                origins: journal.origins()?.len(),
                pins: journal.pins()?.len(),
            })
        });
        known.await
    }
}
