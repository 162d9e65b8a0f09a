//! The settings as a whole: order of the sources, mistakes, and the texts made from the list.

use std::path::Path;
use std::time::Duration;

use super::list::rows;
use super::sources::env_name;
use super::*;

fn sources(set: &[&str], env: &[(&str, &str)]) -> Sources {
    let mut env: Vec<(String, String)> = env
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    env.push(("HOME".to_owned(), "/home/someone".to_owned()));
    Sources {
        config: None,
        set: set.iter().map(|text| text.to_string()).collect(),
        env,
    }
}

fn with_file(text: &str, set: &[&str], env: &[(&str, &str)]) -> Result<Loaded, Mistakes> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.toml");
    std::fs::write(&path, text).unwrap();
    load(&Sources {
        config: Some(path),
        ..sources(set, env)
    })
}

fn mistakes_of(result: Result<Loaded, Mistakes>) -> Vec<String> {
    let all = result.expect_err("there are mistakes").to_string();
    all.lines()
        .map(|line| line.rsplit_once("test.toml:").map_or(line, |(_, rest)| rest).to_owned())
        .collect()
}

fn origin(loaded: &Loaded, key: &str) -> String {
    let origin = loaded
        .shown
        .iter()
        .find(|shown| shown.key == key)
        .unwrap()
        .origin
        .to_string();
    origin
        .rsplit_once('/')
        .map_or(origin.clone(), |(_, name)| name.to_owned())
}

#[test]
fn defaults_are_the_documented_ones() {
    let loaded = load(&sources(&[], &[])).unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.state_dir, Path::new("/home/someone/.local/state/oc-discovery"));
    assert_eq!(settings.identity.key_file, settings.state_dir.join("node.key"));
    assert_eq!(
        settings.store.url,
        StoreUrl::Sqlite(settings.state_dir.join("documents.db"))
    );
    assert_eq!(settings.store.writes, Writes::Daemon);
    assert_eq!(settings.nats.url, ["nats://127.0.0.1:4222"]);
    assert_eq!(settings.nats.subjects.propalgation_event, "propalgation_event");
    assert_eq!(settings.shutdown_grace, Duration::from_secs(10));
    assert_eq!(settings.limits.document_bytes, 512 * 1024);
    assert_eq!(settings.limits.intake_messages, 131_072);
    assert_eq!(settings.limits.dial_backoff_max, Duration::from_secs(300));
    assert_eq!(settings.admin.listen, Some("127.0.0.1:8080".parse().unwrap()));
    assert!(settings.network.private);
    assert!(!settings.name.is_empty());
    assert_eq!(loaded.shown.len(), rows().len());
}

#[test]
fn the_stronger_source_wins_and_is_shown() {
    let file = "name = \"a\"\n[limits]\ndepth = 32\npeers = 1000\n[search]\ntimeout = \"5s\"\n";
    let env = [
        ("OCDISCOVERY_LIMITS_PEERS", "2000"),
        ("OCDISCOVERY_SEARCH_TIMEOUT", "6s"),
        ("OTHER", "x"),
    ];
    let loaded = with_file(file, &["search.timeout=7s"], &env).unwrap();
    assert_eq!(loaded.settings.limits.depth, 32);
    assert_eq!(loaded.settings.limits.peers, 2000);
    assert_eq!(loaded.settings.search.timeout, Duration::from_secs(7));
    assert_eq!(origin(&loaded, "limits.depth"), "test.toml:3");
    assert_eq!(origin(&loaded, "limits.peers"), "environment OCDISCOVERY_LIMITS_PEERS");
    assert_eq!(origin(&loaded, "search.timeout"), "--set");
    assert_eq!(origin(&loaded, "log.level"), "default");
}

#[test]
fn all_mistakes_are_told_at_once_with_line_and_nearest_name() {
    let file = "nmae = \"a\"\nlimits = 5\n[netwrok]\nlisten = [\"/ip4/0.0.0.0/udp/1\"]\n[network]\nlisten = \"/ip4/1.2.3.4/udp/1\"\n\
                [nats]\nuser = \"u\"\nurl = \"http://secret:word@x\"\n[search]\ntimeout = 5\nmax_results = 1.5\n[name]\nx = 1\n";
    let found = mistakes_of(with_file(
        file,
        &["log.levl=info", "nothing"],
        &[("OCDISCOVERY_LOG_LEVELL", "info")],
    ));
    let expected = [
        "1: nmae: unknown setting; did you mean `name`?",
        "2: limits: is a section: write `[limits]`",
        "4: netwrok.listen: unknown setting; did you mean `network.listen`?",
        "6: network.listen: `/ip4/1.2.3.4/udp/1` cannot be listened on; write `/ip4/ADDRESS/tcp/PORT`",
        "9: nats.url: an address is not of the form `nats://host:port`",
        "11: search.timeout: `5` is no duration; write `500ms`, `10s` or `5m`, for example",
        "12: search.max_results: takes no float",
        "13: name: takes a value, it is no section",
        "environment OCDISCOVERY_LOG_LEVELL: unknown variable; did you mean `OCDISCOVERY_LOG_LEVEL`?",
        "--set: log.levl: unknown setting; did you mean `log.level`?",
        "--set: needs `key=value`",
    ];
    assert_eq!(found, expected);
}

#[test]
fn torn_toml_is_told_with_its_line_and_the_rest_is_still_checked() {
    let found = mistakes_of(with_file(
        "name = \"a\"\n[limits\ndepth = 1\npeers = = 3\nx y\n",
        &[],
        &[],
    ));
    assert!(found.len() >= 2, "{found:?}");
    assert!(found[0].starts_with("2: "), "{found:?}");
    assert!(mistakes_of(with_file("name = \"a\"\nname = \"b\"\n", &[], &[]))[0].starts_with("2: "));
}

#[test]
fn a_named_file_must_be_there() {
    let missing = Sources {
        config: Some("/nonexistent/x.toml".into()),
        ..sources(&[], &[])
    };
    assert!(
        load(&missing)
            .unwrap_err()
            .to_string()
            .starts_with("/nonexistent/x.toml: cannot be read: ")
    );
}

#[test]
fn what_must_hold_between_settings() {
    let wrong = [
        (
            "nats.subjects.create_resource=search_event",
            "is the same as nats.subjects.create_resource",
        ),
        ("nats.tls.cert_file=/c", "needs nats.tls.key_file as well"),
        ("nats.password_file=/c", "needs nats.user as well"),
        (
            "limits.message_bytes=1KiB",
            "must not be less than limits.document_bytes",
        ),
        (
            "limits.connections=2",
            "must not be less than limits.connections_per_peer",
        ),
    ];
    for (set, expected) in wrong {
        let told = load(&sources(&[set], &[])).unwrap_err().to_string();
        assert!(told.contains(expected), "{set}: {told}");
    }
    let two_ways = ["nats.creds_file=/c", "nats.token_file=/t"];
    assert!(
        load(&sources(&two_ways, &[]))
            .unwrap_err()
            .to_string()
            .contains("only one way to log in")
    );
}

#[test]
fn what_belongs_to_one_kind_of_store_is_refused_with_the_other() {
    for (set, expected) in [
        (["store.manage_indexes=true", "name=n"], "for mongodb alone"),
        (["store.password_file=/p", "name=n"], "for mongodb alone"),
        (["store.password_file=/p", "store.url=mongodb://h/db"], "needs a user"),
    ] {
        let told = load(&sources(&set, &[])).unwrap_err();
        assert!(told.to_string().contains(expected), "{told}");
    }
}

#[test]
fn passwords_are_never_shown_and_never_taken_from_the_command_line() {
    let loaded = load(&sources(
        &[],
        &[("OCDISCOVERY_NATS_URL", "nats://u:s3cret@h:4222,tls://h2")],
    ))
    .unwrap();
    assert_eq!(loaded.settings.nats.url, ["nats://u:s3cret@h:4222", "tls://h2"]);
    assert!(!format!("{loaded:?}").contains("s3cret"));
    let told = load(&sources(&["nats.url=nats://u:s3cret@h:4222"], &[]))
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("a command line can be read by others") && !told.contains("s3cret"),
        "{told}"
    );
    let told = load(&sources(&[], &[("OCDISCOVERY_MONGOURL", "mongodb://u:s3c/ret@h/db")]))
        .unwrap_err()
        .to_string();
    assert!(!told.contains("s3c"), "{told}");
}

#[test]
fn names_of_other_services_work() {
    let env = [
        ("OCDISCOVERY_NATSURL", "nats://n:4222"),
        ("OCDISCOVERY_LOGLEVEL", "DEBUG"),
        ("OCDISCOVERY_PORT", "9000"),
    ];
    let loaded = load(&sources(&[], &env)).unwrap();
    assert_eq!(loaded.settings.nats.url, ["nats://n:4222"]);
    assert_eq!(loaded.settings.log.level, "debug");
    assert_eq!(loaded.settings.admin.listen, Some("127.0.0.1:9000".parse().unwrap()));

    let loaded = with_file("[admin]\nlisten = \"0.0.0.0:1\"\n", &[], &env).unwrap();
    assert_eq!(loaded.settings.admin.listen, Some("0.0.0.0:9000".parse().unwrap()));

    let own = [
        ("OCDISCOVERY_NATSURL", "nats://n:4222"),
        ("OCDISCOVERY_NATS_URL", "nats://own:4222"),
    ];
    assert_eq!(
        load(&sources(&[], &own)).unwrap().settings.nats.url,
        ["nats://own:4222"]
    );

    let mongo = [
        ("OCDISCOVERY_MONGOURL", "mongodb://m:27017/?replicaSet=r"),
        ("OCDISCOVERY_MONGODATABASE", "db"),
    ];
    let loaded = load(&sources(&[], &mongo)).unwrap();
    let url = "mongodb://m:27017/db?replicaSet=r".to_owned();
    assert_eq!(loaded.settings.store.url, StoreUrl::MongoDb(url));
    assert_eq!(loaded.settings.store.writes, Writes::Apps, "their database");
    assert!(load(&sources(&[], &[("OCDISCOVERY_MONGODATABASE", "db")])).is_err());
}

#[test]
fn empty_turns_off_what_is_optional() {
    assert_eq!(
        load(&sources(&["admin.listen="], &[])).unwrap().settings.admin.listen,
        None
    );
    assert!(load(&sources(&["network.listen="], &[])).is_err());
    assert!(load(&sources(&["name="], &[])).is_err());
}

#[test]
fn the_state_directory_follows_the_environment() {
    let dir = |env: &[(&str, &str)]| {
        load(&sources(&[], env))
            .unwrap()
            .settings
            .state_dir
            .display()
            .to_string()
    };
    assert_eq!(
        dir(&[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"), ("XDG_STATE_HOME", "/x")]),
        "/var/lib/a"
    );
    assert_eq!(dir(&[("XDG_STATE_HOME", "/x")]), "/x/oc-discovery");
    assert_eq!(
        dir(&[("XDG_STATE_HOME", "relative")]),
        "/home/someone/.local/state/oc-discovery"
    );
    assert!(
        load(&Sources::default())
            .unwrap_err()
            .to_string()
            .contains("set `state_dir`")
    );
}

#[test]
fn only_what_may_change_is_taken_while_running() {
    let running = load(&sources(&[], &[])).unwrap();
    let set = [
        "log.level=debug",
        "search.timeout=3s",
        "search.max_results=5",
        "limits.depth=32",
        "name=other",
    ];
    let fresh = load(&sources(&set, &[])).unwrap();
    let (next, changes) = take_changes(&running, &fresh);
    let mut expected = running.settings.clone();
    expected.log.level = "debug".to_owned();
    expected.search.timeout = Duration::from_secs(3);
    expected.search.max_results = 5;
    assert!(next.settings == expected);
    let left: Vec<&str> = changes
        .iter()
        .filter(|change| !change.taken)
        .map(|change| change.key)
        .collect();
    assert_eq!(left, ["name", "limits.depth"]);
    assert_eq!(changes.len(), 5);
    assert_eq!(take_changes(&next, &fresh).1.len(), 2);
}

#[test]
fn names_in_the_environment_are_distinct() {
    let mut names: Vec<String> = rows().iter().map(|row| env_name(row.key)).collect();
    names.extend(super::sources::OTHER_NAMES.iter().map(|(name, _)| name.to_string()));
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

/// Compares a file of the project with what the list makes of it; `UPDATE_DOCS=1` writes it.
fn holds(path: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == made,
        "{} is not what the list says; run the tests with UPDATE_DOCS=1",
        path.display()
    );
}

#[test]
fn the_reference_is_the_list() {
    holds("docs/settings.md", &reference_markdown());
}

#[test]
fn the_commented_file_is_the_list() {
    holds("config/oc-discovery.toml", &commented_file(&[]));
}

#[test]
fn the_commented_file_loads_and_every_commented_line_is_a_setting_at_its_default() {
    let text = commented_file(&[]);
    let plain = load(&sources(&[], &[])).unwrap();
    assert!(with_file(&text, &[], &[]).unwrap().settings == plain.settings);

    let is_setting = |line: &&str| line.starts_with('#') && line.chars().nth(1).is_some_and(char::is_alphabetic);
    assert_eq!(text.lines().filter(is_setting).count(), rows().len());
    let open: Vec<&str> = text
        .lines()
        .map(|line| {
            if is_setting(&line) {
                line.trim_start_matches('#')
            } else {
                line
            }
        })
        .collect();
    let state_dir = format!("state_dir={}", plain.settings.state_dir.display());
    let name = format!("name={}", plain.settings.name);
    let opened = with_file(&open.join("\n"), &[&state_dir, &name], &[]).unwrap();
    assert!(opened.settings == plain.settings);
    let from_file = opened
        .shown
        .iter()
        .filter(|shown| matches!(shown.origin, Origin::File { .. }))
        .count();
    assert_eq!(from_file, rows().len() - 2);
}

#[test]
fn values_given_to_the_commented_file_are_set_in_it() {
    let values = [
        ("name", "Org \"A\"".to_owned()),
        ("state_dir", "/srv/a".to_owned()),
        ("network.private", "false".to_owned()),
    ];
    let loaded = with_file(&commented_file(&values), &[], &[]).unwrap();
    assert_eq!(loaded.settings.name, "Org \"A\"");
    assert_eq!(loaded.settings.state_dir, Path::new("/srv/a"));
    assert!(!loaded.settings.network.private);
}

#[test]
fn bounds_that_leave_no_room_for_base64_are_doubted_and_taken() {
    let doubts = |set: &[&str]| doubts(&load(&sources(set, &[])).unwrap().settings);
    assert!(doubts(&[]).is_empty());
    let tight = doubts(&["limits.document_bytes=1MiB"]);
    assert_eq!(tight.len(), 2);
    assert!(tight[0].contains("limits.message_bytes is 1048576 bytes") && tight[0].contains("needs 1865504"));
    assert!(tight[1].contains("limits.line_bytes is 1048576 bytes") && tight[1].contains("needs 1399128"));
    assert!(doubts(&["limits.line_bytes=600KiB"])[0].contains("needs 700076"));
}
