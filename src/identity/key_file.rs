//! The private key: PKCS#8 PEM, ed25519, what `openssl genpkey -algorithm ed25519` writes (version 1), or the same with
//! the public key in it (version 2).

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use libp2p::identity::Keypair;
use rand::RngCore;
use rand::rngs::OsRng;

use super::{IdentityError, read_file_bounded, write_new};

/// Reads the key; `None` when there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Keypair>, IdentityError> {
    let unreadable = |source| IdentityError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    // Asked of the open file: what is checked is what is read.
    let metadata = file.metadata().map_err(unreadable)?;
    if let Some(why) = exposed(&metadata, &Own::of_process()) {
        return Err(IdentityError::NotPrivate {
            path: path.to_owned(),
            why,
        });
    }
    let pem = read_file_bounded(&file).map_err(unreadable)?;
    parse(&pem).map(Some).map_err(|why| IdentityError::NotAKey {
        path: path.to_owned(),
        why,
    })
}

/// Makes a key and its file, readable by the daemon alone.
pub(super) fn make(path: &Path) -> Result<Keypair, IdentityError> {
    let unmade = |source| IdentityError::Make {
        path: path.to_owned(),
        source,
    };
    let mut secret = [0_u8; 32];
    OsRng.fill_bytes(&mut secret);
    // Version 1, without the public key: older OpenSSL reads nothing else.
    let bytes = KeypairBytes {
        secret_key: secret,
        public_key: None,
    };
    let pem = bytes
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| unmade(io::Error::other(error.to_string())))?;
    write_new(path, pem.as_bytes(), 0o600).map_err(unmade)?;
    tracing::info!(path = %path.display(), "made a new private key");
    parse(&pem).map_err(|why| IdentityError::NotAKey {
        path: path.to_owned(),
        why,
    })
}

fn parse(pem: &str) -> Result<Keypair, String> {
    let key = SigningKey::from_pkcs8_pem(pem.trim()).map_err(|error| error.to_string())?;
    Keypair::ed25519_from_bytes(key.to_bytes()).map_err(|error| error.to_string())
}

/// Which users and groups the process is.
struct Own {
    user: u32,
    groups: Vec<u32>,
}

impl Own {
    fn of_process() -> Self {
        let mut groups: Vec<u32> = rustix::process::getgroups()
            .unwrap_or_default()
            .iter()
            .map(|group| group.as_raw())
            .collect();
        groups.push(rustix::process::getegid().as_raw());
        Self {
            user: rustix::process::geteuid().as_raw(),
            groups,
        }
    }
}

/// Who but the daemon and root can get at the file, if anybody.
fn exposed(metadata: &Metadata, own: &Own) -> Option<String> {
    judge(metadata.is_file(), metadata.mode(), metadata.uid(), metadata.gid(), own)
}

fn judge(is_file: bool, mode: u32, uid: u32, gid: u32, own: &Own) -> Option<String> {
    let shown = mode & 0o777;
    if !is_file {
        return Some("it is no regular file".to_owned());
    }
    if mode & 0o007 != 0 {
        return Some(format!("others have access to it (mode {shown:04o})"));
    }
    // A file of root's is how secrets are mounted into containers.
    if uid != 0 && own.user != 0 && uid != own.user {
        return Some(format!("it belongs to another user (uid {uid})"));
    }
    match mode & 0o070 {
        0 => None,
        0o040 if uid == 0 || own.groups.contains(&gid) => None,
        0o040 => Some(format!(
            "group {gid}, which is not the daemon's, can read it (mode {shown:04o})"
        )),
        _ => Some(format!(
            "its group can do more than read it (mode {shown:04o}; a Kubernetes `fsGroup` does that at each mount, unless \
             `fsGroupChangePolicy` is `OnRootMismatch`)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_private_to_the_daemon_its_group_and_root() {
        let own = Own {
            user: 1000,
            groups: vec![1000, 44],
        };
        for (mode, uid, gid) in [
            (0o600, 1000, 1000),
            (0o400, 1000, 7),
            (0o640, 1000, 44),
            (0o440, 0, 7),
            (0o600, 0, 0),
        ] {
            assert_eq!(
                judge(true, 0o100_000 | mode, uid, gid, &own),
                None,
                "{mode:o} {uid} {gid}"
            );
        }
        for (mode, uid, gid) in [
            (0o644, 1000, 1000),
            (0o604, 0, 0),
            (0o640, 1000, 7),
            (0o660, 1000, 1000),
            (0o600, 1001, 1000),
            (0o602, 0, 0),
        ] {
            assert!(
                judge(true, 0o100_000 | mode, uid, gid, &own).is_some(),
                "{mode:o} {uid} {gid}"
            );
        }
        assert!(judge(false, 0o600, 1000, 1000, &own).is_some());
        let by_group = judge(true, 0o660, 1000, 1000, &own).unwrap();
        assert!(by_group.contains("fsGroupChangePolicy"), "{by_group}");
    }

    #[test]
    fn both_versions_of_pkcs8_are_read_and_a_wrong_public_key_is_not() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let first = KeypairBytes {
            secret_key: [7; 32],
            public_key: None,
        }
        .to_pkcs8_pem(LineEnding::LF)
        .unwrap();
        let second = key.to_pkcs8_pem(LineEnding::CRLF).unwrap();
        assert_eq!(parse(&first).unwrap().public(), parse(&second).unwrap().public());
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
        let public_key = Some(ed25519_dalek::pkcs8::PublicKeyBytes(other));
        let torn = KeypairBytes {
            secret_key: [7; 32],
            public_key,
        }
        .to_pkcs8_pem(LineEnding::LF)
        .unwrap();
        assert!(parse(&torn).is_err());
    }

    /// The test vector of RFC 8410, section 10.3, and the public key of section 10.1.
    #[test]
    fn the_example_of_the_standard_is_read() {
        let pem = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
        let public = parse(pem).unwrap().public().try_into_ed25519().unwrap().to_bytes();
        assert_eq!(
            hex::encode(public),
            "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
        );
    }
}
