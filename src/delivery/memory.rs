//! A journal in memory, for tests: the contract in its plainest form. A clone is a backup.

mod verdict;

use super::digest::Sum;
use super::journal::{Journal, Result};
use super::types::{
    Change, Cursor, Feed, Hash, Held, Incarnation, Key, OwnKey, Parked, PartnerNote, Pin, Position, Received, Row,
    Todo, Token, Verdict,
};
use crate::wire::Action;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// See the module's first line.
#[derive(Debug, Clone)]
pub(crate) struct MemoryJournal {
    feed: Feed,
    cursor: Option<Cursor>,
    rows: BTreeMap<u64, Row>,
    newest: BTreeMap<(Key, String), u64>,
    stored: BTreeSet<Key>,
    partners: BTreeMap<String, PartnerNote>,
    parked: Vec<Parked>,
    pins: BTreeMap<String, Pin>,
    origins: BTreeMap<String, Option<Position>>,
    held: BTreeMap<Key, (String, Hash)>,
    todo: BTreeMap<u64, Todo>,
    last_todo: u64,
    seen: BTreeMap<(String, String), u64>,
}

impl MemoryJournal {
    pub(crate) fn new(lineage: Token) -> Self {
        Self {
            feed: Feed {
                lineage,
                head: 0,
                floor: 0,
                incarnations: Vec::new(),
            },
            cursor: None,
            rows: BTreeMap::new(),
            newest: BTreeMap::new(),
            stored: BTreeSet::new(),
            partners: BTreeMap::new(),
            parked: Vec::new(),
            pins: BTreeMap::new(),
            origins: BTreeMap::new(),
            held: BTreeMap::new(),
            todo: BTreeMap::new(),
            last_todo: 0,
            seen: BTreeMap::new(),
        }
    }

    fn remove(&mut self, seq: u64) {
        if let Some(row) = self.rows.remove(&seq) {
            self.newest.remove(&(row.change.key, row.change.dest));
        }
    }

    fn own(&self, after: Option<&Key>, to: Option<&Key>) -> impl Iterator<Item = OwnKey> {
        let (after, to) = (after.cloned(), to.cloned());
        let in_range =
            move |key: &Key| after.as_ref().is_none_or(|after| key > after) && to.as_ref().is_none_or(|to| key <= to);
        self.newest
            .iter()
            .filter(move |((key, dest), _)| dest.is_empty() && in_range(key))
            .map(|((key, _), seq)| OwnKey {
                key: key.clone(),
                seq: *seq,
                hash: self
                    .rows
                    .get(seq)
                    .filter(|row| row.change.action != Action::Delete)
                    .map(|row| row.hash),
                bytes: self.rows.get(seq).map_or(0, |row| row.change.payload.len()),
            })
    }
}

impl Journal for MemoryJournal {
    fn feed(&self) -> Result<Feed> {
        Ok(self.feed.clone())
    }

    fn begin_incarnation(&mut self, id: Token) -> Result<()> {
        let first_seq = self.feed.head + 1;
        self.feed.incarnations.push(Incarnation { id, first_seq });
        Ok(())
    }

    fn cursor(&self) -> Result<Option<Cursor>> {
        Ok(self.cursor.clone())
    }

    fn take(&mut self, changes: &[Change], cursor: Option<&Cursor>) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for change in changes {
            if let Some(old) = self.newest.get(&(change.key.clone(), change.dest.clone())).copied() {
                self.remove(old);
            }
            self.feed.head += 1;
            let row = Row {
                seq: self.feed.head,
                change: change.clone(),
                hash: Hash::of(&change.payload),
            };
            self.newest.insert((change.key.clone(), change.dest.clone()), row.seq);
            self.rows.insert(row.seq, row.clone());
            rows.push(row);
        }
        if cursor.is_some() {
            self.cursor = cursor.cloned();
        }
        Ok(rows)
    }

    fn rows_after(
        &self,
        after: u64,
        dest: &str,
        directed_only: bool,
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Vec<Row>> {
        let mut bytes = 0;
        let rows = self
            .rows
            .range((Bound::Excluded(after), Bound::Unbounded))
            .map(|(_, row)| row);
        Ok(rows
            .filter(|row| row.change.dest == dest || row.change.dest.is_empty() && !directed_only)
            .take(max_rows)
            .take_while(|row| {
                let first = bytes == 0;
                bytes += row.change.payload.len().max(1);
                first || bytes <= max_bytes
            })
            .cloned()
            .collect())
    }

    fn row(&self, key: &Key) -> Result<Option<Row>> {
        let seq = self.newest.get(&(key.clone(), String::new()));
        Ok(seq.and_then(|seq| self.rows.get(seq)).cloned())
    }

    fn own_keys(&self, after: Option<&Key>, to: Option<&Key>, limit: usize) -> Result<Vec<OwnKey>> {
        Ok(self.own(after, to).take(limit).collect())
    }

    fn note_stored(&mut self, keys: &[Key]) -> Result<()> {
        self.stored.extend(keys.iter().cloned());
        Ok(())
    }

    fn was_stored(&self, key: &Key) -> Result<bool> {
        Ok(self.stored.contains(key))
    }

    fn purge_tombstones(&mut self, before: u64, keep: usize, limit: usize) -> Result<usize> {
        let gone = |row: &&Row| row.change.action == Action::Delete && row.change.dest.is_empty();
        let tombstones: Vec<(u64, u64)> = self
            .rows
            .values()
            .filter(gone)
            .map(|row| (row.seq, row.change.at))
            .collect();
        let beyond = tombstones.len().saturating_sub(keep);
        let old = tombstones
            .iter()
            .enumerate()
            .filter(|(n, (_, at))| *n < beyond || *at < before);
        let purged: Vec<u64> = old.map(|(_, (seq, _))| *seq).take(limit).collect();
        for seq in &purged {
            self.remove(*seq);
            self.feed.floor = self.feed.floor.max(*seq);
        }
        Ok(purged.len())
    }

    fn directed_done(&mut self, dest: &str, seq: u64) -> Result<()> {
        let done = self
            .rows
            .range(..=seq)
            .filter(|(_, row)| row.change.dest == dest && !dest.is_empty());
        for seq in done.map(|(seq, _)| *seq).collect::<Vec<_>>() {
            self.remove(seq);
        }
        Ok(())
    }

    fn directed_waiting(&self, dest: &str) -> Result<(u64, u64)> {
        let rows = self.rows.values().filter(|row| row.change.dest == dest);
        Ok(rows.fold((0, 0), |(rows, bytes), row| {
            (rows + 1, bytes + row.change.payload.len() as u64)
        }))
    }

    fn directed_dests(&self) -> Result<Vec<String>> {
        let dests: BTreeSet<&String> = self
            .rows
            .values()
            .map(|row| &row.change.dest)
            .filter(|dest| !dest.is_empty())
            .collect();
        Ok(dests.into_iter().cloned().collect())
    }

    fn lag(&self, after: u64, dest: &str) -> Result<(u64, u64)> {
        let rows = self.rows_after(after, dest, false, usize::MAX, usize::MAX)?;
        Ok((
            rows.len() as u64,
            rows.iter().map(|row| row.change.at).min().unwrap_or_default(),
        ))
    }

    fn partners(&self) -> Result<Vec<PartnerNote>> {
        Ok(self.partners.values().cloned().collect())
    }

    fn note_partner(&mut self, note: &PartnerNote) -> Result<()> {
        self.partners.insert(note.did.clone(), note.clone());
        Ok(())
    }

    fn forget_dest(&mut self, did: &str) -> Result<()> {
        self.partners.remove(did);
        self.parked.retain(|parked| parked.dest != did);
        self.directed_done(did, u64::MAX)
    }

    fn park(&mut self, parked: &Parked, keep: usize) -> Result<()> {
        self.unpark(&parked.dest, &parked.key)?;
        self.parked.push(parked.clone());
        let of_dest = self.parked.iter().filter(|other| other.dest == parked.dest).count();
        for _ in keep..of_dest {
            let oldest = self.parked.iter().position(|other| other.dest == parked.dest).unwrap();
            self.parked.remove(oldest);
        }
        Ok(())
    }

    fn parked_page(&self, dest: Option<&str>, id: Option<&str>, skip: usize, limit: usize) -> Result<Vec<Parked>> {
        let wanted = self
            .parked
            .iter()
            .filter(|parked| dest.is_none_or(|dest| parked.dest == dest) && id.is_none_or(|id| parked.key.id == id));
        Ok(wanted.skip(skip).take(limit).cloned().collect())
    }

    fn parked_count(&self, dest: Option<&str>, id: Option<&str>) -> Result<u64> {
        Ok(self.parked_page(dest, id, 0, usize::MAX)?.len() as u64)
    }

    fn unpark(&mut self, dest: &str, key: &Key) -> Result<bool> {
        let before = self.parked.len();
        self.parked.retain(|parked| parked.dest != dest || parked.key != *key);
        Ok(self.parked.len() < before)
    }

    fn unpark_acked(&mut self, dest: &str, seq: u64) -> Result<()> {
        let newest = &self.newest;
        self.parked.retain(|parked| {
            let row = newest.get(&(parked.key.clone(), String::new())).copied();
            parked.dest != dest || row.is_none_or(|row| row <= parked.seq || row > seq)
        });
        Ok(())
    }

    fn pins(&self) -> Result<Vec<Pin>> {
        Ok(self.pins.values().cloned().collect())
    }

    fn pin(&mut self, pin: &Pin, keep: usize) -> Result<bool> {
        let fits = self.pins.len() < keep || self.pins.contains_key(&pin.did);
        if fits {
            self.pins.insert(pin.did.clone(), pin.clone());
        }
        Ok(fits)
    }

    fn unpin(&mut self, did: &str) -> Result<()> {
        self.pins.remove(did);
        Ok(())
    }

    fn origin(&self, did: &str) -> Result<Option<Position>> {
        Ok(self.origins.get(did).copied().flatten())
    }

    fn set_origin(&mut self, did: &str, position: Option<Position>) -> Result<()> {
        self.origins.insert(did.to_owned(), position);
        Ok(())
    }

    fn receive(
        &mut self,
        origin: &str,
        lines: &[Received],
        position: Option<Position>,
        at: u64,
    ) -> Result<Vec<Verdict>> {
        let mut verdicts = Vec::new();
        for line in lines {
            let verdict = self.receive_one(origin, line, at);
            if verdict == Verdict::Todo(0) {
                self.last_todo += 1;
                self.todo.insert(
                    self.last_todo,
                    Todo {
                        n: self.last_todo,
                        origin: origin.to_owned(),
                        key: line.key.clone(),
                        action: line.action,
                        user: line.user.clone(),
                        payload: line.payload.clone(),
                        hash: line.hash,
                    },
                );
                verdicts.push(Verdict::Todo(self.last_todo));
            } else {
                verdicts.push(verdict);
            }
        }
        if position.is_some() {
            self.set_origin(origin, position)?;
        }
        Ok(verdicts)
    }

    fn held(&self, origin: &str, after: Option<&Key>, to: Option<&Key>, limit: usize) -> Result<Vec<Held>> {
        let range = self.held.iter().filter(|(key, (holder, _))| {
            holder == origin && after.is_none_or(|after| *key > after) && to.is_none_or(|to| *key <= to)
        });
        Ok(range
            .take(limit)
            .map(|(key, (_, hash))| Held {
                key: key.clone(),
                hash: *hash,
            })
            .collect())
    }

    fn holder(&self, key: &Key) -> Result<Option<String>> {
        Ok(self.held.get(key).map(|(origin, _)| origin.clone()))
    }

    fn todo(&self, after: u64, limit: usize) -> Result<Vec<Todo>> {
        let behind = self.todo.range((Bound::Excluded(after), Bound::Unbounded));
        Ok(behind.take(limit).map(|(_, todo)| todo.clone()).collect())
    }

    fn last_todo(&self) -> Result<u64> {
        Ok(self.last_todo)
    }

    fn todo_waiting(&self) -> Result<u64> {
        Ok(self.todo.len() as u64)
    }

    fn published(&mut self, n: u64) -> Result<()> {
        self.todo = self.todo.split_off(&(n + 1));
        Ok(())
    }

    fn give_up(&mut self, origin: &str, key: &Key, hash: Hash) -> Result<()> {
        if let Some((holder, held)) = self.held.get_mut(key)
            && holder == origin
            && *held == hash
        {
            *held = Hash::NONE;
        }
        Ok(())
    }

    fn forget_origin(&mut self, did: &str) -> Result<()> {
        self.origins.remove(did);
        self.held.retain(|_, (origin, _)| origin != did);
        self.todo
            .retain(|_, todo| todo.origin != did || todo.action == Action::Considers);
        Ok(())
    }

    fn origins(&self) -> Result<Vec<String>> {
        let mut all: BTreeSet<String> = self.held.values().map(|(origin, _)| origin.clone()).collect();
        all.extend(self.origins.keys().cloned());
        Ok(all.into_iter().collect())
    }

    fn purge_seen(&mut self, before: u64, limit: usize) -> Result<usize> {
        let old: Vec<_> = self
            .seen
            .iter()
            .filter(|(_, at)| **at < before)
            .map(|(id, _)| id.clone())
            .take(limit)
            .collect();
        for id in &old {
            self.seen.remove(id);
        }
        Ok(old.len())
    }

    fn seen_over(&self, most: usize) -> Result<Vec<(String, usize)>> {
        Ok(self.too_many_seen(most))
    }

    fn forget_seen(&mut self, origin: &str, limit: usize) -> Result<usize> {
        Ok(self.forget_oldest(origin, limit))
    }

    fn held_sum(&self, origin: &str, after: Option<&Key>, to: Option<&Key>) -> Result<(u64, Hash)> {
        let mut sum = Sum::default();
        for held in self.held(origin, after, to, usize::MAX)? {
            sum.add(&held.key, &held.hash);
        }
        Ok(sum.finish())
    }

    fn own_sum(&self, after: Option<&Key>, to: Option<&Key>) -> Result<(u64, Hash)> {
        let mut sum = Sum::default();
        for own in self.own(after, to) {
            if let Some(hash) = own.hash {
                sum.add(&own.key, &hash);
            }
        }
        Ok(sum.finish())
    }
}
