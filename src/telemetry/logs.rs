//! The log: to stderr, as text on a terminal and as JSON elsewhere, with a level that can change while running.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt as text, reload};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text when stderr is a terminal, JSON otherwise.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What can be wrong with the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("{0}")]
    Filter(String),
    /// The log was set up before.
    #[error("the log of this process is already set up")]
    Twice,
    /// The running log is gone.
    #[error("the level of the running log cannot be changed: {0}")]
    Reload(#[from] reload::Error),
}

/// Changes the running log.
#[derive(Clone)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

impl fmt::Debug for LogHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("LogHandle")
    }
}

impl LogHandle {
    /// Takes another filter, see [`check_filter`].
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        self.0.reload(filter(level)?)?;
        Ok(())
    }
}

/// Sets up the log of the process: `level` is a `tracing` filter such as `info` or `info,oc_discovery=debug`.
pub fn init_logs(level: &str, format: LogFormat) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = text::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.with_ansi(terminal).with_target(true).boxed()
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|_| LogError::Twice)?;
    Ok(LogHandle(handle))
}

/// Says what is wrong with a filter. Stricter than `tracing`, which takes a misspelt level for the name of a module and
/// would log everything of a module that does not exist.
pub fn check_filter(level: &str) -> Result<(), LogError> {
    filter(level).map(|_| ())
}

/// Libraries that warn of what is none of the operator's business, and what is left of them; whoever names one in the level hears
/// all of it.
const QUIET: [(&str, &str); 3] = [
    // Every event of their connections, which the daemon tells in words of its own.
    ("async_nats", "async_nats=error"),
    ("libp2p_swarm", "libp2p_swarm=error"),
    // It wants to fill its table at the first connection, when there is nobody in it yet, and warns of "No known peers": so each
    // first start begins. It tries again with whoever comes. Its streams (`handler`) still warn.
    ("libp2p_kad", "libp2p_kad::behaviour=error"),
];

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    if level.trim().is_empty() {
        return Err(LogError::Filter(
            "the level is empty; write `info`, for example".to_owned(),
        ));
    }
    // Span filters may hold commas of their own: those are left to `tracing` whole.
    let parts: Vec<&str> = if level.contains('[') {
        vec![level]
    } else {
        level.split(',').map(str::trim).collect()
    };
    for part in &parts {
        let bare = !part.contains('=') && !part.contains('[');
        // `tracing` reads the empty word as a level.
        if part.is_empty() || (bare && LevelFilter::from_str(part).is_err()) {
            return Err(LogError::Filter(format!(
                "`{part}` is no level; write one of off, error, warn, info, debug, trace, or `module=level`"
            )));
        }
    }
    let quiet = QUIET.into_iter().filter(|(library, _)| !level.contains(library));
    let all = quiet
        .map(|(_, directive)| directive)
        .chain(parts)
        .collect::<Vec<_>>()
        .join(",");
    EnvFilter::try_new(all).map_err(|error| LogError::Filter(format!("`{level}` is no filter: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::heard::Heard;

    /// What is written at this level of two warnings of one library.
    fn written(level: &str) -> String {
        let heard = Heard::default();
        let writer = heard.clone();
        let lines = text::layer().with_writer(move || writer.clone());
        let log = tracing_subscriber::registry().with(filter(level).unwrap()).with(lines);
        tracing::subscriber::with_default(log, || {
            tracing::warn!(target: "libp2p_kad::behaviour", "No known peers.");
            tracing::warn!(target: "libp2p_kad::handler", "exceeds its limit");
        });
        heard.text()
    }

    #[test]
    fn a_first_start_that_knows_nobody_is_no_warning() {
        let usual = written("info");
        assert!(
            !usual.contains("No known peers") && usual.contains("exceeds its limit"),
            "{usual}"
        );
        assert!(!written("debug").contains("No known peers"));
        // Whoever asks for it by name gets it.
        assert!(written("info,libp2p_kad=warn").contains("No known peers"));
    }

    #[test]
    fn filters_are_levels_or_modules_with_levels() {
        for good in [
            "info",
            "DEBUG",
            "off",
            "info,oc_discovery=debug",
            "warn, libp2p_swarm=trace",
        ] {
            check_filter(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in ["", "inof", "oc_discovery", "info,", "oc_discovery=loud"] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }
}
