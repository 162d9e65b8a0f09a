//! Publishing that knows whether anybody listens.
//!
//! Owns the inbox on which NATS tells that nobody does. Always: a message counts as heard only when the same connection that
//! took it has answered a later question, so that what a dying server swallowed is published again.

use super::{Bus, DENIAL_TIME, Out, PublishError, ROUND_TRIP};
use crate::wire::DataType;
use async_nats::client::RequestErrorKind;
use async_nats::{HeaderValue, StatusCode, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use tokio::task::unconstrained;

/// The header by which a stream at the far side knows a repetition.
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// A message to be published.
#[derive(Debug, Clone)]
pub struct Message {
    /// On which subject.
    pub out: Out,
    /// Its bytes.
    pub payload: Bytes,
    /// The same whenever this message is published again.
    pub id: String,
    /// The document that it tells of, if it does: an older one is not published again behind a newer.
    pub of: Option<(DataType, String)>,
}

/// How far a batch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// Messages, from the first on, that somebody listens to.
    pub heard: usize,
    /// Messages, from the first on, that were given to NATS. The next one, if there is one, is too large.
    pub given: usize,
}

/// The publisher; see the module's first lines.
pub struct Heard {
    bus: Bus,
    inbox: String,
    answers: Subscriber,
    given: u64,
    /// Subjects that this connection may publish on, and which connection that was.
    allowed: HashSet<&'static str>,
    life: u64,
    /// How often we were told that we may not.
    denials: u64,
    /// What the last batch counted as heard: that it was forbidden may be told a moment later.
    last: Vec<Message>,
    /// What counted as heard, and was forbidden perhaps; the first to be published again.
    owed: Vec<Message>,
    /// Apps find documents in the store, whether or not they listen.
    stored: bool,
}

impl Bus {
    /// A publisher that knows whether anybody listens. `stored`: apps find documents in the store, whether or not they listen.
    ///
    /// # Errors
    /// When the client has ended.
    pub async fn heard(&self, stored: bool) -> Result<Heard, PublishError> {
        let inbox = self.client.new_inbox();
        let answers = self.client.subscribe(format!("{inbox}.*")).await;
        Ok(Heard {
            bus: self.clone(),
            inbox,
            answers: answers.map_err(|error| PublishError::Refused(error.to_string()))?,
            given: 0,
            allowed: HashSet::new(),
            life: 0,
            denials: self.mute.borrow().0,
            last: Vec::new(),
            owed: Vec::new(),
            stored,
        })
    }
}

impl Heard {
    /// Publishes in order and says how far that came; what comes behind the first that nobody listens to counts as not
    /// published, too.
    ///
    /// # Errors
    /// NATS is away, or was in the meantime: then nothing is known of any of them. [`PublishError::TooLarge`] is of the first
    /// message alone; what is before a later one is published, and the later one left out with all behind it.
    pub async fn publish(&mut self, messages: &[Message]) -> Result<Came, PublishError> {
        self.are_denied();
        self.again().await?;
        let came = self.batch(messages).await?;
        self.last = messages.iter().take(came.heard).cloned().collect();
        Ok(came)
    }

    /// Publishes again what counts as heard and was forbidden, if there is such: the server says so beside its answers, and its
    /// words may arrive behind them. To be called a moment after a batch.
    ///
    /// # Errors
    /// It is not published yet.
    pub async fn settle(&mut self) -> Result<(), PublishError> {
        if self.are_denied().is_none() {
            // Whatever is said later is not about these.
            self.last.clear();
        }
        self.again().await
    }

    async fn again(&mut self) -> Result<(), PublishError> {
        while !self.owed.is_empty() {
            let owed = self.owed.clone();
            let heard = match self.batch(&owed).await {
                Ok(came) => came.heard,
                Err(PublishError::TooLarge { .. }) => {
                    // Of the first of these, and no affair of whoever publishes something else.
                    self.bus.metrics.dropped("inbound", "nats_too_large");
                    1
                }
                Err(error) => return Err(error),
            };
            let is_stored = self.stored && owed.first().is_some_and(|first| first.of.is_some());
            if heard == 0 && !is_stored {
                let why = "nobody listens to what was forbidden before";
                return Err(PublishError::Refused(why.into()));
            }
            self.owed.drain(..heard.max(1).min(owed.len()));
        }
        Ok(())
    }

    /// Whether NATS has forbidden something since it was asked last, and in which words. A right may end while the connection
    /// lasts.
    fn are_denied(&mut self) -> Option<String> {
        let (times, words) = self.bus.mute.borrow().clone();
        if std::mem::replace(&mut self.denials, times) == times {
            return None;
        }
        self.allowed.clear();
        self.owed.append(&mut self.last);
        newest(&mut self.owed);
        Some(words)
    }

    async fn batch(&mut self, messages: &[Message]) -> Result<Came, PublishError> {
        let lives = self.connects();
        if std::mem::replace(&mut self.life, lives) != lives {
            self.allowed.clear();
        }
        let first = self.given;
        for message in messages {
            match self.give(message).await {
                Ok(()) => {}
                Err(PublishError::TooLarge { .. }) if self.given > first => break,
                Err(error) => return Err(error),
            }
        }
        self.proof().await?;
        if self.connects() != lives {
            return Err(PublishError::Away);
        }
        self.not_denied(messages).await;
        if let Some(words) = self.are_denied() {
            return Err(PublishError::Refused(words));
        }
        let mut unheard = HashSet::new();
        // Unconstrained: a task that has done much is told "nothing yet" for what is there.
        while let Some(Some(answer)) = unconstrained(self.answers.next()).now_or_never() {
            if answer.status == Some(StatusCode::NO_RESPONDERS)
                && let Some(number) = answer
                    .subject
                    .rsplit('.')
                    .next()
                    .and_then(|last| last.parse::<u64>().ok())
            {
                unheard.insert(number);
            }
        }
        let numbers = first..self.given;
        let given = numbers.clone().count();
        let heard = numbers.take_while(|number| !unheard.contains(number)).count();
        for message in messages.iter().take(heard) {
            self.bus.metrics.nats_published(message.out.name());
        }
        Ok(Came { heard, given })
    }

    /// A server that forbids a subject says so beside it and tells nobody listens of nothing: on a subject that is new to
    /// this connection its word is waited for.
    async fn not_denied(&mut self, messages: &[Message]) {
        let new: Vec<&'static str> = messages
            .iter()
            .map(|message| message.out.name())
            .filter(|name| !self.allowed.contains(name))
            .collect();
        if new.is_empty() {
            return;
        }
        let (mut told, before) = (self.bus.mute.clone(), self.denials);
        if tokio::time::timeout(DENIAL_TIME, told.wait_for(|(times, _)| *times > before))
            .await
            .is_err()
        {
            self.allowed.extend(new);
        }
    }

    fn connects(&self) -> u64 {
        self.bus.client.statistics().connects.load(Ordering::Relaxed)
    }

    async fn give(&mut self, message: &Message) -> Result<(), PublishError> {
        self.bus.ready().await?;
        let subject = async_nats::Subject::from(message.out.subject(&self.bus.subjects));
        let mut headers = self.bus.headers.clone();
        headers.insert(MESSAGE_ID, HeaderValue::from(message.id.as_str()));
        let reply = format!("{}.{}", self.inbox, self.given);
        let payload = message.payload.clone();
        let sent = self
            .bus
            .client
            .publish_with_reply_and_headers(subject, reply, headers, payload);
        let sent = tokio::time::timeout(self.bus.wait, sent)
            .await
            .map_err(|_| PublishError::Away)?;
        sent.map_err(|error| self.bus.refused(&error, message.payload.len()))?;
        self.given += 1;
        Ok(())
    }

    /// Returns when NATS has done what it was given before.
    async fn proof(&self) -> Result<(), PublishError> {
        let asked = self.bus.client.request(ROUND_TRIP, Bytes::new());
        match tokio::time::timeout(self.bus.wait, asked).await {
            Ok(Ok(_)) => Ok(()),
            // Nobody answers on this subject, and NATS says so: behind all that it had sent us before.
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
            Ok(Err(error)) if error.kind() == RequestErrorKind::TimedOut => Err(PublishError::Away),
            Ok(Err(error)) => Err(PublishError::Refused(error.to_string())),
            Err(_) => Err(PublishError::Away),
        }
    }
}

/// Leaves of each document the newest message, where that stood.
fn newest(messages: &mut Vec<Message>) {
    let mut seen = HashSet::new();
    let mut left: Vec<Message> = std::mem::take(messages)
        .into_iter()
        .rev()
        .filter(|message| message.of.clone().is_none_or(|of| seen.insert(of)))
        .collect();
    left.reverse();
    *messages = left;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_document_the_newest_is_published_again() {
        let message = |id: &str, of: Option<&str>| Message {
            out: Out::CreateResource,
            payload: Bytes::new(),
            id: id.into(),
            of: of.map(|of| (DataType::DataResource, of.to_owned())),
        };
        let mut messages = vec![
            message("1", Some("a")),
            message("2", None),
            message("3", Some("b")),
            message("4", Some("a")),
            message("5", None),
        ];
        newest(&mut messages);
        let ids: Vec<&str> = messages.iter().map(|message| message.id.as_str()).collect();
        assert_eq!(ids, ["2", "3", "4", "5"]);
    }
}
