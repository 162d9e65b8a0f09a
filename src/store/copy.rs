//! A copy of an SQLite file while it is used.
//!
//! Never knows what is in it. Always holds: the name appears when the copy is whole and on the disk, readable for its user
//! alone, and never in place of another file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::file;

/// Why a file was not copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// Something has the copy's name.
    #[error("a file of this name is there, and a backup overwrites nothing")]
    Taken,
    /// The copy has no name that can be used.
    #[error("no name for a file")]
    NoName,
    /// The copy cannot be made.
    #[error("cannot be made: {0}")]
    Make(io::Error),
    /// The copy cannot be brought to the disk or get its name.
    #[error("cannot be finished: {0}")]
    Finish(io::Error),
    /// SQLite cannot copy it.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Blocks until it is done. The copy is what is committed at one moment; it holds up neither reader nor writer.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), CopyError> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(CopyError::Taken);
    }
    let part = part_of(to).ok_or(CopyError::NoName)?;
    let part = Part::make(part).map_err(CopyError::Make)?;
    let name = part.0.to_str().ok_or(CopyError::NoName)?;
    file::open_writer(from)?.execute("VACUUM INTO ?1", [name])?;
    File::open(&part.0)
        .and_then(|file| file.sync_all())
        .map_err(CopyError::Finish)?;
    match renameat_with(CWD, &part.0, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Err(CopyError::Taken),
        Err(error) => return Err(CopyError::Finish(error.into())),
    }
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))
        .and_then(|dir| dir.sync_all())
        .map_err(CopyError::Finish)
}

/// Beside the copy's name, so that renaming stays in one file system; no two copies share it.
fn part_of(to: &Path) -> Option<PathBuf> {
    let mut name = to.file_name()?.to_owned();
    name.push(format!(".{}.part", hex::encode(rand::random::<[u8; 16]>())));
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
