//! The forms of addresses and subjects. Pure; what may hold a password is never repeated in what is said about it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use mongodb::options::ConnectionString;

use super::forms::{Form, form};
use super::list::StoreUrl;

/// The address of a NATS server. What is wrong is said without repeating it: it may hold a password.
pub(super) fn nats_url() -> Form<String> {
    let checked = form(
        "`nats://host:port` or `tls://host:port`",
        |text| match async_nats::ServerAddr::from_str(text) {
            Ok(address) if address.host().is_empty() => Err("an address has no host".to_owned()),
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err("an address is not of the form `nats://host:port`".to_owned()),
        },
    );
    Form {
        user_info: true,
        ..checked
    }
}

/// The address of the documents.
pub(super) fn store_url() -> Form<StoreUrl> {
    let checked = form("`sqlite:PATH` or `mongodb://host/database`", |text| {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() || path.contains('\0') {
                Err("needs a path after `sqlite:`".to_owned())
            } else {
                Ok(StoreUrl::Sqlite(PathBuf::from(path)))
            };
        }
        let rest = text
            .strip_prefix("mongodb://")
            .or_else(|| text.strip_prefix("mongodb+srv://"));
        match rest.map(|rest| rest.split(['?', '#']).next().unwrap_or_default().split_once('/')) {
            None => Err("is neither `sqlite:PATH` nor `mongodb://host/database`".to_owned()),
            Some(Some((host, database))) if !host.is_empty() && !database.is_empty() => {
                match ConnectionString::parse(text) {
                    Ok(_) => Ok(StoreUrl::MongoDb(text.to_owned())),
                    // What the driver says may repeat a password.
                    Err(_) if text.contains('@') => {
                        Err("is not an address that MongoDB's driver takes; is every sign of the \
                         password that is no letter or digit written as %XX?"
                            .to_owned())
                    }
                    Err(error) => Err(format!("is not an address that MongoDB's driver takes: {error}")),
                }
            }
            Some(_) => Err("needs a host and a database: `mongodb://host/database`".to_owned()),
        }
    });
    Form {
        user_info: true,
        ..checked
    }
}

/// The address with the user-info, if there is one, replaced.
pub(super) fn hide_user_info(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = url.split_at(start);
    // To the last `@` of the whole: a password may hold `/` or `@` where it should not, and must not show for that.
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}***@{host}"),
        None => url.to_owned(),
    }
}

/// A NATS subject that can be published to.
pub(super) fn subject() -> Form<String> {
    form("a subject", |text| {
        let part = |part: &str| !part.is_empty() && part != "*" && part != ">";
        let clean = |c: char| !c.is_whitespace() && !c.is_control();
        if text.len() > 255 || !text.split('.').all(part) || !text.chars().all(clean) {
            Err(format!(
                "`{}` is no subject without wildcards and spaces",
                text.escape_debug()
            ))
        } else if text.starts_with(['$', '_']) {
            Err(format!("`{}` belongs to NATS itself", text.escape_debug()))
        } else {
            Ok(text.to_owned())
        }
    })
}

/// The name of a JetStream stream.
pub(super) fn stream_name() -> Form<String> {
    form("a name", |text| {
        let clean = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if text.is_empty() || text.len() > 255 || !text.chars().all(clean) {
            Err(format!(
                "`{}` is no stream name: letters, digits, `_` and `-`",
                text.escape_debug()
            ))
        } else {
            Ok(text.to_owned())
        }
    })
}

/// An address to listen on: TCP only, since the pre-shared key works on nothing else.
pub(super) fn listen_address() -> Form<Multiaddr> {
    form("`/ip4/ADDRESS/tcp/PORT`", |text| {
        let address = multiaddr(text, "")?;
        match address.iter().collect::<Vec<_>>().as_slice() {
            [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(_)] => Ok(address),
            _ => Err(format!(
                "`{}` cannot be listened on; write `/ip4/ADDRESS/tcp/PORT`",
                text.escape_debug()
            )),
        }
    })
}

/// An address that others can dial.
pub(super) fn reachable_address() -> Form<Multiaddr> {
    form("`/ip4/ADDRESS/tcp/PORT` or `/dns4/HOST/tcp/PORT`", |text| {
        let address = multiaddr(text, "")?;
        if dialable(&address) {
            Ok(address)
        } else {
            Err(format!(
                "`{}` cannot be dialled; write `/ip4/ADDRESS/tcp/PORT`",
                text.escape_debug()
            ))
        }
    })
}

/// An address that says which peer is there.
pub(super) fn address_with_peer() -> Form<Multiaddr> {
    form("`/ip4/ADDRESS/tcp/PORT/p2p/PEER`", |text| {
        let address = multiaddr(text, "/p2p/PEER")?;
        match address.iter().last() {
            Some(Protocol::P2p(_)) if dialable(&address) => Ok(address),
            _ => Err(format!("`{}` needs `/tcp/PORT/p2p/PEER`", text.escape_debug())),
        }
    })
}

/// `tail`: what it needs behind its port, for whoever writes it in another way.
fn multiaddr(text: &str, tail: &str) -> Result<Multiaddr, String> {
    text.parse().map_err(|_| {
        format!(
            "`{}` is no multiaddr; write `{}`",
            text.escape_debug(),
            instead(text, tail)
        )
    })
}

/// How somebody who writes addresses in another way would write this one.
fn instead(text: &str, tail: &str) -> String {
    let multiaddr = |ip: IpAddr, port: &dyn fmt::Display| match ip {
        IpAddr::V4(ip) => format!("/ip4/{ip}/tcp/{port}{tail}"),
        IpAddr::V6(ip) => format!("/ip6/{ip}/tcp/{port}{tail}"),
    };
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return multiaddr(socket.ip(), &socket.port());
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return multiaddr(ip, &"PORT");
    }
    let named = text.rsplit_once(':').filter(|(host, port)| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        !host.is_empty() && host.chars().all(plain) && port.parse::<u16>().is_ok()
    });
    match named {
        Some((host, port)) => format!("/dns4/{host}/tcp/{port}{tail}"),
        None => format!("/ip4/ADDRESS/tcp/PORT{tail}` or `/dns4/NAME/tcp/PORT{tail}"),
    }
}

/// Whether others can dial it: a host or a name, and a port.
#[must_use]
pub fn dialable(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let host = match parts.next() {
        Some(Protocol::Ip4(ip)) => !ip.is_unspecified(),
        Some(Protocol::Ip6(ip)) => !ip.is_unspecified(),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => true,
        _ => false,
    };
    let port = matches!(parts.next(), Some(Protocol::Tcp(port)) if port > 0);
    let plain = matches!(parts.next(), None | Some(Protocol::P2p(_))) && parts.next().is_none();
    host && port && plain
}

/// `IP:PORT`.
pub(super) fn socket() -> Form<SocketAddr> {
    form("`IP:PORT`", |text| {
        text.parse().map_err(|_| {
            format!(
                "`{}` is no address; write `127.0.0.1:8080`, for example",
                text.escape_debug()
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::reading::Raw;

    fn read<T>(form: &Form<T>, text: &str) -> Result<T, String> {
        (form.read)(&Raw::One(text.to_owned()))
    }

    #[test]
    fn subjects_are_plain() {
        for good in ["search_event", "a.b.c", "OC.create-resource_1"] {
            assert!(read(&subject(), good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a..b", ".a", "a.*", ">", "$SYS.x", "_INBOX.a", "a\nb"] {
            assert!(read(&subject(), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_writes_an_address_in_another_way_is_told_how() {
        for (text, wanted) in [
            ("127.0.0.1:4001", "/ip4/127.0.0.1/tcp/4001"),
            ("[::1]:4001", "/ip6/::1/tcp/4001"),
            ("203.0.113.7", "/ip4/203.0.113.7/tcp/PORT"),
            ("index.example:4001", "/dns4/index.example/tcp/4001"),
            ("nats://a:1", "/ip4/ADDRESS/tcp/PORT` or `/dns4/NAME/tcp/PORT"),
            ("a:70000", "/ip4/ADDRESS/tcp/PORT` or `/dns4/NAME/tcp/PORT"),
        ] {
            let told = read(&reachable_address(), text).unwrap_err();
            assert_eq!(told, format!("`{text}` is no multiaddr; write `{wanted}`"));
        }
        let told = read(&address_with_peer(), "a.example:1").unwrap_err();
        assert!(told.ends_with("write `/dns4/a.example/tcp/1/p2p/PEER`"), "{told}");
    }

    #[test]
    fn addresses_fit_their_use() {
        let peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        assert!(read(&listen_address(), "/ip6/::/tcp/0").is_ok());
        assert!(read(&listen_address(), "/dns4/a.example/tcp/1").is_err());
        assert!(read(&listen_address(), "/ip4/0.0.0.0/udp/1/quic-v1").is_err());
        assert!(read(&reachable_address(), "/dns4/a.example/tcp/4001").is_ok());
        assert!(read(&reachable_address(), "/dns4/a.example/tcp/0").is_err());
        assert!(read(&address_with_peer(), &format!("/ip4/10.0.0.1/tcp/4001/p2p/{peer}")).is_ok());
        assert!(read(&address_with_peer(), "/ip4/10.0.0.1/tcp/4001").is_err());
    }

    #[test]
    fn user_info_is_hidden_whatever_it_looks_like() {
        assert_eq!(hide_user_info("nats://u:p@h:1"), "nats://***@h:1");
        assert_eq!(hide_user_info("nats://u:p@/x@h:1"), "nats://***@h:1");
        assert_eq!(hide_user_info("u:p@h"), "***@h");
        assert_eq!(hide_user_info("nats://h:1"), "nats://h:1");
    }

    #[test]
    fn stores_are_files_or_databases() {
        assert_eq!(
            read(&store_url(), "sqlite:///a/b.db"),
            Ok(StoreUrl::Sqlite("/a/b.db".into()))
        );
        assert_eq!(read(&store_url(), "sqlite:b.db"), Ok(StoreUrl::Sqlite("b.db".into())));
        assert!(matches!(
            read(&store_url(), "mongodb://h:1/db?appName=/y"),
            Ok(StoreUrl::MongoDb(_))
        ));
        let secret = read(&store_url(), "mongodb://u:se/cret@h:x/db")
            .map(|_| ())
            .unwrap_err();
        assert!(!secret.contains("cret"), "{secret}");
        for bad in [
            "",
            "sqlite:",
            "mongodb://h",
            "mongodb://h/?x=1",
            "mongodb:///db",
            "mongodb://h/db?tls=maybe",
            "postgres://h/db",
        ] {
            assert!(read(&store_url(), bad).is_err(), "{bad}");
        }
    }
}
