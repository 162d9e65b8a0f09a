//! Keeps indexers: a heartbeat stream to each, with a fresh record every 20 s and at once after a change.
//!
//! Owns these sessions and our own addresses. Always: the loss of one makes place for another; the loss of all is said once and
//! tried again for ever; an indexer that never answers heartbeats is kept as long as it takes them.

use super::asking::answers;
use super::choice::Lost;
use super::own::{Ours, witnessed};
use super::{Discovery, chance, locked};
use crate::network::{Lines, Stream, split};
use crate::wire::{BeatAnswer, Heartbeat, INDEXERS_MAX, PeerRecord, RecordBeat, WireError, protocol};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{Multiaddr, PeerId};
use std::time::{Duration, Instant, SystemTime};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// Pause between two heartbeats.
const PERIOD: Duration = Duration::from_secs(20);
/// How long an indexer may take to take a heartbeat, and to answer one when it has answered before.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait of the keeper for something to do: others may have told of indexers.
const IDLE: Duration = Duration::from_secs(5);

impl Discovery {
    /// Runs until the end; see the module's first lines.
    pub(super) async fn keep_indexers(self) {
        let mut alone = false;
        loop {
            let (chosen, due) = {
                let mut choice = locked(&self.0.choice);
                let chosen = choice.next(Instant::now(), chance);
                (chosen, choice.due())
            };
            self.say_needed().await;
            for (indexer, addresses) in chosen {
                let stop = self.0.parts.shutdown.child_token();
                locked(&self.0.sessions).insert(indexer, (stop.clone(), None));
                tokio::spawn(self.clone().session(indexer, addresses, stop));
            }
            let (kept, any, idle) = {
                let choice = locked(&self.0.choice);
                let tried = choice.shown().iter().all(|shown| shown.last != "not tried yet");
                (
                    choice.kept().len(),
                    choice.knows_any(),
                    tried && choice.needed().is_empty(),
                )
            };
            self.0.parts.metrics.set_indexers(kept, self.indexers().len());
            let now_alone = if alone { kept == 0 } else { any && kept == 0 && idle };
            if now_alone != alone {
                alone = now_alone;
                self.say_alone(alone);
            }
            let wait = due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()).min(IDLE));
            tokio::select! {
                () = self.0.parts.shutdown.cancelled() => return,
                () = self.0.chosen.notified() => {}
                () = tokio::time::sleep(wait.max(Duration::from_millis(10))) => {}
            }
        }
    }

    async fn say_needed(&self) {
        let needed = locked(&self.0.choice).needed();
        self.0.parts.network.need(needed).await;
    }

    /// An indexer is let go.
    pub(super) fn dismiss(&self, indexer: PeerId, why: Lost) {
        if let Some((stop, reason)) = locked(&self.0.sessions).get_mut(&indexer) {
            reason.get_or_insert(why);
            stop.cancel();
        }
    }

    /// One life of an indexer that is tried.
    async fn session(self, indexer: PeerId, addresses: Vec<Multiaddr>, stop: CancellationToken) {
        let ended = tokio::select! {
            () = stop.cancelled() => Lost::Away("let go".to_owned()),
            ended = self.beat(indexer, &addresses) => ended,
        };
        let dismissed = locked(&self.0.sessions).remove(&indexer).and_then(|(_, why)| why);
        let why = dismissed.unwrap_or(ended);
        if self.0.parts.shutdown.is_cancelled() {
            return;
        }
        debug!(%indexer, %why, "an indexer is not kept");
        locked(&self.0.choice).lost(&indexer, &why, Instant::now(), chance());
        self.0.chosen.notify_one();
    }

    async fn beat(&self, indexer: PeerId, addresses: &[Multiaddr]) -> Lost {
        let away = |error: &dyn std::fmt::Display| Lost::Away(error.to_string());
        let network = &self.0.parts.network;
        if let Err(error) = network.connect(indexer, addresses).await {
            return away(&error);
        }
        let stream = match network.open(indexer, protocol::HEARTBEAT).await {
            Ok(stream) => stream,
            Err(error) => return away(&error),
        };
        let (reader, mut writer) = stream.split();
        let mut lines = answers(reader);
        let mut ours = self.0.ours.subscribe();
        let mut answers_beats = false;
        // Heartbeats that it has not answered.
        let mut owed = 0_usize;
        loop {
            ours.borrow_and_update();
            let line = match self.heartbeat_for(&indexer) {
                Ok(line) => line,
                Err(error) => return away(&error),
            };
            let write = async {
                writer.write_all(&line).await?;
                writer.flush().await
            };
            match timeout(PATIENCE, write).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return away(&error),
                Err(_) => return away(&"a heartbeat could not be written in time"),
            }
            owed += 1;
            match timeout(PATIENCE, self.answer(&indexer, &mut lines, &mut owed)).await {
                Ok(Ok(())) => answers_beats = true,
                Ok(Err(lost)) => return lost,
                Err(_) if answers_beats => return away(&"it stopped answering heartbeats"),
                // Others may take heartbeats without a word.
                Err(_) => self.is_kept(&indexer, None),
            }
            let next = tokio::time::Instant::now() + PERIOD.mul_f64(0.9 + chance() / 5.0);
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(next) => break,
                    changed = ours.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return away(&"the end"),
                    },
                    // One that has just started, and takes the heartbeats of a crowd, answers late.
                    late = self.answer(&indexer, &mut lines, &mut owed) => if let Err(lost) = late { return lost },
                }
            }
        }
    }

    /// Our record as it is told to a connected peer.
    pub(super) fn record_for(&self, peer: &PeerId) -> Result<PeerRecord, WireError> {
        let parts = &self.0.parts;
        let reach = parts.network.connected().borrow().get(peer).map(|link| link.reach);
        parts
            .own
            .record(&self.0.ours.borrow(), reach.unwrap_or_default(), SystemTime::now())
    }

    fn heartbeat_for(&self, indexer: &PeerId) -> Result<Vec<u8>, WireError> {
        let parts = &self.0.parts;
        let record = self.record_for(indexer)?;
        let beat = Heartbeat {
            name: parts.own.name.clone(),
            did: parts.own.did.clone(),
            peer_id: parts.network.local().to_string(),
        };
        Ok(RecordBeat {
            beat,
            record: Some(record),
        }
        .write_line())
    }

    /// Takes answers as they come; `owed` is how many are due.
    async fn answer(
        &self,
        indexer: &PeerId,
        lines: &mut Lines<futures::io::ReadHalf<Stream>>,
        owed: &mut usize,
    ) -> Result<(), Lost> {
        let piece = match lines.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => return Err(Lost::Away("it closed the heartbeat stream".to_owned())),
            Err(error) => return Err(Lost::Away(error.to_string())),
        };
        for line in split(&piece) {
            *owed = owed
                .checked_sub(1)
                .ok_or_else(|| Lost::Away("it answers what it was not asked".to_owned()))?;
            let answer = BeatAnswer::read_line(line).map_err(|error| Lost::Lied(error.rule()))?;
            self.learn(&answer.indexers);
            if !answer.ok {
                self.0.parts.metrics.beat_refused();
                debug!(%indexer, why = answer.why, "an indexer does not take our record");
                return Err(match answer.why.as_str() {
                    "full" | "address_full" => Lost::Full,
                    why => Lost::Away(format!(
                        "it does not take our record: {}",
                        why.chars().take(64).collect::<String>()
                    )),
                });
            }
            self.is_kept(indexer, Some(&answer));
        }
        Ok(())
    }

    fn learn(&self, told: &[String]) {
        let told = told.iter().take(INDEXERS_MAX);
        let read: Vec<Multiaddr> = told.filter_map(|text| text.parse().ok()).collect();
        let mut choice = locked(&self.0.choice);
        for address in &read {
            choice.learnt(address, Instant::now());
        }
    }

    fn is_kept(&self, indexer: &PeerId, answer: Option<&BeatAnswer>) {
        let new = {
            let mut choice = locked(&self.0.choice);
            let new = !choice.kept().contains(indexer);
            choice.up(indexer, Instant::now());
            if let Some(answer) = answer {
                choice.answered(indexer, answer.records, answer.capacity);
            }
            new
        };
        if new {
            info!(%indexer, "an indexer has our record");
            self.0.chosen.notify_one();
        }
    }

    /// Looks where we can be reached and what our document says, and tells it when that has changed.
    pub(super) fn find_own_addresses(&self) -> bool {
        let parts = &self.0.parts;
        let listening = parts.network.listening().borrow().clone();
        let indexers = locked(&self.0.choice).trusted();
        let seen = parts.network.seen_at().borrow().clone();
        let witnessed = witnessed(&seen, |peer| parts.network.source_of(peer), &indexers, &listening);
        let ours = Ours::new(&parts.live.borrow().network.announce, &listening, witnessed);
        let ours = ours.saying(locked(&self.0.says).clone());
        self.0.ours.send_if_modified(|known| {
            let changed = *known != ours;
            *known = ours;
            changed
        })
    }

    pub(super) async fn watch_own_addresses(self) {
        let network = self.0.parts.network.clone();
        let (mut listening, mut seen) = (network.listening(), network.seen_at());
        let mut live = self.0.parts.live.clone();
        network.tell(self.own_addresses()).await;
        loop {
            tokio::select! {
                () = self.0.parts.shutdown.cancelled() => return,
                changed = listening.changed() => if changed.is_err() { return },
                changed = live.changed() => if changed.is_err() { return },
                changed = seen.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // Peers come and go by the dozen: their words are looked at together.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            listening.borrow_and_update();
            seen.borrow_and_update();
            live.borrow_and_update();
            if self.find_own_addresses() {
                info!(addresses = ?self.own_addresses(), "we can be reached elsewhere: telling it");
                network.tell(self.own_addresses()).await;
            }
        }
    }
}
