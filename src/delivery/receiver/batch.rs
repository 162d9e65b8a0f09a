//! What a session commits in one transaction, in its order, and what is answered then.
//!
//! Pure. Never decides what is in it. Always holds: a place moves together with what it stands for.

use super::Refusal;
use crate::delivery::journal::{Journal, Result};
use crate::delivery::types::{Key, Position, Received, Verdict};
use crate::wire::ReceiverLine;

/// What is committed in one transaction, in its order.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) steps: Vec<Step>,
    pub(super) lines: usize,
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) enum Step {
    Stand(Option<Position>),
    Lines {
        lines: Vec<Received>,
        position: Option<Position>,
        /// Whether each line may be acknowledged; in a comparison only its end is.
        acked: bool,
    },
    Refused {
        seq: u64,
        refusal: Refusal,
    },
    /// The place may be acknowledged with what was committed before it.
    Due(u64),
    Answer(Answer),
}

/// What is answered, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A line.
    Line(ReceiverLine),
    /// All that [`crate::delivery::digest::pages`] says.
    Pages,
    /// The keys of a range: [`crate::delivery::digest::keys`] until there is no next.
    Keys {
        /// Behind this one.
        after: Option<Key>,
        /// Up to this one.
        to: Option<Key>,
    },
}

/// What a commit said.
#[derive(Debug)]
pub struct Committed {
    pub(super) before: u64,
    pub(super) verdicts: Vec<Vec<Verdict>>,
}

impl Batch {
    /// Lines in it, refused ones too.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Bytes of their payloads.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lines and other things to do.
    #[must_use]
    pub fn size(&self) -> usize {
        self.lines + self.steps.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The lines that are to be published, and their numbers.
    pub fn todo<'a>(&'a self, committed: &'a Committed) -> impl Iterator<Item = (u64, &'a Received)> {
        let groups = self.steps.iter().filter_map(|step| match step {
            Step::Lines { lines, .. } => Some(lines),
            _ => None,
        });
        groups
            .zip(&committed.verdicts)
            .flat_map(|(lines, verdicts)| lines.iter().zip(verdicts))
            .filter_map(|(line, verdict)| match verdict {
                Verdict::Todo(n) => Some((*n, line)),
                _ => None,
            })
    }
}

/// Commits a batch of `origin`; `at` in milliseconds since 1970. To be called in one transaction.
///
/// # Errors
/// The journal cannot be written; nothing of the batch may stay then.
pub fn commit(journal: &mut dyn Journal, origin: &str, batch: &Batch, at: u64) -> Result<Committed> {
    let before = journal.last_todo()?;
    let mut verdicts = Vec::new();
    for step in &batch.steps {
        match step {
            Step::Stand(position) => journal.set_origin(origin, *position)?,
            Step::Lines { lines, position, .. } => verdicts.push(journal.receive(origin, lines, *position, at)?),
            Step::Refused { .. } | Step::Due(_) | Step::Answer(_) => {}
        }
    }
    Ok(Committed { before, verdicts })
}
