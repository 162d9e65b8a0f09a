//! What can be decided about a message from NATS.
//!
//! Owns the words of it. Pure: never decides, never does anything.

use crate::model::Peer;
use crate::wire::{Action, DataType, SearchRequest};
use bytes::Bytes;

/// A resource that changed here and goes to every partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Create, update or delete.
    pub action: Action,
    /// Its kind.
    pub datatype: DataType,
    /// Its id.
    pub id: String,
    /// Who did it here.
    pub user: String,
    /// The document, untouched.
    pub payload: Bytes,
}

/// An event for listed or single peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directed {
    /// Considers or planner.
    pub action: Action,
    /// What it is about.
    pub datatype: DataType,
    /// Who did it here.
    pub user: String,
    /// To whom: DIDs or PeerIds.
    pub to: Vec<String>,
    /// The payload, untouched.
    pub payload: Bytes,
}

/// What is to be done about one message.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nothing: it is our own or another daemon's word.
    Ignore(&'static str),
    /// Nothing, because of a rule.
    Refuse {
        /// Its short name, a metric label.
        rule: &'static str,
        /// For people.
        detail: String,
    },
    /// `ToPartnerPublishEvent`.
    ToPartners(Change),
    /// PB_DELETE that names only an id: what was propagated under it decides whose it is.
    DeleteById {
        /// The delete, as far as it is known.
        change: Change,
    },
    /// `PublishCommon` to each listed peer (PB_CONSIDERS), or a line on the planner stream (PB_PLANNER).
    ToListed(Directed),
    /// PB_CLOSE_PLANNER.
    ClosePlanner {
        /// DID or PeerId.
        peer: String,
    },
    /// PB_SEARCH, datatype PEER: `GetPeerRecord`.
    SearchPeer {
        /// DID, PeerId or name, in `text`.
        request: SearchRequest,
        /// Who asks here.
        user: String,
    },
    /// PB_SEARCH, any other datatype: `SearchPublishEvent`, or direct questions.
    Search {
        /// What and whom to ask.
        request: SearchRequest,
        /// The message's datatype.
        datatype: DataType,
        /// Who asks here.
        user: String,
    },
    /// A PB_SEARCH that cannot be put to anybody.
    RefuseSearch {
        /// The id that its app waits for the end of.
        id: String,
        /// The rule's short name, a metric label.
        rule: &'static str,
        /// For people.
        detail: String,
    },
    /// PB_CLOSE_SEARCH.
    CloseSearch {
        /// The search's id.
        id: String,
    },
    /// CREATE_RESOURCE with datatype PEER.
    PeerChanged(Box<Peer>),
    /// REMOVE_RESOURCE of a PEER: counts as "not PARTNER".
    PeerRemoved {
        /// Its DID.
        did: String,
    },
    /// CREATE_RESOURCE of anything else: into the store, when the daemon writes it.
    Put {
        /// Its kind.
        datatype: DataType,
        /// Its id.
        id: String,
        /// The document.
        document: Bytes,
    },
    /// REMOVE_RESOURCE of anything else.
    Remove {
        /// Its kind.
        datatype: DataType,
        /// Its id.
        id: String,
    },
}

impl Decision {
    /// The id that an app gave its search.
    #[must_use]
    pub fn search_id(&self) -> Option<String> {
        match self {
            Self::Search { request, .. } | Self::SearchPeer { request, .. } => request.id.clone(),
            _ => None,
        }
    }

    /// Whether it is of use only at the moment: never journaled, and nothing when it is old.
    #[must_use]
    pub fn is_live_only(&self) -> bool {
        match self {
            Self::Search { .. } | Self::SearchPeer { .. } | Self::CloseSearch { .. } | Self::ClosePlanner { .. } => {
                true
            }
            Self::ToListed(directed) => directed.action == Action::Planner,
            _ => false,
        }
    }
}
