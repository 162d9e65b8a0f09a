//! The settings: one list, from which come the defaults, the TOML keys, the names in the environment, `config show`,
//! the commented file of `init` and the reference.
//!
//! Owns what a setting is called, means and may be. Never reads a secret (those are paths here) and never shows the
//! user-info of an address. Always holds: a [`Settings`] has passed every check, and all mistakes are told at once.

mod addresses;
mod checks;
mod defaults;
mod forms;
mod list;
mod mistakes;
mod reading;
mod reference;
mod reload;
mod sources;

use std::path::PathBuf;

pub use addresses::dialable;
pub use checks::doubts;
pub use list::{
    AdminSettings, DeliverySettings, DiscoverySettings, IdentitySettings, JetStream, Limits, LogSettings, NatsSettings,
    NatsTls, NetworkSettings, Role, SearchSettings, Settings, StoreSettings, StoreUrl, Subjects, UnknownPeers, Writes,
};
pub use mistakes::{Mistake, Mistakes, Origin};
pub use reference::{commented_file, reference_markdown};
pub use reload::{Change, take_changes};

pub use crate::telemetry::LogFormat;

/// Where settings come from. The environment is given, so that a test need not change its own.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file named by `--config`. Without one the usual places are looked at.
    pub config: Option<PathBuf>,
    /// `key=value`, in the order of the command line.
    pub set: Vec<String>,
    /// Names and values of the environment.
    pub env: Vec<(String, String)>,
}

impl Sources {
    /// These, with the environment of the process. Names and values that are no UTF-8 are read with replacements, which
    /// the checks then refuse.
    pub fn of_process(config: Option<PathBuf>, set: Vec<String>) -> Self {
        let env = std::env::vars_os()
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into_owned(),
                    value.to_string_lossy().into_owned(),
                )
            })
            .collect();
        Self { config, set, env }
    }
}

/// One setting as it is in effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Its name, `section.setting`.
    pub key: &'static str,
    /// Its value as it would be written in TOML, user-info hidden.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Settings that passed every check.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Each of them with where it came from.
    pub shown: Vec<Shown>,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
}

/// Reads and checks the settings: default < file < environment < `--set`.
pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
    let mut reading = reading::Reading::new(&sources.env);
    let file = sources::gather(sources, &mut reading);
    let settings = <Settings as list::Section>::read(&mut reading);
    if let Some(settings) = &settings {
        checks::together(settings, &mut reading);
    }
    let (shown, mistakes) = reading.finish();
    match settings {
        Some(settings) if mistakes.is_empty() => Ok(Loaded { settings, shown, file }),
        _ => Err(Mistakes(mistakes)),
    }
}

/// Where the daemon's probes are, for whoever asks them while somebody edits the file: mistakes elsewhere are told beside it, and
/// do not count.
///
/// # Errors
/// The address itself cannot be read.
pub fn load_admin(sources: &Sources) -> Result<(AdminSettings, Mistakes), Mistakes> {
    let mut reading = reading::Reading::new(&sources.env);
    sources::gather(sources, &mut reading);
    let admin = <AdminSettings as list::Section>::read(&mut reading);
    let mistakes = Mistakes(reading.finish().1);
    match admin {
        Some(admin) => Ok((admin, mistakes)),
        None => Err(mistakes),
    }
}

#[cfg(test)]
mod tests;
