//! The indexer's side: takes heartbeats and records, answers questions.
//!
//! Owns the streams of the three protocols and each peer's rates. Always: what is taken is verified first; a record in a
//! heartbeat is its sender's own; whoever is refused is told why in a word; nobody is answered who does not read.

use super::rules::{Verified, Wrong, verify};
use super::{Discovery, locked, now};
use crate::model::TokenBucket;
use crate::network::{HalfRead, Incoming, LineLimits, Lines, Source, Stream, split};
use crate::wire::{
    BeatAnswer, INDEXERS_MAX, PeerRecord, RECORD_BYTES, RecordAnswer, RecordBeat, RecordQuery, protocol, read_published,
};
use futures::io::WriteHalf;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A stream on which nothing comes for this long is closed: six heartbeats.
const QUIET: Duration = Duration::from_secs(120);
/// How long a line may take from its first byte.
const LINE_TIME: Duration = Duration::from_secs(5);
/// How long a peer may take to read an answer.
const READ_TIME: Duration = Duration::from_secs(5);
/// Heartbeats and publications a second of one peer, and how many may come at once. One in twenty seconds is due; a change of
/// address goes out at once.
const BEATS: (f64, f64) = (2.0, 20.0);
/// Questions a second of one peer, and how many may come at once: a daemon asks for each stranger at its door.
const GETS: (f64, f64) = (500.0, 2000.0);
/// Peers whose rates are remembered. When it is full of busy ones, a new one is told to come later.
const PEERS: usize = 100_000;
/// Lines of one peer that are over its rate in a row before its stream is reset.
const OVER: usize = 100;
/// How often expired records are swept.
const SWEEP: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Rates(HashMap<PeerId, (TokenBucket, TokenBucket, Instant)>);

impl Rates {
    fn take(&mut self, peer: PeerId, gets: bool, now: Instant) -> bool {
        if self.0.len() >= PEERS && !self.0.contains_key(&peer) {
            self.0
                .retain(|_, (_, _, used)| now.duration_since(*used) < Duration::from_secs(10));
            if self.0.len() >= PEERS {
                return false;
            }
        }
        let fresh = || {
            (
                TokenBucket::new(BEATS.0, BEATS.1),
                TokenBucket::new(GETS.0, GETS.1),
                now,
            )
        };
        let (beats, questions, used) = self.0.entry(peer).or_insert_with(fresh);
        *used = now;
        if gets { questions.take(now) } else { beats.take(now) }
    }
}

impl Discovery {
    /// Takes streams until the end.
    pub(super) async fn serve(self, mut incoming: mpsc::Receiver<Incoming>) {
        let rates: Arc<Mutex<Rates>> = Arc::default();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = self.0.parts.shutdown.cancelled() => return,
                _ = sweep.tick() => {
                    locked(&self.0.book).sweep(now());
                    self.0.parts.metrics.set_records(self.records().0);
                }
                stream = incoming.recv() => match stream {
                    Some(stream) => drop(tokio::spawn(self.clone().attend(stream, Arc::clone(&rates)))),
                    None => return,
                },
            }
        }
    }

    /// One stream, line by line.
    async fn attend(self, incoming: Incoming, rates: Arc<Mutex<Rates>>) {
        let Incoming {
            peer,
            protocol,
            stream,
            place: _place,
        } = incoming;
        let limits = LineLimits {
            bytes: 2 * RECORD_BYTES,
            time: LINE_TIME,
            quiet: Some(QUIET),
        };
        let (reader, mut writer) = stream.split();
        let mut lines = Lines::new(reader, limits, HalfRead::alone(0));
        let refusals = &self.0.parts.refusals;
        let mut over = 0;
        loop {
            let piece = tokio::select! {
                () = self.0.parts.shutdown.cancelled() => return,
                piece = lines.next() => piece,
            };
            let piece = match piece {
                Ok(Some(piece)) => piece,
                Ok(None) => return,
                Err(error) => {
                    if let Some(rule) = error.rule() {
                        refusals.refuse(rule, &peer.to_string(), &error);
                    }
                    return;
                }
            };
            for line in split(&piece) {
                let gets = protocol.as_ref() == protocol::RECORD_GET;
                if !locked(&rates).take(peer, gets, Instant::now()) {
                    refusals.refuse("record_rate", &peer.to_string(), protocol.as_ref());
                    over += 1;
                    if over >= OVER {
                        return;
                    }
                    continue;
                }
                let answer = match protocol.as_ref() {
                    protocol::HEARTBEAT => self.take_beat(peer, line).await,
                    protocol::RECORD_PUBLISH => self.take_published(peer, line),
                    _ => self.answer_query(peer, line).await,
                };
                let (answer, goes_on) = answer;
                if !answered(&mut writer, &answer).await || !goes_on {
                    return;
                }
            }
        }
    }

    /// A heartbeat; the answer, and whether the stream goes on.
    async fn take_beat(&self, peer: PeerId, line: &[u8]) -> (Vec<u8>, bool) {
        let taken = match RecordBeat::read_line(line) {
            Ok(RecordBeat { beat, .. }) if beat.peer_id != peer.to_string() => Err("heartbeat_of_another_peer"),
            Ok(RecordBeat {
                record: Some(record),
                beat,
            }) => match verify(record, SystemTime::now()) {
                Ok(record) if record.peer != peer => Err("record_of_another"),
                Ok(record) if record.record.did != beat.did => Err("heartbeat_of_another_did"),
                Ok(record) => self.put(peer, &record),
                Err(wrong) => Err(self.wrong(peer, &wrong)),
            },
            Ok(_) => Ok(()),
            Err(error) => Err(self.wrong(peer, &Wrong::from(error))),
        };
        let ok = taken.is_ok();
        if ok {
            self.0.parts.network.admit(peer).await;
        }
        (self.told(&peer, taken), ok)
    }

    /// A record that somebody publishes: its signature says whose it is, whoever brings it.
    fn take_published(&self, peer: PeerId, line: &[u8]) -> (Vec<u8>, bool) {
        let read = read_published(line).map_err(Wrong::from);
        let taken = match read.and_then(|record| verify(record, SystemTime::now())) {
            Ok(record) => self.put(peer, &record),
            Err(wrong) => Err(self.wrong(peer, &wrong)),
        };
        (self.told(&peer, taken), true)
    }

    fn wrong(&self, peer: PeerId, wrong: &Wrong) -> &'static str {
        self.0.parts.refusals.refuse(wrong.rule(), &peer.to_string(), wrong);
        wrong.rule()
    }

    fn put(&self, from: PeerId, record: &Verified) -> Result<(), &'static str> {
        let parts = &self.0.parts;
        let did = record.record.did.as_str();
        let stored = parts.federation.borrow().get(did).and_then(|member| member.peer_id);
        let own = (did == parts.own.did).then(|| parts.network.local());
        if stored.or(own).is_some_and(|owner| owner != record.peer) {
            parts
                .refusals
                .refuse("did_of_another", did, format_args!("{} claims it", record.peer));
            return Err("did_taken");
        }
        let source = parts.network.source_of(&from).unwrap_or(Source::Other);
        let taken = locked(&self.0.book)
            .take(record, source, now())
            .map_err(super::book::Refused::word);
        match taken {
            Ok(()) => parts.metrics.beat_taken(),
            Err(rule) => parts.refusals.refuse(rule, &from.to_string(), "a record"),
        }
        taken
    }

    fn told(&self, peer: &PeerId, taken: Result<(), &'static str>) -> Vec<u8> {
        let (records, capacity) = self.records();
        let reach = self
            .0
            .parts
            .network
            .connected()
            .borrow()
            .get(peer)
            .map(|link| link.reach);
        let others = locked(&self.0.choice).told(INDEXERS_MAX, reach.unwrap_or_default());
        BeatAnswer {
            ok: taken.is_ok(),
            why: taken.err().unwrap_or_default().to_owned(),
            records: records as u64,
            capacity: capacity as u64,
            indexers: others.iter().map(ToString::to_string).collect(),
        }
        .write_line()
    }

    async fn answer_query(&self, peer: PeerId, line: &[u8]) -> (Vec<u8>, bool) {
        match RecordQuery::read_line(line) {
            Ok(query) => {
                let own = self.own_record_for(&query.key, &peer);
                let records = self.find_for(&query).await;
                let records = own.into_iter().chain(records);
                self.0.parts.metrics.record_asked();
                (RecordAnswer::line_of(records, ""), true)
            }
            Err(error) => {
                self.0.parts.refusals.refuse(error.rule(), &peer.to_string(), &error);
                (RecordAnswer::line_of(std::iter::empty(), error.rule()), false)
            }
        }
    }

    /// Our own record, when it is asked for: nobody else may know us.
    fn own_record_for(&self, key: &str, peer: &PeerId) -> Option<Vec<u8>> {
        let own = &self.0.parts.own;
        let is_meant = key == own.did || key == own.name || key == self.0.parts.network.local().to_string();
        let record = is_meant.then(|| self.record_for(peer))?;
        record.ok().map(|record| record.write())
    }

    /// Takes a record of an earlier life.
    pub(super) fn put_back(&self, record: PeerRecord, source: Source, received: u64) {
        if let Ok(record) = super::rules::verify_old(record) {
            let _ = locked(&self.0.book).take_of(&record, source, received, now());
        }
    }
}

/// False when the peer does not read it.
async fn answered(writer: &mut WriteHalf<Stream>, line: &[u8]) -> bool {
    let write = async {
        writer.write_all(line).await?;
        writer.flush().await
    };
    matches!(timeout(READ_TIME, write).await, Ok(Ok(())))
}
