//! Two daemons of one DID on one NATS would both answer for it: they find each other here, and the younger one leaves.
//!
//! Owns the lease subject `oc_discovery.lease.<hash of the DID>`. Always: the one that started first stays; a partition
//! of NATS that heals is noticed by the announcement repeated every [`ANNOUNCE_EVERY`].

use super::Bus;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

/// Pause between two announcements.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(15);

/// Another daemon holds the DID.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error(
    "another oc-discovery ({instance}) already runs for this DID on this NATS; stop it first, or give this one its own NATS and key"
)]
pub struct LeaseError {
    /// The other one's instance id.
    pub instance: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    started_ms: u64,
    instance: String,
}

/// Our claim on the DID.
pub struct Lease {
    subject: String,
    claim: Claim,
}

impl Lease {
    /// A claim of this process, from now.
    #[must_use]
    pub fn new(did: &str) -> Self {
        let hash = hex::encode(Sha256::digest(did.as_bytes()));
        let short: String = hash.chars().take(32).collect();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self {
            subject: format!("oc_discovery.lease.{short}"),
            claim: Claim {
                started_ms: u64::try_from(started).unwrap_or(u64::MAX),
                instance: uuid::Uuid::new_v4().to_string(),
            },
        }
    }

    /// Holds the claim until `stop`: announces it, answers others, and returns an error when an older one is heard.
    ///
    /// # Errors
    /// [`LeaseError`] when this daemon is the one that must leave.
    pub async fn hold(self, bus: Bus, stop: CancellationToken) -> Result<(), LeaseError> {
        let Ok(mut others) = bus.client.subscribe(self.subject.clone()).await else { return Ok(()) };
        let mut again = tokio::time::interval(ANNOUNCE_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = again.tick() => {
                    bus.connected().await;
                    self.announce(&bus).await;
                }
                message = others.next() => {
                    let Some(message) = message else { return Ok(()) };
                    let Ok(other) = serde_json::from_slice::<Claim>(&message.payload) else { continue };
                    match self.against(&other) {
                        Verdict::Stay => self.announce(&bus).await,
                        Verdict::Leave => return Err(LeaseError { instance: other.instance }),
                        Verdict::Same => {}
                    }
                }
            }
        }
    }

    async fn announce(&self, bus: &Bus) {
        if let Ok(text) = serde_json::to_vec(&self.claim) {
            let _ = bus.client.publish(self.subject.clone(), text.into()).await;
        }
    }

    fn against(&self, other: &Claim) -> Verdict {
        if other.instance == self.claim.instance {
            Verdict::Same
        } else if *other < self.claim {
            Verdict::Leave
        } else {
            Verdict::Stay
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Stay,
    Leave,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_of_two_leaves() {
        let (mut first, mut second) = (Lease::new("did"), Lease::new("did"));
        first.claim.started_ms = 1;
        second.claim.started_ms = 2;
        assert_eq!(first.against(&second.claim), Verdict::Stay);
        assert_eq!(second.against(&first.claim), Verdict::Leave);
        assert_eq!(first.against(&first.claim), Verdict::Same);
        second.claim.started_ms = 1;
        assert_ne!(first.against(&second.claim), second.against(&first.claim));
    }
}
