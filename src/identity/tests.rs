//! The identity on a real directory.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::settings::{Sources, load};

fn settings(dir: &Path, set: &[&str]) -> Settings {
    let mut all = vec![format!("state_dir={}", dir.display())];
    all.extend(set.iter().map(|text| text.to_string()));
    load(&Sources {
        set: all,
        ..Sources::default()
    })
    .unwrap()
    .settings
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_first_start_makes_a_private_key_and_the_next_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &["network.private=false"]);
    assert!(matches!(
        Identity::existing(&settings),
        Err(IdentityError::NoKey { .. })
    ));
    let first = Identity::load(&settings).unwrap();
    assert_eq!(mode(&settings.identity.key_file), 0o600);
    assert!(first.psk.is_none());
    assert_eq!(Identity::load(&settings).unwrap().peer_id, first.peer_id);
    assert_eq!(Identity::existing(&settings).unwrap().peer_id, first.peer_id);
    // Nothing is left beside it.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(!format!("{first:?}").contains("secret"));
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &["network.private=false"]);
    Identity::load(&settings).unwrap();
    std::fs::set_permissions(&settings.identity.key_file, PermissionsExt::from_mode(0o644)).unwrap();
    let told = Identity::load(&settings).unwrap_err().to_string();
    assert!(
        told.contains("others have access to it (mode 0644)") && told.contains("chmod 600"),
        "{told}"
    );
}

#[test]
fn a_torn_key_is_refused_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &["network.private=false"]);
    write_new(
        &settings.identity.key_file,
        b"-----BEGIN PRIVATE KEY-----\nMC4C\n",
        0o600,
    )
    .unwrap();
    assert!(matches!(Identity::load(&settings), Err(IdentityError::NotAKey { .. })));
    assert!(
        std::fs::read_to_string(&settings.identity.key_file)
            .unwrap()
            .contains("MC4C")
    );
}

#[test]
fn a_private_network_needs_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &[]);
    let told = Identity::load(&settings).unwrap_err().to_string();
    assert!(
        told.contains("oc-discovery init") && told.contains("network.private = false"),
        "{told}"
    );
    let psk = generate_psk();
    write_new(&settings.identity.psk_file, psk.to_key_file().as_bytes(), 0o600).unwrap();
    assert!(Identity::load(&settings).unwrap().psk == Some(psk));
}

#[test]
fn a_new_file_never_replaces_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    write_new(&path, b"one", 0o600).unwrap();
    assert_eq!(
        write_new(&path, b"two", 0o600).unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"one");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn one_daemon_at_a_time_in_a_directory_that_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let held = StateDir::lock(&path).unwrap();
    assert_eq!(held.path(), path);
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("lock")), 0o600);
    let told = StateDir::lock(&path).unwrap_err().to_string();
    assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
    drop(held);
    StateDir::lock(&path).unwrap();
}

#[test]
fn the_did_is_the_remembered_one_or_follows_from_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &["network.private=false"]);
    let identity = Identity::load(&settings).unwrap();
    let derived = own_did(&settings, &identity).unwrap();
    assert_eq!(uuid::Uuid::parse_str(&derived).unwrap().get_version_num(), 5);
    assert_eq!(
        own_did(&settings, &Identity::load(&settings).unwrap()).unwrap(),
        derived
    );
    std::fs::write(dir.path().join("did"), "did:oc:abc\n").unwrap();
    assert_eq!(own_did(&settings, &identity).unwrap(), "did:oc:abc");
    std::fs::write(dir.path().join("did"), "two words").unwrap();
    assert!(matches!(
        own_did(&settings, &identity),
        Err(IdentityError::NotADid { .. })
    ));
}

#[test]
fn the_public_key_is_the_protobuf_form() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::load(&settings(dir.path(), &["network.private=false"])).unwrap();
    let bytes = STANDARD.decode(public_key_base64(&identity.keypair.public())).unwrap();
    // Type 1 (ed25519), then 32 bytes: https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md
    assert_eq!(bytes[..4], [8, 1, 18, 32]);
    assert_eq!(bytes.len(), 36);
}
