//! Who a peer is that the last reading of the store does not name: what the quarantine waits for.
//!
//! Owns the order of those who are asked: the store, and who is found there is read again at once, so that a partner written
//! a second ago is one; then the indexers, and whoever has a record there may stay, with the rights of an unknown one. The
//! network decides about the rest, by `discovery.unknown_peers`. Always: every question is answered, and none keeps another
//! waiting.

use super::registry::Registry;
use crate::discovery::{Depth, Discovery};
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
    pub(super) discovery: Discovery,
    /// Unknown peers are refused: at an indexer they get the time to show a record.
    pub(super) refuses: bool,
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
        match self.in_store(peer).await {
            Told::Unknown => self.at_indexers(peer).await,
            told => told,
        }
    }

    async fn at_indexers(&self, peer: PeerId) -> Told {
        let found = self.discovery.find(&peer.to_string(), Depth::Indexers).await;
        match found.iter().find(|found| found.record.peer == peer) {
            Some(found) => {
                debug!(%peer, did = %found.record.record.did, "an indexer has a record of a peer that knocks");
                Told::Vouched
            }
            // Its heartbeat may be on its way; whoever waits for this is let go when the time is up.
            None if self.discovery.is_indexer() && self.refuses => std::future::pending().await,
            None => Told::Unknown,
        }
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
