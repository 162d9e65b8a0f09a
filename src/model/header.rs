//! The header of a document that crosses an organisation's border, read so strictly that every reader agrees on it.
//!
//! Go apps decode keys case-insensitively, the last one winning, and the Go driver nests embedded structs: a document that
//! says `creator_id` twice, or `Creator_ID` as well, could be one sender's here and another's there. Such are refused.

use super::access::is_public;
use super::error::ModelError;
use super::fields;

/// Longest id or DID, in bytes.
pub const ID_MAX: usize = 256;

/// Keys of which a document may have only one, in this spelling.
const NAMES: [&str; 9] = [
    "id",
    "creator_id",
    "name",
    "is_draft",
    "access_mode",
    "user_creator_id",
    "creation_date",
    "update_date",
    "updater_id",
];

/// What every document says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its id, never empty.
    pub id: String,
    /// DID of the organisation it belongs to, never empty.
    pub creator_id: String,
    /// For people; empty when it has none.
    pub name: String,
    /// Whether everyone may see it (`access_mode`).
    pub public: bool,
    /// Whether it is not meant for others yet.
    pub is_draft: bool,
}

/// Reads the header of a document that comes from a partner or goes to one.
///
/// # Errors
/// Not an object; `id` or `creator_id` missing, too long or with control characters; a header key twice, in other letters,
/// or with another value in a nested part.
pub fn read_header(doc: &[u8]) -> Result<Header, ModelError> {
    let found = fields::read(doc, &NAMES)?;
    if let Some(irregular) = found.irregular {
        return Err(irregular);
    }
    let [id, creator_id, name, is_draft, access_mode, ..] = found.values;
    Ok(Header {
        id: identifier(id, "id")?,
        creator_id: identifier(creator_id, "creator_id")?,
        name: match name {
            None | Some("null") => String::new(),
            Some(raw) => fields::string(raw)
                .ok_or(ModelError::WrongType {
                    key: "name",
                    expected: "a string",
                })?
                .into(),
        },
        public: access_mode.is_some_and(|raw| serde_json::from_str(raw).is_ok_and(|value| is_public(&value))),
        is_draft: is_draft == Some("true"),
    })
}

/// The id of a document of our own apps, nested parts included; none when it has none under that name.
///
/// # Errors
/// Not an object; `id` twice, in other letters, or with another value in a nested part; no text, too long or with control
/// characters.
pub fn read_document_id(doc: &[u8]) -> Result<Option<String>, ModelError> {
    let found = fields::read(doc, &["id"])?;
    if let Some(irregular) = found.irregular {
        return Err(irregular);
    }
    match identifier(found.values.into_iter().next().flatten(), "id") {
        Ok(id) => Ok(Some(id)),
        Err(ModelError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn identifier(raw: Option<&str>, key: &'static str) -> Result<String, ModelError> {
    let raw = raw.filter(|raw| *raw != "null").ok_or(ModelError::Missing(key))?;
    let text = fields::string(raw).ok_or(ModelError::WrongType {
        key,
        expected: "a string",
    })?;
    check_id(&text, key)?;
    Ok(text.into_owned())
}

/// Whether the text can be an id.
pub(super) fn check_id(text: &str, key: &'static str) -> Result<(), ModelError> {
    if text.is_empty() {
        return Err(ModelError::Missing(key));
    }
    if text.len() > ID_MAX || text.chars().any(char::is_control) {
        return Err(ModelError::BadId(key));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(doc: &str) -> Result<(), &'static str> {
        read_header(doc.as_bytes()).map(|_| ()).map_err(|error| error.rule())
    }

    #[test]
    fn plain_and_nested_headers_are_the_same() {
        let plain = read_header(br#"{"id":"r","creator_id":"d","name":"n","access_mode":1,"is_draft":true,"x":[{}]}"#);
        let header = Header {
            id: "r".into(),
            creator_id: "d".into(),
            name: "n".into(),
            public: true,
            is_draft: true,
        };
        assert_eq!(plain, Ok(header));
        let nested =
            br#"{"abstractinstanciatedresource":{"abstractresource":{"abstractobject":{"id":"r","creator_id":"d",
            "name":"n","access_mode":1,"is_draft":true}}},"id":"\u0072","abstractobject":null}"#;
        assert_eq!(read_header(nested), plain);
    }

    #[test]
    fn what_readers_could_disagree_on_is_refused() {
        for (extra, wanted) in [
            (r#""id":"r2""#, "duplicate_key"),
            (r#""\u0069d":"r""#, "duplicate_key"),
            (r#""ID":"r""#, "case_variant"),
            (r#""Creator_ID":"d2""#, "case_variant"),
            (r#""creator_iD":"d""#, "case_variant"),
            (r#""acceſſ_mode":1"#, "case_variant"),
            (r#""UPDATER_ID":"""#, "case_variant"),
            (r#""AbstractObject":{}"#, "case_variant"),
            (r#""abstractobject":{"creator_id":"d2"}"#, "nested_differs"),
            (r#""abstractobject":{"Creator_Id":"d"}"#, "case_variant"),
            (r#""abstractobject":{"id":"r","id":"r"}"#, "duplicate_key"),
            (r#""abstractobject":{},"abstractobject":{}"#, "duplicate_key"),
            (
                r#""abstractobject":{"name":"a"},"abstractresource":{"name":"b"}"#,
                "nested_differs",
            ),
            (r#""abstractobject":[]"#, "wrong_type"),
            (r#""name":{}"#, "wrong_type"),
        ] {
            assert_eq!(
                rule(&format!(r#"{{"id":"r","creator_id":"d",{extra}}}"#)),
                Err(wanted),
                "{extra}"
            );
            assert_eq!(
                rule(&format!(r#"{{{extra},"creator_id":"d","id":"r"}}"#)),
                Err(wanted),
                "{extra} first"
            );
        }
    }

    #[test]
    fn what_no_reader_takes_for_the_key_is_allowed() {
        for extra in [
            r#""creatorid":"x""#,
            r#""_id":"x""#,
            r#""id ":"x""#,
            r#""instances":[{"id":"x","ID":"y"}]"#,
        ] {
            assert_eq!(
                rule(&format!(r#"{{"id":"r","creator_id":"d",{extra}}}"#)),
                Ok(()),
                "{extra}"
            );
        }
    }

    #[test]
    fn ids_are_needed_and_bounded() {
        let long = format!(r#"{{"id":"{}","creator_id":"d"}}"#, "a".repeat(257));
        for (doc, wanted) in [
            (r#"{"creator_id":"d"}"#, "missing"),
            (r#"{"id":"r"}"#, "missing"),
            (r#"{"id":"","creator_id":"d"}"#, "missing"),
            (r#"{"id":null,"creator_id":"d"}"#, "missing"),
            (r#"{"id":7,"creator_id":"d"}"#, "wrong_type"),
            (r#"{"id":"a\u0000b","creator_id":"d"}"#, "bad_id"),
            (r#"{"id":"a","creator_id":"d\n"}"#, "bad_id"),
            (r#"{"id":"\ud800","creator_id":"d"}"#, "wrong_type"),
            (&long, "bad_id"),
            ("[]", "not_object"),
            ("{", "not_json"),
            ("{}x", "not_json"),
        ] {
            assert_eq!(rule(doc), Err(wanted), "{doc}");
        }
        let nests = |count: usize| {
            let inner = r#"{"id":"r","creator_id":"d"}"#.to_owned();
            (0..count).fold(inner, |inner, _| format!(r#"{{"abstractobject":{inner}}}"#))
        };
        assert_eq!(rule(&nests(fields::NEST_DEPTH_MAX)), Ok(()));
        assert_eq!(rule(&nests(fields::NEST_DEPTH_MAX + 1)), Err("too_deep"));
        assert_eq!(
            read_header(b"{\"id\":\"\xff\"}").map_err(|error| error.rule()),
            Err("not_json")
        );
    }
}
