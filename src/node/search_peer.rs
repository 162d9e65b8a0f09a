//! Searches for peers, and how results and reports of any search reach NATS.
//!
//! Owns nothing. Always: a search for peers ends with a report, however long indexers or the DHT take.

use super::resolve::{Looked, get_peer_record};
use super::search::{SearchDesk, new_id};
use crate::bus::Out;
use crate::wire::{DataType, Envelope, OWN_NAME, SearchEnd, SearchRequest};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;
use tracing::debug;

impl SearchDesk {
    /// The diagrams' PB_SEARCH with datatype PEER.
    pub(super) async fn search_peer(&self, request: SearchRequest, user: String) {
        self.metrics.searched("peer");
        let id = request.id.clone();
        let longest = self.settings.borrow().search.timeout;
        let time = request
            .timeout_ms
            .map_or(longest, |ms| Duration::from_millis(ms).min(longest));
        let deadline = Instant::now() + time;
        let Looked { hits, error, cut } =
            get_peer_record(self.store.as_ref(), &self.discovery, &request.text, deadline).await;
        if let Some(error) = &error {
            self.refusals.refuse("store_down", "search", error);
        }
        let most = request
            .limit
            .unwrap_or(usize::MAX)
            .min(self.settings.borrow().search.max_results);
        let found = hits.iter().take(most);
        let found = found.map(|hit| result(DataType::Peer, hit.json().into(), &user, id.clone()));
        let lost = self.publish(found.collect()).await.len();
        // A store that is away may have had more.
        let truncated = hits.len() > most || lost > 0 || cut || error.is_some();
        let end = SearchEnd {
            results: hits.len().min(most) - lost,
            truncated,
            ..SearchEnd::without_answers(id.unwrap_or_else(new_id))
        };
        self.report(&end).await;
    }

    /// Publishes results in their order; one that NATS does not take is left out. Says which ones.
    #[must_use]
    pub(super) async fn publish(&self, results: Vec<Bytes>) -> Vec<usize> {
        let mut lost = Vec::new();
        let refused = |which, error| {
            lost.extend(which);
            self.refusals.refuse("nats_refused", "search_event", error);
        };
        self.bus.publish_all_now(Out::SearchEvent, results, refused).await;
        lost
    }

    pub(super) async fn report(&self, end: &SearchEnd) {
        debug!(id = %end.search_id, results = end.results, answered = end.answered, "a search is over");
        if let Err(error) = self.bus.publish_now(Out::SearchEnd, end.write().into()).await {
            self.refusals.refuse("nats_refused", "search_end", error);
        }
    }
}

/// What the app gets of one result.
pub(super) fn result(datatype: DataType, payload: Bytes, user: &str, search_id: Option<String>) -> Bytes {
    let envelope = Envelope {
        from_app: OWN_NAME.to_owned(),
        datatype,
        user: user.to_owned(),
        groups: Vec::new(),
        payload,
        search_id,
    };
    envelope.write().into()
}
