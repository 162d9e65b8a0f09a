//! Node: listens on NATS, decides, and hands on to the services.
//!
//! Owns the loop from NATS to StreamService and PubSubService. No rule is in it: `dispatch` decides
//! about messages, `partners` about peers, `inbound` about what comes back. Always: messages are handled one after
//! another in the order they were taken, and at the end what was taken is finished.

pub mod dispatch;
pub mod inbound;
pub mod mesh;
pub mod overtaken;
mod own_document;
pub mod partners;
mod propagated;
mod registry;
pub mod resolve;
mod search;
pub mod searches;
mod start;

pub use start::{CHECKS, NodeError, NodeParts, start};

use crate::bus::Taken;
use crate::model::{Federation, Relation};
use crate::settings::Settings;
use crate::store::{Change as StoreChange, Store, StoreError, Write};
use crate::stream::{OutEvent, StreamService};
use crate::telemetry::{Metrics, Refusals};
use crate::wire::{Action, DataType, Event, ReadLimits, timestamp};
use bytes::Bytes;
use dispatch::{Change, Decision, Directed, View, dispatch, not_ours};
use propagated::Propagated;
use registry::Registry;
use search::Wish;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};
use tokio::sync::{mpsc, watch};
use tracing::{Instrument, debug, debug_span};

/// Messages taken from the queue in one go.
const BATCH: usize = 256;

/// The dispatcher; see the module's first lines.
struct Node {
    own_did: String,
    store: Arc<dyn Store>,
    writes_store: bool,
    streams: StreamService,
    registry: Registry,
    searches: mpsc::Sender<Wish>,
    federation: watch::Receiver<Arc<Federation>>,
    settings: watch::Receiver<Arc<Settings>>,
    propagated: Arc<Mutex<Propagated>>,
    last_ts: SystemTime,
    metrics: Metrics,
    refusals: Refusals,
}

impl Node {
    /// `ListenNATS`: handles what is taken until the queue is closed and empty.
    async fn listen_nats(mut self, mut taken: mpsc::Receiver<Taken>) {
        let mut batch = Vec::with_capacity(BATCH);
        while taken.recv_many(&mut batch, BATCH).await > 0 {
            for message in batch.drain(..) {
                self.on_message(message).await;
            }
            self.metrics.set_intake_waiting(taken.len());
        }
    }

    async fn on_message(&mut self, taken: Taken) {
        let limits = &self.settings.borrow().limits.clone();
        let view = View {
            own_did: &self.own_did,
            limits: ReadLimits {
                message_bytes: limits.message_bytes,
                depth: limits.depth,
            },
            document_bytes: limits.document_bytes,
        };
        let decision = dispatch(taken.subject, &taken.payload, taken.origin.as_deref(), &view);
        self.act(decision, taken.at, taken.subject.name()).await;
    }

    /// Does what was decided.
    async fn act(&mut self, decision: Decision, at: Instant, subject: &'static str) {
        match decision {
            Decision::Ignore(why) => debug!(subject, why, "ignored"),
            Decision::Refuse { rule, detail } => self.refusals.refuse(rule, subject, detail),
            Decision::ToPartners(change) => self.propagate(change, at).await,
            Decision::DeleteById { change } => self.delete_by_id(change, at).await,
            Decision::ToListed(directed) => self.direct(directed, at).await,
            Decision::ClosePlanner { peer } => self.close_planner(&peer),
            Decision::SearchPeer { request, user } => self.wish(Wish::Peer { request, user }).await,
            Decision::Search {
                request,
                datatype,
                user,
            } => {
                self.wish(Wish::Search {
                    request,
                    datatype,
                    user,
                })
                .await
            }
            Decision::CloseSearch { id } => self.wish(Wish::Close { id }).await,
            Decision::PeerChanged(peer) => {
                let member = partners::member_of(&peer);
                let did = peer.did.clone();
                if let Some(error) = &peer.address_error {
                    self.refusals.refuse("bad_address", &did, error);
                }
                self.write(DataType::Peer, did, StoreChange::Put(peer.document.into_bytes()))
                    .await;
                if member.did != self.own_did {
                    self.registry.changed(member).await;
                }
            }
            Decision::PeerRemoved { did } if did == self.own_did => {
                self.refusals
                    .refuse("self_relation", subject, "our own peer document cannot be removed");
            }
            Decision::PeerRemoved { did } => {
                self.write(DataType::Peer, did.clone(), StoreChange::Remove).await;
                self.registry.removed(did).await;
            }
            Decision::Put { datatype, id, document } => self.write(datatype, id, StoreChange::Put(document)).await,
            Decision::Remove { datatype, id } => self.write(datatype, id, StoreChange::Remove).await,
        }
    }

    async fn propagate(&mut self, change: Change, at: Instant) {
        let Change {
            action,
            datatype,
            id,
            user,
            payload,
        } = change;
        self.memory().went_out(datatype, &id);
        let span = debug_span!("propagate", action = action.name(), datatype = datatype.name(), %id);
        let event = self.event(action, datatype, &user, payload);
        let event = Arc::new(OutEvent::new(event, id, at));
        self.streams.to_partner_publish_event(event).instrument(span).await;
    }

    fn memory(&self) -> MutexGuard<'_, Propagated> {
        self.propagated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// PB_DELETE `{id}`: what is stored, else what was propagated, under that id decides whose it is.
    async fn delete_by_id(&mut self, change: Change, at: Instant) {
        let key = [(change.datatype, change.id.clone())];
        let stored = match self.store.owners(&key).await {
            Ok(owners) => owners.into_iter().next().flatten(),
            Err(error) if !self.memory().contains(change.datatype, &change.id) => {
                let detail = format_args!("the delete of {:?} is given up: {error}", change.id);
                return self
                    .refusals
                    .dropped("node", "store_down", 1, "propalgation_event", detail);
            }
            Err(_) => None,
        };
        let ours = match &stored {
            Some(owner) => *owner == self.own_did,
            None => self.memory().contains(change.datatype, &change.id),
        };
        if ours {
            self.propagate(change, at).await;
        } else if let Decision::Refuse { rule, detail } = not_ours(&change.id) {
            self.refusals.refuse(rule, "propalgation_event", detail);
        }
    }

    /// PB_CONSIDERS and PB_PLANNER: `PublishCommon` to each listed known, not blacklisted peer but ourselves.
    async fn direct(&mut self, directed: Directed, at: Instant) {
        let Directed {
            action,
            datatype,
            user,
            to,
            payload,
        } = directed;
        let federation = Arc::clone(&self.federation.borrow());
        let event = Arc::new(OutEvent::new(
            self.event(action, datatype, &user, payload),
            String::new(),
            at,
        ));
        let mut done = std::collections::HashSet::new();
        for key in to {
            match federation.find(&key) {
                _ if key == self.own_did => {}
                // One source for all of them: a list may hold thousands.
                None => self.refusals.refuse(
                    "unknown_peer",
                    action.name(),
                    format_args!("{key:?} is no peer of our store"),
                ),
                Some(member) if member.did == self.own_did => {}
                Some(member) if member.relation == Relation::Blacklist => {
                    self.refusals.refuse("blacklisted", &member.did, action.name());
                }
                Some(member) => {
                    if done.insert(member.did.clone()) {
                        let span = debug_span!("direct", action = action.name(), to = %member.did);
                        self.streams
                            .publish_common(member, Arc::clone(&event))
                            .instrument(span)
                            .await;
                    }
                }
            }
        }
    }

    fn close_planner(&self, key: &str) {
        match self.federation.borrow().find(key).and_then(|member| member.peer_id) {
            Some(peer) => self.streams.close_stream(peer, Action::Planner),
            None => self.refusals.refuse(
                "unknown_peer",
                "close_planner",
                format_args!("{key:?} is no peer of our store"),
            ),
        }
    }

    async fn wish(&self, wish: Wish) {
        // Only closed when the daemon is going down.
        let _ = self.searches.send(wish).await;
    }

    /// Writes the store, when that is ours to do.
    async fn write(&self, datatype: DataType, id: String, change: StoreChange) {
        if !self.writes_store {
            return;
        }
        let write = Write {
            datatype,
            id,
            change,
            only_if_owner: None,
        };
        if let Err(error) = self.store.apply(vec![write]).await {
            self.refusals.refuse("store_refused", datatype.name(), error);
        }
    }

    /// An event of ours. Its time never repeats and never goes back, so that receivers can tell which of two is newer.
    fn event(&mut self, action: Action, datatype: DataType, user: &str, payload: Bytes) -> Event {
        let next = self.last_ts + std::time::Duration::from_nanos(1);
        self.last_ts = SystemTime::now().max(next);
        Event::new(action, &self.own_did, user, datatype, payload, timestamp(self.last_ts))
    }
}

/// The DID of this daemon as its store tells; `None` when there is no SELF peer yet.
async fn stored_did(store: &dyn Store) -> Result<Option<String>, StoreError> {
    Ok(store.self_peer().await?.map(|peer| peer.did))
}
