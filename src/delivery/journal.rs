//! What a journal can do. One writer; every verb is whole or not at all.
//!
//! Owns the contract. Never says how the rows are kept, nor when a commit reaches the disk: the writer groups verbs into
//! one commit and syncs it where a promise is made. Always holds: one row a key (and destination), in the order of its
//! newest seq; a position, what is held and what is to be published change together.

use super::types::{
    Change, Cursor, Feed, Hash, Held, Key, OwnKey, Parked, PartnerNote, Pin, Position, Received, Row, Todo, Token,
    Verdict,
};

/// Why a journal cannot be read or written.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum JournalError {
    /// There is no room for it.
    #[error("{path}: the disk is full")]
    Full {
        /// The file.
        path: String,
    },
    /// The file cannot be used.
    #[error("{path}: {why}")]
    Unusable {
        /// The file.
        path: String,
        /// What an operator can do about.
        why: String,
    },
    /// It was made by a newer version.
    #[error(
        "{path}: its schema is number {found}, this version knows up to {known}; start the newer version or restore a backup"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its schema's number.
        found: i64,
        /// The newest that this version knows.
        known: i64,
    },
    /// A verb failed for another reason.
    #[error("journal: {0}")]
    Failed(String),
    /// The writer has ended: the daemon is going down.
    #[error("the journal is closed")]
    Closed,
}

/// Shorthand of the verbs.
pub type Result<T> = std::result::Result<T, JournalError>;

/// The node's own durable log; see the module's first lines.
pub trait Journal {
    // The feed: what we have for others.

    /// Lineage, head, floor, lives.
    fn feed(&self) -> Result<Feed>;

    /// Head and floor, of one moment.
    fn bounds(&self) -> Result<(u64, u64)> {
        let feed = self.feed()?;
        Ok((feed.head, feed.floor))
    }

    /// A new life begins: its range starts behind the head. The oldest lives beyond a thousand are forgotten.
    fn begin_incarnation(&mut self, id: Token) -> Result<()>;

    /// How far the intake has come; none before the first.
    fn cursor(&self) -> Result<Option<Cursor>>;

    /// Journals changes in their order, each with the next seq in place of an older row of its key and destination, and
    /// moves the cursor. A new change of a key leaves its parked notes alone: they leave when it is acknowledged.
    fn take(&mut self, changes: &[Change], cursor: Option<&Cursor>) -> Result<Vec<Row>>;

    /// Rows after `after`, in order: those for every partner unless `directed_only`, and those for `dest`. It ends before
    /// `max_rows`, or once `max_bytes` of payload are passed (one row at the least).
    fn rows_after(
        &self,
        after: u64,
        dest: &str,
        directed_only: bool,
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Vec<Row>>;

    /// The row of a key that goes to every partner.
    fn row(&self, key: &Key) -> Result<Option<Row>>;

    /// Keys that go to every partner, tombstones too, in key order, behind `after` and up to `to` (included).
    fn own_keys(&self, after: Option<&Key>, to: Option<&Key>, limit: usize) -> Result<Vec<OwnKey>>;

    /// Notes that the store was seen to have the document of a key that is journaled for every partner: from then on its
    /// absence means that it was deleted. It lasts as long as the key has a row.
    fn note_stored(&mut self, keys: &[Key]) -> Result<()>;

    /// Whether the store was ever seen to have it.
    fn was_stored(&self, key: &Key) -> Result<bool>;

    /// Purges tombstones taken before `before` (milliseconds since 1970), and the oldest beyond `keep`; at most `limit` in
    /// one go. The floor rises to the highest seq purged. Says how many.
    fn purge_tombstones(&mut self, before: u64, keep: usize, limit: usize) -> Result<usize>;

    /// Directed rows of `dest` up to `seq` were acknowledged: they leave. What of them was refused stays parked, for people.
    fn directed_done(&mut self, dest: &str, seq: u64) -> Result<()>;

    /// Rows and payload bytes that wait for `dest` alone.
    fn directed_waiting(&self, dest: &str) -> Result<(u64, u64)>;

    /// Every DID that has directed rows.
    fn directed_dests(&self) -> Result<Vec<String>>;

    /// Rows after `after` for this partner (see [`Journal::rows_after`]), and when the oldest of them was taken; 0 when none.
    /// Counting may end at ten thousand.
    fn lag(&self, after: u64, dest: &str) -> Result<(u64, u64)>;

    // Notes about partners.

    /// All that is noted.
    fn partners(&self) -> Result<Vec<PartnerNote>>;

    /// Notes.
    fn note_partner(&mut self, note: &PartnerNote) -> Result<()>;

    /// A peer is no partner any more and nothing waits for it alone: its note, its rows and what was parked for it go.
    fn forget_dest(&mut self, did: &str) -> Result<()>;

    /// Parks; a second one of the same destination and key takes the place of the first. Beyond `keep` notes of one
    /// destination the oldest leave.
    fn park(&mut self, parked: &Parked, keep: usize) -> Result<()>;

    /// What is parked, of one destination or of all, the oldest first.
    fn parked(&self, dest: Option<&str>, limit: usize) -> Result<Vec<Parked>> {
        self.parked_page(dest, None, 0, limit)
    }

    /// The same behind `skip` of them, of one id when it is given.
    fn parked_page(&self, dest: Option<&str>, id: Option<&str>, skip: usize, limit: usize) -> Result<Vec<Parked>>;

    /// How many those are.
    fn parked_count(&self, dest: Option<&str>, id: Option<&str>) -> Result<u64>;

    /// Takes one away; false when there was none.
    fn unpark(&mut self, dest: &str, key: &Key) -> Result<bool>;

    /// Takes away what is parked for `dest` of keys whose row, up to `seq`, is newer than the parked one: it was acknowledged.
    fn unpark_acked(&mut self, dest: &str, seq: u64) -> Result<()>;

    // Which DID is whose.

    /// Every pin.
    fn pins(&self) -> Result<Vec<Pin>>;

    /// Pins a DID, in place of its pin before; false, and nothing is done, when it had none and `keep` pins are there.
    fn pin(&mut self, pin: &Pin, keep: usize) -> Result<bool>;

    /// The DID may be anybody's again.
    fn unpin(&mut self, did: &str) -> Result<()>;

    // What others have for us.

    /// Where we stand in an origin's feed; none: we know nothing.
    fn origin(&self, did: &str) -> Result<Option<Position>>;

    /// Stands there from now on; none during a comparison of lists.
    fn set_origin(&mut self, did: &str, position: Option<Position>) -> Result<()>;

    /// Lines of one origin, in their order, and where it stands then: what is held, what was seen, what is to be published
    /// and the position change together. No position: it stays what it is (a comparison, or lines for us alone). `at`:
    /// milliseconds since 1970, kept with directed ids.
    ///
    /// A put with the hash that is held is [`Verdict::Known`]; a delete lets the key go. A key that we ourselves have
    /// journaled for every partner, or that another origin holds, is [`Verdict::NotOwner`] and changes nothing.
    fn receive(
        &mut self,
        origin: &str,
        lines: &[Received],
        position: Option<Position>,
        at: u64,
    ) -> Result<Vec<Verdict>>;

    /// Keys held of an origin, in key order, behind `after` and up to `to` (included).
    fn held(&self, origin: &str, after: Option<&Key>, to: Option<&Key>, limit: usize) -> Result<Vec<Held>>;

    /// The origin that holds a key.
    fn holder(&self, key: &Key) -> Result<Option<String>>;

    /// What is committed and not known to be published, behind `after`, in order.
    fn todo(&self, after: u64, limit: usize) -> Result<Vec<Todo>>;

    /// The newest number given to something to be published.
    fn last_todo(&self) -> Result<u64>;

    /// How much is committed and not known to be published.
    fn todo_waiting(&self) -> Result<u64>;

    /// Everything up to `n` is published.
    fn published(&mut self, n: u64) -> Result<()>;

    /// Our side will never have what an origin sent with this hash. Unless something else is held of the key by now, it stays
    /// held with [`Hash::NONE`]: the next comparison asks for it again, and a delete of what was there before still counts.
    fn give_up(&mut self, origin: &str, key: &Key, hash: Hash) -> Result<()>;

    /// A peer left PARTNER: its position, what is held of it and what was to be published of that go; directed events stay.
    fn forget_origin(&mut self, did: &str) -> Result<()>;

    /// Every DID whose position is kept or of which something is held.
    fn origins(&self) -> Result<Vec<String>>;

    /// Forgets ids of directed events seen before `before` (milliseconds since 1970), at most `limit` in one go.
    fn purge_seen(&mut self, before: u64, limit: usize) -> Result<usize>;

    /// The origins of which more than `most` such ids are kept, and how many more. Counts all of them: for a chore.
    fn seen_over(&self, most: usize) -> Result<Vec<(String, usize)>>;

    /// Forgets the oldest such ids of one origin, at most `limit`.
    fn forget_seen(&mut self, origin: &str, limit: usize) -> Result<usize>;

    /// The hash of everything held of an origin in a range, for a comparison without the list: count and the hash over
    /// all (kind's code as one byte, id, zero byte, hash) in key order.
    fn held_sum(&self, origin: &str, after: Option<&Key>, to: Option<&Key>) -> Result<(u64, Hash)>;

    /// The same of our own documents, tombstones left out.
    fn own_sum(&self, after: Option<&Key>, to: Option<&Key>) -> Result<(u64, Hash)>;
}
