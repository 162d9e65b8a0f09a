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

    /// Forgets of each origin the oldest ids beyond `most`.
    pub(super) fn cap(&mut self, most: usize, limit: usize) -> usize {
        let mut origins: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (id, at) in &self.seen {
            origins.entry(&id.0).or_default().push((*at, id));
        }
        let mut purged = Vec::new();
        for ids in origins.values_mut() {
            ids.sort();
            let over = ids.len().saturating_sub(most).min(limit);
            purged.extend(ids.iter().take(over).map(|(_, id)| (*id).clone()));
        }
        self.seen.retain(|id, _| !purged.contains(id));
        purged.len()
    }
}
