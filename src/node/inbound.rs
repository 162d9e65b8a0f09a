//! What partners send, on its way to our NATS: `handleEventFromPartner` and `passConsidering`.
//!
//! Owns whose resource may change whose, and the order store, then NATS. Always: events of one peer
//! are published in the order they were read; while NATS is away nothing is taken from the streams, so that the senders
//! wait instead of losing; a refused event changes nothing.

use super::Propagated;
use super::overtaken::Overtaken;
use crate::bus::{Bus, Out, PublishError};
use crate::model::{Federation, Member, read_header};
use crate::store::{Applied, Change, Store, Write};
use crate::stream::{Inbound, may_send};
use crate::telemetry::{Metrics, Refusals};
use crate::wire::{Action, DataType, Envelope, Event, OWN_NAME, PropalgationMessage, parse_timestamp, read_id};
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Pieces handled in one go: one store transaction and one flush for all of them.
const BATCH: usize = 64;
/// Pause after the store refused to answer, before the same batch is tried again.
const STORE_RETRY: Duration = Duration::from_millis(500);
/// How long one batch waits for a store that fails. After that its data events are dropped and counted; considers and
/// planner lines pass.
const STORE_WAIT: Duration = Duration::from_secs(10);

/// The handler; see the module's first lines.
pub struct InboundHandler {
    /// Where resources are, and who owns them.
    pub store: Arc<dyn Store>,
    /// Our NATS.
    pub bus: Bus,
    /// Whether the daemon writes the store.
    pub writes_store: bool,
    /// Who may send what, as it stands when an event is handled.
    pub federation: watch::Receiver<Arc<Federation>>,
    /// What of ours went out: nobody else's may stand under its id, whether our store has seen it or not.
    pub propagated: Arc<Mutex<Propagated>>,
    /// Largest document taken.
    pub document_bytes: usize,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to refuse.
    pub refusals: Refusals,
}

/// An event that passed the rules that need no store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// A resource of the sender.
    Data {
        /// Create, update or delete.
        action: Action,
        /// Its kind.
        datatype: DataType,
        /// Its id.
        id: String,
    },
    /// Considers or planner: passed on as it is.
    Passed(Action),
}

/// The rules for one event of `from` that need no store.
///
/// # Errors
/// The rule that refuses it.
pub fn handle_event_from_partner(
    event: &Event,
    action: Action,
    from: &str,
    document_bytes: usize,
) -> Result<Accepted, &'static str> {
    if event.payload.len() > document_bytes {
        return Err("too_large");
    }
    if event.datatype == DataType::Peer {
        return Err("datatype_peer");
    }
    if matches!(action, Action::Considers | Action::Planner) {
        return Ok(Accepted::Passed(action));
    }
    if event.datatype == DataType::Invalid {
        return Err("unknown_datatype");
    }
    let datatype = event.datatype;
    match read_header(&event.payload) {
        Ok(header) if header.creator_id == from => Ok(Accepted::Data {
            action,
            datatype,
            id: header.id,
        }),
        Ok(_) => Err("not_creator"),
        // A delete may name only the id; whose it is decides what is stored under it.
        Err(error) if action == Action::Delete && error.rule() == "missing" => match read_id(&event.payload) {
            Ok(id) => Ok(Accepted::Data { action, datatype, id }),
            Err(error) => Err(error.rule()),
        },
        Err(error) => Err(error.rule()),
    }
}

/// What is published on our NATS for an accepted event.
fn message(accepted: &Accepted, event: &Event) -> (Out, Vec<u8>) {
    let envelope = |payload: Bytes| {
        Envelope {
            from_app: OWN_NAME.to_owned(),
            datatype: event.datatype,
            user: event.user.clone(),
            groups: Vec::new(),
            payload,
            search_id: None,
        }
        .write()
    };
    match accepted {
        Accepted::Data {
            action: Action::Delete, ..
        } => (Out::RemoveResource, envelope(event.payload.clone())),
        Accepted::Data { .. } => (Out::CreateResource, envelope(event.payload.clone())),
        Accepted::Passed(action) => {
            let inner = PropalgationMessage {
                datatype: event.datatype,
                action: *action,
                payload: event.payload.clone(),
            };
            (Out::PropalgationEvent, envelope(inner.write().into()))
        }
    }
}

struct Checked {
    from: Arc<Member>,
    event: Event,
    accepted: Accepted,
}

impl InboundHandler {
    /// Runs until `no_more`, and then until what the streams have brought is handled.
    pub async fn run(self, mut pieces: mpsc::Receiver<Inbound>, no_more: CancellationToken) {
        let mut overtaken = Overtaken::default();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                taken = pieces.recv_many(&mut batch, BATCH) => if taken == 0 { break },
                () = no_more.cancelled(), if !pieces.is_closed() => {
                    pieces.close();
                    continue;
                }
            }
            // Whatever NATS cannot take now stays here, and the streams behind it stand still.
            self.bus.connected().await;
            let checked = self.check(&mut batch, &mut overtaken);
            let checked = self.apply(checked).await;
            self.publish(checked).await;
            // Only now is their room free for others.
            batch.clear();
        }
    }

    fn refuse(&self, rule: &'static str, from: &Member, event: &Event) {
        let detail = format_args!("{} of {}", event.kind.name(), event.datatype.name());
        self.refusals.refuse(rule, &from.did, detail);
    }

    /// Whether a resource of our own went out under the event's id.
    fn is_ours(&self, event: &Event) -> bool {
        let id = read_id(&event.payload);
        let propagated = self.propagated.lock().unwrap_or_else(PoisonError::into_inner);
        id.is_ok_and(|id| propagated.contains(event.datatype, &id))
    }

    fn check(&self, batch: &mut [Inbound], overtaken: &mut Overtaken) -> Vec<Checked> {
        let now = Instant::now();
        let federation = Arc::clone(&self.federation.borrow());
        let mut checked = Vec::new();
        for Inbound {
            from, action, events, ..
        } in batch
        {
            // It may have waited here for as long as NATS was away, and its sender may be a partner no more.
            let right = from
                .peer_id
                .ok_or("unknown_peer")
                .and_then(|peer| may_send(&federation, &peer, *action).map(drop));
            if let Err(rule) = right {
                self.refusals
                    .refuse(rule, &from.did, format_args!("{} events that had waited", events.len()));
                continue;
            }
            for event in std::mem::take(events) {
                if self.is_ours(&event) {
                    self.refuse("not_owner", from, &event);
                    continue;
                }
                match handle_event_from_partner(&event, *action, &from.did, self.document_bytes) {
                    Ok(accepted) => {
                        if let Accepted::Data { datatype, id, .. } = &accepted
                            && let Some(sent) = parse_timestamp(&event.ts)
                            && !overtaken.is_newest(&from.did, *datatype, id, sent, now)
                        {
                            self.metrics.dropped("inbound", "overtaken");
                            debug!(from = %from.did, %id, "a newer event of this resource was faster on another stream");
                            continue;
                        }
                        checked.push(Checked {
                            from: Arc::clone(from),
                            event,
                            accepted,
                        });
                    }
                    Err(rule) => self.refuse(rule, from, &event),
                }
            }
        }
        checked
    }

    /// Leaves out what would change another's resource; writes the rest to the store, when the daemon is to do that.
    async fn apply(&self, checked: Vec<Checked>) -> Vec<Checked> {
        let deadline = Instant::now() + STORE_WAIT;
        let mut told = false;
        loop {
            match self.try_apply(&checked).await {
                Ok(verdicts) => {
                    let mut verdicts = verdicts.into_iter();
                    let mut kept = Vec::with_capacity(checked.len());
                    for item in checked {
                        let is_data = matches!(item.accepted, Accepted::Data { .. });
                        if is_data && !verdicts.next().unwrap_or(false) {
                            self.refuse("not_owner", &item.from, &item.event);
                        } else {
                            kept.push(item);
                        }
                    }
                    return kept;
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        warn!(%error, events = checked.len(), "the store does not answer; partners' events wait");
                    }
                    if Instant::now() >= deadline {
                        // Without the store nobody can say whose a resource is: pass on only what needs no owner.
                        let data = |item: &Checked| matches!(item.accepted, Accepted::Data { .. });
                        let lost = checked.iter().filter(|item| data(item)).count();
                        self.metrics.dropped_many("inbound", "store_down", lost as u64);
                        return checked.into_iter().filter(|item| !data(item)).collect();
                    }
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        }
    }

    /// For each data event, whether it may pass.
    async fn try_apply(&self, checked: &[Checked]) -> Result<Vec<bool>, crate::store::StoreError> {
        let data = checked.iter().filter_map(|item| match &item.accepted {
            Accepted::Data { action, datatype, id } => Some((item, *action, *datatype, id.clone())),
            Accepted::Passed(_) => None,
        });
        if self.writes_store {
            let writes: Vec<Write> = data
                .map(|(item, action, datatype, id)| Write {
                    datatype,
                    id,
                    change: match action {
                        Action::Delete => Change::Remove,
                        _ => Change::Put(item.event.payload.clone()),
                    },
                    only_if_owner: Some(item.from.did.clone()),
                })
                .collect();
            if writes.is_empty() {
                return Ok(Vec::new());
            }
            let applied = self.store.apply(writes).await?;
            return Ok(applied
                .into_iter()
                .map(|verdict| verdict != Applied::NotOwner)
                .collect());
        }
        let (keys, senders): (Vec<_>, Vec<_>) = data
            .map(|(item, _, datatype, id)| ((datatype, id), item.from.did.as_str()))
            .unzip();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let owners = self.store.owners(&keys).await?;
        let same = |(owner, sender): (Option<String>, &str)| owner.is_none_or(|owner| owner == sender);
        Ok(owners.into_iter().zip(senders).map(same).collect())
    }

    async fn publish(&self, checked: Vec<Checked>) {
        for Checked { from, event, accepted } in checked {
            let (out, bytes) = message(&accepted, &event);
            let bytes = Bytes::from(bytes);
            loop {
                match self.bus.publish(out, bytes.clone()).await {
                    Ok(()) => {
                        let (id, action) = match &accepted {
                            Accepted::Data { action, id, .. } => (id.as_str(), *action),
                            Accepted::Passed(action) => ("", *action),
                        };
                        debug!(from = %from.did, action = action.name(), datatype = event.datatype.name(), id, "event published");
                    }
                    Err(PublishError::Away) => {
                        self.bus.connected().await;
                        continue;
                    }
                    Err(error) => self.refusals.refuse("nats_refused", &from.did, error),
                }
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(datatype: DataType, payload: &str) -> Event {
        Event::new(
            Action::Create,
            "a",
            "u",
            datatype,
            Bytes::copy_from_slice(payload.as_bytes()),
            "t",
        )
    }

    fn verdict(action: Action, datatype: DataType, payload: &str) -> Result<Accepted, &'static str> {
        handle_event_from_partner(&event(datatype, payload), action, "a", 100)
    }

    #[test]
    fn a_partner_writes_its_own_resources_and_nothing_else() {
        let kind = DataType::ComputeResource;
        let data = |action| {
            Ok(Accepted::Data {
                action,
                datatype: kind,
                id: "r".into(),
            })
        };
        let own = r#"{"id":"r","creator_id":"a"}"#;
        assert_eq!(verdict(Action::Create, kind, own), data(Action::Create));
        assert_eq!(verdict(Action::Delete, kind, own), data(Action::Delete));
        assert_eq!(verdict(Action::Delete, kind, r#"{"id":"r"}"#), data(Action::Delete));
        assert_eq!(verdict(Action::Update, kind, r#"{"id":"r"}"#), Err("missing"));
        assert_eq!(
            verdict(Action::Create, kind, r#"{"id":"r","creator_id":"b"}"#),
            Err("not_creator")
        );
        assert_eq!(
            verdict(Action::Delete, kind, r#"{"id":"r","creator_id":"b"}"#),
            Err("not_creator")
        );
        assert_eq!(
            verdict(Action::Create, kind, r#"{"id":"r","creator_id":"a","ID":"x"}"#),
            Err("case_variant")
        );
        assert_eq!(verdict(Action::Create, DataType::Peer, own), Err("datatype_peer"));
        assert_eq!(verdict(Action::Considers, DataType::Peer, own), Err("datatype_peer"));
        assert_eq!(verdict(Action::Create, DataType::Invalid, own), Err("unknown_datatype"));
        assert_eq!(verdict(Action::Create, kind, &format!("{own:200}")), Err("too_large"));
        assert_eq!(
            verdict(Action::Considers, kind, "[1]"),
            Ok(Accepted::Passed(Action::Considers))
        );
    }

    #[test]
    fn what_nats_gets_is_the_diagrams_word_for_each_action() {
        let event = event(DataType::ComputeResource, r#"{"id":"r","creator_id":"a"}"#);
        let data = |action| Accepted::Data {
            action,
            datatype: DataType::ComputeResource,
            id: "r".into(),
        };
        assert_eq!(message(&data(Action::Create), &event).0, Out::CreateResource);
        assert_eq!(message(&data(Action::Update), &event).0, Out::CreateResource);
        assert_eq!(message(&data(Action::Delete), &event).0, Out::RemoveResource);
        let (out, bytes) = message(&Accepted::Passed(Action::Considers), &event);
        assert_eq!(out, Out::PropalgationEvent);
        let limits = crate::wire::ReadLimits {
            message_bytes: 10_000,
            depth: 64,
        };
        let envelope = Envelope::read(&bytes, &limits).unwrap();
        let inner = PropalgationMessage::read(&envelope.payload, &limits).unwrap();
        assert_eq!((inner.action, inner.payload), (Action::Considers, event.payload));
    }
}
