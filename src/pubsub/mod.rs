//! PubSubService: signed search events on GossipSub.
//!
//! Owns what is published there and what is done with what is heard. Gossip carries questions, never data that must
//! arrive. Always: nothing is forwarded before [`judge::Judge`] has let it pass, and nobody is answered whose DID, in our
//! store, is not that of the message's source.

pub mod judge;

use crate::discovery::{Depth, Discovery, Found};
use crate::model::{Federation, Member, Relation};
use crate::network::{Gossip, Network, PublishError};
use crate::store::Store;
use crate::stream::{Asked, StreamService};
use crate::telemetry::{Metrics, Refusals};
use crate::wire::{Action, DataType, Event, Question, ReadLimits, TOPIC_SEARCH, timestamp};
use judge::{Judge, Verdict};
use libp2p::PeerId;
use libp2p::gossipsub::MessageAcceptance;
use libp2p::identity::Keypair;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Askers looked up at once that our store does not know. The questions of further ones are passed on, and not answered.
const STRANGERS: usize = 64;

/// Cloneable handle.
#[derive(Clone)]
pub struct PubSubService {
    network: Network,
    own_did: Arc<str>,
    keypair: Keypair,
}

/// What listening needs.
pub struct Listening {
    /// What arrives.
    pub gossip: mpsc::Receiver<Gossip>,
    /// Who is who.
    pub federation: watch::Receiver<Arc<Federation>>,
    /// To answer.
    pub streams: StreamService,
    /// Who asks that our store does not know.
    pub discovery: Discovery,
    /// Where resources are.
    pub store: Arc<dyn Store>,
    /// Bounds of reading.
    pub limits: ReadLimits,
    /// The judge, with its memory.
    pub judge: Judge,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to refuse.
    pub refusals: Refusals,
}

impl PubSubService {
    /// The service of the daemon `own_did`.
    #[must_use]
    pub fn new(network: Network, own_did: &str, keypair: Keypair) -> Self {
        Self {
            network,
            own_did: own_did.into(),
            keypair,
        }
    }

    /// The diagrams' `SearchPublishEvent`: asks everybody; says how many connected peers listen.
    ///
    /// # Errors
    /// When nobody listens, or the message is refused.
    pub async fn search_publish_event(
        &self,
        question: &Question,
        user: &str,
        datatype: DataType,
    ) -> Result<usize, PublishError> {
        let event = self.publish_event(question, user, datatype);
        let event = event.map_err(|error| PublishError::Refused(error.to_string()))?;
        let mut line = event.write_line();
        line.pop();
        self.network.publish(TOPIC_SEARCH, line).await
    }

    /// The diagrams' `publishEvent`: `from` is our DID, the body is signed with our key.
    fn publish_event(
        &self,
        question: &Question,
        user: &str,
        datatype: DataType,
    ) -> Result<Event, crate::wire::WireError> {
        let now = timestamp(SystemTime::now());
        let mut event = Event::new(Action::Search, &self.own_did, user, datatype, question.write(), now);
        event.sign(&self.keypair)?;
        Ok(event)
    }

    /// The diagrams' `subscribeEvents`: judges what arrives and answers searches, until `shutdown`.
    pub async fn subscribe_events(self, mut listening: Listening, shutdown: CancellationToken) {
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        loop {
            let gossip = tokio::select! {
                () = shutdown.cancelled() => return,
                gossip = listening.gossip.recv() => match gossip {
                    Some(gossip) => gossip,
                    None => return,
                },
            };
            let federation = Arc::clone(&listening.federation.borrow());
            // Before anything is read of it: who talks too much costs nothing else.
            if !listening.judge.admits(&gossip.source, Instant::now(), &federation) {
                let source = gossip.source.to_string();
                listening.refusals.refuse("gossip_rate", &source, "a gossiped search");
                self.network.judge(gossip.verdict(MessageAcceptance::Ignore)).await;
                continue;
            }
            let heard = Event::read_line(&gossip.data, &listening.limits);
            let (acceptance, asked) = match heard {
                Ok(event) => {
                    let now = (SystemTime::now(), Instant::now());
                    let verdict = listening.judge.judge(&gossip.source, &event, now, &federation);
                    if verdict == Verdict::Forward {
                        self.answer_stranger(&listening, &strangers, gossip.source, &event);
                    }
                    self.on_verdict(&listening, &gossip, event, verdict)
                }
                Err(error) => {
                    listening
                        .refusals
                        .refuse(error.rule(), &gossip.source.to_string(), &error);
                    (MessageAcceptance::Reject, None)
                }
            };
            self.network.judge(gossip.verdict(acceptance)).await;
            if let Some(asked) = asked {
                listening.metrics.event_received("question");
                self.handle_event_search(&listening, asked);
            }
        }
    }

    fn on_verdict(
        &self,
        listening: &Listening,
        gossip: &Gossip,
        event: Event,
        verdict: Verdict,
    ) -> (MessageAcceptance, Option<Asked>) {
        let source = gossip.source.to_string();
        match verdict {
            Verdict::Answer(by) => match Question::read_gossiped(&event.payload) {
                Some(question) => (
                    MessageAcceptance::Accept,
                    Some(Asked {
                        by,
                        question,
                        user: event.user,
                    }),
                ),
                None => {
                    listening
                        .refusals
                        .refuse("no_question", &source, "a search without a question");
                    (MessageAcceptance::Reject, None)
                }
            },
            Verdict::Forward => {
                debug!(%source, "a search of a peer that our store does not know: passed on, not answered");
                (MessageAcceptance::Accept, None)
            }
            Verdict::Ignore(rule) => {
                listening.refusals.refuse(rule, &source, "a gossiped search");
                (MessageAcceptance::Ignore, None)
            }
            Verdict::Reject(rule) => {
                listening.refusals.refuse(rule, &source, "a gossiped search");
                (MessageAcceptance::Reject, None)
            }
        }
    }

    /// A genuine question of a peer that our store does not know: `getPeerRecord(from)`, and it gets what is public.
    fn answer_stranger(&self, listening: &Listening, strangers: &Arc<Semaphore>, source: PeerId, event: &Event) {
        let Some(question) = Question::read_gossiped(&event.payload) else {
            return;
        };
        let Ok(turn) = Arc::clone(strangers).try_acquire_owned() else {
            let detail = "too many askers are being looked up";
            return listening
                .refusals
                .dropped("gossip_stranger", "full", 1, &source.to_string(), detail);
        };
        let (did, user) = (event.from.clone(), event.user.clone());
        let (discovery, streams, store) = (
            listening.discovery.clone(),
            listening.streams.clone(),
            Arc::clone(&listening.store),
        );
        let metrics = listening.metrics.clone();
        tokio::spawn(async move {
            let found = discovery.find(&did, Depth::All).await;
            drop(turn);
            let is_asker = |found: &&Found| found.record.peer == source && found.record.record.did == did;
            let Some(found) = found.iter().find(is_asker) else {
                debug!(%did, %source, "nobody has a record of this asker");
                return;
            };
            let by = Member {
                did,
                name: found.record.record.name.clone(),
                relation: Relation::None,
                peer_id: Some(source),
                addresses: found.record.addresses.clone(),
            };
            metrics.event_received("question");
            let by = Arc::new(by);
            streams.send_response(Asked { by, question, user }, store).await;
        });
    }

    /// The diagrams' `handleEventSearch`: answers beside the listening, so that no answer delays the next message.
    fn handle_event_search(&self, listening: &Listening, asked: Asked) {
        let (streams, store) = (listening.streams.clone(), Arc::clone(&listening.store));
        tokio::spawn(async move { streams.send_response(asked, store).await });
    }
}
