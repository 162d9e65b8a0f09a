//! Many nodes and indexers in one thread, by the real rules of choice and of the book, on a clock of seconds.
//!
//! What is not here: connections, signatures after the first, the DHT's own queries. A dead indexer's connections end at once; the
//! DHT tells a node that has too few indexers of sixteen. Prints load, the time to heal, and messages; the large one is run by
//! hand (`make soak`).

use super::book::{Book, Bounds, Refused};
use super::choice::{Choice, Lost, OF_A_NODE};
use super::rules::Verified;
use super::rules::tests::good;
use crate::network::Source;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime};

const BEAT: u64 = 20;
const DHT_LOOK: u64 = 10;
const TOLD: usize = 16;

struct Node {
    choice: Choice,
    record: Verified,
    source: Source,
    phase: u64,
}

struct Indexer {
    address: Multiaddr,
    alive: bool,
    book: Book,
}

struct World {
    began: Instant,
    second: u64,
    nodes: Vec<Node>,
    indexers: Vec<Indexer>,
    of_peer: HashMap<PeerId, usize>,
    random: StdRng,
    messages: u64,
}

impl World {
    /// Each node knows one indexer, by chance; each indexer has room for half more than its share.
    fn new(nodes: usize, indexers: usize, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let (began, at) = (Instant::now(), SystemTime::now());
        let share = nodes * OF_A_NODE.min(indexers) / indexers;
        let bounds = Bounds {
            records: share + share / 2,
            of_address: 10,
        };
        let made: Vec<Indexer> = (0..indexers)
            .map(|n| {
                let ip = Ipv4Addr::from(0x0a00_0001 + (u32::try_from(n).unwrap() << 8));
                let address = format!("/ip4/{ip}/tcp/4001/p2p/{}", PeerId::random());
                Indexer {
                    address: address.parse().unwrap(),
                    alive: true,
                    book: Book::new(bounds),
                }
            })
            .collect();
        let of_peer = made
            .iter()
            .enumerate()
            .map(|(n, indexer)| (peer_of(&indexer.address), n));
        let of_peer = of_peer.collect();
        let nodes = (0..nodes)
            .map(|n| {
                let key = Keypair::generate_ed25519();
                let record = good(&key, &format!("did:{n}"), &format!("node {n}"), at);
                let seed = &made[random.gen_range(0..indexers)].address;
                Node {
                    choice: Choice::new(OF_A_NODE, record.peer, std::slice::from_ref(seed), began),
                    record,
                    source: Source::V4(Ipv4Addr::from(0x0b00_0000 + u32::try_from(n).unwrap())),
                    phase: random.gen_range(0..BEAT),
                }
            })
            .collect();
        Self {
            began,
            second: 0,
            nodes,
            indexers: made,
            of_peer,
            random,
            messages: 0,
        }
    }

    fn now(&self) -> Instant {
        self.began + Duration::from_secs(self.second)
    }

    fn step(&mut self) {
        self.second += 1;
        let (now, second) = (self.now(), self.second);
        for n in 0..self.nodes.len() {
            let due = (second + self.nodes[n].phase).is_multiple_of(BEAT);
            if due {
                self.nodes[n].record.expires += BEAT * 1000;
                for peer in self.nodes[n].choice.kept() {
                    self.beat(n, peer);
                }
            }
            let looks = (second + self.nodes[n].phase).is_multiple_of(DHT_LOOK);
            if looks && self.nodes[n].choice.missing() > 0 {
                // One query of a few steps, and where the new ones listen.
                self.messages += 16;
                self.tell(n);
            }
            let random = &mut self.random;
            let chosen = self.nodes[n].choice.next(now, || random.r#gen());
            for (peer, _) in chosen {
                // The handshakes of a connection and of a stream.
                self.messages += 4;
                self.beat(n, peer);
            }
        }
        if second.is_multiple_of(5) {
            for indexer in &mut self.indexers {
                indexer.book.sweep(second * 1000);
            }
        }
    }

    /// One heartbeat and its answer.
    fn beat(&mut self, n: usize, peer: PeerId) {
        let (now, at) = (self.now(), self.second * 1000);
        let indexer = &mut self.indexers[self.of_peer[&peer]];
        let node = &mut self.nodes[n];
        if !indexer.alive {
            return node
                .choice
                .lost(&peer, &Lost::Away(String::new()), now, self.random.r#gen());
        }
        self.messages += 2;
        match indexer.book.take(&node.record, node.source, at) {
            Err(Refused::Full | Refused::AddressFull) => {
                node.choice.lost(&peer, &Lost::Full, now, self.random.r#gen());
            }
            taken => {
                assert_eq!(taken, Ok(()));
                node.choice.up(&peer, now);
                let (records, capacity) = (indexer.book.len() as u64, indexer.book.capacity() as u64);
                node.choice.answered(&peer, records, capacity);
            }
        }
        self.tell(n);
    }

    /// A node hears of some indexers.
    fn tell(&mut self, n: usize) {
        let now = self.now();
        let alive: Vec<&Indexer> = self.indexers.iter().filter(|indexer| indexer.alive).collect();
        for indexer in alive.choose_multiple(&mut self.random, TOLD) {
            self.nodes[n].choice.learnt(&indexer.address, now);
        }
    }

    fn kill(&mut self, which: impl Iterator<Item = usize>) {
        for index in which {
            self.indexers[index].alive = false;
            self.indexers[index].book = Book::new(Bounds {
                records: self.indexers[index].book.capacity(),
                of_address: 10,
            });
            let peer = peer_of(&self.indexers[index].address);
            let now = self.now();
            for node in &mut self.nodes {
                if node.choice.kept().contains(&peer) {
                    node.choice
                        .lost(&peer, &Lost::Away(String::new()), now, self.random.r#gen());
                }
            }
        }
    }

    fn raise(&mut self) {
        for indexer in &mut self.indexers {
            indexer.alive = true;
        }
    }

    /// How many nodes keep at least so many.
    fn keeping(&self, count: usize) -> usize {
        self.nodes
            .iter()
            .filter(|node| node.choice.kept().len() >= count)
            .count()
    }

    /// Steps until so many nodes keep so many; the seconds that took, or nothing within ten minutes.
    fn until(&mut self, nodes: usize, keep: usize) -> Option<u64> {
        let began = self.second;
        while self.keeping(keep) < nodes {
            if self.second - began > 600 {
                return None;
            }
            self.step();
        }
        Some(self.second - began)
    }

    fn load(&self) -> Vec<usize> {
        let alive = self.indexers.iter().filter(|indexer| indexer.alive);
        let mut load: Vec<usize> = alive.map(|indexer| indexer.book.len()).collect();
        load.sort_unstable();
        load
    }

    /// Of so many look-ups by chance: found at an indexer of one's own, and found at all when that one asks the others.
    fn look_ups(&mut self, count: usize) -> (usize, usize) {
        let at = self.second * 1000;
        let (mut own, mut all) = (0, 0);
        for _ in 0..count {
            let asker = self.random.gen_range(0..self.nodes.len());
            let did = format!("did:{}", self.random.gen_range(0..self.nodes.len()));
            let has = |indexer: &Indexer| indexer.alive && !indexer.book.find(&did, at).is_empty();
            let kept = self.nodes[asker].choice.kept();
            own += usize::from(kept.iter().any(|peer| has(&self.indexers[self.of_peer[peer]])));
            all += usize::from(!kept.is_empty() && self.indexers.iter().any(has));
        }
        (own, all)
    }
}

fn peer_of(address: &Multiaddr) -> PeerId {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => peer,
        other => panic!("{other:?}"),
    }
}

fn run(nodes: usize, indexers: usize, seed: u64) {
    let keep = OF_A_NODE.min(indexers);
    let mut world = World::new(nodes, indexers, seed);
    let most = nodes * 99 / 100;
    let settled = world.until(most, keep).expect("nodes to find their indexers");
    let before = world.messages;
    for _ in 0..120 {
        world.step();
    }
    let a_minute = (world.messages - before) as f64 / 2.0 / nodes as f64;
    let load = world.load();
    let (least, median, worst) = (load[0], load[load.len() / 2], load[load.len() - 1]);
    println!("{nodes} nodes, {indexers} indexers: 99 of 100 keep {keep} after {settled} s");
    println!("  records of an indexer: {least} at least, {median} in the middle, {worst} at most");
    println!("  messages of a node in a minute, at rest: {a_minute:.1}");
    let (own, all) = world.look_ups(1000);
    println!("  of 1000 look-ups {own} end at an indexer of one's own, {all} at one that it asks");
    assert_eq!(all, 1000);
    assert!(worst <= nodes * keep / indexers * 3 / 2);

    let killed = indexers / 5;
    world.kill(0..killed);
    assert!(world.keeping(1) >= most, "the loss of a fifth leaves nobody alone");
    let healed = world.until(most, keep).expect("nodes to replace those they lost");
    println!("  {killed} indexers lost: {healed} s until 99 of 100 keep {keep} again");
    let (_, all) = world.look_ups(1000);
    assert!(all >= 990, "{all}");

    world.kill(killed..indexers);
    for _ in 0..120 {
        world.step();
    }
    assert_eq!(world.keeping(1), 0);
    world.raise();
    let one = world.until(most, 1).expect("nodes to come back");
    let full = world.until(most, keep).expect("nodes to keep as many again");
    println!(
        "  all lost for two minutes: {one} s until 99 of 100 keep one, {} s until {keep}",
        one + full
    );
    let (_, all) = world.look_ups(1000);
    assert!(all >= 980, "{all}");
}

#[test]
fn five_hundred_nodes_and_ten_indexers() {
    run(500, 10, 1);
}

/// The large one: about two minutes without optimisation.
#[test]
#[ignore = "long; make soak"]
fn ten_thousand_nodes_and_fifty_indexers() {
    run(10_000, 50, 1);
}
