//! `peer`: who there is, who somebody is, and how one becomes a partner.

mod add;
mod explain;
mod invite;
mod ls;
mod resync;

use clap::{Args, Subcommand};

use super::{Common, Failure};

#[derive(Debug, Subcommand)]
pub(super) enum PeerVerb {
    /// The peers of our store, and the indexers that are known; with --records what an indexer keeps
    Ls {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        wanted: ls::Wanted,
    },
    /// What the daemon does with a peer, by which rule, and what that rests on
    Explain {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        wanted: Who,
    },
    /// One line to give to another organisation: who we are and where we listen, signed
    Invite {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        wanted: invite::Wanted,
    },
    /// Show an invite, ask, and make whoever gave it a partner
    Add {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        wanted: add::Wanted,
    },
    /// Remove a peer: it is no partner any more, and may come back with another key
    Rm {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        wanted: add::Removed,
    },
    /// Compare everything with a partner, both ways; only what differs is sent
    Resync {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        wanted: resync::Wanted,
    },
}

/// Whom a verb is about.
#[derive(Debug, Args)]
pub(super) struct Who {
    /// A DID, PeerId or name
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    who: String,
}

pub(super) fn peer(before: Common, what: PeerVerb) -> Result<(), Failure> {
    match what {
        PeerVerb::Ls { common, wanted } => ls::ls(&before.and(common), &wanted),
        PeerVerb::Explain { common, wanted } => explain::explain(&before.and(common), wanted),
        PeerVerb::Invite { common, wanted } => invite::invite(&before.and(common), &wanted),
        PeerVerb::Add { common, wanted } => add::add(&before.and(common), &wanted),
        PeerVerb::Rm { common, wanted } => add::remove(&before.and(common), &wanted),
        PeerVerb::Resync { common, wanted } => resync::resync(&before.and(common), wanted),
    }
}
