//! Takes from core NATS, where nothing comes again.
//!
//! Owns the three subscriptions. Always: one task does nothing but move messages, so that NATS never sees a slow consumer;
//! documents that were said before an event are taken before it.

use super::intake::{Place, Queue, Subject};
use super::{Bus, DENIAL_TIME, Denials};
use async_nats::{Message, Subscriber};
use futures::{FutureExt, StreamExt};
use tokio::task::unconstrained;
use tokio_util::sync::CancellationToken;

/// Subscribes, tells so once the server knows, and moves messages until `stop`, and then what NATS had sent before.
///
/// # Errors
/// A sentence, when a subject cannot be subscribed, or may not be listened to (any more).
pub(super) async fn take(
    queue: &Queue,
    bus: &Bus,
    listening: impl FnOnce(),
    stop: &CancellationToken,
) -> Result<(), String> {
    let subscribe = async |name: &str| {
        let subscriber = bus.client.subscribe(name.to_owned()).await;
        subscriber.map_err(|error| format!("{name}: {error}"))
    };
    let mut deaf = bus.deaf.clone();
    deaf.mark_unchanged();
    let mut subscriptions = Subscriptions {
        events: subscribe(&bus.subjects.propalgation_event).await?,
        creates: subscribe(&bus.subjects.create_resource).await?,
        removes: subscribe(&bus.subjects.remove_resource).await?,
    };
    bus.round_trip().await;
    // A server that forbids a subject says so beside it, and never sends anything.
    if let Ok(Ok(())) = tokio::time::timeout(DENIAL_TIME, deaf.changed()).await {
        return Err(forbidden(&deaf));
    }
    listening();
    let ended = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            // Its permissions may be changed while it runs.
            Ok(()) = deaf.changed() => break Err(forbidden(&deaf)),
            next = subscriptions.next() => match next {
                Some((subject, message)) => take_in_order(queue, subject, message, &mut subscriptions),
                None => return Ok(()),
            },
        }
    };
    bus.round_trip().await;
    while let Some(Some((subject, message))) = unconstrained(subscriptions.next()).now_or_never() {
        take_in_order(queue, subject, message, &mut subscriptions);
    }
    ended
}

fn forbidden(deaf: &Denials) -> String {
    format!("NATS forbids it: {}", deaf.borrow().1)
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

/// Takes an event after the documents that were said before it, so that a peer who was made PARTNER gets the event
/// that follows.
fn take_in_order(queue: &Queue, subject: Subject, message: Message, subscriptions: &mut Subscriptions) {
    if subject == Subject::PropalgationEvent {
        while let Some((subject, message)) = subscriptions.document() {
            offer(queue, subject, message);
        }
    }
    offer(queue, subject, message);
}

fn offer(queue: &Queue, subject: Subject, mut message: Message) {
    let reply = message.reply.take();
    queue.offer(subject, message, Place::Core { reply });
}
