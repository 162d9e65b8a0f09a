//! Who may use a connection: the rules by which a peer that nobody has vouched for is held in quarantine.
//!
//! Pure: time is passed in, and looking somebody up is another's work. Owns who waits for a verdict, how many look-ups run
//! at once, and what becomes of a peer about whom nobody can tell. Always: one look-up for each peer at a time, and no
//! address takes the turns of all; a peer of the store never waits; whoever waits leaves within [`PATIENCE`] of the first
//! reading of the store.

use super::source::Source;
use libp2p::PeerId;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// How long a peer may wait for its verdict, and how long a look-up may take.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Look-ups at once: newcomers must not keep the store from its work.
pub const LOOK_UPS: usize = 64;
/// Of these, for peers of one address: whoever makes keys by the hundred asks about sixteen times as slowly as the rest.
const LOOK_UPS_PER_SOURCE: usize = 4;
/// How long "nobody knows it" counts. Short, since the store may come to know it at any time; long enough that one who
/// comes back again and again costs nothing.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Such verdicts kept. Beyond it the oldest is forgotten, and costs another look-up.
const VERDICTS: usize = 10_000;

/// What a look-up says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is one of ours.
    Known,
    /// It is not, but an indexer has a record of it.
    Vouched,
    /// Nobody who was asked knows it.
    Unknown,
    /// Nobody could be asked.
    Failed,
}

/// What becomes of a connected peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may use its connections.
    Open,
    /// It waits for a verdict.
    Waits,
    /// It is dropped: unknown, and unknown peers are refused.
    Refused,
}

/// One in quarantine.
#[derive(Debug)]
struct Waiting {
    source: Source,
    since: Instant,
}

/// The quarantine; see the module's first lines.
#[derive(Debug, Default)]
pub struct Gate {
    /// The peers of the store; none before its first reading, until which everybody waits.
    known: Option<HashSet<PeerId>>,
    /// Whether one that nobody knows may stay.
    allows_unknown: bool,
    /// Peers that others count on, our indexers: they never wait, and stay.
    needed: HashSet<PeerId>,
    /// Connected peers that somebody has vouched for.
    admitted: HashSet<PeerId>,
    waiting: HashMap<PeerId, Waiting>,
    /// Those of them that are still to be asked about, in the order in which they came.
    queue: VecDeque<PeerId>,
    asking: HashMap<PeerId, Source>,
    unknown: HashMap<PeerId, Instant>,
    /// The same, the oldest first.
    order: VecDeque<(Instant, PeerId)>,
}

impl Gate {
    /// A peer that was not let in yet has a connection, from `source`; it waits from the first one on.
    pub fn arrived(&mut self, peer: PeerId, source: Source, now: Instant) -> Standing {
        let Some(known) = &self.known else {
            self.wait(peer, source, now);
            return Standing::Waits;
        };
        if known.contains(&peer) || self.needed.contains(&peer) {
            return Standing::Open;
        }
        if self.unknown.get(&peer).is_some_and(|until| now < *until) {
            return self.unknown_gets();
        }
        self.wait(peer, source, now);
        Standing::Waits
    }

    fn wait(&mut self, peer: PeerId, source: Source, now: Instant) {
        if let Entry::Vacant(place) = self.waiting.entry(peer) {
            place.insert(Waiting { source, since: now });
            self.queue.push_back(peer);
        }
    }

    /// Its last connection ended.
    pub fn left(&mut self, peer: &PeerId) {
        self.admitted.remove(peer);
        self.leave_queue(peer);
    }

    fn leave_queue(&mut self, peer: &PeerId) {
        if self.waiting.remove(peer).is_some() {
            self.queue.retain(|queued| queued != peer);
        }
    }

    /// The next peer to look up now, if one may be. Its answer is due by [`Gate::told`], whatever happens.
    pub fn next(&mut self) -> Option<PeerId> {
        if self.known.is_none() || self.asking.len() >= LOOK_UPS {
            return None;
        }
        let mut busy: HashMap<Source, usize> = HashMap::new();
        for source in self.asking.values() {
            *busy.entry(*source).or_default() += 1;
        }
        let may_ask = |peer: &PeerId| {
            let source = self.waiting.get(peer).map(|waiting| waiting.source)?;
            let free = busy.get(&source).is_none_or(|count| *count < LOOK_UPS_PER_SOURCE);
            (free && !self.asking.contains_key(peer)).then_some(source)
        };
        let found = self.queue.iter().enumerate();
        let (index, source) = found.filter_map(|(index, peer)| Some((index, may_ask(peer)?))).next()?;
        let peer = self.queue.remove(index)?;
        self.asking.insert(peer, source);
        Some(peer)
    }

    /// A look-up has ended; says what becomes of its peer, if that one still waits.
    pub fn told(&mut self, peer: PeerId, told: Told, now: Instant) -> Option<Standing> {
        self.asking.remove(&peer);
        if told == Told::Unknown {
            self.remember(peer, now);
        }
        self.waiting.remove(&peer)?;
        // It may have come anew while it was asked about.
        self.queue.retain(|queued| *queued != peer);
        Some(match told {
            Told::Known => Standing::Open,
            Told::Vouched => {
                self.admitted.insert(peer);
                Standing::Open
            }
            Told::Unknown | Told::Failed => self.unknown_gets(),
        })
    }

    fn remember(&mut self, peer: PeerId, now: Instant) {
        let until = now + REMEMBERED;
        self.unknown.insert(peer, until);
        self.order.push_back((until, peer));
        while let Some((oldest, peer)) = self.order.front().copied()
            && (oldest <= now || self.order.len() > VERDICTS)
        {
            self.order.pop_front();
            if self.unknown.get(&peer) == Some(&oldest) {
                self.unknown.remove(&peer);
            }
        }
    }

    fn unknown_gets(&self) -> Standing {
        if self.allows_unknown {
            Standing::Open
        } else {
            Standing::Refused
        }
    }

    /// Those who have waited for as long as anybody may, and what becomes of them.
    pub fn overdue(&mut self, now: Instant) -> Vec<(PeerId, Standing)> {
        if self.known.is_none() {
            return Vec::new();
        }
        let late = |waiting: &Waiting| now.saturating_duration_since(waiting.since) >= PATIENCE;
        let late = self.waiting.iter().filter(|(_, waiting)| late(waiting));
        let late: Vec<PeerId> = late.map(|(peer, _)| *peer).collect();
        self.let_go(late, self.unknown_gets())
    }

    fn let_go(&mut self, peers: Vec<PeerId>, standing: Standing) -> Vec<(PeerId, Standing)> {
        for peer in &peers {
            self.leave_queue(peer);
        }
        peers.into_iter().map(|peer| (peer, standing)).collect()
    }

    /// When [`Gate::overdue`] has something to say.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.known.as_ref()?;
        self.waiting.values().map(|waiting| waiting.since + PATIENCE).min()
    }

    /// The store was read: these are its peers, and this is what others get. Says which of those who wait may go on.
    pub fn know(&mut self, peers: HashSet<PeerId>, allows_unknown: bool, now: Instant) -> Vec<(PeerId, Standing)> {
        let first = self.known.is_none();
        self.allows_unknown = allows_unknown;
        if first {
            for waiting in self.waiting.values_mut() {
                waiting.since = now;
            }
        }
        let known = self.waiting.keys().filter(|peer| peers.contains(peer));
        let known: Vec<PeerId> = known.copied().collect();
        self.known = Some(peers);
        self.let_go(known, Standing::Open)
    }

    /// These are counted on from now on; says which of those who wait may go on.
    pub fn need(&mut self, peers: HashSet<PeerId>) -> Vec<(PeerId, Standing)> {
        self.needed = peers;
        let waiting = self.waiting.keys().filter(|peer| self.needed.contains(peer));
        let waiting: Vec<PeerId> = waiting.copied().collect();
        self.let_go(waiting, Standing::Open)
    }

    /// A connected peer has shown a record of its own; says what becomes of it, if it waits.
    pub fn admit(&mut self, peer: PeerId) -> Option<Standing> {
        self.unknown.remove(&peer);
        self.waiting.contains_key(&peer).then(|| {
            self.admitted.insert(peer);
            self.leave_queue(&peer);
            Standing::Open
        })
    }

    /// What the gate would do with `peer` now, in one word: `known`, `needed`, `admitted`, `waits`, `unknown` or `new`.
    #[must_use]
    pub fn view(&self, peer: &PeerId, now: Instant) -> &'static str {
        let is_known = self.known.as_ref().is_some_and(|known| known.contains(peer));
        match () {
            () if is_known => "known",
            () if self.needed.contains(peer) => "needed",
            () if self.admitted.contains(peer) => "admitted",
            () if self.waiting.contains_key(peer) => "waits",
            () if self.unknown.get(peer).is_some_and(|until| now < *until) => "unknown",
            () => "new",
        }
    }

    /// The peers of the store, and those that are needed.
    #[must_use]
    pub fn counted_on(&self) -> HashSet<PeerId> {
        self.known.iter().flatten().chain(&self.needed).copied().collect()
    }

    /// Whether a connected peer must go, now that others are known than before.
    #[must_use]
    pub fn must_go(&self, peer: &PeerId) -> bool {
        let is_known = self.known.as_ref().is_none_or(|known| known.contains(peer));
        let is_let_in = self.needed.contains(peer) || self.admitted.contains(peer);
        !is_known && !is_let_in && !self.allows_unknown && !self.waiting.contains_key(peer)
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
