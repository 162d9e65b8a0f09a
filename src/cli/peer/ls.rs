//! `peer ls`: the peers of our store, and the indexers.

use crate::cli::table::{plain, table};
use crate::cli::{Common, Failure, answer_told, asked};
use crate::control::{PeerList, Request};

pub(super) fn ls(common: &Common) -> Result<(), Failure> {
    let told: PeerList = asked(common, &Request::PeerList {})?;
    answer_told(common, &told, words)
}

fn yes(is: bool, yes: &str, no: &str) -> String {
    if is { yes } else { no }.to_owned()
}

fn words(told: &PeerList) -> String {
    let peers: Vec<Vec<String>> = told
        .peers
        .iter()
        .map(|peer| {
            vec![
                plain(&peer.name),
                peer.relation.clone(),
                yes(peer.connected, "connected", "away"),
                plain(&peer.did),
                peer.peer_id.clone(),
                if peer.not_used.is_empty() {
                    plain(&peer.addresses.join(", "))
                } else {
                    format!("NOT USED: {}", plain(&peer.not_used))
                },
            ]
        })
        .collect();
    let mut out = if peers.is_empty() {
        "no other peer is in our store; `peer add INVITE` adds one\n".to_owned()
    } else {
        table(&["NAME", "RELATION", "STATE", "DID", "PEER ID", "ADDRESSES"], &peers)
    };
    let indexers: Vec<Vec<String>> = told
        .indexers
        .iter()
        .map(|indexer| {
            vec![
                indexer.peer_id.clone(),
                yes(indexer.kept, "kept", "not kept"),
                yes(indexer.seed, "settings", "learnt"),
                plain(&indexer.addresses.join(", ")),
                plain(&indexer.last),
            ]
        })
        .collect();
    if !indexers.is_empty() {
        out.push('\n');
        out += &table(&["INDEXER", "STATE", "FROM", "ADDRESSES", "LAST"], &indexers);
    }
    out
}
