//! How many files may be open at once: each connection is one, and the usual bound of a process is lower than ours.
//!
//! Owns the process's own bound. Never asks for more than the system gives without being asked.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is open besides connections that are counted: handshakes under way, partners and indexers beyond `limits.connections`,
/// databases, NATS, probes.
const RESERVE: u64 = 512;

/// Raises the bound to what the system allows, and says when that is too little for so many connections.
pub(super) fn raise(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        tracing::warn!(%error, "the bound of open files cannot be raised");
    }
    let allowed = getrlimit(Resource::Nofile).current;
    if let Some((allowed, needed)) = too_few(allowed, connections) {
        tracing::warn!(
            allowed,
            needed,
            "so many connections as limits.connections allows do not fit into the files that this process may have open: raise \
             LimitNOFILE= of the service (--ulimit nofile= of a container, `ulimit -Hn` of a shell), or set \
             limits.connections lower"
        );
    }
}

/// What is allowed and what is needed, when that is more. No bound is enough.
fn too_few(allowed: Option<u64>, connections: usize) -> Option<(u64, u64)> {
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(RESERVE);
    allowed
        .filter(|allowed| *allowed < needed)
        .map(|allowed| (allowed, needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_used_and_too_little_is_told() {
        raise(1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(too_few(None, 1_000_000), None);
        assert_eq!(too_few(Some(1536), 1024), None);
        assert_eq!(too_few(Some(1024), 1024), Some((1024, 1536)));
        assert!(too_few(Some(u64::MAX - 1), usize::MAX).is_some());
    }
}
