//! A JSON object kept byte for byte, so that what a partner gets is what the app wrote.

use bytes::Bytes;
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
}
