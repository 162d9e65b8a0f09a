//! Events for listed or single peers: considers, and lines of planners.
//!
//! Owns the walk over the list. Never journals: rows are gathered in the batch in hand. Always: a peer gets an event of one
//! message once, however often it is listed; whoever is left out is counted and told.

use super::dispatch::Directed;
use super::taking::Taking;
use super::{Node, Refusal};
use crate::delivery::{self, Key};
use crate::model::Relation;
use crate::stream::{Enqueued, OutEvent};
use crate::wire::Action;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;
use tracing::{Instrument, debug_span};

impl Node {
    /// PB_CONSIDERS and PB_PLANNER: to each listed known, not blacklisted peer but ourselves. Considers are journaled, one
    /// row a peer; planner lines are live, `PublishCommon` at once.
    pub(super) async fn direct(&mut self, directed: Directed, at: Instant, taking: &mut Taking) -> Option<Refusal> {
        let Directed {
            action,
            datatype,
            user,
            to,
            payload,
        } = directed;
        let federation = Arc::clone(&self.federation.borrow());
        let (listed, mut done, mut left_out, mut missed) = (to.len(), HashSet::new(), None, None);
        let mut refused = 0;
        for key in to {
            match federation.find(&key) {
                _ if key == self.own_did => {}
                // One source for all of them: a list may hold thousands.
                None => {
                    let why = format!("{key:?} is no peer of our store");
                    self.refusals.refuse("unknown_peer", action.name(), &why);
                    refused += 1;
                    left_out.get_or_insert(("unknown_peer", why));
                }
                Some(member) if member.did == self.own_did => {}
                Some(member) if member.relation == Relation::Blacklist => {
                    self.refusals.refuse("blacklisted", &member.did, action.name());
                    refused += 1;
                    left_out.get_or_insert_with(|| ("blacklisted", format!("{key:?} is blacklisted")));
                }
                Some(member) if !done.insert(member.did.clone()) => {}
                Some(member) if action == Action::Considers => {
                    let id = taking.message_id();
                    // Each row holds the payload: a long list is a large transaction, to which no more is added.
                    taking.grows(payload.len());
                    taking.batch.changes.push(delivery::Change {
                        key: Key { datatype, id },
                        dest: member.did.clone(),
                        action,
                        user: user.clone(),
                        payload: payload.clone(),
                        at: delivery::now(),
                    });
                }
                Some(member) => {
                    let event = self.streams.event(action, datatype, &user, payload.clone());
                    let event = Arc::new(OutEvent::new(event, String::new(), at));
                    let span = debug_span!("direct", action = action.name(), to = %member.did);
                    // Counted and told where it was dropped.
                    if let Enqueued::Dropped(reason) = self.streams.publish_common(member, event).instrument(span).await
                    {
                        missed = Some((reason, format!("the line for {key:?} is given up")));
                    }
                }
            }
        }
        if let Some((rule, why)) = missed {
            taking.missed((rule, why));
        }
        let (rule, why) = left_out?;
        let others = match listed - refused {
            0 => "",
            _ => "; it goes to the others",
        };
        Some((rule, format!("{refused} of {listed} left out: {why}{others}")))
    }

    pub(super) fn close_planner(&self, key: &str) -> Option<Refusal> {
        match self.federation.borrow().find(key).and_then(|member| member.peer_id) {
            Some(peer) => {
                self.streams.close_stream(peer, Action::Planner);
                None
            }
            None => {
                let why = format!("{key:?} is no peer of our store");
                self.refusals.refuse("unknown_peer", "close_planner", &why);
                Some(("unknown_peer", why))
            }
        }
    }
}
