//! The defaults that depend on something: the host, the environment, another setting.

use std::path::Path;

use super::forms::one;
use super::reading::{Raw, Reading};

/// The host's name.
pub(super) fn host_name(_: &Reading<'_>) -> Result<Raw, String> {
    match rustix::system::uname().nodename().to_str() {
        Ok(name) if !name.trim().is_empty() => Ok(one(name)),
        _ => Err("the host has no readable name: set it".to_owned()),
    }
}

/// Where a service manager or the user's desktop wants state to be.
pub(super) fn default_state_dir(reading: &Reading<'_>) -> Result<Raw, String> {
    // A service manager may name several, with colons between.
    if let Some(dir) = reading
        .variable("STATE_DIRECTORY")
        .and_then(|dirs| dirs.split(':').next())
    {
        return Ok(one(dir));
    }
    let xdg = reading
        .variable("XDG_STATE_HOME")
        .map(Path::new)
        .filter(|dir| dir.is_absolute())
        .map(Path::to_owned);
    let home = || {
        reading
            .variable("HOME")
            .map(|home| Path::new(home).join(".local/state"))
    };
    match xdg.or_else(home) {
        Some(dir) => Ok(one(&dir.join("oc-discovery").display().to_string())),
        None => Err("neither STATE_DIRECTORY nor HOME is set: set `state_dir`".to_owned()),
    }
}

/// Who owns the documents when nobody says: whose database it is.
pub(super) fn default_writes(reading: &Reading<'_>) -> Result<Raw, String> {
    let database = matches!(reading.given("store.url"), Some(Raw::One(url)) if url.starts_with("mongodb"));
    Ok(one(if database { "apps" } else { "daemon" }))
}
