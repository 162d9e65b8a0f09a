//! Answers that other daemons send: checked, and given to whoever asks.
//!
//! Owns nothing but the way from a read batch to NATS, or to an operator. Always: an answer reaches only the search that put
//! its question to the answerer, and only as a document of the answerer's own.

use super::search::Running;
use super::search_peer::result;
use super::searches::{Answered, OTHER_KIND};
use crate::model::read_header;
use crate::stream::Answers;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

impl Running {
    /// The diagrams' `retrieveResponse`: each answer goes to NATS when a search waits for it.
    pub(super) async fn retrieve_response(&mut self, answers: Answers) {
        let Answers {
            from,
            events,
            stream,
            closed,
        } = answers;
        let most = self.desk.settings.borrow().limits.document_bytes;
        let now = Instant::now();
        let mut publish = Vec::with_capacity(events.len());
        let mut searches = Vec::with_capacity(events.len());
        for event in events {
            let refused = match read_header(&event.payload) {
                _ if event.payload.len() > most => Some("too_large"),
                Ok(header) if header.creator_id != from.did => Some("not_creator"),
                Ok(_) => None,
                Err(error) => Some(error.rule()),
            };
            if let Some(rule) = refused {
                self.desk.refusals.refuse(rule, &from.did, "an answer to a search");
                continue;
            }
            let search_id = event.search_id.as_deref();
            match self
                .table
                .answer(&from.did, search_id, &event.user, event.datatype, now)
            {
                Answered::Publish { id, user, search_id } => {
                    self.desk.metrics.search_answered();
                    // One that names its search brings answers to no other.
                    if event.search_id.is_some() {
                        self.note_stream(&id, &from.did, &closed);
                    }
                    match self.listeners.get(&id) {
                        None => {
                            publish.push(result(event.datatype, event.payload, &user, search_id));
                            searches.push(id);
                        }
                        Some(listener) => {
                            if !listener.result(&from.did, event.datatype, event.payload) {
                                self.desk.metrics.dropped("search_answer", "slow_asker");
                                self.table.cut(&id);
                            }
                        }
                    }
                }
                Answered::Drop(reason) => {
                    self.desk.metrics.dropped("search_answer", reason);
                    // Nobody waits for the rest of it either; behind one of another kind there may be one that is wanted.
                    if reason != OTHER_KIND {
                        stream.cancel();
                    }
                }
            }
        }
        for lost in self.desk.publish(publish).await {
            if let Some(id) = searches.get(lost) {
                self.table.cut(id);
            }
        }
    }

    fn note_stream(&mut self, search: &str, did: &str, stream: &CancellationToken) {
        if !self
            .streams
            .get(search)
            .is_some_and(|streams| streams.contains_key(did))
        {
            let streams = self.streams.entry(search.to_owned()).or_default();
            streams.insert(did.to_owned(), stream.clone());
        }
    }
}
