//! Whether a gossiped event is genuine, fresh and new, and whether its sender may be answered.
//!
//! Pure: time is passed in. Always: the rate of a source comes before anything else; the signature is checked before the sender
//! is looked up, with the key inside the source's PeerId; what is remembered of sources and messages is bounded.

use crate::model::{Federation, Member, TokenBucket};
use crate::stream::key_of;
use crate::wire::{Action, Event, parse_timestamp};
use libp2p::PeerId;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How far a message's time may be from ours, either way.
const WINDOW: Duration = Duration::from_secs(60);
/// Signatures remembered, to know a message that was seen before.
const SEEN: usize = 10_000;
/// Sources whose rate is remembered. When it is full of sources that are still busy, a new one is ignored.
const SOURCES: usize = 10_000;

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Genuine, and its sender is this member of our store: forward and answer.
    Answer(Arc<Member>),
    /// Genuine, but of nobody we know: forward, since others may know it; do not answer.
    Forward,
    /// Neither forward nor hold it against anybody.
    Ignore(&'static str),
    /// False: do not forward.
    Reject(&'static str),
}

/// The judge; see the module's first lines.
#[derive(Debug)]
pub struct Judge {
    started: Instant,
    per_second: f64,
    burst: f64,
    seen: HashSet<Vec<u8>>,
    order: VecDeque<Vec<u8>>,
    rates: HashMap<PeerId, (TokenBucket, Instant)>,
}

impl Judge {
    /// A judge of a daemon that started at `started`, allowing each source so many messages.
    #[must_use]
    pub fn new(started: Instant, per_second: f64, burst: f64) -> Self {
        Self {
            started,
            per_second,
            burst,
            seen: HashSet::new(),
            order: VecDeque::new(),
            rates: HashMap::new(),
        }
    }

    /// Whether `source` is within its rate; asked before its message is read.
    pub fn admits(&mut self, source: &PeerId, instant: Instant, federation: &Federation) -> bool {
        self.within_rate(source, instant, federation.of_peer(source).is_some())
    }

    /// Judges one event that `source` published, and that was admitted.
    pub fn judge(
        &mut self,
        source: &PeerId,
        event: &Event,
        (now, instant): (SystemTime, Instant),
        federation: &Federation,
    ) -> Verdict {
        if event.kind != Action::Search {
            return Verdict::Reject("not_a_search");
        }
        let Some(key) = key_of(source) else {
            return Verdict::Reject("no_key_in_peer_id");
        };
        if let Err(error) = event.verify(&key) {
            return Verdict::Reject(error.rule());
        }
        let Some(sent) = parse_timestamp(&event.ts) else {
            return Verdict::Reject("bad_timestamp");
        };
        let distance = now
            .duration_since(sent)
            .or_else(|_| sent.duration_since(now))
            .unwrap_or(Duration::MAX);
        if distance > WINDOW {
            return Verdict::Ignore("gossip_out_of_window");
        }
        // By our clock as it is now: it may have been set back since the start.
        let started = now.checked_sub(instant.saturating_duration_since(self.started));
        if started.is_some_and(|started| sent < started) {
            return Verdict::Ignore("gossip_before_start");
        }
        if !self.is_new(event.sig.clone().unwrap_or_default()) {
            return Verdict::Ignore("gossip_replayed");
        }
        match (federation.of_peer(source), federation.get(&event.from)) {
            (Some(by_source), Some(by_did)) if by_source.did == by_did.did => {
                if federation.known(source).is_some() {
                    Verdict::Answer(Arc::clone(by_source))
                } else {
                    Verdict::Ignore("blacklisted")
                }
            }
            (None, None) => Verdict::Forward,
            _ => Verdict::Reject("from_is_not_source"),
        }
    }

    fn within_rate(&mut self, source: &PeerId, now: Instant, known: bool) -> bool {
        let idle_after = Duration::from_secs_f64(self.burst / self.per_second.max(0.001));
        // Known sources always find room: they are bounded by the store, and strangers must not push them out.
        if !known && self.rates.len() >= SOURCES && !self.rates.contains_key(source) {
            self.rates.retain(|_, (_, used)| now.duration_since(*used) < idle_after);
            if self.rates.len() >= SOURCES {
                return false;
            }
        }
        let fresh = || (TokenBucket::new(self.per_second, self.burst), now);
        let (bucket, used) = self.rates.entry(*source).or_insert_with(fresh);
        *used = now;
        bucket.take(now)
    }

    fn is_new(&mut self, signature: Vec<u8>) -> bool {
        if !self.seen.insert(signature.clone()) {
            return false;
        }
        self.order.push_back(signature);
        if self.order.len() > SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Relation;
    use crate::wire::{DataType, Question, timestamp};
    use libp2p::identity::Keypair;

    struct Scene {
        judge: Judge,
        key: Keypair,
        source: PeerId,
        federation: Federation,
        now: SystemTime,
        instant: Instant,
    }

    fn scene(relation: Relation) -> Scene {
        let key = Keypair::generate_ed25519();
        let source = key.public().to_peer_id();
        let member = Member {
            did: "a".into(),
            name: "a".into(),
            relation,
            peer_id: Some(source),
            addresses: vec![],
        };
        let (now, started) = (SystemTime::now(), Instant::now());
        Scene {
            judge: Judge::new(started, 1000.0, 1000.0),
            key,
            source,
            federation: Federation::new("me".into(), [member]),
            now,
            instant: started + Duration::from_secs(30),
        }
    }

    impl Scene {
        fn event(&self, from: &str, at: SystemTime, text: &str) -> Event {
            let question = Question {
                text: text.into(),
                id: None,
                limit: None,
                timeout_ms: None,
                datatype: None,
            };
            let mut event = Event::new(
                Action::Search,
                from,
                "",
                DataType::Invalid,
                question.write(),
                timestamp(at),
            );
            event.sign(&self.key).unwrap();
            event
        }

        fn judge(&mut self, event: &Event) -> Verdict {
            if !self.judge.admits(&self.source, self.instant, &self.federation) {
                return Verdict::Ignore("gossip_rate");
            }
            self.judge
                .judge(&self.source, event, (self.now, self.instant), &self.federation)
        }
    }

    #[test]
    fn a_genuine_search_of_a_known_peer_is_answered_once() {
        let mut scene = scene(Relation::None);
        let event = scene.event("a", scene.now, "gpu");
        assert!(matches!(scene.judge(&event), Verdict::Answer(by) if by.did == "a"));
        assert_eq!(scene.judge(&event), Verdict::Ignore("gossip_replayed"));
    }

    #[test]
    fn forged_unsigned_old_and_foreign_ones_are_not() {
        let mut scene = scene(Relation::None);
        let mut forged = scene.event("a", scene.now, "gpu");
        forged.sign(&Keypair::generate_ed25519()).unwrap();
        assert_eq!(scene.judge(&forged), Verdict::Reject("bad_signature"));
        let mut unsigned = scene.event("a", scene.now, "gpu");
        unsigned.sig = None;
        assert_eq!(scene.judge(&unsigned), Verdict::Reject("not_signed"));
        let old = scene.event("a", scene.now - Duration::from_secs(61), "gpu");
        assert_eq!(scene.judge(&old), Verdict::Ignore("gossip_out_of_window"));
        let early = scene.event("a", scene.now - Duration::from_secs(31), "gpu");
        assert_eq!(scene.judge(&early), Verdict::Ignore("gossip_before_start"));
        scene.now -= Duration::from_secs(7200);
        let set_back = scene.event("a", scene.now, "gpu");
        assert!(
            matches!(scene.judge(&set_back), Verdict::Answer(_)),
            "our clock was ahead"
        );
        let future = scene.event("a", scene.now + Duration::from_secs(61), "gpu");
        assert_eq!(scene.judge(&future), Verdict::Ignore("gossip_out_of_window"));
        let liar = scene.event("b", scene.now, "gpu");
        assert_eq!(scene.judge(&liar), Verdict::Reject("from_is_not_source"));
    }

    #[test]
    fn strangers_are_passed_on_and_the_blacklisted_are_not() {
        let mut stranger = scene(Relation::None);
        stranger.federation = Federation::new("me".into(), []);
        let event = stranger.event("a", stranger.now, "gpu");
        assert_eq!(stranger.judge(&event), Verdict::Forward);
        let mut black = scene(Relation::Blacklist);
        let event = black.event("a", black.now, "gpu");
        assert_eq!(black.judge(&event), Verdict::Ignore("blacklisted"));
    }

    #[test]
    fn a_source_has_a_rate() {
        let mut scene = scene(Relation::None);
        scene.judge = Judge::new(scene.instant - Duration::from_secs(30), 1.0, 3.0);
        let verdicts: Vec<Verdict> = (0..5)
            .map(|n| {
                let event = scene.event("a", scene.now, &n.to_string());
                scene.judge(&event)
            })
            .collect();
        assert_eq!(
            verdicts
                .iter()
                .filter(|verdict| matches!(verdict, Verdict::Answer(_)))
                .count(),
            3
        );
        assert_eq!(verdicts.last(), Some(&Verdict::Ignore("gossip_rate")));
    }
}
