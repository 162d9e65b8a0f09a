//! The forms in which an id is the key of a document: a string, as oc-lib writes it, an ObjectId, a UUID.
//!
//! Pure. Always: an id is a value in a query, never a path or an operator.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson};
use uuid::Uuid;

use super::to_json::is_uuid;

/// What a key is called outside; none for what is no id (a number, a document).
pub(super) fn id_text(key: &Bson) -> Option<String> {
    match key {
        Bson::String(text) => Some(text.clone()),
        Bson::ObjectId(id) => Some(id.to_hex()),
        Bson::Binary(binary) if is_uuid(binary.subtype) => {
            Uuid::from_slice(&binary.bytes).ok().map(|uuid| uuid.to_string())
        }
        _ => None,
    }
}

/// Every form that [`id_text`] calls `id`.
pub(super) fn forms(id: &str) -> Vec<Bson> {
    let mut forms = vec![Bson::String(id.to_owned())];
    if let Some(object_id) = ObjectId::parse_str(id).ok().filter(|parsed| parsed.to_hex() == id) {
        forms.push(Bson::ObjectId(object_id));
    }
    if let Some(uuid) = Uuid::parse_str(id).ok().filter(|parsed| parsed.to_string() == id) {
        for subtype in [BinarySubtype::Uuid, BinarySubtype::UuidOld] {
            let bytes = uuid.as_bytes().to_vec();
            forms.push(Bson::Binary(Binary { subtype, bytes }));
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_leads_back_to_the_id() {
        let uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f";
        for (id, count) in [
            ("r", 1),
            ("abababababababababababab", 2),
            ("ABABABABABABABABABABABAB", 1),
            (uuid, 3),
            (&uuid.to_uppercase(), 1),
            (&uuid.replace('-', ""), 1),
            ("$where", 1),
            ("a.b\0", 1),
            ("", 1),
        ] {
            let forms = forms(id);
            assert_eq!(forms.len(), count, "{id}");
            assert!(
                forms.iter().all(|form| id_text(form).as_deref() == Some(id)),
                "{forms:?}"
            );
        }
        assert_eq!(id_text(&Bson::Int32(1)), None);
    }
}
