//! What becomes of one received line, and which ids of directed ones are remembered.

use super::MemoryJournal;
use crate::delivery::types::{Received, Verdict};
use crate::wire::Action;
use std::collections::BTreeMap;

impl MemoryJournal {
    /// The verdict; [`Verdict::Todo`] without its number yet.
    pub(super) fn receive_one(&mut self, origin: &str, line: &Received, at: u64) -> Verdict {
        if line.directed && line.once {
            return Verdict::Todo(0);
        }
        if line.directed {
            let id = (origin.to_owned(), line.key.id.clone());
            return match self.seen.insert(id, at) {
                None => Verdict::Todo(0),
                Some(_) => Verdict::Known,
            };
        }
        let ours = self.newest.contains_key(&(line.key.clone(), String::new()));
        let holder = self.held.get(&line.key);
        if ours || holder.is_some_and(|(holder, _)| holder != origin) {
            return Verdict::NotOwner;
        }
        match (line.action, holder) {
            (Action::Delete, None) if !line.once => Verdict::NotHeld,
            (Action::Delete, None) => Verdict::Todo(0),
            (Action::Delete, Some(_)) => {
                self.held.remove(&line.key);
                Verdict::Todo(0)
            }
            (_, Some((_, hash))) if *hash == line.hash && !line.once => Verdict::Known,
            _ => {
                self.held.insert(line.key.clone(), (origin.to_owned(), line.hash));
                Verdict::Todo(0)
            }
        }
    }

    pub(super) fn too_many_seen(&self, most: usize) -> Vec<(String, usize)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (origin, _) in self.seen.keys() {
            *counts.entry(origin).or_default() += 1;
        }
        let over = counts.into_iter().filter(|(_, count)| *count > most);
        over.map(|(origin, count)| (origin.to_owned(), count - most)).collect()
    }

    pub(super) fn forget_oldest(&mut self, origin: &str, limit: usize) -> usize {
        let of_it = self.seen.iter().filter(|(id, _)| id.0 == origin);
        let mut ids: Vec<_> = of_it.map(|(id, at)| (*at, id.clone())).collect();
        ids.sort();
        ids.truncate(limit);
        for (_, id) in &ids {
            self.seen.remove(id);
        }
        ids.len()
    }
}
