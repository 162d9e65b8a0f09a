//! `search`: what other peers have, as it comes, and who answered.

use std::fmt::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::table::plain;
use super::{Common, Failure, answer};
use crate::control::{Named, Request, SearchLine, ask_many};
use crate::settings::load;

/// How long after its time the end of a search may take to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest description shown, in characters.
const SHOWN: usize = 100;

/// What a person may want of `search`.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// Each word is the beginning of one in the name or the descriptions; none: everything
    text: Vec<String>,
    /// Whom to ask
    #[arg(long, value_enum, default_value_t = Scope::All)]
    scope: Scope,
    /// Only this kind: data, processing, storage, compute or workflow (`peer explain` looks for peers)
    #[arg(long, value_name = "KIND")]
    datatype: Option<String>,
    /// Most results [default: search.max_results, which is also the most]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Seconds to wait for answers [default: search.timeout, which is also the longest]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scope {
    /// Every peer that can be reached, by gossip
    All,
    /// Every peer of our store that is not blacklisted
    Known,
    /// Our partners
    Partner,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Known => "known",
            Self::Partner => "partner",
        }
    }
}

pub(super) fn search(common: &Common, wanted: Wanted) -> Result<(), Failure> {
    let settings = load(&common.sources())?.settings;
    let timeout_ms = match wanted.timeout.map(Duration::try_from_secs_f64) {
        None => None,
        Some(Ok(time)) => Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        Some(Err(error)) => return Err(Failure::Usage(format!("--timeout: {error}"))),
    };
    let request = Request::Search {
        text: wanted.text.join(" "),
        scope: Some(wanted.scope.name().to_owned()),
        datatype: wanted.datatype,
        limit: wanted.limit,
        timeout_ms,
    };
    let wait = settings.search.timeout + PATIENCE;
    ask_many(&settings.state_dir, &request, wait, |line: SearchLine| {
        let text = if common.json {
            serde_json::to_string(&line).map(|line| line + "\n")?
        } else {
            words(&line)
        };
        answer(&text)?;
        Ok(matches!(line, SearchLine::End { .. }))
    })
}

fn words(line: &SearchLine) -> String {
    match line {
        SearchLine::Result {
            peer,
            datatype,
            document,
        } => {
            let kind = datatype.strip_suffix("_resource").unwrap_or(datatype);
            let id = said(document, "id");
            let mut out = format!("{} ({kind}, {}) of {}\n", said(document, "name"), id, called(peer));
            let about = ["short_description", "description"].map(|key| said(document, key));
            if let Some(about) = about.into_iter().find(|about| !about.is_empty()) {
                let shown: String = about.chars().take(SHOWN).collect();
                let more = if about.chars().count() > SHOWN { "..." } else { "" };
                // Writing to a String cannot fail.
                let _ = writeln!(out, "    {shown}{more}");
            }
            out
        }
        SearchLine::End {
            asked,
            results,
            truncated,
            answered,
            failed,
            silent,
            skipped,
        } => {
            let more = if *truncated { "; there may be more" } else { "" };
            let mut out = format!("results: {results}{more}; peers asked: {asked}\n");
            let groups = [
                ("answered", answered),
                ("did not answer in time", silent),
                ("could not be asked", failed),
                ("skipped (blacklisted, or without a PeerId)", skipped),
            ];
            for (what, peers) in groups.into_iter().filter(|(_, peers)| !peers.is_empty()) {
                let names: Vec<String> = peers.iter().map(called).collect();
                let _ = writeln!(out, "{what}: {}", names.join(", "));
            }
            out
        }
    }
}

/// A text of the document, also where the Go driver nests it.
fn said(document: &Value, key: &str) -> String {
    let nests = ["abstractobject", "abstractresource", "abstractinstanciatedresource"];
    let mut level = Some(document);
    while let Some(object) = level {
        if let Some(text) = object.get(key).and_then(Value::as_str) {
            return plain(text);
        }
        level = nests.iter().find_map(|nest| object.get(nest));
    }
    String::new()
}

/// A name that only a record claims is told with the DID: anybody may claim any name.
fn called(peer: &Named) -> String {
    match (peer.name.as_str(), peer.by_record) {
        ("", _) => plain(&peer.did),
        (name, false) => plain(name),
        (name, true) => format!("{} ({})", plain(name), plain(&peer.did)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn peer(name: &str) -> Named {
        Named {
            did: format!("did:{name}"),
            name: name.to_owned(),
            by_record: name == "carol",
        }
    }

    #[test]
    fn a_result_is_told_in_two_lines_without_control_characters() {
        let line = |document| {
            words(&SearchLine::Result {
                peer: peer("bob"),
                datatype: "compute_resource".to_owned(),
                document,
            })
        };
        let plain = line(json!({"id": "gpu-1", "name": "GPU\u{1b}[2J", "short_description": "fast"}));
        assert_eq!(plain, "GPU\u{fffd}[2J (compute, gpu-1) of bob\n    fast\n");
        let nested = line(json!({"abstractresource": {"abstractobject": {"id": "gpu-1", "name": "GPU"}}}));
        assert_eq!(nested, "GPU (compute, gpu-1) of bob\n");
        let long = line(json!({"id": "i", "name": "n", "description": "x".repeat(SHOWN + 1)}));
        assert!(long.ends_with("x...\n"), "{long}");
    }

    #[test]
    fn the_end_names_who_had_which_part() {
        let end = SearchLine::End {
            asked: 3,
            results: 1,
            truncated: true,
            answered: vec![peer("bob"), peer("carol")],
            failed: vec![peer("")],
            silent: vec![],
            skipped: vec![peer("eve")],
        };
        assert_eq!(
            words(&end),
            "results: 1; there may be more; peers asked: 3\nanswered: bob, carol (did:carol)\ncould not be asked: did:\n\
             skipped (blacklisted, or without a PeerId): eve\n"
        );
    }
}
