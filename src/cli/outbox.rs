//! `outbox`: what each partner has received, what is parked, and what shall become of that.

use std::fmt::Write;

use clap::{Args, Subcommand};

use super::table::{moment, now, plain, span, table};
use super::{Common, Failure, answer_told, asked};
use crate::control::{Destination, Dropped, INTAKE, Outbox, ParkedChange, Request, Retried};

/// What a person may want of `outbox`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Wanted {
    #[command(subcommand)]
    what: Option<Verb>,
    /// This one only, by DID, PeerId or name; `intake`: what our own intake could not take
    partner: Option<String>,
    /// With each parked change and its reason, a thousand at a time
    #[arg(long)]
    parked: bool,
    /// Of those only the ones of the resource with this id
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Of those not the first N
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    skip: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Send what is parked again, as it is now
    Retry(Parked),
    /// Forget what is parked: the partner does not get it
    Drop(Parked),
}

#[derive(Debug, Args)]
struct Parked {
    /// Whose, by DID, PeerId or name
    partner: String,
    /// Only the change of the resource with this id
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub(super) fn outbox(before: Common, wanted: Wanted) -> Result<(), Failure> {
    match wanted.what {
        None => {
            let common = before.and(wanted.common);
            let of_intake = wanted.partner.as_deref() == Some(INTAKE);
            let each = wanted.parked || of_intake || wanted.id.is_some() || wanted.skip > 0;
            let request = Request::Outbox {
                partner: wanted.partner,
                parked: each,
                id: wanted.id,
                skip: wanted.skip,
            };
            let told: Outbox = asked(&common, &request)?;
            answer_told(&common, &told, |told| {
                let partners = if of_intake {
                    String::new()
                } else {
                    partners(told, now())
                };
                partners + &parked(told, each.then_some(wanted.skip), now())
            })
        }
        Some(Verb::Retry(Parked { partner, id, common })) => {
            let common = before.and(common);
            let told: Retried = asked(&common, &Request::OutboxRetry { partner, id })?;
            answer_told(&common, &told, |told| match (told.again, told.gone) {
                (again, 0) => format!("sent again: {again}\n"),
                (again, gone) => format!("sent again: {again}; gone meanwhile, nothing left to send: {gone}\n"),
            })
        }
        Some(Verb::Drop(Parked { partner, id, common })) => {
            let common = before.and(common);
            let told: Dropped = asked(&common, &Request::OutboxDrop { partner, id })?;
            answer_told(&common, &told, |told| format!("forgotten: {}\n", told.dropped))
        }
    }
}

/// The table of destinations, and below it why some do not have everything.
pub(super) fn partners(told: &Outbox, now: u64) -> String {
    if told.partners.is_empty() {
        return match told.not_delivered.as_str() {
            "" => "no partners: nothing is delivered to anybody\n".to_owned(),
            why => format!("{}\n", plain(why)),
        };
    }
    let rows: Vec<Vec<String>> = told.partners.iter().map(|partner| row(partner, now)).collect();
    let heads = ["PARTNER", "STATE", "LAG", "POSITION", "LAST RECEIVED", "PARKED"];
    let mut out = table(&heads, &rows);
    for partner in &told.partners {
        // Writing to a String cannot fail.
        if !partner.hold_code.is_empty() {
            let (code, says) = (plain(&partner.hold_code), &partner.hold_says);
            let _ = writeln!(out, "{}: takes nothing now ({code}): {says}", called(partner));
        }
        if !partner.last_error.is_empty() {
            let _ = writeln!(out, "{}: last error: {}", called(partner), plain(&partner.last_error));
        }
    }
    out
}

fn called(partner: &Destination) -> String {
    plain(if partner.name.is_empty() {
        &partner.did
    } else {
        &partner.name
    })
}

fn row(partner: &Destination, now: u64) -> Vec<String> {
    let lag = match partner.lag_rows {
        0 => "0".to_owned(),
        rows => format!("{rows}, {}", span(partner.lag_seconds)),
    };
    vec![
        called(partner),
        plain(&partner.state_says),
        lag,
        format!("{}/{}", partner.acked_seq, partner.head),
        moment(partner.acked_at, now),
        partner.parked.to_string(),
    ]
}

/// What is parked, one by one (behind so many) when that is wanted, and what can be done about it.
fn parked(told: &Outbox, wanted: Option<usize>, now: u64) -> String {
    let mut out = String::new();
    if wanted.is_some() && told.parked.is_empty() {
        out += &match told.parked_total {
            0 => "nothing is parked\n".to_owned(),
            total => format!("no more than {total} are parked\n"),
        };
    } else if let Some(skip) = wanted {
        let rows: Vec<Vec<String>> = told.parked.iter().map(|change| parked_row(change, now)).collect();
        out.push_str(if told.partners.is_empty() { "" } else { "\n" });
        out += &table(&["PARKED FOR", "DATATYPE", "ID", "WHEN", "CODE", "WHY"], &rows);
        if told.more {
            let upto = skip.saturating_add(told.parked.len());
            let left = told.parked_total.saturating_sub(upto as u64);
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "... and {left} more: `--skip {upto}` shows the next, `--id ID` those of one resource"
            );
        }
    } else if told.intake_parked > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "our own intake could not take {} messages, or not wholly: see `outbox intake`",
            told.intake_parked
        );
    }
    out
}

fn parked_row(change: &ParkedChange, now: u64) -> Vec<String> {
    let whose = match (change.dest.as_str(), change.name.as_str()) {
        ("", _) => INTAKE,
        (did, "") => did,
        (_, name) => name,
    };
    let why = if change.detail.is_empty() {
        change.says.clone()
    } else {
        format!("{}: {}", change.says, change.detail)
    };
    // What our intake could not take is a message: whether there is a document in it, nobody knows.
    let kind = match change.dest.is_empty() {
        true => "message",
        false => &change.datatype,
    };
    let cells = [whose, kind, &change.id];
    let mut row: Vec<String> = cells.map(plain).to_vec();
    row.extend([moment(change.at, now), plain(&change.code), plain(&why)]);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_who_lags_and_why() {
        let bob = Destination {
            did: "did:bob".to_owned(),
            name: "bob\u{7}".to_owned(),
            state_says: "waits until it is tried again".to_owned(),
            acked_seq: 3,
            acked_at: 1_700_000_000_000,
            head: 5,
            lag_rows: 2,
            lag_seconds: 61,
            hold_code: "nats".to_owned(),
            hold_says: "its NATS is away".to_owned(),
            last_error: "the stream ended".to_owned(),
            ..Destination::default()
        };
        let told = Outbox {
            partners: vec![bob],
            intake_parked: 2,
            ..Outbox::default()
        };
        let text = partners(&told, 1_700_000_061_000) + &parked(&told, None, 0);
        assert_eq!(
            text,
            "PARTNER  STATE                          LAG      POSITION  LAST RECEIVED                    PARKED\n\
             bob\u{fffd}     waits until it is tried again  2, 61 s  3/5       2023-11-14 22:13:20Z (61 s ago)  0\n\
             bob\u{fffd}: takes nothing now (nats): its NATS is away\n\
             bob\u{fffd}: last error: the stream ended\n\
             our own intake could not take 2 messages, or not wholly: see `outbox intake`\n"
        );
    }

    #[test]
    fn each_parked_change_is_told_with_its_reason() {
        let change = ParkedChange {
            dest: "did:bob".to_owned(),
            name: "bob".to_owned(),
            datatype: "compute_resource".to_owned(),
            id: "gpu-1".to_owned(),
            seq: 4,
            at: 1_700_000_000_000,
            code: "too_large".to_owned(),
            says: "it is larger than the partner takes".to_owned(),
            detail: "the peer takes at most 1024 bytes".to_owned(),
        };
        let told = Outbox {
            parked: vec![change],
            more: true,
            parked_total: 1_234,
            ..Outbox::default()
        };
        let text = parked(&told, Some(1_000), 1_700_000_000_000);
        assert!(
            text.ends_with(
                "bob         compute_resource  gpu-1  2023-11-14 22:13:20Z (0 s ago)  too_large  \
                 it is larger than the partner takes: the peer takes at most 1024 bytes\n\
                 ... and 233 more: `--skip 1001` shows the next, `--id ID` those of one resource\n"
            ),
            "{text}"
        );
        assert_eq!(parked(&Outbox::default(), Some(0), 0), "nothing is parked\n");
        assert_eq!(parked(&Outbox::default(), None, 0), "");
        let behind = Outbox {
            parked_total: 3,
            ..Outbox::default()
        };
        assert_eq!(parked(&behind, Some(5), 0), "no more than 3 are parked\n");
    }
}
