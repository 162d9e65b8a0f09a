//! Answers of peers that our store does not name, under a DID that does not follow from their key: how many are looked up.
//!
//! Owns when such an answer is worth a question to the indexers. Always: none is while no search of ours is open that
//! everybody may answer, and whoever invents DIDs uses up neither our look-ups nor our rate at an indexer.

use super::locked;
use super::shares::Shares;
use crate::model::TokenBucket;
use libp2p::PeerId;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Look-ups a second, and how many may come at once: a tenth of what an indexer takes of us.
const RATE: (f64, f64) = (50.0, 200.0);
/// Look-ups under way; others have at least three times as many.
const AT_ONCE: usize = 64;
/// Those of one peer: it has one DID, which is known after its first answer.
const OF_ONE: usize = 1;
/// How long one waits for its turn. Those who wait are bounded with the streams that they came by.
const WAIT: Duration = Duration::from_secs(2);

/// See the module's first lines.
pub(super) struct Strangers {
    /// A search is open that everybody may answer.
    wanted: AtomicBool,
    rate: Mutex<TokenBucket>,
    turns: Semaphore,
    of_peer: Shares<PeerId>,
}

/// What is held while one is looked up.
pub(super) type Turn<'a> = (OwnedSemaphorePermit, SemaphorePermit<'a>);

/// Why an answer is not looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// Nobody has asked everybody.
    Unwanted,
    /// Too many are looked up.
    Full,
}

impl Strangers {
    pub(super) fn new() -> Self {
        Self {
            wanted: AtomicBool::new(false),
            rate: Mutex::new(TokenBucket::new(RATE.0, RATE.1)),
            turns: Semaphore::new(AT_ONCE),
            of_peer: Shares::new(OF_ONE),
        }
    }

    pub(super) fn are_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// A turn to look up what `peer` says.
    pub(super) async fn turn(&self, peer: PeerId) -> Result<Turn<'_>, Denied> {
        if !self.wanted.load(Ordering::Relaxed) {
            return Err(Denied::Unwanted);
        }
        let own = self.of_peer.of(peer);
        let turn = async { Some((own.acquire_owned().await.ok()?, self.turns.acquire().await.ok()?)) };
        let turn = tokio::time::timeout(WAIT, turn).await;
        let turn = turn.ok().flatten().ok_or(Denied::Full)?;
        locked(&self.rate)
            .take(Instant::now())
            .then_some(turn)
            .ok_or(Denied::Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn none_is_looked_up_unless_everybody_was_asked_and_then_so_many() {
        let (strangers, some) = (Strangers::new(), PeerId::random);
        assert_eq!(strangers.turn(some()).await.map(drop), Err(Denied::Unwanted));
        strangers.are_wanted(true);
        let mut turns = Vec::new();
        for _ in 0..AT_ONCE {
            turns.push(strangers.turn(some()).await.unwrap());
        }
        assert_eq!(strangers.turn(some()).await.map(drop), Err(Denied::Full));
        drop(turns);
        let mut more = 0;
        while more < 10_000 && strangers.turn(some()).await.is_ok() {
            more += 1;
        }
        // What is refused for its turn takes nothing of the rate.
        assert!(more < 10_000 && AT_ONCE + more >= RATE.1 as usize, "{more}");
        strangers.are_wanted(false);
        assert_eq!(strangers.turn(some()).await.map(drop), Err(Denied::Unwanted));
    }

    #[tokio::test(start_paused = true)]
    async fn one_peer_has_one_at_a_time_and_waits_for_it() {
        let (strangers, one) = (Strangers::new(), PeerId::random());
        strangers.are_wanted(true);
        let first = strangers.turn(one).await.unwrap();
        assert_eq!(strangers.turn(one).await.map(drop), Err(Denied::Full));
        assert!(strangers.turn(PeerId::random()).await.is_ok());
        let (second, ()) = tokio::join!(strangers.turn(one), async { drop(first) });
        assert!(second.is_ok());
    }
}
