//! The fixed words of the profile: own name, topics, stream protocols and actions.

/// What this daemon writes in `from_app`; envelopes that carry it are its own and are ignored when heard.
pub const OWN_NAME: &str = "oc-discovery";
/// NATS header with the DID of the daemon that published; any daemon's word is ignored when heard.
pub const ORIGIN_HEADER: &str = "Oc-Origin";
/// The gossip topic of searches.
pub const TOPIC_SEARCH: &str = "search";
/// The other spelling of the topic; listened to, never published to.
pub const TOPIC_SEARCH_ALIAS: &str = "search#";

/// Under this key indexers announce themselves in the DHT: the multihash (sha2-256) of `/opencloud/indexers`.
pub const INDEXERS_KEY: [u8; 34] = [
    0x12, 0x20, 0x71, 0xb7, 0x51, 0x85, 0x99, 0x62, 0x23, 0x7b, 0x2c, 0xc3, 0xaf, 0x95, 0xee, 0xed, 0xce, 0x6c, 0x53,
    0x78, 0x1a, 0x34, 0x19, 0xc4, 0x30, 0xee, 0xc6, 0xa5, 0x45, 0x87, 0x56, 0x96, 0x15, 0x09,
];
/// What stands before a DID in the DHT's keys.
pub const NODE_KEY: &str = "/node/";

/// Names of the libp2p stream protocols. Values are JSON, one a line.
pub mod protocol {
    /// A partner's resource was created.
    pub const CREATE: &str = "/opencloud/resource/create/1.0";
    /// A partner's resource was changed.
    pub const UPDATE: &str = "/opencloud/resource/update/1.0";
    /// A partner's resource is gone.
    pub const DELETE: &str = "/opencloud/resource/delete/1.0";
    /// Directed considerations.
    pub const CONSIDERS: &str = "/opencloud/resource/considers/1.0";
    /// Long-lived planner stream.
    pub const PLANNER: &str = "/opencloud/resource/planner/1.0";
    /// Direct questions and all answers.
    pub const SEARCH: &str = "/opencloud/resource/search/1.0";
    /// The partner's sign of life.
    pub const HEARTBEAT_PARTNER: &str = "/opencloud/resource/heartbeat/partner/1.0";
    /// Ours: everything journaled for one partner, in order and acknowledged.
    pub const DELIVERY: &str = "/opencloud/resource/delivery/1.1";
    /// The bandwidth challenge: bytes to echo.
    pub const PROBE: &str = "/opencloud/probe/1.0";
    /// A node's heartbeat to an indexer, with its fresh record.
    pub const HEARTBEAT: &str = "/opencloud/heartbeat/1.0";
    /// A question for records.
    pub const RECORD_GET: &str = "/opencloud/record/get/1.0";
    /// A record for an indexer to keep.
    pub const RECORD_PUBLISH: &str = "/opencloud/record/publish/1.0";
    /// Kademlia, prefix `/oc`.
    pub const KAD: &str = "/oc/kad/1.0.0";
    /// Ours, advertised by identify and never opened: this side takes unsigned events, the connection being proof
    /// enough of their sender. Others see one more name and ignore it.
    pub const TAKES_UNSIGNED: &str = "/opencloud/event/unsigned/1.0";
    /// Ours, likewise: this side takes answers whose document stands as it is, under `document`, the last key of the line.
    pub const TAKES_PLAIN: &str = "/opencloud/search/plain/1.0";
}

/// What a message asks for. The number is the wire code.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[repr(u8)]
pub enum Action {
    /// Ask for resources or a peer.
    Search = 0,
    /// An answer to a search.
    SearchResponse = 1,
    /// A new resource.
    Create = 2,
    /// A changed resource.
    Update = 3,
    /// A removed resource.
    Delete = 4,
    /// A planner line for one peer.
    Planner = 5,
    /// End of the planner stream to one peer.
    ClosePlanner = 6,
    /// Considerations for listed peers.
    Considers = 7,
    /// End of a running search (this project's own).
    CloseSearch = 8,
}

impl Action {
    /// All actions, in the order of their codes.
    pub const ALL: [Self; 9] = [
        Self::Search,
        Self::SearchResponse,
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Planner,
        Self::ClosePlanner,
        Self::Considers,
        Self::CloseSearch,
    ];

    /// The wire code, 0 to 8.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The lower-case wire name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::SearchResponse => "search_response",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Planner => "planner",
            Self::ClosePlanner => "close_planner",
            Self::Considers => "considers",
            Self::CloseSearch => "close_search",
        }
    }

    /// The action of a code.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|action| u64::from(action.code()) == code)
    }

    /// The action of a name: `delete`, `PB_DELETE` or `PB_delete`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| is_name(name, action.name()))
    }

    /// The stream protocol that carries the action; none when it only ends a stream of ours.
    pub fn protocol(self) -> Option<&'static str> {
        match self {
            Self::Search | Self::SearchResponse | Self::CloseSearch => Some(protocol::SEARCH),
            Self::Create => Some(protocol::CREATE),
            Self::Update => Some(protocol::UPDATE),
            Self::Delete => Some(protocol::DELETE),
            Self::Planner => Some(protocol::PLANNER),
            Self::Considers => Some(protocol::CONSIDERS),
            Self::ClosePlanner => None,
        }
    }
}

/// Whether `given` spells `name`: exactly, or behind `PB_` in lower or upper case.
pub(super) fn is_name(given: &str, name: &str) -> bool {
    match given.strip_prefix("PB_") {
        None => given == name,
        Some(rest) => rest == name || rest.bytes().eq(name.bytes().map(|byte| byte.to_ascii_uppercase())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_lead_back_to_the_action() {
        for (code, action) in Action::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(action.code()), code);
            assert_eq!(Action::from_code(code as u64), Some(action));
            assert_eq!(Action::from_name(action.name()), Some(action));
            assert_eq!(Action::from_name(&format!("PB_{}", action.name())), Some(action));
            assert_eq!(
                Action::from_name(&format!("PB_{}", action.name().to_uppercase())),
                Some(action)
            );
        }
        assert_eq!(Action::from_code(9), None);
    }

    #[test]
    fn the_key_of_indexers_is_the_multihash_of_its_name() {
        use sha2::{Digest, Sha256};
        assert_eq!(INDEXERS_KEY[..2], [0x12, 0x20]);
        assert_eq!(INDEXERS_KEY[2..], Sha256::digest("/opencloud/indexers")[..]);
    }

    #[test]
    fn near_names_are_not_names() {
        for name in [
            "",
            "Create",
            "CREATE",
            "pb_create",
            "PB_Create",
            "PB_",
            "PB_PB_CREATE",
            "create ",
            "close",
        ] {
            assert_eq!(Action::from_name(name), None, "{name}");
        }
    }
}
