//! What holds for every pod that the chart makes.

use serde_json::{Value, json};

use crate::rendered::{Checked, cases, rendered};

/// The specification of the pods of an object, if it has some.
fn pod(object: &Value) -> Option<&Value> {
    match object["kind"].as_str().unwrap() {
        "Pod" => Some(&object["spec"]),
        "Deployment" => Some(&object["spec"]["template"]["spec"]),
        _ => None,
    }
}

fn each(look: impl Fn(&str, &Checked, &Value, &Value)) {
    let mut seen = 0;
    for case in cases("chart") {
        for object in rendered(&case) {
            let Some(pod) = pod(&object.object) else { continue };
            for container in pod["containers"].as_array().unwrap() {
                seen += 1;
                look(&format!("{} of {}", object.name(), case.display()), &object, pod, container);
            }
        }
    }
    assert!(seen > 30);
}

#[test]
fn pods_have_no_rights_on_their_node() {
    each(|name, _, pod, container| {
        let (of_pod, own) = (&pod["securityContext"], &container["securityContext"]);
        assert_eq!(of_pod["runAsNonRoot"], true, "{name}");
        assert_eq!((&of_pod["runAsUser"], &of_pod["runAsGroup"]), (&json!(65532), &json!(65532)), "{name}");
        assert_eq!(of_pod["seccompProfile"], json!({"type": "RuntimeDefault"}), "{name}");
        assert_eq!(own["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(own["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(own["capabilities"], json!({"drop": ["ALL"]}), "{name}");
        for forbidden in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod.get(forbidden).is_none(), "{name}");
        }
        for volume in pod["volumes"].as_array().into_iter().flatten() {
            assert!(volume.get("hostPath").is_none(), "{name}");
        }
    });
}

#[test]
fn pods_say_what_they_need_and_how_they_are() {
    each(|name, object, pod, container| {
        for resource in ["cpu", "memory"] {
            assert!(container["resources"]["requests"][resource].is_string(), "{name}: {resource}");
        }
        assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
        assert!(!container["image"].as_str().unwrap().ends_with(":latest"), "{name}");
        if object.kind() == "Pod" {
            assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
            return;
        }
        for probe in ["livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], "admin", "{name}: {probe}");
        }
        let ports = container["ports"].as_array().unwrap();
        assert!(ports.iter().any(|port| port["name"] == "admin" && port["containerPort"] == 8002), "{name}");
        assert!(pod["serviceAccountName"].is_string(), "{name}");
    });
}

#[test]
fn the_operator_s_image_is_that_of_pods_but_where_another_is_named() {
    each(|name, object, _, container| {
        if object.name().ends_with("-operator") {
            let args = container["args"].as_array().unwrap();
            let images: Vec<&Value> =
                args.iter().filter(|argument| argument.as_str().unwrap().starts_with("--image=")).collect();
            let other = json!("--image=registry.example:5000/vespid:0.1.0-onnxruntime");
            let wanted = if name.ends_with("everything.yaml") { vec![&other] } else { vec![] };
            assert_eq!(images, wanted, "{name}");
        }
    });
}

#[test]
fn a_node_is_emptied_of_pods_that_are_not_ready() {
    let mut seen = 0;
    for case in cases("chart") {
        for object in rendered(&case).iter().filter(|object| object.kind() == "PodDisruptionBudget") {
            assert_eq!(
                object.object["spec"]["unhealthyPodEvictionPolicy"],
                "AlwaysAllow",
                "{}",
                object.name()
            );
            seen += 1;
        }
    }
    assert!(seen >= 2);
}

#[test]
fn a_volume_has_one_writer() {
    for case in cases("chart") {
        for object in rendered(&case) {
            let spec = &object.object["spec"];
            let claims = pod(&object.object)
                .into_iter()
                .flat_map(|pod| pod["volumes"].as_array().into_iter().flatten());
            if claims.filter(|volume| volume.get("persistentVolumeClaim").is_some()).count() > 0 {
                let (replicas, strategy) = (&spec["replicas"], &spec["strategy"]["type"]);
                assert_eq!(
                    (replicas, strategy),
                    (&json!(1), &json!("Recreate")),
                    "{}: {}",
                    case.display(),
                    object.name()
                );
            }
        }
    }
}

/// A pod is given what it was told to take up: what the process is told lies within what the pod has.
#[test]
fn a_pod_that_goes_has_time_to_end() {
    for case in cases("chart") {
        let objects = rendered(&case);
        let gateway = objects
            .iter()
            .find(|object| object.name().ends_with("-gateway") && object.kind() == "Deployment")
            .unwrap();
        let pod = pod(&gateway.object).unwrap();
        let container = &pod["containers"][0];
        let sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64().unwrap_or(0);
        let arguments = container["args"].as_array().unwrap().iter().filter_map(Value::as_str);
        let drain = arguments
            .filter_map(|argument| argument.strip_prefix("--drain=")?.strip_suffix('s')?.parse::<i64>().ok())
            .next();
        assert!(
            pod["terminationGracePeriodSeconds"].as_i64().unwrap() > sleep + drain.unwrap(),
            "{}",
            case.display()
        );
    }
}
