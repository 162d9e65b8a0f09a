//! Whom to dial so that gossip has a mesh: known peers that are no partners, until enough are connected.
//!
//! Pure: time and chance are passed in. Partners are kept connected by their own links; this fills up to [`MESH`]
//! connections with the other peers of our store. Always: a peer that cannot be reached is tried again with growing
//! pauses, and a blacklisted one never.

use crate::model::{Federation, Member, Relation};
use crate::network::dial::Backoff;
use libp2p::PeerId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections that gossip wants: GossipSub's own mesh size.
pub const MESH: usize = 6;
/// Pause after the first failed dial of a peer, doubling to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// A connection that lasts this long is one: a peer that finds out that it does not know us lets go within seconds.
const SETTLED: Duration = Duration::from_secs(20);

/// Who was dialled, and when each may be again.
#[derive(Debug, Default)]
pub struct Mesh {
    tried: HashMap<PeerId, Tried>,
}

#[derive(Debug)]
struct Tried {
    backoff: Backoff,
    due: Instant,
    /// Since when it is connected.
    connected: Option<Instant>,
}

impl Mesh {
    /// The peers to dial now. `chance` gives numbers in `0.0..1.0`.
    pub fn wanted(
        &mut self,
        federation: &Federation,
        is_connected: impl Fn(&PeerId) -> bool,
        now: Instant,
        mut chance: impl FnMut() -> f64,
    ) -> Vec<Arc<Member>> {
        let members: Vec<&Arc<Member>> = federation
            .others()
            .filter(|member| member.relation != Relation::Blacklist)
            .collect();
        let peers: HashSet<PeerId> = members.iter().filter_map(|member| member.peer_id).collect();
        self.tried.retain(|peer, tried| {
            let since = is_connected(peer).then(|| *tried.connected.get_or_insert(now));
            tried.connected = since;
            peers.contains(peer) && since.is_none_or(|since| now.saturating_duration_since(since) < SETTLED)
        });
        let connected = peers.iter().filter(|peer| is_connected(peer)).count();
        let mut room = MESH.saturating_sub(connected);
        let mut wanted = Vec::new();
        for member in members.into_iter().filter(|member| member.relation == Relation::None) {
            let Some(peer) = member.peer_id.filter(|peer| !is_connected(peer)) else {
                continue;
            };
            if room == 0 {
                break;
            }
            let tried = self.tried.entry(peer).or_insert_with(|| Tried {
                backoff: Backoff::new(PAUSES.0, PAUSES.1),
                due: now,
                connected: None,
            });
            if tried.due > now || member.addresses.is_empty() {
                continue;
            }
            tried.due = now + tried.backoff.failed(chance());
            room -= 1;
            wanted.push(Arc::clone(member));
        }
        wanted
    }
}

/// Whose connections stay although no stream is open on them: partners first, then other known peers up to the mesh.
#[must_use]
pub fn kept(federation: &Federation, is_connected: impl Fn(&PeerId) -> bool) -> HashSet<PeerId> {
    let mut kept: HashSet<PeerId> = federation.partners().filter_map(|member| member.peer_id).collect();
    let others = federation.others().filter(|member| member.relation == Relation::None);
    let mut others: Vec<PeerId> = others.filter_map(|member| member.peer_id).collect();
    // Those that are connected already come first: keeping one is cheaper than making another.
    others.sort_by_key(|peer| (!is_connected(peer), *peer));
    let room = MESH.saturating_sub(kept.len());
    kept.extend(others.into_iter().take(room));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn federation(count: usize, relation: Relation) -> Federation {
        let members = (0..count).map(|n| Member {
            did: n.to_string(),
            name: n.to_string(),
            relation,
            peer_id: Some(PeerId::random()),
            addresses: vec!["/ip4/10.0.0.1/tcp/4001".parse().unwrap()],
        });
        Federation::new("me".into(), members)
    }

    #[test]
    fn dials_known_peers_until_there_are_six() {
        let (mut mesh, now) = (Mesh::default(), Instant::now());
        let known = federation(20, Relation::None);
        assert_eq!(mesh.wanted(&known, |_| false, now, || 0.5).len(), MESH);
        let connected: HashSet<PeerId> = known.others().take(4).filter_map(|member| member.peer_id).collect();
        let mut fresh = Mesh::default();
        let more = fresh.wanted(&known, |peer| connected.contains(peer), now, || 0.5);
        assert_eq!(more.len(), 2);
        assert!(more.iter().all(|member| !connected.contains(&member.peer_id.unwrap())));
        assert!(fresh.wanted(&known, |_| true, now, || 0.5).is_empty());
    }

    #[test]
    fn never_a_partner_or_a_blacklisted_one() {
        let (mut mesh, now) = (Mesh::default(), Instant::now());
        assert!(
            mesh.wanted(&federation(3, Relation::Partner), |_| false, now, || 0.5)
                .is_empty()
        );
        assert!(
            mesh.wanted(&federation(3, Relation::Blacklist), |_| false, now, || 0.5)
                .is_empty()
        );
    }

    #[test]
    fn one_that_cannot_be_reached_is_left_alone_for_a_while() {
        let (mut mesh, now) = (Mesh::default(), Instant::now());
        let known = federation(1, Relation::None);
        assert_eq!(mesh.wanted(&known, |_| false, now, || 1.0).len(), 1);
        assert_eq!(
            mesh.wanted(&known, |_| false, now + Duration::from_secs(9), || 1.0)
                .len(),
            0
        );
        assert_eq!(
            mesh.wanted(&known, |_| false, now + Duration::from_secs(10), || 1.0)
                .len(),
            1
        );
        assert_eq!(
            mesh.wanted(&known, |_| false, now + Duration::from_secs(25), || 1.0)
                .len(),
            0
        );
    }

    #[test]
    fn one_that_lets_go_after_a_moment_is_no_sooner_dialled_again() {
        let (mut mesh, now) = (Mesh::default(), Instant::now());
        let known = federation(1, Relation::None);
        let mut at = |seconds, connected| {
            let now = now + Duration::from_secs(seconds);
            mesh.wanted(&known, |_| connected, now, || 1.0).len()
        };
        assert_eq!((at(0, false), at(5, true), at(9, false), at(10, false)), (1, 0, 0, 1));
        assert_eq!(
            (at(15, true), at(20, false), at(29, false), at(30, false)),
            (0, 0, 0, 1)
        );
        assert_eq!((at(35, true), at(55, true), at(60, false)), (0, 0, 1), "it stayed");
    }

    #[test]
    fn partners_are_kept_before_others() {
        let partners = federation(8, Relation::Partner);
        assert_eq!(kept(&partners, |_| false).len(), 8);
        let known = federation(8, Relation::None);
        let connected = known.others().last().and_then(|member| member.peer_id).unwrap();
        let kept = kept(&known, |peer| *peer == connected);
        assert!(kept.len() == MESH && kept.contains(&connected));
    }
}
