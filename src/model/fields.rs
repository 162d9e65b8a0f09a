//! One pass over a document's top level that keeps the texts of wanted values and notes everything irregular about them.
//!
//! Documents written by the Go driver nest an embedded struct under its lower-cased type name; those parts are looked into
//! as well. Always holds: no value tree is built, and what is not wanted costs one pass over its bytes.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::ModelError;

/// The names under which the Go driver nests embedded structs.
pub const NESTS: [&str; 3] = ["abstractobject", "abstractresource", "abstractinstanciatedresource"];
/// Levels of such parts that are looked into; the reference has two.
pub const NEST_DEPTH_MAX: usize = 8;

/// The texts of the wanted values, and the first irregularity among the names.
pub(super) struct Fields<'a, const N: usize> {
    /// In the order of the names; the top one wins over a nested one, the last of two in one object.
    pub(super) values: [Option<&'a str>; N],
    /// What a strict reader refuses.
    pub(super) irregular: Option<ModelError>,
}

/// Reads the wanted values of a document.
///
/// # Errors
/// Not one JSON object in UTF-8, or nests without end.
pub(super) fn read<'a, const N: usize>(
    doc: &'a [u8],
    names: &'static [&'static str; N],
) -> Result<Fields<'a, N>, ModelError> {
    let text = std::str::from_utf8(doc).map_err(|error| ModelError::NotJson(error.to_string()))?;
    level(text, names, NEST_DEPTH_MAX)
}

fn level<'a, const N: usize>(
    text: &'a str,
    names: &'static [&'static str; N],
    depth: usize,
) -> Result<Fields<'a, N>, ModelError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = Seed { names }
        .deserialize(&mut reader)
        .map_err(|error| refused(&error))?;
    reader.end().map_err(|error| refused(&error))?;
    let mut fields = Fields {
        values: found.values,
        irregular: found.irregular,
    };
    for (raw, nest) in found.nests.into_iter().zip(NESTS) {
        match raw {
            None | Some("null") => {}
            Some(raw) if raw.starts_with('{') => {
                let deeper = depth.checked_sub(1).ok_or(ModelError::TooDeep(NEST_DEPTH_MAX))?;
                merge(&mut fields, level(raw, names, deeper)?, names);
            }
            Some(_) => note(
                &mut fields.irregular,
                ModelError::WrongType {
                    key: nest,
                    expected: "an object",
                },
            ),
        }
    }
    Ok(fields)
}

fn merge<'a, const N: usize>(into: &mut Fields<'a, N>, nested: Fields<'a, N>, names: &'static [&'static str; N]) {
    for ((slot, raw), name) in into.values.iter_mut().zip(nested.values).zip(names) {
        match (*slot, raw) {
            (None, raw) => *slot = raw,
            (Some(top), Some(raw)) if !same(top, raw) => note(&mut into.irregular, ModelError::NestedDiffers(name)),
            _ => {}
        }
    }
    if let Some(irregular) = nested.irregular {
        note(&mut into.irregular, irregular);
    }
}

/// Whether two texts are the same value, whatever their escapes.
fn same(one: &str, other: &str) -> bool {
    one == other
        || match (serde_json::from_str::<Value>(one), serde_json::from_str::<Value>(other)) {
            (Ok(one), Ok(other)) => one == other,
            _ => false,
        }
}

fn note(first: &mut Option<ModelError>, found: ModelError) {
    first.get_or_insert(found);
}

fn refused(error: &serde_json::Error) -> ModelError {
    if error.is_data() {
        ModelError::NotObject
    } else {
        ModelError::NotJson(error.to_string())
    }
}

struct Found<'a, const N: usize> {
    values: [Option<&'a str>; N],
    nests: [Option<&'a str>; 3],
    irregular: Option<ModelError>,
}

struct Seed<const N: usize> {
    names: &'static [&'static str; N],
}

impl<'de, const N: usize> DeserializeSeed<'de> for Seed<N> {
    type Value = Found<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Seed<N> {
    type Value = Found<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let lengths = lengths(self.names);
        let mut found = Found {
            values: [None; N],
            nests: [None; 3],
            irregular: None,
        };
        while let Some(key) = map.next_key_seed(KeySeed {
            names: self.names,
            lengths,
        })? {
            let raw = map.next_value::<&'de RawValue>()?.get();
            let slot = match key {
                Key::Other => continue,
                Key::Variant(name) => {
                    note(&mut found.irregular, ModelError::CaseVariant(name));
                    continue;
                }
                Key::Wanted(index, name) => found.values.get_mut(index).map(|slot| (slot, name)),
                Key::Nest(index, name) => found.nests.get_mut(index).map(|slot| (slot, name)),
            };
            if let Some((slot, name)) = slot
                && slot.replace(raw).is_some()
            {
                note(&mut found.irregular, ModelError::Twice(name));
            }
        }
        Ok(found)
    }
}

enum Key {
    Wanted(usize, &'static str),
    Nest(usize, &'static str),
    Variant(&'static str),
    Other,
}

struct KeySeed {
    names: &'static [&'static str],
    /// See [`lengths`].
    lengths: u64,
}

/// A bit for the length of each name that is looked for: most keys are of another one, and need no comparing.
fn lengths(names: &[&str]) -> u64 {
    let bit = |name: &&str| 1_u64.checked_shl(name.len() as u32).unwrap_or(0);
    names.iter().chain(&NESTS).map(bit).fold(0, |all, one| all | one)
}

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Key, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        // Names are ASCII: a key with other letters has another length than the name for which it may be taken.
        let fits = 1_u64.checked_shl(key.len() as u32).unwrap_or(0) & self.lengths != 0;
        if !fits && key.is_ascii() {
            return Ok(Key::Other);
        }
        if let Some((index, name)) = position(self.names, key) {
            return Ok(Key::Wanted(index, name));
        }
        if let Some((index, name)) = position(&NESTS, key) {
            return Ok(Key::Nest(index, name));
        }
        let variant = self.names.iter().chain(&NESTS).find(|name| folds_to(key, name));
        Ok(variant.map_or(Key::Other, |name| Key::Variant(name)))
    }
}

fn position(names: &[&'static str], key: &str) -> Option<(usize, &'static str)> {
    names
        .iter()
        .enumerate()
        .find(|(_, name)| **name == key)
        .map(|(index, name)| (index, *name))
}

/// Whether a case-insensitive reader such as Go's takes `key` for `name`. Two letters outside ASCII fold into it:
/// the long s and the Kelvin sign.
fn folds_to(key: &str, name: &str) -> bool {
    if key.is_ascii() {
        return key.eq_ignore_ascii_case(name);
    }
    let folded = key.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    folded.eq(name.chars())
}

/// The characters of a JSON string's text; none when it is not a whole string.
pub(super) fn string(raw: &str) -> Option<std::borrow::Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw).ok().map(std::borrow::Cow::Owned)
    } else {
        Some(inner.into())
    }
}

/// A value of a lifted key in a value tree: at the top, else in the nested parts.
pub(super) fn get<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    get_within(value, key, NEST_DEPTH_MAX)
}

fn get_within<'a>(value: &'a Value, key: &str, depth: usize) -> Option<&'a Value> {
    value.get(key).or_else(|| {
        let deeper = depth.checked_sub(1)?;
        NESTS.iter().find_map(|nest| get_within(value.get(*nest)?, key, deeper))
    })
}
