//! `peer resync`: everything compared with a partner, or with our own store.

use clap::Args;

use crate::cli::table::plain;
use crate::cli::{Common, Failure, answer_told, asked};
use crate::control::{self, Request};

/// What a person may want of `peer resync`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Wanted {
    /// With whom, by DID, PeerId or name
    #[arg(required_unless_present = "store", conflicts_with = "store")]
    partner: Option<String>,
    /// What was propagated, with our own store: what is not in it was deleted
    #[arg(long)]
    store: bool,
    /// Let the many deletes through that this comparison holds back, and no other's, for ten minutes
    #[arg(long)]
    allow_deletes: bool,
}

pub(super) fn resync(common: &Common, wanted: Wanted) -> Result<(), Failure> {
    let allow_deletes = wanted.allow_deletes;
    let request = match wanted.partner {
        Some(partner) => Request::Resync { partner, allow_deletes },
        None => Request::Reconcile { allow_deletes },
    };
    let told: control::Resync = asked(common, &request)?;
    answer_told(common, &told, |told| words(told, allow_deletes))
}

fn words(told: &control::Resync, allow_deletes: bool) -> String {
    let mut out = match told.did.as_str() {
        "" => "what was propagated is compared with our store; the log says what was missed\n".to_owned(),
        did => format!(
            "everything is compared with {}, both ways, as soon as it can be reached; `outbox` shows how it goes\n",
            plain(did)
        ),
    };
    if allow_deletes {
        out += "for ten minutes this comparison may delete as much as it finds; what is gone from our store is gone for \
                every partner\n";
    }
    out
}
