//! The directory of all that the daemon keeps: made private, and locked so that one daemon uses it at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{IdentityError, read_file_bounded};

const LOCK_FILE: &str = "lock";

/// A locked directory. The lock ends with this value, or with the process however it ends.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// What is free where this directory is, in bytes, for others than root.
///
/// # Errors
/// The system does not tell.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

impl StateDir {
    /// Makes the directory (0700) when it is not there, and locks it.
    pub fn lock(path: &Path) -> Result<Self, IdentityError> {
        make_dir(path)?;
        let lock_path = path.join(LOCK_FILE);
        let unmade = |source| unmade(&lock_path, source);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(unmade)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(IdentityError::InUse {
                    path: path.to_owned(),
                    by: holder(&lock),
                });
            }
            Err(error) => return Err(unmade(error.into())),
        }
        // Only now: the file tells the process that has the lock.
        lock.set_len(0).map_err(unmade)?;
        writeln!(lock, "{}", std::process::id()).map_err(unmade)?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a directory that only the daemon's user can enter, with its parents. One that is there stays as it is.
pub fn make_dir(path: &Path) -> Result<(), IdentityError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| unmade(path, source))
}

fn unmade(path: &Path, source: io::Error) -> IdentityError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied => IdentityError::NotOurs {
            path,
            user: rustix::process::geteuid().as_raw(),
            source,
        },
        _ => IdentityError::Make { path, source },
    }
}

fn holder(lock: &File) -> String {
    match read_file_bounded(lock)
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
    {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_somebody_else_says_what_to_do() {
        let told = |kind: io::ErrorKind| unmade(Path::new("/state/lock"), kind.into()).to_string();
        let denied = told(io::ErrorKind::PermissionDenied);
        let user = rustix::process::geteuid().as_raw();
        assert!(
            denied.starts_with("/state/lock cannot be made: permission denied; "),
            "{denied}"
        );
        assert!(denied.contains(&format!("`chown -R {user} /state`")), "{denied}");
        assert!(!told(io::ErrorKind::StorageFull).contains("chown"));
    }
}
