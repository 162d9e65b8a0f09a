//! Searching the store on one of its readers, streaming what is found.
//!
//! The index narrows, the access rule decides: every document sent has passed it.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Row, ToSql};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::readers::{Readers, Stop};
use super::store_error;
use super::words::expressions;
use crate::model::{Document, may_see};
use crate::store::{Found, SearchDone, SearchQuery, StoreError};
use crate::wire::DataType;

/// Longest a search may run, whatever its deadline: its reader, and the log it holds back, are needed again.
const SEARCH_MAX: Duration = Duration::from_secs(60);

/// Runs the query on a reader.
pub(super) async fn run(
    readers: &Readers,
    path: &Path,
    query: SearchQuery,
    out: mpsc::Sender<Found>,
) -> Result<SearchDone, StoreError> {
    let query = query.within(SEARCH_MAX)?;
    let stop = Stop {
        cancel: query.cancel.child_token(),
        deadline: query.deadline,
    };
    let done = SearchDone {
        truncated: false,
        results: 0,
    };
    let walk = Walk {
        query,
        out,
        stop: stop.clone(),
        handle: Handle::current(),
        done,
    };
    let path = path.to_owned();
    let done = readers
        .search(stop, move |connection| walk.run(connection, &path))
        .await?;
    Ok(done.unwrap_or(SearchDone {
        truncated: true,
        results: 0,
    }))
}

struct Walk {
    query: SearchQuery,
    out: mpsc::Sender<Found>,
    stop: Stop,
    handle: Handle,
    done: SearchDone,
}

impl Walk {
    fn run(mut self, connection: &Connection, path: &Path) -> Result<SearchDone, StoreError> {
        let walked = if self.stop.is_now() {
            Ok(false)
        } else {
            self.walk(connection)
        };
        self.done.truncated = match walked {
            Ok(to_the_end) => !to_the_end,
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => true,
            Err(error) => return Err(store_error(path, &error)),
        };
        Ok(self.done)
    }

    /// Sends what matches; false when it was stopped before the end.
    fn walk(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let SearchQuery {
            text, own_did, asker, ..
        } = &self.query;
        let asked = expressions(text, own_did, asker.trusted);
        let Some(sql) = statement(&self.query.datatypes, asked.is_some()) else {
            return Ok(true);
        };
        let Some([words, beginnings]) = asked else {
            return self.rows(connection, &sql, None, &mut |_| true);
        };
        // At most as many as are wanted: what the second query finds again is not sent again.
        let mut sent = HashSet::new();
        Ok(self.rows(connection, &sql, Some(&words), &mut |n| sent.insert(n))?
            && self.rows(connection, &sql, Some(&beginnings), &mut |n| !sent.contains(&n))?)
    }

    fn rows(
        &mut self,
        connection: &Connection,
        sql: &str,
        words: Option<&dyn ToSql>,
        is_new: &mut dyn FnMut(i64) -> bool,
    ) -> rusqlite::Result<bool> {
        let (own_did, trusted) = (self.query.own_did.clone(), self.query.asker.trusted);
        let mut parameters: Vec<&dyn ToSql> = vec![&own_did, &trusted];
        parameters.extend(words);
        let mut query = connection.prepare_cached(sql)?;
        let mut rows = query.query(parameters.as_slice())?;
        while let Some(row) = rows.next()? {
            if self.stop.is_now() {
                return Ok(false);
            }
            let Some(found) = visible(row, &self.query)? else {
                continue;
            };
            if !is_new(row.get(2)?) {
                continue;
            }
            if self.done.results >= self.query.limit || !self.send(found) {
                return Ok(false);
            }
            self.done.results += 1;
        }
        Ok(true)
    }

    fn send(&self, found: Found) -> bool {
        if let Some(room) = &self.query.room
            && !room.try_take(&found)
            && !self.wait(async {
                tokio::select! {
                    () = room.take(&found) => true,
                    () = self.out.closed() => false,
                }
            })
        {
            return false;
        }
        match self.out.try_send(found) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(found)) => self.wait(async { self.out.send(found).await.is_ok() }),
        }
    }

    /// Waits for a slow listener, but not beyond the end of the search.
    fn wait(&self, listener: impl Future<Output = bool>) -> bool {
        self.handle.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.cancel.cancelled() => false,
                done = listener => done,
                () = tokio::time::sleep_until(self.stop.deadline.into()) => false,
            }
        })
    }
}

/// The row's document when the asker may see it. One that cannot be read wholly is shown to nobody.
fn visible(row: &Row<'_>, query: &SearchQuery) -> rusqlite::Result<Option<Found>> {
    let Some(datatype) = DataType::from_code(row.get::<_, u8>(0)?.into()) else {
        return Ok(None);
    };
    let doc = row.get_ref(1)?.as_blob()?;
    if !may_see(doc, &query.own_did, &query.asker.as_asker()) {
        return Ok(None);
    }
    let document = Document::whole(doc.to_vec()).ok();
    Ok(document.map(|document| Found { datatype, document }))
}

/// The query for these kinds; none when no kind is left. Kinds are numbers of ours, so they may stand in the text.
fn statement(datatypes: &[DataType], by_words: bool) -> Option<String> {
    let wanted = |kind: &DataType| datatypes.is_empty() || datatypes.contains(kind);
    let kinds: Vec<String> = DataType::RESOURCE_KINDS
        .iter()
        .filter(|kind| wanted(kind))
        .map(|kind| kind.code().to_string())
        .collect();
    let (from, matching) = match by_words {
        true => (
            "words CROSS JOIN document ON document.n = words.rowid",
            "words MATCH ?3 AND",
        ),
        false => ("document", ""),
    };
    (!kinds.is_empty()).then(|| {
        format!(
            "SELECT datatype, doc, n FROM {from} WHERE {matching} creator_id = ?1 AND (access = 1 OR access = 2 AND ?2)
             AND datatype BETWEEN 1 AND 5 AND datatype IN ({})",
            kinds.join(",")
        )
    })
}
