//! JSON as a document to store, and put over one that is there: the types and the shape that its driver gave it stay.
//!
//! Pure. Always: what a Put does not change keeps its BSON type, however the Put spells it; parts that the Go driver nested stay
//! nested; what the new document does not say any more is gone, as in any store; the key stays.

use std::collections::HashSet;

use mongodb::bson::{Bson, Decimal128, Document};
use serde_json::{Map, Value};

use super::to_json::value_json;
use crate::model::{NEST_DEPTH_MAX, NESTS, same_number, same_time};

/// The document under `key`, in place of `stored` when there is one.
pub(super) fn put(key: Bson, fields: Map<String, Value>, stored: Option<&Document>) -> Document {
    // Only the database's key is called so; a document's own field of that name is no part of it.
    let taken = HashSet::from(["_id"]);
    let mut said = Said { fields, taken };
    let mut document = Document::new();
    document.insert("_id", key);
    if let Some(stored) = stored {
        fold(stored, &mut said, NEST_DEPTH_MAX, &mut document);
    }
    let Said { fields, taken } = said;
    for (key, value) in fields {
        if !taken.contains(key.as_str()) {
            document.insert(key, bson(value));
        }
    }
    document
}

/// What the new document says, less what was taken already: that stays in its place, so that taking costs the same however
/// many fields there are.
struct Said<'a> {
    fields: Map<String, Value>,
    taken: HashSet<&'a str>,
}

impl<'a> Said<'a> {
    fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key) && !self.taken.contains(key)
    }

    fn take(&mut self, key: &'a str) -> Option<Value> {
        if self.taken.contains(key) {
            return None;
        }
        let value = self.fields.get_mut(key)?.take();
        self.taken.insert(key);
        Some(value)
    }
}

/// Takes out of `said` what `stored` has, into `document`, each where it stood.
fn fold<'a>(stored: &'a Document, said: &mut Said<'a>, depth: usize, document: &mut Document) {
    for (key, old) in stored {
        let nested = match (old, depth.checked_sub(1)) {
            (Bson::Document(part), Some(deeper)) if NESTS.contains(&key.as_str()) => Some((part, deeper)),
            _ => None,
        };
        // A document that names the part itself says all that shall be in it.
        if let Some((part, deeper)) = nested.filter(|_| !said.has(key)) {
            let mut folded = Document::new();
            fold_below(part, stored, said, deeper, &mut folded);
            document.insert(key, folded);
        } else if let Some(new) = said.take(key) {
            document.insert(key, over(old, new));
        }
    }
}

/// As [`fold`], for a part: what stands above it too is the upper one's.
fn fold_below<'a>(part: &'a Document, above: &'a Document, said: &mut Said<'a>, depth: usize, document: &mut Document) {
    let both = above.keys().map(String::as_str).filter(|key| part.contains_key(*key));
    let hidden: Vec<&str> = both.filter(|key| said.taken.insert(key)).collect();
    fold(part, said, depth, document);
    for key in hidden {
        said.taken.remove(key);
    }
}

/// The new value, with the type of the old one where that says the same.
fn over(old: &Bson, new: Value) -> Bson {
    match (old, new) {
        (Bson::Document(old), Value::Object(fields)) => {
            let merged = fields.into_iter().map(|(key, value)| {
                let value = match old.get(&key) {
                    Some(old) => over(old, value),
                    None => bson(value),
                };
                (key, value)
            });
            Bson::Document(merged.collect())
        }
        (Bson::Array(old), Value::Array(items)) => {
            let merged = items.into_iter().enumerate().map(|(n, item)| match old.get(n) {
                Some(old) => over(old, item),
                None => bson(item),
            });
            Bson::Array(merged.collect())
        }
        (old, new) if says(old, &new) => old.clone(),
        // A time that has changed stays one, to the millisecond as the apps' drivers keep it: they look for it beside theirs.
        (Bson::DateTime(_), Value::String(text)) => time(&text).unwrap_or(Bson::String(text)),
        (_, new) => bson(new),
    }
}

/// The text as the database keeps times, when that says the same.
fn time(text: &str) -> Option<Bson> {
    let time = Bson::DateTime(mongodb::bson::DateTime::parse_rfc3339_str(text).ok()?);
    says(&time, &Value::String(text.to_owned())).then_some(time)
}

fn says(old: &Bson, new: &Value) -> bool {
    // These are what JSON has itself: only the same type says the same.
    if matches!(old, Bson::Document(_) | Bson::Array(_)) {
        return false;
    }
    let Ok(told) = serde_json::from_slice::<Value>(&value_json(old)) else {
        return false;
    };
    match (old, &told, new) {
        (_, Value::Number(told), Value::Number(new)) => same_number(told, new),
        // Only where the database keeps a time: of a text every letter counts.
        (Bson::DateTime(_), Value::String(told), Value::String(new)) => same_time(told, new),
        _ => told == *new,
    }
}

/// A JSON value as the drivers store it: whole numbers in the smallest type that holds them.
pub(super) fn bson(value: Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(yes) => Bson::Boolean(yes),
        Value::String(text) => Bson::String(text),
        Value::Array(items) => Bson::Array(items.into_iter().map(bson).collect()),
        Value::Object(fields) => Bson::Document(fields.into_iter().map(|(key, value)| (key, bson(value))).collect()),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => i32::try_from(whole).map_or(Bson::Int64(whole), Bson::Int32),
            // Beyond what BSON's integers hold: exact all the same.
            (None, Some(whole)) => match whole.to_string().parse::<Decimal128>() {
                Ok(exact) => Bson::Decimal128(exact),
                Err(_) => Bson::Double(whole as f64),
            },
            (None, None) => Bson::Double(number.as_f64().unwrap_or_default()),
        },
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::{DateTime, doc};
    use serde_json::json;

    use super::super::fits::read;
    use super::super::to_json::to_json;
    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        read(value.to_string().as_bytes()).unwrap()
    }

    fn told(document: &Document) -> Value {
        serde_json::from_slice(&to_json(document)).unwrap()
    }

    #[test]
    fn json_comes_back_as_it_was() {
        let value = json!({ "id": "r", "n": null, "yes": true, "small": -7, "large": i64::MAX, "huge": u64::MAX, "real": 1.5,
            "text": "é\u{0}", "list": [1, [2.0], {}], "part": { "a.b": { "": [] } } });
        assert_eq!(told(&put("r".into(), fields(value.clone()), None)), value);
        let with_key = json!({ "_id": "other", "id": "r" });
        assert_eq!(put("r".into(), fields(with_key), None), doc! { "_id": "r", "id": "r" });
    }

    #[test]
    fn a_number_keeps_its_last_digit() {
        for n in 1..2_000_u32 {
            let text = (f64::from(n) / 7e3).to_string();
            let read = read(format!("{{\"n\":{text}}}").as_bytes()).unwrap();
            let stored = put("r".into(), read, None).get_f64("n").unwrap();
            assert_eq!(stored.to_string(), text);
        }
    }

    #[test]
    fn an_update_keeps_types_and_shape() {
        let (id, at) = (ObjectId::from_bytes([7; 12]), DateTime::from_millis(1_700_000_000_000));
        let stored = doc! {
            "_id": "r",
            "abstractinstanciatedresource": {
                "abstractresource": { "abstractobject": { "id": "r", "name": "old", "creation_date": at }, "description": "d" },
                "instances": [{ "price": "1.10".parse::<Decimal128>().unwrap(), "count": 3_i64 }, { "of": id }],
            },
            "owner": id,
            "gone": 1,
        };
        let mut new = told(&stored);
        new["name"] = json!("new");
        new["extra"] = json!({ "kept": [1] });
        new["instances"][0]["count"] = json!(4);
        new.as_object_mut().unwrap().remove("gone");
        let wanted = doc! {
            "_id": "r",
            "abstractinstanciatedresource": {
                "abstractresource": { "abstractobject": { "id": "r", "name": "new", "creation_date": at }, "description": "d" },
                "instances": [{ "price": "1.10".parse::<Decimal128>().unwrap(), "count": 4 }, { "of": id }],
            },
            "owner": id,
            "extra": { "kept": [1] },
        };
        let written = put("r".into(), fields(new.clone()), Some(&stored));
        assert_eq!(written, wanted);
        assert_eq!(told(&written), new);
        assert_eq!(put("r".into(), fields(new), Some(&written)), written, "nothing changes");
    }

    #[test]
    fn what_an_app_spells_in_another_way_keeps_its_type() {
        let at = DateTime::from_millis(1_700_000_000_123);
        let early = DateTime::from_millis(-1);
        let stored = doc! { "_id": "r", "at": at, "early": early, "real": 10.0, "whole": 7_i64, "text": "2023-11-14T22:13:20.123Z",
        "price": "19.90".parse::<Decimal128>().unwrap(), "part": [{ "at": at }] };
        let said = json!({ "at": "2023-11-14T23:13:20.123456789+01:00", "early": "1969-12-31T23:59:59.9990001Z", "real": 10,
            "whole": 7.0, "text": "2023-11-14T22:13:20.123Z", "price": 19.9, "part": [{ "at": "2023-11-14T22:13:20.1234Z" }] });
        assert_eq!(put("r".into(), fields(said), Some(&stored)), stored);
        // A time that changes is one still; what changes into something else is that.
        let next = DateTime::from_millis(1_700_000_000_124);
        for (field, new, wanted) in [
            ("at", json!("2023-11-14T22:13:20.124Z"), Some(Bson::DateTime(next))),
            (
                "at",
                json!("2023-11-14T23:13:20.124999+01:00"),
                Some(Bson::DateTime(next)),
            ),
            ("at", json!("no time at all, but long"), None),
            ("at", json!(1_700_000_000), None),
            ("real", json!(10.5), None),
            ("real", json!("10"), None),
            ("whole", json!(8), None),
            ("text", json!("2023-11-14T22:13:20.1234Z"), None),
        ] {
            let mut said = told(&stored);
            said[field] = new.clone();
            let written = put("r".into(), fields(said), Some(&stored));
            let wanted = wanted.unwrap_or_else(|| bson(new));
            assert_eq!(written.get(field), Some(&wanted), "{field}");
        }
    }

    #[test]
    fn what_stands_twice_is_the_upper_ones() {
        let stored = doc! { "_id": "r", "name": "top", "abstractobject": { "name": "below", "id": "r" } };
        let written = put("r".into(), fields(json!({ "id": "r", "name": "new" })), Some(&stored));
        assert_eq!(told(&written), json!({ "name": "new", "id": "r" }));
        let nested = json!({ "id": "r", "abstractobject": { "name": "said so" } });
        let written = put("r".into(), fields(nested), Some(&stored));
        assert_eq!(told(&written), json!({ "id": "r", "name": "said so" }));
    }
}
