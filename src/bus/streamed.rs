//! Takes from a JetStream stream, in its order, from where the node had come to.
//!
//! Owns the ordered consumer and its watch. Always: messages come in the stream's order without a hole that is not told;
//! when the stream is gone or another one, the taking ends and says so.

use super::Bus;
use super::covering::{Covering, Removed, Source, look};
use super::intake::{From, Place, Queue, Subject};
use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::stream::Info;
use futures::StreamExt;
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;

/// How often the stream is looked at: the client's own ordered consumer tries for ever to find a stream that was removed.
const WATCH: Duration = Duration::from_secs(5);
/// So many looks in a row to which nobody answers: then the taking ends, and it is chosen anew.
const SILENT: u32 = 2;
/// How long one question to JetStream may take.
const API_TIME: Duration = Duration::from_secs(5);
/// Messages that the server may send ahead of what we take. Bounds the client's memory, together with the largest message. Fewer at
/// a time (64) made intakes stand still now and then in bursts, until their requests ended.
const AHEAD: i64 = 512;

/// Where the taking begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beginning {
    /// The first message to take.
    pub(super) next: u64,
    /// What is missing before it, if something is.
    pub(super) gap: Option<Gap>,
}

/// What is gone from the stream, or was never in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    /// For people.
    pub(super) why: String,
    /// Whether it was said to us: on a stream that others share it may be all theirs.
    pub(super) ours: bool,
}

/// How the taking ended.
pub(super) struct Outcome {
    /// The newest message taken.
    pub(super) last_seq: u64,
    /// For people.
    pub(super) why: String,
}

/// Pure: where to begin in the stream as it is now, when the node had come to `from`.
pub(super) fn beginning(covering: &Covering, from: Option<&From>) -> Beginning {
    let first = covering.first_seq.max(1);
    let behind_a_gap = |why, ours| Beginning {
        next: first,
        gap: Some(Gap { why, ours }),
    };
    let Some(from) = from else {
        return Beginning { next: first, gap: None };
    };
    if from.source != *covering.source {
        let why = format!(
            "the stream is another one ({}, made {}) than before ({}, made {})",
            covering.source.name, covering.source.created, from.source.name, from.source.created
        );
        return behind_a_gap(why, true);
    }
    let next = from.last_seq + 1;
    if from.last_seq > covering.last_seq {
        let why = format!(
            "it ends at {}, and {} was taken: it was restored",
            covering.last_seq, from.last_seq
        );
        return behind_a_gap(why, true);
    }
    if next < first {
        return behind_a_gap(format!("{} to {} are gone", next, first - 1), covering.only_ours);
    }
    Beginning { next, gap: None }
}

/// Takes until `stop`, or until the stream is no more what it was. `head` is told where that ends which was there before:
/// 0 when nothing is to be taken, the largest number until it is known. The stream's own newest message would not do: it
/// may be of another subject, or deleted, and is never taken then.
pub(super) async fn take(
    queue: &Queue,
    bus: &Bus,
    covering: &Covering,
    begin: &Beginning,
    head: impl Fn(u64),
    stop: &CancellationToken,
) -> Outcome {
    let mut last_seq = begin.next - 1;
    let ended = |last_seq, why: String| Outcome { last_seq, why };
    let mut context = jetstream::new(bus.client.clone());
    context.set_timeout(API_TIME);
    let stream = match context.get_stream(&covering.source.name).await {
        Ok(stream) => stream,
        Err(error) => return ended(last_seq, format!("the stream cannot be looked up: {error}")),
    };
    let subjects = &bus.subjects;
    let config = pull::OrderedConfig {
        description: Some("oc-discovery's intake".into()),
        deliver_policy: DeliverPolicy::ByStartSequence {
            start_sequence: begin.next,
        },
        filter_subjects: if covering.only_ours {
            Vec::new()
        } else {
            vec![
                subjects.propalgation_event.clone(),
                subjects.create_resource.clone(),
                subjects.remove_resource.clone(),
            ]
        },
        max_batch: AHEAD,
        ..pull::OrderedConfig::default()
    };
    let messages = async {
        let consumer = stream
            .create_consumer(config)
            .await
            .map_err(|error| error.to_string())?;
        let waiting = consumer.cached_info().num_pending;
        let messages = consumer.messages().await.map_err(|error| error.to_string())?;
        Ok::<_, String>((messages, waiting))
    };
    let (mut messages, mut behind) = match messages.await {
        Ok((messages, waiting)) => (messages, waiting > 0),
        Err(error) => return ended(last_seq, format!("no consumer on the stream: {error}")),
    };
    head(if behind { u64::MAX } else { 0 });
    let mut clock = covering.clock;
    let mut silent = 0;
    let mut watch = tokio::time::interval_at(tokio::time::Instant::now() + WATCH, WATCH);
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return ended(last_seq, "the daemon is leaving".into()),
            message = messages.next() => message,
            _ = watch.tick() => {
                match look(&context, &covering.source.name).await {
                    Err(Removed) => return ended(last_seq, "the stream was removed".into()),
                    // Without JetStream the server records nothing, and the client's consumer would wait for ever.
                    Ok(None) if !bus.is_connected() => silent = 0,
                    Ok(None) => {
                        silent += 1;
                        if silent == SILENT {
                            return ended(last_seq, "JetStream does not answer any more".into());
                        }
                    }
                    Ok(Some(now)) => {
                        silent = 0;
                        clock = now.clock();
                        if behind && now.info.state.first_sequence > covering.last_seq {
                            // All that was there before is taken or gone, and the last of it was not seen.
                            behind = false;
                            head(if last_seq < begin.next { 0 } else { last_seq });
                        }
                        if let Some(why) = changed(&now.info, covering, last_seq) {
                            return ended(last_seq, why);
                        }
                    }
                }
                continue;
            }
        };
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return ended(last_seq, format!("the stream's consumer ended: {error}")),
            None => return ended(last_seq, "the stream's consumer ended".into()),
        };
        let Ok(info) = message.info() else { continue };
        let (seq, published, more) = (info.stream_sequence, info.published, info.pending);
        if seq <= last_seq {
            // The client makes its consumer anew after an interruption; before the first message it does so from the stream's
            // beginning. Or the stream is not what it was: the next beginning sees which.
            return ended(
                last_seq,
                format!("the consumer began anew at {seq}, and {last_seq} was taken"),
            );
        }
        if covering.only_ours && seq > last_seq + 1 {
            // The next beginning sees and tells it.
            let hole = hole(&context, &covering.source, last_seq + 1).await;
            if let Some(why) = hole {
                return ended(last_seq, why);
            }
        }
        let Some(subject) = subject_of(&message.message, bus) else {
            continue;
        };
        let age = clock.age(SystemTime::from(published), Instant::now());
        let place = Place::Stream {
            seq,
            source: covering.source.clone(),
            age,
        };
        let put = tokio::select! {
            () = stop.cancelled() => return ended(last_seq, "the daemon is leaving".into()),
            put = queue.put(subject, message.message, place) => put,
        };
        if !put {
            return ended(last_seq, "the daemon is leaving".into());
        }
        last_seq = seq;
        if behind && more == 0 {
            behind = false;
            head(seq);
        }
    }
}

fn subject_of(message: &async_nats::Message, bus: &Bus) -> Option<Subject> {
    let (subject, ours) = (message.subject.as_str(), &bus.subjects);
    if subject == ours.propalgation_event {
        Some(Subject::PropalgationEvent)
    } else if subject == ours.create_resource {
        Some(Subject::CreateResource)
    } else if subject == ours.remove_resource {
        Some(Subject::RemoveResource)
    } else {
        None
    }
}

/// Why the stream is not what it was, when nothing behind `taken` was taken.
fn changed(now: &Info, covering: &Covering, taken: u64) -> Option<String> {
    if now.created.to_string() != covering.source.created {
        return Some("the stream was removed and made again".into());
    }
    let last = now.state.last_sequence;
    // A consumer made anew behind what was taken would wait for numbers that are given a second time.
    (last < taken).then(|| format!("the stream ends at {last}, and {taken} was taken"))
}

/// Whether messages from `next` on left the stream by its bounds before they were taken. Single messages that somebody
/// deleted are no gap.
async fn hole(context: &jetstream::Context, source: &Source, next: u64) -> Option<String> {
    let Ok(Some(now)) = look(context, &source.name).await else {
        // Nobody can tell now: the next beginning asks again.
        return Some(format!("{next} did not come, and NATS does not say why"));
    };
    let first = now.info.state.first_sequence;
    (first > next).then(|| format!("the stream begins at {first}, and {next} was not taken yet"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::clock::ServerClock;
    use std::sync::Arc;

    fn covering(created: &str, first_seq: u64, last_seq: u64) -> Covering {
        Covering {
            source: Arc::new(source(created)),
            first_seq,
            last_seq,
            only_ours: true,
            clock: ServerClock::said(SystemTime::now(), Instant::now()),
        }
    }

    fn source(created: &str) -> Source {
        Source {
            name: "S".into(),
            created: created.into(),
        }
    }

    fn begin(created: &str, last_seq: u64, first: u64, last: u64) -> (u64, bool) {
        let from = From {
            source: source(created),
            last_seq,
        };
        let begin = beginning(&covering("today", first, last), Some(&from));
        (begin.next, begin.gap.is_some())
    }

    #[test]
    fn it_goes_on_behind_what_was_taken_and_tells_what_is_missing() {
        assert_eq!(begin("today", 7, 1, 9), (8, false));
        assert_eq!(begin("today", 9, 1, 9), (10, false), "nothing new");
        assert_eq!(
            begin("today", 7, 8, 9),
            (8, false),
            "what was taken is gone, which is no gap"
        );
        assert_eq!(begin("today", 7, 9, 12), (9, true), "8 is gone");
        assert_eq!(begin("yesterday", 7, 1, 9), (1, true), "another stream of that name");
        assert_eq!(
            begin("today", 12, 1, 9),
            (1, true),
            "the stream was restored from a backup"
        );
        assert_eq!(beginning(&covering("today", 0, 0), None).next, 1, "an empty stream");
        assert_eq!(
            beginning(&covering("today", 4, 9), None).gap,
            None,
            "the first start takes what is there"
        );
    }

    #[test]
    fn what_is_gone_from_a_shared_stream_may_be_of_others() {
        let shared = Covering {
            only_ours: false,
            ..covering("today", 9, 12)
        };
        let from = |created, last_seq| From {
            source: source(created),
            last_seq,
        };
        let ours = |from| beginning(&shared, Some(&from)).gap.map(|gap| gap.ours);
        assert_eq!(ours(from("today", 8)), None);
        assert_eq!(ours(from("today", 7)), Some(false));
        assert_eq!(ours(from("today", 13)), Some(true), "it was restored");
        assert_eq!(ours(from("yesterday", 9)), Some(true), "it is another one");
    }
}
