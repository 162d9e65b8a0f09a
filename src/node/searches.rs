//! The searches that are open: whose answers are wanted, how many still, and when each ends.
//!
//! Pure: time is passed in. Always: every search that is opened ends exactly once, by all answers, its limit, its time
//! or its asker's word, with a report; an answer is passed on only to a search that put its question to the answerer.

pub use super::search_over::SearchOver;
use crate::wire::{DataType, SearchEnd};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

/// Why an answer of a kind that was not asked for is dropped.
pub const OTHER_KIND: &str = "other_datatype";
/// The rule that refuses a search at the bound of open ones.
pub const TOO_MANY: &str = "too_many_searches";

/// How long a peer must be quiet after a stream of answers without a search id: some write each answer on a stream of its
/// own, and nobody says which is the last.
const QUIET: Duration = Duration::from_secs(1);

/// To whom a question was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskedPeers {
    /// To everybody, by gossip; so many connected peers listened.
    Everybody(usize),
    /// To these DIDs.
    These(HashSet<String>),
}

/// One open search.
#[derive(Debug)]
pub struct OpenSearch {
    /// Whose it is here; answers without a search id repeat it.
    pub user: String,
    /// The app gave an id, so the answers' envelopes repeat it.
    pub named: bool,
    /// Only this kind is wanted.
    pub datatype: Option<DataType>,
    /// When it ends at the latest.
    pub deadline: Instant,
    /// Results wanted at most, in all.
    pub limit: usize,
    /// Whom it was put to.
    pub asked: AskedPeers,
    /// Peers left out from the start: blacklisted, or without a way to reach them.
    pub skipped: Vec<String>,
    serial: u64,
    results: usize,
    of_peer: HashMap<String, usize>,
    answered: HashSet<String>,
    over: HashSet<String>,
    failed: HashSet<String>,
    truncated: bool,
    /// Of peers that answer without the search's id: which answer of all was their newest here, and when they count as
    /// being over, when their last stream has ended.
    unnamed: HashMap<String, (u64, Option<Instant>)>,
}

impl OpenSearch {
    /// A search nobody has answered yet.
    #[must_use]
    pub fn new(user: String, named: bool, datatype: Option<DataType>, deadline: Instant, limit: usize) -> Self {
        Self {
            user,
            named,
            datatype,
            deadline,
            limit,
            asked: AskedPeers::Everybody(0),
            skipped: Vec::new(),
            serial: 0,
            results: 0,
            of_peer: HashMap::new(),
            answered: HashSet::new(),
            over: HashSet::new(),
            failed: HashSet::new(),
            truncated: false,
            unnamed: HashMap::new(),
        }
    }

    /// Who has been quiet for long enough is over.
    fn settle(&mut self, now: Instant) {
        for (did, (_, quiet)) in &mut self.unnamed {
            if quiet.is_some_and(|until| until <= now) {
                *quiet = None;
                // Also when nothing that it wrote was of the kind that was asked for.
                self.answered.insert(did.clone());
                self.over.insert(did.clone());
            }
        }
    }

    fn due(&self) -> Instant {
        let quiet = self.unnamed.values().filter_map(|(_, quiet)| *quiet);
        quiet.fold(self.deadline, Instant::min)
    }

    fn was_asked(&self, did: &str) -> bool {
        match &self.asked {
            AskedPeers::Everybody(_) => true,
            AskedPeers::These(dids) => dids.contains(did),
        }
    }

    fn is_complete(&self) -> bool {
        if self.results >= self.limit {
            return true;
        }
        match &self.asked {
            // Who else listens, beyond the peers we are connected to, nobody knows: only time ends it.
            AskedPeers::Everybody(listeners) => *listeners == 0,
            AskedPeers::These(dids) => dids
                .iter()
                .all(|did| self.over.contains(did) || self.failed.contains(did)),
        }
    }

    fn over(self, id: String) -> SearchOver {
        let report = self.report(&id);
        let said = |did: &&String| self.answered.contains(*did) || self.failed.contains(*did);
        let silent = match &self.asked {
            AskedPeers::Everybody(_) => Vec::new(),
            AskedPeers::These(dids) => sorted(dids.iter().filter(|did| !said(did))),
        };
        SearchOver {
            report,
            answered: sorted(&self.answered),
            failed: sorted(self.failed.difference(&self.answered)),
            silent,
            skipped: sorted(&self.skipped),
        }
    }

    fn report(&self, id: &str) -> SearchEnd {
        let asked = match &self.asked {
            AskedPeers::Everybody(listeners) => (*listeners).max(self.answered.len()),
            AskedPeers::These(dids) => dids.len(),
        };
        SearchEnd {
            search_id: id.to_owned(),
            asked,
            answered: self.answered.len(),
            failed: self.failed.difference(&self.answered).count(),
            skipped: self.skipped.len(),
            results: self.results,
            // At its limit nobody waits to hear whether there was more; and who broke off, or was not done in time, may
            // have had more.
            truncated: self.truncated || self.results >= self.limit || !self.answered.is_subset(&self.over),
            error: None,
        }
    }
}

fn sorted<'a>(dids: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut dids: Vec<String> = dids.into_iter().cloned().collect();
    dids.sort_unstable();
    dids
}

/// What becomes of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// It goes to whoever asks; into the message the id only when the app gave it.
    Publish {
        /// The search.
        id: String,
        /// Whose search it is here.
        user: String,
        /// The id to repeat.
        search_id: Option<String>,
    },
    /// It is dropped, for this counted reason.
    Drop(&'static str),
}

/// The table; see the module's first lines.
#[derive(Debug)]
pub struct Searches {
    open: BTreeMap<String, OpenSearch>,
    serial: u64,
    /// Answers that came without a search's id.
    unnamed: u64,
    most: usize,
    per_peer: usize,
}

impl Searches {
    /// A table of at most `most` searches, taking at most `per_peer` answers of one peer for each.
    #[must_use]
    pub fn new(most: usize, per_peer: usize) -> Self {
        Self {
            open: BTreeMap::new(),
            serial: 0,
            unnamed: 0,
            most,
            per_peer,
        }
    }

    /// Whether a search with this id is open.
    #[must_use]
    pub fn is_open(&self, id: &str) -> bool {
        self.open.contains_key(id)
    }

    /// Whether a search with this id could be opened.
    ///
    /// # Errors
    /// The rule that refuses it.
    pub fn may_open(&self, id: &str) -> Result<(), &'static str> {
        if self.open.contains_key(id) {
            return Err("search_id_in_use");
        }
        if self.open.len() >= self.most {
            Err(TOO_MANY)
        } else {
            Ok(())
        }
    }

    /// Opens a search.
    pub fn open(&mut self, id: String, mut search: OpenSearch) {
        self.serial += 1;
        search.serial = self.serial;
        self.open.insert(id, search);
    }

    /// The question was put, or not, after the search was opened.
    pub fn set_asked(&mut self, id: &str, asked: AskedPeers, skipped: Vec<String>) {
        if let Some(search) = self.open.get_mut(id) {
            search.asked = asked;
            search.skipped = skipped;
        }
    }

    /// An answer could not be given to whoever asks: it counts no more.
    pub fn cut(&mut self, id: &str) {
        if let Some(search) = self.open.get_mut(id) {
            search.results = search.results.saturating_sub(1);
            search.truncated = true;
        }
    }

    /// One peer could not be asked.
    pub fn failed(&mut self, id: &str, did: &str) {
        if let Some(search) = self.open.get_mut(id) {
            search.failed.insert(did.to_owned());
        }
    }

    /// An answer came.
    pub fn answer(
        &mut self,
        did: &str,
        search_id: Option<&str>,
        user: &str,
        datatype: DataType,
        now: Instant,
    ) -> Answered {
        let per_peer = self.per_peer;
        let Some(id) = self.find(did, search_id, user, now) else {
            return Answered::Drop("no_open_search");
        };
        let Some(search) = self.open.get_mut(&id) else {
            return Answered::Drop("no_open_search");
        };
        if search_id.is_none() {
            self.unnamed += 1;
            search.unnamed.insert(did.to_owned(), (self.unnamed, None));
            search.over.remove(did);
        }
        if search.datatype.is_some_and(|wanted| wanted != datatype) || !datatype.is_resource_kind() {
            return Answered::Drop(OTHER_KIND);
        }
        let count = match search.of_peer.get_mut(did) {
            Some(count) => count,
            None => {
                search.answered.insert(did.to_owned());
                search.of_peer.entry(did.to_owned()).or_default()
            }
        };
        if *count >= per_peer || search.results >= search.limit {
            search.truncated = true;
            return Answered::Drop("enough_answers");
        }
        *count += 1;
        search.results += 1;
        Answered::Publish {
            user: search.user.clone(),
            search_id: search.named.then(|| id.clone()),
            id,
        }
    }

    /// A peer's stream of answers has ended: with the search's id its whole answer set, else once it was quiet for a second.
    pub fn over(&mut self, did: &str, search_id: Option<&str>, complete: bool, truncated: bool, now: Instant) {
        let Some(id) = search_id else {
            return self.unnamed_over(did, complete, now);
        };
        let Some(search) = self.open.get_mut(id).filter(|search| search.was_asked(did)) else {
            return;
        };
        search.truncated |= truncated;
        if complete {
            search.answered.insert(did.to_owned());
            search.over.insert(did.to_owned());
        } else {
            search.failed.insert(did.to_owned());
        }
    }

    /// It is of the search to which the newest of its answers went.
    fn unnamed_over(&mut self, did: &str, complete: bool, now: Instant) {
        let newest = |search: &OpenSearch| search.unnamed.get(did).map(|(nth, _)| *nth);
        let search = self.open.values_mut().max_by_key(|search| newest(search));
        let Some(search) = search else { return };
        let Some((_, quiet)) = search.unnamed.get_mut(did) else {
            return;
        };
        // Another one may come also when this one broke.
        *quiet = Some(now + QUIET);
        if !complete {
            search.truncated = true;
        }
    }

    /// The asker wants no more.
    pub fn close(&mut self, id: &str) -> Option<SearchOver> {
        self.open.remove(id).map(|search| search.over(id.to_owned()))
    }

    /// Ends all of them.
    pub fn close_all(&mut self) -> Vec<SearchOver> {
        let all = std::mem::take(&mut self.open);
        all.into_iter().map(|(id, search)| search.over(id)).collect()
    }

    /// Whether one is open that everybody may answer.
    #[must_use]
    pub fn asks_everybody(&self) -> bool {
        let mut open = self.open.values();
        open.any(|search| matches!(search.asked, AskedPeers::Everybody(_)))
    }

    /// When the time of a search is up.
    #[must_use]
    pub fn deadline_of(&self, id: &str) -> Option<Instant> {
        self.open.get(id).map(|search| search.deadline)
    }

    /// The searches that are over at `now`, removed from the table.
    pub fn ended(&mut self, now: Instant) -> Vec<SearchOver> {
        self.open.values_mut().for_each(|search| search.settle(now));
        let is_over = |search: &OpenSearch| search.deadline <= now || search.is_complete();
        let over = self.open.iter().filter(|(_, search)| is_over(search));
        let over: Vec<String> = over.map(|(id, _)| id.clone()).collect();
        over.iter().filter_map(|id| self.close(id)).collect()
    }

    /// When the next search's time is up, or a peer has been quiet for long enough.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.open.values().map(OpenSearch::due).min()
    }

    /// The search that an answer belongs to: by its id, else the newest with the same user that asked this peer.
    fn find(&self, did: &str, search_id: Option<&str>, user: &str, now: Instant) -> Option<String> {
        match search_id {
            Some(id) => {
                let search = self.open.get(id)?;
                (search.was_asked(did) && search.deadline > now).then(|| id.to_owned())
            }
            None => self.newest(|search| search.user == user && search.was_asked(did) && search.deadline > now),
        }
    }

    fn newest(&self, fits: impl Fn(&OpenSearch) -> bool) -> Option<String> {
        let fitting = self.open.iter().filter(|(_, search)| fits(search));
        fitting
            .max_by_key(|(_, search)| search.serial)
            .map(|(id, _)| id.clone())
    }
}

#[cfg(test)]
#[path = "searches_tests.rs"]
mod tests;
