//! What becomes of one received line.

use super::MemoryJournal;
use crate::delivery::types::{Received, Verdict};
use crate::wire::Action;

impl MemoryJournal {
    /// The verdict; [`Verdict::Todo`] without its number yet.
    pub(super) fn receive_one(&mut self, origin: &str, line: &Received, at: u64) -> Verdict {
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
}
