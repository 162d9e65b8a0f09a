//! The end of a search: what apps are told, and what operators see beside it.
//!
//! Pure data; the table of searches makes it.

use crate::wire::SearchEnd;

/// How a search ended, and who had which part in it; each list in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchOver {
    /// What apps are told.
    pub report: SearchEnd,
    /// DIDs of those who answered.
    pub answered: Vec<String>,
    /// Of those who could not be asked, or broke off before they had answered anything.
    pub failed: Vec<String>,
    /// Of those who were asked and said nothing; a gossiped question names nobody.
    pub silent: Vec<String>,
    /// Of those who were not asked.
    pub skipped: Vec<String>,
}
