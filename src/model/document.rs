//! A JSON object kept byte for byte, so that what a partner gets is what the app wrote.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::ModelError;

/// A JSON object, exactly as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document(Bytes);

impl Document {
    /// Takes the bytes when they are one JSON object.
    ///
    /// # Errors
    /// [`ModelError::NotJson`] or [`ModelError::NotObject`].
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, ModelError> {
        let bytes = bytes.into();
        let text = std::str::from_utf8(&bytes).map_err(|error| ModelError::NotJson(error.to_string()))?;
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| ModelError::NotJson(error.to_string()))?;
        if !raw.get().starts_with('{') {
            return Err(ModelError::NotObject);
        }
        Ok(Self(bytes))
    }

    /// As [`Document::new`], and refuses what only some readers take: half a surrogate pair, a number beyond all types,
    /// nesting over 127.
    ///
    /// # Errors
    /// [`ModelError::NotJson`] or [`ModelError::NotObject`].
    pub fn whole(bytes: impl Into<Bytes>) -> Result<Self, ModelError> {
        let bytes = bytes.into();
        let text = std::str::from_utf8(&bytes).map_err(|error| ModelError::NotJson(error.to_string()))?;
        let Whole { object } = serde_json::from_str(text).map_err(|error| ModelError::NotJson(error.to_string()))?;
        object.then_some(Self(bytes)).ok_or(ModelError::NotObject)
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The value tree.
    ///
    /// # Errors
    /// [`ModelError::NotJson`] for what only a full reading sees: half a surrogate pair, nesting over 127.
    pub fn value(&self) -> Result<Value, ModelError> {
        serde_json::from_slice(&self.0).map_err(|error| ModelError::NotJson(error.to_string()))
    }
}

/// A value read to its last character, of which nothing is kept.
struct Whole {
    object: bool,
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(Reading).map(|object| Self { object })
    }
}

/// Says whether it was an object.
struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        while items.next_element::<Whole>()?.is_some() {}
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<bool, A::Error> {
        while fields.next_entry::<Whole, Whole>()?.is_some() {}
        Ok(true)
    }
}

impl AsRef<[u8]> for Document {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_are_documents_and_stay_as_they_are() {
        let text = " { \"a\" : 1.50, \"a\":\"\\u0061\" }\n";
        assert_eq!(Document::new(text).unwrap().as_ref(), text.as_bytes());
        assert_eq!(Document::new("[]"), Err(ModelError::NotObject));
        for bad in ["", "{", "{}{}", "{'a':1}"] {
            assert_eq!(
                Document::new(bad).map_err(|error| error.rule()),
                Err("not_json"),
                "{bad}"
            );
        }
    }
    #[test]
    fn whole_is_what_every_reader_takes() {
        let deep = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        for (text, wanted) in [
            (
                "{\"a\":[null,true,-1,1.5,\"\\ud83e\\udd80\",{\"\":{}}]}".to_owned(),
                Ok(()),
            ),
            (deep(126), Ok(())),
            (deep(127), Err("not_json")),
            ("{\"a\":\"\\ud800\"}".to_owned(), Err("not_json")),
            ("{\"\\ud800\":1}".to_owned(), Err("not_json")),
            ("{\"a\":1e999}".to_owned(), Err("not_json")),
            ("{}{}".to_owned(), Err("not_json")),
            ("[{}]".to_owned(), Err("not_object")),
        ] {
            let read = Document::whole(text.clone());
            assert_eq!(read.as_ref().map(|_| ()).map_err(ModelError::rule), wanted, "{text}");
            if let Ok(document) = read {
                assert!(document.value().is_ok(), "{text}");
            }
        }
        assert!(Document::whole(&b"{\"a\":\"\xff\"}"[..]).is_err());
    }
}
