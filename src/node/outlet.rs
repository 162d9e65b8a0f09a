//! Where partners' changes go once they are committed: the store, when it is ours to write, then our NATS.
//!
//! Owns that order. Always: an app that hears of a resource finds it in the store; what nobody listens to yet is not done,
//! unless our own store has taken it.

use super::inbound::message;
use crate::bus::{Bus, Came, Heard, Message, PublishError};
use crate::delivery::{Outlet, Put, Refusal, Stuck, Todo, Token};
use crate::model::{Federation, Relation};
use crate::store::{Applied, Change, Store, Write};
use crate::telemetry::{Refusals, Sides};
use crate::wire::Action;
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::debug;

/// The outlet; see the module's first lines.
pub struct NatsOutlet {
    /// Our NATS.
    pub bus: Bus,
    /// Made at the first use; made anew when the client's subscription has ended.
    pub heard: Option<Heard>,
    /// Where resources are.
    pub store: Arc<dyn Store>,
    /// Whether the daemon writes the store.
    pub writes_store: bool,
    /// Whether the sender may still be heard.
    pub federation: watch::Receiver<Arc<Federation>>,
    /// Names our journal in the message ids.
    pub lineage: Token,
    /// Somebody listened to the last message of the last batch: then many are published in one go.
    pub confident: bool,
    /// The check of the store: whether it takes what is written.
    pub store_writes: Sides,
    /// Where to refuse.
    pub refusals: Refusals,
}

/// Our side of the store's check.
const SIDE: &str = "partners";

/// Whether a row is to be published; else what its sender is told.
type Fate = Result<(), Refusal>;

const fn refusal(code: &'static str) -> Refusal {
    Refusal { code, max: None }
}

const NOT_PARTNER: Refusal = refusal("not_partner");
/// The store says that another owns it.
const NOT_OWNER: Refusal = refusal("not_owner");
/// The store cannot hold it, or does not take it.
const NOT_STORABLE: Refusal = refusal("not_storable");

/// Why NATS has not all of them.
enum Held {
    /// Nobody listens on this subject; and where what was given to NATS ends.
    Unheard(&'static str, usize),
    /// NATS did not take them.
    Away(String),
}

fn stuck(code: &'static str, why: String) -> Stuck {
    Stuck { code, why }
}

fn is_document(row: &Todo) -> bool {
    matches!(row.action, Action::Create | Action::Update | Action::Delete)
}

impl NatsOutlet {
    /// Whether it may be published still: its sender may have lost its right since it was committed.
    fn stands(&self, row: &Todo) -> Fate {
        let federation = self.federation.borrow();
        let relation = federation.get(&row.origin).map(|member| member.relation);
        let stands = match relation {
            Some(Relation::Partner) => true,
            Some(Relation::Blacklist) => false,
            // A document that cannot be read now takes nothing away from what came by right.
            None => federation.is_aside(&row.origin),
            Some(_) => !is_document(row),
        };
        stands.then_some(()).ok_or(NOT_PARTNER)
    }

    /// For each row, whether it is to be published, or what its sender is told.
    async fn apply(&self, rows: &[Todo]) -> Result<Vec<Fate>, String> {
        let mut fates: Vec<Fate> = rows.iter().map(|row| self.stands(row)).collect();
        for (row, _) in rows.iter().zip(&fates).filter(|(_, fate)| fate.is_err()) {
            self.refusals
                .refuse("not_partner", &row.origin, "a change that had waited to be published");
        }
        if !self.writes_store {
            return Ok(fates);
        }
        let (mut writes, mut places) = (Vec::new(), Vec::new());
        for (place, row) in rows.iter().enumerate() {
            if is_document(row) && fates.get(place) == Some(&Ok(())) {
                let put = row.action != Action::Delete;
                // What can never be stored must not hold up all that comes behind it.
                if put && let Err(why) = self.store.can_hold(&row.payload) {
                    if let Some(fate) = fates.get_mut(place) {
                        *fate = Err(NOT_STORABLE);
                    }
                    self.refusals.refuse("not_storable", &row.origin, why);
                    continue;
                }
                writes.push(Write {
                    datatype: row.key.datatype,
                    id: row.key.id.clone(),
                    change: match row.action {
                        Action::Delete => Change::Remove,
                        _ => Change::Put(row.payload.clone()),
                    },
                    only_if_owner: Some(row.origin.clone()),
                });
                places.push(place);
            }
        }
        if writes.is_empty() {
            return Ok(fates);
        }
        let applied = self.store.apply(writes).await.map_err(|error| error.to_string())?;
        for (place, verdict) in places.into_iter().zip(applied) {
            let (Some(fate), Some(row)) = (fates.get_mut(place), rows.get(place)) else {
                continue;
            };
            match verdict {
                Applied::Done | Applied::Unchanged => {}
                Applied::NotOwner => {
                    *fate = Err(NOT_OWNER);
                    self.refusals
                        .refuse("not_owner", &row.origin, format_args!("{:?}", row.key.id));
                }
                // An app that heard of it would not find it.
                Applied::Refused(why) => {
                    *fate = Err(NOT_STORABLE);
                    self.refusals.refuse("not_storable", &row.origin, why);
                }
            }
        }
        Ok(fates)
    }

    /// How far the messages came.
    async fn publish(&mut self, messages: &[Message]) -> Result<Came, PublishError> {
        // Not waited for here: whoever waits tells people why.
        if !self.bus.is_connected() {
            return Err(PublishError::Away);
        }
        if self.heard.is_none() {
            self.heard = Some(self.bus.heard(self.writes_store).await?);
        }
        match &mut self.heard {
            Some(heard) => heard.publish(messages).await,
            None => Err(PublishError::Away),
        }
    }

    /// Publishes the rows that are to be; says how many rows are done, from the first on. One that NATS never takes is noted in
    /// `fates`.
    async fn publish_rows(&mut self, rows: &[Todo], fates: &mut [Fate]) -> (usize, Option<Held>) {
        let lineage = hex::encode(self.lineage.0);
        let mut places = Vec::new();
        let mut messages = Vec::new();
        for (place, row) in rows.iter().enumerate() {
            if fates.get(place) == Some(&Ok(())) {
                let (out, bytes) = message(row.action, row.key.datatype, &row.user, &row.payload);
                // A journal that a power cut or a backup set back gives its numbers again, to other messages.
                let (action, datatype) = (row.action.code(), row.key.datatype.code());
                let id = format!("{lineage}-{}-{action}.{datatype}-{:?}", row.n, row.hash);
                messages.push(Message {
                    out,
                    payload: bytes.into(),
                    id,
                    of: is_document(row).then(|| (row.key.datatype, row.key.id.clone())),
                });
                places.push(place);
            }
        }
        if messages.is_empty() {
            return (rows.len(), None);
        }
        let Came { heard, given } = match self.publish(&messages).await {
            Ok(came) => came,
            Err(PublishError::TooLarge { bytes, max }) => {
                // When it was accepted the server had another limit, or had not told it yet.
                let detail = format_args!("{bytes} bytes, and NATS takes {max} now");
                let first = places.first().copied().unwrap_or_default();
                if let Some(row) = rows.get(first) {
                    self.refusals
                        .dropped("inbound", "nats_too_large", 1, &row.origin, detail);
                }
                if let Some(fate) = fates.get_mut(first) {
                    *fate = Err(Refusal {
                        code: "too_large",
                        max: Some(max as u64),
                    });
                }
                return (first + 1, None);
            }
            Err(error) => {
                self.confident = false;
                return (0, Some(Held::Away(error.to_string())));
            }
        };
        self.confident = heard == given;
        let Some(next) = places.get(heard).copied() else {
            return (rows.len(), None);
        };
        if self.confident {
            // Cut short before one that is too large: it is the next batch's first.
            return (next, None);
        }
        let out = messages
            .get(heard)
            .map(|message| message.out.name())
            .unwrap_or_default();
        let given = places.get(given).copied().unwrap_or(rows.len());
        (next, Some(Held::Unheard(out, given)))
    }
}

#[async_trait]
impl Outlet for NatsOutlet {
    async fn put(&mut self, rows: &[Todo]) -> Put {
        // Until somebody listens, one at a time of what an unheard one holds up: what came behind it would be published twice.
        let alone = |row: &Todo| !self.writes_store || !is_document(row);
        let most = match self.confident {
            true => rows.len(),
            false => rows.iter().position(alone).unwrap_or(rows.len()).max(1),
        };
        let rows = rows.get(..most.min(rows.len())).unwrap_or(rows);
        let mut fates = match self.apply(rows).await {
            Ok(fates) => {
                self.store_writes.good(SIDE);
                fates
            }
            Err(why) => {
                self.store_writes.bad(SIDE, why.clone());
                let stuck = stuck("store", format!("the store does not answer: {why}"));
                return Put {
                    stuck: Some(stuck),
                    ..Put::default()
                };
            }
        };
        let (mut done, held) = self.publish_rows(rows, &mut fates).await;
        let stuck = match held {
            Some(Held::Unheard(subject, given)) => {
                if self.writes_store {
                    // Our store has the documents: an app that comes later finds them there.
                    let behind = rows.iter().take(given).skip(done);
                    done += behind.take_while(|row| is_document(row)).count();
                }
                (done < rows.len()).then(|| stuck("nats", format!("nobody listens to {subject} on NATS")))
            }
            Some(Held::Away(why)) => Some(stuck("nats", why)),
            None => None,
        };
        let mut given_up = Vec::new();
        for (place, (row, fate)) in rows.iter().zip(fates).take(done).enumerate() {
            match fate {
                Ok(()) => {
                    debug!(from = %row.origin, action = row.action.name(), datatype = row.key.datatype.name(), id = %row.key.id, "event published");
                }
                Err(refusal) => given_up.push((place, refusal)),
            }
        }
        Put { done, given_up, stuck }
    }

    async fn settle(&mut self) -> Option<Stuck> {
        let settled = self.heard.as_mut()?.settle().await;
        settled.err().map(|error| stuck("nats", error.to_string()))
    }
}

#[cfg(test)]
#[path = "outlet_tests.rs"]
mod tests;
