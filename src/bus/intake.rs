//! Takes the listened subjects from NATS into one queue, in the order of NATS.
//!
//! Owns the queue between NATS and the node and its bounds. Never reads a payload. Always: what does not fit is dropped
//! here, counted, and nowhere else; one task does nothing but move messages, so that NATS never sees a slow consumer.

use super::Bus;
use crate::settings::Limits;
use crate::telemetry::{Metrics, Refusals};
use crate::wire::ORIGIN_HEADER;
use async_nats::Message;
use bytes::Bytes;
use futures::stream::select_all;
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Which listened subject a message came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// `propalgation_event`
    PropalgationEvent,
    /// `create_resource`
    CreateResource,
    /// `remove_resource`
    RemoveResource,
}

impl Subject {
    /// The setting's last word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PropalgationEvent => "propalgation_event",
            Self::CreateResource => "create_resource",
            Self::RemoveResource => "remove_resource",
        }
    }
}

/// One message taken from NATS.
#[derive(Debug)]
pub struct Taken {
    /// By which subject.
    pub subject: Subject,
    /// Its bytes.
    pub payload: Bytes,
    /// The `Oc-Origin` header: the DID of the daemon that published it, if it was one.
    pub origin: Option<String>,
    /// When it was taken.
    pub at: Instant,
    _room: OwnedSemaphorePermit,
}

/// Subscribes and moves messages into the returned queue until `stop`.
///
/// # Errors
/// A sentence, when a subject cannot be subscribed.
pub async fn listen(
    bus: &Bus,
    limits: &Limits,
    metrics: Metrics,
    refusals: Refusals,
    stop: CancellationToken,
) -> Result<mpsc::Receiver<Taken>, String> {
    let subscribe = async |subject, name: &str| {
        let subscriber = bus.client.subscribe(name.to_owned()).await;
        let subscriber = subscriber.map_err(|error| format!("{name}: {error}"))?;
        Ok::<_, String>(subscriber.map(move |message| (subject, message)))
    };
    let mut events = subscribe(Subject::PropalgationEvent, &bus.subjects.propalgation_event).await?;
    let creates = subscribe(Subject::CreateResource, &bus.subjects.create_resource).await?;
    let removes = subscribe(Subject::RemoveResource, &bus.subjects.remove_resource).await?;
    let (queue, taken) = mpsc::channel(limits.intake_messages);
    let mover = Mover {
        queue,
        room: Arc::new(Semaphore::new(limits.intake_bytes)),
        biggest: limits.message_bytes,
        metrics,
        refusals,
    };
    tokio::spawn(async move {
        let mut documents = select_all([creates, removes]);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                next = documents.next() => match next {
                    Some((subject, message)) => mover.take(subject, message),
                    None => break,
                },
                next = events.next() => match next {
                    Some((subject, message)) => {
                        // The client reads its socket in order but hands each subject over by itself: what was said
                        // before this event is there already and goes first, so that a peer who was made PARTNER gets
                        // the event that follows.
                        while let Some(Some((subject, message))) = documents.next().now_or_never() {
                            mover.take(subject, message);
                        }
                        mover.take(subject, message);
                    }
                    None => break,
                },
            }
        }
    });
    Ok(taken)
}

struct Mover {
    queue: mpsc::Sender<Taken>,
    room: Arc<Semaphore>,
    biggest: usize,
    metrics: Metrics,
    refusals: Refusals,
}

impl Mover {
    fn take(&self, subject: Subject, message: Message) {
        self.metrics.nats_received(subject.name());
        let bytes = message.payload.len();
        if bytes > self.biggest {
            let detail = format_args!("{bytes} bytes, limits.message_bytes is {}", self.biggest);
            self.refusals.refuse("too_large", subject.name(), detail);
            return;
        }
        // An empty message still takes a little room, or they would cost nothing at all.
        let weight = u32::try_from(bytes.max(64)).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(weight) else {
            self.metrics.dropped("intake", "bytes");
            return;
        };
        let origin = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(ORIGIN_HEADER))
            .map(|did| did.to_string());
        let taken = Taken {
            subject,
            payload: message.payload,
            origin,
            at: Instant::now(),
            _room: room,
        };
        if self.queue.try_send(taken).is_err() {
            self.metrics.dropped("intake", "messages");
        }
    }
}
