//! What an operator types on a peer's machine.

use super::Peer;
use crate::wait::until;
use serde_json::Value;
use std::process::Command;

/// How a command of an operator ended.
#[derive(Debug, Clone)]
pub struct Typed {
    /// Its exit status.
    pub status: i32,
    /// What it said on stdout.
    pub out: String,
    /// What it said on stderr.
    pub err: String,
}

impl Typed {
    /// What it said on stdout, as JSON.
    ///
    /// # Panics
    /// When it failed, or said something else.
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// What its operator does.
impl Peer {
    /// Runs the daemon's program with these arguments beside the daemon, and returns when it has ended.
    ///
    /// # Panics
    /// When it cannot be started, or ended by a signal.
    pub async fn types(&self, arguments: &[&str]) -> Typed {
        let mut command = Command::new(&self.binary);
        command
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .current_dir(&self.dir);
        let ended = tokio::task::spawn_blocking(move || command.output()).await;
        let output = ended.expect("a command runs").expect("a command is started");
        Typed {
            status: output.status.code().expect("a command ends by itself"),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Types `outbox` with these arguments until its JSON is as wanted, and returns it.
    ///
    /// # Panics
    /// When it never is.
    pub async fn outbox(&self, what: &str, arguments: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
        let mut all = vec!["outbox", "--json"];
        all.extend(arguments);
        until(format!("{what} in the outbox of {}", self.name), || async {
            Some(self.types(&all).await.json()).filter(&wanted)
        })
        .await
    }
}
