//! Frames with their length in front, as the first words on a stream are: gathered from pieces, and written.
//!
//! Pure. Always: no more is held than [`MOST`] bytes and their length, and what is no such frame comes back as it came.

/// Longest frame gathered; identify takes no longer message.
const MOST: usize = 4096;
/// Bytes of a length up to [`MOST`].
const LENGTH_BYTES: usize = 2;

/// A frame that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Frame {
    raw: Vec<u8>,
    /// Where its body begins and ends, once that is known.
    body: Option<(usize, usize)>,
}

/// What a frame has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gathered {
    /// More of it has to come.
    Part,
    /// All of it.
    Whole(Vec<u8>),
    /// It is too long, or none: what came of it.
    None(Vec<u8>),
}

impl Frame {
    /// How many bytes may be pushed and are all its own.
    pub(super) fn wants(&self) -> usize {
        self.body.map_or(1, |(_, end)| end.saturating_sub(self.raw.len()))
    }

    /// Takes a piece of at most the bytes wanted.
    pub(super) fn push(&mut self, piece: &[u8]) -> Gathered {
        self.raw.extend_from_slice(piece);
        if self.body.is_none() {
            match length(&self.raw) {
                Some((length, _)) if length <= MOST => self.body = Some((self.raw.len(), self.raw.len() + length)),
                None if self.raw.len() < LENGTH_BYTES => return Gathered::Part,
                _ => return Gathered::None(self.take_raw()),
            }
        }
        if self.wants() > 0 {
            return Gathered::Part;
        }
        let (start, _) = self.body.take().unwrap_or_default();
        let mut whole = self.take_raw();
        whole.drain(..start);
        Gathered::Whole(whole)
    }

    /// Whether something of it has come.
    pub(super) fn is_begun(&self) -> bool {
        !self.raw.is_empty()
    }

    /// What came of a frame that will not be whole.
    pub(super) fn take_raw(&mut self) -> Vec<u8> {
        self.body = None;
        std::mem::take(&mut self.raw)
    }
}

/// The length at the beginning, seven bits a byte, and what comes behind it; nothing when it takes more than two bytes, or more
/// than it has to.
pub(super) fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [low, rest @ ..] if low & 0x80 == 0 => Some((usize::from(*low), rest)),
        [low, high @ 1..0x80, rest @ ..] => Some((usize::from(low & 0x7f) | usize::from(*high) << 7, rest)),
        _ => None,
    }
}

/// A frame of up to 16 KiB, written.
pub(super) fn encode(body: &[u8]) -> Vec<u8> {
    let low = u8::try_from(body.len() & 0x7f).unwrap_or_default();
    let high = u8::try_from(body.len() >> 7).unwrap_or(0x7f);
    let length: &[u8] = if high == 0 { &[low] } else { &[low | 0x80, high] };
    [length, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All that comes back of a stream of bytes that is given piece by piece: frames, and what is none.
    fn gathered(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (mut frame, mut whole, mut rest) = (Frame::default(), Vec::new(), bytes);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(frame.wants().min(piece).min(rest.len()));
            rest = later;
            match frame.push(now) {
                Gathered::Part => {}
                Gathered::Whole(body) => whole.push(body),
                Gathered::None(raw) => return (whole, [raw.as_slice(), rest].concat()),
            }
        }
        (whole, frame.take_raw())
    }

    proptest! {
        #[test]
        fn frames_come_back_whole_however_they_are_cut(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..5),
            piece in 1_usize..50,
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| encode(frame)).collect();
            prop_assert_eq!(gathered(&bytes, piece), (frames, Vec::new()));
        }

        #[test]
        fn no_byte_is_lost_of_anything(bytes in proptest::collection::vec(any::<u8>(), 0..9000), piece in 1_usize..50) {
            let (frames, rest) = gathered(&bytes, piece);
            let begun: usize = frames.iter().map(|frame| encode(frame).len()).sum();
            prop_assert_eq!(begun + rest.len(), bytes.len());
            prop_assert!(bytes.ends_with(&rest));
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_none() {
        let long = encode(&[7; MOST + 1]);
        assert_eq!(gathered(&long, 10), (vec![], long.clone()));
        let most = [7; MOST];
        assert_eq!(gathered(&encode(&most), 10), (vec![most.to_vec()], vec![]));
        assert_eq!(gathered(&[0x80, 0x80, 0x01], 1), (vec![], vec![0x80, 0x80, 0x01]));
        assert_eq!(gathered(&[0x81, 0x00, 0x01], 1), (vec![], vec![0x81, 0x00, 0x01]));
    }
}
