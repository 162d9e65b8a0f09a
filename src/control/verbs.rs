//! What each verb does: asks the running parts, and says it in the door's words.
//!
//! Owns who is meant by a partner's name. Never decides what delivery decides.

use super::backup::backup;
use super::told::{Check, Destination, Dropped, Outbox, ParkedChange, ParkedCount, Resync, Retried, VERBS};
use super::{Answer, INTAKE, Refused, Request, Status, explain, intake, peers, search};
use crate::delivery::{JournalError, PARKED_COUNTED, Parked, PartnerStatus};
use crate::model::{Federation, Member};
use crate::node::Up;
use crate::settings::Settings;
use crate::telemetry::{Readiness, process_start};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, watch};

/// Most parked changes told at once.
const TOLD: usize = 1_000;

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
            Request::Outbox { partner, parked } => value(&outbox(&up, partner.as_deref(), parked).await?),
            Request::OutboxRetry { partner, id } => value(&retry(&up, &partner, id.as_deref()).await?),
            Request::OutboxDrop { partner, id } => value(&drop_parked(&up, &partner, id.as_deref()).await?),
            Request::Resync { partner, allow_deletes } => value(&resync(&up, &partner, allow_deletes).await?),
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
            Some(up) => match outbox(up, None, false).await {
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

fn journal(error: JournalError) -> Refused {
    Refused::new("failed", error.to_string())
}

fn destination(status: PartnerStatus, federation: &Federation) -> Destination {
    let peer_id = federation.get(&status.did).and_then(|member| member.peer_id);
    Destination {
        peer_id: peer_id.map(|peer| peer.to_string()).unwrap_or_default(),
        state: status.state.to_owned(),
        state_says: explain::state(status.state, status.lag_rows),
        acked_seq: status.acked_seq,
        acked_at: status.acked_at,
        head: status.head,
        lag_rows: status.lag_rows,
        lag_seconds: status.lag_seconds,
        legacy: status.legacy,
        hold_says: explain::hold(&status.hold_code),
        hold_code: status.hold_code,
        last_error: status.last_error,
        parked: status.parked,
        did: status.did,
        name: status.name,
    }
}

fn parked_change(parked: Parked, federation: &Federation) -> ParkedChange {
    let name = federation.get(&parked.dest).map(|member| member.name.clone());
    ParkedChange {
        says: explain::parked(&parked.code, parked.dest.is_empty()),
        name: name.unwrap_or_default(),
        dest: parked.dest,
        datatype: parked.key.datatype.name().to_owned(),
        id: parked.key.id,
        seq: parked.seq,
        at: parked.at,
        code: parked.code,
        detail: parked.detail,
    }
}

async fn outbox(up: &Up, partner: Option<&str>, parked: bool) -> Done<Outbox> {
    let mut partners = up.delivery.status().await;
    let federation = Arc::clone(&up.federation.borrow());
    let only = partner.map(|key| whom(key, &partners, &federation)).transpose()?;
    if let Some(only) = &only {
        partners.retain(|status| status.did == *only);
    }
    let ours = up.delivery.parked(Some(String::new()), PARKED_COUNTED).await;
    let intake_parked = ours.map_err(journal)?.len() as u64;
    let mut changes = Vec::new();
    if parked {
        changes = up.delivery.parked(only, TOLD + 1).await.map_err(journal)?;
    }
    let more = changes.len() > TOLD;
    changes.truncate(TOLD);
    Ok(Outbox {
        partners: partners
            .into_iter()
            .map(|status| destination(status, &federation))
            .collect(),
        intake_parked,
        parked: changes
            .into_iter()
            .map(|parked| parked_change(parked, &federation))
            .collect(),
        more,
    })
}

async fn known(up: &Up) -> Vec<Destination> {
    let federation = Arc::clone(&up.federation.borrow());
    let partners = up.delivery.status().await;
    partners
        .into_iter()
        .map(|status| destination(status, &federation))
        .collect()
}

async fn named(up: &Up, partner: &str) -> Done<String> {
    let statuses = up.delivery.status().await;
    let federation = Arc::clone(&up.federation.borrow());
    whom(partner, &statuses, &federation)
}

fn found(count: usize, partner: &str, id: Option<&str>) -> Done<()> {
    match id {
        Some(id) if count == 0 => {
            let text = format!("nothing with the id {id:?} is parked for {partner}");
            Err(Refused::new("not_found", text))
        }
        _ => Ok(()),
    }
}

async fn retry(up: &Up, partner: &str, id: Option<&str>) -> Done<Retried> {
    let did = named(up, partner).await?;
    if did.is_empty() {
        let text = "what our own intake could not take is not kept, only why: its app has to publish it again; \
                    `outbox drop intake` forgets the notes";
        return Err(Refused::new("not_kept", text));
    }
    let (again, gone) = up.delivery.retry(&did, id).await.map_err(journal)?;
    found(again + gone, partner, id)?;
    Ok(Retried {
        again: again as u64,
        gone: gone as u64,
    })
}

async fn drop_parked(up: &Up, partner: &str, id: Option<&str>) -> Done<Dropped> {
    let did = named(up, partner).await?;
    let dropped = up.delivery.drop_parked(&did, id).await.map_err(journal)?;
    found(dropped, partner, id)?;
    Ok(Dropped {
        dropped: dropped as u64,
    })
}

async fn resync(up: &Up, partner: &str, allow_deletes: bool) -> Done<Resync> {
    let did = named(up, partner).await?;
    if did.is_empty() || !up.delivery.resync(&did, allow_deletes).await {
        let text = format!("{partner} is not a partner: there is nothing to compare with it");
        return Err(Refused::new("not_partner", text));
    }
    Ok(Resync { did })
}

/// The DID that a DID, PeerId or name means; empty for our own intake. A name must be borne by one alone; those that are
/// delivered to come before other peers.
pub(super) fn whom(key: &str, statuses: &[PartnerStatus], federation: &Federation) -> Done<String> {
    if key == INTAKE {
        return Ok(String::new());
    }
    if let Some(status) = statuses.iter().find(|status| status.did == key) {
        return Ok(status.did.clone());
    }
    if let Some(member) = federation.find(key) {
        return Ok(member.did.clone());
    }
    let served = |member: &&Arc<Member>| statuses.iter().any(|status| status.did == member.did);
    let bearers: Vec<&Arc<Member>> = federation.others().filter(|member| member.name == key).collect();
    let mut meant: Vec<&str> = bearers
        .iter()
        .copied()
        .filter(served)
        .map(|member| member.did.as_str())
        .collect();
    if meant.is_empty() {
        meant = bearers.iter().map(|member| member.did.as_str()).collect();
    }
    match meant.as_slice() {
        [did] => Ok((*did).to_owned()),
        [] => {
            let names: Vec<&str> = statuses.iter().map(|status| status.name.as_str()).take(20).collect();
            let text = format!("no partner is called {key:?}; there are: {}", names.join(", "));
            Err(Refused::new("unknown_partner", text))
        }
        several => {
            let text = format!(
                "several peers are called {key:?}: say which by its DID, {}",
                several.join(" or ")
            );
            Err(Refused::new("ambiguous", text))
        }
    }
}
