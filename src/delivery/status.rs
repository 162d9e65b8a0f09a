//! How each courier stands, for people and programs.
//!
//! Owns the snapshot that couriers write and others read. Never decides anything.

use super::types::PartnerNote;
use serde::Serialize;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How one destination stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PartnerStatus {
    /// Its DID.
    pub did: String,
    /// Its name, as its document says.
    pub name: String,
    /// `off`, `wait`, `greet`, `digest`, `tail` or `legacy`.
    pub state: &'static str,
    /// Everything up to here was acknowledged, or sent to a `/1.0` peer.
    pub acked_seq: u64,
    /// When: milliseconds since 1970; 0 is never.
    pub acked_at: u64,
    /// The newest change there is.
    pub head: u64,
    /// Changes that it does not have yet.
    pub lag_rows: u64,
    /// The age of the oldest of them, in seconds.
    pub lag_seconds: u64,
    /// It knows only the `/1.0` protocols: sent, not confirmed.
    pub legacy: bool,
    /// Why it takes nothing now; empty when it does.
    pub hold_code: String,
    /// Why the last session ended, or could not begin.
    pub last_error: String,
    /// Changes parked for it.
    pub parked: u64,
}

impl PartnerStatus {
    /// Whether a session runs, or is about to: nobody said that nothing is taken.
    #[must_use]
    pub fn is_delivering(&self) -> bool {
        matches!(self.state, "greet" | "digest" | "tail" | "legacy")
            || (self.state == "wait" && self.hold_code.is_empty())
    }
}

/// A courier's own part of it.
#[derive(Debug, Default)]
pub struct CourierStatus(Mutex<PartnerStatus>);

impl CourierStatus {
    fn locked(&self) -> MutexGuard<'_, PartnerStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn named(did: &str, name: String) -> Self {
        let status = PartnerStatus {
            did: did.to_owned(),
            name,
            state: "off",
            ..PartnerStatus::default()
        };
        Self(Mutex::new(status))
    }

    pub(super) fn set(&self, state: &'static str, note: &PartnerNote, head: u64) {
        let mut status = self.locked();
        status.state = state;
        (status.acked_seq, status.acked_at, status.head) = (note.acked_seq, note.acked_at, head);
        status.legacy = note.legacy;
        if status.hold_code != note.hold_code {
            note.hold_code.clone_into(&mut status.hold_code);
        }
        if matches!(state, "tail" | "legacy") && !status.last_error.is_empty() {
            status.last_error.clear();
        }
    }

    pub(super) fn failed(&self, why: &str) {
        why.clone_into(&mut self.locked().last_error);
    }

    /// A copy.
    #[must_use]
    pub fn get(&self) -> PartnerStatus {
        self.locked().clone()
    }
}
