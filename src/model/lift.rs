//! Documents written by the Go driver, brought back to the flat form apps write.

use serde_json::{Map, Value};

use super::fields::{NEST_DEPTH_MAX, NESTS, get};

/// The document with the Go driver's nested parts (`abstractobject`, ...) lifted to the top. What stands at the top already
/// stays; parts nested deeper than eight levels are left where they are.
pub fn lift(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(lift_map(map, NEST_DEPTH_MAX)),
        other => other,
    }
}

fn lift_map(mut map: Map<String, Value>, depth: usize) -> Map<String, Value> {
    let Some(deeper) = depth.checked_sub(1) else { return map };
    for nest in NESTS {
        if !matches!(map.get(nest), Some(Value::Object(_) | Value::Null)) {
            continue;
        }
        if let Some(Value::Object(part)) = map.shift_remove(nest) {
            for (key, value) in lift_map(part, deeper) {
                map.entry(key).or_insert(value);
            }
        }
    }
    map
}

/// The texts a search looks in: name, description, short description, and the attributes of the kind (texts, or lists of
/// texts), lifted.
pub fn search_texts<'a>(doc: &'a Value, attributes: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let fields = ["name", "description", "short_description"].into_iter();
    let values = fields.chain(attributes.iter().copied()).filter_map(|key| get(doc, key));
    values
        .flat_map(|value| match value {
            Value::Array(items) => items.as_slice(),
            other => std::slice::from_ref(other),
        })
        .filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_parts_come_to_the_top() {
        let nested = json!({
            "abstractinstanciatedresource": {
                "abstractresource": { "abstractobject": { "id": "r", "name": "deep" }, "description": "d" },
                "instances": [],
            },
            "name": "top",
            "abstractobject": null,
        });
        assert_eq!(search_texts(&nested, &[]).collect::<Vec<_>>(), ["top", "d"]);
        let kind = json!({ "type": "raster", "tags": ["a", 1, "b"], "format": 7, "license": "MIT" });
        let texts: Vec<&str> = search_texts(&kind, &["type", "tags", "format"]).collect();
        assert_eq!(texts, ["raster", "a", "b"]);
        let flat = json!({ "id": "r", "name": "top", "description": "d", "instances": [] });
        assert_eq!(lift(nested), flat);
        assert_eq!(lift(flat.clone()), flat);
        assert_eq!(lift(json!([1])), json!([1]));
        assert_eq!(lift(json!({ "abstractobject": 1 })), json!({ "abstractobject": 1 }));
    }
}
