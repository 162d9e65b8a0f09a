//! What a store keeps beside a document to find it again: read tolerantly, since the document is taken as it is.

use serde_json::Value;

use super::access::{is_public, names_anybody};
use super::error::ModelError;
use super::fields;
use super::relation::Relation;

/// Names what is read of every document, and the attributes behind it.
macro_rules! names {
    ([$($header:literal),+], [$($attribute:literal),+]) => {
        const NAMES: [&str; 18] = [$($header),+, $($attribute),+];
        /// The fields by which some kind of resource is found besides its name and descriptions.
        pub const ATTRIBUTES: [&str; 11] = [$($attribute),+];
    };
}

names!(
    [
        "creator_id",
        "access_mode",
        "name",
        "description",
        "short_description",
        "relation",
        "instances"
    ],
    [
        "type",
        "format",
        "license",
        "keywords",
        "tags",
        "usage",
        "maturity",
        "storage_type",
        "acronym",
        "architecture",
        "infrastructure"
    ]
);

/// Texts of a document a store looks for. What is missing, or not a string, is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredFields {
    /// DID of the organisation it belongs to; none when it does not say.
    pub creator_id: Option<String>,
    /// Whether everyone may see it.
    pub public: bool,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// For people.
    pub short_description: String,
    /// What stands in the attributes of its kind, one text a line.
    pub attributes: String,
    /// Whether a partnership names anybody at all.
    pub shared: bool,
    /// Of a peer document; none when it is one this version does not know.
    pub relation: Option<Relation>,
}

impl StoredFields {
    /// The texts a search looks in.
    #[must_use]
    pub fn texts(&self) -> [&str; 4] {
        [&self.name, &self.description, &self.short_description, &self.attributes]
    }
}

/// Reads what a store keeps beside a document, nested parts included; `attributes`: those of its kind, of [`ATTRIBUTES`].
///
/// # Errors
/// Not one JSON object in UTF-8.
pub fn read_stored(doc: &[u8], attributes: &[&str]) -> Result<StoredFields, ModelError> {
    let [
        creator_id,
        access_mode,
        name,
        description,
        short_description,
        relation,
        instances,
        others @ ..,
    ] = fields::read(doc, &NAMES)?.values;
    let text = |raw: Option<&str>| {
        raw.and_then(fields::string)
            .map(|text| text.into_owned())
            .unwrap_or_default()
    };
    let value = |raw: &str| serde_json::from_str::<Value>(raw).ok();
    let of_kind = ATTRIBUTES
        .iter()
        .zip(others)
        .filter(|(name, _)| attributes.contains(name))
        .filter_map(|(_, raw)| value(raw?));
    Ok(StoredFields {
        creator_id: creator_id.and_then(fields::string).map(|text| text.into_owned()),
        public: access_mode.and_then(value).is_some_and(|mode| is_public(&mode)),
        name: text(name),
        description: text(description),
        short_description: text(short_description),
        attributes: lines(of_kind),
        shared: instances
            .and_then(value)
            .is_some_and(|instances| names_anybody(&instances)),
        relation: Relation::read(relation.and_then(value).as_ref()).ok(),
    })
}

/// The texts, and those in lists.
fn lines(values: impl Iterator<Item = Value>) -> String {
    let mut lines = Vec::new();
    for value in values {
        match value {
            Value::String(text) => lines.push(text),
            Value::Array(items) => lines.extend(items.into_iter().filter_map(|item| match item {
                Value::String(text) => Some(text),
                _ => None,
            })),
            _ => {}
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_those_of_the_kind() {
        let doc = br#"{"type":"raster","tags":["a",1,"b c"],"format":7,"license":"MIT","instances":[{"partnerships":
            [{"peer_groups":{"did:a":[]}}]}]}"#;
        let stored = read_stored(doc, &["type", "tags", "format"]).unwrap();
        assert_eq!((stored.attributes.as_str(), stored.shared), ("raster\na\nb c", true));
        assert!(!read_stored(b"{\"instances\":[{}]}", &[]).unwrap().shared);
    }

    #[test]
    fn nested_parts_count_and_oddities_do_not_matter() {
        let doc =
            br#"{"id":1,"abstractresource":{"abstractobject":{"creator_id":"d","name":"n","access_mode":"public"},
            "description":"x\ty","short_description":7},"Name":"m"}"#;
        let wanted = StoredFields {
            creator_id: Some("d".into()),
            public: true,
            name: "n".into(),
            description: "x\ty".into(),
            relation: Some(Relation::None),
            ..StoredFields::default()
        };
        assert_eq!(read_stored(doc, &[]), Ok(wanted));
        let empty = read_stored(b"{}", &[]).unwrap();
        assert_eq!(
            empty,
            StoredFields {
                relation: Some(Relation::None),
                ..StoredFields::default()
            }
        );
        assert_eq!(
            read_stored(br#"{"relation":"partner"}"#, &[]).unwrap().relation,
            Some(Relation::Partner)
        );
        assert_eq!(read_stored(br#"{"relation":7}"#, &[]).unwrap().relation, None);
        assert_eq!(read_stored(b"[]", &[]), Err(ModelError::NotObject));
    }
}
