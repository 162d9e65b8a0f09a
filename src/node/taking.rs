//! What a batch of messages comes to, gathered while they are handled one after another.
//!
//! Pure. Owns the cursor's place, the ids of directed events, and the words owed to apps. Always: an id of a message from a
//! stream is the same whenever it is taken again, so that the far side knows a repetition.

use crate::bus::{Place, Source, Taken};
use crate::delivery::{Batch, Cursor, Key, Parked, now};
use crate::wire::DataType;
use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Refusals parked of one batch; what is beyond is counted and logged only, so that an app gone wild costs little.
const PARKED: usize = 16;

/// Messages, and bytes of their payloads, after which no more are gathered before those are journaled.
const MESSAGES: usize = 512;
const BYTES: usize = 4 * 1024 * 1024;

/// Longest reason told to an app, in characters: ids of its own message may stand in it.
const WHY_CHARS: usize = 300;

/// See the module's first lines.
#[derive(Default)]
pub(super) struct Taking {
    /// What goes into the journal.
    pub(super) batch: Batch,
    /// Words owed to apps, once it is there.
    pub(super) answers: Vec<(async_nats::Subject, Bytes)>,
    /// The store was written.
    pub(super) wrote: bool,
    /// The daemon is leaving, and the store has not taken something of it.
    pub(super) given_up: bool,
    /// How old the message in hand was when it was taken.
    pub(super) age: Duration,
    /// When the first of it was taken from NATS.
    pub(super) began: Option<Instant>,
    messages: usize,
    bytes: usize,
    /// Of the message in hand, when it is from a stream.
    place: Option<(Arc<Source>, u64, Bytes)>,
    id: Option<String>,
    reply: Option<async_nats::Subject>,
    refused: Option<(&'static str, String)>,
    warned: Option<(&'static str, String)>,
}

impl Taking {
    /// The next message is handled.
    pub(super) fn at(&mut self, taken: &mut Taken) {
        self.began.get_or_insert(taken.at);
        self.messages += 1;
        self.bytes += taken.payload.len();
        match &mut taken.place {
            Place::Core { reply } => {
                self.age = Duration::ZERO;
                (self.id, self.place) = (None, None);
                self.reply = reply.take();
            }
            Place::Stream { seq, source, age } => {
                self.age = *age;
                (self.id, self.place) = (None, Some((Arc::clone(source), *seq, taken.payload.clone())));
                self.batch.cursor = Some(Cursor {
                    source: source.name.clone(),
                    created: source.created.clone(),
                    last_seq: *seq,
                });
            }
        }
    }

    /// What is journaled is larger than what was read.
    pub(super) fn grows(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// The id of the directed events that the message in hand makes.
    pub(super) fn message_id(&mut self) -> String {
        let made = || match &self.place {
            // With its bytes: a stream that was set back gives its places again, to other messages.
            Some((source, seq, payload)) => {
                let digest = Sha256::new()
                    .chain_update(format!("{} {} {seq} ", source.name, source.created))
                    .chain_update(payload)
                    .finalize();
                hex::encode(digest.get(..16).unwrap_or_default())
            }
            None => uuid::Uuid::new_v4().to_string(),
        };
        self.id.get_or_insert_with(made).clone()
    }

    /// The message in hand was refused: people see it where they look for what was not delivered.
    pub(super) fn refused(&mut self, subject: &'static str, refusal: (&'static str, String)) {
        let id = self.message_id();
        self.park(id, subject, &refusal);
        self.refused = Some(refusal);
    }

    /// A part of the message in hand came too late for its peer: live lines are not kept, and people need not see each.
    pub(super) fn missed(&mut self, refusal: (&'static str, String)) {
        self.refused = Some(refusal);
    }

    /// The message in hand is taken, and something of it does not count: people see that there, too, the newest of a document.
    pub(super) fn warned(&mut self, subject: &'static str, about: &str, refusal: (&'static str, String)) {
        self.park(format!("{about} ({})", refusal.0), subject, &refusal);
        self.warned = Some(refusal);
    }

    /// The message in hand is taken for a daemon's: an app that asked hears so. People need not see it.
    pub(super) fn ignored(&mut self, why: &'static str) {
        self.warned = Some(("ignored", why.to_owned()));
    }

    fn park(&mut self, id: String, subject: &'static str, (rule, detail): &(&'static str, String)) {
        if self.batch.parked.len() < PARKED {
            self.batch.parked.push(Parked {
                dest: String::new(),
                key: Key {
                    datatype: DataType::Invalid,
                    id,
                },
                seq: self.batch.cursor.as_ref().map_or(0, |cursor| cursor.last_seq),
                code: (*rule).to_owned(),
                detail: format!("{subject}: {detail}"),
                at: now(),
            });
        }
    }

    /// The message in hand is handled: its app is told, when it asked for that.
    pub(super) fn next(&mut self) {
        let (refused, warned) = (self.refused.take(), self.warned.take());
        let Some(reply) = self.reply.take() else { return };
        let clipped = |why: String| why.chars().take(WHY_CHARS).collect::<String>();
        let word = match (refused, warned) {
            (Some((rule, why)), _) => json!({"ok": false, "error": rule, "why": clipped(why)}).to_string(),
            (None, Some((rule, why))) => json!({"ok": true, "warning": rule, "why": clipped(why)}).to_string(),
            (None, None) => r#"{"ok":true}"#.to_owned(),
        };
        self.answers.push((reply, word.into()));
    }

    /// Whether no message was handled.
    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Whether it is to be journaled before more is handled.
    pub(super) fn is_full(&self) -> bool {
        self.messages >= MESSAGES || self.bytes >= BYTES
    }

    /// Whether an app is told that it is safe.
    pub(super) fn is_promised(&self) -> bool {
        !self.answers.is_empty()
    }
}
