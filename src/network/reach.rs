//! From how far an address can be reached.
//!
//! Pure. Always: a name counts as public, since whoever wrote it down means others to use it.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From how far; ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Reach {
    /// From the same host, or from nowhere.
    #[default]
    Host,
    /// From the same site: private, link-local and shared address space.
    Site,
    /// From everywhere.
    Public,
}

/// The reach of an address.
#[must_use]
pub fn reach_of(address: &Multiaddr) -> Reach {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => of_v4(ip),
        Some(Protocol::Ip6(ip)) => match IpAddr::V6(ip).to_canonical() {
            IpAddr::V4(ip) => of_v4(ip),
            IpAddr::V6(ip) => of_v6(ip),
        },
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) if name == "localhost" => Reach::Host,
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)) => Reach::Public,
        _ => Reach::Host,
    }
}

fn of_v4(ip: Ipv4Addr) -> Reach {
    let [first, second, ..] = ip.octets();
    // 100.64.0.0/10 is what carriers put between themselves and their customers.
    let shared = first == 100 && (64..128).contains(&second);
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() {
        Reach::Host
    } else if ip.is_private() || ip.is_link_local() || shared {
        Reach::Site
    } else {
        Reach::Public
    }
}

fn of_v6(ip: Ipv6Addr) -> Reach {
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() {
        Reach::Host
    } else if ip.is_unique_local() || ip.is_unicast_link_local() {
        Reach::Site
    } else {
        Reach::Public
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        let table = [
            ("/ip4/127.0.0.1/tcp/1", Reach::Host),
            ("/ip4/0.0.0.0/tcp/1", Reach::Host),
            ("/ip6/::1/tcp/1", Reach::Host),
            ("/dns4/localhost/tcp/1", Reach::Host),
            ("/unix/%2fx", Reach::Host),
            ("/ip4/10.1.2.3/tcp/1", Reach::Site),
            ("/ip4/172.16.0.1/tcp/1", Reach::Site),
            ("/ip4/192.168.1.1/tcp/1", Reach::Site),
            ("/ip4/169.254.1.1/tcp/1", Reach::Site),
            ("/ip4/100.64.0.1/tcp/1", Reach::Site),
            ("/ip6/fd00::1/tcp/1", Reach::Site),
            ("/ip6/fe80::1/tcp/1", Reach::Site),
            ("/ip6/::ffff:10.0.0.1/tcp/1", Reach::Site),
            ("/ip4/100.128.0.1/tcp/1", Reach::Public),
            ("/ip4/8.8.8.8/tcp/1", Reach::Public),
            ("/ip6/2001:db8::1/tcp/1", Reach::Public),
            ("/dns4/peer.example/tcp/1", Reach::Public),
        ];
        for (address, reach) in table {
            assert_eq!(reach_of(&address.parse().unwrap()), reach, "{address}");
        }
        assert!(Reach::Host < Reach::Site && Reach::Site < Reach::Public);
    }
}
