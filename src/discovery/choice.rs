//! Which indexers a daemon keeps: those that answer, of as many addresses as there are, told anew whenever one is lost.
//!
//! Pure: time and chance are passed in. Owns who is tried when. Always: at most [`Choice::wanted`] are kept or tried at a
//! time; a seed is never forgotten and is tried again for ever; one that lies is left alone for an hour; what is learnt from
//! others is bounded.

use crate::network::dial::Backoff;
use crate::network::{Reach, Source, reach_of};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Indexers kept by a node.
pub const OF_A_NODE: usize = 5;
/// Indexers kept by an indexer: all that a large federation has, so that what one does not know is found at another.
pub const OF_AN_INDEXER: usize = 64;
/// Indexers known, seeds not counted.
const LEARNT: usize = 256;
/// Addresses kept of one, and the longest that is learnt, in bytes.
const ADDRESSES: usize = 8;
const ADDRESS_BYTES: usize = 512;
/// Pause after the first failure, doubling to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// A learnt one that failed so often in a row is forgotten.
const FORGOTTEN_AFTER: u32 = 8;
/// How long one that lied is left alone.
const SHUNNED: Duration = Duration::from_secs(3600);
/// Look-ups in a row that one may leave unanswered before it is let go.
const SILENCES: u32 = 3;

/// Why an indexer is not kept any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// It cannot be reached, or its connection ended.
    Away(String),
    /// It has no room.
    Full,
    /// It gave records that do not count, or more than was asked for.
    Lied(&'static str),
}

impl std::fmt::Display for Lost {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Away(why) => out.write_str(why),
            Self::Full => out.write_str("it has no room"),
            Self::Lied(rule) => write!(
                out,
                "it gave records that do not count ({rule}); left alone for an hour"
            ),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Idle,
    Trying,
    Kept { since: Instant, answers: bool },
}

/// What is known of an indexer.
#[derive(Debug, Clone)]
pub struct Known {
    /// Where it is by our settings.
    named: Vec<Multiaddr>,
    /// Where it is as others say, the newest first.
    told: Vec<Multiaddr>,
    seed: bool,
    state: State,
    due: Instant,
    backoff: Backoff,
    silences: u32,
    /// How full it says it is, in hundredths.
    load: u64,
    last: String,
}

/// One of them, as it is told to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Who.
    pub peer: PeerId,
    /// Where.
    pub addresses: Vec<Multiaddr>,
    /// From the settings.
    pub seed: bool,
    /// It is kept.
    pub kept: bool,
    /// What came of it last.
    pub last: String,
}

/// The choice; see the module's first lines.
#[derive(Debug)]
pub struct Choice {
    wanted: usize,
    own: PeerId,
    known: HashMap<PeerId, Known>,
}

impl Choice {
    /// So many are wanted; `seeds` are tried first.
    #[must_use]
    pub fn new(wanted: usize, own: PeerId, seeds: &[Multiaddr], now: Instant) -> Self {
        let mut choice = Self {
            wanted,
            own,
            known: HashMap::new(),
        };
        for address in seeds {
            choice.add(address, true, now);
        }
        choice
    }

    /// Somebody told of an indexer: an address with its `/p2p/` part.
    pub fn learnt(&mut self, address: &Multiaddr, now: Instant) {
        self.add(address, false, now);
    }

    fn add(&mut self, address: &Multiaddr, seed: bool, now: Instant) {
        let Some(Protocol::P2p(peer)) = address.iter().last() else {
            return;
        };
        let mut bare = address.clone();
        bare.pop();
        if peer == self.own || bare.is_empty() || (!seed && bare.len() > ADDRESS_BYTES) {
            return;
        }
        let learnt = self.known.values().filter(|known| !known.seed).count();
        if !seed && learnt >= LEARNT && !self.known.contains_key(&peer) {
            return;
        }
        let known = self.known.entry(peer).or_insert_with(|| Known {
            named: Vec::new(),
            told: Vec::new(),
            seed,
            state: State::Idle,
            due: now,
            backoff: Backoff::new(PAUSES.0, PAUSES.1),
            silences: 0,
            load: 0,
            last: "not tried yet".to_owned(),
        });
        known.seed |= seed;
        known.at(bare, seed);
    }

    /// Whom to try now; each counts as being tried from then on. `chance` gives numbers in `0.0..1.0`.
    pub fn next(&mut self, now: Instant, mut chance: impl FnMut() -> f64) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut taken: HashSet<Source> = HashSet::new();
        let mut room = self.wanted;
        for known in self.known.values().filter(|known| known.state != State::Idle) {
            room = room.saturating_sub(1);
            taken.extend(known.source());
        }
        let mut waiting: Vec<(PeerId, f64)> = self
            .known
            .iter()
            .filter(|(_, known)| known.state == State::Idle && known.due <= now)
            .map(|(peer, _)| (*peer, chance()))
            .collect();
        let mut chosen = Vec::new();
        while room > 0 && !waiting.is_empty() {
            let best = waiting.iter().enumerate().min_by(|(_, (a, x)), (_, (b, y))| {
                let rank = |peer| self.known.get(peer).map(|known| known.rank(&taken));
                rank(a).cmp(&rank(b)).then(x.total_cmp(y))
            });
            let Some(index) = best.map(|(index, _)| index) else {
                break;
            };
            let (peer, _) = waiting.swap_remove(index);
            if let Some(known) = self.known.get_mut(&peer) {
                known.state = State::Trying;
                taken.extend(known.source());
                chosen.push((peer, known.addresses().cloned().collect()));
                room -= 1;
            }
        }
        chosen
    }

    /// When [`Choice::next`] may have somebody to try.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let busy = self.known.values().filter(|known| known.state != State::Idle).count();
        let idle = self.known.values().filter(|known| known.state == State::Idle);
        (busy < self.wanted)
            .then(|| idle.map(|known| known.due).min())
            .flatten()
    }

    /// A heartbeat was written to it.
    pub fn up(&mut self, peer: &PeerId, now: Instant) {
        if let Some(known) = self.known.get_mut(peer)
            && !matches!(known.state, State::Kept { .. })
        {
            known.state = State::Kept {
                since: now,
                answers: false,
            };
            known.silences = 0;
            known.last = "kept".to_owned();
        }
    }

    /// It answered a heartbeat, and said how many records it has of how many.
    pub fn answered(&mut self, peer: &PeerId, records: u64, capacity: u64) {
        let Some(known) = self.known.get_mut(peer) else { return };
        if let State::Kept { answers, .. } = &mut known.state {
            *answers = true;
        }
        known.load = records.saturating_mul(100).checked_div(capacity).unwrap_or(0);
        known.backoff.succeeded();
    }

    /// It is not kept, or tried, any more.
    pub fn lost(&mut self, peer: &PeerId, why: &Lost, now: Instant, chance: f64) {
        let Some(known) = self.known.get_mut(peer) else { return };
        // One that was kept for a while and went is tried again as if it were the first time.
        if let State::Kept { since, .. } = known.state
            && now.saturating_duration_since(since) > PAUSES.0
        {
            known.backoff.succeeded();
        }
        known.state = State::Idle;
        let pause = known.backoff.failed(chance);
        known.due = now + pause;
        known.last = why.to_string();
        match why {
            Lost::Lied(_) => known.due = now + SHUNNED,
            Lost::Full => known.load = 100,
            Lost::Away(_) => {}
        }
        if !known.seed && known.backoff.failures() >= FORGOTTEN_AFTER {
            self.known.remove(peer);
        }
    }

    /// A look-up there ended; true when it is to be let go for having been silent too often.
    pub fn asked(&mut self, peer: &PeerId, answered: bool) -> bool {
        let Some(known) = self.known.get_mut(peer) else {
            return false;
        };
        known.silences = if answered { 0 } else { known.silences + 1 };
        known.silences >= SILENCES
    }

    /// Those that are kept now.
    #[must_use]
    pub fn kept(&self) -> Vec<PeerId> {
        let kept = self
            .known
            .iter()
            .filter(|(_, known)| matches!(known.state, State::Kept { .. }));
        kept.map(|(peer, _)| *peer).collect()
    }

    /// Those that are kept and that our settings name: others may be anybody's.
    #[must_use]
    pub fn trusted(&self) -> HashSet<PeerId> {
        let kept = self.kept().into_iter();
        kept.filter(|peer| self.known.get(peer).is_some_and(|known| known.seed))
            .collect()
    }

    /// Those that are kept or being tried: nobody may let them wait.
    #[must_use]
    pub fn needed(&self) -> HashSet<PeerId> {
        let needed = self.known.iter().filter(|(_, known)| known.state != State::Idle);
        needed.map(|(peer, _)| *peer).collect()
    }

    /// How many more could be kept.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.wanted.saturating_sub(self.kept().len())
    }

    /// Whether there is anybody to keep.
    #[must_use]
    pub fn knows_any(&self) -> bool {
        !self.known.is_empty()
    }

    /// Up to `most` that are kept, as addresses with their `/p2p/` part that reach at least so far: what others are told.
    #[must_use]
    pub fn told(&self, most: usize, reach: Reach) -> Vec<Multiaddr> {
        let mut kept: Vec<PeerId> = self.kept();
        kept.sort();
        let full = |peer: PeerId| {
            let known = self.known.get(&peer)?;
            // Of equal ones the first: `max_by_key` takes the last.
            let best = known.addresses().rev().max_by_key(|address| reach_of(address))?;
            (reach_of(best) >= reach).then(|| best.clone().with(Protocol::P2p(peer)))
        };
        kept.into_iter().filter_map(full).take(most).collect()
    }

    /// All that are known, kept ones first.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let mut shown: Vec<Shown> = self
            .known
            .iter()
            .map(|(peer, known)| Shown {
                peer: *peer,
                addresses: known.addresses().cloned().collect(),
                seed: known.seed,
                kept: matches!(known.state, State::Kept { .. }),
                last: match known.state {
                    State::Kept { answers: false, .. } => "kept; it has not answered a heartbeat yet".to_owned(),
                    _ => known.last.clone(),
                },
            })
            .collect();
        shown.sort_by_key(|shown| (!shown.kept, !shown.seed, shown.peer));
        shown
    }
}

impl Known {
    fn addresses(&self) -> impl DoubleEndedIterator<Item = &Multiaddr> {
        self.named.iter().chain(&self.told)
    }

    /// It is there, too. One that has moved again and again is looked for where it was told to be last; what our settings
    /// say of it stays.
    fn at(&mut self, address: Multiaddr, named: bool) {
        if self.named.contains(&address) {
            return;
        }
        self.told.retain(|told| *told != address);
        if named {
            self.named.push(address);
        } else {
            self.told.insert(0, address);
        }
        self.told.truncate(ADDRESSES.saturating_sub(self.named.len()));
    }

    fn source(&self) -> Option<Source> {
        self.addresses().next().map(Source::of)
    }

    /// What counts when there are several: an address that no other has, room, health, a seed.
    fn rank(&self, taken: &HashSet<Source>) -> (bool, bool, u32, bool) {
        let shares = self.source().is_some_and(|source| taken.contains(&source));
        (shares, self.load >= 95, self.backoff.failures(), !self.seed)
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
