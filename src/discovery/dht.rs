//! What this daemon says in the DHT, and what it keeps there for others.
//!
//! Owns when our record is put and when indexers are looked for. Never keeps a record that it has not verified. Always: our
//! record is put again before it ends, at once after our addresses changed; an indexer tells so as long as it is one.

use super::rules::{millis, verify};
use super::shelf::{Shelf, key_of_did};
use super::{Discovery, locked};
use crate::network::Offered;
use crate::wire::PeerRecord;
use libp2p::multiaddr::Protocol;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use tracing::debug;

/// How often our record is put: it lives for two minutes.
const PUT_EVERY: Duration = Duration::from_secs(60);
/// How often it is tried while nobody takes it, and indexers are looked for while there are too few.
const TRY_EVERY: Duration = Duration::from_secs(10);
/// After this long without a connection the first put is tried anyway.
const SETTLE: Duration = Duration::from_secs(1);
/// Providers looked at in one round.
const PROVIDERS: usize = 16;

impl Discovery {
    /// Runs until the end; see the module's first lines.
    pub(super) async fn speak_to_dht(self) {
        let mut ours = self.0.ours.subscribe();
        let mut connected = self.0.parts.network.connected();
        let mut wait = SETTLE;
        let mut looked: Option<Instant> = None;
        loop {
            tokio::select! {
                () = self.0.parts.shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                changed = ours.changed() => if changed.is_err() { return },
                // The first peer: there is a DHT now.
                is_up = async { connected.wait_for(|links| !links.is_empty()).await.is_ok() }, if looked.is_none() => {
                    if !is_up {
                        return;
                    }
                    tokio::time::sleep(SETTLE).await;
                }
            }
            ours.borrow_and_update();
            let put = self.put_own().await;
            if self.0.is_indexer {
                self.0.parts.network.dht_provide().await;
            }
            let due = looked.is_none_or(|at| at.elapsed() >= TRY_EVERY);
            if due && locked(&self.0.choice).missing() > 0 {
                self.look_for_indexers().await;
            }
            looked = Some(Instant::now());
            let few = self.0.choice_is_empty();
            wait = if put && !few { PUT_EVERY } else { TRY_EVERY };
        }
    }

    async fn put_own(&self) -> bool {
        let parts = &self.0.parts;
        if parts.network.connected().borrow().is_empty() {
            return false;
        }
        let ours = self.0.ours.borrow().clone();
        match parts.own.record(&ours, ours.farthest(), SystemTime::now()) {
            Ok(record) => {
                let taken = parts.network.dht_put(key_of_did(&parts.own.did), record.write()).await;
                parts.metrics.dht_put(if taken { "taken" } else { "failed" });
                taken
            }
            Err(error) => {
                parts.refusals.refuse(error.rule(), "", &error);
                false
            }
        }
    }

    /// Asks the DHT who is an indexer, and where those listen that are new.
    async fn look_for_indexers(&self) {
        let network = &self.0.parts.network;
        let known: Vec<_> = self.indexers().into_iter().map(|shown| shown.peer).collect();
        let told = network.dht_indexers().await;
        let own = network.local();
        let new = told.into_iter().filter(|peer| *peer != own && !known.contains(peer));
        for peer in new.take(PROVIDERS) {
            for address in network.dht_addresses(peer).await {
                let mut bare = address;
                if matches!(bare.iter().last(), Some(Protocol::P2p(_))) {
                    bare.pop();
                }
                debug!(%peer, address = %bare, "the DHT tells of an indexer");
                locked(&self.0.choice).learnt(&bare.with(Protocol::P2p(peer)), Instant::now());
            }
        }
        self.0.chosen.notify_one();
    }

    /// Keeps what others want kept, when it is right.
    pub(super) async fn judge_offered(self, mut offered: mpsc::Receiver<Offered>) {
        let mut shelf = Shelf::default();
        loop {
            let Offered { from, key, value } = tokio::select! {
                () = self.0.parts.shutdown.cancelled() => return,
                offered = offered.recv() => match offered {
                    Some(offered) => offered,
                    None => return,
                },
            };
            let now = SystemTime::now();
            let read = PeerRecord::read(&value).map_err(super::rules::Wrong::from);
            let verified = read
                .and_then(|record| verify(record, now))
                .map_err(|wrong| wrong.rule());
            let kept = verified.and_then(|record| {
                let federation = self.0.parts.federation.borrow();
                let pinned = federation.get(&record.record.did).and_then(|member| member.peer_id);
                if pinned.is_some_and(|pinned| pinned != record.peer) {
                    return Err("did_of_another");
                }
                shelf.may_keep(&key, &record, from, millis(now)).map(|()| record)
            });
            match kept {
                Ok(record) => {
                    let life = Duration::from_millis(record.expires.saturating_sub(millis(now)));
                    self.0.parts.network.dht_keep(key, value, life).await;
                }
                Err("older") => {}
                Err(rule) => self
                    .0
                    .parts
                    .refusals
                    .refuse(rule, &from.to_string(), "a record for the DHT"),
            }
        }
    }
}

impl super::Shared {
    fn choice_is_empty(&self) -> bool {
        locked(&self.choice).kept().is_empty()
    }
}
