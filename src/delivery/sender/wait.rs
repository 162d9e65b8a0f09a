//! When a courier tries: rights, the first try, back-off, and being told to come back later.

use super::{Effect, Sender, State};
use crate::delivery::sender::old::Old;

/// The first try is spread over this, so that a start does not open everything at once. Milliseconds, as all here.
const SPREAD: f64 = 2_000.0;
/// Between two tries, whatever happens.
const APART: u64 = 1_000;
/// The longest back-off.
const BACK_OFF_MAX: f64 = 300_000.0;
/// The longest that a peer's `retry_after` is taken for.
const TOLD_MAX: u64 = 3_600_000;
/// How long an answer is waited for, of which the peer has nothing to wait for itself.
pub(super) const ANSWER: u64 = 60_000;

/// `1.25^tries` seconds, at most five minutes; half of it is jitter.
fn back_off(tries: u32, jitter: f64) -> u64 {
    let full = (1_000.0 * 1.25_f64.powi(tries.min(64) as i32)).min(BACK_OFF_MAX);
    (full * (0.5 + 0.5 * jitter.clamp(0.0, 1.0))) as u64
}

impl Sender {
    pub(super) fn rights(&mut self, now: u64, jitter: f64, partner: bool, directed: bool, out: &mut Vec<Effect>) {
        let was_partner = std::mem::replace(&mut self.partner, partner);
        self.directed = directed;
        let off = matches!(self.state, State::Off);
        if !partner && !directed {
            if !off {
                self.close(out);
                self.state = State::Off;
                (self.tries, self.acked) = (0, 0);
                self.poison.clear();
                (self.suspect, self.allow_deletes) = (None, false);
                self.hold.clear();
                out.push(Effect::Forget);
            }
        } else if off {
            let spread = (SPREAD * jitter.clamp(0.0, 1.0)) as u64;
            self.wait(now, spread);
        } else if was_partner != partner && !matches!(self.state, State::Wait { .. }) {
            // What may be sent is another now: the session begins anew.
            self.close(out);
            self.wait(now, 0);
        }
    }

    fn close(&mut self, out: &mut Vec<Effect>) {
        if !matches!(self.state, State::Off | State::Wait { .. }) {
            out.push(Effect::Close);
        }
        (self.writing, self.asked) = (false, None);
    }

    /// Waits for `delay`, and until a second after the last try.
    pub(super) fn wait(&mut self, now: u64, delay: u64) {
        (self.writing, self.asked, self.told_to_wait) = (false, None, false);
        let earliest = self.last_try.map_or(0, |last| last.saturating_add(APART));
        let due = now.saturating_add(delay).max(earliest);
        self.state = State::Wait { due };
    }

    pub(super) fn restart(&mut self, now: u64, out: &mut Vec<Effect>) {
        self.close(out);
        self.wait(now, 0);
    }

    /// Ends a session from this side, as one that failed.
    pub(super) fn give_up(&mut self, now: u64, jitter: f64, out: &mut Vec<Effect>) {
        self.close(out);
        self.tries = self.tries.saturating_add(1);
        self.wait(now, back_off(self.tries, jitter));
    }

    /// Ends a session and comes back after `delay`, which the peer being heard does not shorten.
    pub(super) fn hold_back(&mut self, now: u64, delay: u64, code: &str, out: &mut Vec<Effect>) {
        self.close(out);
        self.set_hold(code, out);
        self.wait(now, delay);
        self.told_to_wait = true;
    }

    pub(super) fn stopped(&mut self, now: u64, code: &str, retry_after: u64, out: &mut Vec<Effect>) {
        let delay = retry_after.saturating_mul(1_000).min(TOLD_MAX);
        self.hold_back(now, delay, code, out);
    }

    pub(super) fn ended(&mut self, now: u64, jitter: f64, alive: bool, out: &mut Vec<Effect>) {
        if matches!(self.state, State::Off | State::Wait { .. }) {
            return;
        }
        if alive {
            self.suspect(out);
        }
        self.tries = self.tries.saturating_add(1);
        self.wait(now, back_off(self.tries, jitter));
    }

    pub(super) fn not_opened(&mut self, now: u64, jitter: f64, unsupported: bool, out: &mut Vec<Effect>) {
        if !matches!(self.state, State::Greet { .. }) {
            return;
        }
        if unsupported {
            self.tries = 0;
            self.state = State::Old(Old::default());
            self.note_legacy(true, out);
            self.set_hold("", out);
            self.pump(now, out);
            return;
        }
        self.tries = self.tries.saturating_add(1);
        self.wait(now, back_off(self.tries, jitter));
    }

    pub(super) fn nudge(&mut self, now: u64, asked: bool, out: &mut Vec<Effect>) {
        if self.told_to_wait && !asked {
            return;
        }
        if asked && matches!(self.state, State::Old(_)) {
            // It delivers to us, so it is a newer version by now; or an operator asks.
            self.restart(now, out);
        }
        if let State::Wait { due } = &mut self.state {
            let earliest = self.last_try.map_or(0, |last| last.saturating_add(APART));
            *due = (*due).min(now.max(earliest));
            self.open_if_due(now, out);
        }
    }

    /// An operator asks: a session that runs ends, and the next begins as soon as one may.
    pub(super) fn begin_anew(&mut self, now: u64, out: &mut Vec<Effect>) {
        if self.in_session() {
            self.restart(now, out);
        }
        self.nudge(now, true, out);
    }

    pub(super) fn open_if_due(&mut self, now: u64, out: &mut Vec<Effect>) {
        if !self.intake_ready || !matches!(self.state, State::Wait { due } if due <= now) {
            return;
        }
        self.last_try = Some(now);
        self.told_to_wait = false;
        let until = now.saturating_add(ANSWER);
        self.state = State::Greet { opened: false, until };
        out.push(Effect::Open);
    }

    pub(super) fn tick(&mut self, now: u64, jitter: f64, out: &mut Vec<Effect>) {
        let waits_for_the_peer = matches!(self.state, State::Greet { .. } | State::Merge(_));
        if waits_for_the_peer && self.due().is_some_and(|due| due <= now) {
            self.give_up(now, jitter, out);
        }
        self.open_if_due(now, out);
        self.pump(now, out);
    }

    pub(super) fn note_legacy(&mut self, legacy: bool, out: &mut Vec<Effect>) {
        if std::mem::replace(&mut self.legacy, legacy) != legacy {
            out.push(Effect::Legacy(legacy));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::back_off;

    #[test]
    fn back_off_grows_to_five_minutes() {
        assert_eq!(
            (back_off(0, 1.0), back_off(1, 1.0), back_off(1, 0.0)),
            (1_000, 1_250, 625)
        );
        assert_eq!(back_off(26, 1.0), 300_000);
        assert_eq!((back_off(u32::MAX, 1.0), back_off(u32::MAX, 0.0)), (300_000, 150_000));
    }
}
