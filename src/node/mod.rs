//! Node: listens on NATS, decides, and hands on to the services.
//!
//! Owns the way from a message to StreamService and PubSubService; `listen` is the loop over them. No rule is in it: `dispatch` decides
//! about messages, `partners` about peers, `inbound` about what comes back. Always: messages are handled one after
//! another in the order they were taken, and at the end what was taken is finished.

mod decision;
mod directed;
pub mod dispatch;
pub mod inbound;
mod listen;
pub mod mesh;
mod outlet;
pub mod overtaken;
mod own_document;
mod partner_rules;
pub mod partners;
mod registry;
pub mod resolve;
mod search;
mod search_answers;
mod search_over;
mod search_peer;
pub mod searches;
mod start;
mod strangers;
mod taking;
mod wishes;

pub use partners::member_of;
pub use resolve::{Hit, get_peer_record};
pub use searches::SearchOver;
pub use start::{CHECKS, NodeParts, Up, start};
pub use wishes::SearchTold;

use crate::bus::{Bus, Taken};
use crate::delivery::{self, Batch, Delivery, Intake, Key, Log};
use crate::discovery::Says;
use crate::model::Federation;
use crate::settings::Settings;
use crate::store::{Applied, Change as StoreChange, Store, StoreError, Write};
use crate::stream::StreamService;
use crate::telemetry::{Metrics, Refusals, Sides};
use crate::wire::{DataType, ReadLimits};
use dispatch::{Change, Decision, View, dispatch, not_ours};
use registry::Registry;
use std::sync::Arc;
use std::time::{Duration, Instant};
use taking::Taking;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use wishes::Wish;

/// The side of the store's check of what apps say.
const SIDE: &str = "apps";
/// Pause before the store or the journal is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a delete waits for the store to say whose a resource is.
const OWNER_WAIT: Duration = Duration::from_secs(2);
/// What is live only is of no use any more when it waited this long in the stream.
const LIVE: Duration = Duration::from_secs(30);

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
    delivery: Delivery,
    intake: Intake,
    /// The check of the store: whether it takes what is written.
    store_writes: Sides,
    log: Log,
    /// What is being journaled.
    under_way: Option<Arc<Batch>>,
    /// The daemon is leaving.
    stopping: CancellationToken,
    bus: Bus,
    /// Not cancelled while what is in hand may be finished.
    give_up: CancellationToken,
    metrics: Metrics,
    refusals: Refusals,
}

/// The rule that refused a message, and why: its app is told, and people see it.
type Refusal = (&'static str, String);

impl Node {
    async fn on_message(&mut self, mut taken: Taken, taking: &mut Taking) {
        taking.at(&mut taken);
        let limits = &self.settings.borrow().limits.clone();
        if taken.refused {
            let why = format!("limits.message_bytes is {}", limits.message_bytes);
            taking.refused(taken.subject.name(), ("too_large", why));
            return taking.next();
        }
        let view = View {
            own_did: &self.own_did,
            limits: ReadLimits {
                message_bytes: limits.message_bytes,
                depth: limits.depth,
            },
            document_bytes: limits.document_bytes,
        };
        let subject = taken.subject.name();
        let decision = dispatch(taken.subject, &taken.payload, taken.origin.as_deref(), &view);
        if taking.age > LIVE && decision.is_live_only() {
            let detail = "what is of use only at once had waited in the stream";
            self.refusals.dropped("intake", "too_old", 1, subject, detail);
            return self.search_refused(decision.search_id(), "too_old").await;
        }
        if let Some(refused) = self.act(decision, taken.at, subject, taking).await {
            taking.refused(subject, refused);
        }
        taking.next();
    }

    /// Does what was decided; what is refused comes back with its rule.
    async fn act(
        &mut self,
        decision: Decision,
        at: Instant,
        subject: &'static str,
        taking: &mut Taking,
    ) -> Option<Refusal> {
        match decision {
            Decision::Ignore(why) => {
                debug!(subject, why, "ignored");
                taking.ignored(why);
            }
            Decision::Refuse { rule, detail } => {
                self.refusals.refuse(rule, subject, &detail);
                return Some((rule, detail));
            }
            Decision::ToPartners(change) => Self::to_partner_publish_event(change, taking),
            Decision::DeleteById { change } => return self.delete_by_id(change, taking).await,
            Decision::ToListed(directed) => return self.direct(directed, at, taking).await,
            Decision::ClosePlanner { peer } => return self.close_planner(&peer),
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
            Decision::RefuseSearch { id, rule, detail } => {
                self.refusals.refuse(rule, subject, &detail);
                self.search_refused(Some(id), rule).await;
                return Some((rule, detail));
            }
            Decision::CloseSearch { id } => self.wish(Wish::Close { id }).await,
            Decision::PeerChanged(peer) => {
                let member = partners::member_of(&peer);
                let did = peer.did.clone();
                if let Some(error) = &peer.address_error {
                    self.refusals.refuse("bad_address", &did, error);
                    taking.warned(subject, &did, ("bad_address", error.to_string()));
                }
                // In effect first: the store may be away, and a blacklisting does not wait for it.
                if member.did == self.own_did {
                    self.registry.own_changed(Says::of(&peer));
                } else if let Some(unused) = self.registry.changed(member).await {
                    taking.warned(
                        subject,
                        &did,
                        (unused.rule, format!("the document is not used: {}", unused.why)),
                    );
                }
                let change = StoreChange::Put(peer.document.into_bytes());
                return self.write(DataType::Peer, did, change, taking).await;
            }
            Decision::PeerRemoved { did } if did == self.own_did => {
                let why = "our own peer document cannot be removed";
                self.refusals.refuse("self_relation", subject, why);
                return Some(("self_relation", why.to_owned()));
            }
            Decision::PeerRemoved { did } => {
                self.registry.removed(did.clone()).await;
                return self.write(DataType::Peer, did, StoreChange::Remove, taking).await;
            }
            Decision::Put { datatype, id, document } => {
                return self.write(datatype, id, StoreChange::Put(document), taking).await;
            }
            Decision::Remove { datatype, id } => {
                return self.write(datatype, id, StoreChange::Remove, taking).await;
            }
        }
        None
    }

    /// The diagrams' `ToPartnerPublishEvent`: into the journal, from which each partner's courier takes it.
    fn to_partner_publish_event(change: Change, taking: &mut Taking) {
        let Change {
            action,
            datatype,
            id,
            user,
            payload,
        } = change;
        debug!(action = action.name(), datatype = datatype.name(), %id, "propagate");
        taking.batch.changes.push(delivery::Change {
            key: Key { datatype, id },
            dest: String::new(),
            action,
            user,
            payload,
            at: delivery::now(),
        });
    }

    /// PB_DELETE `{id}`: what was propagated under that id decides whose it is, else what is stored.
    async fn delete_by_id(&mut self, change: Change, taking: &mut Taking) -> Option<Refusal> {
        let key = Key {
            datatype: change.datatype,
            id: change.id.clone(),
        };
        let under_way = self.under_way.iter().flat_map(|batch| &batch.changes);
        let in_hand = taking.batch.changes.iter().chain(under_way);
        let in_hand = in_hand.filter(|row| row.dest.is_empty() && row.key == key).count() > 0;
        let ours = in_hand || self.is_ours(key).await;
        if ours {
            Self::to_partner_publish_event(change, taking);
            return None;
        }
        match not_ours(&change.id) {
            Decision::Refuse { rule, detail } => {
                self.refusals.refuse(rule, "propalgation_event", &detail);
                Some((rule, detail))
            }
            _ => None,
        }
    }

    /// Whether a resource was propagated by us, or is stored as ours. Waits for the journal, but not long for the store: when
    /// that is away, the delete goes out, and each partner looks whose it is there.
    async fn is_ours(&self, key: Key) -> bool {
        let stored = [(key.datatype, key.id.clone())];
        let began = Instant::now();
        loop {
            let row = key.clone();
            match self.log.read(move |journal| journal.row(&row)).await {
                Ok(Some(_)) => return true,
                Ok(None) => match self.store.owners(&stored).await {
                    Ok(owners) => {
                        return owners
                            .first()
                            .is_some_and(|owner| owner.as_deref() == Some(self.own_did.as_str()));
                    }
                    Err(error) if began.elapsed() >= OWNER_WAIT => {
                        debug!(%error, id = %key.id, "the store does not answer; a delete goes out unlooked at");
                        return true;
                    }
                    Err(error) => debug!(%error, "the store does not answer; a delete waits for it"),
                },
                Err(error) => debug!(%error, "the journal does not answer; a delete waits for it"),
            }
            tokio::select! {
                () = self.give_up.cancelled() => return false,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    /// Whoever waits for the end of a search that was not begun hears of it.
    async fn search_refused(&self, id: Option<String>, rule: &'static str) {
        if let Some(id) = id {
            self.wish(Wish::Refused { id, rule }).await;
        }
    }

    async fn wish(&self, wish: Wish) {
        // Only closed when the daemon is going down.
        let _ = self.searches.send(wish).await;
    }

    fn store_refused(&self, datatype: DataType, why: String) -> Refusal {
        self.refusals.refuse("store_refused", datatype.name(), &why);
        ("store_refused", why)
    }

    /// Writes the store, when that is ours to do, however long it is away: nobody else would.
    async fn write(&self, datatype: DataType, id: String, change: StoreChange, taking: &mut Taking) -> Option<Refusal> {
        if !self.writes_store {
            return None;
        }
        let write = Write {
            datatype,
            id,
            change,
            only_if_owner: None,
        };
        loop {
            if taking.given_up {
                let why = "the daemon is stopping, and the store took nothing before";
                self.refusals.dropped("store", "stopped", 1, datatype.name(), why);
                return Some(("stopped", why.to_owned()));
            }
            let error = match self.store.apply(vec![write.clone()]).await {
                Ok(applied) => {
                    self.store_writes.good(SIDE);
                    taking.wrote = true;
                    let refused = applied.into_iter().find_map(|applied| match applied {
                        Applied::Refused(why) => Some(why),
                        _ => None,
                    })?;
                    return Some(self.store_refused(datatype, refused));
                }
                Err(error @ StoreError::Document { .. }) => {
                    self.store_writes.good(SIDE);
                    return Some(self.store_refused(datatype, error.to_string()));
                }
                Err(error) => error,
            };
            if self.stopping.is_cancelled() {
                taking.given_up = true;
                let why = format!("the daemon is stopping, and the store did not take it: {error}");
                self.refusals.dropped("store", "stopped", 1, datatype.name(), error);
                return Some(("stopped", why));
            }
            if self.store_writes.bad(SIDE, error.to_string()) {
                warn!(%error, "nothing is taken from NATS: what was heard has to be in the store first");
            }
            tokio::select! {
                () = self.stopping.cancelled() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
}
