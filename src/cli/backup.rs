//! `backup`: a copy of journal and documents while the daemon runs.

use std::path::PathBuf;

use clap::Args;

use super::{Common, Failure, answer_told, asked};
use crate::control::{self, Request};

/// What a person may want of `backup`.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// The directory to make; never overwritten
    dir: PathBuf,
    /// With the private key and the network's key: whoever has them can be this daemon
    #[arg(long)]
    with_keys: bool,
}

pub(super) fn backup(common: &Common, wanted: Wanted) -> Result<(), Failure> {
    let request = Request::Backup {
        // The daemon is in another directory.
        to: std::path::absolute(&wanted.dir)?,
        with_keys: wanted.with_keys,
    };
    let told: control::Backup = asked(common, &request)?;
    answer_told(common, &told, |told| {
        format!("{}: {}\n", told.path.display(), told.files.join(", "))
    })
}
