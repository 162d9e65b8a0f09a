//! What the daemon does with a peer, and why, in words. Pure.
//!
//! Always: the rule that is named is the one that decides, and what it rests on is said with it.

use super::told_peers::ExplainedPeer;
use crate::discovery::{Conflict, Found};
use crate::model::{Member, Relation};
use crate::network::PeerView;
use crate::settings::UnknownPeers;
use libp2p::PeerId;
use std::sync::Arc;

/// All that is known of one peer.
#[derive(Default)]
pub(super) struct Facts {
    /// What was asked for, when nobody has more of it.
    pub asked: String,
    pub own_did: String,
    pub stored: Option<Arc<Member>>,
    /// Why its document is not used.
    pub not_used: Option<(&'static str, String)>,
    pub record: Option<Found>,
    pub conflict: Option<Conflict>,
    pub peer: Option<PeerId>,
    pub view: Option<PeerView>,
    pub unknown: Option<UnknownPeers>,
    /// There is somebody to ask about unknown peers.
    pub can_ask: bool,
    pub now: u64,
}

/// What decides about its connections.
struct Decision {
    allowed: bool,
    rule: &'static str,
    source: String,
    says: String,
}

impl Facts {
    fn did(&self) -> String {
        let stored = self.stored.as_ref().map(|member| member.did.clone());
        let record = || self.record.as_ref().map(|found| found.record.record.did.clone());
        stored.or_else(record).unwrap_or_default()
    }

    fn decide(&self) -> Decision {
        let decision = |allowed, rule, source: &str, says: String| Decision {
            allowed,
            rule,
            source: source.to_owned(),
            says,
        };
        let in_store = "its document in our store";
        if !self.own_did.is_empty() && self.did() == self.own_did {
            return decision(true, "self", in_store, "This is our own organisation.".to_owned());
        }
        if let Some((rule, why)) = &self.not_used {
            let says = format!("Its document is not used: {why}. Until that is mended it counts as unknown.");
            let allowed = self.unknown == Some(UnknownPeers::Allow);
            return decision(allowed, rule, in_store, says);
        }
        match self.stored.as_ref().map(|member| (member.relation, member.peer_id)) {
            Some((Relation::Blacklist, _)) => {
                let says = "It is refused both ways, and a connection is dropped at once: it is blacklisted.";
                decision(false, "blacklisted", in_store, says.to_owned())
            }
            Some((_, None)) => {
                let says = "It cannot be connected: its document names no PeerId and no key.";
                decision(false, "no_peer_id", in_store, says.to_owned())
            }
            Some(_) => {
                let says = "It may connect, and never waits for a verdict: it is in our store.";
                decision(true, "known", in_store, says.to_owned())
            }
            None => self.decide_unknown(),
        }
    }

    fn decide_unknown(&self) -> Decision {
        if let Some(found) = self.record.as_ref().filter(|_| !self.is_our_indexer()) {
            return Decision {
                allowed: true,
                rule: "vouched",
                source: found.from.to_string(),
                says: "It waits until an indexer is asked about it, and may then connect: there is a record of it. \
                       It gets what is public, and nothing else."
                    .to_owned(),
            };
        }
        if self.is_our_indexer() {
            return Decision {
                allowed: true,
                rule: "indexer",
                source: "the indexers that we keep; `peer ls` shows them".to_owned(),
                says: "It is one of our indexers, and let in for as long as it is one. It gets what is public, and nothing else."
                    .to_owned(),
            };
        }
        let asked = if self.can_ask {
            "no indexer has a record of it"
        } else {
            "there is no indexer to ask"
        };
        let allow = self.unknown == Some(UnknownPeers::Allow);
        let says = if allow {
            format!("It may connect after at most five seconds: {asked}, and discovery.unknown_peers is allow.")
        } else {
            format!("It is dropped after at most five seconds: {asked}, and discovery.unknown_peers is refuse.")
        };
        Decision {
            allowed: allow,
            rule: "unknown_peer",
            source: "discovery.unknown_peers".to_owned(),
            says,
        }
    }

    fn is_our_indexer(&self) -> bool {
        self.view.as_ref().is_some_and(|view| view.gate == "needed")
    }

    fn rights(&self, decision: &Decision) -> Option<&'static str> {
        if decision.rule == "self" || !decision.allowed {
            return None;
        }
        let relation = self
            .stored
            .as_ref()
            .filter(|_| self.not_used.is_none())
            .map(|member| member.relation);
        Some(match relation {
            Some(Relation::Partner) => {
                "What we propagate is delivered to it, what it propagates is taken, and its searches find what is public and \
                 what partnerships share with it."
            }
            Some(_) => {
                "It is no partner: resources of it are refused, and none of ours are delivered. Considers and planner lines \
                 pass. Its searches find what is public and what partnerships share with it."
            }
            None => "Resources, considers and planner lines of it are refused. Its searches find what is public.",
        })
    }

    fn where_it_is(&self) -> Option<String> {
        let member = self.stored.as_ref()?;
        let list =
            |addresses: &[libp2p::Multiaddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let document = match member.addresses.as_slice() {
            [] => "Its document has no address that can be dialled".to_owned(),
            addresses => format!("It is dialled at {}, as its document says", list(addresses)),
        };
        let record = self.record.as_ref().map(|found| &found.record.addresses);
        Some(match record {
            Some(addresses) if !addresses.is_empty() && *addresses != member.addresses => {
                format!(
                    "{document}; when that fails, at {}, as its record says.",
                    list(addresses)
                )
            }
            _ => format!("{document}."),
        })
    }

    fn record_says(&self) -> Option<String> {
        let found = self.record.as_ref()?;
        let age = self.now.saturating_sub(found.at) / 1000;
        let until = if found.record.expires > self.now {
            "holds".to_owned()
        } else {
            "has expired, and is the last that is known".to_owned()
        };
        let did = if found.record.proven {
            "its DID follows from its key"
        } else {
            "its DID does not follow from its key: it is the first key seen with it"
        };
        Some(format!(
            "Its record came from {}, {age} s ago, and {until}; {did}.",
            found.from
        ))
    }

    fn state(&self) -> Option<String> {
        let view = self.view.as_ref()?;
        let now = match (view.connected, view.gate) {
            (true, "waits") => "It is connected, and waits for a verdict.",
            (true, _) => "It is connected.",
            (false, "unknown") => "It is not connected; it was here a moment ago and nobody knew it.",
            (false, _) => "It is not connected.",
        };
        Some(now.to_owned())
    }

    /// The whole of it.
    pub(super) fn explain(self) -> ExplainedPeer {
        let decision = self.decide();
        let mut says = vec![decision.says.clone()];
        says.extend(self.rights(&decision).map(str::to_owned));
        says.extend(self.where_it_is());
        says.extend(self.record_says());
        if let Some(conflict) = &self.conflict {
            let owner = conflict
                .owner
                .map_or("nobody proves it".to_owned(), |owner| format!("it is {owner}'s"));
            says.push(format!(
                "A record by which {} claims this DID was refused ({}): {owner}; it came from {}.",
                conflict.claims, "did_of_another", conflict.from
            ));
        }
        says.extend(self.state());
        let name = self.stored.as_ref().map(|member| member.name.clone());
        let record_name = || self.record.as_ref().map(|found| found.record.record.name.clone());
        ExplainedPeer {
            did: self.did(),
            name: name.or_else(record_name).unwrap_or_else(|| self.asked.clone()),
            peer_id: self.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            relation: match &self.stored {
                _ if decision.rule == "self" => "self".to_owned(),
                Some(member) => member.relation.name().to_owned(),
                None => "unknown".to_owned(),
            },
            allowed: decision.allowed,
            rule: decision.rule.to_owned(),
            source: decision.source,
            says,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(relation: Relation, peer_id: Option<PeerId>) -> Option<Arc<Member>> {
        Some(Arc::new(Member {
            did: "did:b".into(),
            name: "bob".into(),
            relation,
            peer_id,
            addresses: vec!["/ip4/10.0.0.1/tcp/4001".parse().unwrap()],
        }))
    }

    fn facts(stored: Option<Arc<Member>>, unknown: UnknownPeers) -> Facts {
        Facts {
            asked: "bob".into(),
            own_did: "did:me".into(),
            stored,
            unknown: Some(unknown),
            ..Facts::default()
        }
    }

    #[test]
    fn the_rule_that_decides_is_named() {
        use Relation::{Blacklist, None as Nothing, Partner};
        use UnknownPeers::{Allow, Refuse};
        let peer = Some(PeerId::random());
        let table = [
            (member(Partner, peer), Refuse, true, "known", "is delivered to it"),
            (member(Nothing, peer), Refuse, true, "known", "no partner"),
            (member(Partner, None), Allow, false, "no_peer_id", "names no PeerId"),
            (member(Blacklist, peer), Allow, false, "blacklisted", "both ways"),
            (None, Allow, true, "unknown_peer", "no indexer to ask"),
            (None, Refuse, false, "unknown_peer", "is refuse"),
        ];
        for (stored, unknown, allowed, rule, says) in table {
            let told = facts(stored, unknown).explain();
            assert_eq!((told.allowed, told.rule.as_str()), (allowed, rule), "{told:?}");
            assert!(told.says.join(" ").contains(says), "{told:?}");
        }
        let mut indexer = facts(None, Refuse);
        indexer.view = Some(PeerView {
            connected: true,
            blocked: false,
            gate: "needed",
        });
        let told = indexer.explain();
        assert_eq!((told.allowed, told.rule.as_str()), (true, "indexer"), "{told:?}");
        let mut unused = facts(member(Partner, peer), Refuse);
        unused.not_used = Some(("pinned_to_another_peer", "it is pinned".into()));
        let told = unused.explain();
        assert_eq!((told.allowed, told.rule.as_str()), (false, "pinned_to_another_peer"));
        let mut own = facts(member(Relation::SelfPeer, peer), Refuse);
        own.own_did = "did:b".into();
        assert_eq!(own.explain().rule, "self");
    }
}
