//! Two daemons of one DID on one NATS would both answer for it: they find each other here, and the younger one leaves.
//!
//! Owns the lease subject `oc_discovery.lease.<hash of the DID>`. Always: the one that started first stays; a partition
//! of NATS that heals is noticed by the announcement repeated every [`ANNOUNCE_EVERY`]; a claim counts only when it is
//! signed with our own key, so that no app on NATS can send a daemon away.

use super::Bus;
use futures::StreamExt;
use libp2p::identity::Keypair;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;
use tracing::warn;

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

#[derive(Debug, Serialize, Deserialize)]
struct Signed {
    claim: Claim,
    /// Hex of the signature over the claim's JSON.
    sig: String,
}

/// Our claim on the DID.
pub struct Lease {
    subject: String,
    claim: Claim,
    keypair: Keypair,
}

impl Lease {
    /// A claim of this process, from now.
    #[must_use]
    pub fn new(did: &str, keypair: Keypair) -> Self {
        let hash = hex::encode(Sha256::digest(did.as_bytes()));
        let short: String = hash.chars().take(32).collect();
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        Self {
            subject: format!("oc_discovery.lease.{short}"),
            claim: Claim {
                started_ms: u64::try_from(started).unwrap_or(u64::MAX),
                instance: uuid::Uuid::new_v4().to_string(),
            },
            keypair,
        }
    }

    /// Holds the claim until `stop`: announces it, answers others, and returns an error when an older one is heard.
    ///
    /// # Errors
    /// [`LeaseError`] when this daemon is the one that must leave.
    pub async fn hold(self, bus: Bus, stop: CancellationToken) -> Result<(), LeaseError> {
        let Ok(mut others) = bus.client.subscribe(self.subject.clone()).await else {
            return Ok(());
        };
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
                    let Some(other) = self.read(&message.payload) else {
                        warn!("a claim on our DID that is not signed with our key; is another daemon configured for it?");
                        continue;
                    };
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
        if let Some(text) = self.written() {
            let _ = bus.client.publish(self.subject.clone(), text.into()).await;
        }
    }

    fn written(&self) -> Option<Vec<u8>> {
        let text = serde_json::to_vec(&self.claim).ok()?;
        let sig = hex::encode(self.keypair.sign(&text).ok()?);
        serde_json::to_vec(&Signed {
            claim: self.claim.clone(),
            sig,
        })
        .ok()
    }

    fn read(&self, message: &[u8]) -> Option<Claim> {
        let Signed { claim, sig } = serde_json::from_slice(message).ok()?;
        let text = serde_json::to_vec(&claim).ok()?;
        self.keypair
            .public()
            .verify(&text, &hex::decode(sig).ok()?)
            .then_some(claim)
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
        let key = Keypair::generate_ed25519();
        let (mut first, mut second) = (Lease::new("did", key.clone()), Lease::new("did", key));
        first.claim.started_ms = 1;
        second.claim.started_ms = 2;
        assert_eq!(first.against(&second.claim), Verdict::Stay);
        assert_eq!(second.against(&first.claim), Verdict::Leave);
        assert_eq!(first.against(&first.claim), Verdict::Same);
        second.claim.started_ms = 1;
        assert_ne!(first.against(&second.claim), second.against(&first.claim));
    }

    #[test]
    fn only_a_claim_signed_with_our_key_counts() {
        let key = Keypair::generate_ed25519();
        let (ours, twin) = (Lease::new("did", key.clone()), Lease::new("did", key));
        let foreign = Lease::new("did", Keypair::generate_ed25519());
        assert_eq!(ours.read(&twin.written().unwrap()), Some(twin.claim));
        assert_eq!(ours.read(&foreign.written().unwrap()), None);
        assert_eq!(ours.read(br#"{"started_ms":0,"instance":"x"}"#), None);
    }
}
