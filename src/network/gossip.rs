//! GossipSub with the settings under which it works with Go's: ids, sizes, times.
//!
//! Owns the GossipSub behaviour's configuration and its message types. Never reads what a message says. Always:
//! messages are signed by their source, strictly checked, and forwarded only after [`GossipVerdict`].

use libp2p::PeerId;
use libp2p::gossipsub::{
    self, Behaviour, ConfigBuilder, Message, MessageAcceptance, MessageAuthenticity, MessageId, ValidationMode,
};
use libp2p::identity::Keypair;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Largest frame, Go's default: 1 MiB. It may hold many messages.
const MAX_MESSAGE: usize = 1 << 20;
/// Largest message that is judged, or sent. A question whose text, id, user and DID are as long as they may be, each byte of
/// them written as an escape and the first two in base64 besides, has 25 KB.
pub(super) const MAX_QUESTION: usize = 32 * 1024;
/// Bytes of messages waiting to be judged.
pub(super) const WAITING_BYTES: usize = 4 * 1024 * 1024;
/// Largest control part of one RPC. Go may advertise 5000 ids at once, which the stock 16 KiB would refuse.
const MAX_CONTROL: usize = 1 << 20;
/// How long a message id is remembered, Go's default.
const SEEN_FOR: Duration = Duration::from_secs(120);
/// Messages queued for one peer; the stock 5000 of up to 1 MiB each would be an open door. Past it the message is
/// dropped for that peer: gossip carries questions, never data that must arrive.
const QUEUE_PER_PEER: usize = 256;

/// A gossip message, its source's signature already checked.
#[derive(Debug)]
pub struct Gossip {
    /// Who made it.
    pub source: PeerId,
    /// Who handed it to us.
    pub from: PeerId,
    /// Its id, for the verdict.
    pub id: MessageId,
    /// What it says.
    pub data: Vec<u8>,
    /// Its share of what may wait; given back when it is judged.
    pub room: Option<OwnedSemaphorePermit>,
}

/// The way of messages to whoever judges them, bounded in number and bytes.
pub(super) struct Waiting {
    queue: mpsc::Sender<Gossip>,
    room: Arc<Semaphore>,
}

/// Why a message is not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotJudged {
    /// It is larger than any question.
    TooLarge,
    /// Too many wait.
    Full,
}

impl Waiting {
    pub(super) fn new(queue: mpsc::Sender<Gossip>) -> Self {
        Self {
            queue,
            room: Arc::new(Semaphore::new(WAITING_BYTES)),
        }
    }

    pub(super) fn take(&self, mut gossip: Gossip) -> Result<(), NotJudged> {
        let size = gossip.data.len();
        if size > MAX_QUESTION {
            return Err(NotJudged::TooLarge);
        }
        let size = u32::try_from(size).map_err(|_| NotJudged::TooLarge)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(size);
        gossip.room = Some(room.map_err(|_| NotJudged::Full)?);
        self.queue.try_send(gossip).map_err(|_| NotJudged::Full)
    }
}

/// What becomes of a gossip message.
#[derive(Debug)]
pub struct GossipVerdict {
    /// Which message.
    pub id: MessageId,
    /// Who handed it to us.
    pub from: PeerId,
    /// Forward, drop, or drop and hold it against the sender.
    pub acceptance: MessageAcceptance,
}

impl Gossip {
    /// The verdict on this message.
    #[must_use]
    pub fn verdict(&self, acceptance: MessageAcceptance) -> GossipVerdict {
        GossipVerdict {
            id: self.id.clone(),
            from: self.from,
            acceptance,
        }
    }
}

/// Why a message could not be published.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum PublishError {
    /// Nobody we are connected to listens to the topic.
    #[error("no connected peer listens to the topic")]
    NoPeers,
    /// Refused by GossipSub.
    #[error("{0}")]
    Refused(String),
    /// The daemon is shutting down.
    #[error("the network is shut down")]
    Down,
}

impl From<gossipsub::PublishError> for PublishError {
    fn from(error: gossipsub::PublishError) -> Self {
        match error {
            gossipsub::PublishError::NoPeersSubscribedToTopic => Self::NoPeers,
            other => Self::Refused(other.to_string()),
        }
    }
}

/// Go's message id: the source's bytes followed by the sequence number, big-endian. With any other, IHAVE, IWANT and
/// IDONTWANT never match between the two implementations.
fn go_message_id(message: &Message) -> MessageId {
    let mut id = message.source.map(|source| source.to_bytes()).unwrap_or_default();
    id.extend_from_slice(&message.sequence_number.unwrap_or_default().to_be_bytes());
    MessageId::from(id)
}

/// The behaviour for `keypair`.
///
/// # Errors
/// A sentence, when GossipSub refuses its configuration.
pub fn behaviour(keypair: &Keypair) -> Result<Behaviour, String> {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(go_message_id)
        .max_transmit_size(MAX_MESSAGE)
        .max_control_message_size(MAX_CONTROL)
        .duplicate_cache_time(SEEN_FOR)
        .heartbeat_initial_delay(Duration::from_millis(100))
        .connection_handler_queue_len(QUEUE_PER_PEER)
        .build()
        .map_err(|error| error.to_string())?;
    Behaviour::new(MessageAuthenticity::Signed(keypair.clone()), config).map_err(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_in_bytes_and_given_back() {
        let (queue, mut judged) = mpsc::channel(WAITING_BYTES);
        let waiting = Waiting::new(queue);
        let gossip = |size| Gossip {
            source: PeerId::random(),
            from: PeerId::random(),
            id: MessageId::from("1"),
            data: vec![0; size],
            room: None,
        };
        assert_eq!(waiting.take(gossip(MAX_QUESTION + 1)), Err(NotJudged::TooLarge));
        for _ in 0..WAITING_BYTES / MAX_QUESTION {
            assert_eq!(waiting.take(gossip(MAX_QUESTION)), Ok(()));
        }
        assert_eq!(waiting.take(gossip(1)), Err(NotJudged::Full));
        drop(judged.try_recv().unwrap());
        assert_eq!(waiting.take(gossip(MAX_QUESTION)), Ok(()));
    }
}
