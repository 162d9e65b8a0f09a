//! Where the fields of a document stand: at the top, or in the parts that the Go driver nests. Queries ask for both.
//!
//! Pure. Always: paths are made of words of ours; what others wrote is only ever a value.

use mongodb::bson::{Bson, Document, doc};

use super::ids::forms;

/// Where the header of every document (`AbstractObject`) may stand.
pub(super) const HEADER: [&str; 4] = [
    "",
    "abstractobject.",
    "abstractresource.abstractobject.",
    "abstractinstanciatedresource.abstractresource.abstractobject.",
];
/// Where what every resource has (`AbstractResource`) may stand.
pub(super) const RESOURCE: [&str; 3] = [
    "",
    "abstractresource.",
    "abstractinstanciatedresource.abstractresource.",
];
/// Where the instances of a resource may stand.
pub(super) const INSTANCES: [&str; 2] = ["", "abstractinstanciatedresource."];

/// The paths of a field, the one that counts first.
pub(super) fn paths<'a>(places: &'a [&str], field: &'a str) -> impl Iterator<Item = String> + 'a {
    places.iter().map(move |place| format!("{place}{field}"))
}

/// A condition on a field, wherever it stands.
pub(super) fn anywhere(places: &[&str], field: &str, condition: &Bson) -> Document {
    let either = paths(places, field).map(|path| Bson::Document(doc! { path: condition.clone() }));
    doc! { "$or": either.collect::<Vec<_>>() }
}

/// The documents whose key is one of `ids`.
pub(super) fn by_key<'a>(ids: impl IntoIterator<Item = &'a str>) -> Document {
    let keys: Vec<Bson> = ids.into_iter().flat_map(forms).collect();
    doc! { "_id": { "$in": keys } }
}

/// The documents whose own `id` is one of `ids`.
pub(super) fn by_own_id<'a>(ids: impl IntoIterator<Item = &'a str>) -> Document {
    let ids: Vec<Bson> = ids.into_iter().flat_map(forms).collect();
    anywhere(&HEADER, "id", &Bson::Document(doc! { "$in": ids }))
}

/// The texts of a field, from the place that counts.
pub(super) fn text_at<'a>(document: &'a Document, places: &[&str], field: &str) -> Option<(String, &'a str)> {
    paths(places, field).find_map(|path| {
        let mut at = document;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return at.get_str(part).ok().map(|text| (path.clone(), text));
            }
            at = at.get_document(part).ok()?;
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_stand_at_every_place() {
        let wanted = doc! { "$or": [{ "a": 1 }, { "abstractresource.a": 1 },
        { "abstractinstanciatedresource.abstractresource.a": 1 }] };
        assert_eq!(anywhere(&RESOURCE, "a", &Bson::Int32(1)), wanted);
        assert_eq!(by_key(["r"]), doc! { "_id": { "$in": ["r"] } });
    }

    #[test]
    fn the_upper_text_counts() {
        let both = doc! { "abstractobject": { "creator_id": "below" }, "creator_id": "top" };
        assert_eq!(
            text_at(&both, &HEADER, "creator_id"),
            Some(("creator_id".to_owned(), "top"))
        );
        let nested = doc! { "abstractresource": { "abstractobject": { "creator_id": "d" } } };
        let found = text_at(&nested, &HEADER, "creator_id");
        assert_eq!(
            found,
            Some(("abstractresource.abstractobject.creator_id".to_owned(), "d"))
        );
        assert_eq!(text_at(&doc! { "creator_id": 1 }, &HEADER, "creator_id"), None);
    }
}
