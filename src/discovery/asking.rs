//! One question to one indexer, and what its answer is worth.
//!
//! Owns the stream of a question. Always: an answer is bounded in size and time; of what it lists only verified records of what
//! was asked for count; one that lists another, or one that is not
//! genuine, has lied; what cannot be read, or is too old, is only left out.

use super::cache::Whence;
use super::choice::Lost;
use super::rules::{Verified, verify};
use super::{Discovery, locked};
use crate::network::{HalfRead, LineLimits, Lines, split};
use crate::wire::{RECORD_LINE_BYTES, RecordAnswer, RecordQuery, protocol};
use futures::AsyncWriteExt;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use libp2p::PeerId;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How long an indexer may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// How long the others are waited for when one has answered and there may be more to it: several bear a name, or several claim
/// a DID that does not prove itself.
const GRACE: Duration = Duration::from_millis(300);

/// What asking the indexers came to.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) records: Vec<(Verified, Whence)>,
    /// How many answered.
    pub(super) answers: usize,
}

/// Whether a record is what was asked for.
fn is_meant(key: &str, record: &Verified) -> bool {
    record.record.did == key || record.record.peer_id == key || record.record.name == key
}

/// Whether no other record can be meant, too.
fn settles(key: &str, record: &Verified) -> bool {
    record.record.peer_id == key || (record.proven && record.record.did == key)
}

impl Discovery {
    /// Asks every indexer that is kept, at once.
    pub(super) async fn ask_indexers(&self, key: &str, forwarded: bool) -> Asked {
        let kept = locked(&self.0.choice).kept();
        let query = RecordQuery {
            key: key.to_owned(),
            forwarded,
        };
        let asks = kept.into_iter().map(|indexer| self.ask(indexer, &query));
        let mut asks: FuturesUnordered<_> = asks.collect();
        let mut asked = Asked::default();
        let mut until = Instant::now() + ANSWER_TIME * 2;
        while let Ok(Some(answer)) = tokio::time::timeout_at(until, asks.next()).await {
            let Some(records) = answer else { continue };
            asked.answers += 1;
            let settled = records.iter().any(|(record, _)| settles(key, record));
            if asked.records.is_empty() && !records.is_empty() {
                until = until.min(Instant::now() + GRACE);
            }
            asked.records.extend(records);
            if settled {
                break;
            }
        }
        asked
    }

    /// Asks one; nothing when it gave no answer.
    async fn ask(&self, indexer: PeerId, query: &RecordQuery) -> Option<Vec<(Verified, Whence)>> {
        let answer = tokio::time::timeout(ANSWER_TIME, self.exchange(indexer, query)).await;
        let answer = answer.unwrap_or_else(|_| Err("it did not answer in time".to_owned()));
        let silent = locked(&self.0.choice).asked(&indexer, answer.is_ok());
        let (answer, unreadable) = match answer {
            Ok(answer) => answer,
            Err(why) => {
                tracing::debug!(%indexer, why, "an indexer gave no answer");
                if silent {
                    self.dismiss(indexer, Lost::Away(format!("it leaves questions unanswered: {why}")));
                }
                return None;
            }
        };
        // What one version reads another may not: that alone is no lie.
        if unreadable > 0 {
            let refusals = &self.0.parts.refusals;
            refusals.refuse("unreadable", &indexer.to_string(), "it lists what is no record");
        }
        if !answer.why.is_empty() {
            tracing::debug!(%indexer, why = answer.why, "an indexer did not look");
        }
        let mut records = Vec::new();
        for record in answer.records {
            match verify(record, SystemTime::now()) {
                Ok(record) if is_meant(&query.key, &record) => records.push((record, Whence::Indexer(indexer))),
                Ok(_) => self.lied(indexer, "record_of_another", "it lists a record that was not asked for"),
                // Clocks differ: that alone is no lie.
                Err(wrong @ (super::rules::Wrong::Expired | super::rules::Wrong::Expiry)) => {
                    self.0.parts.refusals.refuse(wrong.rule(), &indexer.to_string(), &wrong);
                }
                Err(wrong) => self.lied(indexer, wrong.rule(), &wrong.to_string()),
            }
        }
        Some(records)
    }

    fn lied(&self, indexer: PeerId, rule: &'static str, why: &str) {
        self.0.parts.refusals.refuse(rule, &indexer.to_string(), why);
        self.dismiss(indexer, Lost::Lied(rule));
    }

    async fn exchange(&self, indexer: PeerId, query: &RecordQuery) -> Result<(RecordAnswer, usize), String> {
        let opened = self.0.parts.network.open(indexer, protocol::RECORD_GET).await;
        let mut stream = opened.map_err(|error| error.to_string())?;
        let write = async {
            stream.write_all(&query.write_line()).await?;
            stream.flush().await
        };
        write.await.map_err(|error| error.to_string())?;
        let mut lines = answers(stream);
        let piece = lines.next().await.map_err(|error| error.to_string())?;
        let piece = piece.ok_or("it ended the stream without an answer")?;
        let line = split(&piece).next().ok_or("it answered with an empty line")?;
        RecordAnswer::read_line(line).map_err(|error| error.to_string())
    }
}

/// Reads what an indexer answers.
pub(super) fn answers<R: futures::AsyncRead + Unpin>(stream: R) -> Lines<R> {
    let limits = LineLimits {
        bytes: RECORD_LINE_BYTES,
        time: ANSWER_TIME,
        quiet: None,
    };
    Lines::new(stream, limits, HalfRead::alone(RECORD_LINE_BYTES))
}
