//! The bandwidth challenge: random bytes that the peer must echo, `/opencloud/probe/1.0`.
//!
//! Owns both sides of it and who was challenged when. Always: a passed challenge counts for a minute, and we echo at
//! most [`ECHO_BYTES`] a probe and [`ECHOES`] probes in a row to one peer.

use super::{StreamService, locked};
use crate::model::TokenBucket;
use crate::network::Incoming;
use crate::wire::protocol;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use rand::RngCore;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Bytes of our challenge.
const CHALLENGE_BYTES: usize = 32 * 1024;
/// Bytes that we echo at most.
const ECHO_BYTES: usize = 64 * 1024;
/// Bytes written in one go. The cipher below keeps, for each connection and for ever, buffers as large as the largest
/// piece that it was given: in one piece the challenge would cost every partner 64 KiB for good.
const PIECE: usize = 4 * 1024;
/// Whole duration of a challenge, and of an echo.
const CHALLENGE_TIME: Duration = Duration::from_secs(5);
/// A passed challenge counts for this long.
const PASSED_FOR: Duration = Duration::from_secs(60);
/// Echoes to one peer in a row; one more a minute after that. A peer that reconnects often needs several.
const ECHOES: u32 = 8;
/// Peers remembered. When full, unknown ones are challenged and echoed without being remembered.
const PEERS: usize = 10_000;

/// Who passed when, and how often each peer was echoed.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    passed: HashMap<PeerId, Instant>,
    echoes: HashMap<PeerId, (TokenBucket, Instant)>,
}

impl Ledger {
    fn has_passed(&self, peer: &PeerId, now: Instant) -> bool {
        self.passed
            .get(peer)
            .is_some_and(|at| now.duration_since(*at) < PASSED_FOR)
    }

    fn note_passed(&mut self, peer: PeerId, now: Instant) {
        if self.passed.len() < PEERS {
            self.passed.insert(peer, now);
        }
    }

    fn may_echo(&mut self, peer: PeerId, now: Instant) -> bool {
        if self.echoes.len() >= PEERS && !self.echoes.contains_key(&peer) {
            return true;
        }
        let fresh = || (TokenBucket::new(1.0 / 60.0, f64::from(ECHOES)), now);
        let (bucket, used) = self.echoes.entry(peer).or_insert_with(fresh);
        *used = now;
        bucket.take(now)
    }

    /// Forgets what no longer matters.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.passed.retain(|_, at| now.duration_since(*at) < PASSED_FOR);
        self.echoes
            .retain(|_, (_, used)| now.duration_since(*used) < PASSED_FOR * ECHOES);
    }
}

impl StreamService {
    /// The diagrams' `CheckHeartbeat`: challenges the opener of a heartbeat stream.
    pub(super) async fn check_heartbeat(&self, peer: PeerId) -> Result<(), String> {
        if locked(&self.0.probes).has_passed(&peer, Instant::now()) {
            return Ok(());
        }
        let outcome = match tokio::time::timeout(CHALLENGE_TIME, self.challenge(peer)).await {
            Ok(outcome) => outcome,
            Err(_) => Err("no echo in 5 s".to_owned()),
        };
        self.0
            .metrics
            .challenged(if outcome.is_ok() { "passed" } else { "failed" });
        if outcome.is_ok() {
            locked(&self.0.probes).note_passed(peer, Instant::now());
        }
        outcome
    }

    async fn challenge(&self, peer: PeerId) -> Result<(), String> {
        let mut stream = self
            .0
            .network
            .open(peer, protocol::PROBE)
            .await
            .map_err(|error| error.to_string())?;
        let mut bytes = vec![0; CHALLENGE_BYTES];
        rand::thread_rng().fill_bytes(&mut bytes);
        let (reader, mut writer) = (&mut stream).split();
        let send = async {
            for piece in bytes.chunks(PIECE) {
                writer.write_all(piece).await?;
                writer.flush().await?;
            }
            writer.close().await
        };
        let mut echo = Vec::with_capacity(CHALLENGE_BYTES);
        let receive = async { reader.take(CHALLENGE_BYTES as u64 + 1).read_to_end(&mut echo).await };
        let (sent, received) = futures::join!(send, receive);
        sent.map_err(|error| error.to_string())?;
        received.map_err(|error| error.to_string())?;
        if echo == bytes {
            Ok(())
        } else {
            Err(format!("{} bytes came back, or other ones", echo.len()))
        }
    }

    /// The other side of it: echoes what comes until its end.
    pub(super) async fn echo_probe(self, incoming: Incoming) {
        let Incoming {
            peer,
            mut stream,
            place: _place,
            ..
        } = incoming;
        if self.federation().known(&peer).is_none() {
            return self
                .0
                .refusals
                .refuse("unknown_peer", &peer.to_string(), protocol::PROBE);
        }
        if !locked(&self.0.probes).may_echo(peer, Instant::now()) {
            return self
                .0
                .refusals
                .refuse("too_many_probes", &peer.to_string(), protocol::PROBE);
        }
        let echo = async {
            let mut left = ECHO_BYTES;
            let mut piece = vec![0; PIECE];
            loop {
                let read = stream.read(&mut piece).await?;
                let bytes = piece.get(..read).unwrap_or_default();
                if bytes.is_empty() {
                    return stream.close().await;
                }
                let Some(rest) = left.checked_sub(bytes.len()) else {
                    let detail = format_args!("more than {ECHO_BYTES} bytes to echo");
                    self.0.refusals.refuse("probe_too_large", &peer.to_string(), detail);
                    return Ok(());
                };
                left = rest;
                stream.write_all(bytes).await?;
                stream.flush().await?;
            }
        };
        let _: Result<std::io::Result<()>, _> = tokio::time::timeout(CHALLENGE_TIME, echo).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passed_challenge_counts_for_a_minute() {
        let (mut ledger, peer, now) = (Ledger::default(), PeerId::random(), Instant::now());
        assert!(!ledger.has_passed(&peer, now));
        ledger.note_passed(peer, now);
        assert!(ledger.has_passed(&peer, now + Duration::from_secs(59)));
        assert!(!ledger.has_passed(&peer, now + Duration::from_secs(60)));
        ledger.sweep(now + Duration::from_secs(60));
        assert!(ledger.passed.is_empty());
    }

    #[test]
    fn one_peer_is_echoed_a_few_times_in_a_row_and_then_once_a_minute() {
        let (mut ledger, peer, now) = (Ledger::default(), PeerId::random(), Instant::now());
        let echoed = (0..100).filter(|_| ledger.may_echo(peer, now)).count();
        assert_eq!(echoed, 8);
        assert!(ledger.may_echo(peer, now + Duration::from_secs(61)));
        assert!(!ledger.may_echo(peer, now + Duration::from_secs(61)));
        assert!(ledger.may_echo(PeerId::random(), now), "another peer is not held to it");
    }
}
