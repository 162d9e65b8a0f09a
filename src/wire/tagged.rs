//! Lines of one key that names them, whose value is an object: read in one pass, whatever stands inside.

use super::error::WireError;
use super::json::{Found, KeySeed, ObjectSeed, not_json};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// Reads an object of one wanted key whose value is an object: which of `tags` it is, and the values of that inner object
/// in the order of `names`. One pass over the text; other keys of both are skipped.
///
/// # Errors
/// As [`super::json::object`]; also none of the tags, or more than one.
pub(super) fn tagged<'a, const N: usize>(
    text: &'a str,
    tags: &[&'static str],
    names: &[&'static str; N],
) -> Result<(usize, [Option<&'a str>; N]), WireError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let inner = TaggedSeed { tags, names }
        .deserialize(&mut reader)
        .map_err(|error| not_json(&error))?;
    reader.end().map_err(|error| not_json(&error))?;
    let (tag, found) = inner?;
    match found.twice.and_then(|index| names.get(index)) {
        Some(name) => Err(WireError::DuplicateKey(name)),
        None => Ok((tag, found.values)),
    }
}

struct TaggedSeed<'n, const N: usize> {
    tags: &'n [&'static str],
    names: &'n [&'static str; N],
}

/// The tag's index and its object, or why the line is none of ours.
type Tagged<'a, const N: usize> = Result<(usize, Found<'a, N>), WireError>;

impl<'de, const N: usize> DeserializeSeed<'de> for TaggedSeed<'_, N> {
    type Value = Tagged<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for TaggedSeed<'_, N> {
    type Value = Tagged<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Err(WireError::UnknownLine);
        while let Some(tag) = map.next_key_seed(KeySeed { names: self.tags })? {
            match tag {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(tag) => {
                    let inner = map.next_value_seed(ObjectSeed {
                        names: self.names,
                        only: false,
                    })?;
                    found = match found {
                        Err(WireError::UnknownLine) => Ok((tag, inner)),
                        _ => Err(WireError::DuplicateKey("line")),
                    };
                }
            }
        }
        Ok(found)
    }
}
