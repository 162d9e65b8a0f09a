//! `run`: the life of the daemon's process. Settings, log, lock, keys, HTTP, node; then signals until the end.
//!
//! Owns the order of these and what a signal does. Never does the daemon's work: that is the node's.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::read_once::ReadOnce;
use super::{Common, Failure, descriptors, in_words};
use crate::admin;
use crate::control::{Control, Verbs};
use crate::identity::{Identity, StateDir};
use crate::node::{self, NodeParts};
use crate::settings::{Loaded, Settings, Sources, doubts, load, take_changes};
use crate::telemetry::{LogHandle, Metrics, Readiness, Refusals, init_logs};

pub(super) fn run(common: &Common) -> Result<(), Failure> {
    let sources = common.sources();
    let loaded = load(&sources)?;
    let log = init_logs(&loaded.settings.log.level, loaded.settings.log.format)?;
    live(sources, loaded, log).map_err(|error| {
        // With the log off it is told as any verb tells it: nobody should have to guess why there is no daemon.
        if !tracing::enabled!(tracing::Level::ERROR) {
            return Failure::Failed(error);
        }
        tracing::error!("{}", in_words(&error));
        Failure::Told
    })
}

/// From the log on, so that whatever fails is logged.
fn live(sources: Sources, loaded: Loaded, log: LogHandle) -> anyhow::Result<()> {
    let file = loaded
        .file
        .as_ref()
        .map_or("none".to_owned(), |path| path.display().to_string());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        name = loaded.settings.name,
        config = file,
        "starting"
    );
    tell_doubts(&loaded.settings);
    descriptors::raise(loaded.settings.limits.connections);
    let _lock = StateDir::lock(&loaded.settings.state_dir)?;
    let identity = Identity::load(&loaded.settings)?;
    tracing::info!(peer_id = %identity.peer_id, "identity");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(daemon(sources, loaded, log, identity));
    // What still hangs after the grace must not hold the process.
    runtime.shutdown_background();
    ended
}

/// The signals that mean the end.
struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them.
    async fn wanted(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What the settings of a running daemon are changed through.
struct Running {
    sources: Sources,
    loaded: Loaded,
    log: LogHandle,
    settings: watch::Sender<Arc<Settings>>,
    read_once: ReadOnce,
}

async fn daemon(sources: Sources, loaded: Loaded, log: LogHandle, identity: Identity) -> anyhow::Result<()> {
    // First, so that a signal during the start is not the end without order that the system has for it.
    let mut end = End::new()?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let metrics = Metrics::new();
    let readiness = Readiness::new(&node::CHECKS);
    let refusals = Refusals::new(metrics.clone());
    let (settings, watched) = watch::channel(Arc::new(loaded.settings.clone()));
    let (up, seen) = watch::channel(None);
    let verbs = Verbs::new(watched.clone(), identity.peer_id.to_string(), readiness.clone(), seen);
    if let Some(address) = loaded.settings.admin.listen {
        let listener = admin::bind(address).await?;
        tracing::info!(address = %listener.local_addr()?, "probes and metrics");
        let (metrics, readiness, verbs) = (metrics.clone(), readiness.clone(), verbs.clone());
        tokio::spawn(async move {
            if let Err(error) = admin::serve(listener, metrics, readiness, verbs).await {
                tracing::error!(%error, "probes and metrics ended");
            }
        });
    }
    // Closed and removed when this function ends, however it does. Without it everything else works.
    let _control = Control::open(&loaded.settings.state_dir, verbs)
        .inspect_err(|error| tracing::warn!(%error, "operators cannot ask this daemon"))
        .ok();
    let grace = loaded.settings.shutdown_grace;
    let read_once = ReadOnce::of(&loaded.settings);
    let mut running = Running {
        sources,
        loaded,
        log,
        settings,
        read_once,
    };
    let shutdown = CancellationToken::new();
    let parts = NodeParts {
        settings: watched,
        identity,
        metrics,
        readiness: readiness.clone(),
        refusals,
        up,
        shutdown: shutdown.clone(),
    };
    let mut node = tokio::select! {
        node = node::start(parts) => node?,
        () = end.wanted() => {
            tracing::info!("told to stop while starting");
            return Ok(());
        }
    };
    loop {
        tokio::select! {
            ended = &mut node => {
                ended.context("the node broke")??;
                return Err(anyhow!("the node ended by itself"));
            }
            _ = hang_up.recv() => running.reload().await,
            () = end.wanted() => break,
        }
    }
    readiness.drain();
    tracing::info!(grace_ms = millis(grace), "told to stop: finishing what has begun");
    shutdown.cancel();
    tokio::select! {
        ended = &mut node => ended.context("the node broke while stopping")??,
        () = tokio::time::sleep(grace) => tracing::warn!("not everything was finished within shutdown_grace"),
        () = end.wanted() => return Err(anyhow!("told to stop again: stopping at once")),
    }
    tracing::info!("stopped");
    Ok(())
}

impl Running {
    /// Reads the settings again and takes what may change; on a mistake all of the old ones stay.
    async fn reload(&mut self) {
        let (sources, read_once) = (self.sources.clone(), self.read_once.clone());
        let reading = tokio::task::spawn_blocking(move || (load(&sources), read_once.changed()));
        let (fresh, changed_files) = match reading.await {
            Ok((Ok(fresh), changed)) => (fresh, changed),
            Ok((Err(mistakes), _)) => {
                for mistake in &mistakes.0 {
                    tracing::error!("{mistake}");
                }
                tracing::error!("the settings were not taken: the old ones stay");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "the settings could not be read again: the old ones stay");
                return;
            }
        };
        let (next, changes) = take_changes(&self.loaded, &fresh);
        if let Err(error) = self.log.set_level(&next.settings.log.level) {
            tracing::error!(%error, "the settings were not taken: the old ones stay");
            return;
        }
        for change in &changes {
            if change.taken {
                tracing::info!(setting = change.key, "changed");
            } else {
                tracing::warn!(setting = change.key, "changed in its source: it needs a restart");
            }
        }
        for setting in changed_files {
            tracing::warn!(setting, "its file holds something else now: it needs a restart");
        }
        self.loaded = next;
        self.settings.send_replace(Arc::new(self.loaded.settings.clone()));
        tell_doubts(&self.loaded.settings);
        tracing::info!("settings read again");
    }
}

fn tell_doubts(settings: &Settings) {
    for doubt in doubts(settings) {
        tracing::warn!("{doubt}");
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
