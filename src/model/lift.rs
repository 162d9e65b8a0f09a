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

/// The texts a search looks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SearchFields<'a> {
    /// `name`
    pub name: &'a str,
    /// `description`
    pub description: &'a str,
    /// `short_description`
    pub short_description: &'a str,
}

/// The texts a search looks in, lifted; empty when missing.
pub fn search_fields(doc: &Value) -> SearchFields<'_> {
    let text = |key| get(doc, key).and_then(Value::as_str).unwrap_or_default();
    SearchFields {
        name: text("name"),
        description: text("description"),
        short_description: text("short_description"),
    }
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
        assert_eq!(
            search_fields(&nested),
            SearchFields {
                name: "top",
                description: "d",
                short_description: ""
            }
        );
        let flat = json!({ "id": "r", "name": "top", "description": "d", "instances": [] });
        assert_eq!(lift(nested), flat);
        assert_eq!(lift(flat.clone()), flat);
        assert_eq!(lift(json!([1])), json!([1]));
        assert_eq!(lift(json!({ "abstractobject": 1 })), json!({ "abstractobject": 1 }));
    }
}
