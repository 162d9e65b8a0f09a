//! A copy of what the daemon keeps, while it runs: a directory that is put in the place of the files by hand.
//!
//! Owns which files are in it. Always: the directory appears when all of it is whole, and never in place of another; the
//! documents are never older than the journal, so that what lies between is mended by a restored journal as a change that
//! was missed, and not taken back.

use super::Refused;
use super::told::Backup;
use crate::node::Up;
use crate::settings::{Settings, StoreUrl};
use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The journal's name, as in `state_dir`.
const JOURNAL: &str = "journal.db";
/// The documents'.
const DOCUMENTS: &str = "documents.db";
/// The keys'.
const KEYS: [&str; 2] = ["node.key", "swarm.psk"];

pub(super) async fn backup(up: &Up, settings: &Settings, to: PathBuf, with_keys: bool) -> Result<Backup, Refused> {
    let failed = |why: String| Refused::new("failed", format!("{}: {why}", to.display()));
    if !to.is_absolute() {
        return Err(Refused::new(
            "bad_request",
            "the directory of a backup is named by its whole path",
        ));
    }
    if std::fs::symlink_metadata(&to).is_ok() {
        let text = format!("{} is there already, and a backup overwrites nothing", to.display());
        return Err(Refused::new("taken", text));
    }
    let mut copied = vec![settings.state_dir.join(JOURNAL)];
    if let StoreUrl::Sqlite(documents) = &settings.store.url {
        copied.push(documents.clone());
    }
    room(&copied, to.parent().unwrap_or(&to))
        .map_err(|why| Refused::new("no_room", format!("{}: {why}", to.display())))?;
    let part = Part::make(&to).map_err(|error| failed(format!("cannot be made: {error}")))?;
    let mut files = vec![JOURNAL.to_owned()];
    // The journal first: see above.
    let copied = up.delivery.backup(&part.0.join(JOURNAL)).await;
    copied.map_err(|error| failed(error.to_string()))?;
    let copied = up.store.backup(&part.0.join(DOCUMENTS)).await;
    if copied.map_err(|error| failed(error.to_string()))? {
        files.push(DOCUMENTS.to_owned());
    }
    if with_keys {
        let private = settings.network.private;
        let keys = [&settings.identity.key_file, &settings.identity.psk_file];
        for (name, from) in KEYS.iter().zip(keys).take(if private { 2 } else { 1 }) {
            copy_key(from, &part.0.join(name)).map_err(|error| failed(format!("{}: {error}", from.display())))?;
            files.push((*name).to_owned());
        }
    }
    part.finish(&to)
        .map_err(|error| failed(format!("cannot be finished: {error}")))?;
    Ok(Backup { path: to, files })
}

/// Whether `files`, each with its log, have room in `place`. Looked at before anything is copied: a disk that is full stops the
/// daemon. What cannot be told is left to the copying.
fn room(files: &[PathBuf], place: &Path) -> Result<(), String> {
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let log = |path: &Path| {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        PathBuf::from(log)
    };
    let wanted: u64 = files.iter().map(|path| bytes(path) + bytes(&log(path))).sum();
    // Some file systems do not count.
    let Some(stat) = statvfs(place).ok().filter(|stat| stat.f_blocks > 0) else {
        return Ok(());
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if wanted <= free {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(format!(
        "a backup takes up to {} MiB there, and {} MiB are free",
        mib(wanted),
        free >> 20
    ))
}

fn copy_key(from: &Path, to: &Path) -> io::Result<()> {
    let key = std::fs::read(from)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    file.write_all(&key)?;
    file.sync_all()
}

/// An unfinished directory; it leaves when it does not get its name.
struct Part(PathBuf);

impl Part {
    /// Beside its name, so that renaming stays in one file system.
    fn make(to: &Path) -> io::Result<Self> {
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", hex::encode(rand::random::<[u8; 8]>())));
        let path = to.with_file_name(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn finish(self, to: &Path) -> io::Result<()> {
        File::open(&self.0)?.sync_all()?;
        renameat_with(CWD, &self.0, CWD, to, RenameFlags::NOREPLACE)?;
        File::open(to.parent().unwrap_or(Path::new("/")))?.sync_all()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Nothing is there when it got its name.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_not_begun() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, documents) = (dir.path().join("journal.db"), dir.path().join("documents.db"));
        std::fs::write(&journal, "j").unwrap();
        let copied = [journal, documents];
        assert_eq!(room(&copied, dir.path()), Ok(()), "one of them is not there");
        // A hole takes no room itself.
        let log = File::create(dir.path().join("documents.db-wal")).unwrap();
        let stat = statvfs(dir.path()).unwrap();
        log.set_len(stat.f_bavail * stat.f_frsize + (1 << 30)).unwrap();
        let told = room(&copied, dir.path()).unwrap_err();
        assert!(
            told.starts_with("a backup takes up to ") && told.ends_with(" MiB are free"),
            "{told}"
        );
        assert_eq!(room(&copied, &dir.path().join("nowhere")), Ok(()));
    }
}
