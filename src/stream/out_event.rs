//! One event on its way out: its line is made once, whoever it goes to.
//!
//! Owns the choice between the signed and the plain form. Never knows a peer. Always: both forms say the same.

use crate::wire::{Action, Event};
use bytes::Bytes;
use libp2p::identity::Keypair;
use std::sync::OnceLock;
use std::time::Instant;
use tracing::warn;

/// One event on its way to one or many peers; its line is made once for all of them.
#[derive(Debug)]
pub struct OutEvent {
    event: Event,
    /// The resource's id, for the log.
    pub id: String,
    /// When it was taken from NATS.
    pub at: Instant,
    plain: OnceLock<Bytes>,
    signed: OnceLock<Bytes>,
}

impl OutEvent {
    /// An event that was taken from NATS at `at`.
    #[must_use]
    pub fn new(event: Event, id: String, at: Instant) -> Self {
        Self {
            event,
            id,
            at,
            plain: OnceLock::new(),
            signed: OnceLock::new(),
        }
    }

    pub(super) fn action(&self) -> Action {
        self.event.kind
    }

    /// Bytes that it roughly takes on the wire and in memory.
    pub(super) fn weight(&self) -> u32 {
        u32::try_from(self.event.payload.len().saturating_mul(2) + 512).unwrap_or(u32::MAX)
    }

    pub(super) fn line(&self, unsigned: bool, key: &Keypair) -> Bytes {
        if unsigned {
            return self.plain.get_or_init(|| self.event.write_line().into()).clone();
        }
        let signed = || {
            let mut event = self.event.clone();
            if let Err(error) = event.sign(key) {
                // Unsigned events are taken from the authenticated connection, so this is no reason to lose one.
                warn!(%error, "an event could not be signed");
            }
            event.write_line().into()
        };
        self.signed.get_or_init(signed).clone()
    }
}
