//! The operators' door: a unix socket in `state_dir` on which the running daemon answers, one JSON line for one JSON line.
//!
//! Owns the words of that talk, and the bounds of its connections. Never speaks to the network. Always: only the daemon's
//! own user (and root) can connect; a request that is not understood whole changes nothing.

mod ask;
mod backup;
mod explain;
mod explain_peer;
mod intake;
mod outbox;
mod peers;
mod records;
mod search;
mod serve;
mod told;
mod told_peers;
mod told_status;
mod verbs;

#[cfg(test)]
mod tests;

pub use ask::{AskError, ask, ask_many};
pub use serve::{Control, ControlError};
pub use told::{
    Answer, Backup, Destination, Dropped, Named, Outbox, ParkedChange, Refused, Request, Resync, Retried, SearchLine,
    Status, ToPublish,
};
pub use told_peers::{
    Explained, ExplainedPeer, IndexerRow, NewPeer, OwnAddresses, PeerChanged, PeerList, PeerRow, RecordList,
};
pub use verbs::Verbs;

use std::path::{Path, PathBuf};

/// The socket's name in `state_dir`.
pub const SOCKET: &str = "control.sock";
/// What stands for our own intake where a partner is named.
pub const INTAKE: &str = "intake";
/// The code of what cannot be asked so: wrong usage, whatever the daemon is doing.
const BAD_REQUEST: &str = "bad_request";
/// Longest path of a unix socket, in bytes.
const PATH_BYTES: usize = 107;

/// Where the daemon of `state_dir` listens.
#[must_use]
pub fn socket_of(state_dir: &Path) -> PathBuf {
    state_dir.join(SOCKET)
}

/// Whether a unix socket can have this path.
fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= PATH_BYTES
}
