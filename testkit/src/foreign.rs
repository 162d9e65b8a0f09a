//! Peers of another make: the go-libp2p and the js-libp2p peer of `tests/foreign`, by their control protocol.

use crate::federation::{Federation, Identity};
use crate::process::Process;
use crate::tools::{Missing, tool};
use crate::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Command;
use std::sync::Mutex;

/// Says how a foreign peer shall be.
#[must_use]
pub struct ForeignBuilder<'a> {
    net: &'a Federation,
    name: String,
    tool: &'static str,
    arguments: Vec<String>,
}

impl<'a> ForeignBuilder<'a> {
    pub(crate) fn go(net: &'a Federation, name: &str) -> Self {
        Self {
            net,
            name: name.to_owned(),
            tool: "foreign-go",
            arguments: Vec::new(),
        }
    }

    pub(crate) fn js(net: &'a Federation, name: &str) -> Self {
        Self {
            net,
            name: name.to_owned(),
            tool: "foreign-js",
            arguments: Vec::new(),
        }
    }

    /// A further argument, as its README names them.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts it; `None`, with a printed sentence, when this machine cannot.
    ///
    /// # Panics
    /// When it does not start although it could, or where `CI` is set and its runtime is here but unfit.
    pub async fn start(self) -> Option<Foreign> {
        let program = match tool(self.tool) {
            Ok(program) => program,
            Err(Missing(why)) => {
                let runtime = if self.tool == "foreign-js" { "node" } else { "go" };
                let is_here = Command::new(runtime).arg("version").output().is_ok();
                assert!(std::env::var_os("CI").is_none() || !is_here, "{why}");
                println!("skipped: {why}");
                return None;
            }
        };
        let mut command = if self.tool == "foreign-js" {
            let mut node = Command::new("node");
            node.arg(program);
            node
        } else {
            Command::new(program)
        };
        command
            .arg("--psk")
            .arg(self.net.psk_file())
            .args(["--name", &self.name])
            .args(&self.arguments);
        let process = Process::start(format!("{} {}", self.tool, self.name), &mut command);
        let first = until(format!("{} to be ready", process.name()), || {
            std::future::ready(process.out_line(0))
        })
        .await;
        let ready: Value = serde_json::from_str(&first).expect("the first line is JSON");
        assert_eq!(ready["event"], "ready", "{first}");
        let text = |key: &str| {
            ready[key]
                .as_str()
                .unwrap_or_else(|| panic!("no {key}: {first}"))
                .to_owned()
        };
        let address = ready["addrs"][0]
            .as_str()
            .unwrap_or_else(|| panic!("no address: {first}"));
        let identity = Identity {
            name: self.name.clone(),
            did: text("did"),
            peer_id: text("peer_id"),
            public_key: text("public_key"),
            address: address.split("/p2p/").next().unwrap_or_default().to_owned(),
        };
        self.net.set_identity(identity.clone());
        let state = State {
            process,
            read: 1,
            events: Vec::new(),
            taken: Vec::new(),
            refs: 0,
        };
        Some(Foreign {
            identity,
            state: Mutex::new(state),
        })
    }
}

/// A running foreign peer; killed when dropped.
pub struct Foreign {
    identity: Identity,
    state: Mutex<State>,
}

struct State {
    process: Process,
    /// Lines of stdout that are in `events`.
    read: usize,
    events: Vec<Value>,
    taken: Vec<bool>,
    refs: u64,
}

impl State {
    fn read(&mut self) {
        while let Some(line) = self.process.out_line(self.read) {
            self.read += 1;
            self.events
                .push(serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}")));
            self.taken.push(false);
        }
    }

    fn take(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        self.read();
        let at = self
            .events
            .iter()
            .zip(&self.taken)
            .position(|(event, taken)| !taken && wanted(event))?;
        self.taken[at] = true;
        self.events.get(at).cloned()
    }
}

impl Foreign {
    /// Who it is, as others must know it.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its DID.
    pub fn did(&self) -> &str {
        &self.identity.did
    }

    /// SIGSTOP: it is there and does nothing.
    pub fn freeze(&self) {
        self.state.lock().unwrap().process.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.state.lock().unwrap().process.signal(Signal::CONT);
    }

    /// Gives a command and returns its answer.
    ///
    /// # Panics
    /// When the answer is an error, or does not come.
    pub async fn tell(&self, command: &str, fields: Value) -> Value {
        let answer = self.try_tell(command, fields).await;
        assert_eq!(answer["event"], "ok", "{}: {answer}", self.identity.name);
        answer
    }

    /// Gives a command and returns its answer, which may be an error.
    ///
    /// # Panics
    /// When none comes.
    pub async fn try_tell(&self, command: &str, mut fields: Value) -> Value {
        let reference = {
            let mut state = self.state.lock().unwrap();
            state.refs += 1;
            let reference = format!("r{}", state.refs);
            fields["cmd"] = json!(command);
            fields["ref"] = json!(reference);
            state.process.tell(&fields.to_string());
            reference
        };
        self.expect(|event| event["ref"] == *reference && (event["event"] == "ok" || event["event"] == "error"))
            .await
    }

    /// Waits for an event that no other `expect` has taken, and takes it.
    ///
    /// # Panics
    /// When none comes.
    pub async fn expect(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let probe = || std::future::ready(self.state.lock().unwrap().take(&wanted));
        until(
            format!("an event of {} (see its README for what it prints)", self.identity.name),
            probe,
        )
        .await
    }

    /// What `of` makes of each event so far, where copies of all of them would be too much.
    pub fn gather<T, C: FromIterator<T>>(&self, of: impl Fn(&Value) -> Option<T>) -> C {
        let mut state = self.state.lock().unwrap();
        state.read();
        state.events.iter().filter_map(of).collect()
    }

    /// Everything it told so far.
    pub fn events(&self) -> Vec<Value> {
        let mut state = self.state.lock().unwrap();
        state.read();
        state.events.clone()
    }
}
