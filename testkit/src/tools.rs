//! Where the programs are that the kit starts.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tool that this machine cannot have, and why.
#[derive(Debug)]
pub struct Missing(pub String);

/// The project's directory.
fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the kit lies in the project")
}

/// The path that `scripts/tools.sh NAME` prints.
///
/// # Errors
/// [`Missing`] when something that the tool needs is not on this machine.
///
/// # Panics
/// When the tool could not be made although everything is here.
pub fn tool(name: &str) -> Result<PathBuf, Missing> {
    let script = project().join("scripts/tools.sh");
    let done = Command::new(&script)
        .arg(name)
        .output()
        .expect("scripts/tools.sh can be started");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    match done.status.code() {
        Some(0) => Ok(PathBuf::from(String::from_utf8_lossy(&done.stdout).trim())),
        Some(3) => Err(Missing(said.trim().to_owned())),
        _ => panic!("scripts/tools.sh {name} failed: {said}"),
    }
}

/// The daemon: `OC_DISCOVERY_BIN`, else what cargo built beside the running test, bench or example.
///
/// # Panics
/// When there is none.
pub fn daemon_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OC_DISCOVERY_BIN").or_else(|| std::env::var_os("CARGO_BIN_EXE_oc-discovery"))
    {
        return PathBuf::from(path);
    }
    let here = std::env::current_exe().expect("the running program has a path");
    let found = here
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("oc-discovery"))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "no oc-discovery beside {}; build it, or set OC_DISCOVERY_BIN",
            here.display()
        )
    })
}
