//! Takes the listened subjects from NATS into one queue, in the order of NATS.
//!
//! Owns the queue between NATS and the node, its bounds, and the choice between a JetStream stream and core NATS. Never
//! reads a payload. Always: from a stream nothing is dropped, it waits where it is; from core NATS what does not fit is
//! dropped here, counted, and nowhere else. A timeout never turns a stream into core NATS.

use super::covering::{self, Source, Uncovered};
use super::streamed::Gap;
use super::{Bus, core, streamed};
use crate::settings::{JetStream, Limits, NatsSettings};
use crate::telemetry::{Metrics, Refusals};
use crate::wire::ORIGIN_HEADER;
use async_nats::Message;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Pause before a choice that could not be made is tried again.
const CHOOSE_AGAIN: Duration = Duration::from_secs(2);
/// The same when NATS does not let us listen: only an operator can change that, and the server logs each try.
const LISTEN_AGAIN: Duration = Duration::from_secs(10);

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

/// Where a message was taken, and what its taking is owed.
#[derive(Debug, Clone)]
pub enum Place {
    /// Core NATS: it will not come again. The app waits for a word here, if it asked for one.
    Core {
        /// Where the app wants its word.
        reply: Option<async_nats::Subject>,
    },
    /// A stream: it is there until we move on.
    Stream {
        /// Its place.
        seq: u64,
        /// Which stream.
        source: Arc<Source>,
        /// How old it was when it was taken, by the server's clock.
        age: Duration,
    },
}

/// One message taken from NATS.
#[derive(Debug)]
pub struct Taken {
    /// By which subject.
    pub subject: Subject,
    /// Its bytes; empty when it was larger than `limits.message_bytes`, which was refused already.
    pub payload: Bytes,
    /// Whether it was refused already: only its place counts.
    pub refused: bool,
    /// The `Oc-Origin` header: the DID of the daemon that published it, if it was one.
    pub origin: Option<String>,
    /// When it was taken.
    pub at: Instant,
    /// Where.
    pub place: Place,
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// How messages are taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntakeState {
    /// Not yet, and why.
    Choosing(String),
    /// From core NATS: what apps publish while this daemon is away is not seen by it.
    Core,
    /// From a stream.
    Stream {
        /// The newest message of ours when the taking began: what was said before this daemon was there ends here. 0: there
        /// was none to take; the largest number: it is not known yet which one it is.
        head: u64,
        /// How often something was gone from the stream before it was taken, or the stream was another one.
        gaps: u64,
    },
}

/// How far the node has come before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// In which stream.
    pub source: Source,
    /// The newest message that was handled.
    pub last_seq: u64,
}

/// Takes messages into the returned queue until `stop`. `from` is asked whenever the taking (re)starts.
pub fn listen(
    bus: &Bus,
    nats: &NatsSettings,
    limits: &Limits,
    from: Option<From>,
    (metrics, refusals): (Metrics, Refusals),
    stop: CancellationToken,
) -> (mpsc::Receiver<Taken>, watch::Receiver<IntakeState>) {
    let (queue, taken) = mpsc::channel(limits.intake_messages);
    let (tell, state) = watch::channel(IntakeState::Choosing("NATS is not connected yet".into()));
    let intake = Intake {
        bus: bus.clone(),
        nats: nats.clone(),
        from,
        queue: Queue {
            queue,
            room: Arc::new(Semaphore::new(limits.intake_bytes)),
            room_bytes: limits.intake_bytes,
            biggest: limits.message_bytes,
            metrics,
            refusals,
        },
        tell,
        gaps: 0,
        began: false,
    };
    tokio::spawn(intake.run(stop));
    (taken, state)
}

/// What is said of core NATS.
const UNSEEN: &str = "what apps publish while this daemon is away is not seen by it";

/// What comes of core NATS after a stream. The cursor cannot be moved past it: what was said before the daemon listened,
/// and what core NATS lost, is in the stream alone.
const AGAIN_FROM_STREAM: &str = "when it is again, what it records meanwhile is taken a second time, older states and \
                                 considers among it";

/// From where is taken.
enum Choice {
    Stream(covering::Covering),
    /// And why there is no stream, when one was wanted.
    Core(Option<String>),
}

/// The task that chooses, takes, and chooses again when what it took from is gone.
struct Intake {
    bus: Bus,
    nats: NatsSettings,
    from: Option<From>,
    queue: Queue,
    tell: watch::Sender<IntakeState>,
    gaps: u64,
    /// Something was taken from a stream in this life.
    began: bool,
}

impl Intake {
    async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.bus.connected() => {}
            }
            let chosen = tokio::select! {
                () = stop.cancelled() => return,
                chosen = self.choose() => chosen,
            };
            match chosen {
                Ok(Choice::Stream(covering)) => {
                    let before = self.from.as_ref().map(|from| from.last_seq);
                    let why = self.take_from(covering, &stop).await;
                    // Nothing came of it: a server that refuses at once is not to be asked without a pause.
                    if self.from.as_ref().map(|from| from.last_seq) == before {
                        self.pause(why, CHOOSE_AGAIN, &stop).await;
                    }
                }
                Ok(Choice::Core(because)) => match self.take_core(because, &stop).await {
                    Ok(()) => return,
                    Err(why) => self.pause(why, LISTEN_AGAIN, &stop).await,
                },
                Err(why) => self.pause(why, CHOOSE_AGAIN, &stop).await,
            }
        }
    }

    async fn pause(&self, why: String, time: Duration, stop: &CancellationToken) {
        self.choosing(why);
        let _ = tokio::time::timeout(time, stop.cancelled()).await;
    }

    fn choosing(&self, why: String) {
        let changed = self.tell.send_if_modified(|state| {
            let now = IntakeState::Choosing(why.clone());
            let changed = *state != now;
            *state = now;
            changed
        });
        if changed {
            warn!(%why, "nothing is taken from NATS yet");
        }
    }

    /// From where to take. An error is tried again.
    async fn choose(&self) -> Result<Choice, String> {
        if self.nats.jetstream == JetStream::Off {
            return Ok(Choice::Core(None));
        }
        match covering::find_or_make(&self.bus, &self.nats).await {
            Ok(covering) => Ok(Choice::Stream(covering)),
            Err(Uncovered::NotNow(why)) => Err(why),
            Err(Uncovered::Never(why)) if self.nats.jetstream == JetStream::Require => {
                Err(format!("nats.jetstream is `require`, and {why}"))
            }
            Err(Uncovered::Never(why)) => Ok(Choice::Core(Some(why))),
        }
    }

    async fn take_core(&self, because: Option<String>, stop: &CancellationToken) -> Result<(), String> {
        let listening = || {
            match &because {
                None => info!("taking from core NATS: {UNSEEN}"),
                Some(why) => warn!(%why, "taking from core NATS: {UNSEEN}"),
            }
            if let Some(from) = &self.from {
                let stream = &from.source.name;
                warn!(%stream, after = from.last_seq, "a stream was taken from before: {AGAIN_FROM_STREAM}");
            }
            self.tell.send_replace(IntakeState::Core);
        };
        core::take(&self.queue, &self.bus, listening, stop).await
    }

    /// Says why it ended.
    async fn take_from(&mut self, covering: covering::Covering, stop: &CancellationToken) -> String {
        let begin = streamed::beginning(&covering, self.from.as_ref());
        let stream = &covering.source.name;
        match &begin.gap {
            Some(Gap { why, ours: true }) => {
                self.gaps += 1;
                self.queue.metrics.dropped("intake", "stream_gap");
                warn!(%stream, %why, "messages are gone from the stream before they were taken");
            }
            Some(Gap { why, ours: false }) => {
                // The store may know more: it is asked after a gap, and at every start.
                self.gaps += u64::from(self.began);
                info!(%stream, %why, "messages are gone from the stream, which others share: theirs, or ours among them");
            }
            None => {}
        }
        self.began = true;
        info!(%stream, from = begin.next, head = covering.last_seq, "taking from JetStream");
        let gaps = self.gaps;
        let caught_up = |head| drop(self.tell.send_replace(IntakeState::Stream { head, gaps }));
        let outcome = streamed::take(&self.queue, &self.bus, &covering, &begin, caught_up, stop).await;
        self.from = Some(From {
            source: (*covering.source).clone(),
            last_seq: outcome.last_seq,
        });
        if !stop.is_cancelled() {
            self.choosing(outcome.why.clone());
        }
        outcome.why
    }
}

/// The queue's entry.
pub(super) struct Queue {
    queue: mpsc::Sender<Taken>,
    room: Arc<Semaphore>,
    room_bytes: usize,
    biggest: usize,
    metrics: Metrics,
    refusals: Refusals,
}

impl Queue {
    /// The message as the node takes it, without its room. One that is too large is refused here.
    fn taken(&self, subject: Subject, message: Message, place: Place) -> Taken {
        self.metrics.nats_received(subject.name());
        let bytes = message.payload.len();
        let origin = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(ORIGIN_HEADER))
            .map(|did| did.to_string());
        let refused = bytes > self.biggest && origin.is_none();
        if refused {
            let detail = format_args!("{bytes} bytes, limits.message_bytes is {}", self.biggest);
            self.refusals.refuse("too_large", subject.name(), detail);
        }
        // What a daemon published is ignored whatever it says: its bytes need no room.
        let payload = if refused || origin.is_some() {
            Bytes::new()
        } else {
            message.payload
        };
        Taken {
            subject,
            payload,
            refused,
            origin,
            at: Instant::now(),
            place,
            _room: None,
        }
    }

    /// An empty message still takes a little room, or they would cost nothing at all.
    fn weight(&self, taken: &Taken) -> u32 {
        let bytes = taken.payload.len().max(64).min(self.room_bytes);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// From core NATS: what does not fit is lost, and counted.
    pub(super) fn offer(&self, subject: Subject, message: Message, place: Place) {
        let mut taken = self.taken(subject, message, place);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(self.weight(&taken)) else {
            let detail = "limits.intake_bytes is reached; messages are lost";
            return self.refusals.dropped("intake", "bytes", 1, subject.name(), detail);
        };
        taken._room = Some(room);
        if self.queue.try_send(taken).is_err() {
            let detail = "limits.intake_messages is reached; messages are lost";
            self.refusals.dropped("intake", "messages", 1, subject.name(), detail);
        }
    }

    /// From a stream: waits for room. False when nobody takes any more.
    pub(super) async fn put(&self, subject: Subject, message: Message, place: Place) -> bool {
        let mut taken = self.taken(subject, message, place);
        let room = Arc::clone(&self.room).acquire_many_owned(self.weight(&taken)).await;
        taken._room = room.ok();
        self.queue.send(taken).await.is_ok()
    }
}
