//! The built program, as people and service managers use it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The program, with nothing of this environment but a home.
fn program(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oc-discovery"));
    command.env_clear().env("HOME", home).current_dir(home).args(arguments);
    command
}

fn done(home: &Path, arguments: &[&str]) -> Output {
    program(home, arguments).output().unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A daemon that is killed when the test ends, however it ends.
struct Daemon {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Daemon {
    /// Started on free ports; `arguments` come after those.
    fn start(home: &Path, arguments: &[&str]) -> Self {
        let mut all = vec![
            "run",
            "--set",
            "admin.listen=127.0.0.1:0",
            "--set",
            "network.listen=/ip4/127.0.0.1/tcp/0",
        ];
        all.extend(arguments);
        let mut child = program(home, &all).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// The first log line with this message; the log ending before is a failure.
    fn line(&mut self, message: &str) -> Value {
        let mut seen = String::new();
        loop {
            let from = seen.len();
            assert!(self.log.read_line(&mut seen).unwrap() > 0, "no {message:?} in:\n{seen}");
            let line: Value = serde_json::from_str(&seen[from..]).unwrap();
            if line["message"].as_str() == Some(message) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn without_a_daemon_the_verbs_that_ask_one_say_so() {
    let home = tempfile::tempdir().unwrap();
    let verbs: [&[&str]; 6] = [
        &["status"],
        &["outbox"],
        &["outbox", "retry", "bob"],
        &["outbox", "drop", "bob", "--id", "x"],
        &["peer", "resync", "bob"],
        &["backup", "copy"],
    ];
    for verb in verbs {
        let mut all = vec!["--set", "state_dir=here"];
        all.extend(verb);
        let output = done(home.path(), &all);
        assert_eq!(status(&output), 1, "{verb:?}: {}", err(&output));
        assert!(
            err(&output).starts_with("no daemon runs on "),
            "{verb:?}: {}",
            err(&output)
        );
        assert_eq!(out(&output), "");
    }
    assert!(!home.path().join("copy").exists());
    for wrong in [
        &["outbox", "retry"][..],
        &["peer", "resync"],
        &["backup"],
        &["outbox", "a", "b"],
    ] {
        assert_eq!(status(&done(home.path(), wrong)), 64, "{wrong:?}");
    }
}

#[test]
fn init_writes_once_and_keeps_what_is_there() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("a");
    let first = done(home.path(), &["init", "--dir", "a", "--name", "Org A"]);
    assert_eq!(status(&first), 0, "{}", err(&first));
    let read = || ["oc-discovery.toml", "node.key", "swarm.psk"].map(|name| std::fs::read(dir.join(name)).unwrap());
    let written = read();
    for name in ["node.key", "swarm.psk"] {
        let mode = std::fs::metadata(dir.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let second = done(home.path(), &["init", "--dir", "a", "--json"]);
    assert_eq!(status(&second), 0, "{}", err(&second));
    let told: Value = serde_json::from_str(&out(&second)).unwrap();
    assert_eq!(told["name"], "Org A");
    assert!(
        told["files"]
            .as_array()
            .unwrap()
            .iter()
            .all(|file| file["written"] == false)
    );
    assert!(out(&first).contains(told["peer_id"].as_str().unwrap()));
    assert_eq!(read(), written);

    // Another name or another network is told, not written.
    let other = done(home.path(), &["init", "--dir", "a", "--name", "Org B"]);
    assert_eq!(status(&other), 1);
    assert!(err(&other).contains("it is not overwritten"), "{}", err(&other));
    let set = done(
        home.path(),
        &["init", "--dir", "a", "--set", "name=Org B", "--set", "limits.depth=64"],
    );
    assert_eq!(status(&set), 0, "{}", err(&set));
    let kept = "oc-discovery.toml is there already and is not overwritten: name stays \"Org A\" (";
    assert!(
        err(&set).contains(kept) && err(&set).lines().count() == 1,
        "{}",
        err(&set)
    );
    assert!(
        out(&set).contains("Org A") && !out(&set).contains("Org B"),
        "{}",
        out(&set)
    );
    done(home.path(), &["init", "--dir", "b"]);
    let other = done(home.path(), &["init", "--dir", "a", "--psk", "b/swarm.psk"]);
    assert_eq!(status(&other), 1);
    assert!(
        err(&other).contains("another key than the given one"),
        "{}",
        err(&other)
    );
    assert_eq!(read(), written);

    // A given pre-shared key is taken over.
    let joined = done(home.path(), &["init", "--dir", "c", "--psk", "a/swarm.psk"]);
    assert_eq!(status(&joined), 0, "{}", err(&joined));
    assert_eq!(std::fs::read(home.path().join("c/swarm.psk")).unwrap(), written[2]);
}

#[test]
fn init_writes_what_it_was_told_and_nothing_when_that_is_wrong() {
    let home = tempfile::tempdir().unwrap();
    let wrong = done(home.path(), &["init", "--dir", "a", "--set", "limits.deph=3"]);
    assert_eq!(status(&wrong), 64);
    assert!(!home.path().join("a").exists());
    let right = done(
        home.path(),
        &[
            "init",
            "--dir",
            "a",
            "--set",
            "network.private=false",
            "--set",
            "limits.depth=32",
        ],
    );
    assert_eq!(status(&right), 0, "{}", err(&right));
    assert!(!home.path().join("a/swarm.psk").exists());
    let shown = done(
        home.path(),
        &["config", "show", "--config", "a/oc-discovery.toml", "--json"],
    );
    let shown: Value = serde_json::from_str(&out(&shown)).unwrap();
    let of = |key: &str| {
        shown
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["key"] == key)
            .unwrap()
            .clone()
    };
    assert_eq!(of("limits.depth")["value"], "32");
    assert_eq!(of("network.private")["value"], "false");
    assert!(
        of("limits.depth")["origin"]
            .as_str()
            .unwrap()
            .starts_with("a/oc-discovery.toml:")
    );
}

#[test]
fn id_is_json_and_needs_a_key() {
    let home = tempfile::tempdir().unwrap();
    let missing = done(home.path(), &["id"]);
    assert_eq!(status(&missing), 1);
    assert!(err(&missing).contains("oc-discovery init"), "{}", err(&missing));
    done(home.path(), &["init", "--dir", "."]);
    // Found in the working directory.
    let id = done(home.path(), &["id", "--json"]);
    assert_eq!(status(&id), 0, "{}", err(&id));
    let id: Value = serde_json::from_str(&out(&id)).unwrap();
    let keys: Vec<&str> = id.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["name", "did", "peer_id", "public_key", "listen", "announce"]);
    assert!(id["peer_id"].as_str().unwrap().starts_with("12D3KooW"));
    assert_eq!(id["listen"][0], "/ip4/0.0.0.0/tcp/4001");
}

#[test]
fn config_check_tells_every_mistake_with_its_line() {
    let home = tempfile::tempdir().unwrap();
    let text = "nam = \"x\"\n\n[limits]\ndepth = 0\n[log]\nlevel = \"inof\"\nformat = \"xml\"\n";
    std::fs::write(home.path().join("s.toml"), text).unwrap();
    let arguments = ["config", "check", "--config", "s.toml", "--set", "search.timeou=1s"];
    let checked = program(home.path(), &arguments)
        .env("OCDISCOVERY_NATS_URLS", "x")
        .output()
        .unwrap();
    assert_eq!(status(&checked), 64);
    let told = out(&checked);
    let expected = [
        "s.toml:1: nam: unknown setting; did you mean `name`?",
        "s.toml:4: limits.depth: 0 is too little; 8 at least",
        "s.toml:6: log.level: `inof` is no level; write one of off, error, warn, info, debug, trace, or `module=level`",
        "s.toml:7: log.format: `xml` is none of auto, text, json",
        "environment OCDISCOVERY_NATS_URLS: unknown variable; did you mean `OCDISCOVERY_NATS_URL`?",
        "--set: search.timeou: unknown setting; did you mean `search.timeout`?",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
    let json = done(home.path(), &["config", "check", "--config", "s.toml", "--json"]);
    let json: Value = serde_json::from_str(&out(&json)).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["mistakes"].as_array().unwrap().len(), 4);
    assert_eq!(status(&done(home.path(), &["config", "check"])), 0);
    // The daemon says the same and does not start.
    let run = done(home.path(), &["--config", "s.toml"]);
    assert_eq!(status(&run), 64);
    assert!(err(&run).contains("s.toml:4: limits.depth"), "{}", err(&run));
}

#[test]
fn wrong_usage_is_64_and_help_is_0() {
    let home = tempfile::tempdir().unwrap();
    for wrong in [&["--bogus"][..], &["nothing"], &["config"], &["init", "--dir"]] {
        let output = done(home.path(), wrong);
        assert_eq!((status(&output), out(&output)), (64, String::new()), "{wrong:?}");
    }
    for right in ["--help", "--version"] {
        let output = done(home.path(), &[right]);
        assert_eq!((status(&output), err(&output)), (0, String::new()), "{right}");
    }
}

#[test]
fn a_key_that_others_can_read_and_a_missing_network_key_are_refused() {
    let home = tempfile::tempdir().unwrap();
    done(home.path(), &["init", "--dir", "."]);
    let key = home.path().join("node.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    for verb in ["run", "id"] {
        let refused = done(home.path(), &[verb]);
        assert_eq!(status(&refused), 1);
        assert!(
            err(&refused).contains("others have access to it (mode 0644)"),
            "{}",
            err(&refused)
        );
    }
    // A log that is off hides no failed start.
    let silent = done(home.path(), &["run", "--set", "log.level=off"]);
    assert_eq!((status(&silent), err(&silent).lines().count()), (1, 1), "{silent:?}");
    assert!(err(&silent).contains("others have access to it"), "{}", err(&silent));
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::remove_file(home.path().join("swarm.psk")).unwrap();
    let refused = done(home.path(), &["run"]);
    assert_eq!(status(&refused), 1);
    assert!(
        err(&refused).contains("there is no pre-shared key at"),
        "{}",
        err(&refused)
    );
}

#[test]
fn a_daemon_lives_alone_answers_reloads_and_stops() {
    let home = tempfile::tempdir().unwrap();
    done(home.path(), &["init", "--dir", "."]);
    let mut daemon = Daemon::start(home.path(), &[]);
    let address = daemon.line("probes and metrics")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    let listen = format!("admin.listen={address}");

    let health = done(home.path(), &["health", "--set", &listen]);
    assert_eq!((status(&health), out(&health).as_str()), (0, "alive\n"));
    let file = home.path().join("oc-discovery.toml");
    let settings = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("nmae = \"x\"\n{settings}")).unwrap();
    let health = done(home.path(), &["health", "--set", &listen]);
    assert_eq!((status(&health), out(&health).as_str()), (0, "alive\n"), "it runs on");
    assert!(String::from_utf8_lossy(&health.stderr).contains("nmae"), "{health:?}");
    std::fs::write(&file, settings).unwrap();
    let again = done(home.path(), &["init", "--dir", "."]);
    assert_eq!(status(&again), 0, "it keeps what a running daemon uses: {again:?}");
    let ready = done(home.path(), &["health", "--ready", "--set", &listen]);
    assert_eq!(status(&ready), 1, "there is no NATS server");
    assert!(
        out(&ready).contains("[-] nats: ") && out(&ready).ends_with("not ready\n"),
        "{}",
        out(&ready)
    );

    let second = done(home.path(), &["run", "--set", &listen]);
    assert_eq!(status(&second), 1);
    let told = format!("is in use by process {}", daemon.child.id());
    assert!(err(&second).contains(&told), "{}", err(&second));

    let port_taken = done(
        home.path(),
        &[
            "run",
            "--set",
            &listen,
            "--set",
            "state_dir=other",
            "--set",
            "network.private=false",
        ],
    );
    assert_eq!(status(&port_taken), 1);
    assert!(
        err(&port_taken).contains("cannot be listened on"),
        "{}",
        err(&port_taken)
    );

    let file = home.path().join("oc-discovery.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("#max_results = 1000", "max_results = 10")
            .replace("#depth = 64", "depth = 32"),
    )
    .unwrap();
    daemon.signal(Signal::HUP);
    assert_eq!(daemon.line("changed")["setting"], "search.max_results");
    assert_eq!(
        daemon.line("changed in its source: it needs a restart")["setting"],
        "limits.depth"
    );
    daemon.line("settings read again");
    std::fs::write(&file, "nonsense = 1\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.line("the settings were not taken: the old ones stay");

    daemon.signal(Signal::TERM);
    daemon.line("stopped");
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
    let gone = done(home.path(), &["health", "--set", &listen]);
    assert_eq!(status(&gone), 1, "nobody answers: {gone:?}");
    std::fs::write(&file, text).unwrap();
    assert_eq!(status(&done(home.path(), &["health", "--set", &listen])), 1);
}
