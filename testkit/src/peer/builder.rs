//! How a peer shall be, and its start.

use super::Peer;
use crate::app::App;
use crate::documents::Relation;
use crate::federation::{Federation, Identity};
use crate::nats::{NatsOptions, NatsServer};
use crate::ports::free_port;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Says how a peer shall be; nothing exists before [`PeerBuilder::start`].
#[must_use]
pub struct PeerBuilder<'a> {
    net: &'a Federation,
    name: String,
    settings: BTreeMap<String, Value>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    relations: Vec<(String, Relation)>,
    nats: NatsOptions,
    nats_of: Option<&'a Peer>,
    key_of: Option<&'a Peer>,
    nats_down: bool,
    deaf: bool,
}

impl<'a> PeerBuilder<'a> {
    pub(crate) fn new(net: &'a Federation, name: &str) -> Self {
        Self {
            net,
            name: name.to_owned(),
            settings: BTreeMap::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            relations: Vec::new(),
            nats: NatsOptions::default(),
            nats_of: None,
            key_of: None,
            nats_down: false,
            deaf: false,
        }
    }

    /// Its app tells, right after the start, that the member `name` is a PARTNER. It need not be there yet.
    pub fn partner_of(self, name: &str) -> Self {
        self.knows(name, Relation::Partner)
    }

    /// The same with another relation.
    pub fn knows(mut self, name: &str, relation: Relation) -> Self {
        self.relations.push((name.to_owned(), relation));
        self
    }

    /// A setting of the daemon, as in its file.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    /// A further argument of the daemon, such as `--set`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// An environment variable of the daemon, which has no others.
    pub fn environment(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// How its NATS server shall be.
    pub fn nats(mut self, options: NatsOptions) -> Self {
        self.nats = options;
        self
    }

    /// Uses the NATS server of another peer.
    pub fn nats_of(mut self, other: &'a Peer) -> Self {
        self.nats_of = Some(other);
        self
    }

    /// Uses the private key of another peer, and so its DID.
    pub fn key_of(mut self, other: &'a Peer) -> Self {
        self.key_of = Some(other);
        self
    }

    /// Its NATS server is not started; [`Peer::start_nats`] does it later.
    pub fn nats_down(mut self) -> Self {
        self.nats_down = true;
        self
    }

    /// Its app hears nothing but the ends of searches, for measurements: nothing of what crosses is kept.
    pub fn deaf(mut self) -> Self {
        self.deaf = true;
        self
    }

    /// Starts everything, and returns when the daemon is ready and knows of its relations.
    ///
    /// # Panics
    /// When it does not get there.
    pub async fn start(self) -> Peer {
        let relations = self.relations.clone();
        let net = self.net;
        let peer = self.launch().await;
        peer.wait_ready().await;
        for (name, relation) in relations {
            peer.tell_peer(&net.identity(&name), relation).await;
        }
        peer.settled().await;
        peer
    }

    /// Starts everything and waits for nothing of the daemon; the relations are not told.
    ///
    /// # Panics
    /// When a program cannot be started.
    pub async fn launch(self) -> Peer {
        let mut identity = self.net.identity(&self.name);
        let dir = self.net.dir_of(&self.name);
        if let Some(other) = self.key_of {
            std::fs::copy(other.dir.join("node.key"), dir.join("node.key")).expect("the key is copied");
            let Identity {
                did,
                peer_id,
                public_key,
                ..
            } = other.identity.clone();
            identity = Identity {
                did,
                peer_id,
                public_key,
                ..identity
            };
            self.net.set_identity(identity.clone());
        }
        let mut nats = match self.nats_of {
            Some(_) => None,
            None => Some(NatsServer::new(&self.name, &dir.join("nats"), self.nats.clone())),
        };
        if let Some(own) = nats.as_mut().filter(|_| !self.nats_down) {
            own.start().await;
        }
        let server = nats
            .as_ref()
            .or_else(|| self.nats_of.and_then(|other| other.nats.as_ref()));
        let server = server.expect("the other peer has a NATS server of its own");
        let app = App::connect(&self.name, server, self.deaf).await;
        let admin = free_port();
        let mut settings = BTreeMap::from([
            ("name".to_owned(), json!(self.name)),
            ("state_dir".to_owned(), json!(dir)),
            ("nats.url".to_owned(), json!(server.url())),
            ("network.listen".to_owned(), json!([listen_address(&identity)])),
            ("admin.listen".to_owned(), json!(format!("127.0.0.1:{admin}"))),
            ("log.level".to_owned(), json!("info,oc_discovery=debug")),
            ("log.format".to_owned(), json!("text")),
        ]);
        if listen_address(&identity) != identity.address {
            settings.insert("network.announce".to_owned(), json!([identity.address]));
        }
        settings.extend(nats_settings(server, &dir));
        settings.extend(self.settings);
        let mut peer = Peer {
            name: self.name,
            identity,
            config: dir.join("oc-discovery.toml"),
            dir,
            binary: self.net.binary().to_owned(),
            settings,
            arguments: self.arguments,
            environment: self.environment,
            admin,
            app,
            nats,
            daemon: None,
        };
        peer.write_settings();
        peer.run();
        peer
    }
}

/// The address of this host behind a name.
fn listen_address(identity: &Identity) -> String {
    let address = &identity.address;
    match address.split('/').nth(1) {
        Some("dns4") => format!("/ip4/127.0.0.1/tcp/{}", identity.port()),
        Some("dns6") => format!("/ip6/::1/tcp/{}", identity.port()),
        _ => address.clone(),
    }
}

/// What the daemon must be told to use a server, secrets by file.
fn nats_settings(server: &NatsServer, dir: &Path) -> Vec<(String, Value)> {
    let mut settings = Vec::new();
    let mut secret = |key: &str, text: &str| {
        let file = dir.join(key);
        std::fs::write(&file, format!("{text}\n")).expect("a secret is written");
        settings.push((key.to_owned(), json!(file)));
    };
    let options = server.options();
    if let Some((_, password)) = &options.user {
        secret("nats.password_file", password);
    }
    if let Some(token) = &options.token {
        secret("nats.token_file", token);
    }
    if let Some((user, _)) = &options.user {
        settings.push(("nats.user".to_owned(), json!(user)));
    }
    if options.operator {
        settings.push(("nats.creds_file".to_owned(), json!(server.creds_file())));
    }
    if options.tls {
        settings.push(("nats.tls.ca_file".to_owned(), json!(server.ca_file())));
    }
    settings
}
