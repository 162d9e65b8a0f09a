//! `status`: how the running daemon is, for people; the same as `/status` for programs.

use std::fmt::Write;

use super::outbox::partners;
use super::table::{now, plain, span};
use super::{Common, Failure, answer_told, asked};
use crate::control::{Outbox, Request, Status, ToPublish};

pub(super) fn status(common: &Common) -> Result<(), Failure> {
    let told: Status = asked(common, &Request::Status {})?;
    answer_told(common, &told, words)
}

fn words(told: &Status) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{} ({}), version {}, up {}: {}",
        plain(&told.name),
        told.did.as_deref().unwrap_or("no DID yet"),
        told.version,
        span(told.uptime_seconds),
        if told.ready { "ready" } else { "not ready" }
    );
    for check in told.checks.iter().filter(|check| !check.ok) {
        let _ = writeln!(out, "  {}: {}", check.name, plain(&check.why));
    }
    let intake = &told.intake;
    let _ = match (intake.mode.as_str(), &intake.stream) {
        ("stream", Some(stream)) => writeln!(
            out,
            "intake: stream {}, up to {}",
            plain(stream),
            intake.cursor.unwrap_or_default()
        ),
        ("core", _) => writeln!(
            out,
            "intake: core NATS: what apps publish while the daemon is away is not seen by it"
        ),
        ("choosing", _) => writeln!(out, "intake: nothing yet: {}", plain(&intake.why)),
        (mode, _) => writeln!(out, "intake: {mode}"),
    };
    let kept = told.indexers.iter().filter(|indexer| indexer.kept).count();
    if !told.indexers.is_empty() {
        let _ = writeln!(out, "indexers: {kept} kept of {} known", told.indexers.len());
    }
    if let Some(records) = told.records {
        let _ = writeln!(out, "indexer: keeps {records} records of others");
    }
    let ToPublish { waiting, code, why } = &told.to_publish;
    let _ = match code.is_empty() {
        true if *waiting == 0 => Ok(()),
        true => writeln!(out, "partners' changes: {waiting} are being published"),
        false => writeln!(out, "partners' changes: {waiting} wait ({code}): {}", plain(why)),
    };
    if told.parked.intake > 0 {
        let _ = writeln!(out, "parked at the intake: {}", told.parked.intake);
    }
    let outbox = Outbox {
        partners: told.partners.clone(),
        ..Outbox::default()
    };
    out.push('\n');
    out + &partners(&outbox, now())
}
