//! A search at the operators' door: many lines for one.
//!
//! Owns the way from the search desk to a connection. Always: whoever goes away ends the search; nothing waits for a slow
//! reader but its own results.

use super::told::{Named, SearchLine};
use super::{Answer, Refused, verbs};
use crate::discovery::Depth;
use crate::model::Federation;
use crate::node::{SearchOver, SearchTold, Up};
use crate::settings::SearchSettings;
use crate::wire::{DataType, SearchRequest, SearchScope};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Lines made and not yet written; what is behind them waits at the desk.
const LINES: usize = 16;
/// Peers without a name that the indexers are asked about at the end of a search, and how long that may take.
const NAMES: usize = 32;
const NAMES_TIME: Duration = Duration::from_secs(1);

/// What is searched, in the words of the door.
pub(super) struct Wanted {
    pub(super) text: String,
    pub(super) scope: Option<String>,
    pub(super) datatype: Option<String>,
    pub(super) limit: Option<usize>,
    pub(super) timeout_ms: Option<u64>,
}

impl Wanted {
    /// What is asked, when it lies within what `search.*` allows: more than that would be cut in silence.
    fn request(self, allowed: &SearchSettings) -> Result<SearchRequest, Refused> {
        let bad = |text: String| Refused::new(super::BAD_REQUEST, text);
        let most = allowed.max_results;
        if let Some(limit) = self.limit.filter(|limit| !(1..=most).contains(limit)) {
            return Err(bad(format!(
                "{limit} is no limit of a search: from 1 to {most} results can be asked for (search.max_results)"
            )));
        }
        let longest = allowed.timeout;
        let time = self.timeout_ms.map(Duration::from_millis);
        if let Some(time) = time.filter(|time| time.is_zero() || *time > longest) {
            return Err(bad(format!(
                "{} s is no time of a search: it takes from 0.001 to {} s (search.timeout)",
                time.as_secs_f64(),
                longest.as_secs_f64()
            )));
        }
        let scope = self.scope.as_deref().unwrap_or("all");
        let scope = SearchScope::from_name(scope)
            .ok_or_else(|| bad(format!("{scope:?} is no scope; there are all, known and partner")))?;
        let datatype = match self.datatype.as_deref() {
            None => None,
            Some("peer") => {
                return Err(bad(
                    "\"peer\" cannot be searched so: `oc-discovery peer explain WHO` tells who bears a name, DID or \
                     PeerId; apps ask by a search with datatype peer (PB_SEARCH)"
                        .to_owned(),
                ));
            }
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
pub(super) async fn search(
    up: Up,
    wanted: Wanted,
    allowed: &SearchSettings,
) -> Result<mpsc::Receiver<Vec<u8>>, Refused> {
    let request = wanted.request(allowed)?;
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
        if let SearchTold::Over(over) = &told {
            learn_names(&up, over).await;
        }
        let names = Names {
            federation: Arc::clone(&up.federation.borrow()),
            recorded: &|did| up.discovery.name_of(did),
        };
        let (answer, last) = match told {
            SearchTold::Result {
                did,
                datatype,
                document,
                room: _room,
            } => (result(&names, did, datatype, &document), false),
            SearchTold::Over(over) => (verbs::value(&end(&names, over)), true),
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

/// Asks the indexers who those are whom nothing here names yet: by a search's end its operator wants to know who answered.
async fn learn_names(up: &Up, over: &SearchOver) {
    let federation = Arc::clone(&up.federation.borrow());
    let all = [&over.answered, &over.failed, &over.silent, &over.skipped];
    let unnamed = all.into_iter().flatten();
    let unnamed = unnamed.filter(|did| federation.get(did).is_none() && up.discovery.name_of(did).is_none());
    let asked = unnamed.take(NAMES).map(|did| up.discovery.find(did, Depth::Indexers));
    // What is found is remembered there; who is not found in time is told by its DID.
    let _ = tokio::time::timeout(NAMES_TIME, futures::future::join_all(asked)).await;
}

fn result(names: &Names<'_>, did: String, datatype: DataType, document: &[u8]) -> Result<serde_json::Value, Refused> {
    // One that no reader takes wholly (half a character, a number beyond all bounds) is shown as text: it ends no search.
    let document = serde_json::from_slice(document).unwrap_or_else(|_| String::from_utf8_lossy(document).into());
    verbs::value(&SearchLine::Result {
        peer: names.of(did),
        datatype: datatype.name().to_owned(),
        document,
    })
}

fn end(names: &Names<'_>, over: SearchOver) -> SearchLine {
    let all = |dids: Vec<String>| dids.into_iter().map(|did| names.of(did)).collect();
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

/// Who is called what: by our store, else by the record of somebody whom the store does not name.
struct Names<'a> {
    federation: Arc<Federation>,
    recorded: &'a (dyn Fn(&str) -> Option<String> + Sync),
}

impl Names<'_> {
    fn of(&self, did: String) -> Named {
        let stored = self.federation.get(&did).map(|member| member.name.clone());
        let stored = stored.filter(|name| !name.is_empty());
        let recorded = || (self.recorded)(&did).filter(|name| !name.is_empty());
        let (name, by_record) = stored.map_or_else(|| (recorded(), true), |name| (Some(name), false));
        Named {
            by_record: by_record && name.is_some(),
            name: name.unwrap_or_default(),
            did,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Member, Relation};

    fn wanted(scope: Option<&str>, datatype: Option<&str>) -> Result<SearchRequest, Refused> {
        let wanted = Wanted {
            text: "gpu".to_owned(),
            scope: scope.map(str::to_owned),
            datatype: datatype.map(str::to_owned),
            limit: Some(3),
            timeout_ms: None,
        };
        wanted.request(&allowed())
    }

    fn allowed() -> SearchSettings {
        SearchSettings {
            timeout: Duration::from_secs(10),
            max_results: 1_000,
        }
    }

    #[test]
    fn what_would_be_cut_in_silence_is_refused_with_its_range() {
        let asked = |limit, timeout_ms| {
            let wanted = Wanted {
                text: String::new(),
                scope: None,
                datatype: None,
                limit,
                timeout_ms,
            };
            wanted.request(&allowed()).map_err(|refused| refused.text)
        };
        for (limit, time) in [(None, None), (Some(1), Some(1)), (Some(1_000), Some(10_000))] {
            assert!(asked(limit, time).is_ok(), "{limit:?} {time:?}");
        }
        for limit in [0, 1_001] {
            let told = asked(Some(limit), None).unwrap_err();
            assert!(told.contains("from 1 to 1000 results"), "{told}");
        }
        for time in [0, 10_001, u64::MAX] {
            let told = asked(None, Some(time)).unwrap_err();
            assert!(told.contains("from 0.001 to 10 s"), "{told}");
        }
    }

    #[test]
    fn a_name_of_the_store_comes_before_one_that_a_record_claims() {
        let member = Member {
            did: "did:bob".to_owned(),
            name: "bob".to_owned(),
            relation: Relation::Partner,
            peer_id: None,
            addresses: vec![],
        };
        let names = Names {
            federation: Arc::new(Federation::new("did:alice".to_owned(), [member])),
            recorded: &|did| (did != "did:eve").then(|| "carol".to_owned()),
        };
        let told = |did: &str| {
            let named = names.of(did.to_owned());
            (named.name, named.by_record)
        };
        assert_eq!(told("did:bob"), ("bob".to_owned(), false));
        assert_eq!(told("did:carol"), ("carol".to_owned(), true));
        assert_eq!(told("did:eve"), (String::new(), false));
    }

    #[test]
    fn a_result_that_cannot_be_read_wholly_is_told_as_text() {
        let told = |document: &[u8]| {
            let kind = DataType::ComputeResource;
            let names = Names {
                federation: Arc::default(),
                recorded: &|_| None,
            };
            result(&names, "did:bob".to_owned(), kind, document).unwrap()["result"]["document"].clone()
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
            (None, Some("gpu"), "there are data_resource, processing_resource"),
            (None, Some("peer"), "`oc-discovery peer explain WHO`"),
        ] {
            let refused = wanted(scope, datatype).unwrap_err();
            assert!(refused.text.contains(says), "{}", refused.text);
        }
    }
}
