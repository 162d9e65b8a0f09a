//! What a partner's place in our feed is worth.
//!
//! Pure. Always holds: a place is trusted only when this very history led to it, so a journal that came back from a
//! backup, on either side, is seen and not assumed away.

use super::types::{Feed, Position};

/// Where to go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Everything up to here is known there: the rows behind it are enough.
    Tail(u64),
    /// Nothing can be said: both lists are compared.
    Digest(Lost),
}

/// Why a partner's place is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It states none.
    NoPlace,
    /// It is a place in another journal.
    OtherJournal,
    /// It is of a life that this journal does not have.
    UnknownLife,
    /// It is further than this journal ever led.
    Beyond,
    /// Deletes behind it are not kept any more.
    Purged,
}

impl Lost {
    /// In words for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NoPlace => "it knows nothing of our feed: it is new, was admitted again, or its journal was lost",
            Self::OtherJournal => "it was last delivered to from another journal: ours is new",
            Self::UnknownLife => {
                "ours or its journal was restored from a backup: it names a life that ours does not know"
            }
            Self::Beyond => "our journal was restored from a backup: it has had more than ours says",
            Self::Purged => {
                "it was away for longer than deletes are kept, or its journal was restored from an old backup"
            }
        }
    }
}

/// Judges the place that a partner states. `head` and `floor` are those of now, the rest of `feed` is for life.
///
/// A life that we know ends where the next one began: a place beyond that was given by a history that this journal does
/// not have. There is no lower end: a life adopts the places of those before it.
#[must_use]
pub fn judge(feed: &Feed, head: u64, floor: u64, have: Option<&Position>) -> Place {
    let Some(have) = have else {
        return Place::Digest(Lost::NoPlace);
    };
    if have.lineage != feed.lineage {
        return Place::Digest(Lost::OtherJournal);
    }
    let mut lives = feed.incarnations.iter();
    if !lives.any(|life| life.id == have.incarnation) {
        return Place::Digest(Lost::UnknownLife);
    }
    let end = lives.next().map_or(head, |next| next.first_seq.saturating_sub(1));
    if have.seq > end {
        return Place::Digest(Lost::Beyond);
    }
    if have.seq < floor {
        return Place::Digest(Lost::Purged);
    }
    Place::Tail(have.seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Incarnation, Token};

    fn at(lineage: u8, life: u8, seq: u64) -> Position {
        Position {
            lineage: Token([lineage; 16]),
            incarnation: Token([life; 16]),
            seq,
        }
    }

    #[test]
    fn only_a_place_of_this_history_is_gone_on_from() {
        let life = |id: u8, first_seq| Incarnation {
            id: Token([id; 16]),
            first_seq,
        };
        let feed = Feed {
            lineage: Token([1; 16]),
            head: 0,
            floor: 0,
            incarnations: vec![life(1, 1), life(2, 11), life(3, 21)],
        };
        for (have, wanted) in [
            (None, Place::Digest(Lost::NoPlace)),
            (Some(at(9, 2, 15)), Place::Digest(Lost::OtherJournal)),
            (Some(at(1, 9, 15)), Place::Digest(Lost::UnknownLife)),
            (Some(at(1, 1, 10)), Place::Tail(10)),
            (Some(at(1, 1, 11)), Place::Digest(Lost::Beyond)),
            (Some(at(1, 2, 8)), Place::Tail(8)),
            (Some(at(1, 2, 20)), Place::Tail(20)),
            (Some(at(1, 2, 21)), Place::Digest(Lost::Beyond)),
            (Some(at(1, 3, 30)), Place::Tail(30)),
            (Some(at(1, 3, 31)), Place::Digest(Lost::Beyond)),
            (Some(at(1, 3, 4)), Place::Digest(Lost::Purged)),
            (Some(at(1, 3, 5)), Place::Tail(5)),
        ] {
            assert_eq!(judge(&feed, 30, 5, have.as_ref()), wanted, "{have:?}");
        }
    }

    #[test]
    fn a_place_is_told_to_people_in_one_short_line() {
        assert_eq!(at(1, 0xab, 1207).to_string(), "1207 (journal 01010101, life abababab)");
    }
}
