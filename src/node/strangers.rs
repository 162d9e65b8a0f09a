//! Who a peer is that the last reading of the store does not name: what the quarantine waits for.
//!
//! Owns the order of those who are asked: the store, and who is found there is read again at once, so that a partner written
//! a second ago is one. Whoever else may know stands between that and `discovery.unknown_peers`, which the network decides
//! by. Always: every question is answered, and none keeps another waiting.

use super::registry::Registry;
use crate::model::Federation;
use crate::network::{Stranger, Told};
use crate::store::Store;
use libp2p::PeerId;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// Who can be asked.
#[derive(Clone)]
pub(super) struct Strangers {
    pub(super) store: Arc<dyn Store>,
    pub(super) registry: Registry,
    pub(super) federation: watch::Receiver<Arc<Federation>>,
}

impl Strangers {
    /// Answers until `shutdown`. How many questions there are at once, and for how long each waits, is the asker's bound.
    pub(super) async fn run(self, mut asked: mpsc::Receiver<Stranger>, shutdown: CancellationToken) {
        loop {
            let stranger = tokio::select! {
                () = shutdown.cancelled() => return,
                stranger = asked.recv() => match stranger {
                    Some(stranger) => stranger,
                    None => return,
                },
            };
            let desk = self.clone();
            tokio::spawn(async move {
                let Stranger { peer, mut answer } = stranger;
                tokio::select! {
                    () = answer.closed() => {}
                    told = desk.who_is(peer) => drop(answer.send(told)),
                }
            });
        }
    }

    async fn who_is(&self, peer: PeerId) -> Told {
        // Indexers will be asked here about whom the store does not know.
        self.in_store(peer).await
    }

    async fn in_store(&self, peer: PeerId) -> Told {
        match self.store.find_peers(&peer.to_string()).await {
            Ok(found) if found.iter().any(|found| found.peer_id == Some(peer)) => {
                self.registry.read_for(peer).await;
                match self.federation.borrow().of_peer(&peer) {
                    Some(member) => {
                        info!(did = %member.did, %peer, "a peer was found in the store before its next reading");
                        Told::Known
                    }
                    // Its document is not used, which the reading has said.
                    None => Told::Unknown,
                }
            }
            Ok(_) => Told::Unknown,
            Err(error) => {
                debug!(%peer, %error, "the store cannot say who this is");
                Told::Failed
            }
        }
    }
}
