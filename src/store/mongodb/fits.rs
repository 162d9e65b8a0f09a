//! Whether MongoDB can keep a document at all, before anything is asked of the server.
//!
//! Pure. Always: what does not pass has a reason; what passes no server refuses for its names or its depth, and for its size only
//! where an update keeps types that are larger.

use serde_json::{Map, Number, Value};

use crate::model::ModelError;

/// Levels of nesting that MongoDB keeps, less one for the document itself.
const DEPTH_MAX: usize = 99;
/// Most bytes as BSON: of the 16 MiB that a server takes some are left for the key, and for the parts that an app nested.
const BYTES_MAX: usize = (16 << 20) - (64 << 10);
/// What every document and list has: its length, and its end.
const FRAME: usize = 5;

/// The fields of a document that MongoDB can keep.
///
/// # Errors
/// No JSON object; a name with NUL, or one that begins with `$` and would be an operator to some servers; nested too deep; too
/// large as BSON, which may be six times as large as JSON.
pub(super) fn read(document: &[u8]) -> Result<Map<String, Value>, ModelError> {
    let value: Value = serde_json::from_slice(document).map_err(|error| ModelError::NotJson(error.to_string()))?;
    let Value::Object(fields) = value else {
        return Err(ModelError::NotObject);
    };
    if size_of_fields(&fields, DEPTH_MAX)? > BYTES_MAX {
        return Err(ModelError::NotStorable("as BSON it is larger than 16 MiB"));
    }
    Ok(fields)
}

fn size_of_fields(fields: &Map<String, Value>, depth: usize) -> Result<usize, ModelError> {
    fields.iter().try_fold(FRAME, |size, (key, value)| {
        if key.contains('\0') {
            return Err(ModelError::NotStorable("a key holds NUL"));
        }
        if key.starts_with('$') {
            return Err(ModelError::NotStorable("a key begins with `$`"));
        }
        Ok(size + named(key.len()) + size_of(value, depth)?)
    })
}

/// As [`super::from_json::bson`] makes it.
fn size_of(value: &Value, depth: usize) -> Result<usize, ModelError> {
    let deeper = || {
        depth
            .checked_sub(1)
            .ok_or(ModelError::NotStorable("it is nested too deep"))
    };
    Ok(match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(number) => size_of_number(number),
        Value::String(text) => FRAME + text.len(),
        Value::Object(fields) => size_of_fields(fields, deeper()?)?,
        Value::Array(items) => {
            let deeper = deeper()?;
            // Their names are their numbers.
            let digits = |n: usize| n.checked_ilog10().map_or(1, |tens| tens as usize + 1);
            items.iter().enumerate().try_fold(FRAME, |size, (n, item)| {
                Ok::<_, ModelError>(size + named(digits(n)) + size_of(item, deeper)?)
            })?
        }
    })
}

/// A type, and a name with its end.
fn named(length: usize) -> usize {
    length + 2
}

fn size_of_number(number: &Number) -> usize {
    match number.as_i64() {
        Some(whole) if i32::try_from(whole).is_ok() => 4,
        None if number.is_u64() => 16,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::from_json::put;
    use super::*;

    #[test]
    fn what_mongodb_cannot_keep_is_refused_with_a_reason() {
        let deep = |levels: usize| format!("{}{}", "{\"a\":".repeat(levels), "1") + &"}".repeat(levels);
        for (document, wanted) in [
            ("[]".to_owned(), "not_object"),
            ("{".to_owned(), "not_json"),
            ("{\"a\\u0000b\":1}".to_owned(), "not_storable"),
            ("{\"a\":[{\"b\\u0000\":1}]}".to_owned(), "not_storable"),
            ("{\"$set\":{}}".to_owned(), "not_storable"),
            ("{\"a\":{\"$where\":\"1\"}}".to_owned(), "not_storable"),
            (deep(101), "not_storable"),
            (format!("{{\"a\":\"{}\"}}", "x".repeat(BYTES_MAX)), "not_storable"),
            (format!("{{\"a\":[{}1]}}", "1,".repeat(1_400_000)), "not_storable"),
            ("{\"a\":\"\\ud800\"}".to_owned(), "not_json"),
        ] {
            assert_eq!(read(document.as_bytes()).map_err(|error| error.rule()), Err(wanted));
        }
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(BYTES_MAX - 100));
        for document in [deep(99), "{\"a.b\":1,\"\":2,\"a$\":\"$x\\u0000\"}".to_owned(), large] {
            assert!(read(document.as_bytes()).is_ok(), "{}", document.len());
        }
    }

    #[test]
    fn the_size_is_that_of_the_bson() {
        let values = json!({ "n": null, "yes": true, "small": -7, "large": i64::MAX, "huge": u64::MAX, "real": 1.5, "text": "é\u{0}",
            "list": (0..1100).collect::<Vec<_>>(), "mixed": [1.5, [], {}, "x"], "part": { "a.b": { "": [] } } });
        let Value::Object(fields) = values else { panic!() };
        let size = size_of_fields(&fields, DEPTH_MAX).unwrap();
        let bson = put("r".into(), fields, None);
        // Beside the fields there is the key: its type, its name, and the text `r`.
        assert_eq!(bson.to_vec().unwrap().len(), size + 1 + 4 + FRAME + 1);
    }
}
