//! Payloads of searches: what an app asks, what one daemon asks another, and how a search ended.

use bytes::Bytes;

use super::datatype::DataType;
use super::error::{WireError, quoted};
use super::ids::TEXT_MAX;
use super::json;
use super::write::ObjectWriter;

/// Longest search text, in bytes: a longer one is refused, by the asker already.
pub const SEARCH_TEXT_MAX: usize = 1024;

const NAMES: [&str; 6] = ["search", "id", "limit", "timeoutms", "datatype", "type"];
const QUESTION_NAMES: [&str; 5] = ["search", "id", "limit", "timeoutms", "datatype"];

/// Whom a search is put to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SearchScope {
    /// Everyone, by gossip.
    All,
    /// Every peer in the store that is not blacklisted.
    Known,
    /// Partners.
    Partner,
}

impl SearchScope {
    /// By its name on the wire.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "all" => Some(Self::All),
            "known" => Some(Self::Known),
            "partner" => Some(Self::Partner),
            _ => None,
        }
    }
}

/// What an app asks: the payload of PB_SEARCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchRequest {
    /// Whom to ask; all when it does not say.
    pub scope: SearchScope,
    /// What to look for; empty matches everything.
    pub text: String,
    /// Repeated as `search_id` in the answers.
    pub id: Option<String>,
    /// Most answers wanted.
    pub limit: Option<usize>,
    /// Milliseconds until it ends.
    pub timeout_ms: Option<u64>,
    /// Only this kind.
    pub datatype: Option<DataType>,
}

impl SearchRequest {
    /// Reads the payload of PB_SEARCH, already within the limits of its message.
    ///
    /// Without a text (Go leaves an empty one out) everything matches.
    ///
    /// # Errors
    /// Not an object, a value of the wrong kind, an unknown scope, an `id` over 1,024 bytes, a text longer than
    /// [`SEARCH_TEXT_MAX`].
    pub fn read(payload: &[u8]) -> Result<Self, WireError> {
        let [search, id, limit, timeout_ms, datatype, scope] = json::object(json::text(payload)?, &NAMES)?;
        let scope = match json::string(scope, "type")? {
            None => SearchScope::All,
            Some(name) if name.is_empty() => SearchScope::All,
            Some(name) => SearchScope::from_name(&name).ok_or_else(|| WireError::UnknownScope(quoted(&name)))?,
        };
        let search = json::given(search).or(Some("\"\""));
        let question = Question::from_fields([search, id, limit, timeout_ms, datatype])?;
        let Question {
            text,
            id,
            limit,
            timeout_ms,
            datatype,
        } = question;
        Ok(Self {
            scope,
            text: json::at_most(text, "search", SEARCH_TEXT_MAX)?,
            id,
            limit,
            timeout_ms,
            datatype,
        })
    }
}

impl SearchRequest {
    /// The `id` of a payload that may be no request: whoever waits for the end of that search is told.
    pub fn id_of(payload: &[u8]) -> Option<String> {
        let [id] = json::object(json::text(payload).ok()?, &["id"]).ok()?;
        let id = json::needed_string(id, "id").ok()?;
        json::at_most(id, "id", TEXT_MAX).ok()
    }
}

/// What one daemon asks another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What to look for; empty matches everything.
    pub text: String,
    /// The asker's name for this search.
    pub id: Option<String>,
    /// Most answers wanted.
    pub limit: Option<usize>,
    /// Milliseconds until the asker stops listening.
    pub timeout_ms: Option<u64>,
    /// Only this kind.
    pub datatype: Option<DataType>,
}

impl Question {
    /// The question in a payload; none when it is anything else, which on the search protocol means an answer: a
    /// question is an object with `search` and no key but those known here.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let fields = json::only(json::text(payload).ok()?, &QUESTION_NAMES)?;
        Self::from_fields(fields).ok()
    }

    /// The same by gossip, where there are only questions: other keys are for others to know.
    pub fn read_gossiped(payload: &[u8]) -> Option<Self> {
        let fields = json::object(json::text(payload).ok()?, &QUESTION_NAMES).ok()?;
        Self::from_fields(fields).ok()
    }

    fn from_fields([search, id, limit, timeout_ms, datatype]: [Option<&str>; 5]) -> Result<Self, WireError> {
        Ok(Self {
            text: json::string(search, "search")?
                .ok_or(WireError::Missing("search"))?
                .into(),
            id: json::string(id, "id")?
                .filter(|id| !id.is_empty())
                .map(|id| json::at_most(id.into(), "id", TEXT_MAX))
                .transpose()?,
            limit: json::count(limit, "limit")?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            timeout_ms: json::count(timeout_ms, "timeout_ms")?,
            datatype: Some(json::datatype(datatype)?).filter(|kind| *kind != DataType::Invalid),
        })
    }

    /// The one written form; what is not set is left out.
    pub fn write(&self) -> Bytes {
        ObjectWriter::new(self.text.len() + 96)
            .string("search", &self.text)
            .optional_string("id", self.id.as_deref())
            .optional_number("limit", self.limit.map(|limit| limit as u64))
            .optional_number("timeout_ms", self.timeout_ms)
            .optional_number("datatype", self.datatype.map(|kind| kind.code().into()))
            .finish()
            .into()
    }
}

/// The last word of a search to the app that asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchEnd {
    /// The `id` the app gave, or the one made for it.
    pub search_id: String,
    /// Peers that were asked.
    pub asked: usize,
    /// Peers that answered, with or without results.
    pub answered: usize,
    /// Peers that could not be reached or broke off.
    pub failed: usize,
    /// Peers that were left out.
    pub skipped: usize,
    /// Answers passed on.
    pub results: usize,
    /// Whether there were more, or may have been: the search ended at its limit.
    pub truncated: bool,
    /// The rule by which nobody was asked; written only when there is one.
    pub error: Option<&'static str>,
}

impl SearchEnd {
    /// The report of a search that nobody was asked for or answered.
    pub fn without_answers(search_id: String) -> Self {
        Self {
            search_id,
            asked: 0,
            answered: 0,
            failed: 0,
            skipped: 0,
            results: 0,
            truncated: false,
            error: None,
        }
    }

    /// The report of a search that was refused by this rule.
    pub fn refused(search_id: String, rule: &'static str) -> Self {
        Self {
            error: Some(rule),
            ..Self::without_answers(search_id)
        }
    }

    /// The one written form.
    pub fn write(&self) -> Vec<u8> {
        ObjectWriter::new(self.search_id.len() + 128)
            .string("search_id", &self.search_id)
            .number("asked", self.asked as u64)
            .number("answered", self.answered as u64)
            .number("failed", self.failed as u64)
            .number("skipped", self.skipped as u64)
            .number("results", self.results as u64)
            .flag("truncated", self.truncated)
            .optional_string("error", self.error)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_say_whom_and_what() {
        let plain = SearchRequest::read(br#"{"search":"x"}"#).unwrap();
        assert_eq!((plain.scope, plain.text.as_str()), (SearchScope::All, "x"));
        let full = SearchRequest::read(
            br#"{"type":"partner","Search":"","ID":"i","limit":"5","TimeoutMs":100,"datatype":"data_resource"}"#,
        )
        .unwrap();
        assert_eq!(full.scope, SearchScope::Partner);
        assert_eq!(
            (full.id.as_deref(), full.limit, full.timeout_ms),
            (Some("i"), Some(5), Some(100))
        );
        assert_eq!(full.datatype, Some(DataType::DataResource));
        let zero = SearchRequest::read(br#"{"type":"","search":"x","id":"","limit":0,"timeout_ms":0,"datatype":0}"#);
        assert_eq!(zero.unwrap(), plain, "what Go writes for unset fields is unset");
        for everything in [r#"{}"#, r#"{"search":null}"#, r#"{"search":""}"#] {
            let read = SearchRequest::read(everything.as_bytes()).unwrap();
            assert_eq!((read.scope, read.text.as_str()), (SearchScope::All, ""), "{everything}");
        }
        let id = |payload: &str| SearchRequest::id_of(payload.as_bytes());
        assert_eq!(id(r#"{"id":"s","limit":-1}"#).as_deref(), Some("s"));
        assert_eq!((id(r#"{"id":7}"#), id("[]")), (None, None));
        for (text, rule) in [
            ("[]", "wrong_type"),
            ("\"x\"", "wrong_type"),
            (r#"{"search":1}"#, "wrong_type"),
            (r#"{"search":"x","type":"nobody"}"#, "unknown_scope"),
            (&format!(r#"{{"search":"x","id":"{}"}}"#, "i".repeat(1025)), "too_large"),
            (r#"{"search":"x","limit":-1}"#, "wrong_type"),
            (r#"{"search":"x","limit":1.5}"#, "wrong_type"),
            (
                &format!(r#"{{"search":"{}"}}"#, "x".repeat(SEARCH_TEXT_MAX + 1)),
                "too_large",
            ),
        ] {
            assert_eq!(
                SearchRequest::read(text.as_bytes()).map_err(|error| error.rule()),
                Err(rule),
                "{text}"
            );
        }
    }

    #[test]
    fn a_question_has_no_other_key() {
        let question = Question {
            text: "x".into(),
            id: None,
            limit: Some(3),
            timeout_ms: None,
            datatype: None,
        };
        assert_eq!(Question::read(br#"{"search":"x","limit":3}"#), Some(question.clone()));
        assert_eq!(Question::read(&question.write()), Some(question));
        for answer in [
            r#"{"id":"1","name":"x"}"#,
            r#"{"search":"x","name":"y"}"#,
            r#"{"search":"x","type":"all"}"#,
            r#"{"search":"x","Search":"y"}"#,
            r#"{"search":{}}"#,
            "{}",
            "[]",
            "",
        ] {
            assert_eq!(Question::read(answer.as_bytes()), None, "{answer}");
        }
        let more = br#"{"search":"x","limit":3,"type":"all","new":[1]}"#;
        assert_eq!(
            Question::read_gossiped(more),
            Question::read(br#"{"search":"x","limit":3}"#)
        );
        for none in [
            r#"{"find":"x"}"#,
            r#"{"search":{}}"#,
            r#"{"search":"x","Search":"y"}"#,
            "[]",
            "",
        ] {
            assert_eq!(Question::read_gossiped(none.as_bytes()), None, "{none}");
        }
    }
}
