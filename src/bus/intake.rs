//! Takes the listened subjects from NATS into one queue, in the order of NATS.
//!
//! Owns the queue between NATS and the node and its bounds. Never reads a payload. Always: what does not fit is dropped
//! here, counted, and nowhere else; one task does nothing but move messages, so that NATS never sees a slow consumer.

use super::Bus;
use crate::settings::Limits;
use crate::telemetry::{Metrics, Refusals};
use crate::wire::ORIGIN_HEADER;
use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::unconstrained;
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
    let subscribe = async |name: &str| {
        let subscriber = bus.client.subscribe(name.to_owned()).await;
        subscriber.map_err(|error| format!("{name}: {error}"))
    };
    let subscriptions = Subscriptions {
        events: subscribe(&bus.subjects.propalgation_event).await?,
        creates: subscribe(&bus.subjects.create_resource).await?,
        removes: subscribe(&bus.subjects.remove_resource).await?,
    };
    let (queue, taken) = mpsc::channel(limits.intake_messages);
    let mover = Mover {
        queue,
        room: Arc::new(Semaphore::new(limits.intake_bytes)),
        biggest: limits.message_bytes,
        metrics,
        refusals,
    };
    tokio::spawn(mover.run(subscriptions, bus.clone(), stop));
    Ok(taken)
}

/// The three subscriptions. The client reads its socket in order, but hands each subject over by itself.
struct Subscriptions {
    events: Subscriber,
    creates: Subscriber,
    removes: Subscriber,
}

impl Subscriptions {
    /// The next message of any subject; `None` when all have ended.
    async fn next(&mut self) -> Option<(Subject, Message)> {
        tokio::select! {
            Some(message) = self.creates.next() => Some((Subject::CreateResource, message)),
            Some(message) = self.removes.next() => Some((Subject::RemoveResource, message)),
            Some(message) = self.events.next() => Some((Subject::PropalgationEvent, message)),
            else => None,
        }
    }

    /// A document's message that is there already.
    fn document(&mut self) -> Option<(Subject, Message)> {
        // Unconstrained: a task that has done much is told "nothing yet" for what is there.
        let create = unconstrained(self.creates.next()).now_or_never().flatten();
        let create = create.map(|message| (Subject::CreateResource, message));
        create.or_else(|| {
            let remove = unconstrained(self.removes.next()).now_or_never().flatten();
            remove.map(|message| (Subject::RemoveResource, message))
        })
    }
}

struct Mover {
    queue: mpsc::Sender<Taken>,
    room: Arc<Semaphore>,
    biggest: usize,
    metrics: Metrics,
    refusals: Refusals,
}

impl Mover {
    /// Moves messages until `stop`, and then what NATS had sent before.
    async fn run(self, mut subscriptions: Subscriptions, bus: Bus, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                next = subscriptions.next() => match next {
                    Some((subject, message)) => self.take_in_order(subject, message, &mut subscriptions),
                    None => return,
                },
            }
        }
        bus.round_trip().await;
        while let Some(Some((subject, message))) = unconstrained(subscriptions.next()).now_or_never() {
            self.take_in_order(subject, message, &mut subscriptions);
        }
    }

    /// Takes an event after the documents that were said before it, so that a peer who was made PARTNER gets the event
    /// that follows.
    fn take_in_order(&self, subject: Subject, message: Message, subscriptions: &mut Subscriptions) {
        if subject == Subject::PropalgationEvent {
            while let Some((subject, message)) = subscriptions.document() {
                self.take(subject, message);
            }
        }
        self.take(subject, message);
    }

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
            let detail = "limits.intake_bytes is reached; messages are lost";
            self.refusals.dropped("intake", "bytes", 1, subject.name(), detail);
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
            let detail = "limits.intake_messages is reached; messages are lost";
            self.refusals.dropped("intake", "messages", 1, subject.name(), detail);
        }
    }
}
