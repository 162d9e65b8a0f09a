//! A stored document as JSON: flat, as apps write it on NATS, whatever the driver that stored it made of it.
//!
//! Pure. Always: nested parts are lifted, the top winning; every BSON type has one form (`docs/mongodb.md` lists them), so
//! that the same document gives the same bytes; `_id` is told as `id` when the document has no other.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Bson, DateTime, Document};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::ids::id_text;
use crate::model::{NEST_DEPTH_MAX, NESTS};

/// The document's JSON.
pub(super) fn to_json(document: &Document) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.push(b'{');
    let fields = lifted(document);
    let own = (!fields.iter().any(|(key, _)| *key == "id"))
        .then(|| document.get("_id").and_then(id_text))
        .flatten();
    if let Some(id) = own {
        key(&mut out, "id");
        text(&mut out, &id);
    }
    for (name, value) in fields {
        key(&mut out, name);
        write(&mut out, value);
    }
    out.push(b'}');
    out
}

/// The fields, nested parts' ones at the top, without `_id`.
fn lifted(document: &Document) -> Vec<(&str, &Bson)> {
    let mut fields = Vec::with_capacity(document.len() + 16);
    lift(document, NEST_DEPTH_MAX, &mut HashSet::new(), &mut fields);
    fields.retain(|(key, _)| *key != "_id");
    fields
}

fn lift<'a>(document: &'a Document, depth: usize, seen: &mut HashSet<&'a str>, into: &mut Vec<(&'a str, &'a Bson)>) {
    let deeper = depth.checked_sub(1);
    let is_nest = |key: &str, value: &Bson| {
        deeper.is_some() && NESTS.contains(&key) && matches!(value, Bson::Document(_) | Bson::Null)
    };
    for (key, value) in document.iter().filter(|(key, value)| !is_nest(key, value)) {
        if seen.insert(key) {
            into.push((key, value));
        }
    }
    for part in NESTS.iter().filter_map(|nest| document.get_document(nest).ok()) {
        if let Some(deeper) = deeper {
            lift(part, deeper, seen, into);
        }
    }
}

/// What a document says of a field of ours, at the top or in nested parts: the one that [`to_json`] tells.
pub(super) fn field<'a>(document: &'a Document, name: &str) -> Option<&'a Bson> {
    let mut said = Vec::new();
    values(document, name, NEST_DEPTH_MAX, &mut said);
    said.first().copied()
}

/// Whether all parts of the document that say something of these fields say the same of them.
pub(super) fn agrees(document: &Document, names: &[&str]) -> bool {
    names.iter().all(|name| {
        let mut said = Vec::new();
        values(document, name, NEST_DEPTH_MAX, &mut said);
        said.windows(2).all(|two| matches!(two, [one, other] if one == other))
    })
}

fn values<'a>(document: &'a Document, name: &str, depth: usize, into: &mut Vec<&'a Bson>) {
    into.extend(document.get(name));
    let Some(deeper) = depth.checked_sub(1) else { return };
    for part in NESTS.iter().filter_map(|nest| document.get_document(nest).ok()) {
        values(part, name, deeper, into);
    }
}

/// One value's JSON.
pub(super) fn value_json(value: &Bson) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

fn key(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    text(out, name);
    out.push(b':');
}

fn text(out: &mut Vec<u8>, text: &str) {
    // A text into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn write(out: &mut Vec<u8>, value: &Bson) {
    match value {
        Bson::Null | Bson::Undefined => out.extend_from_slice(b"null"),
        Bson::Boolean(yes) => out.extend_from_slice(if *yes { b"true" } else { b"false" }),
        Bson::Int32(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Bson::Int64(number) => out.extend_from_slice(number.to_string().as_bytes()),
        // What is no number in JSON (infinity, no number at all) becomes null there.
        Bson::Double(number) => drop(serde_json::to_writer(&mut *out, number)),
        Bson::Decimal128(number) => decimal(out, &number.to_string()),
        Bson::String(words) | Bson::Symbol(words) => text(out, words),
        Bson::ObjectId(id) => text(out, &id.to_hex()),
        Bson::DateTime(at) => date(out, *at),
        Bson::Binary(binary) => match id_text(value) {
            Some(uuid) => text(out, &uuid),
            None => text(out, &STANDARD.encode(&binary.bytes)),
        },
        Bson::Array(items) => {
            out.push(b'[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write(out, item);
            }
            out.push(b']');
        }
        Bson::Document(document) => {
            out.push(b'{');
            for (name, value) in document {
                key(out, name);
                write(out, value);
            }
            out.push(b'}');
        }
        // No app's struct gives these: as MongoDB's own extended JSON tells them.
        Bson::RegularExpression(regex) => {
            let (pattern, options) = (regex.pattern.as_str(), regex.options.as_str());
            json(
                out,
                &serde_json::json!({"$regularExpression": {"pattern": pattern, "options": options}}),
            );
        }
        Bson::JavaScriptCode(code) => json(out, &serde_json::json!({ "$code": code })),
        Bson::JavaScriptCodeWithScope(with) => json(out, &serde_json::json!({ "$code": with.code })),
        Bson::Timestamp(at) => json(
            out,
            &serde_json::json!({"$timestamp": {"t": at.time, "i": at.increment}}),
        ),
        Bson::MinKey => json(out, &serde_json::json!({"$minKey": 1})),
        Bson::MaxKey => json(out, &serde_json::json!({"$maxKey": 1})),
        Bson::DbPointer(_) => out.extend_from_slice(b"null"),
    }
}

fn json(out: &mut Vec<u8>, value: &serde_json::Value) {
    out.extend_from_slice(value.to_string().as_bytes());
}

/// All digits of a decimal are told; a reader that keeps fewer is the reader's affair. `Infinity` and `NaN` are texts.
fn decimal(out: &mut Vec<u8>, digits: &str) {
    match serde_json::from_str::<serde_json::Number>(digits) {
        Ok(_) => out.extend_from_slice(digits.as_bytes()),
        Err(_) => text(out, digits),
    }
}

/// As Go writes a time: UTC, no zeros at the end. A year that has not four digits is told in milliseconds since 1970.
fn date(out: &mut Vec<u8>, at: DateTime) {
    let nanos = i128::from(at.timestamp_millis()) * 1_000_000;
    let told = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    match told.and_then(|at| at.format(&Rfc3339).ok()) {
        Some(told) => text(out, &told),
        None => out.extend_from_slice(at.timestamp_millis().to_string().as_bytes()),
    }
}

/// Whether 16 bytes of this subtype are a UUID.
pub(super) fn is_uuid(subtype: BinarySubtype) -> bool {
    matches!(subtype, BinarySubtype::Uuid | BinarySubtype::UuidOld)
}

#[cfg(test)]
mod tests {
    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::{Binary, Decimal128, Regex, Timestamp, doc};
    use serde_json::{Value, json};

    use super::*;

    fn told(document: &Document) -> String {
        String::from_utf8(to_json(document)).unwrap()
    }

    #[test]
    fn every_type_has_its_form() {
        let uuid = Binary {
            subtype: BinarySubtype::Uuid,
            bytes: (0..16).collect(),
        };
        let raw = Binary {
            subtype: BinarySubtype::Generic,
            bytes: vec![1, 2, 3],
        };
        let decimal = |text: &str| Bson::Decimal128(text.parse::<Decimal128>().unwrap());
        let regex = Regex {
            pattern: "a.b".try_into().unwrap(),
            options: "i".try_into().unwrap(),
        };
        for (value, wanted) in [
            (Bson::Int32(7), "7"),
            (Bson::Int64(i64::MIN), "-9223372036854775808"),
            (Bson::Double(1.0), "1.0"),
            (Bson::Double(f64::NAN), "null"),
            (
                decimal("123456789012345678901234567890.10"),
                "123456789012345678901234567890.10",
            ),
            (decimal("NaN"), "\"NaN\""),
            (decimal("1E+3"), "1E+3"),
            (Bson::Null, "null"),
            (Bson::Undefined, "null"),
            (Bson::Boolean(true), "true"),
            (Bson::String("é\"\u{0}\u{2028}".into()), "\"é\\\"\\u0000\u{2028}\""),
            (
                Bson::ObjectId(ObjectId::from_bytes([0xab; 12])),
                "\"abababababababababababab\"",
            ),
            (
                Bson::DateTime(DateTime::from_millis(1_700_000_000_120)),
                "\"2023-11-14T22:13:20.12Z\"",
            ),
            (
                Bson::DateTime(DateTime::from_millis(-1)),
                "\"1969-12-31T23:59:59.999Z\"",
            ),
            (Bson::DateTime(DateTime::from_millis(i64::MAX)), "9223372036854775807"),
            (Bson::Binary(uuid), "\"00010203-0405-0607-0809-0a0b0c0d0e0f\""),
            (Bson::Binary(raw), "\"AQID\""),
            (Bson::Array(vec![Bson::Int32(1), Bson::Null]), "[1,null]"),
            (Bson::Document(doc! {"a.b": {}, "": []}), "{\"a.b\":{},\"\":[]}"),
            (
                Bson::RegularExpression(regex),
                "{\"$regularExpression\":{\"pattern\":\"a.b\",\"options\":\"i\"}}",
            ),
            (
                Bson::Timestamp(Timestamp { time: 1, increment: 2 }),
                "{\"$timestamp\":{\"t\":1,\"i\":2}}",
            ),
            (Bson::MinKey, "{\"$minKey\":1}"),
        ] {
            let json = String::from_utf8(value_json(&value)).unwrap();
            assert_eq!(json, wanted, "{value:?}");
            assert!(serde_json::from_str::<Value>(&json).is_ok(), "{json}");
        }
    }

    #[test]
    fn what_the_go_driver_nests_comes_to_the_top() {
        let nested = doc! {
            "_id": "r",
            "abstractinstanciatedresource": {
                "abstractresource": { "abstractobject": { "id": "r", "name": "deep", "x": Bson::Null }, "description": "d" },
                "instances": [{ "abstractobject": { "stays": 1 } }],
            },
            "name": "top",
            "abstractobject": Bson::Null,
            "abstractresource": 7,
        };
        let wanted = json!({ "name": "top", "abstractresource": 7, "instances": [{"abstractobject": {"stays": 1}}],
            "description": "d", "id": "r", "x": null });
        assert_eq!(serde_json::from_str::<Value>(&told(&nested)).unwrap(), wanted);
    }

    #[test]
    fn the_key_of_the_database_is_the_id_only_when_there_is_no_other() {
        let id = ObjectId::from_bytes([1; 12]);
        assert_eq!(
            told(&doc! {"_id": id, "a": 1}),
            "{\"id\":\"010101010101010101010101\",\"a\":1}"
        );
        assert_eq!(told(&doc! {"_id": id, "id": "r"}), "{\"id\":\"r\"}");
        assert_eq!(told(&doc! {"_id": {"odd": 1}}), "{}");
        assert_eq!(told(&doc! {}), "{}");
    }
}
