//! What went out under which id, so that a PB_DELETE that names only an id can be recognised as ours.
//!
//! A bounded memory of this process; what it has forgotten, the store may still know. It keeps a keyed hash of each id
//! instead of the id: nobody outside can make two ids meet, and a hundred thousand cost two megabytes. Always: an id is
//! in it only because a document with our `creator_id` went out under it.

use crate::wire::DataType;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// Ids remembered; past it the oldest is forgotten.
const REMEMBERED: usize = 100_000;

/// The memory.
#[derive(Debug, Default)]
pub struct Propagated {
    known: HashSet<u64>,
    order: VecDeque<u64>,
    hashes: RandomState,
}

impl Propagated {
    /// A document of ours went out under this id.
    pub fn went_out(&mut self, datatype: DataType, id: &str) {
        let key = self.hashes.hash_one((datatype, id));
        if !self.known.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether one did.
    #[must_use]
    pub fn contains(&self, datatype: DataType, id: &str) -> bool {
        self.known.contains(&self.hashes.hash_one((datatype, id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_what_went_out_within_its_bound() {
        let mut memory = Propagated::default();
        memory.went_out(DataType::Booking, "first");
        assert!(memory.contains(DataType::Booking, "first") && !memory.contains(DataType::Order, "first"));
        for n in 0..REMEMBERED {
            memory.went_out(DataType::Booking, &n.to_string());
        }
        assert!(!memory.contains(DataType::Booking, "first"));
        assert!(memory.contains(DataType::Booking, "99999") && memory.known.len() == REMEMBERED);
    }
}
