//! The world of one run: apps and their store at A, the journals of both, the wire between, the NATS of B.

use super::dice::Dice;
use super::far::Far;
use super::near::Near;
use super::{Case, Fault, SimJournal};
use crate::delivery::reconcile::SETTLED;
use crate::delivery::{Key, Token};
use crate::wire::{DataType, ReceiverLine, SenderLine};
use bytes::Bytes;
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) const A: &str = "did:a";
pub(super) const B: &str = "did:b";

/// What an app at A said.
#[derive(Debug, Clone, Copy)]
pub(super) enum Said {
    Put(usize),
    Delete(usize),
    Message,
}

/// A stream between them.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) ab: VecDeque<SenderLine>,
    pub(super) ba: VecDeque<ReceiverLine>,
    /// B has not looked at it yet.
    pub(super) fresh: bool,
}

/// See the module's first line.
pub(super) struct World<J> {
    pub(super) case: Case,
    pub(super) dice: Dice,
    pub(super) now: u64,
    /// Everything the apps said, as JetStream keeps it; the version is the place behind it.
    pub(super) said: Vec<Said>,
    pub(super) store: BTreeMap<usize, u64>,
    /// What the apps have told and not stored yet, in order.
    unstored: VecDeque<(usize, Option<u64>)>,
    pub(super) near: Near<J>,
    pub(super) far: Far<J>,
    pub(super) link: Option<Link>,
    /// Keys and messages that no daemon can know of after what was lost.
    lost_keys: BTreeSet<usize>,
    lost_messages: BTreeSet<u64>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Outcome {
    pub(super) wrong_end: u32,
    pub(super) went_back: u32,
    pub(super) twice: u32,
    pub(super) lost: u32,
    pub(super) messages_twice: u32,
    pub(super) digests: u32,
}

pub(super) fn key(k: usize) -> Key {
    Key {
        datatype: DataType::DataResource,
        id: format!("k{k:05}"),
    }
}

pub(super) fn number(key: &Key) -> usize {
    key.id[1..].parse().unwrap()
}

pub(super) fn document(id: &str, version: u64) -> Bytes {
    Bytes::from(format!(r#"{{"id":"{id}","v":{version}}}"#))
}

pub(super) fn version(payload: &[u8]) -> u64 {
    let text = std::str::from_utf8(payload).unwrap();
    let at = text.find("\"v\":").unwrap_or_else(|| panic!("no version in {text}"));
    text[at + 4..text.len() - 1].parse().unwrap()
}

impl<J: SimJournal> World<J> {
    pub(super) fn new(case: &Case, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let (a, b) = (Token(dice.r#gen()), Token(dice.r#gen()));
        let mut world = Self {
            case: case.clone(),
            near: Near::new(J::make(a)),
            far: Far::new(J::make(b)),
            dice,
            now: 0,
            said: Vec::new(),
            store: BTreeMap::new(),
            unstored: VecDeque::new(),
            link: None,
            lost_keys: BTreeSet::new(),
            lost_messages: BTreeSet::new(),
        };
        world.start_near();
        if case.keys > 256 {
            for k in 0..case.keys {
                world.put(k);
            }
            while world.take() {}
        }
        world
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.case.faults.contains(&fault)
    }

    pub(super) fn ver(&self) -> u64 {
        self.said.len() as u64
    }

    fn put(&mut self, k: usize) {
        self.said.push(Said::Put(k));
        self.will_store(k, Some(self.ver()));
    }

    /// The app stores what it told: at once, or a little later.
    fn will_store(&mut self, k: usize, version: Option<u64>) {
        self.unstored.push_back((k, version));
        if !self.has(Fault::Late) {
            self.stores();
        }
    }

    /// The apps have stored all that they told.
    pub(super) fn stores(&mut self) {
        while self.stores_one() {}
    }

    fn stores_one(&mut self) -> bool {
        let Some((k, version)) = self.unstored.pop_front() else {
            return false;
        };
        match version {
            Some(version) => self.store.insert(k, version),
            None => self.store.remove(&k),
        };
        true
    }

    fn app(&mut self) {
        if self.dice.gen_bool(0.12) {
            self.said.push(Said::Message);
            return;
        }
        let k = self.dice.gen_range(0..self.case.keys);
        if self.dice.gen_bool(0.25) {
            self.said.push(Said::Delete(k));
            self.will_store(k, None);
        } else {
            self.put(k);
        }
    }

    /// The connection is gone.
    pub(super) fn cut(&mut self, alive: bool) {
        if self.link.take().is_some() {
            self.tell(crate::delivery::sender::Input::Ended { alive });
        }
    }

    fn step(&mut self) {
        self.now += 1;
        if self.has(Fault::Late) && self.dice.gen_bool(0.2) {
            self.stores_one();
        }
        let x: f64 = self.dice.r#gen();
        match x {
            x if x < 0.10 => self.app(),
            x if x < 0.22 => drop(self.take()),
            x if x < 0.45 => {
                for _ in 0..self.dice.gen_range(1..8) {
                    self.near_does();
                }
            }
            x if x < 0.62 => drop(self.far_does()),
            x if x < 0.74 => drop(self.publish()),
            x if x < 0.88 => drop(self.near_reads()),
            x if x < 0.94 => self.try_now(),
            x if x < 0.965 && self.has(Fault::Steady) => {}
            x if x < 0.95 => {
                self.cut(false);
                self.start_near();
            }
            x if x < 0.96 => self.crash_far(),
            x if x < 0.965 => self.cut(false),
            _ if self.has(Fault::Purge) || self.has(Fault::PurgeHot) => self.purge(),
            _ => {}
        }
        if self.has(Fault::PurgeHot) && self.dice.gen_bool(0.3) {
            self.purge();
        }
        if self.has(Fault::CutDigest) && self.near.state() == "digest" && self.dice.gen_bool(0.05) {
            self.cut(true);
        }
        if self.has(Fault::Rights) && self.dice.gen_bool(0.02) {
            self.near.partner = !self.near.partner;
            self.rights();
        }
        if self.has(Fault::Admit) && self.dice.gen_bool(0.02) {
            self.far.admitted = !self.far.admitted;
            self.reset_by_far();
        }
    }

    pub(super) fn run(mut self) -> Outcome {
        let (steps, mut backup) = (self.case.steps, None);
        for step in 0..steps {
            self.step();
            if step == steps / 3 {
                backup = Some((self.near.backup(), self.far.backup()));
                if self.has(Fault::AdmitLate) {
                    self.far.admitted = false;
                    self.reset_by_far();
                }
            }
            if step == 2 * steps / 3
                && let Some((near, far)) = backup.take()
            {
                self.fault(near, far);
            }
        }
        self.settle();
        self.outcome()
    }

    fn fault(&mut self, near: Near<J>, far: Far<J>) {
        self.far.admitted |= self.has(Fault::AdmitLate);
        // A backup is older than what is too young to be held against the store; until then the apps have stored.
        self.stores();
        self.now += SETTLED;
        if self.has(Fault::RestoreA) || self.has(Fault::LoseA) {
            self.cut(false);
            let (mut lost, taken) = (self.near.messages(), self.near.place());
            lost.extend(taken + 1..=self.ver());
            self.near = if self.has(Fault::RestoreA) {
                near
            } else {
                let lineage = Token(self.dice.r#gen());
                Near::new(J::make(lineage))
            };
            if !self.case.jetstream {
                // What B has read by now may be the last that is known of a key.
                self.far_finishes();
                // What was taken after the backup cannot come back by itself.
                self.near.skip_to(self.said.len() as u64);
                let known: BTreeSet<usize> = self.near.keys().into_iter().chain(self.far.keys()).collect();
                self.lost_keys = (0..self.case.keys).filter(|k| !known.contains(k)).collect();
                self.lost_messages = lost.difference(&self.near.messages()).copied().collect();
            }
            self.start_near();
            let (said, taken) = if self.has(Fault::Busy) { (120, 120) } else { (6, 60) };
            for _ in 0..said {
                self.app();
            }
            for _ in 0..self.dice.gen_range(0..=taken) {
                self.take();
            }
            for k in self.near.keys() {
                self.lost_keys.remove(&k);
            }
        }
        if self.has(Fault::RestoreB) {
            self.crash_far();
            self.far.restore(far);
        }
        if self.has(Fault::LoseB) {
            self.crash_far();
            let lineage = Token(self.dice.r#gen());
            self.far.lose(J::make(lineage));
        }
        if self.has(Fault::Readmit) {
            self.crash_far();
            self.far.readmit();
        }
    }

    /// Lets everything come to rest.
    fn settle(&mut self) {
        self.stores();
        (self.near.partner, self.far.admitted, self.far.calm) = (true, true, true);
        self.rights();
        self.reset_by_far();
        for _ in 0..200_000 {
            self.now += 1;
            let moved = [
                self.take(),
                self.near_does(),
                self.far_does(),
                self.publish(),
                self.near_reads(),
            ];
            if moved.contains(&true) {
                continue;
            }
            if self.near.state() == "tail" {
                return;
            }
            if self.near.hold == "many_deletes" {
                self.tell(crate::delivery::sender::Input::AllowDeletes);
            }
            self.now += 1_000;
            self.try_now();
        }
        panic!("it does not come to rest: {} {:?}", self.near.state(), self.near.hold);
    }

    fn outcome(&self) -> Outcome {
        let reachable = |k: &usize, v: u64| !self.lost_keys.contains(k) && !self.far.never_takes(v);
        let wanted: BTreeMap<usize, u64> = self
            .store
            .iter()
            .filter(|(k, v)| reachable(k, **v))
            .map(|(k, v)| (*k, *v))
            .collect();
        let told = |k: &usize| self.store.get(k).is_some_and(|v| !reachable(k, *v)) || self.lost_keys.contains(k);
        let got: BTreeMap<usize, u64> = self
            .far
            .told
            .iter()
            .filter(|(k, _)| !told(k))
            .map(|(k, v)| (*k, *v))
            .collect();
        let messages = (1..=self.ver()).filter(|v| matches!(self.said[*v as usize - 1], Said::Message));
        let lost = messages.filter(|v| {
            !self.lost_messages.contains(v) && !self.far.never_takes(*v) && !self.far.messages.contains_key(v)
        });
        Outcome {
            wrong_end: u32::from(wanted != got),
            went_back: u32::from(self.far.went_back > 0),
            twice: u32::from(self.far.twice > 0),
            lost: u32::from(lost.count() > 0),
            messages_twice: u32::from(self.far.messages.values().any(|times| *times > 1)),
            digests: self.near.digests,
        }
    }
}
