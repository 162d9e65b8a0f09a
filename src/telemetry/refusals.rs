//! Refusals: every one counted, few of them logged.
//!
//! Owns the rule of how often a refusal may be logged, so that a hostile peer can fill neither the disk nor the memory.
//! Never sees a payload: the detail is a short sentence by the caller, cut and escaped here.

use std::collections::HashMap;
use std::fmt::{self, Display, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Metrics;

/// At most one line a rule and source in this time.
const EVERY: Duration = Duration::from_secs(60);
/// Pairs of rule and source that are remembered; beyond this a refusal is logged by its rule alone.
const KEYS: usize = 1_000;
/// Longest source remembered and logged, in characters: a PeerId has 52, a DID some more.
const SOURCE_CHARS: usize = 100;
/// Longest detail logged, in characters.
const DETAIL_CHARS: usize = 200;

/// A cheap handle to the counting of refusals.
#[derive(Clone)]
pub struct Refusals(Arc<Inner>);

struct Inner {
    metrics: Metrics,
    table: Mutex<Table>,
}

impl Refusals {
    /// Refusals that are counted in `metrics`.
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            metrics,
            table: Mutex::default(),
        }))
    }

    /// `rule` refused something of `source` (a PeerId, a DID, a subject; empty when there is none). Counted always;
    /// logged at most once a minute for that pair, with the number of those not logged since the last line.
    /// `detail` is only written out when it is logged. It must never hold a secret or a payload.
    pub fn refuse(&self, rule: &'static str, source: &str, detail: impl Display) {
        self.0.metrics.refused(rule);
        self.tell("refused", rule, source, detail);
    }

    /// `count` things of or for `source` were given up at `place` because of `reason`: no rule refused them, a bound or
    /// an absence did. Counted as dropped, logged as seldom as a refusal.
    pub fn dropped(&self, place: &'static str, reason: &'static str, count: u64, source: &str, detail: impl Display) {
        self.0.metrics.dropped_many(place, reason, count);
        self.tell("dropped", reason, source, detail);
    }

    /// Nothing of ours was refused: another program says `detail` again and again. Logged as seldom as a refusal, for each `source`.
    pub fn heard(&self, what: &'static str, rule: &'static str, source: &str, detail: impl Display) {
        self.tell(what, rule, source, detail);
    }

    fn tell(&self, what: &'static str, rule: &'static str, source: &str, detail: impl Display) {
        let source = clip(source, SOURCE_CHARS);
        let verdict = self
            .0
            .table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .decide(rule, &source, Instant::now());
        match verdict {
            Verdict::Log { suppressed } => {
                tracing::warn!(rule, source, suppressed, detail = %clip(detail, DETAIL_CHARS), "{what}");
            }
            Verdict::LogOfMany { suppressed } => {
                tracing::warn!(rule, source, suppressed, detail = %clip(detail, DETAIL_CHARS), "{what}; too many sources to log each");
            }
            Verdict::Silent => {}
        }
    }
}

#[derive(Debug, PartialEq)]
enum Verdict {
    /// Log it; `suppressed` of the same pair were not.
    Log {
        suppressed: u64,
    },
    /// Log it; the table is full, `suppressed` is of the whole rule.
    LogOfMany {
        suppressed: u64,
    },
    Silent,
}

#[derive(Default)]
struct Table {
    pairs: HashMap<(&'static str, String), Slot>,
    rules: HashMap<&'static str, Slot>,
    cleaned: Option<Instant>,
}

struct Slot {
    logged: Instant,
    suppressed: u64,
}

impl Slot {
    /// `Some(suppressed)` when a line is due.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.logged) >= EVERY {
            self.logged = now;
            Some(std::mem::take(&mut self.suppressed))
        } else {
            self.suppressed += 1;
            None
        }
    }
}

impl Table {
    fn decide(&mut self, rule: &'static str, source: &str, now: Instant) -> Verdict {
        let key = (rule, source.to_owned());
        if let Some(slot) = self.pairs.get_mut(&key) {
            return slot
                .due(now)
                .map_or(Verdict::Silent, |suppressed| Verdict::Log { suppressed });
        }
        if self.pairs.len() >= KEYS {
            self.clean(now);
        }
        if self.pairs.len() < KEYS {
            self.pairs.insert(
                key,
                Slot {
                    logged: now,
                    suppressed: 0,
                },
            );
            return Verdict::Log { suppressed: 0 };
        }
        // Rules are words of the code, so this map is bounded by the code.
        match self.rules.get_mut(rule) {
            Some(slot) => slot
                .due(now)
                .map_or(Verdict::Silent, |suppressed| Verdict::LogOfMany { suppressed }),
            None => {
                self.rules.insert(
                    rule,
                    Slot {
                        logged: now,
                        suppressed: 0,
                    },
                );
                Verdict::LogOfMany { suppressed: 0 }
            }
        }
    }

    /// Forgets the pairs that have been quiet for a while; a walk over a full table, so only now and then.
    fn clean(&mut self, now: Instant) {
        if self
            .cleaned
            .is_some_and(|at| now.saturating_duration_since(at) < EVERY / 6)
        {
            return;
        }
        self.cleaned = Some(now);
        self.pairs
            .retain(|_, slot| now.saturating_duration_since(slot.logged) < EVERY);
    }
}

/// Whether a character moves the cursor, turns the direction of others, or is one that nobody sees: words of others are shown
/// without such.
#[must_use]
pub fn moves_text(character: char) -> bool {
    let unseen =
        matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    unseen || character.is_control()
}

/// The first `limit` characters of `value`, control and direction-changing characters escaped. Stops writing there, so
/// a huge value costs no more.
fn clip(value: impl Display, limit: usize) -> String {
    let mut clipped = Clipped {
        out: String::new(),
        left: limit,
        cut: false,
    };
    // The error is the cut itself, or a failing Display: what was written until then is what there is to say.
    let _ = write!(clipped, "{value}");
    if clipped.cut {
        clipped.out.push('…');
    }
    clipped.out
}

struct Clipped {
    out: String,
    left: usize,
    cut: bool,
}

impl Write for Clipped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let Some(left) = self.left.checked_sub(1) else {
                self.cut = true;
                return Err(fmt::Error);
            };
            self.left = left;
            if moves_text(character) {
                self.out.extend(character.escape_default());
            } else {
                self.out.push(character);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_for_each_rule_and_source() {
        let mut table = Table::default();
        let start = Instant::now();
        assert_eq!(table.decide("size", "a", start), Verdict::Log { suppressed: 0 });
        assert_eq!(table.decide("size", "a", start), Verdict::Silent);
        assert_eq!(table.decide("size", "a", start + EVERY / 2), Verdict::Silent);
        assert_eq!(table.decide("size", "b", start), Verdict::Log { suppressed: 0 });
        assert_eq!(table.decide("rate", "a", start), Verdict::Log { suppressed: 0 });
        assert_eq!(table.decide("size", "a", start + EVERY), Verdict::Log { suppressed: 2 });
        assert_eq!(table.decide("size", "a", start + EVERY), Verdict::Silent);
    }

    #[test]
    fn a_full_table_logs_by_rule_and_recovers() {
        let mut table = Table::default();
        let start = Instant::now();
        for number in 0..KEYS {
            assert_eq!(
                table.decide("size", &number.to_string(), start),
                Verdict::Log { suppressed: 0 }
            );
        }
        assert_eq!(table.decide("size", "new", start), Verdict::LogOfMany { suppressed: 0 });
        assert_eq!(table.decide("size", "newer", start), Verdict::Silent);
        assert_eq!(
            table.decide("rate", "newest", start),
            Verdict::LogOfMany { suppressed: 0 }
        );
        assert_eq!(table.pairs.len(), KEYS);
        assert_eq!(
            table.decide("size", "new", start + EVERY),
            Verdict::Log { suppressed: 0 }
        );
        assert_eq!(table.pairs.len(), 1);
    }

    #[test]
    fn detail_is_cut_and_escaped() {
        assert_eq!(clip("a\nb\u{202e}c\u{1b}[31m", 50), "a\\nb\\u{202e}c\\u{1b}[31m");
        assert_eq!(clip("é".repeat(300), 3), "ééé…");
        assert_eq!(clip("abc", 3), "abc");
    }

    #[test]
    fn every_refusal_is_counted() {
        let metrics = Metrics::new();
        let refusals = Refusals::new(metrics.clone());
        for _ in 0..5 {
            refusals.refuse("size", "peer", "too long");
        }
        assert!(metrics.encode().contains("ocd_refused_total{rule=\"size\"} 5"));
    }
}
