//! Why a message could not be read. Each reason has a short stable code for counters; texts never quote payloads.

use thiserror::Error;

/// Why bytes from outside were refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// Not one complete JSON value.
    #[error("not one JSON value: {0}")]
    NotJson(String),
    /// Bytes that are not UTF-8.
    #[error("not UTF-8 after byte {0}; JSON is UTF-8")]
    BadUtf8(usize),
    /// More bytes (or entries) than the limit.
    #[error("{what} is {size}, the limit is {limit}")]
    TooLarge {
        /// What was measured.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
    /// Nested deeper than the limit.
    #[error("nested deeper than {0} levels")]
    TooDeep(usize),
    /// The same header key twice, perhaps under two spellings.
    #[error("key `{0}` is given twice (spellings that differ in case or `_` are the same key)")]
    DuplicateKey(&'static str),
    /// A key that must be there is not.
    #[error("key `{0}` is missing")]
    Missing(&'static str),
    /// A value of another kind than expected.
    #[error("key `{key}` must be {expected}")]
    WrongType {
        /// The key, in its written spelling.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// An action this version does not know.
    #[error("unknown action {0:?}")]
    UnknownAction(String),
    /// A datatype this version does not know.
    #[error("unknown datatype {0:?}")]
    UnknownDataType(String),
    /// A line of a stream that is none of those this version knows.
    #[error("none of the lines that this stream has")]
    UnknownLine,
    /// A search scope other than all, known, partner.
    #[error("unknown search type {0:?}: use all, known or partner")]
    UnknownScope(String),
    /// A key whose bytes must be base64 (standard alphabet, padded).
    #[error("key `{0}` is not padded standard base64")]
    BadBase64(&'static str),
    /// The signature does not fit the text and the key.
    #[error("the signature does not match the message and the sender's key")]
    BadSignature,
    /// Checked for a signature but has none.
    #[error("the message is not signed")]
    NotSigned,
    /// The own key could not sign.
    #[error("cannot sign: {0}")]
    CannotSign(String),
}

impl WireError {
    /// A short code that never changes, for metric labels.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not_json",
            Self::BadUtf8(_) => "bad_utf8",
            Self::TooLarge { .. } => "too_large",
            Self::TooDeep(_) => "too_deep",
            Self::DuplicateKey(_) => "duplicate_key",
            Self::Missing(_) => "missing",
            Self::WrongType { .. } => "wrong_type",
            Self::UnknownAction(_) => "unknown_action",
            Self::UnknownDataType(_) => "unknown_datatype",
            Self::UnknownLine => "unknown_line",
            Self::UnknownScope(_) => "unknown_scope",
            Self::BadBase64(_) => "bad_base64",
            Self::BadSignature => "bad_signature",
            Self::NotSigned => "not_signed",
            Self::CannotSign(_) => "cannot_sign",
        }
    }
}

/// A foreign word as it may appear in an error: at most 32 characters of it.
pub(super) fn quoted(word: &str) -> String {
    word.chars().take(32).collect()
}
