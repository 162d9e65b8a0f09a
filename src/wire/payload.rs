//! The payload rule, the same in envelope, message and event: base64 of JSON is that JSON, anything else is itself.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::error::WireError;
use super::json::{ReadLimits, given, unquoted};

/// The payload's bytes, untouched: what the base64 held, or the raw text of any other JSON value.
///
/// Missing, `null` and `""` (Go's nil and empty slice) are no bytes. A string that is not base64 of JSON is kept as the JSON
/// string it is; whoever needs an object refuses it.
///
/// # Errors
/// A decoded payload nested deeper than the limit.
pub(super) fn read(raw: Option<&str>, limits: &ReadLimits) -> Result<Bytes, WireError> {
    let Some(raw) = given(raw) else { return Ok(Bytes::new()) };
    if raw == "\"\"" {
        return Ok(Bytes::new());
    }
    match decoded(raw) {
        Some(json) => {
            limits.check_depth(&json)?;
            Ok(Bytes::from(json))
        }
        None => Ok(Bytes::copy_from_slice(raw.as_bytes())),
    }
}

/// The JSON inside a string of base64.
fn decoded(raw: &str) -> Option<Vec<u8>> {
    let text: Cow<'_, str> = unquoted(raw, "payload").ok().flatten()?;
    let bytes = base64_simd::STANDARD.decode_to_vec(text.as_bytes()).ok()?;
    is_json(&bytes).then_some(bytes)
}

/// Whether these bytes are one JSON value.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<&RawValue>(text).is_ok())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn payload(raw: &str) -> String {
        String::from_utf8(read(Some(raw), &ReadLimits::default()).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn base64_of_json_is_that_json() {
        assert_eq!(payload(r#""eyJhIjogMX0=""#), r#"{"a": 1}"#);
        assert_eq!(payload(r#""IiI=""#), r#""""#);
        assert_eq!(payload(r#""WyI/Il0=""#), r#"["?"]"#);
        assert_eq!(payload(r#""WyI\/Il0=""#), r#"["?"]"#, "some writers escape the slash");
    }

    #[test]
    fn anything_else_is_itself() {
        let strings = ["\"hello\"", "\"eyJhIjogMX0\"", "\"AAAA\"", "\"\\ud800\"", "\"e30= \""];
        for raw in strings.into_iter().chain(["{\"a\" : [1e3]}", "[]", "1.50", "true"]) {
            assert_eq!(payload(raw), raw);
        }
        for raw in [None, Some("null"), Some("\"\"")] {
            assert_eq!(read(raw, &ReadLimits::default()), Ok(Bytes::new()));
        }
    }

    #[test]
    fn depth_counts_inside_base64() {
        let deep = "[".repeat(65) + &"]".repeat(65);
        let raw = format!("\"{}\"", STANDARD.encode(&deep));
        assert_eq!(read(Some(&raw), &ReadLimits::default()), Err(WireError::TooDeep(64)));
        let fits = format!("\"{}\"", STANDARD.encode(&deep[1..129]));
        assert_eq!(read(Some(&fits), &ReadLimits::default()).unwrap().len(), 128);
    }
}
