//! An answer for daemons that take it so: the document stands as it is, under the last key of the line.
//!
//! As base64 it is a third longer, and each byte of an answer is encrypted twice, copied, sent and read again at the other end.
//! Always: nothing stands behind the document, and whoever takes the answer reads it to its last byte before anything comes of
//! it; a document that cannot stand in one line goes as base64.

use super::json;
use memchr::memmem::Finder;
use std::sync::LazyLock;

/// The last key, behind others.
pub(super) const DOCUMENT: &str = "document";
const KEY: &[u8] = b",\"document\":{";
static FIND_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(KEY));
/// How far from the beginning it is looked for.
const HEAD: usize = 4096;

/// Whether a document can stand in such a line, behind texts of so many bytes.
pub(super) fn fits(document: &[u8], texts: usize) -> bool {
    // An escape is six bytes at the most; the rest are the keys, a number and a time.
    let within = texts.saturating_mul(6) + 256 < HEAD;
    within
        && document.first() == Some(&b'{')
        && document.last() == Some(&b'}')
        && memchr::memchr(b'\n', document).is_none()
}

/// The line without its document, and that; none when it is no such line.
pub(super) fn part(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let line = line.trim_ascii_end().strip_suffix(b"}")?;
    let at = FIND_KEY.find(line.get(..HEAD.min(line.len()))?)?;
    let (head, behind) = (line.get(..at)?, line.get(at + KEY.len() - 1..)?);
    // Inside a string the quote behind the comma would end it, and then the head is no JSON.
    (json::depth(head, 1) == Some(1)).then(|| ([head, b"}"].concat(), behind))
}

#[cfg(test)]
mod tests {
    use crate::model::read_header;
    use crate::wire::{Action, DataType, Event, ReadLimits, WireError};
    use bytes::Bytes;

    const DOCUMENT: &str = r#"{"id":"r","creator_id":"did:b","x":[{},"}"]}"#;

    fn answer(document: &str) -> Event {
        let mut event = Event::new(
            Action::Search,
            "did:b",
            "u,\"document\":{",
            DataType::DataResource,
            Bytes::from(document.to_owned()),
            "2024-01-02T03:04:05Z",
        );
        event.search_id = Some("s".into());
        event
    }

    fn read(line: &str) -> Result<Event, WireError> {
        Event::read_line_of_search(line.as_bytes(), &ReadLimits::default())
    }

    #[test]
    fn a_document_arrives_byte_for_byte_in_either_form() {
        for (document, plain) in [
            (DOCUMENT, true),
            ("{ \"a\" : \"\u{2028}\\n\" }", true),
            ("{}", true),
            ("{\n}", false),
            (" {}", false),
            ("{} ", false),
            ("[]", false),
            ("", false),
        ] {
            let (mut line, event) = (b"before\n".to_vec(), answer(document));
            event.write_plain_line_onto(&mut line);
            let line = String::from_utf8(line).unwrap();
            let line = line.strip_prefix("before\n").unwrap();
            assert_eq!(line.matches('\n').count(), 1, "{document}");
            assert_eq!(line.contains(",\"document\":{"), plain, "{document}");
            assert_eq!(read(line), Ok(event), "{document}");
        }
    }

    #[test]
    fn long_texts_before_it_are_no_hindrance() {
        for length in [100, 600, 700, 1024] {
            let mut event = answer(DOCUMENT);
            event.user = "<".repeat(length);
            let mut line = Vec::new();
            event.write_plain_line_onto(&mut line);
            assert_eq!(read(std::str::from_utf8(&line).unwrap()), Ok(event), "{length}");
        }
    }

    #[test]
    fn what_is_no_such_line_says_nothing_else_by_it() {
        let head = r#"{"type":"search","from":"did:b""#;
        for (tail, rule) in [
            (r#","payload":"e30=","document":{}}"#, "duplicate_key"),
            (r#","payload":{"id":"a"},"document":{}}"#, "missing"),
            (r#","document":{"id":"r"}"#, "not_json"),
            (r#","document":{"id":"r"}}}"#, "not_json"),
            (r#","document":{"id":"r"},"sig":null}"#, "not_json"),
            (
                r#","document":{"id":"r"},"payload":{"id":"r","creator_id":"did:b"}}"#,
                "not_json",
            ),
            (r#","User":"u,"document":{"id":"r","creator_id":"did:b"}}"#, "not_json"),
            (r#","document":[]}"#, "not_object"),
            (
                r#","end":{"x":1,"document":{"id":"r","creator_id":"did:b"}}}"#,
                "not_object",
            ),
        ] {
            let read = read(&format!("{head}{tail}"));
            let got = match &read {
                Ok(event) if event.payload.is_empty() => "not_object",
                Ok(event) => read_header(&event.payload).map_or_else(|error| error.rule(), |_| "taken"),
                Err(error) => error.rule(),
            };
            assert_eq!(got, rule, "{tail}");
        }
        let deep = format!("{head},\"document\":{{\"a\":{}{}}}}}", "[".repeat(64), "]".repeat(64));
        assert_eq!(read(&deep), Err(WireError::TooDeep(64)));
    }
}
