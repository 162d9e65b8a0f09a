//! What a store keeps beside a document to find it again: read tolerantly, since the document is taken as it is.

use serde_json::Value;

use super::access::is_public;
use super::error::ModelError;
use super::fields;
use super::relation::Relation;

const NAMES: [&str; 6] = [
    "creator_id",
    "access_mode",
    "name",
    "description",
    "short_description",
    "relation",
];

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
    /// Of a peer document; none when it is one this version does not know.
    pub relation: Option<Relation>,
}

/// Reads what a store keeps beside a document, nested parts included.
///
/// # Errors
/// Not one JSON object in UTF-8.
pub fn read_stored(doc: &[u8]) -> Result<StoredFields, ModelError> {
    let [creator_id, access_mode, name, description, short_description, relation] = fields::read(doc, &NAMES)?.values;
    let text = |raw: Option<&str>| {
        raw.and_then(fields::string)
            .map(|text| text.into_owned())
            .unwrap_or_default()
    };
    let value = |raw: &str| serde_json::from_str::<Value>(raw).ok();
    Ok(StoredFields {
        creator_id: creator_id.and_then(fields::string).map(|text| text.into_owned()),
        public: access_mode.and_then(value).is_some_and(|mode| is_public(&mode)),
        name: text(name),
        description: text(description),
        short_description: text(short_description),
        relation: Relation::read(relation.and_then(value).as_ref()).ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(read_stored(doc), Ok(wanted));
        let empty = read_stored(b"{}").unwrap();
        assert_eq!(
            empty,
            StoredFields {
                relation: Some(Relation::None),
                ..StoredFields::default()
            }
        );
        assert_eq!(
            read_stored(br#"{"relation":"partner"}"#).unwrap().relation,
            Some(Relation::Partner)
        );
        assert_eq!(read_stored(br#"{"relation":7}"#).unwrap().relation, None);
        assert_eq!(read_stored(b"[]"), Err(ModelError::NotObject));
    }
}
