//! The pre-shared key of the network: the file that other libp2p programs use too,
//!
//! ```text
//! /key/swarm/psk/1.0.0/
//! /base16/
//! 64 hexadecimal digits
//! ```
//!
//! Always: the key is shown as its fingerprint only, which is the one that libp2p's own library makes.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use libp2p::pnet::PreSharedKey;
use rand::RngCore;
use rand::rngs::OsRng;

use super::{IdentityError, read_file_bounded};

/// The key of a private network.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Psk([u8; 32]);

impl Psk {
    /// The key itself.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The text of its file.
    #[must_use]
    pub fn to_key_file(&self) -> String {
        format!("{FIRST}\n{SECOND}\n{}\n", hex::encode(self.0))
    }

    /// What people compare.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        PreSharedKey::new(self.0).fingerprint().to_string()
    }
}

/// Says nothing of the key but its fingerprint.
impl fmt::Debug for Psk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Psk({})", self.fingerprint())
    }
}

const FIRST: &str = "/key/swarm/psk/1.0.0/";
const SECOND: &str = "/base16/";

/// Reads the key. Access for others is only warned about: the whole network has this key, and it is often mounted so.
pub(super) fn read(path: &Path) -> Result<Psk, IdentityError> {
    let file = std::fs::File::open(path).map_err(|error| failed(path, error))?;
    let mode = file
        .metadata()
        .map_err(|error| failed(path, error))?
        .permissions()
        .mode();
    if mode & 0o007 != 0 {
        tracing::warn!(path = %path.display(), "others on this host can read the pre-shared key: `chmod 600` it");
    }
    let text = read_file_bounded(&file).map_err(|error| failed(path, error))?;
    parse_psk(&text).map_err(|why| IdentityError::NotAPsk {
        path: path.to_owned(),
        why,
    })
}

fn failed(path: &Path, error: io::Error) -> IdentityError {
    match error.kind() {
        io::ErrorKind::NotFound => IdentityError::NoPsk { path: path.to_owned() },
        _ => IdentityError::Read {
            path: path.to_owned(),
            source: error,
        },
    }
}

/// Reads the text of such a file. The parser of libp2p itself would panic on some texts that are no key.
pub fn parse_psk(text: &str) -> Result<Psk, &'static str> {
    let mut lines = text.trim().lines().map(str::trim);
    if lines.next() != Some(FIRST) {
        return Err("its first line must be /key/swarm/psk/1.0.0/");
    }
    if lines.next() != Some(SECOND) {
        return Err("its second line must be /base16/ (convert a key in another form)");
    }
    let mut key = [0_u8; 32];
    match (lines.next(), lines.next()) {
        (Some(digits), None) if hex::decode_to_slice(digits, &mut key).is_ok() => Ok(Psk(key)),
        _ => Err("its third and last line must be 64 hexadecimal digits"),
    }
}

/// A new key.
pub fn generate_psk() -> Psk {
    let mut key = [0_u8; 32];
    OsRng.fill_bytes(&mut key);
    Psk(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file() {
        let key = generate_psk();
        assert!(parse_psk(&key.to_key_file()) == Ok(key));
        assert!(parse_psk(&key.to_key_file().replace('\n', "\r\n")) == Ok(key));
        assert!(parse_psk(key.to_key_file().trim()) == Ok(key));
        assert_eq!(
            key.to_key_file(),
            PreSharedKey::new(key.0).to_key_file(),
            "as libp2p writes it"
        );
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let bad = [
            String::new(),
            "/key/swarm/psk/1.0.0/\n/base64/\nAAAA\n".to_owned(),
            format!("{FIRST}\n{SECOND}\n{}\n", "0".repeat(63)),
            format!("{FIRST}\n{SECOND}\n{}\n", "é".repeat(32)),
            format!("{FIRST}\n{SECOND}\n{}\nmore\n", "0".repeat(64)),
            format!("{SECOND}\n{}\n", "0".repeat(64)),
        ];
        for text in bad {
            assert!(parse_psk(&text).is_err(), "{text:?}");
        }
    }
}
