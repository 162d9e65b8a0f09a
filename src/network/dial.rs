//! Which addresses of a peer are dialled, and when a failed dial is tried again.
//!
//! Pure: time and chance are passed in. Owns the back-off rule and the choice of addresses, never a socket.

use crate::settings;
use libp2p::PeerId;
use libp2p::multiaddr::{Multiaddr, Protocol};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Addresses tried for one peer; further ones are ignored (a record with thousands would make us a port scanner).
pub const MAX_ADDRESSES: usize = 16;

/// The addresses worth dialling, each ending in `/p2p/<peer>`: TCP over IPv4, IPv6 or a DNS
/// name, every one once, in the order given.
#[must_use]
pub fn dialable(addresses: &[Multiaddr], peer: PeerId) -> Vec<Multiaddr> {
    let mut chosen: Vec<Multiaddr> = Vec::new();
    for address in addresses {
        let Some(bare) = tcp_part(address) else { continue };
        let full = bare.with(Protocol::P2p(peer));
        if !chosen.contains(&full) {
            chosen.push(full);
        }
        if chosen.len() == MAX_ADDRESSES {
            break;
        }
    }
    chosen
}

/// `/ip4|ip6|dns*/…/tcp/…` of an address, or nothing when it is of a kind that this host cannot dial (QUIC, relays).
fn tcp_part(address: &Multiaddr) -> Option<Multiaddr> {
    let mut parts = address.iter();
    match parts.next()? {
        host @ Protocol::Dnsaddr(_) => Some(Multiaddr::empty().with(host)),
        host => settings::dialable(address).then_some(Multiaddr::empty().with(host).with(parts.next()?)),
    }
}

/// The socket of `/ip4|ip6/…/tcp/…`.
#[must_use]
pub fn socket_of(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// Waits between dials of one peer: doubling from `first` to `max`, with half of each wait left to chance so that the
/// two sides of a broken link do not dial in step for ever.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// A back-off that has not failed yet.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            failures: 0,
        }
    }

    /// Forgets all failures.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// How many failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts one more failure and says how long to wait. `chance` is in `0.0..1.0`.
    pub fn failed(&mut self, chance: f64) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(self.failures.min(20)));
        self.failures = self.failures.saturating_add(1);
        let full = doubled.min(self.max);
        full.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn takes_ip4_ip6_and_dns_over_tcp_once_each_and_names_the_peer() {
        let peer = PeerId::random();
        let given = addresses(&[
            "/ip4/10.0.0.1/tcp/4001",
            "/ip6/::1/tcp/4001",
            "/dns4/peer.example/tcp/4001",
            "/ip4/10.0.0.1/tcp/4001",
        ]);
        let chosen = dialable(&given, peer);
        assert_eq!(chosen.len(), 3);
        assert!(
            chosen
                .iter()
                .all(|address| address.to_string().ends_with(&format!("/p2p/{peer}")))
        );
    }

    #[test]
    fn leaves_out_what_cannot_be_dialled() {
        let given = addresses(&[
            "/ip4/0.0.0.0/tcp/4001",
            "/ip4/10.0.0.1/tcp/0",
            "/ip4/10.0.0.1/udp/4001/quic-v1",
            "/unix/%2ftmp%2fx",
            "/ip4/10.0.0.1/tcp/4001/ws",
        ]);
        assert_eq!(dialable(&given, PeerId::random()), Vec::<Multiaddr>::new());
    }

    #[test]
    fn never_more_than_the_bound() {
        let given: Vec<Multiaddr> = (1..=200)
            .map(|n| format!("/ip4/10.0.0.1/tcp/{}", 4000 + n).parse().unwrap())
            .collect();
        assert_eq!(dialable(&given, PeerId::random()).len(), MAX_ADDRESSES);
    }

    #[test]
    fn waits_grow_to_the_bound_and_success_forgets() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        let waits: Vec<u64> = (0..12).map(|_| backoff.failed(1.0).as_secs()).collect();
        assert_eq!(waits.first(), Some(&1));
        assert_eq!(waits.last(), Some(&300));
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(backoff.failed(0.0) >= Duration::from_secs(150));
        backoff.succeeded();
        assert!(backoff.failed(1.0) <= Duration::from_secs(1));
    }
}
