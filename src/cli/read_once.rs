//! Files that are read at the start alone: whether they hold something else by now.
//!
//! Owns what they held, as digests. Never keeps or tells what is in them. What NATS wants is not among them: that is read at each
//! connection.

use crate::settings::Settings;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A secret has fewer bytes.
const FILE_BYTES: u64 = 64 * 1024;

/// The files, and what they held.
#[derive(Debug, Clone)]
pub(super) struct ReadOnce(Vec<(&'static str, PathBuf, Option<[u8; 32]>)>);

impl ReadOnce {
    /// As they are now.
    pub(super) fn of(settings: &Settings) -> Self {
        let identity = &settings.identity;
        let files = [
            ("identity.key_file", Some(&identity.key_file)),
            (
                "identity.psk_file",
                settings.network.private.then_some(&identity.psk_file),
            ),
            ("store.password_file", settings.store.password_file.as_ref()),
        ];
        let files = files.into_iter().filter_map(|(key, path)| Some((key, path?.clone())));
        Self(files.map(|(key, path)| (key, path.clone(), digest(&path))).collect())
    }

    /// The settings whose files hold something else now.
    pub(super) fn changed(&self) -> Vec<&'static str> {
        let differs = self.0.iter().filter(|(_, path, held)| digest(path) != *held);
        differs.map(|(key, ..)| *key).collect()
    }
}

/// None when it cannot be read.
fn digest(path: &Path) -> Option<[u8; 32]> {
    let mut held = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES).read_to_end(&mut held).ok()?;
    Some(Sha256::digest(&held).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Sources, load};

    #[test]
    fn a_file_that_holds_something_else_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["key", "psk", "password"] {
            std::fs::write(path(name), "one").unwrap();
        }
        let set = [
            ("name", "here".to_owned()),
            ("identity.key_file", path("key").display().to_string()),
            ("identity.psk_file", path("psk").display().to_string()),
            ("store.password_file", path("password").display().to_string()),
        ];
        let set = set.map(|(key, value)| format!("{key}={value}")).to_vec();
        let mut sources = Sources::of_process(Some(PathBuf::from("/dev/null")), set);
        let address = ("OCDISCOVERY_STORE_URL", "mongodb://user@host/database");
        sources.env.push((address.0.to_owned(), address.1.to_owned()));
        let files = ReadOnce::of(&load(&sources).unwrap().settings);
        assert!(files.changed().is_empty());
        std::fs::write(path("password"), "two").unwrap();
        std::fs::remove_file(path("psk")).unwrap();
        assert_eq!(files.changed(), ["identity.psk_file", "store.password_file"]);
        std::fs::write(path("psk"), "one").unwrap();
        assert_eq!(files.changed(), ["store.password_file"]);
        assert!(!format!("{files:?}").contains("two"));
    }
}
