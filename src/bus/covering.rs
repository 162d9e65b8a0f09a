//! The JetStream stream that covers the subjects listened to: looked up first, made when there is none and we may.
//!
//! Owns what each answer of JetStream means for the intake. Always: what may pass by itself (a timeout, a cluster without a
//! leader) is told apart from what only an operator can change (no JetStream, no permission, overlapping streams).

use super::Bus;
use super::clock::ServerClock;
use crate::settings::{NatsSettings, Subjects};
use crate::wire::parse_timestamp;
use async_nats::jetstream::context::RequestErrorKind;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context, ErrorCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tracing::info;

/// How long one question to JetStream may take.
const API_TIME: Duration = Duration::from_secs(5);
/// Within it, a repeated message id is dropped by the stream.
const DUPLICATES: Duration = Duration::from_secs(120);

/// Which stream, and which of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// When it was made, as the server says.
    pub created: String,
}

/// The stream found.
pub(super) struct Covering {
    pub(super) source: Arc<Source>,
    /// The oldest message still there.
    pub(super) first_seq: u64,
    /// The newest message.
    pub(super) last_seq: u64,
    /// It covers nothing but the subjects listened to: a hole in its sequence is a message that is gone.
    pub(super) only_ours: bool,
    /// What its server's clock says.
    pub(super) clock: ServerClock,
}

/// Why there is no stream to take from.
pub(super) enum Uncovered {
    /// It may be there in a moment.
    NotNow(String),
    /// It will not, unless an operator does something.
    Never(String),
}

/// There is no stream of that name.
pub(super) struct Removed;

/// The answer to `STREAM.INFO`, and to what makes or changes a stream.
#[derive(Deserialize)]
pub(super) struct Found {
    #[serde(flatten)]
    pub(super) info: Info,
    /// When it was told, by the clock that dates the stream's messages. Servers before 2.10 do not say.
    #[serde(default)]
    ts: Option<String>,
}

impl Found {
    /// The server's clock, as far as it tells.
    pub(super) fn clock(&self) -> ServerClock {
        let said = self.ts.as_deref().and_then(parse_timestamp);
        ServerClock::said(said.unwrap_or_else(SystemTime::now), Instant::now())
    }
}

/// The answer to `STREAM.NAMES`.
#[derive(Deserialize)]
struct Names {
    #[serde(default)]
    streams: Option<Vec<String>>,
}

/// The subjects listened to.
pub(super) fn listened(subjects: &Subjects) -> [&str; 3] {
    [
        &subjects.propalgation_event,
        &subjects.create_resource,
        &subjects.remove_resource,
    ]
}

/// The stream, as it is now.
pub(super) async fn find_or_make(bus: &Bus, nats: &NatsSettings) -> Result<Covering, Uncovered> {
    let mut context = jetstream::new(bus.client.clone());
    context.set_timeout(API_TIME);
    let mut covering = BTreeSet::new();
    let mut uncovered = Vec::new();
    for subject in listened(&nats.subjects) {
        let found = names(bus, &context, subject).await?;
        if found.is_empty() {
            uncovered.push(subject);
        }
        covering.extend(found);
    }
    let mut names = covering.into_iter();
    match (names.next(), names.next(), uncovered.is_empty()) {
        (Some(name), None, true) => look_up(bus, &context, &name, nats).await,
        (None, _, _) if nats.manage_stream => make(bus, &context, nats).await,
        (None, _, _) => Err(Uncovered::Never(
            "no stream covers the subjects listened to, and nats.manage_stream is false".into(),
        )),
        (Some(name), None, false) if name == nats.stream && nats.manage_stream => widen(bus, &context, nats).await,
        (Some(name), other, _) => {
            let others = other.map(|other| format!(" and {other}")).unwrap_or_default();
            Err(Uncovered::Never(format!(
                "the subjects listened to are spread: the stream {name}{others} covers some, and none covers them all"
            )))
        }
    }
}

/// The stream, as it is now; none when nobody can tell. An error says that it is not there.
pub(super) async fn look(context: &Context, name: &str) -> Result<Option<Found>, Removed> {
    match context.request(format!("STREAM.INFO.{name}"), &()).await {
        Ok(Response::Ok(found)) => Ok(Some(found)),
        Ok(Response::Err { error }) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Err(Removed),
        Ok(Response::Err { .. }) | Err(_) => Ok(None),
    }
}

async fn names(bus: &Bus, context: &Context, subject: &str) -> Result<Vec<String>, Uncovered> {
    let found: Names = ask(bus, context, "STREAM.NAMES", &serde_json::json!({ "subject": subject })).await?;
    Ok(found.streams.unwrap_or_default())
}

async fn look_up(bus: &Bus, context: &Context, name: &str, nats: &NatsSettings) -> Result<Covering, Uncovered> {
    let found: Found = ask(bus, context, &format!("STREAM.INFO.{name}"), &()).await?;
    if found.info.config.retention != RetentionPolicy::Limits {
        return Err(Uncovered::Never(format!(
            "the stream {name} covers the subjects listened to, and it drops what others have taken (its retention is not limits)"
        )));
    }
    Ok(covering(found, nats))
}

fn covering(found: Found, nats: &NatsSettings) -> Covering {
    let ours = listened(&nats.subjects);
    let clock = found.clock();
    let info = found.info;
    let only_ours = info
        .config
        .subjects
        .iter()
        .all(|subject| ours.contains(&subject.as_str()));
    Covering {
        source: Arc::new(Source {
            name: info.config.name,
            created: info.created.to_string(),
        }),
        first_seq: info.state.first_sequence,
        last_seq: info.state.last_sequence,
        only_ours,
        clock,
    }
}

fn config(nats: &NatsSettings) -> Config {
    Config {
        name: nats.stream.clone(),
        description: Some("What apps say to oc-discovery; made by it".into()),
        subjects: listened(&nats.subjects).map(str::to_owned).to_vec(),
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_age: nats.stream_age,
        max_bytes: i64::try_from(nats.stream_bytes).unwrap_or(i64::MAX),
        max_consumers: -1,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_message_size: -1,
        num_replicas: 1,
        duplicate_window: DUPLICATES,
        ..Config::default()
    }
}

async fn make(bus: &Bus, context: &Context, nats: &NatsSettings) -> Result<Covering, Uncovered> {
    let made: Found = ask(bus, context, &format!("STREAM.CREATE.{}", nats.stream), &config(nats)).await?;
    info!(stream = %nats.stream, "made the stream over the subjects listened to");
    Ok(covering(made, nats))
}

/// Our own stream from a time of other subjects.
async fn widen(bus: &Bus, context: &Context, nats: &NatsSettings) -> Result<Covering, Uncovered> {
    let made: Found = ask(bus, context, &format!("STREAM.UPDATE.{}", nats.stream), &config(nats)).await?;
    info!(stream = %nats.stream, "changed the stream to the subjects listened to");
    Ok(covering(made, nats))
}

/// One question, and what its failure means.
async fn ask<T: DeserializeOwned>(
    bus: &Bus,
    context: &Context,
    question: &str,
    body: &impl serde::Serialize,
) -> Result<T, Uncovered> {
    let denials = bus.denials.borrow().0;
    match context.request(question.to_owned(), body).await {
        Ok(Response::Ok(answer)) => Ok(answer),
        Ok(Response::Err { error }) => Err(refused(question, &error)),
        // Without a JetStream there is nobody on its subjects.
        Err(error) if error.kind() == RequestErrorKind::NoResponders => {
            Err(Uncovered::Never("this NATS server has no JetStream".into()))
        }
        Err(error) => {
            let denied = bus.denials.borrow().clone();
            // A server that forbids a question says so beside it, and never answers.
            Err(if denied.0 != denials && denied.1.contains("$JS.API") {
                Uncovered::Never(format!("NATS forbids it: {}", denied.1))
            } else {
                Uncovered::NotNow(format!("JetStream does not answer ({question}: {error})"))
            })
        }
    }
}

fn refused(question: &str, error: &jetstream::Error) -> Uncovered {
    let why = format!("JetStream refuses {question}: {error}");
    match error.error_code() {
        ErrorCode::CLUSTER_NOT_AVAILABLE
        | ErrorCode::CLUSTER_NOT_LEADER
        | ErrorCode::CLUSTER_NO_PEERS
        | ErrorCode::CLUSTER_NOT_ACTIVE
        | ErrorCode::CLUSTER_INCOMPLETE
        | ErrorCode::CLUSTER_NOT_ASSIGNED
        | ErrorCode::STREAM_OFFLINE
        | ErrorCode::STREAM_OFFLINE_REASON
        // It was there a moment ago.
        | ErrorCode::STREAM_NOT_FOUND
        | ErrorCode::STREAM_NAME_EXIST => Uncovered::NotNow(why),
        // The server's own trouble: its disk, or somebody else who makes or removes the stream in the same moment.
        _ if error.code() == 500 => Uncovered::NotNow(why),
        _ => Uncovered::Never(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Sources, load};
    use crate::telemetry::Metrics;
    use oc_testkit::{NatsOptions, NatsServer};
    use std::path::PathBuf;

    #[test]
    fn a_servers_own_trouble_never_turns_a_stream_into_core_nats() {
        let refused = |code: u16, err_code: u64| {
            let error = serde_json::json!({"code": code, "err_code": err_code, "description": "said so"});
            refused("STREAM.CREATE.S", &serde_json::from_value(error).unwrap())
        };
        assert!(matches!(refused(500, 10049), Uncovered::NotNow(why) if why.contains("said so")));
        assert!(
            matches!(refused(400, 10065), Uncovered::Never(_)),
            "its subjects overlap"
        );
        assert!(
            matches!(refused(503, 10076), Uncovered::Never(_)),
            "JetStream is not enabled"
        );
    }

    #[tokio::test]
    async fn a_server_tells_its_time_with_its_streams() {
        let dir = tempfile::tempdir().unwrap();
        let options = NatsOptions {
            jetstream: true,
            ..NatsOptions::default()
        };
        let mut server = NatsServer::new("covering", dir.path(), options);
        server.start().await;
        let set = vec!["name=here".to_owned(), format!("nats.url={}", server.url())];
        let sources = Sources::of_process(Some(PathBuf::from("/dev/null")), set);
        let settings = load(&sources).unwrap().settings;
        let bus = crate::bus::connect(&settings.nats, &settings.limits, Metrics::new()).await;
        let bus = bus.unwrap();
        bus.connected().await;
        let context = jetstream::new(bus.client.clone());
        let question = format!("STREAM.CREATE.{}", settings.nats.stream);
        let made: Result<Found, _> = ask(&bus, &context, &question, &config(&settings.nats)).await;
        assert!(made.is_ok_and(|made| made.ts.is_some_and(|ts| parse_timestamp(&ts).is_some())));
        let seen = look(&context, &settings.nats.stream).await.ok().flatten();
        assert!(seen.is_some_and(|seen| seen.ts.is_some_and(|ts| parse_timestamp(&ts).is_some())));
        assert!(look(&context, "ANOTHER").await.is_err(), "it is not there");
    }
}
