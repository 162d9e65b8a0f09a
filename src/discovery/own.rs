//! Our own record, and the addresses that it tells.
//!
//! Pure: what is listened on and what others see is passed in. Always: `network.announce` is told as it is; without it, whoever
//! is reached at a public address is told public ones only, and whoever is on the same host all of them.

use super::rules::LIFE;
use crate::identity::public_key_base64;
use crate::model::Peer;
use crate::network::dial::socket_of;
use crate::network::{Reach, SeenAt, Source, reach_of};
use crate::wire::{PeerRecord, WireError, timestamp};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

/// Peers of different addresses who must see us at an address before it is told; one indexer that our settings name is enough.
const WITNESSES: usize = 2;
/// Addresses told.
const MOST: usize = 16;

/// Who we are.
#[derive(Clone)]
pub struct Own {
    /// What partners see.
    pub name: String,
    /// Our DID.
    pub did: String,
    /// Signs our record and our events.
    pub keypair: Keypair,
}

/// What our own peer document says beside where we listen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Says {
    /// Where our API is.
    pub api_url: String,
    /// Where our NATS is.
    pub nats_address: String,
    /// Our wallet.
    pub wallet_address: String,
}

impl Says {
    /// What `peer`, our own, says.
    #[must_use]
    pub fn of(peer: &Peer) -> Self {
        Self {
            api_url: peer.api_url.clone(),
            nats_address: peer.nats_address.clone(),
            wallet_address: peer.wallet_address.clone(),
        }
    }
}

impl Own {
    /// A record of ours made at `now`, with the addresses that may be told to whoever is that far.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn record(&self, ours: &Ours, to: Reach, now: SystemTime) -> Result<PeerRecord, WireError> {
        let peer = self.keypair.public().to_peer_id();
        let mut record = PeerRecord::new(&self.did, &peer.to_string());
        record.name.clone_from(&self.name);
        record.pub_key = public_key_base64(&self.keypair.public());
        record.expiry_date = timestamp(now + LIFE);
        record.api_url.clone_from(&ours.says.api_url);
        record.nats_address.clone_from(&ours.says.nats_address);
        record.wallet_address.clone_from(&ours.says.wallet_address);
        let listed = ours
            .told_to(to)
            .into_iter()
            .map(|address| format!("{address}/p2p/{peer}"));
        record.stream_address = listed.collect::<Vec<_>>().join(",");
        record.sign(&self.keypair)?;
        Ok(record)
    }
}

/// Where we can be reached, and what else our record tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ours {
    announced: Vec<Multiaddr>,
    found: Vec<Multiaddr>,
    says: Says,
}

impl Ours {
    /// From the settings, from what is listened on, and from where others see us.
    #[must_use]
    pub fn new(announced: &[Multiaddr], listening: &[Multiaddr], witnessed: Vec<Multiaddr>) -> Self {
        let mut found: Vec<Multiaddr> = Vec::new();
        for address in listening.iter().cloned().chain(witnessed) {
            if !found.contains(&address) && found.len() < MOST {
                found.push(address);
            }
        }
        let announced = announced.iter().map(|address| {
            let mut bare = address.clone();
            if matches!(bare.iter().last(), Some(Protocol::P2p(_))) {
                bare.pop();
            }
            bare
        });
        Self {
            announced: announced.take(MOST).collect(),
            found,
            says: Says::default(),
        }
    }

    /// The same, with what our own peer document says.
    #[must_use]
    pub fn saying(self, says: Says) -> Self {
        Self { says, ..self }
    }

    /// What is told to a peer that is reached at such an address.
    #[must_use]
    pub fn told_to(&self, reach: Reach) -> Vec<Multiaddr> {
        if !self.announced.is_empty() {
            return self.announced.clone();
        }
        let far: Vec<Multiaddr> = self
            .found
            .iter()
            .filter(|address| reach_of(address) >= reach)
            .cloned()
            .collect();
        far
    }

    /// What is told where everybody may read it: the addresses that reach farthest.
    #[must_use]
    pub fn told_to_all(&self) -> Vec<Multiaddr> {
        self.told_to(self.farthest())
    }

    /// How far the best of them reaches.
    #[must_use]
    pub fn farthest(&self) -> Reach {
        self.found.iter().map(reach_of).max().unwrap_or_default()
    }
}

/// The addresses at which others see us and that can be believed: where enough of them dialled us, or the host they see with the
/// port that we listen on.
#[must_use]
pub fn witnessed(
    seen: &SeenAt,
    source_of: impl Fn(&PeerId) -> Option<Source>,
    indexers: &HashSet<PeerId>,
    listening: &[Multiaddr],
) -> Vec<Multiaddr> {
    let mut witnesses: HashMap<Multiaddr, HashSet<Source>> = HashMap::new();
    let mut counted: Vec<Multiaddr> = Vec::new();
    for (peer, address) in seen {
        let Some(there) = with_our_port(address, listening) else {
            continue;
        };
        let sources = witnesses.entry(there.clone()).or_default();
        sources.extend(source_of(peer));
        if (indexers.contains(peer) || sources.len() >= WITNESSES) && !counted.contains(&there) {
            counted.push(there);
        }
    }
    counted.retain(|address| !listening.contains(address) && reach_of(address) > Reach::Host);
    counted.sort_by_key(ToString::to_string);
    counted.truncate(MOST / 2);
    counted
}

/// The host of `seen` with the port of a listener of the same kind: the port that others see is that of one connection.
fn with_our_port(seen: &Multiaddr, listening: &[Multiaddr]) -> Option<Multiaddr> {
    let seen = socket_of(seen)?;
    let fits = listening.iter().filter_map(socket_of);
    let port = fits
        .filter(|own| own.is_ipv4() == seen.is_ipv4())
        .map(|own| own.port())
        .next()?;
    Some(Multiaddr::from(seen.ip()).with(Protocol::Tcp(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    const LISTENING: [&str; 4] = [
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/192.168.1.5/tcp/4001",
        "/ip4/198.51.100.7/tcp/4001",
        "/ip6/2001:db8::7/tcp/4001",
    ];

    #[test]
    fn nobody_is_told_an_address_that_is_nearer_than_itself() {
        let ours = Ours::new(&[], &all(&LISTENING), vec![]);
        assert_eq!(ours.told_to(Reach::Host), all(&LISTENING));
        assert_eq!(ours.told_to(Reach::Site), all(&LISTENING[1..]));
        assert_eq!(ours.told_to(Reach::Public), all(&LISTENING[2..]));
        assert_eq!(ours.told_to_all(), all(&LISTENING[2..]));
        let site = Ours::new(&[], &all(&LISTENING[..2]), vec![]);
        assert_eq!(site.told_to_all(), all(&LISTENING[1..2]));
        assert_eq!(site.told_to(Reach::Public), all(&[]));
        let host = Ours::new(&[], &all(&LISTENING[..1]), vec![]);
        assert_eq!(host.told_to_all(), all(&LISTENING[..1]));
    }

    #[test]
    fn what_the_operator_announces_is_told_and_nothing_else() {
        let announced = all(&["/dns4/peer.example/tcp/4001", "/ip4/10.0.0.1/tcp/4001"]);
        let ours = Ours::new(&announced, &all(&LISTENING), vec![]);
        for reach in [Reach::Host, Reach::Site, Reach::Public] {
            assert_eq!(ours.told_to(reach), announced);
        }
    }

    #[test]
    fn an_address_that_others_see_counts_when_an_indexer_or_two_of_different_addresses_say_so() {
        let peers = [(); 4].map(|()| PeerId::random());
        let [one, two, three, four] = peers;
        let source = |peer: &PeerId| {
            let last = peers.iter().position(|known| known == peer)?;
            // The third and the fourth are neighbours.
            Some(Source::V4([10, 0, 0, u8::try_from(last.min(2)).ok()?].into()))
        };
        let listening = all(&["/ip4/192.168.1.5/tcp/4001"]);
        let seen = |list: &[(PeerId, &str)]| -> SeenAt {
            list.iter().map(|(peer, text)| (*peer, text.parse().unwrap())).collect()
        };
        let told = |list: &[(PeerId, &str)], indexers: &[PeerId]| {
            let indexers = indexers.iter().copied().collect();
            witnessed(&seen(list), source, &indexers, &listening)
        };
        let there = all(&["/ip4/203.0.113.9/tcp/4001"]);
        let (a, b) = ("/ip4/203.0.113.9/tcp/50001", "/ip4/203.0.113.9/tcp/50002");
        assert_eq!(told(&[(one, a)], &[]), all(&[]));
        assert_eq!(told(&[(one, a)], &[one]), there);
        assert_eq!(told(&[(one, a), (two, b)], &[]), there);
        assert_eq!(told(&[(three, a), (four, b)], &[]), all(&[]));
        assert_eq!(
            told(&[(one, "/ip6/2001:db8::1/tcp/1")], &[one]),
            all(&[]),
            "we do not listen on such"
        );
        assert_eq!(
            told(&[(one, "/ip4/192.168.1.5/tcp/9")], &[one]),
            all(&[]),
            "known already"
        );
        assert_eq!(told(&[(one, "/ip4/127.0.0.1/tcp/9")], &[one]), all(&[]));
    }

    #[test]
    fn a_record_of_ours_counts() {
        let key = Keypair::generate_ed25519();
        let own = Own {
            name: "site".into(),
            did: "did:1".into(),
            keypair: key.clone(),
        };
        let says = Says {
            api_url: "http://a".into(),
            ..Says::default()
        };
        let ours = Ours::new(&[], &all(&LISTENING), vec![]).saying(says);
        let now = SystemTime::now();
        let record = own.record(&ours, Reach::Public, now).unwrap();
        let read = PeerRecord::read(&record.write()).unwrap();
        let verified = super::super::rules::verify(read, now).unwrap();
        assert_eq!(verified.addresses, all(&LISTENING[2..]));
        assert_eq!(verified.record.api_url, "http://a");
    }
}
