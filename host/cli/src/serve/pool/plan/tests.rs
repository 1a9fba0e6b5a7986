use serde_json::{Value, json};

use super::*;

const ONE: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const TWO: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn model(name: &str, spec: &Value, status: &Value) -> Model {
    let json = json!({
        "apiVersion": "vespid.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": name, "generation": 3},
        "spec": spec,
        "status": status,
    });
    serde_json::from_value(json).unwrap()
}

fn simple(name: &str) -> Model {
    let versions = json!([{"version": 1, "package": {"oci": "oci://r/m:1"}}]);
    model(name, &json!({"versions": versions}), &json!({}))
}

fn planned(models: &[Model], pods: &[&str], me: &str) -> Plan {
    let pods = pods.iter().map(|pod| (*pod).to_owned()).collect();
    let me = Identity { pool: "default".to_owned(), pod: me.to_owned() };
    plan(models, &pods, &me, Path::new("/secrets"))
}

fn version(number: u64) -> Version {
    number.to_string().parse().unwrap()
}

#[test]
fn models_of_other_pools_and_those_that_are_being_deleted_are_not_ours() {
    let other = model(
        "other",
        &json!({"pool": "gpu", "versions": [{"version": 1, "package": {"upload": ONE}}]}),
        &json!({}),
    );
    let mut going = simple("going");
    going.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    let plan = planned(&[simple("iris"), other, going], &[], "a");
    assert_eq!(plan.keys().map(ModelName::as_str).collect::<Vec<_>>(), ["iris"]);
}

#[test]
fn the_label_says_whose_a_model_is() {
    let mut acme = simple("acme-iris");
    acme.metadata.labels = Some(BTreeMap::from([("vespid.dev/tenant".to_owned(), "acme".to_owned())]));
    let plan = planned(&[acme, simple("iris")], &[], "a");
    assert_eq!(
        plan.values().map(|wanted| wanted.tenant.as_deref()).collect::<Vec<_>>(),
        [Some("acme"), None]
    );
}

#[test]
fn as_many_pods_as_there_are_replicas_load_a_model_and_they_are_those_of_the_rank() {
    let pods = ["a", "b", "c", "d", "e"];
    for replicas in [0, 1, 2, 5, 9] {
        let mut iris = simple("iris");
        iris.spec.replicas = replicas;
        let eager = |pod: &&str| planned(std::slice::from_ref(&iris), &pods, pod)["iris"].eager;
        let eager: Vec<&str> = pods.into_iter().filter(eager).collect();
        let mut first: Vec<&str> =
            rank("iris", pods).into_iter().take(usize::try_from(replicas).unwrap()).collect();
        first.sort_unstable();
        assert_eq!(eager, first, "{replicas}");
    }
    // A pod that nobody has seen yet counts itself.
    assert!(planned(&[simple("iris")], &[], "a")["iris"].eager);
}

#[test]
fn a_digest_is_the_upload_s_or_the_one_that_was_read_first() {
    let spec = json!({"versions": [
        {"version": 1, "package": {"oci": "oci://r/m:1"}},
        {"version": 2, "package": {"oci": "oci://r/m:2"}},
        {"version": 3, "package": {"upload": ONE}},
        {"version": 4, "package": {"oci": "oci://r/m:4"}},
    ]});
    let ready = |version: i64, digest: &str| json!({"version": version, "state": "Ready", "digest": digest});
    let status = json!({
        "versions": [{"version": 1, "digest": TWO}, {"version": 3, "digest": TWO}, {"version": 2}],
        "pods": [
            {"pod": "b", "versions": [ready(1, ONE), ready(2, TWO)]},
            {"pod": "a", "versions": [{"version": 2, "state": "Loading"}, ready(1, ONE)]},
            {"pod": "c", "versions": [ready(2, ONE)]},
        ],
    });
    let plan = planned(&[model("m", &spec, &status)], &[], "a");
    let digest = |number| plan["m"].versions[&version(number)].digest.map(|digest| digest.to_string());
    assert_eq!(digest(1).as_deref(), Some(TWO));
    assert_eq!(digest(2).as_deref(), Some(TWO));
    assert_eq!(digest(3).as_deref(), Some(ONE));
    assert_eq!(digest(4), None);
}

#[test]
fn weights_are_the_traffic_and_without_any_the_greatest_answers() {
    let package = json!({"upload": ONE});
    let spec = json!({
        "versions": [
            {"version": 1, "weight": 90, "package": package},
            {"version": 2, "weight": 10, "package": package},
            {"version": 3, "weight": 0, "package": package},
            {"version": 4, "package": package},
        ],
        "shadow": {"version": 4, "percent": 5},
    });
    let traffic = planned(&[model("m", &spec, &json!({}))], &[], "a")["m"].traffic.clone();
    let expected = br#"{"weights": {"1": 90, "2": 10}, "shadow": {"version": 4, "percent": 5}}"#;
    assert_eq!(traffic, Traffic::parse(expected).unwrap());
    let spec = json!({"versions": [{"version": 2, "package": package}, {"version": 10, "package": package}]});
    let traffic = planned(&[model("m", &spec, &json!({}))], &[], "a")["m"].traffic.clone();
    assert_eq!(traffic, Traffic::parse(br#"{"weights": {"10": 1}}"#).unwrap());
}

#[test]
fn grants_name_files_of_the_pool_s_secrets_and_no_others() {
    let grants = |grants: &Value| {
        let spec = json!({"versions": [{"version": 1, "package": {"upload": ONE}}], "grants": grants});
        planned(&[model("m", &spec, &json!({}))], &[], "a")["m"].grants.clone()
    };
    let given = grants(&json!({
        "http": ["api.example.com"],
        "env": {"URL": "u"},
        "secrets": {"key": {"secret": "api", "key": "token.txt"}},
        "models": ["iris"],
    }));
    let given = given.unwrap();
    assert_eq!(given.secrets["key"], Path::new("/secrets/api/token.txt"));
    assert_eq!((given.http[0].as_str(), given.folder), ("api.example.com", false));
    for (secret, key) in
        [("..", "x"), ("a/b", "x"), ("a", "../../etc/passwd"), ("", "x"), (".", "x"), ("a", "..data")]
    {
        let refused = grants(&json!({"secrets": {"key": {"secret": secret, "key": key}}})).unwrap_err();
        assert!(refused.starts_with("secrets.key."), "{refused}");
    }
    // Nothing but its own package where nothing is said.
    assert_eq!(
        planned(&[simple("m")], &[], "a")["m"].grants.clone().unwrap(),
        ModelGrants { folder: true, ..ModelGrants::default() }
    );
}
