//! XSalsa20 as an endless stream, several blocks at a time.
//!
//! Owns the cipher of libp2p's private networks and nothing else: its key, where it stands, and a kibibyte made ahead. Never
//! branches on a key or a text. Always: whatever the pieces are, the bytes are those of the crate `salsa20`, which the tests
//! hold beside it. That one makes a block at a time, at a fourth of the speed or less; each byte between daemons passes it twice.

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch};
use salsa20::cipher::consts::U10;
use salsa20::hsalsa;

/// Bytes of a key.
pub const KEY: usize = 32;
/// Bytes of a nonce.
pub const NONCE: usize = 24;

/// Blocks made at a time: as many as the widest vectors (512 bits) have places.
const AHEAD: usize = 16;

/// A block: sixteen words, each in its bytes.
type Block = [[u8; 4]; 16];

/// The words that Salsa20 has on the diagonal: "expand 32-byte k".
const SIGMA: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// One direction of a stream; see the module's first lines.
pub struct Keystream {
    level: Level,
    /// What every block begins with, its number aside.
    start: [u32; 16],
    /// The number of the next block that is made.
    next: u64,
    ahead: [Block; AHEAD],
    /// Bytes of `ahead` that are used.
    used: usize,
}

impl Keystream {
    /// At its first byte.
    #[must_use]
    pub fn new(key: &[u8; KEY], nonce: &[u8; NONCE]) -> Self {
        let (first, rest) = halves(nonce);
        let derived = hsalsa::<U10>(&(*key).into(), &first.into());
        let [k0, k1, k2, k3, k4, k5, k6, k7] = words(&derived.into());
        let [n0, n1] = words(&rest);
        let [s0, s1, s2, s3] = SIGMA;
        Self {
            level: Level::new(),
            start: [s0, k0, k1, k2, k3, s1, n0, n1, 0, 0, s2, k4, k5, k6, k7, s3],
            next: 0,
            ahead: [[[0; 4]; 16]; AHEAD],
            used: size_of::<[Block; AHEAD]>(),
        }
    }

    /// Encrypts, or decrypts, what comes next.
    pub fn apply(&mut self, mut data: &mut [u8]) {
        while !data.is_empty() {
            let mut left = self
                .ahead
                .as_flattened()
                .as_flattened()
                .get(self.used..)
                .unwrap_or_default();
            if left.is_empty() {
                dispatch!(self.level, simd => make(simd, &self.start, &mut self.next, &mut self.ahead));
                self.used = 0;
                left = self.ahead.as_flattened().as_flattened();
            }
            let now = left.len().min(data.len());
            let (these, later) = data.split_at_mut(now);
            for (byte, key) in these.iter_mut().zip(left) {
                *byte ^= key;
            }
            self.used += now;
            data = later;
        }
    }
}

/// Makes the next blocks, each in a place of its own of every vector.
#[inline(always)]
fn make<S: Simd>(simd: S, start: &[u32; 16], next: &mut u64, out: &mut [Block]) {
    for blocks in out.chunks_mut(S::u32s::LEN) {
        let number = |place: usize| next.wrapping_add(place as u64);
        let mut first: [S::u32s; 16] = start.map(|word| S::u32s::splat(simd, word));
        let [.., low, high, _, _, _, _, _, _] = &mut first;
        *low = S::u32s::from_fn(simd, |place| number(place) as u32);
        *high = S::u32s::from_fn(simd, |place| (number(place) >> 32) as u32);
        *next = number(blocks.len());
        for (at, (word, before)) in rounds(first).into_iter().zip(first).enumerate() {
            let word = word + before;
            for (block, value) in blocks.iter_mut().zip(word.as_slice()) {
                if let Some(place) = block.get_mut(at) {
                    *place = value.to_le_bytes();
                }
            }
        }
    }
}

/// Twenty rounds: ten times the columns, then the rows.
#[inline(always)]
fn rounds<S: Simd, V: SimdInt<S, Element = u32>>(mut words: [V; 16]) -> [V; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = &mut words;
    for _ in 0..10 {
        quarter(a, e, i, m);
        quarter(f, j, n, b);
        quarter(k, o, c, g);
        quarter(p, d, h, l);
        quarter(a, b, c, d);
        quarter(f, g, h, e);
        quarter(k, l, i, j);
        quarter(p, m, n, o);
    }
    words
}

#[inline(always)]
fn quarter<S: Simd, V: SimdInt<S, Element = u32>>(a: &mut V, b: &mut V, c: &mut V, d: &mut V) {
    *b ^= turned(*a + *d, 7);
    *c ^= turned(*b + *a, 9);
    *d ^= turned(*c + *b, 13);
    *a ^= turned(*d + *c, 18);
}

/// Turned left by so many bits.
#[inline(always)]
fn turned<S: Simd, V: SimdInt<S, Element = u32>>(word: V, bits: u32) -> V {
    word << bits | word >> (32 - bits)
}

/// A nonce's part for the key, and the one for the stream.
fn halves(nonce: &[u8; NONCE]) -> ([u8; 16], [u8; 8]) {
    let (mut first, mut rest) = ([0; 16], [0; 8]);
    for (to, from) in first.iter_mut().chain(&mut rest).zip(nonce) {
        *to = *from;
    }
    (first, rest)
}

/// The words of bytes, the lowest byte first.
fn words<const BYTES: usize, const WORDS: usize>(bytes: &[u8; BYTES]) -> [u32; WORDS] {
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use salsa20::XSalsa20;
    use salsa20::cipher::{KeyIvInit, StreamCipher};

    /// The first bytes of the stream for the key and nonce that NaCl's own tests use (`stream3`, `secretbox`).
    #[test]
    fn the_stream_of_nacl() {
        let key = *b"\x1b\x27\x55\x64\x73\xe9\x85\xd4\x62\xcd\x51\x19\x7a\x9a\x46\xc7\x60\x09\x54\x9e\xac\x64\x74\xf2\x06\xc4\xee\x08\x44\xf6\x83\x89";
        let nonce =
            *b"\x69\x69\x6e\xe9\x55\xb6\x2b\x73\xcd\x62\xbd\xa8\x75\xfc\x73\xd6\x82\x19\xe0\x03\x6b\x7a\x0b\x37";
        let mut bytes = [0; 32];
        Keystream::new(&key, &nonce).apply(&mut bytes);
        let wanted = b"\xee\xa6\xa7\x25\x1c\x1e\x72\x91\x6d\x11\xc2\xcb\x21\x4d\x3c\x25\x25\x39\x12\x1d\x8e\x23\x4e\x65\x2d\x65\x1f\xa4\xc8\xcf\xf8\x80";
        assert_eq!(&bytes, wanted);
    }

    /// All that this processor has.
    fn levels() -> Vec<Level> {
        let widest = Level::new();
        let mut levels = vec![widest];
        #[cfg(target_arch = "x86_64")]
        levels.extend(
            widest
                .as_sse4_2()
                .map(Level::Sse4_2)
                .into_iter()
                .chain(widest.as_avx2().map(Level::Avx2)),
        );
        levels
    }

    proptest! {
        #[test]
        fn any_pieces_are_as_the_other_one_makes_them(
            key: [u8; KEY],
            nonce: [u8; NONCE],
            pieces in prop::collection::vec(0_usize..5000, 1..20),
        ) {
            let mut own = Keystream::new(&key, &nonce);
            let mut other = XSalsa20::new(&key.into(), &nonce.into());
            for (number, size) in pieces.into_iter().enumerate() {
                let mut here = vec![number as u8; size];
                let mut there = here.clone();
                own.apply(&mut here);
                other.apply_keystream(&mut there);
                prop_assert_eq!(here, there);
            }
        }

        #[test]
        fn every_width_makes_the_same(start: [u32; 16], next: u64) {
            let made = |level: Level| {
                let (mut next, mut out) = (next, [[[0; 4]; 16]; AHEAD]);
                dispatch!(level, simd => make(simd, &start, &mut next, &mut out));
                (next, out)
            };
            for level in levels() {
                prop_assert_eq!(made(level), made(Level::baseline()));
            }
        }
    }
}
