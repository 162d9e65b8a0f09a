//! The command line: what each verb is called, and how a verb ends.
//!
//! Owns the exit status (0 done, 1 failed, 64 wrong usage or settings) and where things are written: answers to stdout,
//! everything else to stderr.

mod backup;
mod config;
mod descriptors;
mod health;
mod id;
mod init;
mod outbox;
mod peer;
mod read_once;
mod run;
mod search;
mod status;
mod table;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control::{AskError, Request, ask};
use crate::identity::IdentityError;
use crate::settings::{Mistakes, Sources, load};
use crate::telemetry::LogError;

/// `EX_USAGE` of sysexits: wrong usage or settings.
const USAGE: u8 = 64;

/// The peer daemon of OpenCloud: carries events between the NATS servers of federated organisations.
#[derive(Debug, Parser)]
#[command(name = "oc-discovery", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What every verb takes, before or after its name.
#[derive(Debug, Args)]
struct Common {
    /// The settings file [default: ./oc-discovery.toml, then /etc/oc-discovery/oc-discovery.toml, then none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting; wins over the file and the environment. Repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

impl Common {
    /// Both places together, the later one winning.
    fn and(mut self, later: Self) -> Self {
        self.set.extend(later.set);
        Self {
            config: later.config.or(self.config),
            set: self.set,
            json: self.json || later.json,
        }
    }

    fn sources(&self) -> Sources {
        Sources::of_process(self.config.clone(), self.set.clone())
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The daemon; also what no verb means
    Run {
        #[command(flatten)]
        common: Common,
    },
    /// First run: write commented settings, a key and a pre-shared key. Never overwrites
    Init {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        wanted: init::Wanted,
    },
    /// Who this daemon is, as JSON
    Id {
        #[command(flatten)]
        common: Common,
    },
    /// Check or show the settings
    Config {
        #[command(subcommand)]
        what: ConfigVerb,
    },
    /// Ask the running daemon whether it is well
    Health {
        #[command(flatten)]
        common: Common,
        /// Ask whether it is ready to work, not only alive
        #[arg(long)]
        ready: bool,
    },
    /// Ask the running daemon how it is
    Status {
        #[command(flatten)]
        common: Common,
    },
    /// What each partner has received, and what is parked
    Outbox(outbox::Wanted),
    /// Search what other peers have
    Search {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        wanted: search::Wanted,
    },
    /// Who there is, who somebody is, and how one becomes a partner
    Peer {
        #[command(subcommand)]
        what: peer::PeerVerb,
    },
    /// Copy journal and documents while the daemon runs
    Backup {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        wanted: backup::Wanted,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Tell every mistake at once, with file, line and key
    Check {
        #[command(flatten)]
        common: Common,
    },
    /// Show the effective settings, each with where it came from
    Show {
        #[command(flatten)]
        common: Common,
    },
}

/// Why a verb did not do its work.
#[derive(Debug)]
enum Failure {
    /// Wrong usage or settings, with what to tell (nothing when it is told already).
    Usage(String),
    /// Something failed.
    Failed(anyhow::Error),
    /// Something failed, and it is told already.
    Told,
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::Usage(mistakes.to_string())
    }
}

macro_rules! failed {
    ($($error:ty),+) => { $(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Failed(error.into())
            }
        }
    )+ };
}
failed!(anyhow::Error, io::Error, serde_json::Error, IdentityError, LogError);

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Wrong(text) => Self::Usage(text),
            other => Self::Failed(other.into()),
        }
    }
}

/// Does what the command line says.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // To stdout when it was asked for (--help), else to stderr; there is nobody to tell if that fails.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match act(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            tell(&text);
            ExitCode::from(USAGE)
        }
        Err(Failure::Failed(error)) => {
            tell(&in_words(&error));
            ExitCode::FAILURE
        }
        Err(Failure::Told) => ExitCode::FAILURE,
    }
}

fn act(Cli { common: before, verb }: Cli) -> Result<(), Failure> {
    match verb {
        None => run::run(&before),
        Some(Verb::Run { common }) => run::run(&before.and(common)),
        Some(Verb::Init { common, wanted }) => init::init(&before.and(common), &wanted),
        Some(Verb::Id { common }) => id::id(&before.and(common)),
        Some(Verb::Config {
            what: ConfigVerb::Check { common },
        }) => config::check(&before.and(common)),
        Some(Verb::Config {
            what: ConfigVerb::Show { common },
        }) => config::show(&before.and(common)),
        Some(Verb::Health { common, ready }) => health::health(&before.and(common), ready),
        Some(Verb::Status { common }) => status::status(&before.and(common)),
        Some(Verb::Search { common, wanted }) => search::search(&before.and(common), wanted),
        Some(Verb::Outbox(wanted)) => outbox::outbox(before, wanted),
        Some(Verb::Peer { what }) => peer::peer(before, what),
        Some(Verb::Backup { common, wanted }) => backup::backup(&before.and(common), wanted),
    }
}

/// An error and its causes, each said once: some say theirs themselves.
fn in_words(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.is_empty() {
            said = cause;
        } else if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

/// What the running daemon answers.
fn asked<T: DeserializeOwned>(common: &Common, request: &Request) -> Result<T, Failure> {
    let settings = load(&common.sources())?.settings;
    Ok(ask(&settings.state_dir, request)?)
}

/// What it answers, as it is, or in words.
fn answer_told<T: Serialize>(common: &Common, told: &T, words: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    if common.json {
        answer(&format!("{}\n", serde_json::to_string(told)?))
    } else {
        answer(&words(told))
    }
}

/// An answer, to stdout. A reader that went away is no failure.
fn answer(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A word to the person, on stderr.
fn tell(text: &str) {
    if !text.is_empty() {
        // There is nobody left to tell when this fails.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::read_invite;
    use anyhow::Context;
    use std::time::SystemTime;

    #[test]
    fn each_cause_is_said_once() {
        let outer = Err::<(), _>(io::Error::other("the disk is gone")).context("a file cannot be read");
        assert_eq!(in_words(&outer.unwrap_err()), "a file cannot be read: the disk is gone");
        let unsigned = "oc-invite-1:eyJkaWQiOiJkIiwicGVlcl9pZCI6IngiLCJleHBpcnlfZGF0ZSI6IiJ9";
        let refused = read_invite(unsigned, SystemTime::now()).unwrap_err();
        let reason = refused.to_string();
        let words = in_words(&anyhow::Error::from(refused));
        assert_eq!(words, reason, "the invite's reason, once");
        assert_eq!(words.matches("expiry_date").count(), 1, "{words}");
    }
}
