//! Our DID: the id of the peer document with relation SELF in the store.
//!
//! Owns the wait for that document, and when it is made.

use super::Daemon;
use crate::identity::remember_did;
use crate::node::own_document::make_self;
use crate::settings::Writes;
use std::time::Duration;
use tracing::{info, warn};

/// Pause between two looks for our peer document, when the apps own the store and there is none yet.
const WAIT_FOR_SELF: Duration = Duration::from_secs(2);

impl Daemon {
    /// Our DID: the SELF peer's id. Made when the daemon owns the store, waited for when the apps do.
    pub(super) async fn wait_for_did(&self) -> Option<String> {
        loop {
            let found = match self.store.self_peer().await.map(|peer| peer.map(|peer| peer.did)) {
                Ok(None) if self.settings.store.writes == Writes::Daemon => {
                    let Self {
                        store,
                        parts,
                        network,
                        settings,
                        ..
                    } = self;
                    make_self(store.as_ref(), &parts.identity, network, settings)
                        .await
                        .map(Some)
                }
                other => other,
            };
            match found {
                Ok(Some(did)) => {
                    self.parts.readiness.set_ok("identity");
                    info!(%did, "this is our DID");
                    if let Err(error) = remember_did(&self.settings.state_dir, &did) {
                        warn!(%error, "the DID is not remembered; `oc-discovery id` will not tell it");
                    }
                    return Some(did);
                }
                Ok(None) => {
                    let why = "the store has no peer document with relation SELF yet; the apps have to write it \
                               (docs/mongodb.md shows one)";
                    self.parts.readiness.set_bad("identity", why.to_owned());
                }
                Err(error) => self.parts.readiness.set_bad("identity", error.to_string()),
            }
            tokio::select! {
                () = self.parts.shutdown.cancelled() => return None,
                () = tokio::time::sleep(WAIT_FOR_SELF) => {}
            }
        }
    }
}
