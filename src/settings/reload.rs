//! Which settings can change while the daemon runs (SIGHUP), and taking those.

use super::{Loaded, Settings};

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

/// The running settings with what may change taken from `fresh`, and every setting that differs, be it only in a
/// password that is not shown.
pub fn take_changes(running: &Loaded, fresh: &Loaded) -> (Loaded, Vec<Change>) {
    let hidden = differ_unseen(&running.settings, &fresh.settings);
    let mut changes = Vec::new();
    let mut next = running.clone();
    for (old, new) in next
        .shown
        .iter_mut()
        .zip(&fresh.shown)
        .filter(|(old, new)| old.value != new.value || hidden.contains(&new.key))
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

/// Addresses that differ, be it in what is hidden of them.
fn differ_unseen(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let addresses = [
        ("nats.url", old.nats.url != new.nats.url),
        ("store.url", old.store.url != new.store.url),
    ];
    let differ = addresses.into_iter().filter(|(_, differs)| *differs);
    differ.map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Sources, load};

    #[test]
    fn a_password_that_changed_inside_an_address_is_told_and_not_shown() {
        let loaded = |password: &str| {
            let file =
                format!("name = 'n'\nstate_dir = '/s'\n[store]\nurl = 'mongodb://user:{password}@host/database'\n");
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("settings.toml");
            std::fs::write(&path, file).unwrap();
            load(&Sources {
                config: Some(path),
                set: Vec::new(),
                env: Vec::new(),
            })
            .unwrap()
        };
        let (running, fresh) = (loaded("pass-one"), loaded("pass-two"));
        let (next, changes) = take_changes(&running, &fresh);
        let told = Change {
            key: "store.url",
            taken: false,
        };
        assert_eq!(changes, [told]);
        assert!(next.settings == running.settings && !format!("{:?}", next.shown).contains("pass-two"));
        assert!(take_changes(&running, &loaded("pass-one")).1.is_empty());
    }
}
