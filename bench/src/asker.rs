//! An app that asks by PB_SEARCH, and times the answers on its NATS.

use anyhow::{Context, Result};
use async_nats::Subscriber;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use oc_discovery::wire::DataType;
use oc_testkit::Peer;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longest wait for a search's end.
const PATIENCE: Duration = Duration::from_secs(60);

/// One search.
#[derive(Debug, Clone, Copy, Default)]
pub struct Took {
    /// To the first result.
    pub first: Duration,
    /// To the last.
    pub last: Duration,
    /// How many there were.
    pub results: usize,
}

/// An app at one peer's NATS.
pub struct Asker {
    client: async_nats::Client,
    results: Subscriber,
    ends: Subscriber,
    asked: usize,
}

impl Asker {
    /// At this peer.
    pub async fn at(peer: &mut Peer) -> Result<Self> {
        let server = peer.nats_server();
        let client = server.connect_options().connect(server.url()).await?;
        Ok(Self {
            results: client.subscribe("search_event").await?,
            ends: client.subscribe("search_end").await?,
            client,
            asked: 0,
        })
    }

    /// Asks, and hears everything to the end. `request` gets an id.
    pub async fn ask(&mut self, request: &Value, datatype: DataType) -> Result<Took> {
        self.asked += 1;
        let id = format!("bench-{}", self.asked);
        let mut request = request.clone();
        request["id"] = json!(id);
        let inner = json!({"datatype": datatype.code(), "action": 0, "payload": STANDARD.encode(request.to_string())});
        let message = json!({"from_app": "bench", "datatype": datatype.code(), "user": "bench", "payload": STANDARD.encode(inner.to_string())});
        let mut took = Took::default();
        let mut wanted = None;
        let began = Instant::now();
        self.client
            .publish("propalgation_event", message.to_string().into())
            .await?;
        let hearing = async {
            while wanted.is_none_or(|wanted| took.results < wanted) {
                tokio::select! {
                    Some(_) = self.results.next() => {
                        took.results += 1;
                        took.last = began.elapsed();
                        if took.results == 1 {
                            took.first = took.last;
                        }
                    }
                    Some(end) = self.ends.next() => {
                        let end: Value = serde_json::from_slice(&end.payload)?;
                        if end["search_id"] == id {
                            wanted = Some(end["results"].as_u64().context("no results in the end")? as usize);
                        }
                    }
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, hearing)
            .await
            .context("a search without an end")??;
        Ok(took)
    }
}
