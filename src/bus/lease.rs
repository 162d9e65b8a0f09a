//! Two daemons of one DID on one NATS would both answer for it: they find each other here, and the younger one leaves.
//!
//! Owns the lease subject `oc_discovery.lease.<hash of the DID>`. Always: the one that started first stays; a partition
//! of NATS that heals is noticed by the announcement repeated every [`ANNOUNCE_EVERY`]; a claim counts only when it is
//! signed with our own key, and sends us away only when it names us, so that no app on NATS can do that, be it with a
//! claim that it once heard of a daemon long gone.

use super::Bus;
use crate::telemetry::Refusals;
use futures::StreamExt;
use libp2p::identity::Keypair;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

/// Pause between two announcements.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(15);

/// How long NATS is waited for before the start goes on without it, and an older daemon for its word when somebody listens
/// there. Nobody does, most often, and NATS says so at once.
const ASK_TIME: Duration = Duration::from_millis(500);

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
    /// The instance whose younger claim this answers.
    #[serde(default)]
    answers: Option<String>,
    /// Hex of the signature over the JSON of the two above.
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

    /// Asks whether an older daemon holds the DID, before anybody hears of us. Silence says nothing: [`Lease::hold`] finds out.
    ///
    /// # Errors
    /// [`LeaseError`] when this daemon is the one that must leave.
    pub async fn ask(&self, bus: &Bus) -> Result<(), LeaseError> {
        let asking = async {
            bus.connected().await;
            let answer = bus.client.request(self.subject.clone(), self.written(None)?.into());
            self.read(&answer.await.ok()?.payload)
        };
        let Ok(Some((other, answers))) = tokio::time::timeout(ASK_TIME, asking).await else {
            return Ok(());
        };
        match self.against(&other, answers.as_deref()) {
            Verdict::Leave => Err(LeaseError {
                instance: other.instance,
            }),
            Verdict::Answer | Verdict::Same => Ok(()),
        }
    }

    /// Holds the claim until `stop`: announces it, answers others, and returns an error when an older one is heard.
    ///
    /// # Errors
    /// [`LeaseError`] when this daemon is the one that must leave.
    pub async fn hold(self, bus: Bus, refusals: Refusals, stop: CancellationToken) -> Result<(), LeaseError> {
        let Ok(mut others) = bus.client.subscribe(self.subject.clone()).await else {
            return Ok(());
        };
        let mut again = tokio::time::interval(ANNOUNCE_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = again.tick() => {
                    bus.connected().await;
                    self.announce(&bus, self.subject.as_str(), None).await;
                }
                message = others.next() => {
                    let Some(message) = message else { return Ok(()) };
                    let Some((other, answers)) = self.read(&message.payload) else {
                        let why = "a claim on our DID that is not signed with our key; is another daemon configured for it?";
                        refusals.refuse("forged_lease", &self.subject, why);
                        continue;
                    };
                    match self.against(&other, answers.as_deref()) {
                        Verdict::Answer => {
                            // Who asked before it listens hears it by its reply subject only.
                            for subject in message.reply.as_deref().into_iter().chain([self.subject.as_str()]) {
                                self.announce(&bus, subject, Some(other.instance.clone())).await;
                            }
                        }
                        Verdict::Leave => return Err(LeaseError { instance: other.instance }),
                        Verdict::Same => {}
                    }
                }
            }
        }
    }

    async fn announce(&self, bus: &Bus, subject: &str, answers: Option<String>) {
        if let Some(text) = self.written(answers) {
            let _ = bus.client.publish(subject.to_owned(), text.into()).await;
        }
    }

    fn written(&self, answers: Option<String>) -> Option<Vec<u8>> {
        let text = serde_json::to_vec(&(&self.claim, &answers)).ok()?;
        let sig = hex::encode(self.keypair.sign(&text).ok()?);
        serde_json::to_vec(&Signed {
            claim: self.claim.clone(),
            answers,
            sig,
        })
        .ok()
    }

    /// The claim, and whom it answers.
    fn read(&self, message: &[u8]) -> Option<(Claim, Option<String>)> {
        let Signed { claim, answers, sig } = serde_json::from_slice(message).ok()?;
        let text = serde_json::to_vec(&(&claim, &answers)).ok()?;
        self.keypair
            .public()
            .verify(&text, &hex::decode(sig).ok()?)
            .then_some((claim, answers))
    }

    fn against(&self, other: &Claim, answers: Option<&str>) -> Verdict {
        if other.instance == self.claim.instance {
            Verdict::Same
        } else if *other < self.claim && answers == Some(self.claim.instance.as_str()) {
            Verdict::Leave
        } else if *other < self.claim && answers.is_some() {
            // A word to somebody else: answering it would be heard by that one, and answered, without end.
            Verdict::Same
        } else {
            Verdict::Answer
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Ours, or none of our business.
    Same,
    /// Younger than ours: it must hear of us. Older than ours: it must prove that it lives, by answering.
    Answer,
    /// Older than ours, alive, and it means us.
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
        let (to_first, to_second) = (first.claim.instance.clone(), second.claim.instance.clone());
        // Whoever speaks first, the younger one ends up being named by the older one.
        assert_eq!(first.against(&second.claim, None), Verdict::Answer);
        assert_eq!(second.against(&first.claim, None), Verdict::Answer);
        assert_eq!(first.against(&second.claim, Some(&to_first)), Verdict::Answer);
        assert_eq!(second.against(&first.claim, Some(&to_second)), Verdict::Leave);
        assert_eq!(first.against(&first.claim, None), Verdict::Same);
        second.claim.started_ms = 1;
        let verdicts = [
            first.against(&second.claim, Some(&to_first)),
            second.against(&first.claim, Some(&to_second)),
        ];
        assert!(verdicts.contains(&Verdict::Leave) && verdicts.contains(&Verdict::Answer));
    }

    #[test]
    fn what_a_daemon_long_gone_said_sends_nobody_away() {
        let key = Keypair::generate_ed25519();
        let (mut old, now) = (Lease::new("did", key.clone()), Lease::new("did", key));
        old.claim.started_ms = 1;
        assert_eq!(now.against(&old.claim, None), Verdict::Answer);
        assert_eq!(now.against(&old.claim, Some("another one, then")), Verdict::Same);
    }

    #[test]
    fn only_a_claim_signed_with_our_key_counts() {
        let key = Keypair::generate_ed25519();
        let (ours, twin) = (Lease::new("did", key.clone()), Lease::new("did", key));
        let foreign = Lease::new("did", Keypair::generate_ed25519());
        let said = twin.written(Some("ours".into())).unwrap();
        assert_eq!(ours.read(&said), Some((twin.claim, Some("ours".into()))));
        let moved = String::from_utf8(said).unwrap().replace("\"ours\"", "\"hers\"");
        assert_eq!(ours.read(moved.as_bytes()), None, "whom it answers is signed too");
        assert_eq!(ours.read(&foreign.written(None).unwrap()), None);
        assert_eq!(ours.read(br#"{"started_ms":0,"instance":"x"}"#), None);
    }
}
