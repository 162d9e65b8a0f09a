//! NATS: the connection, what is taken from it and what is given to it.
//!
//! Owns the NATS client, its subscriptions and its queues. Never reads what a message says. Always: the daemon outlives
//! NATS (it reconnects with jitter for ever), every queue between NATS and the node is bounded by count and bytes, and
//! what we publish carries our DID in `Oc-Origin`, so that no daemon of ours takes it for an app's word.

mod clock;
mod connect;
mod core;
mod covering;
mod heard;
mod intake;
mod lease;
mod log_in;
mod streamed;

pub use connect::{ConnectError, NatsState, connect};
pub use covering::Source;
pub use heard::{Came, Heard, Message};
pub use intake::{From as IntakeFrom, IntakeState, Place, Subject, Taken, listen};
pub use lease::{Lease, LeaseError};

use crate::settings::Subjects;
use crate::telemetry::{Metrics, Readiness};
use crate::wire::ORIGIN_HEADER;
use async_nats::client::PublishErrorKind;
use async_nats::{Client, HeaderMap, HeaderValue};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::debug;

/// What we publish, by the setting that names its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Out {
    /// `create_resource`: a resource that a partner created or changed.
    CreateResource,
    /// `remove_resource`: a resource that a partner deleted.
    RemoveResource,
    /// `propalgation_event`: considers and planner lines of a peer.
    PropalgationEvent,
    /// `search_event`: a search result.
    SearchEvent,
    /// `search_end`: the report that ends a search.
    SearchEnd,
}

impl Out {
    /// The setting's last word, used as label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateResource => "create_resource",
            Self::RemoveResource => "remove_resource",
            Self::PropalgationEvent => "propalgation_event",
            Self::SearchEvent => "search_event",
            Self::SearchEnd => "search_end",
        }
    }

    fn subject(self, subjects: &Subjects) -> &str {
        match self {
            Self::CreateResource => &subjects.create_resource,
            Self::RemoveResource => &subjects.remove_resource,
            Self::PropalgationEvent => &subjects.propalgation_event,
            Self::SearchEvent => &subjects.search_event,
            Self::SearchEnd => &subjects.search_end,
        }
    }
}

/// The subject of the question behind [`Bus::round_trip`].
const ROUND_TRIP: &str = "oc_discovery.round_trip";
/// How long NATS may need for it. A server that forbids us the subject never says so.
const ROUND_TRIP_TIME: Duration = Duration::from_secs(2);

/// How long the word of a denial may come after the answer that followed it on the same connection.
const DENIAL_TIME: Duration = Duration::from_millis(20);

/// Why a message could not be given to NATS.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum PublishError {
    /// It is larger than the server takes.
    #[error("{bytes} bytes and their headers are more than this NATS server takes ({max}); raise its max_payload")]
    TooLarge {
        /// The message's size, without its headers.
        bytes: usize,
        /// The server's limit.
        max: usize,
    },
    /// NATS stayed away for the whole wait.
    #[error("NATS is not connected")]
    Away,
    /// The client refused it.
    #[error("NATS refused the message: {0}")]
    Refused(String),
}

/// How often NATS has forbidden something, and the last time in its words.
type Denials = watch::Receiver<(u64, String)>;

/// Cloneable handle on the NATS connection.
#[derive(Clone)]
pub struct Bus {
    client: Client,
    state: watch::Receiver<NatsState>,
    /// Of anything.
    denials: Denials,
    /// Of subscriptions to the subjects listened to.
    deaf: Denials,
    /// Of what is published on them.
    mute: Denials,
    subjects: Arc<Subjects>,
    headers: HeaderMap,
    wait: Duration,
    metrics: Metrics,
}

impl Bus {
    fn new(
        client: Client,
        state: watch::Receiver<NatsState>,
        (denials, deaf, mute): (Denials, Denials, Denials),
        subjects: Arc<Subjects>,
        wait: Duration,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            state,
            denials,
            deaf,
            mute,
            subjects,
            headers: HeaderMap::new(),
            wait,
            metrics,
        }
    }

    /// The same connection, from now on marking what it publishes as coming from `did`.
    #[must_use]
    pub fn marked_as(mut self, did: &str) -> Self {
        self.headers = HeaderMap::new();
        self.headers.insert(ORIGIN_HEADER, HeaderValue::from(did));
        self
    }

    /// Whether NATS is connected now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.state.borrow() == NatsState::Connected
    }

    /// Publishes one message. Waits for NATS while it is away, `limits.nats_publish_timeout` at most.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, out: Out, payload: Bytes) -> Result<(), PublishError> {
        self.ready().await?;
        let bytes = payload.len();
        let subject = async_nats::Subject::from(out.subject(&self.subjects));
        let sent = self.client.publish_with_headers(subject, self.headers.clone(), payload);
        let sent = tokio::time::timeout(self.wait, sent)
            .await
            .map_err(|_| PublishError::Away)?;
        sent.map_err(|error| self.refused(&error, bytes))?;
        self.metrics.nats_published(out.name());
        Ok(())
    }

    /// Publishes one message, or gives it up at once when NATS is away: for what nobody waits for any more by then.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish_now(&self, out: Out, payload: Bytes) -> Result<(), PublishError> {
        if *self.state.borrow() != NatsState::Connected {
            return Err(PublishError::Away);
        }
        self.publish(out, payload).await
    }

    /// As [`Bus::publish_now`], for many messages, in their order; `refused` hears of each that NATS does not take, and once
    /// of all that are left when it goes away; by their places.
    pub async fn publish_all_now(
        &self,
        out: Out,
        payloads: Vec<Bytes>,
        mut refused: impl FnMut(Range<usize>, PublishError),
    ) {
        let (all, mut done) = (payloads.len(), 0);
        if *self.state.borrow() != NatsState::Connected {
            return refused(0..all, PublishError::Away);
        }
        let subject = async_nats::Subject::from(out.subject(&self.subjects));
        let publishing = async {
            for (nth, payload) in payloads.into_iter().enumerate() {
                let bytes = payload.len();
                let (subject, headers) = (subject.clone(), self.headers.clone());
                match self.client.publish_with_headers(subject, headers, payload).await {
                    Ok(()) => self.metrics.nats_published(out.name()),
                    Err(error) => refused(nth..nth + 1, self.refused(&error, bytes)),
                }
                done = nth + 1;
            }
        };
        if tokio::time::timeout(self.wait, publishing).await.is_err() {
            refused(done..all, PublishError::Away);
        }
    }

    /// Returns once everything published has been written to NATS.
    ///
    /// # Errors
    /// When NATS is away, or goes away for longer than the wait.
    pub async fn flush(&self) -> Result<(), PublishError> {
        if *self.state.borrow() != NatsState::Connected {
            return Err(PublishError::Away);
        }
        let flushed = tokio::time::timeout(self.wait, self.client.flush())
            .await
            .map_err(|_| PublishError::Away)?;
        flushed.map_err(|error| PublishError::Refused(error.to_string()))
    }

    /// Returns when NATS has done what we asked of it before, and has handed over what it had for us; at once when it
    /// is away, and after `ROUND_TRIP_TIME` at the latest.
    pub async fn round_trip(&self) {
        let mut state = self.state.clone();
        tokio::select! {
            // Nobody answers on this subject, and NATS says so: behind all that it had sent us before.
            _ = self.client.request(ROUND_TRIP, Bytes::new()) => {}
            _ = state.wait_for(|state| matches!(state, NatsState::Away(_))) => {}
            () = tokio::time::sleep(ROUND_TRIP_TIME) => {}
        }
    }

    /// Tells `readiness` whether NATS is there, for ever.
    pub async fn tell_state(&self, readiness: Readiness) {
        let mut state = self.state.clone();
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                NatsState::Connected => {
                    // Connected comes before the server knows what we listen to; what apps publish until then is lost.
                    self.round_trip().await;
                    if *state.borrow() == NatsState::Connected {
                        readiness.set_ok("nats");
                    }
                }
                NatsState::Away(why) => readiness.set_bad("nats", why),
            }
            if state.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Waits until NATS is connected, however long that takes.
    pub async fn connected(&self) {
        let mut state = self.state.clone();
        // An error means that the client is gone: the daemon is going down, and so is the caller.
        let _ = state.wait_for(|state| *state == NatsState::Connected).await;
    }

    /// The biggest message that NATS takes; none before the first connection.
    #[must_use]
    pub fn max_payload(&self) -> Option<usize> {
        let max = self.client.server_info().max_payload;
        (max > 0).then_some(max)
    }

    /// Answers apps that asked for a word about what they said, as long as NATS takes it at once: an app that has gone needs
    /// none, and nothing else waits for that.
    pub async fn answer(&self, words: Vec<(async_nats::Subject, Bytes)>) {
        let answering = async {
            for (to, word) in words {
                if *self.state.borrow() != NatsState::Connected {
                    return;
                }
                let _ = self.client.publish_with_headers(to, self.headers.clone(), word).await;
            }
        };
        if tokio::time::timeout(ROUND_TRIP_TIME, answering).await.is_err() {
            debug!("NATS takes no more answers: apps that asked for a word go without");
        }
    }

    async fn ready(&self) -> Result<(), PublishError> {
        if *self.state.borrow() != NatsState::Connected {
            tokio::time::timeout(self.wait, self.connected())
                .await
                .map_err(|_| PublishError::Away)?;
        }
        Ok(())
    }

    /// What the client's refusal of a message of so many bytes means. It counts the headers, too.
    fn refused(&self, error: &async_nats::client::PublishError, bytes: usize) -> PublishError {
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => PublishError::TooLarge {
                bytes,
                max: self.client.max_payload(),
            },
            _ => PublishError::Refused(error.to_string()),
        }
    }
}
