//! The other spelling of Kademlia's name: some peers say `oc/kad/1.0.0`, which libp2p here can neither hear nor say.
//!
//! Pure. Owns what is changed in the first frames of a stream: a proposed name and its answer, and the names that identify
//! lists. Always: everything else passes as it is, and after these frames nothing is looked at any more; to others who know both
//! spellings nothing changes.

use super::frame::{encode, length};
use crate::wire::protocol;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const HEADER: &[u8] = b"/multistream/1.0.0\n";
const IDENTIFY: &str = "/ipfs/id/1.0.0";
const PUSH: &str = "/ipfs/id/push/1.0.0";
/// The field of identify's message that lists protocols, and the tag of it with bytes behind.
const PROTOCOLS: u8 = 3 << 3 | 2;

/// The name without the slash.
fn other() -> &'static [u8] {
    protocol::KAD.trim_start_matches('/').as_bytes()
}

/// Whether the far side of a connection knows the other spelling only.
pub(super) type FarSaysOther = Arc<AtomicBool>;

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Read,
    Written,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Unsettled,
    Kademlia,
    /// With the way that its message goes.
    Identify(Way),
    Nothing,
}

/// What the two ends of one stream have said so far.
#[derive(Debug)]
pub(super) struct Talk {
    /// The way the proposal goes.
    proposal: Way,
    subject: Subject,
    read: u8,
    written: u8,
    far: FarSaysOther,
}

impl Talk {
    /// Of a stream whose proposal goes this way.
    pub(super) fn new(proposal: Way, far: FarSaysOther) -> Self {
        Self {
            proposal,
            subject: Subject::Unsettled,
            read: 0,
            written: 0,
            far,
        }
    }

    /// Whether the next frame this way is looked at.
    pub(super) fn looks(&self, way: Way) -> bool {
        let count = if way == Way::Read { self.read } else { self.written };
        match self.subject {
            Subject::Nothing => false,
            Subject::Identify(message) if message == way => count < 3,
            _ => count < 2,
        }
    }

    /// No frame is looked at any more.
    pub(super) fn give_up(&mut self) {
        self.subject = Subject::Nothing;
    }

    /// What is handed on in place of a frame.
    pub(super) fn hand_on(&mut self, way: Way, frame: Vec<u8>) -> Vec<u8> {
        let count = if way == Way::Read {
            &mut self.read
        } else {
            &mut self.written
        };
        let at = *count;
        *count += 1;
        match at {
            0 if frame == HEADER => frame,
            1 if way == self.proposal => self.proposed(frame),
            1 => self.answered(frame),
            2 => self.identified(way, frame),
            _ => {
                self.give_up();
                frame
            }
        }
    }

    fn proposed(&mut self, frame: Vec<u8>) -> Vec<u8> {
        let name = frame.strip_suffix(b"\n").unwrap_or_default();
        let answer = if self.proposal == Way::Read {
            Way::Written
        } else {
            Way::Read
        };
        let (subject, handed_on) = if name == IDENTIFY.as_bytes() {
            (Subject::Identify(answer), frame)
        } else if name == PUSH.as_bytes() {
            (Subject::Identify(self.proposal), frame)
        } else if self.proposal == Way::Read && name == other() {
            (Subject::Kademlia, with_slash())
        } else if self.proposal == Way::Written && name == protocol::KAD.as_bytes() && self.far.load(Ordering::Relaxed)
        {
            (Subject::Kademlia, without_slash())
        } else {
            (Subject::Nothing, frame)
        };
        self.subject = subject;
        handed_on
    }

    fn answered(&mut self, frame: Vec<u8>) -> Vec<u8> {
        let agreed = match self.subject {
            Subject::Kademlia if self.proposal == Way::Read && frame == with_slash() => Some(without_slash()),
            Subject::Kademlia if self.proposal == Way::Written && frame == without_slash() => Some(with_slash()),
            Subject::Identify(_) if frame.starts_with(b"/ipfs/id/") => return frame,
            _ => None,
        };
        self.give_up();
        agreed.unwrap_or(frame)
    }

    fn identified(&mut self, way: Way, message: Vec<u8>) -> Vec<u8> {
        self.give_up();
        let Some(says) = Says::of(&message) else { return message };
        if way == Way::Written {
            return if says.ours && !says.other {
                with_both(message)
            } else {
                message
            };
        }
        let only_other = says.other && !says.ours;
        self.far.store(only_other, Ordering::Relaxed);
        if only_other { with_ours(&message) } else { message }
    }
}

fn with_slash() -> Vec<u8> {
    [protocol::KAD.as_bytes(), b"\n"].concat()
}

fn without_slash() -> Vec<u8> {
    [other(), b"\n"].concat()
}

/// Which spellings a message of identify lists.
struct Says {
    ours: bool,
    other: bool,
}

impl Says {
    fn of(message: &[u8]) -> Option<Self> {
        let mut says = Self {
            ours: false,
            other: false,
        };
        for (tag, body) in fields(message)? {
            says.ours |= tag == PROTOCOLS && body == protocol::KAD.as_bytes();
            says.other |= tag == PROTOCOLS && body == other();
        }
        Some(says)
    }
}

/// The fields of a message, all of which have bytes behind their tags of one byte; nothing when it is not such a one.
fn fields(mut message: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut fields = Vec::new();
    while let Some((tag, rest)) = message.split_first() {
        let (length, body) = length(rest)?;
        if *tag & 0x87 != 2 || length > body.len() {
            return None;
        }
        let (body, rest) = body.split_at(length);
        fields.push((*tag, body));
        message = rest;
    }
    Some(fields)
}

fn with_both(mut message: Vec<u8>) -> Vec<u8> {
    message.push(PROTOCOLS);
    message.extend(encode(other()));
    message
}

fn with_ours(message: &[u8]) -> Vec<u8> {
    let mut handed_on = Vec::with_capacity(message.len() + 1);
    for (tag, body) in fields(message).unwrap_or_default() {
        let is_other = tag == PROTOCOLS && body == other();
        handed_on.push(tag);
        handed_on.extend(encode(if is_other { protocol::KAD.as_bytes() } else { body }));
    }
    handed_on
}

#[cfg(test)]
mod tests {
    use super::*;
    use Way::{Read, Written};
    use proptest::prelude::*;

    fn talk(proposal: Way, far: bool) -> Talk {
        Talk::new(proposal, Arc::new(AtomicBool::new(far)))
    }

    fn begun(proposal: Way, far: bool) -> Talk {
        let mut talk = talk(proposal, far);
        for way in [Written, Read] {
            assert_eq!(talk.hand_on(way, HEADER.to_vec()), HEADER);
        }
        talk
    }

    fn listing(names: &[&str]) -> Vec<u8> {
        let mut message = vec![0x0a, 2, 8, 1, 0x12, 0];
        for name in names {
            message.push(PROTOCOLS);
            message.extend(encode(name.as_bytes()));
        }
        message
    }

    #[test]
    fn the_other_spelling_is_heard_as_ours_and_answered_as_it_was_said() {
        let mut inbound = begun(Read, false);
        assert_eq!(inbound.hand_on(Read, b"oc/kad/1.0.0\n".to_vec()), b"/oc/kad/1.0.0\n");
        assert!(!inbound.looks(Read) && inbound.looks(Written));
        assert_eq!(inbound.hand_on(Written, b"/oc/kad/1.0.0\n".to_vec()), b"oc/kad/1.0.0\n");
        assert!(!inbound.looks(Written));
        let mut refused = begun(Read, false);
        refused.hand_on(Read, b"oc/kad/1.0.0\n".to_vec());
        assert_eq!(refused.hand_on(Written, b"na\n".to_vec()), b"na\n");
        assert!(!refused.looks(Read) && !refused.looks(Written));
    }

    #[test]
    fn it_is_said_to_whoever_lists_no_other() {
        let mut outbound = begun(Written, true);
        assert_eq!(
            outbound.hand_on(Written, b"/oc/kad/1.0.0\n".to_vec()),
            b"oc/kad/1.0.0\n"
        );
        assert_eq!(outbound.hand_on(Read, b"oc/kad/1.0.0\n".to_vec()), b"/oc/kad/1.0.0\n");
        assert!(!outbound.looks(Read) && !outbound.looks(Written));
        let mut ours = begun(Written, false);
        assert_eq!(ours.hand_on(Written, b"/oc/kad/1.0.0\n".to_vec()), b"/oc/kad/1.0.0\n");
        assert!(!ours.looks(Read));
    }

    #[test]
    fn we_list_both_and_hear_one_spelling_as_the_other() {
        for (name, proposal) in [(IDENTIFY, Read), (PUSH, Written)] {
            let mut talk = begun(proposal, false);
            let answer = if proposal == Read { Written } else { Read };
            for way in [proposal, answer] {
                assert!(talk.looks(way));
                talk.hand_on(way, format!("{name}\n").into_bytes());
            }
            assert!(talk.looks(Written) && !talk.looks(Read));
            let said = talk.hand_on(Written, listing(&["/a", "/oc/kad/1.0.0"]));
            assert_eq!(said, listing(&["/a", "/oc/kad/1.0.0", "oc/kad/1.0.0"]));
            assert!(!talk.looks(Written));
        }
        let heard = |names: &[&str]| {
            let mut talk = begun(Written, false);
            for way in [Written, Read] {
                talk.hand_on(way, format!("{IDENTIFY}\n").into_bytes());
            }
            let heard = talk.hand_on(Read, listing(names));
            (heard, talk.far.load(Ordering::Relaxed))
        };
        let both = ["oc/kad/1.0.0", "/oc/kad/1.0.0"];
        assert_eq!(heard(&both), (listing(&both), false));
        assert_eq!(heard(&both[1..]), (listing(&both[1..]), false));
        assert_eq!(
            heard(&["oc/kad/1.0.0", "/a"]),
            (listing(&["/oc/kad/1.0.0", "/a"]), true)
        );
        assert_eq!(heard(&["/a"]), (listing(&["/a"]), false));
    }

    #[test]
    fn who_does_not_take_part_in_the_dht_does_not_say_so() {
        let mut talk = begun(Read, false);
        for way in [Read, Written] {
            talk.hand_on(way, format!("{IDENTIFY}\n").into_bytes());
        }
        assert_eq!(talk.hand_on(Written, listing(&["/a"])), listing(&["/a"]));
    }

    proptest! {
        #[test]
        fn whatever_else_is_said_passes_as_it_is(
            frames in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
            proposal in any::<bool>(),
        ) {
            let mut talk = talk(if proposal { Read } else { Written }, true);
            for (way, frame) in frames {
                let way = if way { Read } else { Written };
                if talk.looks(way) {
                    prop_assert_eq!(talk.hand_on(way, frame.clone()), frame);
                }
            }
            prop_assert!(talk.read <= 3 && talk.written <= 3);
        }

        #[test]
        fn a_message_that_is_none_passes_as_it_is(message in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut talk = begun(Written, false);
            for way in [Written, Read] {
                talk.hand_on(way, format!("{IDENTIFY}\n").into_bytes());
            }
            prop_assert_eq!(talk.hand_on(Read, message.clone()), message);
        }
    }
}
