//! Making a file that was not there: whole or not at all, and never in the place of another.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use uuid::Uuid;

/// Writes a new file with `mode`. It is written beside its place, synced, and then named, so that a crash leaves a whole
/// file or none. Fails with `AlreadyExists` when there is one.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let beside = dir.join(format!(".{}.{}", name.to_string_lossy(), Uuid::new_v4().simple()));
    let written = write_at(&beside, bytes, mode).and_then(|()| name_it(&beside, path));
    if let Err(error) = written {
        // Best effort: it is ours alone, and the first error is the one to tell.
        let _ = std::fs::remove_file(&beside);
        return Err(error);
    }
    File::open(dir)?.sync_all()
}

fn write_at(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn name_it(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems know no exclusive rename; a hard link does not replace either.
        Err(Errno::INVAL | Errno::NOSYS) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        result => Ok(result?),
    }
}
