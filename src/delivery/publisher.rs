//! What is committed and not yet published, on its way to our NATS: one publisher, in the order of the numbers.
//!
//! Owns how far publishing has come; `noting` lets what is published leave the journal. Always:
//! nothing is published before it is committed, nothing out of order, and what nobody listens to yet stays.

use super::log::Log;
use super::noting::{self, Done};
use super::receiver::{GivenUp, Refusal};
use super::types::{Key, Todo};
use crate::store::Store;
use crate::telemetry::Sides;
use crate::wire::Action;
use async_trait::async_trait;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Rows given to the outlet in one go.
const BATCH: usize = 256;
/// Bytes of payload given in one go, past the first row.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Pause when nobody listened, or NATS or the store did not answer.
const AGAIN: Duration = Duration::from_millis(200);
/// How long after the last rows it is asked whether they are really done.
const MOMENT: Duration = Duration::from_millis(50);
/// Pause after the journal could not be written.
const JOURNAL_AGAIN: Duration = Duration::from_millis(500);
/// Said in the log after this long without progress.
const TELL_AFTER: Duration = Duration::from_secs(5);

/// Which rows of an earlier life a newer one of their key follows. Directed ones are never followed by another.
#[derive(Default)]
pub(super) struct Newest {
    of_key: HashMap<Key, u64>,
    /// Their numbers.
    pub(super) superseded: HashSet<u64>,
}

impl Newest {
    /// The next row, in order.
    pub(super) fn add(&mut self, row: &Todo) {
        if row.action != Action::Considers
            && let Some(older) = self.of_key.insert(row.key.clone(), row.n)
        {
            self.superseded.insert(older);
        }
    }
}

/// Where published rows go: the store, when it is ours to write, and NATS.
#[async_trait]
pub trait Outlet: Send {
    /// Takes rows in order.
    async fn put(&mut self, rows: &[Todo]) -> Put;

    /// Called a moment after the last rows, and again as long as something stands in the way: what was told of them too late.
    async fn settle(&mut self) -> Option<Stuck>;
}

/// What became of rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// So many of them, from the first on, are done for good.
    pub done: usize,
    /// Places of those that our side will never have, and why; in their order.
    pub given_up: Vec<(usize, Refusal)>,
    /// Why not all are done.
    pub stuck: Option<Stuck>,
}

/// Why rows are not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// What senders are told meanwhile: `nats` or `store`.
    pub code: &'static str,
    /// For people.
    pub why: String,
}

/// Rows that were just committed, and their share of what may wait in memory.
pub struct Committed {
    /// In the order of their numbers.
    pub rows: Vec<Todo>,
    /// Given back when they are published.
    pub room: Option<OwnedSemaphorePermit>,
}

/// How publishing stands.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Everything up to here is published, and known to be by the disk.
    pub upto: u64,
    /// Why nothing goes on, and has not for a while.
    pub stuck: Option<Stuck>,
    /// What of it our side will never have.
    pub given_up: GivenUp,
}

/// The publisher; runs until `stop`, and then until what was committed is published or the outlet takes no more.
pub struct Publisher<O> {
    /// The journal.
    pub log: Log,
    /// Where rows go.
    pub outlet: O,
    /// Where it is told how far it has come.
    pub published: watch::Sender<Published>,
    /// The document store, when rows are written into it: what is noted as done has to be on its disk, too.
    pub store: Option<Arc<dyn Store>>,
    /// The newest row of an earlier life: those behind it are handed over, and are not read from the journal.
    pub left_upto: u64,
    /// The checks of store and journal: whether they can be brought to the disk.
    pub checks: (Sides, Sides),
}

struct Waiting {
    row: Todo,
    /// On the last row of what was committed together.
    room: Option<OwnedSemaphorePermit>,
}

impl<O: Outlet> Publisher<O> {
    /// Publishes what an earlier life left, then what is committed. `left` is told when the former is done.
    pub async fn run(
        mut self,
        mut committed: mpsc::UnboundedReceiver<Committed>,
        left: CancellationToken,
        stop: CancellationToken,
    ) {
        let (done, to_note) = noting::done();
        let noting = tokio::spawn(noting::note(
            self.log.clone(),
            self.store.clone(),
            to_note,
            self.published.clone(),
            self.checks.clone(),
        ));
        if self.publish_left(&done, &stop).await {
            left.cancel();
            self.publish_new(&mut committed, &done, &stop).await;
        }
        drop(done);
        let _ = noting.await;
    }

    async fn publish_new(
        &mut self,
        committed: &mut mpsc::UnboundedReceiver<Committed>,
        done: &Done,
        stop: &CancellationToken,
    ) {
        let mut waiting = VecDeque::new();
        let (mut settles, mut began) = (None, Instant::now());
        loop {
            if waiting.is_empty() {
                let next = tokio::select! {
                    next = committed.recv() => next,
                    () = stop.cancelled() => committed.try_recv().ok(),
                    () = at(settles), if settles.is_some() => {
                        settles = self.settle(began).await.then(|| Instant::now() + AGAIN);
                        continue;
                    }
                };
                match next {
                    Some(next) => take_in(&mut waiting, next),
                    None => return,
                }
            }
            while waiting.len() < BATCH
                && let Ok(next) = committed.try_recv()
            {
                take_in(&mut waiting, next);
            }
            if !self.publish(&mut waiting, done, stop).await {
                return;
            }
            began = Instant::now();
            settles = Some(began + MOMENT);
        }
    }

    /// What an earlier life committed and did not publish, or did not know to be published: of each key the newest only,
    /// since an older one may have been followed by it already.
    async fn publish_left(&mut self, done: &Done, stop: &CancellationToken) -> bool {
        let Some(superseded) = superseded(&self.log, self.left_upto, stop).await else {
            return false;
        };
        let mut after = 0;
        loop {
            let Some(rows) = left(&self.log, after, self.left_upto, stop).await else {
                return false;
            };
            let Some(last) = rows.last().map(|row| row.n) else {
                return true;
            };
            info!(rows = rows.len(), "publishing what was committed before the last end");
            let newest = rows.into_iter().filter(|row| !superseded.contains(&row.n));
            let mut waiting: VecDeque<Waiting> = newest.map(|row| Waiting { row, room: None }).collect();
            while !waiting.is_empty() {
                if !self.publish(&mut waiting, done, stop).await {
                    return false;
                }
            }
            done.upto(last);
            after = last;
        }
    }

    /// Publishes a batch from the front; false when the daemon is leaving and nothing more goes on.
    async fn publish(&mut self, waiting: &mut VecDeque<Waiting>, done: &Done, stop: &CancellationToken) -> bool {
        let began = Instant::now();
        loop {
            let put = self.outlet.put(&batch(waiting)).await;
            if put.done > 0 {
                let taken: Vec<Waiting> = waiting.drain(..put.done.min(waiting.len())).collect();
                self.goes_on();
                for (place, refusal) in put.given_up {
                    if let Some(Waiting { row, .. }) = taken.get(place) {
                        done.gave_up(row, refusal);
                    }
                }
                if let Some(last) = taken.last() {
                    done.upto(last.row.n);
                }
                return true;
            }
            if let Some(why) = put.stuck
                && began.elapsed() >= TELL_AFTER
            {
                self.stuck(why);
            }
            // What stays is in the journal, and is published at the next start.
            if pause(AGAIN, stop).await {
                return false;
            }
        }
    }

    /// Whether what was published, the last of it then, is not really done, and is to be asked for again.
    async fn settle(&mut self, began: Instant) -> bool {
        match self.outlet.settle().await {
            None => {
                self.goes_on();
                false
            }
            Some(why) => {
                if began.elapsed() >= TELL_AFTER {
                    self.stuck(why);
                }
                true
            }
        }
    }

    fn stuck(&self, stuck: Stuck) {
        let changed = self.published.send_if_modified(|published| {
            let changed = published.stuck.as_ref().map(|stuck| stuck.code) != Some(stuck.code);
            published.stuck = Some(stuck.clone());
            changed
        });
        if changed {
            let Stuck { code, why } = stuck;
            warn!(code, %why, "partners' changes wait: they cannot be published");
        }
    }

    fn goes_on(&self) {
        if self
            .published
            .send_if_modified(|published| published.stuck.take().is_some())
        {
            info!("partners' changes are published again");
        }
    }
}

/// Numbers of what an earlier life left and a newer row follows; none when the daemon is leaving.
async fn superseded(log: &Log, upto: u64, stop: &CancellationToken) -> Option<HashSet<u64>> {
    let mut newest = Newest::default();
    let mut after = 0;
    loop {
        let rows = left(log, after, upto, stop).await?;
        match rows.last() {
            Some(last) => after = last.n,
            None => return Some(newest.superseded),
        }
        rows.iter().for_each(|row| newest.add(row));
    }
}

/// Rows of an earlier life; none when the daemon is leaving.
async fn left(log: &Log, after: u64, upto: u64, stop: &CancellationToken) -> Option<Vec<Todo>> {
    loop {
        match log.read(move |journal| journal.todo(after, BATCH)).await {
            Ok(mut rows) => {
                rows.retain(|row| row.n <= upto);
                return Some(rows);
            }
            Err(error) => {
                warn!(%error, "the journal cannot be read");
                if pause(JOURNAL_AGAIN, stop).await {
                    return None;
                }
            }
        }
    }
}

fn take_in(waiting: &mut VecDeque<Waiting>, committed: Committed) {
    waiting.extend(committed.rows.into_iter().map(|row| Waiting { row, room: None }));
    if let Some(last) = waiting.back_mut() {
        last.room = committed.room;
    }
}

fn batch(waiting: &VecDeque<Waiting>) -> Vec<Todo> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for Waiting { row, .. } in waiting.iter().take(BATCH) {
        bytes += row.payload.len();
        if bytes > BATCH_BYTES && !rows.is_empty() {
            break;
        }
        rows.push(row.clone());
    }
    rows
}

/// Ends then; never without an instant.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// True when the daemon is leaving.
async fn pause(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => true,
        () = tokio::time::sleep(time) => false,
    }
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
