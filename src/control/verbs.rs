//! What each verb does: asks the running parts, and says it in the door's words.
//!
//! Owns which part answers which verb. Never decides what delivery decides.

use super::backup::backup;
use super::outbox::{Wanted, drop_parked, known, outbox, reconcile, resync, retry};
use super::told::{Check, Outbox, ParkedCount, VERBS};
use super::{Answer, Refused, Request, Status, intake, peers, search};
use crate::node::Up;
use crate::settings::Settings;
use crate::telemetry::{Readiness, process_start};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, watch};

type Done<T> = Result<T, Refused>;

/// What is written for one request.
pub(super) enum Answering {
    /// This line.
    One(Vec<u8>),
    /// These, as they come.
    Many(mpsc::Receiver<Vec<u8>>),
}

/// What the answers are made of; see the module's first lines.
pub struct Verbs {
    settings: watch::Receiver<Arc<Settings>>,
    peer_id: String,
    readiness: Readiness,
    up: watch::Receiver<Option<Up>>,
    /// One backup at a time.
    copying: Arc<Mutex<()>>,
}

impl Clone for Verbs {
    fn clone(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            peer_id: self.peer_id.clone(),
            readiness: self.readiness.clone(),
            up: self.up.clone(),
            copying: Arc::clone(&self.copying),
        }
    }
}

impl Verbs {
    /// Asks the parts that `up` tells of, once it does.
    #[must_use]
    pub fn new(
        settings: watch::Receiver<Arc<Settings>>,
        peer_id: String,
        readiness: Readiness,
        up: watch::Receiver<Option<Up>>,
    ) -> Self {
        Self {
            settings,
            peer_id,
            readiness,
            up,
            copying: Arc::default(),
        }
    }

    /// The answer to one line: one line, or as many as come.
    pub(super) async fn answer(&self, line: &[u8]) -> Answering {
        let done = match read(line) {
            Ok(Request::Search {
                text,
                scope,
                datatype,
                limit,
                timeout_ms,
            }) => {
                let wanted = search::Wanted {
                    text,
                    scope,
                    datatype,
                    limit,
                    timeout_ms,
                };
                match self.search(wanted).await {
                    Ok(lines) => return Answering::Many(lines),
                    Err(refused) => Err(refused),
                }
            }
            Ok(request) => self.act(request).await,
            Err(refused) => Err(refused),
        };
        Answering::One(written(&done.map_or_else(Answer::Error, Answer::Ok)))
    }

    async fn search(&self, wanted: search::Wanted) -> Done<mpsc::Receiver<Vec<u8>>> {
        let settings = Arc::clone(&self.settings.borrow());
        search::search(self.is_up()?, wanted, &settings.search).await
    }

    fn is_up(&self) -> Done<Up> {
        let up = self.up.borrow().clone();
        up.ok_or_else(|| Refused::new("starting", self.not_up()))
    }

    /// The answer to a line that did not end within its bound.
    pub(super) fn cut_short() -> Vec<u8> {
        written(&Answer::Error(Refused::new(
            "bad_request",
            "the request is too long, or did not end with a line feed",
        )))
    }

    async fn act(&self, request: Request) -> Done<Value> {
        if request == (Request::Status {}) {
            return value(&self.status().await);
        }
        let up = self.is_up()?;
        match request {
            Request::Status {} => value(&self.status().await),
            // Its answer has many lines, and is given above.
            Request::Search { .. } => Err(Refused::new("bad_request", "a search has many answers")),
            Request::Outbox {
                partner,
                parked,
                id,
                skip,
            } => value(&outbox(&up, partner.as_deref(), parked.then_some(Wanted { id, skip })).await?),
            Request::OutboxRetry { partner, id } => value(&retry(&up, &partner, id.as_deref()).await?),
            Request::OutboxDrop { partner, id } => value(&drop_parked(&up, &partner, id.as_deref()).await?),
            Request::Resync { partner, allow_deletes } => value(&resync(&up, &partner, allow_deletes).await?),
            Request::Reconcile { allow_deletes } => value(&reconcile(&up, allow_deletes)),
            request @ (Request::PeerList {}
            | Request::PeerRecords { .. }
            | Request::PeerExplain { .. }
            | Request::PeerAdd { .. }
            | Request::PeerRemove { .. }
            | Request::OwnAddresses {}) => {
                let settings = Arc::clone(&self.settings.borrow());
                peers::act(&up, &settings, request).await
            }
            Request::Backup { to, with_keys } => {
                let Ok(_one) = self.copying.try_lock() else {
                    return Err(Refused::new("busy", "another backup is being made"));
                };
                let settings = Arc::clone(&self.settings.borrow());
                value(&backup(&up, &settings, to, with_keys).await?)
            }
        }
    }

    fn not_up(&self) -> String {
        let (reasons, stopping) = self.readiness.reasons();
        match stopping {
            true => "the daemon is stopping".to_owned(),
            false => format!("the daemon is still starting ({})", reasons.join("; ")),
        }
    }

    /// How the daemon is. Nothing secret is in it.
    pub async fn status(&self) -> Status {
        let up = self.up.borrow().clone();
        let checks = self.readiness.snapshot();
        let name = self.settings.borrow().name.clone();
        let outbox = match &up {
            Some(up) => match outbox(up, None, None).await {
                Ok(outbox) => outbox,
                // The journal cannot be read: what is known without it.
                Err(_) => Outbox {
                    partners: known(up).await,
                    ..Outbox::default()
                },
            },
            None => Outbox::default(),
        };
        Status {
            name,
            did: up.as_ref().map(|up| up.did.clone()),
            peer_id: self.peer_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: process_start().elapsed().as_secs(),
            ready: checks.iter().all(|(_, why)| why.is_none()),
            checks: checks
                .into_iter()
                .map(|(name, why)| Check {
                    name: name.to_owned(),
                    ok: why.is_none(),
                    why: why.unwrap_or_default(),
                })
                .collect(),
            intake: intake::place(up.as_ref()).await,
            to_publish: intake::to_publish(up.as_ref()).await,
            parked: ParkedCount {
                intake: outbox.intake_parked,
                partners: outbox.partners.iter().map(|partner| partner.parked).sum(),
            },
            partners: outbox.partners,
            indexers: up.as_ref().map(|up| peers::list(up).indexers).unwrap_or_default(),
            records: up
                .as_ref()
                .filter(|up| up.discovery.is_indexer())
                .map(|up| up.discovery.records().0 as u64),
        }
    }
}

pub(super) fn written(answer: &Answer) -> Vec<u8> {
    // Text keys and numbers only: it cannot fail, and an empty line is an answer that cannot be read.
    serde_json::to_vec(answer).unwrap_or_default()
}

pub(super) fn value(told: &impl Serialize) -> Done<Value> {
    serde_json::to_value(told).map_err(|error| Refused::new("failed", error.to_string()))
}

/// A request, or what is wrong with it.
pub(super) fn read(line: &[u8]) -> Done<Request> {
    let bad = |error: serde_json::Error| Refused::new("bad_request", format!("the request cannot be read: {error}"));
    let request: Value = serde_json::from_slice(line).map_err(bad)?;
    let verb = request.get("verb").and_then(Value::as_str).unwrap_or_default();
    if !VERBS.contains(&verb) {
        let text = format!(
            "version {} does not know the verb {verb:?}; it knows {}",
            env!("CARGO_PKG_VERSION"),
            VERBS.join(", ")
        );
        return Err(Refused::new("unknown_verb", text));
    }
    serde_json::from_value(request).map_err(bad)
}
