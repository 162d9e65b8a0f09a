//! Whether the daemon is ready, as named checks that all must be good.
//!
//! Owns the list of checks and the announcement "ready". Never looks at anything itself: who owns the thing reports it.
//! Always holds: once draining, never ready again.

use std::sync::Arc;

use tokio::sync::watch;

use super::process_start;

/// Why a check that nobody has reported yet is bad.
const NOT_YET: &str = "not yet";
/// The name under which the end of the daemon shows among the checks.
const DRAINING: &str = "draining";

/// A cheap handle to the checks.
#[derive(Clone)]
pub struct Readiness(Arc<watch::Sender<Checks>>);

/// A check's name, and why it is bad when it is.
pub type Check = (&'static str, Option<String>);

#[derive(Debug, Clone)]
struct Checks {
    list: Vec<Check>,
    draining: bool,
    announced: bool,
}

impl Checks {
    fn ready(&self) -> bool {
        !self.draining && self.list.iter().all(|(_, why)| why.is_none())
    }

    /// Replaces the state of `name` and returns the one before, `None` when nothing changed.
    fn put(&mut self, name: &'static str, why: Option<String>) -> Option<Option<String>> {
        match self.list.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) if *old == why => None,
            Some((_, old)) => Some(std::mem::replace(old, why)),
            None => {
                self.list.push((name, why));
                Some(Some(NOT_YET.to_owned()))
            }
        }
    }
}

impl Readiness {
    /// The named checks, all of them "not yet".
    pub fn new(names: &[&'static str]) -> Self {
        let list = names.iter().map(|name| (*name, Some(NOT_YET.to_owned()))).collect();
        Self(Arc::new(watch::Sender::new(Checks {
            list,
            draining: false,
            announced: false,
        })))
    }

    /// `name` is good. The first time that all are, "ready" is logged with the milliseconds since the process began.
    pub fn set_ok(&self, name: &'static str) {
        let mut announce = false;
        self.0.send_if_modified(|checks| {
            let Some(before) = checks.put(name, None) else {
                return false;
            };
            if before.as_deref() != Some(NOT_YET) {
                tracing::info!(check = name, "good again");
            }
            announce = checks.ready() && !checks.announced;
            checks.announced |= announce;
            true
        });
        if announce {
            let ms = u64::try_from(process_start().elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(after_ms = ms, "ready");
        }
    }

    /// `name` is bad, and why, for people. A change from good, or the first report, is logged as a warning.
    pub fn set_bad(&self, name: &'static str, why: String) {
        self.0.send_if_modified(|checks| {
            let Some(before) = checks.put(name, Some(why.clone())) else {
                return false;
            };
            match before.as_deref() {
                None | Some(NOT_YET) => tracing::warn!(check = name, why, "not ready"),
                Some(_) => tracing::debug!(check = name, why, "still not ready"),
            }
            true
        });
    }

    /// `name` is not good yet, as is normal for a while after the start, and what it waits for, for who asks.
    pub fn set_waiting(&self, name: &'static str, why: String) {
        self.0.send_if_modified(|checks| {
            let changed = checks.put(name, Some(why.clone())).is_some();
            if changed {
                tracing::debug!(check = name, why, "not ready yet");
            }
            changed
        });
    }

    /// What keeps it from being ready, for people, and whether it stops. What only waits for something else is left out
    /// when that is told.
    pub fn reasons(&self) -> (Vec<String>, bool) {
        let checks = self.0.borrow();
        let bad = checks
            .list
            .iter()
            .filter_map(|(name, why)| Some((name, why.as_deref()?)));
        let (told, waiting): (Vec<_>, Vec<_>) = bad.partition(|(_, why)| *why != NOT_YET);
        let bad = if told.is_empty() { waiting } else { told };
        let words = bad.into_iter().map(|(name, why)| format!("{name}: {why}"));
        (words.collect(), checks.draining)
    }

    /// The daemon stops: not ready from now on.
    pub fn drain(&self) {
        self.0.send_modify(|checks| checks.draining = true);
    }

    /// Every check with the reason why it is bad, and `draining` when the daemon stops.
    pub fn snapshot(&self) -> Vec<Check> {
        let checks = self.0.borrow();
        let mut list = checks.list.clone();
        if checks.draining {
            list.push((DRAINING, Some("the daemon is stopping".to_owned())));
        }
        list
    }

    /// Whether every check is good and the daemon is not stopping.
    pub fn ready(&self) -> bool {
        self.0.borrow().ready()
    }

    /// Returns once the daemon is ready. Never returns when it is draining: bound it, or select it with the end.
    pub async fn wait_ready(&self) {
        // An error would mean that the sender is gone, and `self` holds it.
        let _ = self.0.subscribe().wait_for(Checks::ready).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_all_are_good_and_never_after_drain() {
        let readiness = Readiness::new(&["nats", "store"]);
        assert!(!readiness.ready());
        readiness.set_ok("nats");
        assert_eq!(
            readiness.snapshot(),
            vec![("nats", None), ("store", Some("not yet".to_owned()))]
        );
        let waiting = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.wait_ready().await }
        });
        readiness.set_ok("store");
        waiting.await.unwrap();
        readiness.set_bad("nats", "gone".to_owned());
        assert!(!readiness.ready());
        readiness.set_ok("nats");
        assert!(readiness.ready());
        readiness.drain();
        readiness.set_ok("nats");
        assert!(!readiness.ready());
        assert_eq!(readiness.snapshot().last().map(|(name, _)| *name), Some("draining"));
    }

    #[test]
    fn what_only_waits_for_something_else_is_not_told_as_the_reason() {
        let readiness = Readiness::new(&["identity", "listener"]);
        let told = |readiness: &Readiness| readiness.reasons().0.join("; ");
        assert_eq!(told(&readiness), "identity: not yet; listener: not yet");
        readiness.set_bad("identity", "no document".to_owned());
        assert_eq!(told(&readiness), "identity: no document");
        readiness.set_ok("identity");
        readiness.set_waiting("listener", "NATS is away".to_owned());
        assert_eq!(told(&readiness), "listener: NATS is away");
        readiness.drain();
        assert!(readiness.reasons().1);
    }

    #[test]
    fn only_a_change_wakes_and_an_unlisted_check_counts() {
        let readiness = Readiness::new(&["nats"]);
        readiness.set_ok("nats");
        let mut seen = readiness.0.subscribe();
        seen.mark_unchanged();
        readiness.set_ok("nats");
        assert!(!seen.has_changed().unwrap());
        readiness.set_bad("disk", "full".to_owned());
        assert!(!readiness.ready());
    }
}
