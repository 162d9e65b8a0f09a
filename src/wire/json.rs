//! Tolerant, bounded reading of one JSON object: keys by alias, values as the text they were received in.
//!
//! Never builds a value tree: a field that nobody asks for costs one pass over its bytes. Always holds: bytes are checked
//! for size, UTF-8 and nesting before anything else looks at them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::datatype::DataType;
use super::error::{WireError, quoted};
use super::names::Action;

/// How much of a message is read before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Most bytes of one message.
    pub message_bytes: usize,
    /// Most levels of `{` and `[`, also inside a base64 payload. Keep it below 128, where JSON trees stop.
    pub depth: usize,
}

impl Default for ReadLimits {
    /// What a NATS server carries by default (1 MiB), and half of the nesting a JSON tree may have.
    fn default() -> Self {
        Self {
            message_bytes: 1 << 20,
            depth: 64,
        }
    }
}

impl ReadLimits {
    /// The message as text, when it is small enough, UTF-8 and not too deep. Says nothing yet of it being JSON.
    pub(super) fn check<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, WireError> {
        self.check_size(bytes)?;
        let text = std::str::from_utf8(bytes).map_err(|error| WireError::BadUtf8(error.valid_up_to()))?;
        self.check_depth(bytes)?;
        Ok(text)
    }

    /// Refuses what is larger than the limit.
    pub(super) fn check_size(&self, bytes: &[u8]) -> Result<(), WireError> {
        if bytes.len() > self.message_bytes {
            return Err(WireError::TooLarge {
                what: "message",
                size: bytes.len(),
                limit: self.message_bytes,
            });
        }
        Ok(())
    }

    /// Refuses what is nested deeper than the limit, by one scan that knows strings and nothing else.
    pub(super) fn check_depth(&self, bytes: &[u8]) -> Result<(), WireError> {
        // Counting is quick, and almost always all that is needed: nothing is deeper than it has openings.
        if memchr::memchr2_iter(b'{', b'[', bytes).nth(self.depth).is_none() {
            return Ok(());
        }
        match depth(bytes, self.depth) {
            Some(_) => Ok(()),
            None => Err(WireError::TooDeep(self.depth)),
        }
    }
}

/// The levels open at the end; none when there were ever more than `most`.
pub(super) fn depth(bytes: &[u8], most: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => rest = behind_string(rest),
            b'{' | b'[' => {
                depth += 1;
                if depth > most {
                    return None;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Some(depth)
}

/// What follows a string whose opening quote was just read. Most of a message is one string, hence the fast search.
fn behind_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        let escape = rest.get(at) == Some(&b'\\');
        rest = rest.get(at + 1 + usize::from(escape)..).unwrap_or_default();
        if !escape {
            return rest;
        }
    }
    &[]
}

/// The raw texts of the wanted values of one JSON object, in the order of `names`.
///
/// `names` are written in lower case without `_`, which is how keys are compared. Keys not wanted are skipped.
///
/// # Errors
/// Not JSON, not an object, or a wanted key given twice.
pub(super) fn object<'a, const N: usize>(
    text: &'a str,
    names: &[&'static str; N],
) -> Result<[Option<&'a str>; N], WireError> {
    let found = scan(text, ObjectSeed { names, only: false })?;
    match found.twice.and_then(|index| names.get(index)) {
        Some(name) => Err(WireError::DuplicateKey(name)),
        None => Ok(found.values),
    }
}

/// As [`object`], but none when the object has a key that is not wanted, or cannot be read.
pub(super) fn only<'a, const N: usize>(text: &'a str, names: &[&'static str; N]) -> Option<[Option<&'a str>; N]> {
    // Most of what is asked so is a large document: its first key that is not wanted ends the reading.
    let found = scan(text, ObjectSeed { names, only: true }).ok()?;
    found.twice.is_none().then_some(found.values)
}

pub(super) struct Found<'a, const N: usize> {
    pub(super) values: [Option<&'a str>; N],
    pub(super) twice: Option<usize>,
}

fn scan<'a, const N: usize>(text: &'a str, seed: ObjectSeed<'_, N>) -> Result<Found<'a, N>, WireError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = seed.deserialize(&mut reader).map_err(|error| not_json(&error))?;
    reader.end().map_err(|error| not_json(&error))?;
    Ok(found)
}

pub(super) fn not_json(error: &serde_json::Error) -> WireError {
    if error.is_data() {
        return WireError::WrongType {
            key: "message",
            expected: "a JSON object",
        };
    }
    WireError::NotJson(error.to_string())
}

pub(super) struct ObjectSeed<'n, const N: usize> {
    pub(super) names: &'n [&'static str; N],
    /// Another key is an error.
    pub(super) only: bool,
}

impl<'de, const N: usize> DeserializeSeed<'de> for ObjectSeed<'_, N> {
    type Value = Found<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for ObjectSeed<'_, N> {
    type Value = Found<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Found {
            values: [None; N],
            twice: None,
        };
        while let Some(index) = map.next_key_seed(KeySeed { names: self.names })? {
            if self.only && index.is_none() {
                return Err(serde::de::Error::custom("a key that is not wanted"));
            }
            let value: &'de RawValue = map.next_value()?;
            match index.and_then(|index| found.values.get_mut(index).map(|slot| (index, slot))) {
                Some((_, slot @ None)) => *slot = Some(value.get()),
                Some((index, Some(_))) => found.twice = Some(index),
                None => {}
            }
        }
        Ok(found)
    }
}

pub(super) struct KeySeed<'n> {
    pub(super) names: &'n [&'static str],
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.names.iter().position(|name| is_alias(key, name)))
    }
}

/// Whether a key spells the folded name: lower-cased, `_` left out.
fn is_alias(key: &str, folded: &str) -> bool {
    key.bytes()
        .filter(|byte| *byte != b'_')
        .map(|byte| byte.to_ascii_lowercase())
        .eq(folded.bytes())
}

/// The value when it is there and not `null`.
pub(super) fn given(raw: Option<&str>) -> Option<&str> {
    raw.filter(|text| *text != "null")
}

/// The characters of a JSON string's text; none when the text is not a string.
///
/// # Errors
/// A string with an escape that is no character (half a surrogate pair).
pub(super) fn unquoted<'a>(raw: &'a str, key: &'static str) -> Result<Option<Cow<'a, str>>, WireError> {
    let Some(inner) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Ok(None);
    };
    if !inner.contains('\\') {
        return Ok(Some(Cow::Borrowed(inner)));
    }
    match serde_json::from_str::<String>(raw) {
        Ok(text) => Ok(Some(Cow::Owned(text))),
        Err(_) => Err(WireError::WrongType {
            key,
            expected: "a string of whole characters",
        }),
    }
}

/// A string; none when missing or `null`.
pub(super) fn string<'a>(raw: Option<&'a str>, key: &'static str) -> Result<Option<Cow<'a, str>>, WireError> {
    let Some(raw) = given(raw) else { return Ok(None) };
    unquoted(raw, key)?.map(Some).ok_or(WireError::WrongType {
        key,
        expected: "a string",
    })
}

/// A string; empty when missing or `null`, as Go reads it.
pub(super) fn string_or_empty(raw: Option<&str>, key: &'static str) -> Result<String, WireError> {
    Ok(string(raw, key)?.map(Cow::into_owned).unwrap_or_default())
}

/// A string that must be there and hold something.
pub(super) fn needed_string(raw: Option<&str>, key: &'static str) -> Result<String, WireError> {
    string(raw, key)?
        .filter(|text| !text.is_empty())
        .map(Cow::into_owned)
        .ok_or(WireError::Missing(key))
}

/// The same text when it has at most so many bytes.
pub(super) fn at_most(text: String, what: &'static str, limit: usize) -> Result<String, WireError> {
    match text.len() {
        size if size > limit => Err(WireError::TooLarge { what, size, limit }),
        _ => Ok(text),
    }
}

/// A list of strings of at most `most` entries; empty when missing or `null`.
pub(super) fn strings(raw: Option<&str>, key: &'static str, most: usize) -> Result<Vec<String>, WireError> {
    let Some(raw) = given(raw) else { return Ok(Vec::new()) };
    let list: Vec<String> = serde_json::from_str(raw).map_err(|_| WireError::WrongType {
        key,
        expected: "a list of strings",
    })?;
    if list.len() > most {
        return Err(WireError::TooLarge {
            what: key,
            size: list.len(),
            limit: most,
        });
    }
    Ok(list)
}

/// A whole number, also given as a string of digits; none when missing, `null` or 0 (Go writes an unset number so).
pub(super) fn count(raw: Option<&str>, key: &'static str) -> Result<Option<u64>, WireError> {
    let Some(raw) = given(raw) else { return Ok(None) };
    let text = unquoted(raw, key)?.unwrap_or(Cow::Borrowed(raw));
    match text.parse::<u64>() {
        Ok(number) => Ok(Some(number).filter(|number| *number != 0)),
        Err(_) => Err(WireError::WrongType {
            key,
            expected: "a whole number, not negative",
        }),
    }
}

/// A whole number that must be there; 0 is one.
pub(super) fn number(raw: Option<&str>, key: &'static str) -> Result<u64, WireError> {
    let raw = given(raw).ok_or(WireError::Missing(key))?;
    raw.parse().map_err(|_| WireError::WrongType {
        key,
        expected: "a whole number, not negative",
    })
}

/// `true` or `false`; false when missing or `null`.
pub(super) fn flag(raw: Option<&str>, key: &'static str) -> Result<bool, WireError> {
    match given(raw) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(WireError::WrongType {
            key,
            expected: "true or false",
        }),
    }
}

/// A datatype by number, name or numeric string; [`DataType::Invalid`] when missing or `null`.
pub(super) fn datatype(raw: Option<&str>) -> Result<DataType, WireError> {
    let Some(word) = enum_word(raw, "datatype")? else {
        return Ok(DataType::Invalid);
    };
    by_code(&word, DataType::from_code)
        .or_else(|| DataType::from_name(&word))
        .ok_or_else(|| WireError::UnknownDataType(quoted(&word)))
}

/// An action by number, name or numeric string. A missing one is refused: zero would mean a search.
pub(super) fn action(raw: Option<&str>, key: &'static str) -> Result<Action, WireError> {
    let word = enum_word(raw, key)?.ok_or(WireError::Missing(key))?;
    by_code(&word, Action::from_code)
        .or_else(|| Action::from_name(&word))
        .ok_or_else(|| WireError::UnknownAction(quoted(&word)))
}

fn by_code<T>(word: &str, from_code: impl Fn(u64) -> Option<T>) -> Option<T> {
    word.parse::<u64>().ok().and_then(from_code)
}

/// The text of an enum value, number or string alike.
fn enum_word<'a>(raw: Option<&'a str>, key: &'static str) -> Result<Option<Cow<'a, str>>, WireError> {
    let Some(raw) = given(raw) else { return Ok(None) };
    if let Some(name) = unquoted(raw, key)? {
        return Ok(Some(name));
    }
    if raw.starts_with(|first: char| first.is_ascii_digit() || first == '-') {
        return Ok(Some(Cow::Borrowed(raw)));
    }
    Err(WireError::WrongType {
        key,
        expected: "a number or a name",
    })
}

/// Bytes of a payload that was within the limits of its message, as text.
pub(super) fn text(bytes: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(bytes).map_err(|error| WireError::BadUtf8(error.valid_up_to()))
}
