//! The answers to a courier's questions, from a journal. Each is to be read in one transaction.

use super::Input;
use crate::delivery::journal::{Journal, Result};
use crate::delivery::types::Key;

/// Answers [`super::Effect::Read`] for the courier of `did`.
///
/// # Errors
/// The journal cannot be read.
pub fn rows(
    journal: &dyn Journal,
    did: &str,
    ticket: u64,
    after: u64,
    directed_only: bool,
    max_rows: usize,
    max_bytes: usize,
) -> Result<Input> {
    let (head, floor) = journal.bounds()?;
    let rows = journal.rows_after(after, did, directed_only, max_rows, max_bytes)?;
    // Only an empty answer says that there are no more: what ended the list is the journal's affair.
    let upto = rows.last().map_or(head, |last| last.seq);
    Ok(Input::Rows {
        ticket,
        rows,
        upto,
        floor,
    })
}

/// Answers [`super::Effect::Sum`].
///
/// # Errors
/// The journal cannot be read.
pub fn sum(journal: &dyn Journal, ticket: u64, after: Option<&Key>, to: Option<&Key>) -> Result<Input> {
    let (count, sum) = journal.own_sum(after, to)?;
    Ok(Input::Summed { ticket, count, sum })
}
