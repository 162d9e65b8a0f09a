//! A copy of the journal while it is used.
//!
//! Always holds: the name appears when the copy is whole and on the disk, and never in place of another file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::delivery::journal::{JournalError, Result};
use crate::delivery::sqlite::SqliteJournal;
use crate::delivery::types::Token;

/// Blocks until it is done. The copy is a snapshot of what is committed; it holds up neither reader nor writer.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let unusable = |path: &Path, why: String| JournalError::Unusable {
        path: path.display().to_string(),
        why,
    };
    let taken = || {
        unusable(
            to,
            "a file of this name is there, and a backup overwrites nothing".to_owned(),
        )
    };
    if fs::symlink_metadata(to).is_ok() {
        return Err(taken());
    }
    let part = part_of(to).ok_or_else(|| unusable(to, "no name for a file".to_owned()))?;
    let part = Part::make(part).map_err(|error| unusable(to, format!("cannot be made: {error}")))?;
    SqliteJournal::copy_into(from, &part.0)?;
    let failed = |error: io::Error| unusable(to, format!("cannot be finished: {error}"));
    File::open(&part.0).and_then(|file| file.sync_all()).map_err(failed)?;
    match renameat_with(CWD, &part.0, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Err(taken()),
        Err(error) => return Err(failed(error.into())),
    }
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))
        .and_then(|dir| dir.sync_all())
        .map_err(failed)
}

/// Beside the copy's name, so that renaming stays in one file system; no two copies share it.
fn part_of(to: &Path) -> Option<PathBuf> {
    let mut name = to.file_name()?.to_owned();
    name.push(format!(".{:?}.part", Token(rand::random())));
    Some(to.with_file_name(name))
}

/// An unfinished copy; it leaves when it does not get its name.
struct Part(PathBuf);

impl Part {
    fn make(path: PathBuf) -> io::Result<Self> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}
