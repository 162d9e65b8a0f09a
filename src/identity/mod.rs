//! Who this daemon is: its key, the pre-shared key of its network, and the directory that only one daemon uses at a time.
//!
//! Owns the files of the two keys. Never prints, logs or hands out a secret but the keypair itself. Always holds: a key
//! that others can read is refused, and no key file is ever overwritten.

mod did;
mod key_file;
mod new_file;
mod psk_file;
mod state_dir;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey};

pub use did::{derived_did, is_self_proving, key_of};
pub use new_file::write_new;
pub use psk_file::{Psk, generate_psk, parse_psk};
pub use state_dir::{StateDir, free_bytes, make_dir};

use crate::settings::Settings;

/// Where, below `state_dir`, the daemon remembers its own DID.
const DID_FILE: &str = "did";
/// Longest DID taken from that file, in bytes.
const DID_BYTES: usize = 256;
/// A key file beyond this many bytes is none.
const FILE_BYTES: u64 = 16 * 1024;

/// What can be wrong with the identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory cannot be made.
    #[error("{path} cannot be made: {source}", path = path.display())]
    Make {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory is somebody else's.
    #[error(
        "{path} cannot be made: {source}; its directory must belong to the daemon's user, uid {user}: `chown -R {user} {dir}` (in a \
         container: the volume or host directory that is mounted there)",
        path = path.display(), dir = path.parent().unwrap_or(path).display()
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// Who we are.
        user: u32,
        /// Why.
        source: io::Error,
    },
    /// The key can be read by more than the daemon.
    #[error(
        "{path} must be private, but {why}: `chmod 600 {path}` and make it the daemon's own (mode 0640 or 0440 is right \
         when the group is one of the daemon's)",
        path = path.display()
    )]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Who can read it.
        why: String,
    },
    /// The key is none.
    #[error(
        "{path} holds no ed25519 private key in PKCS#8 PEM ({why}); `openssl genpkey -algorithm ed25519` makes one, and \
         so does the daemon when there is no file",
        path = path.display()
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There is no key and the verb makes none.
    #[error("there is no key at {path} yet: `oc-discovery init` or the first start makes it; or name the settings of the daemon with --config", path = path.display())]
    NoKey {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is no pre-shared key.
    #[error(
        "there is no pre-shared key at {path}: put the one of your network there, make a new one with \
         `oc-discovery init`, or set `network.private = false` if the network is meant to be open",
        path = path.display()
    )]
    NoPsk {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The pre-shared key is none.
    #[error("{path} holds no pre-shared key: {why}", path = path.display())]
    NotAPsk {
        /// The file.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// Another daemon uses the directory.
    #[error("{path} is in use by {by}: give each daemon its own `state_dir`", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other process.
        by: String,
    },
    /// The remembered DID is none.
    #[error("{path} holds no DID: one line without spaces is expected", path = path.display())]
    NotADid {
        /// The file.
        path: PathBuf,
    },
}

/// Who this daemon is.
#[derive(Clone)]
pub struct Identity {
    /// The key of the host and of what it signs.
    pub keypair: Keypair,
    /// What it is called on the network.
    pub peer_id: PeerId,
    /// The key of the network; `None` only when `network.private` is false.
    pub psk: Option<Psk>,
}

impl Identity {
    /// Reads both keys, and makes the private key when there is none yet.
    pub fn load(settings: &Settings) -> Result<Self, IdentityError> {
        let path = &settings.identity.key_file;
        let keypair = match key_file::read(path)? {
            Some(keypair) => keypair,
            None => key_file::make(path)?,
        };
        let psk = if settings.network.private {
            let psk = psk_file::read(&settings.identity.psk_file)?;
            tracing::info!(fingerprint = %psk.fingerprint(), "pre-shared key of the network");
            Some(psk)
        } else {
            tracing::warn!("network.private is false: anyone who can reach this daemon can connect");
            None
        };
        Ok(Self {
            peer_id: keypair.public().to_peer_id(),
            keypair,
            psk,
        })
    }

    /// Reads the private key alone and makes nothing: for verbs that only ask.
    pub fn existing(settings: &Settings) -> Result<Self, IdentityError> {
        let path = &settings.identity.key_file;
        let keypair = key_file::read(path)?.ok_or_else(|| IdentityError::NoKey { path: path.clone() })?;
        Ok(Self {
            peer_id: keypair.public().to_peer_id(),
            keypair,
            psk: None,
        })
    }
}

/// A public key as documents hold it: base64 of libp2p's protobuf form.
#[must_use]
pub fn public_key_base64(key: &PublicKey) -> String {
    STANDARD.encode(key.encode_protobuf())
}

/// The key that documents and records hold so; none when it is no key.
#[must_use]
pub fn public_key_of_base64(text: &str) -> Option<PublicKey> {
    let bytes = STANDARD.decode(text.trim()).ok()?;
    PublicKey::try_decode_protobuf(&bytes).ok()
}

/// Says the PeerId and, of the keys, nothing but whether there is a pre-shared one.
impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Identity")
            .field("peer_id", &self.peer_id)
            .field("private", &self.psk.is_some())
            .finish()
    }
}

/// The daemon's own DID: the one remembered in `state_dir`, or the one that follows from its public key.
pub fn own_did(settings: &Settings, identity: &Identity) -> Result<String, IdentityError> {
    let path = settings.state_dir.join(DID_FILE);
    match read_bounded(&path) {
        Ok(text) => {
            let did = text.trim();
            let clean = |character: char| character.is_ascii_graphic();
            if did.is_empty() || did.len() > DID_BYTES || !did.chars().all(clean) {
                return Err(IdentityError::NotADid { path });
            }
            Ok(did.to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(derived_did(&identity.keypair.public())),
        Err(source) => Err(IdentityError::Read { path, source }),
    }
}

/// Remembers the DID that the store gave, so that `id` can tell it without the store.
pub fn remember_did(state_dir: &Path, did: &str) -> Result<(), IdentityError> {
    let path = state_dir.join(DID_FILE);
    let text = format!("{did}\n");
    if read_bounded(&path).is_ok_and(|known| known == text) {
        return Ok(());
    }
    let failed = |source| IdentityError::Make {
        path: path.clone(),
        source,
    };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    write_new(&path, text.as_bytes(), 0o644).map_err(failed)
}

/// The text of a small file.
fn read_bounded(path: &Path) -> io::Result<String> {
    read_file_bounded(&std::fs::File::open(path)?)
}

fn read_file_bounded(file: &std::fs::File) -> io::Result<String> {
    use io::Read;
    let mut text = String::new();
    file.take(FILE_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > FILE_BYTES) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is far too big"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
