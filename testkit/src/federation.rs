//! A federation: one temporary directory, one pre-shared key, and who its members are.

use crate::foreign::ForeignBuilder;
use crate::peer::PeerBuilder;
use crate::ports::free_port;
use crate::tools::daemon_binary;
use rand::RngCore;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use tempfile::TempDir;

/// Who a member is, as others must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its DID.
    pub did: String,
    /// Its PeerId.
    pub peer_id: String,
    /// Its public key, as `oc-discovery id` tells it.
    pub public_key: String,
    /// Where it listens, without the `/p2p/` part.
    pub address: String,
}

impl Identity {
    /// Where it listens, with the `/p2p/` part: what stands in its peer document.
    pub fn stream_address(&self) -> String {
        format!("{}/p2p/{}", self.address, self.peer_id)
    }

    /// The TCP port on which it listens.
    ///
    /// # Panics
    /// When its address does not end with one.
    pub fn port(&self) -> u16 {
        let port = self.address.rsplit('/').next().and_then(|port| port.parse().ok());
        port.unwrap_or_else(|| panic!("no port at the end of {}", self.address))
    }
}

/// The members share this and nothing else. Must outlive them.
pub struct Federation {
    dir: TempDir,
    binary: PathBuf,
    host: &'static str,
    known: Mutex<HashMap<String, Identity>>,
}

impl Federation {
    /// An empty federation with a network key of its own.
    ///
    /// # Panics
    /// When there is no place for temporary files.
    pub fn new() -> Self {
        Self::on("/ip4/127.0.0.1")
    }

    /// One whose members are reached at this host: `/ip6/::1`, or a name of this machine such as `/dns4/localhost`.
    ///
    /// # Panics
    /// When there is no place for temporary files.
    pub fn on(host: &'static str) -> Self {
        let dir = TempDir::with_prefix("oc-").expect("a temporary directory");
        let mut secret = [0; 32];
        rand::thread_rng().fill_bytes(&mut secret);
        let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let federation = Self {
            dir,
            binary: daemon_binary(),
            host,
            known: Mutex::default(),
        };
        let text = format!("/key/swarm/psk/1.0.0/\n/base16/\n{secret}\n");
        std::fs::write(federation.psk_file(), text).expect("the pre-shared key is written");
        federation
    }

    /// A daemon with its NATS server, not started yet.
    pub fn peer(&self, name: &str) -> PeerBuilder<'_> {
        PeerBuilder::new(self, name)
    }

    /// The go-libp2p peer, not started yet.
    pub fn go_peer(&self, name: &str) -> ForeignBuilder<'_> {
        ForeignBuilder::go(self, name)
    }

    /// The js-libp2p peer, not started yet.
    pub fn js_peer(&self, name: &str) -> ForeignBuilder<'_> {
        ForeignBuilder::js(self, name)
    }

    /// The network's key.
    pub fn psk_file(&self) -> PathBuf {
        self.dir.path().join("swarm.psk")
    }

    /// The directory of a member.
    pub fn dir_of(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory of all.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The daemon's program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Who `name` is. A member that is not there yet gets its key and its address now (`oc-discovery init`), so that
    /// others can be told of it before it starts.
    ///
    /// # Panics
    /// When `init` fails.
    pub fn identity(&self, name: &str) -> Identity {
        let mut known = self.known.lock().unwrap();
        if let Some(identity) = known.get(name) {
            return identity.clone();
        }
        let done = Command::new(&self.binary)
            .arg("init")
            .arg("--json")
            .arg("--dir")
            .arg(self.dir_of(name))
            .args(["--name", name])
            .arg("--psk")
            .arg(self.psk_file())
            .env_clear()
            .current_dir(self.dir.path())
            .output()
            .expect("oc-discovery can be started");
        assert!(
            done.status.success(),
            "init of {name}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        let told: Value = serde_json::from_slice(&done.stdout).expect("init --json prints JSON");
        let text = |key: &str| {
            told[key]
                .as_str()
                .unwrap_or_else(|| panic!("init tells no {key}: {told}"))
                .to_owned()
        };
        let identity = Identity {
            name: name.to_owned(),
            did: text("did"),
            peer_id: text("peer_id"),
            public_key: text("public_key"),
            address: format!("{}/tcp/{}", self.host, free_port()),
        };
        known.insert(name.to_owned(), identity.clone());
        identity
    }

    /// Notes who `name` is, for members that tell it themselves.
    pub(crate) fn set_identity(&self, identity: Identity) {
        self.known.lock().unwrap().insert(identity.name.clone(), identity);
    }
}

impl Default for Federation {
    fn default() -> Self {
        Self::new()
    }
}
