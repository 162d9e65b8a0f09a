//! The cipher of private networks: ours, beside the one of libp2p's own layer, in pieces as streams have them.

use crate::verdict;
use oc_xsalsa::Keystream;
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit, StreamCipher};
use std::hint::black_box;
use std::time::Instant;

/// Bytes of a piece: one event, a read of a burst, a write of a burst.
const PIECES: [usize; 3] = [1_200, 8 * 1024, 32 * 1024];
/// Bytes of a round.
const ROUND: usize = 32 << 20;
/// Rounds, of which the best counts: whatever else runs here makes them slower, never faster.
const ROUNDS: usize = 5;

/// Everything of this section.
pub fn cipher() {
    println!("== the private network's cipher, nanoseconds a byte");
    let (key, nonce) = ([7; 32], [9; 24]);
    let mut own = Keystream::new(&key, &nonce);
    let mut other = XSalsa20::new(&key.into(), &nonce.into());
    for size in PIECES {
        let here = best(size, |piece| own.apply(piece));
        let there = best(size, |piece| other.apply_keystream(piece));
        println!(
            "  pieces of {size:6}: libp2p's {there:.2}, ours {here:.2}: {:.1} times as fast (target 3: {})",
            there / here,
            verdict(there >= 3.0 * here)
        );
    }
    println!();
}

fn best(size: usize, mut apply: impl FnMut(&mut [u8])) -> f64 {
    let mut piece = vec![0; size];
    let rounds = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        for _ in 0..ROUND / size {
            apply(black_box(&mut piece));
        }
        began.elapsed().as_nanos() as f64 / (ROUND / size * size) as f64
    });
    rounds.fold(f64::INFINITY, f64::min)
}
