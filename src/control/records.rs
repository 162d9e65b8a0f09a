//! The records that an indexer keeps of others, told to its operator.
//!
//! Owns how many are told at once. Never tells a record as more than a claim. Always: a daemon that is no indexer says so, and
//! where to look instead.

use super::Refused;
use super::told_peers::{RecordList, RecordRow};
use crate::node::Up;
use crate::wire::PeerRecord;

/// Most records told at once, and as many as are told when nobody says.
const MOST: usize = 1_000;
const USUAL: usize = 100;

pub(super) fn list(up: &Up, limit: Option<usize>) -> Result<RecordList, Refused> {
    let limit = allowed(limit)?;
    if !up.discovery.is_indexer() {
        let text = "this daemon is no indexer (discovery.role) and keeps no records of others; `peer ls` shows the indexers that \
                    keep ours, `peer explain WHO` asks them for a record";
        return Err(Refused::new("no_indexer", text));
    }
    let (total, capacity) = up.discovery.records();
    let records: Vec<RecordRow> = up.discovery.kept_records(limit).into_iter().map(row).collect();
    Ok(RecordList {
        more: total > records.len() && records.len() >= limit,
        records,
        total: total as u64,
        capacity: capacity as u64,
    })
}

fn allowed(limit: Option<usize>) -> Result<usize, Refused> {
    let limit = limit.unwrap_or(USUAL);
    if (1..=MOST).contains(&limit) {
        return Ok(limit);
    }
    let text = format!("{limit} is no limit of a list: from 1 to {MOST} records can be asked for");
    Err(Refused::new(super::BAD_REQUEST, text))
}

fn row((record, received): (PeerRecord, u64)) -> RecordRow {
    let addresses = record.stream_address.split(',').map(str::trim);
    RecordRow {
        addresses: addresses
            .filter(|address| !address.is_empty())
            .map(str::to_owned)
            .collect(),
        did: record.did,
        name: record.name,
        peer_id: record.peer_id,
        received,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_bounded_and_says_its_range() {
        assert_eq!(allowed(None).unwrap(), USUAL);
        assert_eq!(allowed(Some(MOST)).unwrap(), MOST);
        for wrong in [0, MOST + 1] {
            let told = allowed(Some(wrong)).unwrap_err().text;
            assert!(told.contains("from 1 to 1000 records"), "{told}");
        }
    }
}
