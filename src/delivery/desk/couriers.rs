//! Which couriers there are: one for each partner, and for each peer that has directed rows.
//!
//! Owns their start, the words told to them and what is said of them as they fall behind. Decides nothing that a courier's
//! own rules decide. Always: at most one a destination, and each hears every change of its right.

use super::{Delivery, locked};
use crate::delivery::courier::Courier;
use crate::delivery::intake::Reach;
use crate::delivery::sender::{Input, Sender};
use crate::delivery::status::CourierStatus;
use crate::delivery::types::Feed;
use crate::model::{Federation, Relation};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// Words for a courier that it has not heard yet; it hears them between two answers.
const WORDS: usize = 64;
/// A partner that is so far behind is told of in the log, in rows and seconds.
const BEHIND: (u64, u64) = (1_000, 60);
/// At the end, partners that take nothing for a fifth of the time that there is, within these bounds, are left for the next
/// start: nothing is lost.
const NO_PROGRESS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// How often it is looked whether they have everything.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// A courier at work, and the desk's own notes of it.
pub(super) struct Running {
    pub(super) words: mpsc::Sender<Input>,
    pub(super) status: Arc<CourierStatus>,
    pub(super) partner: bool,
    pub(super) directed: bool,
    pub(super) task: JoinHandle<()>,
    pub(super) behind: bool,
}

/// The diagrams' `searchPeer(PARTNER)`: each of them has a courier, and so each event of ours.
fn search_peer_partner(federation: &Federation) -> impl Iterator<Item = String> {
    federation.partners().map(|member| member.did.clone())
}

impl Delivery {
    pub(super) async fn set_couriers(&self, federation: &Federation, directed: &HashSet<String>) {
        let mut wanted: BTreeMap<String, (bool, bool)> = BTreeMap::new();
        for did in search_peer_partner(federation) {
            wanted.insert(did, (true, false));
        }
        for member in federation.others().filter(|member| directed.contains(&member.did)) {
            if member.relation != Relation::Blacklist {
                wanted.entry(member.did.clone()).or_default().1 = true;
            }
        }
        wanted.remove(&self.0.parts.own_did);
        let mut words = Vec::new();
        {
            let mut couriers = locked(&self.0.couriers);
            couriers.retain(|did, courier| {
                let ended = courier.task.is_finished();
                if ended {
                    self.0.parts.metrics.forget_delivery(did);
                }
                !ended
            });
            for (did, courier) in couriers.iter_mut() {
                // It has no address meanwhile, and what waits for it goes on waiting.
                if federation.is_aside(did) {
                    continue;
                }
                let (partner, directed) = wanted.remove(did).unwrap_or((false, false));
                if (courier.partner, courier.directed) != (partner, directed) {
                    (courier.partner, courier.directed) = (partner, directed);
                    words.push((courier.words.clone(), Input::Rights { partner, directed }));
                }
            }
            for (did, (partner, directed)) in wanted {
                let name = federation
                    .get(&did)
                    .map(|member| member.name.clone())
                    .unwrap_or_default();
                let courier = self.start_courier(&did, name, partner, directed);
                words.push((courier.words.clone(), Input::Rights { partner, directed }));
                words.push((courier.words.clone(), Input::IntakeReady(*self.0.intake_ready.borrow())));
                couriers.insert(did, courier);
            }
        }
        for (courier, word) in words {
            let _ = courier.send(word).await;
        }
    }

    fn start_courier(&self, did: &str, name: String, partner: bool, directed: bool) -> Running {
        let mut note = locked(&self.0.notes).remove(did).unwrap_or_default();
        note.did = did.to_owned();
        note.hold_code.clear();
        // The place noted is of an earlier life; the partner states its own. To a `/1.0` peer it is where to go on.
        let Reach { head, floor } = *self.0.shared.reach.borrow();
        let feed = Feed {
            head,
            floor,
            ..(*self.0.feed).clone()
        };
        let sender = Sender::new(did, Arc::new(feed), note.acked_seq);
        let status = Arc::new(CourierStatus::named(did, name));
        let (words, told) = mpsc::channel(WORDS);
        let courier = Courier::new(Arc::clone(&self.0.shared), sender, note, Arc::clone(&status));
        Running {
            words,
            status,
            partner,
            directed,
            task: tokio::spawn(courier.run(told)),
            behind: false,
        }
    }

    pub(super) async fn tell_all(&self, word: impl Fn() -> Input) {
        let couriers: Vec<_> = locked(&self.0.couriers)
            .values()
            .map(|courier| courier.words.clone())
            .collect();
        for courier in couriers {
            let _ = courier.send(word()).await;
        }
    }

    /// False when it has no courier.
    pub(super) async fn tell_one(&self, did: &str, word: Input) -> bool {
        let courier = locked(&self.0.couriers).get(did).map(|courier| courier.words.clone());
        match courier {
            Some(courier) => courier.send(word).await.is_ok(),
            None => false,
        }
    }

    /// Lag of each partner: metrics, and a line when one falls behind or has caught up.
    pub(super) async fn tell_people(&self) {
        for status in self.status().await {
            self.0
                .parts
                .metrics
                .set_delivery_lag(&status.did, status.lag_rows, status.lag_seconds);
            self.0.parts.metrics.set_delivery_state(&status.did, status.state);
            let behind = status.lag_rows >= BEHIND.0 || status.lag_seconds >= BEHIND.1;
            let was = locked(&self.0.couriers)
                .get_mut(&status.did)
                .map(|courier| std::mem::replace(&mut courier.behind, behind));
            match (was, behind) {
                (Some(false), true) => warn!(
                    partner = %status.name, did = %status.did, rows = status.lag_rows, seconds = status.lag_seconds,
                    hold = %status.hold_code, why = %status.last_error, "a partner has fallen behind"
                ),
                (Some(true), false) => info!(partner = %status.name, did = %status.did, "a partner has caught up"),
                _ => {}
            }
        }
    }

    /// Returns when every partner that is being delivered to has everything, or none of them takes more.
    pub(super) async fn drain(&self) {
        let patience = (self.0.parts.settings.shutdown_grace / 5).clamp(NO_PROGRESS.0, NO_PROGRESS.1);
        let mut last = Vec::new();
        let mut moved = tokio::time::Instant::now();
        loop {
            let head = self.0.shared.reach.borrow().head;
            let waiting: Vec<(String, u64)> = locked(&self.0.couriers)
                .values()
                .map(|courier| courier.status.get())
                .filter(|status| status.is_delivering() && status.acked_seq < head)
                .map(|status| (status.did, status.acked_seq))
                .collect();
            if waiting != last {
                (last, moved) = (waiting, tokio::time::Instant::now());
            }
            if last.is_empty() || moved.elapsed() >= patience {
                return;
            }
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }
}
