//! B: the session, its commits, the publisher, and the NATS with what its apps were told.

use super::world::{A, World, number, version};
use super::{Fault, Rule, SimJournal};
use crate::delivery::Todo;
use crate::delivery::digest;
use crate::delivery::publisher::Newest;
use crate::delivery::receiver::{Answer, Batch, Broken, GivenUp, Receiver, Refusal, Unkept, commit};
use crate::wire::{Action, ReceiverLine, SenderLine};
use rand::Rng;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// One in so many versions is poison.
const POISON: u64 = 101;
/// Lines of one batch here; small, so that there are many moments between two.
const BATCH: usize = 4;

/// What B keeps, has in memory, and what its apps know.
pub(super) struct Far<J> {
    pub(super) journal: J,
    session: Option<Session>,
    /// Published, and not known to be.
    publishing: Vec<u64>,
    /// Left by an earlier life, and followed by a newer row of their key; none until this life publishes.
    superseded: Option<HashSet<u64>>,
    /// Whether A is a partner here.
    pub(super) admitted: bool,
    /// No more `stop` at random.
    pub(super) calm: bool,
    rejects: bool,
    poisons: bool,
    gives_up: bool,
    /// Given up, and not yet known to be.
    giving_up: Vec<Todo>,
    given_up: GivenUp,
    /// What the apps were told last.
    pub(super) told: BTreeMap<usize, u64>,
    best: BTreeMap<usize, u64>,
    pub(super) went_back: u32,
    pub(super) twice: u32,
    pub(super) messages: BTreeMap<u64, u32>,
}

struct Session {
    receiver: Receiver,
    /// The transaction under way; lines are read meanwhile.
    under_way: Option<Batch>,
    /// Its stream is gone: the transaction under way ends, nothing is answered.
    cut: bool,
    /// It is gone for a line that cannot be read: what was read before counts.
    broken: bool,
}

impl Session {
    fn has_in_hand(&self) -> bool {
        self.under_way.is_some() || !self.receiver.pending().is_empty()
    }
}

impl<J: SimJournal> Far<J> {
    pub(super) fn new(journal: J) -> Self {
        Self {
            journal,
            session: None,
            publishing: Vec::new(),
            superseded: None,
            admitted: true,
            calm: false,
            rejects: false,
            poisons: false,
            gives_up: false,
            giving_up: Vec::new(),
            given_up: GivenUp::default(),
            told: BTreeMap::new(),
            best: BTreeMap::new(),
            went_back: 0,
            twice: 0,
            messages: BTreeMap::new(),
        }
    }

    pub(super) fn backup(&self) -> Self {
        let mut backup = Self::new(self.journal.backup());
        (backup.told, backup.best) = (self.told.clone(), self.best.clone());
        backup
    }

    pub(super) fn restore(&mut self, backup: Self) {
        (self.journal, self.told, self.best) = (backup.journal, backup.told, backup.best);
    }

    pub(super) fn lose(&mut self, journal: J) {
        self.journal = journal;
        self.told.clear();
        self.best.clear();
    }

    /// A left PARTNER, the apps forgot what came from it, and it is admitted again.
    pub(super) fn readmit(&mut self) {
        self.journal.forget_origin(A).unwrap();
        self.told.clear();
        self.best.clear();
    }

    pub(super) fn keys(&self) -> Vec<usize> {
        let held = self.journal.held(A, None, None, usize::MAX >> 1).unwrap();
        held.iter().map(|held| number(&held.key)).collect()
    }

    /// Whether a thing of this version is refused, or resets the stream, whenever it comes.
    pub(super) fn never_takes(&self, version: u64) -> bool {
        self.rejects && version.is_multiple_of(13)
            || self.poisons && version % POISON == POISON / 2
            || self.is_given_up(version)
    }

    /// Whether a thing of this version is refused when it is to be published.
    fn is_given_up(&self, version: u64) -> bool {
        self.gives_up && version % 7 == 3
    }

    fn published(&self) -> u64 {
        let first = self.journal.todo(0, 1).unwrap().first().map(|todo| todo.n - 1);
        first.unwrap_or_else(|| self.journal.last_todo().unwrap())
    }

    fn tell(&mut self, todo: &Todo) {
        let version = version(&todo.payload);
        if todo.action == Action::Considers {
            *self.messages.entry(version).or_default() += 1;
            return;
        }
        let k = number(&todo.key);
        let best = self.best.entry(k).or_default();
        self.went_back += u32::from(version < *best);
        self.twice += u32::from(version == *best);
        *best = version.max(*best);
        if todo.action == Action::Delete {
            self.told.remove(&k);
        } else {
            self.told.insert(k, version);
        }
    }
}

impl<J: SimJournal> World<J> {
    pub(super) fn crash_far(&mut self) {
        self.cut(false);
        self.far.session = None;
        self.far.publishing.clear();
        self.far.giving_up.clear();
        self.far.given_up = GivenUp::default();
        self.far.superseded = None;
    }

    /// B resets what is open: A is another thing to it now.
    pub(super) fn reset_by_far(&mut self) {
        self.cut(true);
    }

    /// One step of B's session: looks at a new stream, reads a batch, or commits it.
    pub(super) fn far_does(&mut self) -> bool {
        (self.far.rejects, self.far.poisons) = (self.has(Fault::Reject), self.has(Fault::Poison));
        self.far.gives_up = self.has(Fault::GiveUp);
        if self.link.as_ref().is_none_or(|link| link.fresh)
            && let Some(session) = &mut self.far.session
        {
            session.cut = true;
            if session.under_way.is_none() && !(session.broken && session.has_in_hand()) {
                self.far.session = None;
                return true;
            }
        }
        let reads = self.dice.gen_bool(0.5);
        match &mut self.far.session {
            Some(session) if session.under_way.is_some() => {
                (reads && !session.cut && self.read_batch()) || self.commit()
            }
            Some(session) if session.has_in_hand() => {
                session.under_way = Some(session.receiver.take());
                true
            }
            Some(_) => self.read_batch(),
            None => self.greet(),
        }
    }

    /// What is read is committed.
    pub(super) fn far_finishes(&mut self) {
        while let Some(session) = self.far.session.as_mut().filter(|session| session.has_in_hand()) {
            if session.under_way.is_none() {
                session.under_way = Some(session.receiver.take());
            }
            self.commit();
        }
    }

    fn says_stop(&mut self) -> bool {
        self.has(Fault::Stop) && !self.far.calm && self.dice.gen_bool(0.1)
    }

    fn stop(&mut self, code: &str) {
        let retry_after = self.dice.gen_range(0..4);
        if let Some(link) = &mut self.link {
            link.fresh = false;
            link.ab.clear();
            let code = code.to_owned();
            link.ba.push_back(ReceiverLine::Stop { code, retry_after });
        }
    }

    fn greet(&mut self) -> bool {
        if !self.link.as_ref().is_some_and(|link| link.fresh) {
            return false;
        }
        let admitted = self.far.admitted;
        if self.says_stop() || !admitted && self.dice.gen_bool(0.3) {
            self.stop(if admitted { "busy" } else { "not_partner" });
            return true;
        }
        let position = self.far.journal.origin(A).unwrap();
        let full = self.has(Fault::Full) && !self.far.calm && self.dice.gen_bool(0.2);
        let (receiver, have) = Receiver::new(position, admitted, full, self.far.published());
        self.far.session = Some(Session {
            receiver,
            under_way: None,
            cut: false,
            broken: false,
        });
        if let Some(link) = &mut self.link {
            link.fresh = false;
            link.ba.push_back(have);
        }
        true
    }

    fn read_batch(&mut self) -> bool {
        if self.link.as_ref().is_some_and(|link| !link.ab.is_empty()) && self.says_stop() {
            if self
                .far
                .session
                .as_ref()
                .is_some_and(|session| session.under_way.is_some())
            {
                self.commit();
            }
            self.far.session = None;
            self.stop("nats");
            return true;
        }
        let Some(link) = &mut self.link else { return false };
        let Some(session) = &mut self.far.session else {
            return false;
        };
        let mut read = 0;
        while read < BATCH
            && let Some(line) = link.ab.pop_front()
        {
            read += 1;
            let (rejects, poisons) = (self.far.rejects, self.far.poisons);
            if poisons && is_poison(&line) {
                // A line that resets the stream whenever it is read; what came before it counts.
                (session.cut, session.broken) = (true, true);
                self.cut(true);
                return true;
            }
            let said = session.receiver.line(line, |line| {
                let put = line.action != Some(Action::Delete);
                if put && rejects && version(&line.payload).is_multiple_of(13) {
                    let (code, max) = ("shape", None);
                    return Err(Refusal { code, max });
                }
                Ok(())
            });
            if let Err(Broken(why)) = said {
                panic!("A broke the order: {why}");
            }
        }
        read > 0
    }

    /// The transaction under way ends.
    fn commit(&mut self) -> bool {
        let published = self.far.published();
        let Some(session) = &mut self.far.session else {
            return false;
        };
        let batch = session.under_way.take().unwrap_or_default();
        let committed = commit(&mut self.far.journal, A, &batch, self.now).unwrap();
        let answers = session.receiver.committed(batch, committed);
        let acked = session.receiver.published(published, &self.far.given_up);
        if session.cut {
            return true;
        }
        for answer in answers.into_iter().chain(acked) {
            self.answer(answer);
        }
        true
    }

    fn answer(&mut self, answer: Answer) {
        let Some(link) = &mut self.link else { return };
        match answer {
            Answer::Line(line) => link.ba.push_back(line),
            Answer::Pages => link.ba.extend(digest::pages(&self.far.journal, A).unwrap()),
            Answer::Keys { mut after, to } => loop {
                let (line, next) = digest::keys(&self.far.journal, A, after.as_ref(), to.as_ref()).unwrap();
                link.ba.push_back(line);
                match next {
                    Some(next) => after = Some(next),
                    None => return,
                }
            },
        }
    }

    /// One publisher, the oldest first; what was published, one row or several, leaves in a step of its own.
    pub(super) fn publish(&mut self) -> bool {
        if self.far.superseded.is_none() {
            let mut newest = Newest::default();
            let left = self.far.journal.todo(0, usize::MAX >> 1).unwrap();
            left.iter().for_each(|todo| newest.add(todo));
            let kept = self.rule(Rule::NewestOnly);
            self.far.superseded = Some(if kept { newest.superseded } else { HashSet::new() });
        }
        let after = self.far.publishing.last().copied().unwrap_or_default();
        let next = self.far.journal.todo(after, 1).unwrap().pop();
        let enough = self.far.publishing.len() >= BATCH || self.dice.gen_bool(0.5);
        match next {
            Some(todo) if self.far.publishing.is_empty() || !enough => {
                if !self
                    .far
                    .superseded
                    .as_ref()
                    .is_some_and(|superseded| superseded.contains(&todo.n))
                {
                    match todo.action != Action::Delete && self.far.is_given_up(version(&todo.payload)) {
                        true => self.far.giving_up.push(todo.clone()),
                        false => self.far.tell(&todo),
                    }
                }
                self.far.publishing.push(todo.n);
            }
            _ => {
                let Some(last) = std::mem::take(&mut self.far.publishing).pop() else {
                    return false;
                };
                for todo in std::mem::take(&mut self.far.giving_up) {
                    self.far.journal.give_up(&todo.origin, &todo.key, todo.hash).unwrap();
                    let (code, max) = ("not_storable", None);
                    Arc::make_mut(&mut self.far.given_up).push_back(Unkept {
                        n: todo.n,
                        key: todo.key,
                        hash: todo.hash,
                        refusal: Refusal { code, max },
                    });
                }
                self.far.journal.published(last).unwrap();
                let published = self.far.published();
                if self.link.as_ref().is_some_and(|link| !link.fresh)
                    && let Some(session) = &mut self.far.session
                {
                    for answer in session.receiver.published(published, &self.far.given_up) {
                        self.answer(answer);
                    }
                }
            }
        }
        true
    }
}

fn is_poison(line: &SenderLine) -> bool {
    let SenderLine::Line(line) = line else { return false };
    line.action != Some(Action::Delete) && version(&line.payload) % POISON == POISON / 2
}
