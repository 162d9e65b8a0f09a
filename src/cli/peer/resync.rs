//! `peer resync`: everything compared with a partner.

use clap::Args;

use crate::cli::{Common, Failure, answer_told, asked};
use crate::control::{self, Request};

/// What a person may want of `peer resync`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Wanted {
    /// With whom, by DID, PeerId or name
    partner: String,
    /// Let the many deletes through that the last comparison held back
    #[arg(long)]
    allow_deletes: bool,
}

pub(super) fn resync(common: &Common, wanted: Wanted) -> Result<(), Failure> {
    let request = Request::Resync {
        partner: wanted.partner,
        allow_deletes: wanted.allow_deletes,
    };
    let told: control::Resync = asked(common, &request)?;
    answer_told(common, &told, |told| {
        format!(
            "everything is compared with {}, both ways, as soon as it can be reached; `outbox` shows how it goes\n",
            told.did
        )
    })
}
