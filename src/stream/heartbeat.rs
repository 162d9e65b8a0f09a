//! The partner heartbeat, receiving side, and its rules.
//!
//! Owns when a heartbeat counts and when a partner's stream expires; pure but for the task at the end. Always: a
//! stream is kept only for a PARTNER whose line names the DID and PeerId of its connection and whose link passed the
//! bandwidth challenge; a connection on which anything comes is never called dead.

use super::table::Direction;
use super::{StreamService, locked};
use crate::model::{Federation, Member};
use crate::network::{Incoming, LineLimits, Lines, split};
use crate::wire::{Heartbeat, protocol};
use libp2p::PeerId;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause between two heartbeats.
pub const PERIOD: Duration = Duration::from_secs(3);
/// A stream without a heartbeat for this long is expired (diagrams: `Expiry=now+10s`).
pub const EXPIRY: Duration = Duration::from_secs(10);
/// A heartbeat line names three short texts.
const LINE_BYTES: usize = 4 * 1024;

/// When a heartbeat stream expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// The instant after which the stream is expired.
    pub expiry: Instant,
}

impl Beat {
    /// A heartbeat at `now`.
    #[must_use]
    pub fn at(now: Instant) -> Self {
        Self { expiry: now + EXPIRY }
    }
}

/// Whether a heartbeat may come from the peer at the other end of the connection.
pub(super) fn admit<'a>(federation: &'a Federation, peer: &PeerId) -> Result<&'a Arc<Member>, &'static str> {
    let member = federation.of_peer(peer).ok_or("unknown_peer")?;
    if federation.is_partner(peer) {
        Ok(member)
    } else {
        Err("not_partner")
    }
}

/// Whether a heartbeat line says who its sender is.
pub(super) fn check(beat: &Heartbeat, member: &Member, peer: &PeerId) -> Result<(), &'static str> {
    if beat.did != member.did {
        return Err("heartbeat_of_another_did");
    }
    if !beat.peer_id.is_empty() && beat.peer_id != peer.to_string() {
        return Err("heartbeat_of_another_peer");
    }
    Ok(())
}

impl StreamService {
    /// The diagrams' `HandlePartnerHeartbeat`: first line, `CheckHeartbeat` with the bandwidth challenge, then one line
    /// every few seconds until the stream ends or expires.
    pub(super) async fn handle_partner_heartbeat(self, incoming: Incoming) {
        let Incoming {
            peer,
            stream,
            place: _place,
            ..
        } = incoming;
        let member = match admit(&self.federation(), &peer) {
            Ok(member) => Arc::clone(member),
            Err(rule) => return self.0.refusals.refuse(rule, &peer.to_string(), "a partner heartbeat"),
        };
        let limits = LineLimits {
            bytes: LINE_BYTES,
            time: self.0.limits.line_timeout,
            quiet: Some(EXPIRY),
        };
        let pulse = stream.pulse();
        let mut lines = Lines::new(stream, limits, self.half_read(peer));
        if let Err(rule) = self.next_beat(&mut lines, &member, &peer).await {
            return self
                .0
                .refusals
                .refuse(rule, &member.did, "the first line of a partner heartbeat");
        }
        if let Err(why) = self.check_heartbeat(peer).await {
            return self.0.refusals.refuse("challenge_failed", &member.did, why);
        }
        // The challenge takes a while, in which the peer may have lost its right.
        if let Err(rule) = admit(&self.federation(), &peer) {
            return self
                .0
                .refusals
                .refuse(rule, &member.did, "a partner heartbeat, after its challenge");
        }
        let beat = Beat::at(Instant::now());
        let ticket = locked(&self.0.table).keep(peer, protocol::HEARTBEAT_PARTNER, Direction::In, Some(beat.expiry));
        self.0.metrics.stream_opened(protocol::HEARTBEAT_PARTNER);
        tracing::info!(partner = %member.name, did = %member.did, "a partner's heartbeat stream is kept");
        let why = loop {
            tokio::select! {
                () = ticket.stop.cancelled() => break "closed",
                beat = self.next_beat(&mut lines, &member, &peer) => match beat {
                    Ok(()) => {
                        lines.may_be_quiet_for(EXPIRY);
                        locked(&self.0.table).renew(&ticket, Beat::at(Instant::now()).expiry);
                    }
                    // On a slow link a heartbeat stands behind all the data that was written before it.
                    Err("expired") if pulse.quiet_for(Instant::now()) < EXPIRY => {
                        tracing::debug!(partner = %member.name, "a heartbeat is late, but something else comes");
                        lines.may_be_quiet_for(EXPIRY.saturating_sub(pulse.quiet_for(Instant::now())));
                        locked(&self.0.table).renew(&ticket, Beat::at(Instant::now()).expiry);
                    }
                    Err(end @ ("ended" | "expired" | "broken")) => break end,
                    Err(rule) => {
                        self.0.refusals.refuse(rule, &member.did, "a partner heartbeat");
                        break rule;
                    }
                },
            }
        };
        locked(&self.0.table).forget(&ticket);
        self.0.metrics.stream_closed(protocol::HEARTBEAT_PARTNER);
        tracing::info!(partner = %member.name, did = %member.did, why, "a partner's heartbeat stream ended");
        if why == "expired" {
            // Silence for three heartbeats: the connection is dead although nothing said so. A new one is dialled.
            self.0.network.disconnect(peer).await;
        }
    }

    /// Waits for the next acceptable heartbeat.
    async fn next_beat(&self, lines: &mut Lines, member: &Member, peer: &PeerId) -> Result<(), &'static str> {
        match lines.next().await {
            Ok(Some(piece)) => {
                let limits = self.read_limits();
                for line in split(&piece) {
                    let beat = Heartbeat::read_line(line, &limits).map_err(|error| error.rule())?;
                    check(&beat, member, peer)?;
                }
                Ok(())
            }
            Ok(None) => Err("ended"),
            Err(super::LineError::Quiet) => Err("expired"),
            Err(error) => Err(error.rule().unwrap_or("broken")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Relation;

    #[test]
    fn a_beat_lives_ten_seconds() {
        let now = Instant::now();
        assert_eq!(Beat::at(now).expiry, now + Duration::from_secs(10));
    }

    #[test]
    fn a_heartbeat_must_name_the_connection() {
        let peer = PeerId::random();
        let member = Member {
            did: "did".into(),
            name: "n".into(),
            relation: Relation::Partner,
            peer_id: Some(peer),
            addresses: vec![],
        };
        let beat = |did: &str, id: &str| Heartbeat {
            name: "n".into(),
            did: did.into(),
            peer_id: id.into(),
        };
        assert_eq!(check(&beat("did", &peer.to_string()), &member, &peer), Ok(()));
        assert_eq!(check(&beat("did", ""), &member, &peer), Ok(()));
        assert_eq!(
            check(&beat("other", ""), &member, &peer),
            Err("heartbeat_of_another_did")
        );
        let other = PeerId::random().to_string();
        assert_eq!(
            check(&beat("did", &other), &member, &peer),
            Err("heartbeat_of_another_peer")
        );
    }

    #[test]
    fn only_partners_are_admitted() {
        let peer = PeerId::random();
        for (relation, expected) in [
            (Relation::Partner, Ok(())),
            (Relation::None, Err("not_partner")),
            (Relation::Blacklist, Err("not_partner")),
        ] {
            let member = Member {
                did: "d".into(),
                name: "n".into(),
                relation,
                peer_id: Some(peer),
                addresses: vec![],
            };
            let federation = Federation::new("me".into(), [member]);
            assert_eq!(admit(&federation, &peer).map(|_| ()), expected);
        }
        assert!(admit(&Federation::default(), &peer).is_err());
    }
}
