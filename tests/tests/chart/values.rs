//! Values that are wrong, and values that the chart and the resources have both.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use vespid_tests::cli;

use crate::rendered::{cases, chart, check, rendered, said, template};

#[test]
fn wrong_values_are_refused_by_their_names() {
    for case in cases("chart/refused") {
        let refused = template(&case);
        let says = said(&case, "says");
        assert_ne!(refused.code, 0, "{} is taken", case.display());
        assert!(
            !says.is_empty() && says.iter().all(|says| refused.stderr.contains(says)),
            "{}\n{}",
            case.display(),
            refused.stderr
        );
    }
}

/// The names of what an object may have.
fn names(schema: &Value) -> BTreeSet<&str> {
    schema["properties"].as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_pool_s_values_are_those_of_a_pool() {
    let schema = fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let values = &schema["definitions"]["poolSpec"];
    let printed = cli::vespid(Path::new("/"), &[], &["crds"]).expect(0).stdout.clone();
    let definitions = check(&printed);
    let pool =
        definitions.iter().find(|definition| definition.name().ends_with("/modelpools.vespid.dev")).unwrap();
    let resource = &pool.object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    assert_eq!(names(values), names(resource));
    for part in ["autoscaling", "cache", "disruption", "rollout", "pods"] {
        assert_eq!(names(&values["properties"][part]), names(&resource["properties"][part]), "{part}");
    }
}

#[test]
fn the_pool_that_the_operator_is_handed_is_one() {
    for case in cases("chart") {
        for object in rendered(&case).iter().filter(|object| object.name().ends_with("-pools")) {
            for (name, spec) in object.object["data"].as_object().unwrap() {
                let spec =
                    spec.as_str().unwrap().lines().map(|line| format!("  {line}\n")).collect::<String>();
                check(&format!(
                    "apiVersion: vespid.dev/v1alpha1\nkind: ModelPool\nmetadata: {{name: {name}}}\nspec:\n{spec}"
                ));
            }
        }
    }
}
