//! The `/1.0` event protocols, reading side: one read loop for each inbound stream.
//!
//! Owns who may open which protocol and what makes a line acceptable as such. Never looks into a payload. Always: the
//! peer's right is checked for each batch, `from` is the DID of the connection's PeerId, and a full upward queue stops
//! the reading, which is the back-pressure that the sender feels.

use super::{INBOUND_BYTES, StreamService, locked};
use crate::identity::key_of;
use crate::model::{Federation, Member};
use crate::network::{Incoming, LineLimits, Lines, split};
use crate::wire::{Action, Event};
use libp2p::PeerId;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Unacceptable lines after which a stream is reset: its writer does not mean what it writes.
const BAD_LINES: usize = 100;

/// A piece of one peer's event stream.
#[derive(Debug)]
pub struct Inbound {
    /// Who sent it; its DID is the `from` of every event.
    pub from: Arc<Member>,
    /// The protocol's action, whatever the events' own `type` says.
    pub action: Action,
    /// The events, in the stream's order.
    pub events: Vec<Event>,
    /// Their share of what may be read and not yet handled; given back when they are.
    pub room: Option<OwnedSemaphorePermit>,
}

/// Who may send events of `action`: partners send data, every known peer that is not blacklisted the rest.
pub fn may_send<'a>(
    federation: &'a Federation,
    peer: &PeerId,
    action: Action,
) -> Result<&'a Arc<Member>, &'static str> {
    let member = federation.of_peer(peer).ok_or("unknown_peer")?;
    if federation.known(peer).is_none() {
        return Err("blacklisted");
    }
    match action {
        Action::Considers | Action::Planner => Ok(member),
        _ if federation.is_partner(peer) => Ok(member),
        _ => Err("not_partner"),
    }
}

/// The rules that every event of a stream must pass.
fn acceptable(event: &Event, from: &Member, peer: &PeerId) -> Result<(), &'static str> {
    if event.from != from.did {
        return Err("from_is_not_sender");
    }
    if event.is_signed() {
        let key = key_of(peer).ok_or("no_key_in_peer_id")?;
        event.verify(&key).map_err(|error| error.rule())?;
    }
    Ok(())
}

impl StreamService {
    /// The diagrams' `readLoop` of the resource protocols.
    pub(super) async fn read_loop(self, incoming: Incoming, action: Action) {
        let Incoming {
            peer,
            stream,
            place: _place,
            ..
        } = incoming;
        let label = action.protocol().unwrap_or_default();
        if let Err(rule) = may_send(&self.federation(), &peer, action) {
            self.0.refusals.refuse(rule, &peer.to_string(), label);
            return;
        }
        let stop = locked(&self.0.table).stop_of(peer);
        self.0.metrics.stream_opened(label);
        let mut lines = Lines::new(stream, self.line_limits(), self.half_read(peer));
        let mut bad = 0;
        loop {
            let piece = tokio::select! {
                () = stop.cancelled() => break,
                () = self.0.stop_reading.cancelled() => break,
                piece = lines.next() => piece,
            };
            let piece = match piece {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => {
                    match error.rule() {
                        Some(rule) => self.0.refusals.refuse(rule, &peer.to_string(), &error),
                        None => tracing::debug!(%peer, protocol = label, %error, "a stream ended"),
                    }
                    break;
                }
            };
            let Some(batch) = self.batch(&piece, &peer, action, &mut bad) else {
                break;
            };
            if bad > BAD_LINES {
                self.0.refusals.refuse(
                    "bad_lines",
                    &peer.to_string(),
                    "too many unacceptable lines on one stream",
                );
                break;
            }
            let (from, count) = (Arc::clone(&batch.from), batch.events.len());
            let sent = tokio::select! {
                () = stop.cancelled() => break,
                sent = self.hand_up(batch, piece.len()) => sent,
            };
            if !sent {
                break;
            }
            let pause = self.pace(&from.did, count, "events");
            if !pause.is_zero() {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = self.0.stop_reading.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
        self.0.metrics.stream_closed(label);
    }

    /// Waits for room and hands a batch up; false when nobody takes it any more.
    async fn hand_up(&self, mut batch: Inbound, bytes: usize) -> bool {
        if batch.events.is_empty() {
            return true;
        }
        // One piece may be larger than all of the room: it waits until nothing else is there.
        let weight = u32::try_from(bytes.min(INBOUND_BYTES)).unwrap_or(u32::MAX);
        batch.room = Arc::clone(&self.0.inbound_room).acquire_many_owned(weight).await.ok();
        self.0.events.send(batch).await.is_ok()
    }

    /// The acceptable events of a piece; `None` when the peer lost its right meanwhile.
    fn batch(&self, piece: &[u8], peer: &PeerId, action: Action, bad: &mut usize) -> Option<Inbound> {
        let federation = self.federation();
        let from = match may_send(&federation, peer, action) {
            Ok(member) => member,
            Err(rule) => {
                self.0
                    .refusals
                    .refuse(rule, &peer.to_string(), "the stream's peer lost its right to it");
                return None;
            }
        };
        let limits = self.read_limits();
        let mut events = Vec::new();
        for line in split(piece) {
            let event = match Event::read_line(line, &limits) {
                Ok(event) => event,
                Err(error) => {
                    *bad += 1;
                    self.0.refusals.refuse(error.rule(), &from.did, &error);
                    continue;
                }
            };
            match acceptable(&event, from, peer) {
                Ok(()) => events.push(event),
                Err(rule) => {
                    *bad += 1;
                    self.0
                        .refusals
                        .refuse(rule, &from.did, format_args!("an event of type {}", event.kind.name()));
                }
            }
        }
        self.0.metrics.events_received_many(action.name(), events.len());
        Some(Inbound {
            from: Arc::clone(from),
            action,
            events,
            room: None,
        })
    }

    pub(super) fn line_limits(&self) -> LineLimits {
        LineLimits {
            bytes: self.0.limits.line_bytes,
            time: self.0.limits.line_timeout,
            quiet: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Relation;
    use crate::wire::DataType;
    use libp2p::identity::Keypair;

    fn member(relation: Relation, peer: PeerId) -> Member {
        Member {
            did: "did".into(),
            name: "n".into(),
            relation,
            peer_id: Some(peer),
            addresses: vec![],
        }
    }

    #[test]
    fn partners_send_data_known_peers_send_considers_and_others_nothing() {
        let peer = PeerId::random();
        let table = [
            (Relation::Partner, Action::Create, Ok(())),
            (Relation::Partner, Action::Considers, Ok(())),
            (Relation::None, Action::Considers, Ok(())),
            (Relation::None, Action::Planner, Ok(())),
            (Relation::None, Action::Update, Err("not_partner")),
            (Relation::Blacklist, Action::Considers, Err("blacklisted")),
            (Relation::Blacklist, Action::Delete, Err("blacklisted")),
        ];
        for (relation, action, expected) in table {
            let federation = Federation::new("me".into(), [member(relation, peer)]);
            assert_eq!(
                may_send(&federation, &peer, action).map(|_| ()),
                expected,
                "{relation:?} {action:?}"
            );
        }
        assert_eq!(
            may_send(&Federation::default(), &peer, Action::Create).map(|_| ()),
            Err("unknown_peer")
        );
    }

    #[test]
    fn from_must_be_the_connections_did_and_a_signature_must_be_the_connections_key() {
        let (key, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let peer = key.public().to_peer_id();
        let from = member(Relation::Partner, peer);
        let event = |did: &str| Event::new(Action::Create, did, "", DataType::ComputeResource, "{}".into(), "t");
        assert_eq!(acceptable(&event("did"), &from, &peer), Ok(()));
        assert_eq!(acceptable(&event("liar"), &from, &peer), Err("from_is_not_sender"));
        let mut signed = event("did");
        signed.sign(&key).unwrap();
        assert_eq!(acceptable(&signed, &from, &peer), Ok(()));
        let mut forged = event("did");
        forged.sign(&other).unwrap();
        assert!(acceptable(&forged, &from, &peer).is_err());
    }
}
