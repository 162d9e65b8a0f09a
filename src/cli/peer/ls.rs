//! `peer ls`: the peers of our store, and the indexers; at an indexer also the records that it keeps.

use clap::Args;

use crate::cli::table::{moment, now, plain, table};
use crate::cli::{Common, Failure, answer_told, asked};
use crate::control::{PeerList, RecordList, Request};

/// What a person may want of `peer ls`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Wanted {
    /// The records that this daemon keeps of others, as an indexer, by name
    #[arg(long)]
    records: bool,
    /// Most records, up to 1000 [default: 100]
    #[arg(long, value_name = "N", requires = "records")]
    limit: Option<usize>,
}

pub(super) fn ls(common: &Common, wanted: &Wanted) -> Result<(), Failure> {
    if wanted.records {
        let told: RecordList = asked(common, &Request::PeerRecords { limit: wanted.limit })?;
        return answer_told(common, &told, |told| records(told, now()));
    }
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
        "no other peer is in our store; `peer add INVITE` adds one, or an app that publishes its document\n".to_owned()
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
    if let Some(count) = told.records {
        out += &format!("\nthis daemon is an indexer, and keeps {count} records of others: `peer ls --records`\n");
    }
    out
}

fn records(told: &RecordList, now: u64) -> String {
    let rows: Vec<Vec<String>> = told
        .records
        .iter()
        .map(|record| {
            vec![
                plain(&record.name),
                plain(&record.did),
                plain(&record.peer_id),
                plain(&record.addresses.join(", ")),
                moment(record.received, now),
            ]
        })
        .collect();
    let mut out = if rows.is_empty() {
        "nobody has sent a record\n".to_owned()
    } else {
        table(&["NAME", "DID", "PEER ID", "ADDRESSES", "RECEIVED"], &rows)
    };
    let more = if told.more { "; --limit shows more" } else { "" };
    out += &format!(
        "{} of {} records, {} can be kept{more}\n",
        rows.len(),
        told.total,
        told.capacity
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_told_by_name_without_control_characters() {
        let told: RecordList = serde_json::from_value(serde_json::json!({
            "records": [{"did": "did:1", "name": "carol\u{1b}[2J", "peer_id": "12D3", "addresses": ["/ip4/10.0.0.1/tcp/1"],
                "received": 1_000}],
            "total": 3, "capacity": 50, "more": true,
        }))
        .unwrap();
        let words = records(&told, 3_000);
        assert!(
            words.contains("carol\u{fffd}[2J  did:1  12D3     /ip4/10.0.0.1/tcp/1"),
            "{words}"
        );
        assert!(words.contains("(2 s ago)"), "{words}");
        assert!(
            words.ends_with("\n1 of 3 records, 50 can be kept; --limit shows more\n"),
            "{words}"
        );
        assert!(records(&RecordList::default(), 0).starts_with("nobody has sent a record\n"));
    }
}
