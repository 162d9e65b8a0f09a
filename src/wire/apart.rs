//! A message without its payload, when that is one large string of base64: decoded at once, and not looked at as JSON.
//!
//! Most of a message is its payload. As a part of the text it is passed over five times before it is decoded: for UTF-8,
//! nesting, JSON, the value's own text, and escapes. Base64 has none of these, and decoding finds out whether it is that.
//! Always: what is read is the same as from the whole text; whatever is not plain is left there.

use super::error::WireError;
use super::json::{self, ReadLimits};
use super::payload;
use bytes::Bytes;
use memchr::memmem::Finder;
use std::borrow::Cow;
use std::sync::LazyLock;

/// The key as every writer but a hand spells it, and the beginning of a string.
const KEY: &[u8] = b"\"payload\":\"";
static FIND_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(KEY));
/// How far from the beginning it is looked for.
const HEAD: usize = 1024;
/// Shorter messages are read whole: there is little to save.
const WORTH_IT: usize = 512;

/// Who finds out whether what the base64 held is JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// We do; what is none stays a string.
    Here,
    /// Whoever takes the payload: it is read to its last byte before anything comes of it.
    Later,
}

/// A message in its two parts.
pub(super) struct Apart<'a> {
    /// The message; with an empty string in the payload's place when that is apart.
    pub(super) rest: Cow<'a, [u8]>,
    /// The payload.
    pub(super) payload: Option<Payload<'a>>,
}

/// A payload that is apart.
pub(super) struct Payload<'a> {
    /// The string with its quotes, as it was received.
    quoted: &'a [u8],
    /// What it held.
    held: Vec<u8>,
}

impl<'a> Apart<'a> {
    /// Takes the payload out where that can be done.
    ///
    /// # Errors
    /// The message is larger, or the payload nested deeper, than the limits.
    pub(super) fn of(message: &'a [u8], limits: &ReadLimits, check: Check) -> Result<Self, WireError> {
        limits.check_size(message)?;
        let Some((rest, payload)) = part(message, check) else {
            return Ok(Self {
                rest: Cow::Borrowed(message),
                payload: None,
            });
        };
        limits.check_depth(&payload.held)?;
        Ok(Self {
            rest: Cow::Owned(rest),
            payload: Some(payload),
        })
    }
}

impl<'a> Payload<'a> {
    /// The payload that is apart, or else the one that `raw` of the rest is.
    ///
    /// # Errors
    /// As [`payload::read`].
    pub(super) fn or_of(apart: Option<Self>, raw: Option<&str>, limits: &ReadLimits) -> Result<Bytes, WireError> {
        match apart {
            Some(payload) => Ok(Bytes::from(payload.held)),
            None => payload::read(raw, limits),
        }
    }

    /// Its text as it was received.
    pub(super) fn text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.quoted).ok()
    }
}

/// None when the payload is no plain base64, or not where it is looked for: at the top of the message.
fn part(message: &[u8], check: Check) -> Option<(Vec<u8>, Payload<'_>)> {
    if message.len() < WORTH_IT {
        return None;
    }
    let at = FIND_KEY.find(message.get(..HEAD.min(message.len()))?)?;
    let head = message.get(..at)?;
    // Behind one of these a quote begins a key, or else this is no JSON; behind any other it may be part of a longer one.
    let begins_key = matches!(head.trim_ascii_end().last(), Some(b'{' | b','));
    if !begins_key || json::depth(head, 1) != Some(1) {
        return None;
    }
    let (open, begin) = (at + KEY.len() - 1, at + KEY.len());
    let length = memchr::memchr(b'"', message.get(begin..)?)?;
    let held = base64_simd::STANDARD
        .decode_to_vec(message.get(begin..begin + length)?)
        .ok()
        .filter(|held| !held.is_empty())?;
    if check == Check::Here && !payload::is_json(&held) {
        return None;
    }
    let (until, behind) = (message.get(..=open)?, message.get(begin + length..)?);
    let quoted = message.get(open..=begin + length)?;
    Some(([until, behind].concat(), Payload { quoted, held }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    const NAMES: [&str; 3] = ["user", "payload", "end"];

    fn whole(message: &str) -> Result<(Option<String>, Bytes), WireError> {
        let limits = ReadLimits::default();
        let [user, body, _] = json::object(limits.check(message.as_bytes())?, &NAMES)?;
        Ok((user.map(str::to_owned), payload::read(body, &limits)?))
    }

    fn apart(message: &str, check: Check) -> Result<(Option<String>, Bytes, bool), WireError> {
        let limits = ReadLimits::default();
        let Apart { rest, payload } = Apart::of(message.as_bytes(), &limits, check)?;
        let was = payload.is_some();
        let [user, body, _] = json::object(limits.check(&rest)?, &NAMES)?;
        Ok((user.map(str::to_owned), Payload::or_of(payload, body, &limits)?, was))
    }

    fn large() -> String {
        STANDARD.encode(format!("{{\"a\":\"{}\"}}", "x".repeat(600)))
    }

    #[test]
    fn what_is_apart_is_what_the_whole_text_says() {
        let large = large();
        for (message, is_apart) in [
            (format!(r#"{{"user":"u","payload":"{large}","end":1}}"#), true),
            (format!(r#"{{"payload":"{large}","user":"u"}}"#), true),
            (format!(r#" {{ "x":[{{"payload":"{large}"}}], "user":"u"}}"#), false),
            (format!(r#"{{"user":{{"payload":"{large}"}},"payload":"e30="}}"#), false),
            (format!(r#"{{"a\"payload":"{large}","user":"u"}}"#), false),
            (format!(r#"{{"user":"a,\"payload\":\"b","payload":"{large}"}}"#), true),
            (format!(r#"{{"user":"{{","payload":"{large}"}}"#), true),
            (format!(r#"{{"user":"u","payload":"{large}\u003d"}}"#), false),
            (format!(r#"{{"user":"u","payload":"{large} "}}"#), false),
            (format!(r#"{{"user":"u","payload":{{"a":"{large}"}}}}"#), false),
            (format!(r#"{{"user":"u","Payload":"{large}"}}"#), false),
        ] {
            let (user, payload) = whole(&message).unwrap();
            for check in [Check::Here, Check::Later] {
                let read = apart(&message, check).unwrap();
                assert_eq!(read, (user.clone(), payload.clone(), is_apart), "{message}");
            }
        }
    }

    #[test]
    fn what_is_no_json_stays_so() {
        let large = large();
        for message in [
            format!(r#"{{"user":"u,"payload":"{large}"}}"#),
            format!(r#"{{"user":"u","payload":"{large}"#),
            format!(r#"{{"payload":"{large}"}}}}"#),
            format!(r#"{{"payload":"{large}","payload":"{large}"}}"#),
            format!(r#"{{"payload":"{large}","PayLoad":1}}"#),
            format!(r#"["payload":"{large}"]"#),
            format!(r#"{{,"payload":"{large}"}}"#),
        ] {
            let rule = whole(&message).map_err(|error| error.rule()).map(|_| ());
            assert!(rule.is_err(), "{message}");
            assert_eq!(
                apart(&message, Check::Here).map_err(|error| error.rule()).map(|_| ()),
                rule
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_stands_around_it(before in around(), behind in around(), base64 in base64()) {
            let message = format!("{{{before}\"payload\":\"{base64}\"{behind}}}");
            let wanted = whole(&message).map_err(|_| ());
            let read = apart(&message, Check::Here).map_err(|_| ());
            proptest::prop_assert_eq!(read.map(|(user, payload, _)| (user, payload)), wanted, "{}", message);
        }
    }

    fn base64() -> impl proptest::strategy::Strategy<Value = String> {
        proptest::sample::select(vec![
            large(),
            large() + "\\",
            large()[1..].to_owned(),
            "e30=".to_owned(),
        ])
    }

    fn around() -> impl proptest::strategy::Strategy<Value = String> {
        let tokens = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            " ",
            "1",
            "null",
            "\"user\":\"u\"",
            "\"x\":",
            "\"payload\":",
            "\"Payload\":\"e30=\"",
            "\"payload\":\"",
        ];
        let tokens = proptest::sample::select(tokens.to_vec());
        proptest::strategy::Strategy::prop_map(proptest::collection::vec(tokens, 0..8), |tokens| tokens.concat())
    }

    #[test]
    fn base64_of_something_else_is_a_string_unless_somebody_else_looks() {
        let other = STANDARD.encode("x".repeat(600));
        let message = format!(r#"{{"payload":"{other}"}}"#);
        let (_, here, is_apart) = apart(&message, Check::Here).unwrap();
        assert_eq!((here, is_apart), (whole(&message).unwrap().1, false));
        let (_, later, _) = apart(&message, Check::Later).unwrap();
        assert_eq!(later, "x".repeat(600));
    }

    #[test]
    fn bounds_hold_for_both_parts() {
        let limits = ReadLimits::default();
        let deep = STANDARD.encode(format!("{}{}{}", "[".repeat(65), " ".repeat(600), "]".repeat(65)));
        let message = format!(r#"{{"payload":"{deep}"}}"#);
        for check in [Check::Here, Check::Later] {
            assert_eq!(apart(&message, check), Err(WireError::TooDeep(64)));
        }
        let long = vec![b'{'; limits.message_bytes + 1];
        assert!(matches!(
            Apart::of(&long, &limits, Check::Here),
            Err(WireError::TooLarge { .. })
        ));
        let around = format!(
            r#"{{"payload":"{}","end":{}{}}}"#,
            large(),
            "[".repeat(64),
            "]".repeat(64)
        );
        assert_eq!(apart(&around, Check::Here), Err(WireError::TooDeep(64)));
    }
}
