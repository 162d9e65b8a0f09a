//! The shape of the house, kept: calls go down the list of layers, nothing imports what is above it, and a file that
//! has grown past one idea says why.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

/// From the top to the bottom. `delivery`
/// is above `stream`, since its courier will call StreamService where `publish_common` is.
const LAYERS: [&str; 18] = [
    "main",
    "lib",
    "cli",
    "admin",
    "control",
    "node",
    "pubsub",
    "delivery",
    "stream",
    "discovery",
    "network",
    "bus",
    "store",
    "wire",
    "model",
    "identity",
    "settings",
    "telemetry",
];

/// Longest file that needs no reason, in lines.
const LONG: usize = 400;

/// Files past [`LONG`], each with the reason. One that is shorter again must leave this list.
const LONG_FILES: [(&str, &str); 8] = [
    (
        "src/delivery/memory.rs",
        "one trait with many verbs, and an implementation stands in one place",
    ),
    (
        "src/delivery/sqlite/tests/files.rs",
        "one scene a test, each a way in which a file comes to harm",
    ),
    (
        "src/settings/list.rs",
        "every setting, in one table that nothing repeats",
    ),
    (
        "src/store/contract/search.rs",
        "one case a function, each a rule that every store must keep",
    ),
    (
        "src/store/mongodb/tests.rs",
        "one scene a test, each a way in which a database or its documents are odd",
    ),
    (
        "tests/e2e/delivery.rs",
        "one scene a test, each a way in which something could be lost",
    ),
    (
        "tests/e2e/hostile_nats.rs",
        "one scene a test, each a table of what an app may do wrong",
    ),
    (
        "tests/e2e/hostile_peer.rs",
        "one scene a test, each a table of what a peer may do wrong",
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `dir`, as a path from the project's root.
fn files(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The layer a file of `src` belongs to: its directory, or itself.
fn layer_of(file: &Path) -> String {
    let first = file.iter().nth(1).unwrap();
    Path::new(first).file_stem().unwrap().to_string_lossy().into_owned()
}

fn place(layer: &str) -> usize {
    let place = LAYERS.iter().position(|known| *known == layer);
    place.unwrap_or_else(|| panic!("{layer} has no place among LAYERS yet: say what it may import"))
}

/// The layers that code names by `crate::`, comments left out.
fn named(code: &str) -> Vec<String> {
    let lines = code.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    let mut found = Vec::new();
    for line in lines {
        for after in line.split("crate::").skip(1) {
            let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(!name.is_empty(), "one `use` line for each module, in place of: {line}");
            found.push(name);
        }
    }
    found
}

/// What `layer` imports from above.
fn upward(layer: &str, code: &str) -> Vec<String> {
    let mut above = named(code);
    above.retain(|name| place(name) < place(layer));
    above
}

#[test]
fn nothing_imports_what_is_above_it() {
    let mut wrong = Vec::new();
    for file in files("src") {
        let layer = layer_of(&file);
        for above in upward(&layer, &std::fs::read_to_string(root().join(&file)).unwrap()) {
            wrong.push(format!(
                "{}: {layer} imports {above}, which is above it",
                file.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_upward_import_is_seen_wherever_it_stands() {
    let code = "use crate::telemetry::Metrics;\n// crate::node is only told of\nfn f() { crate::node::start() }\n";
    assert_eq!(upward("bus", code), ["node"]);
    assert!(upward("cli", code).is_empty());
}

#[test]
fn a_long_file_has_a_reason() {
    let all = ["src", "testkit/src", "demo/src", "bench/src", "tests"]
        .map(files)
        .concat();
    let long: Vec<String> = all
        .iter()
        .filter(|file| std::fs::read_to_string(root().join(file)).unwrap().lines().count() > LONG)
        .map(|file| file.display().to_string())
        .collect();
    let reasoned: Vec<&str> = LONG_FILES.iter().map(|(file, _)| *file).collect();
    assert_eq!(
        long, reasoned,
        "files over {LONG} lines (left) and those with a reason (right)"
    );
}
