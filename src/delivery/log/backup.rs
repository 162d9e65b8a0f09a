//! A copy of the journal while it is used.

use std::path::Path;

use crate::delivery::journal::{JournalError, Result};
use crate::delivery::sqlite::journal_error;
use crate::store::copy::{CopyError, copy as copy_file};

/// Blocks until it is done.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    copy_file(from, to).map_err(|error| match error {
        CopyError::Sqlite(error) => journal_error(to, &error),
        other => JournalError::Unusable {
            path: to.display().to_string(),
            why: other.to_string(),
        },
    })
}
