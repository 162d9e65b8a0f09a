//! A peer: a NATS server, an app on it, and the daemon beside them. Here are its identity and its processes.

mod builder;
mod operator;
mod says;
mod told;

pub use builder::PeerBuilder;
pub use operator::Typed;
pub use told::{linked, partners};

use crate::app::App;
use crate::federation::Identity;
use crate::nats::NatsServer;
use crate::process::Process;
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

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
