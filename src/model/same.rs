//! Whether two JSON values say the same, however they spell it.
//!
//! Pure. Always: the order of keys is nothing, numbers are equal by value, times to the millisecond that databases keep.

use serde_json::{Number, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Whether two values say the same.
#[must_use]
pub fn same_value(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => same_number(one, other),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same_value(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let in_other =
                |(key, value): (&String, &Value)| other.get(key).is_some_and(|found| same_value(value, found));
            one.len() == other.len() && one.iter().all(in_other)
        }
        (Value::String(one), Value::String(other)) => same_time(one, other),
        _ => one == other,
    }
}

/// Whether two numbers have the same value.
#[must_use]
pub fn same_number(one: &Number, other: &Number) -> bool {
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one.as_f64() == other.as_f64(),
        _ => false,
    }
}

/// A number without a fraction, exactly: beyond 53 bits a double cannot tell its neighbours apart.
fn whole(number: &Number) -> Option<i128> {
    let integer = number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from));
    let real = || number.as_f64().filter(|real| real.fract() == 0.0 && real.abs() < 1e38);
    integer.or_else(|| real().map(|real| real as i128))
}

/// Whether two texts are equal, or RFC 3339 for the same millisecond: what apps say on NATS has more digits than databases keep.
#[must_use]
pub fn same_time(one: &str, other: &str) -> bool {
    let millis = |text: &str| {
        let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
        Some(nanos.div_euclid(1_000_000))
    };
    // Most texts begin with no year, and cost nothing here.
    let dated = |text: &str| text.len() >= 20 && text.as_bytes().get(4) == Some(&b'-');
    one == other || dated(one) && dated(other) && millis(one).is_some_and(|at| Some(at) == millis(other))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_spelling_is_nothing_and_the_value_everything() {
        for (one, other, wanted) in [
            (
                json!({"a": 1, "b": [true, null]}),
                json!({"b": [true, null], "a": 1.0}),
                true,
            ),
            (json!(1e2), json!(100), true),
            (json!(1), json!(2), false),
            (json!(1.5), json!(1), false),
            (json!(1e300), json!(1e300), true),
            (json!(u64::MAX), json!(18_446_744_073_709_551_615_f64), false),
            (json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992.0), false),
            (json!("1"), json!(1), false),
            (json!({"a": 1}), json!({"a": 1, "b": 1}), false),
            (json!([1, 2]), json!([2, 1]), false),
            (
                json!(9_007_199_254_740_993_i64),
                json!(9_007_199_254_740_992_i64),
                false,
            ),
            (
                json!("2024-05-06T07:08:09.123456789Z"),
                json!("2024-05-06T07:08:09.123Z"),
                true,
            ),
            (
                json!("2024-05-06T09:08:09.123+02:00"),
                json!("2024-05-06T07:08:09.123Z"),
                true,
            ),
            (
                json!("2024-05-06T07:08:09.124Z"),
                json!("2024-05-06T07:08:09.123Z"),
                false,
            ),
            (
                json!("1965-05-06T07:08:09.1239Z"),
                json!("1965-05-06T07:08:09.123Z"),
                true,
            ),
            (
                json!("2024-a text that is no time"),
                json!("2024-another one that is none"),
                false,
            ),
        ] {
            assert_eq!(same_value(&one, &other), wanted, "{one} {other}");
            assert_eq!(same_value(&other, &one), wanted, "{other} {one}");
        }
    }
}
