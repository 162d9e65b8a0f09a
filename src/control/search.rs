//! A search at the operators' door: many lines for one.
//!
//! Owns the way from the search desk to a connection. Always: whoever goes away ends the search; nothing waits for a slow
//! reader but its own results.

use super::told::{Named, SearchLine};
use super::{Answer, Refused, verbs};
use crate::model::Federation;
use crate::node::{SearchOver, SearchTold, Up};
use crate::wire::{DataType, SearchRequest, SearchScope};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Lines made and not yet written; what is behind them waits at the desk.
const LINES: usize = 16;

/// What is searched, in the words of the door.
pub(super) struct Wanted {
    pub(super) text: String,
    pub(super) scope: Option<String>,
    pub(super) datatype: Option<String>,
    pub(super) limit: Option<usize>,
    pub(super) timeout_ms: Option<u64>,
}

impl Wanted {
    fn request(self) -> Result<SearchRequest, Refused> {
        let bad = |text: String| Refused::new("bad_request", text);
        let scope = self.scope.as_deref().unwrap_or("all");
        let scope = SearchScope::from_name(scope)
            .ok_or_else(|| bad(format!("{scope:?} is no scope; there are all, known and partner")))?;
        let datatype = match self.datatype.as_deref() {
            None => None,
            Some(name) => Some(kind(name).ok_or_else(|| {
                let kinds: Vec<&str> = kinds().map(DataType::name).collect();
                bad(format!("{name:?} cannot be searched; there are {}", kinds.join(", ")))
            })?),
        };
        Ok(SearchRequest {
            scope,
            text: self.text,
            id: None,
            limit: self.limit,
            timeout_ms: self.timeout_ms,
            datatype,
        })
    }
}

fn kinds() -> impl Iterator<Item = DataType> {
    (0..=u64::from(u8::MAX))
        .map_while(DataType::from_code)
        .filter(|kind| kind.is_resource_kind())
}

/// A kind by its name, with or without `_resource`.
fn kind(name: &str) -> Option<DataType> {
    kinds().find(|kind| kind.name() == name || kind.name().strip_suffix("_resource") == Some(name))
}

/// Asks, and gives the lines as they come. When nobody takes them any more the search ends.
pub(super) async fn search(up: Up, wanted: Wanted) -> Result<mpsc::Receiver<Vec<u8>>, Refused> {
    let request = wanted.request()?;
    let ended = || Refused::new("stopping", "the daemon is stopping");
    let (id, told) = up.search.ask(request).await.ok_or_else(ended)?;
    let (lines, taken) = mpsc::channel(LINES);
    tokio::spawn(tell(up, id, told, lines));
    Ok(taken)
}

async fn tell(up: Up, id: String, mut told: mpsc::Receiver<SearchTold>, lines: mpsc::Sender<Vec<u8>>) {
    loop {
        let told = tokio::select! {
            () = lines.closed() => break,
            told = told.recv() => told,
        };
        let Some(told) = told else { break };
        let federation = Arc::clone(&up.federation.borrow());
        let (answer, last) = match told {
            SearchTold::Result {
                did,
                datatype,
                document,
                room: _room,
            } => (result(&federation, did, datatype, &document), false),
            SearchTold::Over(over) => (verbs::value(&end(&federation, over)), true),
            SearchTold::Refused(rule) => (Err(Refused::new(rule, "too many searches are open")), true),
        };
        let line = verbs::written(&answer.map_or_else(Answer::Error, Answer::Ok));
        if lines.send(line).await.is_err() {
            break;
        }
        if last {
            return;
        }
    }
    up.search.close(id).await;
}

fn result(
    federation: &Federation,
    did: String,
    datatype: DataType,
    document: &[u8],
) -> Result<serde_json::Value, Refused> {
    // One that no reader takes wholly (half a character, a number beyond all bounds) is shown as text: it ends no search.
    let document = serde_json::from_slice(document).unwrap_or_else(|_| String::from_utf8_lossy(document).into());
    verbs::value(&SearchLine::Result {
        peer: named(federation, did),
        datatype: datatype.name().to_owned(),
        document,
    })
}

fn end(federation: &Federation, over: SearchOver) -> SearchLine {
    let all = |dids: Vec<String>| dids.into_iter().map(|did| named(federation, did)).collect();
    SearchLine::End {
        asked: over.report.asked,
        results: over.report.results,
        truncated: over.report.truncated,
        answered: all(over.answered),
        failed: all(over.failed),
        silent: all(over.silent),
        skipped: all(over.skipped),
    }
}

fn named(federation: &Federation, did: String) -> Named {
    let name = federation.get(&did).map(|member| member.name.clone());
    Named {
        name: name.unwrap_or_default(),
        did,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(scope: Option<&str>, datatype: Option<&str>) -> Result<SearchRequest, Refused> {
        let wanted = Wanted {
            text: "gpu".to_owned(),
            scope: scope.map(str::to_owned),
            datatype: datatype.map(str::to_owned),
            limit: Some(3),
            timeout_ms: None,
        };
        wanted.request()
    }

    #[test]
    fn a_result_that_cannot_be_read_wholly_is_told_as_text() {
        let told = |document: &[u8]| {
            let kind = DataType::ComputeResource;
            result(&Federation::default(), "did:bob".to_owned(), kind, document).unwrap()["result"]["document"].clone()
        };
        assert_eq!(told(br#"{"id":"r"}"#), serde_json::json!({"id": "r"}));
        for text in [r#"{"id":"\ud800"}"#, r#"{"id":1e999}"#] {
            assert_eq!(told(text.as_bytes()), serde_json::json!(text));
        }
    }

    #[test]
    fn scopes_and_kinds_are_known_by_name() {
        assert_eq!(wanted(None, None).unwrap().scope, SearchScope::All);
        for name in ["compute", "compute_resource"] {
            let request = wanted(Some("partner"), Some(name)).unwrap();
            assert_eq!(
                (request.scope, request.datatype),
                (SearchScope::Partner, Some(DataType::ComputeResource))
            );
        }
        for (scope, datatype, says) in [
            (Some("friends"), None, "there are all, known and partner"),
            (None, Some("peer"), "there are data_resource, processing_resource"),
        ] {
            let refused = wanted(scope, datatype).unwrap_err();
            assert!(refused.text.contains(says), "{}", refused.text);
        }
    }
}
