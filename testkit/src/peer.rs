//! A peer: a NATS server, an app on it, and the daemon beside them.

use crate::app::{self, App, Message, Payload};
use crate::documents::{Action, DataType, Relation, peer_document};
use crate::federation::{Federation, Identity};
use crate::metrics::Metrics;
use crate::nats::{NatsOptions, NatsServer};
use crate::ports::free_port;
use crate::process::Process;
use crate::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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

    /// Its app listens to nothing, for measurements: nothing of what the daemon publishes is kept or waited for.
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
            ("network.listen".to_owned(), json!([identity.address])),
            ("admin.listen".to_owned(), json!(format!("127.0.0.1:{admin}"))),
            ("log.level".to_owned(), json!("info,oc_discovery=debug")),
            ("log.format".to_owned(), json!("text")),
        ]);
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
    if options.tls {
        settings.push(("nats.tls.ca_file".to_owned(), json!(server.ca_file())));
    }
    settings
}

/// A running peer; all of it ends when it is dropped.
pub struct Peer {
    name: String,
    identity: Identity,
    dir: PathBuf,
    config: PathBuf,
    binary: PathBuf,
    settings: BTreeMap<String, Value>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    admin: u16,
    app: App,
    // The daemon's words are printed before those of its server.
    daemon: Option<Process>,
    nats: Option<NatsServer>,
}

/// Who it is.
impl Peer {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its DID.
    pub fn did(&self) -> &str {
        &self.identity.did
    }

    /// Its PeerId.
    pub fn peer_id(&self) -> &str {
        &self.identity.peer_id
    }

    /// Who it is, as others must know it.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its `state_dir`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The daemon's settings file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// What its settings file says for `key`, as text; empty when it says nothing.
    pub fn config_value(&self, key: &str) -> String {
        let value = self.settings.get(key);
        value.map_or(String::new(), |value| {
            value.as_str().map_or(value.to_string(), str::to_owned)
        })
    }

    /// Where the daemon answers HTTP.
    pub fn admin_port(&self) -> u16 {
        self.admin
    }

    /// Its app.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// The app's connection to NATS.
    pub fn nats(&self) -> &async_nats::Client {
        self.app.client()
    }

    /// Its own NATS server.
    ///
    /// # Panics
    /// When it uses another peer's.
    pub fn nats_server(&mut self) -> &mut NatsServer {
        self.nats.as_mut().expect("a NATS server of its own")
    }
}

/// What its app says.
impl Peer {
    /// PB_CREATE.
    pub async fn publish_create(&self, datatype: DataType, document: &(impl Payload + ?Sized)) {
        self.app.propagate(Action::Create, datatype, document).await;
    }

    /// PB_UPDATE.
    pub async fn publish_update(&self, datatype: DataType, document: &(impl Payload + ?Sized)) {
        self.app.propagate(Action::Update, datatype, document).await;
    }

    /// PB_DELETE, with the document or `{id}`.
    pub async fn publish_delete(&self, datatype: DataType, document: &(impl Payload + ?Sized)) {
        self.app.propagate(Action::Delete, datatype, document).await;
    }

    /// PB_CONSIDERS: `payload` with `peer_ids` set to these.
    pub async fn publish_considers(&self, datatype: DataType, to: &[&str], mut payload: Value) {
        payload["peer_ids"] = json!(to);
        self.app.propagate(Action::Considers, datatype, &payload).await;
    }

    /// PB_PLANNER: `payload` with `peer_id` set to this.
    pub async fn publish_planner(&self, datatype: DataType, to: &str, mut payload: Value) {
        payload["peer_id"] = json!(to);
        self.app.propagate(Action::Planner, datatype, &payload).await;
    }

    /// PB_CLOSE_PLANNER.
    pub async fn publish_close_planner(&self, datatype: DataType, to: &str) {
        self.app
            .propagate(Action::ClosePlanner, datatype, &json!({"peer_id": to}))
            .await;
    }

    /// PB_SEARCH: `{type, search, id?, limit?, timeout_ms?, datatype?}`.
    pub async fn publish_search(&self, datatype: DataType, request: Value) {
        self.app.propagate(Action::Search, datatype, &request).await;
    }

    /// PB_CLOSE_SEARCH.
    pub async fn publish_close_search(&self, id: &str) {
        self.app
            .propagate(Action::CloseSearch, DataType::Invalid, &json!({"id": id}))
            .await;
    }

    /// CREATE_RESOURCE: the app has written this document.
    pub async fn create_resource(&self, datatype: DataType, document: &(impl Payload + ?Sized)) {
        self.app.publish("create_resource", datatype, document).await;
    }

    /// REMOVE_RESOURCE: the app has removed this document.
    pub async fn remove_resource(&self, datatype: DataType, document: &(impl Payload + ?Sized)) {
        self.app.publish("remove_resource", datatype, document).await;
    }

    /// CREATE_RESOURCE of the peer document of `who`.
    pub async fn tell_peer(&self, who: &Identity, relation: Relation) {
        self.create_resource(DataType::Peer, &peer_document(who, relation))
            .await;
    }

    /// REMOVE_RESOURCE of the peer document of `who`.
    pub async fn forget_peer(&self, who: &Identity) {
        self.remove_resource(DataType::Peer, &peer_document(who, Relation::None))
            .await;
    }

    /// A whole search: publishes it under an id of its own, and returns its results and its end when it is over.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn search(&self, datatype: DataType, mut request: Value) -> (Vec<Message>, Value) {
        let id = unique("search");
        request["id"] = json!(id);
        self.publish_search(datatype, request).await;
        let end = self
            .expect("search_end", |message| message.json()["search_id"] == *id)
            .await
            .json();
        // Of one publisher NATS keeps the order, over all subjects: what came after the end would be a mistake.
        let results = self.app.heard("search_event");
        let ours = |message: &Message| message.json()["search_id"] == *id;
        (results.into_iter().filter(ours).collect(), end)
    }

    /// Returns when the daemon has handled all that was published on its NATS before: a question that it answers in
    /// its turn is put behind it.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn settled(&self) {
        self.search(DataType::Peer, json!({"search": "no peer has this name"}))
            .await;
    }

    /// Waits for a message of the daemon on `subject` that no other `expect` has taken, and takes it.
    ///
    /// # Panics
    /// When none comes.
    pub async fn expect(&self, subject: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        self.app.expect(subject, wanted).await
    }

    /// [`Peer::expect`] for the document with this `id`.
    ///
    /// # Panics
    /// When none comes.
    pub async fn expect_document(&self, subject: &str, id: &str) -> Message {
        self.expect(subject, |message| message.document()["id"] == id).await
    }

    /// Everything the daemon published on `subject` so far.
    pub fn heard(&self, subject: &str) -> Vec<Message> {
        self.app.heard(subject)
    }
}

/// What its daemon tells.
impl Peer {
    /// Asks the daemon's HTTP side; `None` when it does not answer.
    pub async fn http(&self, path: &str) -> Option<(u16, String)> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.admin)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    }

    /// The metrics now.
    ///
    /// # Panics
    /// When the daemon does not tell them.
    pub async fn metrics(&self) -> Metrics {
        until(format!("the metrics of {}", self.name), || async {
            let (status, body) = self.http("/metrics").await?;
            (status == 200).then(|| Metrics::parse(&body))
        })
        .await
    }

    /// Waits until the metrics are as wanted, and returns them.
    ///
    /// # Panics
    /// When they never are.
    pub async fn wait_metrics(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        until(format!("{what} at {}", self.name), || async {
            let (_, body) = self.http("/metrics").await?;
            Some(Metrics::parse(&body)).filter(&wanted)
        })
        .await
    }

    /// Waits until the sum of a metric's samples with these labels is as wanted.
    ///
    /// # Panics
    /// When it never is.
    pub async fn wait_metric(&self, name: &str, labels: &[(&str, &str)], wanted: impl Fn(f64) -> bool) {
        let what = format!("the metric {name} {labels:?}");
        self.wait_metrics(&what, |metrics| wanted(metrics.sum(name, labels)))
            .await;
    }

    /// Whether `/readyz` says so now.
    pub async fn is_ready(&self) -> bool {
        self.http("/readyz").await.is_some_and(|(status, _)| status == 200)
    }

    /// Waits until `/readyz` says ready.
    ///
    /// # Panics
    /// When it never does.
    pub async fn wait_ready(&self) {
        until(format!("{} to be ready", self.name), || async {
            self.is_ready().await.then_some(())
        })
        .await;
    }

    /// Waits until `/readyz?verbose` answers that it is not ready, and returns what it says.
    ///
    /// # Panics
    /// When it never does.
    pub async fn wait_not_ready(&self) -> String {
        until(format!("{} to be not ready", self.name), || async {
            let (status, body) = self.http("/readyz?verbose").await?;
            (status == 503).then_some(body)
        })
        .await
    }

    /// Waits until the heartbeat that this peer sends to `partner` lives.
    ///
    /// # Panics
    /// When it never does.
    pub async fn wait_partner_up(&self, partner: &Identity) {
        self.wait_metric("ocd_partner_up", &[("partner", &partner.did)], |up| up == 1.0)
            .await;
    }

    /// Waits until it does not.
    ///
    /// # Panics
    /// When it always does.
    pub async fn wait_partner_down(&self, partner: &Identity) {
        self.wait_metric("ocd_partner_up", &[("partner", &partner.did)], |up| up == 0.0)
            .await;
    }

    /// What the daemon wrote on stderr since its last start.
    pub fn logs(&self) -> Vec<String> {
        self.daemon.as_ref().map(Process::err).unwrap_or_default()
    }

    /// Waits for a log line that has all of these words.
    ///
    /// # Panics
    /// When there never is one.
    pub async fn wait_log(&self, words: &[&str]) -> String {
        let find = || {
            self.logs()
                .into_iter()
                .find(|line| words.iter().all(|word| line.contains(word)))
        };
        until(format!("a log line of {} with {words:?}", self.name), || {
            std::future::ready(find())
        })
        .await
    }
}

/// Its processes.
impl Peer {
    /// Changes a setting in the daemon's file; the daemon sees it at its next start, or after [`Peer::hang_up`].
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.settings.insert(key.to_owned(), value.into());
        self.write_settings();
    }

    fn write_settings(&self) {
        // A JSON string, number, boolean or list of strings is written the same way in TOML.
        let lines = self.settings.iter().map(|(key, value)| format!("{key} = {value}\n"));
        std::fs::write(&self.config, lines.collect::<String>()).expect("the settings are written");
    }

    /// The daemon's process.
    ///
    /// # Panics
    /// When it is not started.
    pub fn daemon(&mut self) -> &mut Process {
        self.daemon.as_mut().expect("the daemon was started")
    }

    /// Starts the daemon, and waits for nothing.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&mut self) {
        let mut command = Command::new(&self.binary);
        command
            .arg("run")
            .arg("--config")
            .arg(&self.config)
            .args(&self.arguments);
        command
            .env_clear()
            .envs(self.environment.iter().cloned())
            .current_dir(&self.dir);
        self.daemon = Some(Process::start(format!("daemon of {}", self.name), &mut command));
    }

    /// SIGKILL, and returns when the daemon is gone.
    pub fn kill9(&mut self) {
        self.daemon().kill();
    }

    /// SIGTERM; returns the exit status.
    ///
    /// # Panics
    /// When the daemon does not end, or by a signal.
    pub async fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.exit_code().await
    }

    /// Waits for the daemon's end; returns its exit status.
    ///
    /// # Panics
    /// When the daemon does not end, or by a signal.
    pub async fn exit_code(&mut self) -> i32 {
        let status = self.daemon().ended().await;
        status
            .code()
            .unwrap_or_else(|| panic!("the daemon of {} ended with {status}", self.name))
    }

    /// Starts the daemon again after [`Peer::kill9`] or [`Peer::stop`], and returns when it is ready.
    ///
    /// # Panics
    /// When it does not get there.
    pub async fn restart(&mut self) {
        self.run();
        self.wait_ready().await;
    }

    /// SIGSTOP: the daemon is there and does nothing.
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    /// SIGHUP: the daemon reads its settings again.
    pub fn hang_up(&mut self) {
        self.signal(Signal::HUP);
    }

    /// Any signal.
    pub fn signal(&mut self, signal: Signal) {
        self.daemon().signal(signal);
    }

    /// Starts the peer's own NATS server, and returns when its app is connected to it.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_nats(&mut self) {
        self.nats_server().start().await;
        self.app.flush().await;
    }

    /// Kills the peer's own NATS server.
    pub fn kill_nats(&mut self) {
        self.nats_server().kill();
    }
}

/// Waits until each of these is connected with each other as a partner, heartbeats in both directions.
///
/// # Panics
/// When they never are.
pub async fn partners(peers: &[&Peer]) {
    for one in peers {
        for other in peers.iter().filter(|other| other.did() != one.did()) {
            one.wait_partner_up(other.identity()).await;
        }
        let inbound = [("protocol", "/opencloud/resource/heartbeat/partner/1.0")];
        let others = peers.len() - 1;
        one.wait_metric("ocd_streams_open", &inbound, |open| open as usize >= others)
            .await;
    }
}

/// A word that was not used before in this process.
fn unique(word: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{word}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What [`Peer`] publishes, for tests that want the bytes.
impl Peer {
    /// The bytes of an envelope as its app writes them, with any `from_app`.
    pub fn envelope(from_app: &str, datatype: DataType, payload: &(impl Payload + ?Sized)) -> Vec<u8> {
        app::envelope(from_app, datatype, &payload.bytes())
    }

    /// The bytes of a `PropalgationMessage` as its app writes them.
    pub fn propalgation(action: Action, datatype: DataType, payload: &(impl Payload + ?Sized)) -> Vec<u8> {
        app::propalgation(action, datatype, &payload.bytes())
    }
}
