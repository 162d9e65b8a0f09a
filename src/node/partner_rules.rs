//! The rules for lines of a delivery stream: those of the `/1.0` protocols that they stand for, and those of our store.
//!
//! Owns nothing. Always: a line that is refused is refused for good, with a word for the sender; whether the store answers
//! is another matter, and no refusal.

use super::inbound::{Accepted, handle_event_from_partner, may_change};
use crate::bus::Bus;
use crate::delivery::{Examiner, Key, Refusal};
use crate::model::Member;
use crate::store::Store;
use crate::wire::{Action, DeliveryLine};
use async_trait::async_trait;
use std::sync::Arc;
use tracing::debug;

/// What an envelope adds to a message besides user and payload, and its headers.
const ENVELOPE: usize = 512;

/// The rules; see the module's first lines.
pub(super) struct PartnerRules {
    pub(super) store: Arc<dyn Store>,
    pub(super) bus: Bus,
    pub(super) document_bytes: usize,
    /// Whether the daemon writes the store, which then has to be able to hold it.
    pub(super) writes_store: bool,
}

fn refusal(code: &'static str) -> Refusal {
    Refusal { code, max: None }
}

impl PartnerRules {
    fn check(&self, from: &Member, line: &DeliveryLine) -> Result<(), Refusal> {
        let action = line.action.ok_or(refusal("shape"))?;
        let (datatype, payload) = (line.datatype, &line.payload);
        if let Some(max) = too_large_for_nats(&self.bus, action, payload, &line.user) {
            return Err(Refusal {
                code: "too_large",
                max: Some(max as u64),
            });
        }
        match handle_event_from_partner(action, datatype, payload, &from.did, self.document_bytes) {
            Ok(Accepted::Passed) => Ok(()),
            Ok(Accepted::Data(id)) if id == line.id => self.can_hold(line),
            Ok(Accepted::Data(_)) => Err(refusal("shape")),
            Err("too_large") => Err(Refusal {
                code: "too_large",
                max: Some(self.document_bytes as u64),
            }),
            Err("not_creator") => Err(refusal("not_creator")),
            Err("datatype_peer" | "unknown_datatype") => Err(refusal("datatype")),
            Err(_) => Err(refusal("shape")),
        }
    }

    fn can_hold(&self, line: &DeliveryLine) -> Result<(), Refusal> {
        let written = self.writes_store && matches!(line.action, Some(Action::Create | Action::Update));
        if written && let Err(why) = self.store.can_hold(&line.payload) {
            debug!(id = %line.id, %why, "a partner's document cannot be stored");
            return Err(refusal("shape"));
        }
        Ok(())
    }
}

fn is_document(line: &DeliveryLine) -> bool {
    matches!(line.action, Some(Action::Create | Action::Update | Action::Delete))
}

/// What our NATS takes, when that is known and the message is larger.
pub(super) fn too_large_for_nats(bus: &Bus, action: Action, payload: &[u8], user: &str) -> Option<usize> {
    bus.max_payload()
        .filter(|max| message_bytes(action, payload, user) > *max)
}

/// What the message takes on our NATS, at the most: base64 once for a resource, twice for considers and planner lines.
fn message_bytes(action: Action, payload: &[u8], user: &str) -> usize {
    let base64 = |bytes: usize| bytes.div_ceil(3) * 4;
    let once = base64(payload.len());
    let body = if matches!(action, Action::Considers | Action::Planner) {
        base64(once + ENVELOPE)
    } else {
        once
    };
    body + user.len() * 6 + ENVELOPE
}

#[async_trait]
impl Examiner for PartnerRules {
    async fn examine(&self, from: &Member, lines: &[&DeliveryLine]) -> Result<Vec<Result<(), Refusal>>, String> {
        let mut verdicts: Vec<Result<(), Refusal>> = lines.iter().map(|line| self.check(from, line)).collect();
        let passed = lines.iter().zip(&verdicts);
        let keys = passed
            .filter(|(line, verdict)| verdict.is_ok() && is_document(line))
            .map(|(line, _)| {
                let key = Key {
                    datatype: line.datatype,
                    id: line.id.clone(),
                };
                (key, from.did.as_str())
            });
        let mut may = may_change(self.store.as_ref(), keys.collect()).await?.into_iter();
        for (line, verdict) in lines.iter().zip(&mut verdicts) {
            if verdict.is_ok() && is_document(line) && !may.next().unwrap_or(false) {
                *verdict = Err(refusal("not_owner"));
            }
        }
        Ok(verdicts)
    }
}
