//! Why a document is not what it should be, in words for the person who has to mend it.

use thiserror::Error;

/// Why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    /// Not one complete JSON value in UTF-8.
    #[error("not a JSON document: {0}")]
    NotJson(String),
    /// JSON, but no object.
    #[error("a document must be a JSON object")]
    NotObject,
    /// A key that must be there, and hold something, is not.
    #[error("`{0}` is missing or empty")]
    Missing(&'static str),
    /// A value of another kind than expected.
    #[error("`{key}` must be {expected}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A header key twice: readers would differ about which one counts.
    #[error("`{0}` is given twice in one object; keep one")]
    Twice(&'static str),
    /// A header key in another spelling: some readers take it for the key itself.
    #[error("`{0}` is given in another spelling; write it as `{0}`, once")]
    CaseVariant(&'static str),
    /// The nested and the top value of a header key differ.
    #[error("`{0}` at the top and in a nested part differ; they must be equal")]
    NestedDiffers(&'static str),
    /// Nested parts inside nested parts without end.
    #[error("nested parts deeper than {0} levels")]
    TooDeep(usize),
    /// An id no store or log should have to carry.
    #[error("`{0}` is longer than {max} bytes or holds control characters", max = super::ID_MAX)]
    BadId(&'static str),
    /// A relation this version does not know.
    #[error("`relation` must be 0 to 3, or none, self, partner, blacklist")]
    UnknownRelation,
    /// `peer_id` is no peer id.
    #[error("`peer_id` is not a libp2p peer id: {0}")]
    BadPeerId(String),
    /// JSON that the document database cannot keep.
    #[error("MongoDB cannot keep it: {0}")]
    NotStorable(&'static str),
    /// `peer_id`, `/p2p/` of `stream_address` and `public_key` do not say the same.
    #[error("`{one}` says the peer is {first}, `{other}` says {second}; correct the wrong one")]
    Conflict {
        /// Where the first id stands.
        one: &'static str,
        /// The first id.
        first: String,
        /// Where the second id stands.
        other: &'static str,
        /// The second id.
        second: String,
    },
}

impl ModelError {
    /// A short code that never changes, for metric labels.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not_json",
            Self::NotObject => "not_object",
            Self::Missing(_) => "missing",
            Self::WrongType { .. } => "wrong_type",
            Self::Twice(_) => "duplicate_key",
            Self::CaseVariant(_) => "case_variant",
            Self::NestedDiffers(_) => "nested_differs",
            Self::TooDeep(_) => "too_deep",
            Self::BadId(_) => "bad_id",
            Self::UnknownRelation => "unknown_relation",
            Self::BadPeerId(_) => "bad_peer_id",
            Self::NotStorable(_) => "not_storable",
            Self::Conflict { .. } => "conflict",
        }
    }
}
