//! Where a connection comes from, as far as bounds for each address go.
//!
//! Pure. Always: an IPv4 address counts alone, also when it is written as IPv6; an IPv6 one with all of its /64, the least
//! that anybody is given.

use libp2p::multiaddr::{Multiaddr, Protocol};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One address, or one network of addresses that are somebody's together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Source {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// The first address of an IPv6 /64.
    V6(Ipv6Addr),
    /// Whatever has none, all together.
    #[default]
    Other,
}

/// The network part of an IPv6 address.
const NETWORK: u128 = u128::MAX << 64;

impl Source {
    /// The source of a connection with this far address.
    #[must_use]
    pub fn of(address: &Multiaddr) -> Self {
        match address.iter().next() {
            Some(Protocol::Ip4(ip)) => Self::V4(ip),
            Some(Protocol::Ip6(ip)) => match IpAddr::V6(ip).to_canonical() {
                IpAddr::V4(ip) => Self::V4(ip),
                IpAddr::V6(ip) => Self::V6(Ipv6Addr::from_bits(ip.to_bits() & NETWORK)),
            },
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(ip) => ip.fmt(out),
            Self::V6(network) => write!(out, "{network}/64"),
            Self::Other => out.write_str("elsewhere"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_is_alone_and_an_ipv6_one_with_its_network() {
        let of = |address: &str| Source::of(&address.parse().unwrap()).to_string();
        let table = [
            ("/ip4/10.0.0.1/tcp/1", "10.0.0.1"),
            ("/ip6/::ffff:10.0.0.1/tcp/2", "10.0.0.1"),
            ("/ip6/2001:db8:1:2:3:4:5:6/tcp/1", "2001:db8:1:2::/64"),
            ("/ip6/2001:db8:1:2:ffff::/tcp/9", "2001:db8:1:2::/64"),
            ("/ip6/2001:db8:1:3::/tcp/1", "2001:db8:1:3::/64"),
            ("/dns4/peer.example/tcp/1", "elsewhere"),
        ];
        for (address, expected) in table {
            assert_eq!(of(address), expected, "{address}");
        }
    }
}
