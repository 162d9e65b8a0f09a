//! What went out under which id, so that a PB_DELETE that names only an id can be recognised as ours.
//!
//! A bounded memory of this process; what it has forgotten, the store may still know. Always: an id is in it only
//! because a document with our `creator_id` went out under it.

use crate::wire::DataType;
use std::collections::{HashSet, VecDeque};

/// Ids remembered; past it the oldest is forgotten.
const REMEMBERED: usize = 100_000;

/// The memory.
#[derive(Debug, Default)]
pub struct Propagated {
    known: HashSet<(DataType, String)>,
    order: VecDeque<(DataType, String)>,
}

impl Propagated {
    /// A document of ours went out under this id.
    pub fn went_out(&mut self, datatype: DataType, id: &str) {
        let key = (datatype, id.to_owned());
        if !self.known.insert(key.clone()) {
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
        self.known.contains(&(datatype, id.to_owned()))
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
