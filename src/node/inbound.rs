//! What partners send, checked: `handleEventFromPartner` and `passConsidering`; and the `/1.0` streams on their way.
//!
//! Owns whose resource may change whose. Always: events of one peer are committed in the order they were read, and published
//! in that order; while NATS is away nothing is taken from the streams, so that the senders wait instead of losing; a
//! refused event changes nothing.

use super::overtaken::Overtaken;
use super::partner_rules::too_large_for_nats;
use crate::bus::{Bus, Out, PublishError};
use crate::delivery::{Committer, Hash, Key, Received, Verdict};
use crate::model::{Federation, Member, read_header};
use crate::store::Store;
use crate::stream::{Inbound, may_send};
use crate::telemetry::{Metrics, Refusals};
use crate::wire::{Action, DataType, Envelope, Event, OWN_NAME, PropalgationMessage, parse_timestamp, read_id};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Pieces handled in one go: one transaction for all of them.
const BATCH: usize = 64;
/// Pause after the store or the journal refused to answer, before the same batch is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long one batch waits for a journal that fails. After that its events are dropped and counted: they were
/// sent once, by a peer that will not send them again.
const WAIT: Duration = Duration::from_secs(10);

/// The handler of the `/1.0` streams; see the module's first lines.
pub struct InboundHandler {
    /// Who owns which resource.
    pub store: Arc<dyn Store>,
    /// Our NATS.
    pub bus: Bus,
    /// The daemon is leaving: NATS is not waited for any more.
    pub leaving: CancellationToken,
    /// Into the journal, and on to the publisher.
    pub committer: Committer,
    /// Who may send what, as it stands when an event is handled.
    pub federation: watch::Receiver<Arc<Federation>>,
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
    /// A resource of the sender, by its id.
    Data(String),
    /// Considers or planner: passed on as it is.
    Passed,
}

/// The rules for one event of `from` that need no store.
///
/// # Errors
/// The rule that refuses it.
pub fn handle_event_from_partner(
    action: Action,
    datatype: DataType,
    payload: &[u8],
    from: &str,
    document_bytes: usize,
) -> Result<Accepted, &'static str> {
    if payload.len() > document_bytes {
        return Err("too_large");
    }
    if datatype == DataType::Peer {
        return Err("datatype_peer");
    }
    if matches!(action, Action::Considers | Action::Planner) {
        return Ok(Accepted::Passed);
    }
    if datatype == DataType::Invalid {
        return Err("unknown_datatype");
    }
    match read_header(payload) {
        Ok(header) if header.creator_id == from => Ok(Accepted::Data(header.id)),
        Ok(_) => Err("not_creator"),
        // A delete may name only the id; whose it is decides what is stored under it.
        Err(error) if action == Action::Delete && error.rule() == "missing" => match read_id(payload) {
            Ok(id) => Ok(Accepted::Data(id)),
            Err(error) => Err(error.rule()),
        },
        Err(error) => Err(error.rule()),
    }
}

/// What is published on our NATS for an accepted event.
pub(super) fn message(action: Action, datatype: DataType, user: &str, payload: &Bytes) -> (Out, Vec<u8>) {
    let envelope = |payload: Bytes| {
        Envelope {
            from_app: OWN_NAME.to_owned(),
            datatype,
            user: user.to_owned(),
            groups: Vec::new(),
            payload,
            search_id: None,
        }
        .write()
    };
    match action {
        Action::Delete => (Out::RemoveResource, envelope(payload.clone())),
        Action::Create | Action::Update => (Out::CreateResource, envelope(payload.clone())),
        action => {
            let inner = PropalgationMessage {
                datatype,
                action,
                payload: payload.clone(),
            };
            (Out::PropalgationEvent, envelope(inner.write().into()))
        }
    }
}

/// For each key, whether `from` may change what stands under it: it is its own, or nothing is there.
pub(super) async fn may_change(store: &dyn Store, keys: Vec<(Key, &str)>) -> Result<Vec<bool>, String> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let (keys, from): (Vec<_>, Vec<_>) = keys
        .into_iter()
        .map(|(key, from)| ((key.datatype, key.id), from))
        .unzip();
    let owners = store.owners(&keys).await.map_err(|error| error.to_string())?;
    let same = |(owner, from): (Option<String>, &str)| owner.is_none_or(|owner| owner == from);
    Ok(owners.into_iter().zip(from).map(same).collect())
}

struct Checked {
    from: Arc<Member>,
    line: Received,
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
            tokio::select! {
                () = self.bus.connected() => {}
                // They are published in the next life.
                () = self.leaving.cancelled() => {}
            }
            let mut room: Option<OwnedSemaphorePermit> = None;
            for piece in &mut batch {
                match (&mut room, piece.room.take()) {
                    (Some(room), Some(more)) => room.merge(more),
                    (room, more) => *room = more,
                }
            }
            let checked = self.check(&mut batch, &mut overtaken).await;
            batch.clear();
            let checked = self.keep_own(checked, &no_more).await;
            self.commit(checked, room).await;
        }
    }

    fn refuse(&self, rule: &'static str, from: &Member, action: Action, datatype: DataType) {
        let detail = format_args!("{} of {}", action.name(), datatype.name());
        self.refusals.refuse(rule, &from.did, detail);
    }

    /// Checks what needs no store; planner lines are live only, and go on at once.
    async fn check(&self, batch: &mut [Inbound], overtaken: &mut Overtaken) -> Vec<Checked> {
        let now = Instant::now();
        let federation = Arc::clone(&self.federation.borrow());
        let mut checked = Vec::new();
        for Inbound {
            from, action, events, ..
        } in batch
        {
            let action = *action;
            // It may have waited here for as long as NATS was away, and its sender may be a partner no more.
            let right = from
                .peer_id
                .ok_or("unknown_peer")
                .and_then(|peer| may_send(&federation, &peer, action).map(drop));
            if let Err(rule) = right {
                self.refusals
                    .refuse(rule, &from.did, format_args!("{} events that had waited", events.len()));
                continue;
            }
            for event in std::mem::take(events) {
                let datatype = event.datatype;
                let verdict = match too_large_for_nats(&self.bus, action, &event.payload, &event.user) {
                    Some(_) => Err("too_large"),
                    None => handle_event_from_partner(action, datatype, &event.payload, &from.did, self.document_bytes),
                };
                let id = match verdict {
                    Ok(Accepted::Passed) if action == Action::Planner => {
                        self.pass_planner(from, &event).await;
                        continue;
                    }
                    // Each one is delivered: nothing is ever the same as an earlier one.
                    Ok(Accepted::Passed) => uuid::Uuid::new_v4().to_string(),
                    Ok(Accepted::Data(id)) => {
                        if let Some(sent) = parse_timestamp(&event.ts)
                            && !overtaken.is_newest(&from.did, datatype, &id, sent, now)
                        {
                            self.metrics.dropped("inbound", "overtaken");
                            debug!(from = %from.did, %id, "a newer event of this resource was faster on another stream");
                            continue;
                        }
                        id
                    }
                    Err(rule) => {
                        self.refuse(rule, from, action, datatype);
                        continue;
                    }
                };
                let line = Received {
                    seq: 0,
                    key: Key { datatype, id },
                    directed: action == Action::Considers,
                    once: true,
                    action,
                    user: event.user,
                    hash: Hash::of(&event.payload),
                    payload: event.payload,
                };
                checked.push(Checked {
                    from: Arc::clone(from),
                    line,
                });
            }
        }
        checked
    }

    async fn pass_planner(&self, from: &Member, event: &Event) {
        let (out, bytes) = message(Action::Planner, event.datatype, &event.user, &event.payload);
        let bytes = Bytes::from(bytes);
        loop {
            if self.leaving.is_cancelled() && !self.bus.is_connected() {
                let detail = "NATS is away, and the daemon leaves";
                return self.refusals.dropped("inbound", "stopped", 1, &from.did, detail);
            }
            match self.bus.publish(out, bytes.clone()).await {
                Ok(()) => return,
                Err(PublishError::Away) => tokio::select! {
                    () = self.bus.connected() => {}
                    () = self.leaving.cancelled() => {}
                },
                Err(error) => return self.refusals.refuse("nats_refused", &from.did, error),
            }
        }
    }

    /// Leaves out what would change another's resource. As long as the store cannot tell whose they are, the streams stand still;
    /// only a daemon that has to leave gives them up.
    async fn keep_own(&self, checked: Vec<Checked>, no_more: &CancellationToken) -> Vec<Checked> {
        let mut told = false;
        let data = |item: &&Checked| !item.line.directed;
        loop {
            let keys = checked.iter().filter(data);
            let keys = keys
                .map(|item| (item.line.key.clone(), item.from.did.as_str()))
                .collect();
            match may_change(self.store.as_ref(), keys).await {
                Ok(verdicts) => {
                    let mut verdicts = verdicts.into_iter();
                    let may = |item: &Checked| {
                        let may = item.line.directed || verdicts.next().unwrap_or(false);
                        if !may {
                            self.refuse("not_owner", &item.from, item.line.action, item.line.key.datatype);
                        }
                        may
                    };
                    return checked.into_iter().filter(may).collect();
                }
                Err(error) if no_more.is_cancelled() => {
                    // Without the store nobody can say whose a resource is: pass on only what needs no owner.
                    let lost = checked.iter().filter(data).count();
                    self.metrics.dropped_many("inbound", "store_down", lost as u64);
                    warn!(%error, lost, "the store does not answer, and the daemon leaves; partners' events are lost");
                    return checked.into_iter().filter(|item| item.line.directed).collect();
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        warn!(%error, events = checked.len(), "the store does not answer; partners' events wait");
                    }
                    tokio::select! {
                        () = no_more.cancelled() => {}
                        () = tokio::time::sleep(AGAIN) => {}
                    }
                }
            }
        }
    }

    /// Commits, for each sender by itself and in its order.
    async fn commit(&self, checked: Vec<Checked>, mut room: Option<OwnedSemaphorePermit>) {
        let mut senders: HashMap<String, (Arc<Member>, Vec<Received>)> = HashMap::new();
        for Checked { from, line } in checked {
            let entry = senders.entry(from.did.clone()).or_insert_with(|| (from, Vec::new()));
            entry.1.push(line);
        }
        let deadline = Instant::now() + WAIT;
        for (from, lines) in senders.into_values() {
            let mut share = room.take();
            loop {
                match self
                    .committer
                    .commit(&from.did, lines.clone(), None, share.take())
                    .await
                {
                    Ok(verdicts) => {
                        for (line, _) in lines
                            .iter()
                            .zip(&verdicts)
                            .filter(|(_, verdict)| **verdict == Verdict::NotOwner)
                        {
                            self.refuse("not_owner", &from, line.action, line.key.datatype);
                        }
                        break;
                    }
                    Err(error) if Instant::now() >= deadline => {
                        let lost = format_args!("{} events are lost: {error}", lines.len());
                        self.refusals
                            .dropped("inbound", "journal", lines.len() as u64, &from.did, lost);
                        break;
                    }
                    Err(error) => {
                        debug!(%error, "the journal takes nothing; partners' events wait");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
