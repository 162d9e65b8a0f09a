//! What an operator, or a disk, can have wrong: the daemon says what and how to mend it, and ends with status 1 or 64.

use oc_testkit::{Federation, NatsServer, Peer, Process};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whoever owns nothing.
const NOBODY: u32 = 65_534;

/// The end of a daemon that cannot start: its status and its last words.
async fn end(peer: &mut Peer) -> (i32, String) {
    let code = peer.exit_code().await;
    (code, peer.logs().join("\n"))
}

/// Asserts that the daemon ends with status 1 for this reason, says it in one line, and did not break; returns its words.
async fn ends(peer: &mut Peer, words: &[&str]) -> String {
    let (code, told) = end(peer).await;
    assert_eq!(code, 1, "{told}");
    assert!(!told.contains("panicked"), "{told}");
    let fits = |line: &&str| line.contains("ERROR") && words.iter().all(|word| line.contains(word));
    assert_eq!(told.lines().filter(fits).count(), 1, "one line with {words:?}:\n{told}");
    told
}

/// A peer that was up once, and its store's file.
async fn stopped_peer(net: &Federation) -> (Peer, PathBuf) {
    let mut alice = net.peer("alice").start().await;
    assert_eq!(alice.stop().await, 0);
    let store = alice.dir().join("documents.db");
    // All of it in the one file.
    let open = rusqlite::Connection::open(&store).unwrap();
    open.pragma_update(None, "journal_mode", "DELETE").unwrap();
    (alice, store)
}

fn write_at(file: &Path, at: u64, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

#[tokio::test]
async fn a_store_that_is_no_file() {
    let net = Federation::new();
    let (mut alice, store) = stopped_peer(&net).await;
    std::fs::remove_file(&store).unwrap();
    std::fs::create_dir(&store).unwrap();
    alice.run();
    ends(&mut alice, &["store.url", "documents.db", "cannot open"]).await;
    // In a directory that is not there.
    alice.set(
        "store.url",
        format!("sqlite:{}", alice.dir().join("none/documents.db").display()),
    );
    alice.run();
    ends(
        &mut alice,
        &["store.url", "none/documents.db", "its directory must exist"],
    )
    .await;
}

#[tokio::test]
async fn a_store_of_something_else() {
    let net = Federation::new();
    let (mut alice, store) = stopped_peer(&net).await;
    std::fs::write(&store, "these are no documents, and no database ".repeat(300)).unwrap();
    alice.run();
    ends(&mut alice, &["is not a document store of this daemon", "move it away"]).await;
}

#[tokio::test]
async fn a_store_of_another_program() {
    let net = Federation::new();
    let (mut alice, store) = stopped_peer(&net).await;
    // The application's mark in the header of the file.
    write_at(&store, 68, b"NOPE");
    alice.run();
    ends(&mut alice, &["is not a document store of this daemon", "move it away"]).await;
}

#[tokio::test]
async fn a_store_of_a_newer_version() {
    let net = Federation::new();
    let (mut alice, store) = stopped_peer(&net).await;
    // The format's number in the header of the file.
    write_at(&store, 60, &77_u32.to_be_bytes());
    alice.run();
    ends(&mut alice, &["format 77", "use the newer version"]).await;
    // Nothing was written into it.
    let mut number = [0; 4];
    let mut file = std::fs::File::open(&store).unwrap();
    file.seek(SeekFrom::Start(60)).unwrap();
    file.read_exact(&mut number).unwrap();
    assert_eq!(u32::from_be_bytes(number), 77);
}

#[tokio::test]
async fn a_damaged_store() {
    let net = Federation::new();
    let (mut alice, store) = stopped_peer(&net).await;
    // All pages but the first one, whose header is as it was.
    let size = std::fs::metadata(&store).unwrap().len();
    write_at(&store, 4096, &vec![0xa5; usize::try_from(size - 4096).unwrap()]);
    alice.run();
    ends(
        &mut alice,
        &["document store", "is damaged", "put a backup in its place"],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_cannot_be_written() {
    let net = Federation::new();
    let (alice, store) = stopped_peer(&net).await;
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    // No mode keeps root from writing: what root runs is run by nobody here, who owns all but the store.
    let is_root = rustix::process::geteuid().is_root();
    let kept = net.dir().join("kept");
    std::fs::create_dir(&kept).unwrap();
    let kept_store = kept.join("documents.db");
    std::fs::copy(&store, &kept_store).unwrap();
    let mut command = if is_root {
        let daemon = net.dir().join("oc-discovery");
        if std::fs::hard_link(net.binary(), &daemon).is_err() {
            std::fs::copy(net.binary(), &daemon).unwrap();
        }
        mode(net.dir(), 0o755);
        for entry in std::fs::read_dir(alice.dir()).unwrap() {
            chown(entry.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        chown(alice.dir(), Some(NOBODY), Some(NOBODY)).unwrap();
        let mut command = Command::new(daemon);
        command.uid(NOBODY).gid(NOBODY);
        command
    } else {
        Command::new(net.binary())
    };
    mode(&kept_store, 0o444);
    mode(&kept, 0o555);
    let set = format!("store.url=sqlite:{}", kept_store.display());
    let run = command
        .arg("run")
        .arg("--config")
        .arg(alice.config())
        .args(["--set", &set]);
    let mut daemon = Process::start("a daemon with a read-only store", run.env_clear());
    let ended = daemon.ended().await;
    let told = daemon.err().join("\n");
    // So that what is temporary can be removed.
    mode(&kept, 0o755);
    assert_eq!(ended.code(), Some(1), "{told}");
    assert!(
        told.contains("is read-only; make the file and its directory writable"),
        "{told}"
    );
    assert!(!told.contains("panicked"), "{told}");
}

#[tokio::test]
async fn a_port_that_somebody_else_listens_on() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let port = alice.identity().address.rsplit('/').next().unwrap().to_owned();
    let mut bob = net
        .peer("bob")
        .set("network.listen", vec![alice.identity().address.clone()])
        .launch()
        .await;
    ends(&mut bob, &["network.listen", &port, "in use"]).await;
    let admin = format!("127.0.0.1:{}", alice.admin_port());
    let mut carol = net.peer("carol").set("admin.listen", admin.clone()).launch().await;
    ends(&mut carol, &["admin.listen", &admin, "in use"]).await;
    // An address that this host does not have.
    let mut dave = net
        .peer("dave")
        .set("network.listen", vec!["/ip4/203.0.113.7/tcp/4001"])
        .launch()
        .await;
    ends(&mut dave, &["network.listen", "203.0.113.7"]).await;
    assert!(alice.is_ready().await);
    // One port for both kinds of address is no conflict with oneself.
    let port = oc_testkit::free_port();
    let both = ["/ip4/0.0.0.0", "/ip6/::"].map(|host| format!("{host}/tcp/{port}"));
    let mut erin = net.peer("erin").set("network.listen", both.to_vec()).start().await;
    let mut frank = net
        .peer("frank")
        .set("network.listen", vec![both[1].clone()])
        .launch()
        .await;
    ends(&mut frank, &["network.listen", &both[1], "in use"]).await;
    // Nor is one with the connections of the daemon that just ended there.
    erin.kill9();
    erin.restart().await;
}

#[tokio::test]
async fn keys_that_are_none() {
    let net = Federation::new();
    let mut alice = net.peer("alice").start().await;
    assert_eq!(alice.stop().await, 0);
    let (key, psk) = (alice.dir().join("node.key"), alice.dir().join("swarm.psk"));
    let (good_key, good_psk) = (std::fs::read(&key).unwrap(), std::fs::read(&psk).unwrap());
    let pem = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let big = "x".repeat(10 << 20);
    for wrong in ["", "hello", pem, &big, "\u{0}\u{0}"] {
        std::fs::write(&key, wrong).unwrap();
        alice.run();
        ends(&mut alice, &["node.key"]).await;
    }
    std::fs::remove_file(&key).unwrap();
    std::fs::create_dir(&key).unwrap();
    alice.run();
    ends(&mut alice, &["node.key"]).await;
    std::fs::remove_dir(&key).unwrap();
    std::fs::write(&key, &good_key).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let base64 = "/key/swarm/psk/1.0.0/\n/base64/\nAAAA\n";
    let short = "/key/swarm/psk/1.0.0/\n/base16/\nabcd\n";
    for wrong in ["", "hello", base64, short, &big] {
        std::fs::write(&psk, wrong).unwrap();
        alice.run();
        ends(&mut alice, &["swarm.psk"]).await;
    }
    std::fs::write(&psk, &good_psk).unwrap();
    alice.restart().await;
}

#[tokio::test]
async fn secrets_of_nats_that_are_not_there() {
    let net = Federation::new();
    let mut alice = net
        .peer("alice")
        .set("nats.token_file", "/nowhere/token")
        .launch()
        .await;
    ends(&mut alice, &["nats.token_file", "/nowhere/token"]).await;
    let mut bob = net.peer("bob").set("nats.creds_file", "/nowhere/creds").launch().await;
    ends(&mut bob, &["nats.creds_file", "/nowhere/creds"]).await;
    let mut carol = net
        .peer("carol")
        .set("nats.tls.ca_file", "/nowhere/ca.pem")
        .launch()
        .await;
    ends(&mut carol, &["nats.tls.ca_file", "/nowhere/ca.pem"]).await;
}

#[tokio::test]
async fn credentials_of_nats_that_are_none() {
    let net = Federation::new();
    let file = net.dir().join("the.creds");
    let good = NatsServer::creds_of_nobody();
    let (jwt, seed) = good.split_once("\n\n").unwrap();
    let key = seed.lines().nth(1).unwrap();
    // One letter is another.
    let letter = if &key[30..31] == "A" { "B" } else { "A" };
    let other = format!("{}{letter}{}", &key[..30], &key[31..]);
    let garbled = [
        String::new(),
        "hello".to_owned(),
        "\u{0}".repeat(100),
        jwt.to_owned() + "\n",
        seed.to_owned(),
        good.replace(key, "SU"),
        good.replace(key, &key[..key.len() - 4]),
        good.replace(key, &other),
        good.replace(key, &NatsServer::creds_of_nobody().lines().nth(1).unwrap()[..60]),
    ];
    std::fs::write(&file, &garbled[0]).unwrap();
    let path = file.to_str().unwrap();
    let mut alice = net.peer("alice").set("nats.creds_file", path).launch().await;
    ends(&mut alice, &["nats.creds_file", path]).await;
    for wrong in &garbled[1..] {
        std::fs::write(&file, wrong).unwrap();
        alice.run();
        let told = ends(&mut alice, &["nats.creds_file", path]).await;
        assert!(!told.contains(key), "{told}");
    }
}

#[tokio::test]
async fn settings_that_are_none_are_told_before_anything_begins() {
    let net = Federation::new();
    let mut alice = net
        .peer("alice")
        .set("limits.line_byte", 1)
        .set("limits.depth", "deep")
        .set("limits.half_read_bytes", "64KiB")
        .environment("OCDISCOVERY_LIMITS_LINE_TIMOUT", "1s")
        .argument("--set")
        .argument("search.max_result=3")
        .launch()
        .await;
    let (code, told) = end(&mut alice).await;
    assert_eq!(code, 64, "{told}");
    for expected in [
        "limits.line_byte: unknown setting; did you mean `limits.line_bytes`?",
        "limits.depth: ",
        "OCDISCOVERY_LIMITS_LINE_TIMOUT: unknown variable; did you mean `OCDISCOVERY_LIMITS_LINE_TIMEOUT`?",
        "--set: search.max_result: unknown setting; did you mean `search.max_results`?",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    assert!(!alice.dir().join("documents.db").exists());
    // What does not fit together, and a file that is no TOML at all.
    let mut bob = net.peer("bob").set("limits.half_read_bytes", "64KiB").launch().await;
    let (code, told) = end(&mut bob).await;
    assert_eq!(code, 64, "{told}");
    assert!(
        told.contains("limits.half_read_bytes: must not be less than limits.line_bytes"),
        "{told}"
    );
    for wrong in ["name = ", "[[[[", "\u{0}", "name = 'a'\nname = 'b'\n"] {
        std::fs::write(bob.config(), wrong).unwrap();
        bob.run();
        let (code, told) = end(&mut bob).await;
        assert_eq!(code, 64, "{wrong:?}: {told}");
        assert!(
            told.contains("oc-discovery.toml") && !told.contains("panicked"),
            "{told}"
        );
    }
    std::fs::remove_file(bob.config()).unwrap();
    bob.run();
    let (code, told) = end(&mut bob).await;
    assert_eq!(code, 64, "{told}");
    assert!(told.contains("oc-discovery.toml"), "{told}");
}

#[tokio::test]
async fn a_state_dir_in_use_stays_with_its_holder() {
    let net = Federation::new();
    let mut alice = net.peer("alice").start().await;
    let pid = alice.daemon().pid().as_raw_nonzero();
    let mut bob = net
        .peer("bob")
        .set("state_dir", alice.dir().to_str().unwrap())
        .launch()
        .await;
    ends(
        &mut bob,
        &[alice.dir().to_str().unwrap(), &format!("is in use by process {pid}")],
    )
    .await;
    assert!(alice.is_ready().await);
    // Free again as soon as its holder is gone, however it ended.
    alice.kill9();
    bob.run();
    bob.wait_ready().await;
}
