//! Which settings can change while the daemon runs (SIGHUP), and taking those.

use super::Loaded;

/// The settings that are taken without a restart. Everything else is read once, at the start.
pub(super) const LIVE: [&str; 4] = ["log.level", "network.announce", "search.timeout", "search.max_results"];

/// A setting that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub key: &'static str,
    /// Whether it was taken; otherwise it needs a restart.
    pub taken: bool,
}

/// The running settings with what may change taken from `fresh`, and every setting that differs. A change of nothing
/// but user-info is not seen: it needs a restart anyway.
pub fn take_changes(running: &Loaded, fresh: &Loaded) -> (Loaded, Vec<Change>) {
    let mut changes = Vec::new();
    let mut next = running.clone();
    for (old, new) in next
        .shown
        .iter_mut()
        .zip(&fresh.shown)
        .filter(|(old, new)| old.value != new.value)
    {
        let taken = LIVE.contains(&new.key);
        if taken {
            *old = new.clone();
        }
        changes.push(Change { key: new.key, taken });
    }
    next.settings.log.level.clone_from(&fresh.settings.log.level);
    next.settings
        .network
        .announce
        .clone_from(&fresh.settings.network.announce);
    next.settings.search = fresh.settings.search.clone();
    (next, changes)
}
