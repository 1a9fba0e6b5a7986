//! The reference of the resources: a table of fields for each, made of the schemas that a cluster checks them by.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

/// Fields that are as Kubernetes has them, and are described there.
const KUBERNETES: [&str; 9] = [
    "affinity",
    "conditions",
    "env",
    "envFrom",
    "imagePullSecrets",
    "metrics",
    "resources",
    "runtimeClassName",
    "tolerations",
];

const HEAD: &str = "\
# Resources

Every field of the custom resources of `vespid.dev/v1alpha1`. This page is made of the definitions that the cluster checks them by
(`cargo xtask chart`); [kubernetes.md](kubernetes.md) says what becomes of them. Fields that are not these are refused. Where the type is
`Kubernetes`, the field is what it is in a Pod or a HorizontalPodAutoscaler.
";

/// The page.
pub(super) fn reference(definitions: &[CustomResourceDefinition]) -> serde_json::Result<String> {
    let mut page = HEAD.to_owned();
    for definition in definitions {
        resource(&mut page, &serde_json::to_value(definition)?);
    }
    Ok(page)
}

fn resource(page: &mut String, definition: &Value) {
    let names = at(definition, "/spec/names");
    let schema = at(definition, "/spec/versions/0/schema/openAPIV3Schema");
    page.push_str(&format!("\n## {}\n\n{}\n", text(&names["kind"]), text(&schema["description"])));
    let short = names["shortNames"].as_array().into_iter().flatten().map(|name| format!("`{}`", text(name)));
    let names: Vec<String> = [format!("`{}`", text(&names["plural"]))].into_iter().chain(short).collect();
    page.push_str(&format!("kubectl knows it as {}.\n", names.join(" and ")));
    let mut rules = Vec::new();
    for part in ["spec", "status"] {
        let schema = at(schema, &format!("/properties/{part}"));
        page.push_str(&format!("\n| {part} | type | default | meaning |\n|---|---|---|---|\n"));
        fields(page, "", schema, &mut rules);
    }
    rules.extend(messages(schema));
    let rules: BTreeSet<String> = rules.into_iter().collect();
    if !rules.is_empty() {
        page.push_str("\nRefused, with these words:\n\n");
        rules.iter().for_each(|rule| page.push_str(&format!("- {rule}\n")));
    }
}

/// What stands at a place of a schema; nothing where it does not say so much.
fn at<'a>(schema: &'a Value, place: &str) -> &'a Value {
    schema.pointer(place).unwrap_or(&Value::Null)
}

/// A row for each field of an object, and those of what is in it.
fn fields(page: &mut String, path: &str, schema: &Value, rules: &mut Vec<String>) {
    rules.extend(messages(schema));
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().map(text).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let ours = !KUBERNETES.contains(&name.as_str());
        let kind = if ours { kind(field) } else { "Kubernetes".to_owned() };
        let default = match field.get("default") {
            // What an empty object becomes is said by the fields in it.
            Some(Value::Object(_)) | None if required.contains(&name.as_str()) => "required".to_owned(),
            Some(Value::Object(_)) | None => String::new(),
            Some(default) => {
                format!("`{}`", default.as_str().map_or_else(|| default.to_string(), str::to_owned))
            }
        };
        let meaning = format!("{}{}", text(&field["description"]), bounds(field));
        page.push_str(&format!("| `{path}` | {kind} | {default} | {} |\n", cell(&meaning)));
        if !ours {
            continue;
        }
        fields(page, &path, field, rules);
        if at(field, "/items/properties").is_object() {
            fields(page, &format!("{path}[]"), &field["items"], rules);
        }
        if at(field, "/additionalProperties/properties").is_object() {
            fields(page, &format!("{path}.NAME"), &field["additionalProperties"], rules);
        }
    }
}

fn kind(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == Value::Bool(true) {
        return "integer or string".to_owned();
    }
    match text(&field["type"]) {
        "array" => format!("list of {}", plural(&field["items"])),
        "object" if field["additionalProperties"].is_object() => {
            format!("map of {}", plural(&field["additionalProperties"]))
        }
        kind => kind.to_owned(),
    }
}

fn plural(of: &Value) -> String {
    match kind(of).as_str() {
        "integer or string" => "integers or strings".to_owned(),
        kind if kind.starts_with("list of") => kind.replacen("list", "lists", 1),
        kind => format!("{kind}s"),
    }
}

/// What the schema allows, where it is not anything.
fn bounds(field: &Value) -> String {
    let number = |name: &str| field[name].as_f64().map(|number| number.to_string());
    let mut said = Vec::new();
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<String> = values
            .iter()
            .filter(|value| !value.is_null())
            .map(|value| format!("`{}`", text(value)))
            .collect();
        said.push(format!("One of {}.", values.join(", ")));
    }
    match (number("minimum"), number("maximum")) {
        (Some(least), Some(most)) => said.push(format!("{least} to {most}.")),
        (Some(least), None) => said.push(format!("At least {least}.")),
        (None, Some(most)) => said.push(format!("At most {most}.")),
        (None, None) => {}
    }
    if let Some(most) = number("maxItems") {
        said.push(format!("At most {most} of them."));
    }
    if let Some(most) = number("maxLength") {
        said.push(format!("At most {most} characters."));
    }
    said.iter().map(|sentence| format!(" {sentence}")).collect()
}

fn messages(schema: &Value) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.map(|rule| text(&rule["message"]).to_owned()).filter(|message| !message.is_empty()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_ours_has_a_row_and_what_is_refused_is_told() {
        let page = reference(&vespid_resources::definitions()).unwrap();
        for row in [
            "| `pool` | string | `default` | The pool that serves it, in the same namespace. At most 50 characters. |",
            "| `versions[].package.oci` | string |",
            "| `autoscaling.maxReplicas` | integer | required |",
            "| `pods.affinity` | Kubernetes |",
            "| `source.kafka.brokers` | list of strings | required |",
            "- package: a version is never overwritten; add another version in its place",
        ] {
            assert!(page.contains(row), "{row}\n{page}");
        }
        assert!(!page.contains("nodeAffinity"));
        assert_eq!(page.matches("\n## ").count(), 4);
    }
}
