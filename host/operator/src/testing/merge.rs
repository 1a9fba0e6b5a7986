//! Objects as several managers have applied them.

use serde_json::Value;

/// Lists whose entries several managers have, by the field that tells the entries apart.
const KEYED: [(&str, &str); 3] = [("conditions", "type"), ("pods", "pod"), ("versions", "version")];

/// Puts fields over those that are there.
pub(super) fn merge(into: &mut Value, from: &Value) {
    let (Value::Object(into), Value::Object(from)) = (&mut *into, from) else {
        *into = from.clone();
        return;
    };
    for (field, value) in from {
        let there = into.entry(field.clone()).or_insert(Value::Null);
        let key = KEYED.iter().find(|(list, _)| list == field);
        match (there, value, key) {
            (Value::Array(there), Value::Array(value), Some((_, key))) => merge_list(there, value, key),
            (there @ Value::Object(_), Value::Object(_), _) => merge(there, value),
            (there, value, _) => *there = value.clone(),
        }
    }
}

fn merge_list(there: &mut Vec<Value>, value: &[Value], key: &str) {
    for entry in value {
        match there.iter_mut().find(|known| known[key] == entry[key]) {
            Some(known) => merge(known, entry),
            None => there.push(entry.clone()),
        }
    }
}

/// A merge patch, as RFC 7396 has it.
pub(super) fn patch(into: &mut Value, from: &Value) {
    let Value::Object(from) = from else {
        *into = from.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(serde_json::Map::new());
    }
    for (field, value) in from {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(field);
        } else {
            patch(&mut into[field.as_str()], value);
        }
    }
}
