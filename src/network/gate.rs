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

    /// The peers of the store.
    pub fn known(&self) -> impl Iterator<Item = &PeerId> {
        self.known.iter().flatten()
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
mod tests {
    use super::*;

    fn source(last: u8) -> Source {
        Source::of(&format!("/ip4/10.0.0.{last}/tcp/1").parse().unwrap())
    }

    fn gate(known: impl IntoIterator<Item = PeerId>, allows_unknown: bool) -> Gate {
        let mut gate = Gate::default();
        gate.know(known.into_iter().collect(), allows_unknown, Instant::now());
        gate
    }

    #[test]
    fn what_becomes_of_whom() {
        use Standing::{Open, Refused};
        let table = [
            (Told::Known, false, Open),
            (Told::Known, true, Open),
            (Told::Vouched, false, Open),
            (Told::Unknown, false, Refused),
            (Told::Unknown, true, Open),
            (Told::Failed, false, Refused),
            (Told::Failed, true, Open),
        ];
        for (told, allows, expected) in table {
            let (now, peer) = (Instant::now(), PeerId::random());
            let mut gate = gate([], allows);
            assert_eq!(gate.arrived(peer, source(1), now), Standing::Waits);
            assert_eq!(gate.next(), Some(peer));
            assert_eq!(gate.told(peer, told, now), Some(expected), "{told:?} {allows}");
            assert_eq!((gate.told(peer, told, now), gate.due()), (None, None));
        }
    }

    #[test]
    fn one_of_the_store_never_waits_and_one_that_comes_to_be_waits_no_longer() {
        let (now, old, new) = (Instant::now(), PeerId::random(), PeerId::random());
        let mut gate = gate([old], false);
        assert_eq!(gate.arrived(old, source(1), now), Standing::Open);
        assert_eq!(gate.arrived(new, source(1), now), Standing::Waits);
        assert_eq!(gate.know([new].into(), false, now), [(new, Standing::Open)]);
        assert_eq!(gate.next(), None);
        assert!(gate.must_go(&old) && !gate.must_go(&new));
    }

    #[test]
    fn before_the_first_reading_of_the_store_everybody_waits_for_it() {
        let (now, known, other) = (Instant::now(), PeerId::random(), PeerId::random());
        let mut gate = Gate::default();
        for peer in [known, other] {
            assert_eq!(gate.arrived(peer, source(1), now), Standing::Waits);
        }
        let later = now + PATIENCE * 10;
        assert_eq!((gate.next(), gate.due(), gate.overdue(later)), (None, None, vec![]));
        assert!(!gate.must_go(&other));
        assert_eq!(gate.know([known].into(), false, later), [(known, Standing::Open)]);
        assert_eq!(gate.next(), Some(other));
        assert_eq!(gate.due(), Some(later + PATIENCE));
    }

    #[test]
    fn nobody_waits_for_longer_than_five_seconds() {
        for (allows, expected) in [(true, Standing::Open), (false, Standing::Refused)] {
            let (now, first, second) = (Instant::now(), PeerId::random(), PeerId::random());
            let mut gate = gate([], allows);
            gate.arrived(first, source(1), now);
            gate.next();
            gate.arrived(second, source(1), now + PATIENCE / 2);
            assert_eq!(gate.overdue(now + PATIENCE - Duration::from_nanos(1)), []);
            assert_eq!(gate.due(), Some(now + PATIENCE));
            assert_eq!(gate.overdue(now + PATIENCE), [(first, expected)]);
            assert_eq!(gate.due(), Some(now + PATIENCE / 2 + PATIENCE));
            assert_eq!(gate.told(first, Told::Known, now + PATIENCE), None, "too late");
        }
    }

    #[test]
    fn look_ups_are_bounded_in_all_and_for_each_address() {
        let now = Instant::now();
        let mut gate = gate([], true);
        let mut come = |from: u8| {
            let peer = PeerId::random();
            gate.arrived(peer, source(from), now);
            peer
        };
        let mut crowd: Vec<PeerId> = (0..100).map(|_| come(1)).collect();
        let other = come(2);
        let asked: Vec<PeerId> = std::iter::from_fn(|| gate.next()).collect();
        let mut expected = crowd[..LOOK_UPS_PER_SOURCE].to_vec();
        expected.push(other);
        assert_eq!(
            asked, expected,
            "a crowd behind one address leaves a turn to the others"
        );
        gate.told(crowd[0], Told::Unknown, now);
        assert_eq!(gate.next(), Some(crowd.remove(LOOK_UPS_PER_SOURCE)));
        for from in 3..100 {
            gate.arrived(PeerId::random(), source(from), now);
        }
        assert_eq!(std::iter::from_fn(|| gate.next()).count(), LOOK_UPS - 5);
    }

    #[test]
    fn who_is_vouched_for_stays_while_it_is_connected_and_who_is_counted_on_always_does() {
        let (now, [peer, needed, shows]) = (Instant::now(), [(); 3].map(|()| PeerId::random()));
        let mut gate = gate([], false);
        gate.arrived(peer, source(1), now);
        gate.next();
        assert_eq!(gate.told(peer, Told::Vouched, now), Some(Standing::Open));
        assert!(!gate.must_go(&peer));
        assert_eq!(gate.view(&peer, now), "admitted");
        gate.left(&peer);
        assert!(gate.must_go(&peer));
        gate.arrived(needed, source(1), now);
        assert_eq!(gate.need([needed].into()), [(needed, Standing::Open)]);
        gate.left(&needed);
        assert_eq!(gate.arrived(needed, source(1), now), Standing::Open);
        assert!(!gate.must_go(&needed));
        assert_eq!(gate.admit(shows), None, "nobody waits under that name");
        gate.arrived(shows, source(1), now);
        assert_eq!(gate.admit(shows), Some(Standing::Open));
        assert!(!gate.must_go(&shows));
    }

    #[test]
    fn one_look_up_for_each_peer_also_when_it_comes_again() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut gate = gate([], true);
        gate.arrived(peer, source(1), now);
        assert_eq!(gate.next(), Some(peer));
        gate.left(&peer);
        assert_eq!(gate.arrived(peer, source(2), now), Standing::Waits);
        assert_eq!(gate.next(), None);
        assert_eq!(gate.told(peer, Told::Known, now), Some(Standing::Open));
        assert_eq!(gate.next(), None);
        gate.arrived(peer, source(1), now);
        gate.left(&peer);
        assert_eq!((gate.next(), gate.due()), (None, None), "who left is not asked about");
    }

    #[test]
    fn that_nobody_knows_it_is_remembered_for_a_while_and_within_a_bound() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut gate = gate([], false);
        let ask = |gate: &mut Gate, peer, told, now| {
            gate.arrived(peer, source(1), now);
            gate.next();
            gate.told(peer, told, now)
        };
        ask(&mut gate, peer, Told::Unknown, now);
        assert_eq!(gate.arrived(peer, source(1), now), Standing::Refused);
        assert_eq!(gate.arrived(peer, source(1), now + REMEMBERED), Standing::Waits);
        gate.left(&peer);
        ask(&mut gate, peer, Told::Failed, now + REMEMBERED);
        assert_eq!(gate.arrived(peer, source(1), now + REMEMBERED), Standing::Waits);
        gate.left(&peer);
        for _ in 0..VERDICTS + 10 {
            ask(&mut gate, PeerId::random(), Told::Unknown, now + REMEMBERED);
        }
        assert_eq!((gate.unknown.len(), gate.order.len()), (VERDICTS, VERDICTS));
        ask(&mut gate, peer, Told::Unknown, now + REMEMBERED * 3);
        assert_eq!((gate.unknown.len(), gate.order.len()), (1, 1));
    }
}
