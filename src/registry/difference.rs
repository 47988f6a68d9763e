//! Where two versions differ, by the paths of their JSON.

use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// One value that is not the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Such as `forecast.churn.model.coefficients[3]`.
    pub path: String,
    /// What the version says; null where it says nothing.
    pub recorded: Value,
    /// What training gives now; null where it gives nothing.
    pub retrained: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Value| match value {
            Value::Object(_) | Value::Array(_) => "other parts".to_owned(),
            plain => plain.to_string(),
        };
        write!(
            f,
            "{}: recorded {}, retrained {}",
            self.path,
            shown(&self.recorded),
            shown(&self.retrained)
        )
    }
}

/// All values of `recorded` and `retrained` that differ, in the order of the paths. Numbers may differ
/// by `tolerance` relative to the larger (or absolutely, below 1); 0 asks for equal bits.
pub fn differences(recorded: &Value, retrained: &Value, tolerance: f64) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(String::new(), recorded, retrained, tolerance, &mut found);
    found
}

fn compare(path: String, a: &Value, b: &Value, tolerance: f64, found: &mut Vec<Difference>) {
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => {
            let absent = Value::Null;
            let added = right.keys().filter(|key| !left.contains_key(*key));
            for key in left.keys().chain(added) {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let of = |side: &serde_json::Map<String, Value>| side.get(key).cloned();
                let (a, b) =
                    (of(left).unwrap_or(absent.clone()), of(right).unwrap_or(absent.clone()));
                compare(inner, &a, &b, tolerance, found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (a, b)) in left.iter().zip(right).enumerate() {
                compare(format!("{path}[{index}]"), a, b, tolerance, found);
            }
        }
        _ if a == b || close(a, b, tolerance) => {}
        _ => found.push(Difference { path, recorded: a.clone(), retrained: b.clone() }),
    }
}

fn close(a: &Value, b: &Value, tolerance: f64) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1.0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(a: &Value, b: &Value, tolerance: f64) -> Vec<String> {
        differences(a, b, tolerance).into_iter().map(|difference| difference.path).collect()
    }

    #[test]
    fn every_difference_is_named_by_its_path() {
        let a = json!({ "x": [1.0, { "y": "s" }], "only": 1, "same": null });
        let b = json!({ "x": [1.5, { "y": "t" }], "new": 2, "same": null });
        assert_eq!(paths(&a, &b, 0.0), ["only", "x[0]", "x[1].y", "new"]);
        assert_eq!(paths(&a, &a, 0.0), Vec::<String>::new());
        assert_eq!(paths(&json!([1]), &json!([1, 2]), 0.0), [""]);
    }

    #[test]
    fn a_tolerance_is_for_numbers_alone() {
        let (a, b) = (json!({ "n": 1.0, "s": "a" }), json!({ "n": 1.0000001, "s": "b" }));
        assert_eq!(paths(&a, &b, 1e-6), ["s"]);
        assert_eq!(paths(&a, &b, 0.0), ["n", "s"]);
    }
}
