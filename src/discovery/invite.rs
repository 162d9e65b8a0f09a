//! An invite: one line by which an organisation tells another who it is and where it listens.
//!
//! Pure: time is passed in. It is a signed record that holds for weeks instead of minutes. Always: what is read was signed by the
//! key inside its PeerId; whether that is who one means, people have to settle, by the PeerId.

use super::own::{Ours, Own};
use super::rules::{Verified, Wrong, millis, verify_old};
use crate::network::Reach;
use crate::network::dial::dialable;
use crate::wire::{PeerRecord, RECORD_BYTES, WireError, timestamp};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libp2p::Multiaddr;
use std::time::{Duration, SystemTime};

/// How every invite begins.
const PREFIX: &str = "oc-invite-1:";

/// Why a line is no invite.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InviteError {
    /// It does not begin as one.
    #[error("an invite begins with {PREFIX}")]
    NoInvite,
    /// A part of it is missing or changed.
    #[error("the invite is not whole: copy it again")]
    NotWhole,
    /// Its record does not count.
    #[error("the invite does not count: {0}")]
    Wrong(#[from] Wrong),
    /// It is too old.
    #[error("the invite has expired: ask for a new one")]
    Expired,
    /// It says nowhere to connect to.
    #[error("the invite has no address in it that can be dialled")]
    NoAddress,
}

/// Writes one that holds for `life`.
///
/// # Errors
/// The key cannot sign.
pub fn write_invite(own: &Own, addresses: &[Multiaddr], life: Duration, now: SystemTime) -> Result<String, WireError> {
    let ours = Ours::new(addresses, &[], Vec::new());
    let mut record = own.record(&ours, Reach::Host, now)?;
    record.expiry_date = timestamp(now + life);
    record.sign(&own.keypair)?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(record.write())))
}

/// Reads one.
///
/// # Errors
/// See [`InviteError`].
pub fn read_invite(text: &str, now: SystemTime) -> Result<Verified, InviteError> {
    // A line that was broken by a mail program is still whole.
    let text: String = text.split_whitespace().collect();
    let body = text.strip_prefix(PREFIX).ok_or(InviteError::NoInvite)?;
    if body.len() > 2 * RECORD_BYTES {
        return Err(InviteError::NotWhole);
    }
    let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| InviteError::NotWhole)?;
    let record = PeerRecord::read(&bytes).map_err(|_| InviteError::NotWhole)?;
    let record = verify_old(record)?;
    if record.expires <= millis(now) {
        return Err(InviteError::Expired);
    }
    if dialable(&record.addresses, record.peer).is_empty() {
        return Err(InviteError::NoAddress);
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::Keypair;

    #[test]
    fn an_invite_is_one_line_that_its_maker_signed_and_holds_for_a_while() {
        let own = Own {
            name: "site <A>".into(),
            did: "did:a".into(),
            keypair: Keypair::generate_ed25519(),
        };
        let address: Multiaddr = "/dns4/a.example/tcp/4001".parse().unwrap();
        let (now, life) = (SystemTime::now(), Duration::from_secs(3600));
        let line = write_invite(&own, std::slice::from_ref(&address), life, now).unwrap();
        assert!(!line.contains(char::is_whitespace));
        let read = read_invite(&line, now).unwrap();
        assert_eq!(
            (read.record.name.as_str(), read.record.did.as_str()),
            ("site <A>", "did:a")
        );
        assert_eq!(
            (read.peer, read.addresses),
            (own.keypair.public().to_peer_id(), vec![address])
        );
        let (head, tail) = line.split_at(40);
        assert!(read_invite(&format!(" {head}\r\n  {tail}\n"), now).is_ok());
        assert_eq!(read_invite(&line, now + life), Err(InviteError::Expired));
        assert_eq!(read_invite(&line[..line.len() - 9], now), Err(InviteError::NotWhole));
        assert_eq!(read_invite(&line[4..], now), Err(InviteError::NoInvite));
        let mut changed: Vec<char> = line.chars().collect();
        changed[60] = if changed[60] == 'A' { 'B' } else { 'A' };
        assert!(read_invite(&changed.into_iter().collect::<String>(), now).is_err());
        let udp = "/ip4/10.0.0.1/udp/1".parse().unwrap();
        let undialable = write_invite(&own, &[udp], life, now).unwrap();
        assert_eq!(read_invite(&undialable, now), Err(InviteError::NoAddress));
        let nowhere = write_invite(&own, &[], life, now).unwrap();
        assert_eq!(read_invite(&nowhere, now), Err(InviteError::NoAddress));
    }
}
