//! A: intake, journal, store check, and the courier with its effects carried out one at a time.

use super::world::{B, Link, Said, World, document, key, number, version};
use super::{Rule, SimJournal};
use crate::delivery::digest;
use crate::delivery::reconcile;
use crate::delivery::sender::{Effect, Input, Sender, ask};
use crate::delivery::{Change, Cursor, Key, Parked, Row, Token};
use crate::wire::{Action, DataType, ReceiverLine, SenderLine};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Bytes compared at a time: a few documents, so that ranges are cut.
const COMPARED_BYTES: usize = 300;

/// What A keeps, and what it has in memory.
pub(super) struct Near<J> {
    pub(super) journal: J,
    /// Version of the newest thing taken; goes with the journal.
    taken: u64,
    sender: Option<Sender>,
    effects: VecDeque<Effect>,
    unwritten: bool,
    intake_start: u64,
    /// As of which version the store was seen not to have a key: what a delete says that has no row, or whose tombstone an
    /// older journal brought back.
    gone: BTreeMap<Key, u64>,
    pub(super) partner: bool,
    pub(super) hold: String,
    pub(super) digests: u32,
}

impl<J: SimJournal> Near<J> {
    pub(super) fn new(journal: J) -> Self {
        Self {
            journal,
            taken: 0,
            sender: None,
            effects: VecDeque::new(),
            unwritten: false,
            intake_start: 0,
            gone: BTreeMap::new(),
            partner: true,
            hold: String::new(),
            digests: 0,
        }
    }

    pub(super) fn backup(&self) -> Self {
        let mut backup = Self::new(self.journal.backup());
        (backup.taken, backup.digests) = (self.taken, self.digests);
        backup
    }

    pub(super) fn state(&self) -> &'static str {
        self.sender.as_ref().map_or("down", Sender::state)
    }

    pub(super) fn place(&self) -> u64 {
        self.journal.cursor().unwrap().map_or(0, |cursor| cursor.last_seq)
    }

    pub(super) fn skip_to(&mut self, place: u64) {
        self.journal.take(&[], Some(&cursor(place))).unwrap();
        self.taken = place;
    }

    pub(super) fn keys(&self) -> BTreeSet<usize> {
        let own = self.journal.own_keys(None, None, usize::MAX >> 1).unwrap();
        own.iter().map(|own| number(&own.key)).collect()
    }

    /// Messages that wait.
    pub(super) fn messages(&self) -> BTreeSet<u64> {
        let rows = self
            .journal
            .rows_after(0, B, true, usize::MAX >> 1, usize::MAX >> 1)
            .unwrap();
        rows.iter().map(|row| version(&row.change.payload)).collect()
    }
}

fn cursor(last_seq: u64) -> Cursor {
    Cursor {
        source: "S".to_owned(),
        created: "C".to_owned(),
        last_seq,
    }
}

impl<J: SimJournal> World<J> {
    /// A new life of A.
    pub(super) fn start_near(&mut self) {
        let life = Token(self.dice.r#gen());
        // A daemon is away for longer than an app takes from telling to storing.
        self.stores();
        self.near.journal.begin_incarnation(life).unwrap();
        self.near.intake_start = self.ver();
        if !self.case.jetstream && self.rule(Rule::Start) && self.near.place() >= self.ver() {
            for k in self.near.keys() {
                self.reconcile(&key(k), true);
            }
        }
        let feed = Arc::new(self.near.journal.feed().unwrap());
        self.near.sender = Some(Sender::new(B, feed, 0));
        self.near.effects.clear();
        self.near.unwritten = false;
        self.near.hold.clear();
        self.link = None;
        self.rights();
        self.head();
    }

    pub(super) fn rule(&self, rule: Rule) -> bool {
        !self.case.off.contains(&rule)
    }

    pub(super) fn tell(&mut self, input: Input) {
        let jitter = self.dice.r#gen();
        let Some(sender) = &mut self.near.sender else { return };
        let before = sender.state();
        let effects = sender.on(self.now, jitter, input);
        self.near.digests += u32::from(before != "digest" && sender.state() == "digest");
        for effect in effects {
            self.begin(effect);
        }
    }

    /// What a courier does before it looks at anything else is done at once; what takes time, in steps of its own.
    fn begin(&mut self, effect: Effect) {
        match effect {
            Effect::Write(line) => self.write(line),
            Effect::Close => {
                self.link = None;
                self.near.unwritten = false;
                self.near.effects.retain(|effect| !matches!(effect, Effect::Open));
            }
            effect => self.near.effects.push_back(effect),
        }
    }

    pub(super) fn rights(&mut self) {
        let directed = self.near.journal.directed_waiting(B).unwrap().0 > 0;
        let partner = self.near.partner;
        self.tell(Input::Rights { partner, directed });
    }

    fn head(&mut self) {
        let (head, floor) = self.near.journal.bounds().unwrap();
        let in_session = matches!(self.near.state(), "tail" | "digest");
        let floor = if in_session && !self.rule(Rule::Floor) {
            0
        } else {
            floor
        };
        self.tell(Input::Head { head, floor });
    }

    /// One message of the intake: its row and the cursor.
    pub(super) fn take(&mut self) -> bool {
        let place = self.near.place();
        let Some(said) = self.said.get(place as usize).copied() else {
            return false;
        };
        let version = place + 1;
        let (key, dest, action) = match said {
            Said::Put(k) => (key(k), "", Action::Update),
            Said::Delete(k) => (key(k), "", Action::Delete),
            Said::Message => {
                let id = format!("m{version:05}");
                let datatype = DataType::DataResource;
                (Key { datatype, id }, B, Action::Considers)
            }
        };
        let change = Change {
            payload: document(&key.id, version),
            key,
            dest: dest.to_owned(),
            action,
            user: String::new(),
            at: self.now,
        };
        self.near.taken = version;
        self.near.journal.take(&[change], Some(&cursor(version))).unwrap();
        if matches!(said, Said::Message) {
            self.rights();
        }
        self.head();
        true
    }

    pub(super) fn purge(&mut self) {
        let keep = self.near.tombstones().saturating_sub(1);
        self.near.journal.purge_tombstones(0, keep, 1).unwrap();
        self.head();
    }

    /// The journal against the store, of one key; rows that are too young are left alone, those of earlier lives, too, when
    /// only settled ones are meant.
    fn reconcile(&mut self, key: &Key, settled_only: bool) {
        let row = self.near.journal.row(key).unwrap();
        let life = self.near.journal.feed().unwrap().incarnations.last().unwrap().first_seq;
        let too_young = |row: &Row| !reconcile::is_settled(row, self.now) && (settled_only || row.seq >= life);
        if self.rule(Rule::Young) && row.as_ref().is_some_and(too_young) {
            return;
        }
        let stored = self.store.get(&number(key)).map(|v| document(&key.id, *v));
        if let Some(mut change) = reconcile::missing(key, row.as_ref(), stored.as_ref(), true, self.now) {
            if change.action == Action::Delete {
                change.payload = document(&key.id, self.near.taken);
            }
            self.near.journal.take(&[change], None).unwrap();
        } else if stored.is_none() {
            self.near.gone.insert(key.clone(), self.near.taken);
        }
    }

    pub(super) fn try_now(&mut self) {
        self.now += 1_000;
        let ready = self.near.place() >= self.near.intake_start || !self.rule(Rule::Intake);
        self.tell(Input::IntakeReady(ready));
        if self
            .near
            .sender
            .as_ref()
            .and_then(Sender::due)
            .is_some_and(|due| due <= self.now)
        {
            self.tell(Input::Tick);
        }
        self.tell(Input::Nudge { asked: true });
    }

    /// A reads one line of B.
    pub(super) fn near_reads(&mut self) -> bool {
        let Some(line) = self.link.as_mut().and_then(|link| link.ba.pop_front()) else {
            return false;
        };
        let line = match line {
            ReceiverLine::Have {
                position: Some(mut at),
                full,
                directed,
            } => {
                if !self.rule(Rule::Incarnation) {
                    // Without incarnations every place is one of this life.
                    at.incarnation = self.near.journal.feed().unwrap().incarnations.last().unwrap().id.0;
                }
                self.head();
                ReceiverLine::Have {
                    position: Some(at),
                    full,
                    directed,
                }
            }
            line => line,
        };
        // What crosses the wire is bytes.
        let line = ReceiverLine::read_line(&line.write_line(), &Default::default()).unwrap();
        self.tell(Input::Line(line));
        self.head();
        true
    }

    /// Carries out one effect.
    pub(super) fn near_does(&mut self) -> bool {
        let Some(effect) = self.near.effects.front() else {
            if std::mem::take(&mut self.near.unwritten) {
                self.tell(Input::Written);
                return true;
            }
            return false;
        };
        let drained = self.near.place() >= self.ver() || !self.rule(Rule::Intake);
        if matches!(effect, Effect::Sum { .. } | Effect::Compare { .. }) && !drained {
            return false;
        }
        let effect = self.near.effects.pop_front().unwrap();
        self.carry_out(effect);
        true
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Open => {
                self.link = Some(Link {
                    fresh: true,
                    ..Link::default()
                });
                self.tell(Input::Opened);
            }
            Effect::Read {
                ticket,
                after,
                directed_only,
                max_rows,
                max_bytes,
            } => {
                let mut answer =
                    ask::rows(&self.near.journal, B, ticket, after, directed_only, max_rows, max_bytes).unwrap();
                if let (Input::Rows { floor, .. }, false) = (&mut answer, self.rule(Rule::Floor)) {
                    *floor = 0;
                }
                self.tell(answer);
            }
            Effect::Sum { ticket, after, to } => {
                let answer = ask::sum(&self.near.journal, ticket, after.as_ref(), to.as_ref()).unwrap();
                self.tell(answer);
            }
            Effect::Compare {
                ticket,
                after,
                to,
                held,
            } => {
                let compared =
                    digest::compare(&self.near.journal, after.as_ref(), to.as_ref(), &held, COMPARED_BYTES).unwrap();
                if self.rule(Rule::Store) {
                    for key in &compared.keys {
                        self.reconcile(key, false);
                    }
                }
                let lines = digest::lines(&self.near.journal, compared.keys).unwrap();
                for line in &lines {
                    if let digest::Difference::Gone(key) = line {
                        self.near.gone.insert(key.clone(), self.near.taken);
                    }
                }
                let upto = compared.upto;
                self.tell(Input::RangeCompared { ticket, lines, upto });
                self.head();
            }
            Effect::Acked { seq } => self.near.journal.unpark_acked(B, seq).unwrap(),
            Effect::DirectedDone { seq } => {
                self.near.journal.directed_done(B, seq).unwrap();
                self.rights();
            }
            Effect::Arrived { keys } => {
                for key in keys {
                    self.near.journal.unpark(B, &key).unwrap();
                }
            }
            Effect::Park { seq, key, code, detail } => {
                let at = self.now;
                let dest = B.to_owned();
                let parked = Parked {
                    dest,
                    key,
                    seq,
                    code,
                    detail,
                    at,
                };
                self.near.journal.park(&parked, 1_000).unwrap();
            }
            Effect::Hold { code } => self.near.hold = code,
            Effect::Forget if self.near.journal.directed_waiting(B).unwrap().0 > 0 => {}
            Effect::Forget => self.near.journal.forget_dest(B).unwrap(),
            Effect::Legacy(_) | Effect::Write(_) | Effect::Close => {}
            Effect::LegacySend { .. } => panic!("B knows the protocol"),
        }
    }

    fn write(&mut self, mut line: SenderLine) {
        if let SenderLine::Line(line) = &mut line
            && (line.seq == 0 || line.action == Some(Action::Delete))
        {
            let key = Key {
                datatype: line.datatype,
                id: line.id.clone(),
            };
            let seen = self.near.gone.get(&key).copied().unwrap_or_default();
            if line.seq == 0 || version(&line.payload) < seen {
                line.payload = document(&line.id, seen);
            }
        }
        self.near.unwritten = true;
        if let Some(link) = &mut self.link {
            link.ab
                .push_back(SenderLine::read_line(&line.write_line(), &Default::default()).unwrap());
        }
    }
}

impl<J: SimJournal> Near<J> {
    fn tombstones(&self) -> usize {
        let own = self.journal.own_keys(None, None, usize::MAX >> 1).unwrap();
        own.iter().filter(|own| own.hash.is_none()).count()
    }
}
