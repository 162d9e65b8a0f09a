//! `peer explain`: what the daemon does with a peer, and why.

use std::fmt::Write;

use super::Who;
use crate::cli::table::plain;
use crate::cli::{Common, Failure, answer_told, asked};
use crate::control::{Explained, Request};

pub(super) fn explain(common: &Common, wanted: Who) -> Result<(), Failure> {
    let told: Explained = asked(common, &Request::PeerExplain { who: wanted.who })?;
    answer_told(common, &told, words)
}

fn words(told: &Explained) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for (index, peer) in told.peers.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let _ = writeln!(out, "{}", plain(&peer.name));
        for (key, value) in [
            ("did", &peer.did),
            ("peer_id", &peer.peer_id),
            ("relation", &peer.relation),
        ] {
            if !value.is_empty() {
                let _ = writeln!(out, "  {key:<9} {}", plain(value));
            }
        }
        let word = if peer.allowed { "allowed" } else { "refused" };
        let _ = writeln!(out, "  {word} by the rule {}, from {}", peer.rule, plain(&peer.source));
        for sentence in &peer.says {
            let _ = writeln!(out, "  - {}", plain(sentence));
        }
    }
    if told.peers.len() > 1 {
        let _ = writeln!(out, "\nA name is no identity: {} bear this one.", told.peers.len());
    }
    out
}
