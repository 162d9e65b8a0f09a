//! Documents written by the Go driver, brought back to the flat form apps write.

use serde_json::{Map, Value};

use super::fields::{NEST_DEPTH_MAX, NESTS};

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
        let flat = json!({ "id": "r", "name": "top", "description": "d", "instances": [] });
        assert_eq!(lift(nested), flat);
        assert_eq!(lift(flat.clone()), flat);
        assert_eq!(lift(json!([1])), json!([1]));
        assert_eq!(lift(json!({ "abstractobject": 1 })), json!({ "abstractobject": 1 }));
    }
}
