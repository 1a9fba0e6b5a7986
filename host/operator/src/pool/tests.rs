use serde_json::{Value, json};
use vespid_resources::ModelPool;

use crate::OperatorOptions;
use crate::testing::{Server, Stage, at, condition, events, killed_anywhere, options};

const NAME: &str = "default-pool";

fn pool(spec: &Value) -> Value {
    json!({
        "apiVersion": "vespid.dev/v1alpha1", "kind": "ModelPool",
        "metadata": {"name": "default", "namespace": "models", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    })
}

fn given(spec: &Value) -> Server {
    let server = Server::default();
    server.put("modelpools", &pool(spec));
    server
}

fn full() -> Value {
    json!({
        "autoscaling": {"minReplicas": 2, "maxReplicas": 9},
        "cache": {"hostPath": "/var/cache/models", "size": "20Gi"},
        "secrets": ["tokens", "more.tokens"], "limits": "tenants.limits", "maxInFlight": 64, "drainSeconds": 45,
        "disruption": {"maxUnavailable": "25%"}, "rollout": {"maxSurge": 0, "maxUnavailable": 1},
        "pods": {
            "image": "registry.example/vespid:gpu",
            "resources": {"limits": {"memory": "9Gi", "nvidia.com/gpu": "1"}, "requests": {"cpu": "2"}},
            "env": [{"name": "AWS_REGION", "value": "eu"}, {"name": "POD_NAME", "value": "mine"}],
            "args": ["--trace-rate", "7"],
            "labels": {"team": "botany", "vespid.dev/pool": "another"},
            "nodeSelector": {"gpu": "yes"},
        },
    })
}

/// The golden files are what reviewers read; `BLESS=1` writes them anew.
pub(crate) fn golden(file: &str, text: &str) {
    let path = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("tests/golden")
        .join(file);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{file}: BLESS=1 writes it anew");
}

/// With its keys in order, whatever order serde_json keeps: crates beside this one may ask for another.
pub(crate) fn in_order(mut value: Value) -> Value {
    value.sort_all_objects();
    value
}

fn children(server: &Server) -> String {
    let all = server.snapshot();
    let children: Vec<Value> = all
        .into_iter()
        .filter(|(key, _)| !key.starts_with("model"))
        .map(|(_, mut object)| {
            let metadata = object["metadata"].as_object_mut().unwrap();
            metadata.retain(|field, _| field == "name" || field == "labels");
            in_order(object)
        })
        .collect();
    serde_saphyr::to_string_multiple(&children).unwrap()
}

#[tokio::test]
async fn a_pool_becomes_all_that_its_pods_need() {
    let mut stage =
        Stage::new(given(&json!({"replicas": 3, "pods": {"resources": {"limits": {"memory": "3Gi"}}}})));
    stage.settle::<ModelPool>("default").await;
    golden("pool.yaml", &children(&stage.server));
    for (kind, name) in
        [("deployments", NAME), ("services", NAME), ("rolebindings", NAME), ("serviceaccounts", NAME)]
    {
        let child = stage.server.get(kind, name).unwrap();
        assert_eq!(at(&child, "metadata.ownerReferences.0.name"), "default", "{kind}");
        assert_eq!(at(&child, "metadata.ownerReferences.0.controller"), true, "{kind}");
    }
    assert!(stage.server.get("horizontalpodautoscalers", NAME).is_none());
    let budget = stage.server.get("poddisruptionbudgets", NAME).unwrap();
    assert_eq!(at(&budget, "spec.maxUnavailable"), 1);
    let told = events(&stage.server);
    assert!(told.contains(&format!("Created Deployment {NAME} was made")), "{told:?}");
}

#[tokio::test]
async fn a_pool_that_says_everything_has_everything() {
    let mut stage = Stage::new(given(&full()));
    stage.settle::<ModelPool>("default").await;
    golden("pool-full.yaml", &children(&stage.server));
    let deployment = stage.server.get("deployments", NAME).unwrap();
    let pod = at(&deployment, "spec.template");
    assert_eq!(pod["metadata"]["labels"]["vespid.dev/pool"], "default", "it is not the resource's to say");
    let env = at(pod, "spec.containers.0.env").as_array().unwrap();
    let named: Vec<&Value> = env.iter().filter(|variable| variable["name"] == "POD_NAME").collect();
    assert_eq!(named.len(), 1);
    assert_eq!(at(named[0], "valueFrom.fieldRef.fieldPath"), "metadata.name");
}

#[tokio::test]
async fn what_is_as_it_should_be_costs_no_request() {
    let mut stage = Stage::new(given(&full()));
    stage.settle::<ModelPool>("default").await;
    let before = stage.server.requests().len();
    stage.look::<ModelPool>("default").await.unwrap();
    assert_eq!(stage.server.requests()[before..], [] as [String; 0]);
}

#[tokio::test]
async fn what_changes_is_changed_and_what_does_not_apply_any_more_goes() {
    let mut stage = Stage::new(given(&full()));
    stage.settle::<ModelPool>("default").await;
    stage.server.put("modelpools", &pool(&json!({"replicas": 2, "pods": {"serviceAccountName": "own"}})));
    stage.settle::<ModelPool>("default").await;
    for gone in ["horizontalpodautoscalers", "serviceaccounts", "rolebindings"] {
        assert!(stage.server.get(gone, NAME).is_none(), "{gone}");
    }
    let deployment = stage.server.get("deployments", NAME).unwrap();
    assert_eq!(at(&deployment, "spec.replicas"), 2);
    assert_eq!(at(&deployment, "spec.template.spec.serviceAccountName"), "own");
    assert_eq!(at(&deployment, "spec.template.spec.nodeSelector"), &Value::Null);
    let told = events(&stage.server);
    assert!(told.contains(&format!("Deleted HorizontalPodAutoscaler {NAME} was deleted")), "{told:?}");
    assert!(told.contains(&format!("Changed Deployment {NAME} was changed")), "{told:?}");
}

#[tokio::test]
async fn an_object_of_the_same_name_that_is_somebody_elses_is_not_deleted() {
    let server = given(&json!({}));
    server.put(
        "poddisruptionbudgets",
        &json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": NAME}}),
    );
    let mut stage = Stage::new(server);
    stage.settle::<ModelPool>("default").await;
    assert!(stage.server.get("poddisruptionbudgets", NAME).is_some());
}

#[tokio::test]
async fn what_somebody_else_changes_or_deletes_is_put_right() {
    let mut stage = Stage::new(given(&json!({"replicas": 2})));
    stage.settle::<ModelPool>("default").await;
    let expected = stage.server.snapshot();
    stage.server.patch(
        "deployments",
        NAME,
        &json!({"spec": {"replicas": 7, "strategy": {"type": "Recreate"}}}),
    );
    stage.server.delete("services", NAME);
    stage.server.patch(
        "networkpolicies",
        NAME,
        &json!({"spec": {"podSelector": {"matchLabels": {"vespid.dev/pool": "x"}}}}),
    );
    stage.settle::<ModelPool>("default").await;
    assert_eq!(stage.server.snapshot(), expected);
}

#[tokio::test]
async fn how_many_pods_there_are_is_the_autoscalers() {
    let mut stage = Stage::new(given(&json!({"replicas": 3})));
    stage.settle::<ModelPool>("default").await;
    let replicas =
        |stage: &Stage| at(&stage.server.get("deployments", NAME).unwrap(), "spec.replicas").clone();
    assert_eq!(replicas(&stage), 3);
    stage.server.put("modelpools", &pool(&json!({"autoscaling": {"minReplicas": 1, "maxReplicas": 9}})));
    stage.settle::<ModelPool>("default").await;
    assert_eq!(replicas(&stage), 3, "they do not go because somebody else counts them now");
    stage.server.patch("deployments", NAME, &json!({"spec": {"replicas": 6}}));
    stage.settle::<ModelPool>("default").await;
    assert_eq!(replicas(&stage), 6);
    let mut restarted = Stage::new(stage.server);
    restarted.settle::<ModelPool>("default").await;
    assert_eq!(replicas(&restarted), 6);
    restarted.server.put("modelpools", &pool(&json!({"replicas": 3})));
    restarted.settle::<ModelPool>("default").await;
    assert_eq!(replicas(&restarted), 3);
}

#[tokio::test]
async fn a_pool_that_nobody_asks_sleeps_and_is_woken() {
    // It was made long ago, and nothing was ever asked.
    let server = given(&json!({"autoscaling": {"minReplicas": 0, "maxReplicas": 4, "idleSeconds": 60}}));
    let mut stage = Stage::new(server);
    stage.settle::<ModelPool>("default").await;
    let seen = |stage: &Stage| {
        let (pool, deployment) =
            (stage.server.get("modelpools", "default"), stage.server.get("deployments", NAME));
        let autoscaler = stage.server.get("horizontalpodautoscalers", NAME).unwrap();
        assert_eq!(at(&autoscaler, "spec.minReplicas"), 1, "none is not to be had of an autoscaler");
        (at(&deployment.unwrap(), "spec.replicas").clone(), condition(&pool.unwrap(), "Ready").1)
    };
    assert_eq!(seen(&stage), (json!(0), "Asleep".to_owned()));
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    stage.server.patch("modelpools", "default", &json!({"status": {"wake": now}}));
    let again = stage.settle::<ModelPool>("default").await;
    assert_eq!(seen(&stage), (json!(1), "Starting".to_owned()));
    assert_ne!(
        again,
        kube::runtime::controller::Action::await_change(),
        "it is looked at when it may sleep again"
    );
    assert!(events(&stage.server).iter().any(|event| event.starts_with("Woken")));
}

#[tokio::test]
async fn what_the_gateway_says_of_a_pool_stays_and_is_nothing_to_write() {
    let mut stage = Stage::new(given(&json!({"autoscaling": {"minReplicas": 0, "maxReplicas": 4}})));
    let said = json!({"asked": "2026-01-01T00:10:00Z", "wake": "2026-01-01T00:09:00Z"});
    stage.server.patch("modelpools", "default", &json!({"status": said}));
    stage.settle::<ModelPool>("default").await;
    let before = stage.server.requests().len();
    stage.server.patch("modelpools", "default", &json!({"status": {"asked": "2026-01-01T00:11:00Z"}}));
    stage.look::<ModelPool>("default").await.unwrap();
    assert_eq!(stage.server.requests()[before..], [] as [String; 0]);
    let pool = stage.server.get("modelpools", "default").unwrap();
    assert_eq!(at(&pool, "status.asked"), "2026-01-01T00:11:00Z");
    assert_eq!(at(&pool, "status.wake"), "2026-01-01T00:09:00Z");
    let own = stage.server.applied("modelpools", "default");
    assert!(own.contains("\"models\":"), "{own}");
    assert!(!own.contains("\"asked\":") && !own.contains("\"wake\":"), "{own}");
}

#[tokio::test]
async fn a_binding_to_another_role_is_made_anew() {
    let mut stage = Stage::new(given(&json!({})));
    stage.settle::<ModelPool>("default").await;
    // Another installation looks after the pool, whose Role has another name.
    let options = || OperatorOptions { host_role: "other-host".to_owned(), ..options() };
    let before = stage.server.get("rolebindings", NAME).unwrap();
    for killed in 0..6 {
        let mut next = Stage::with(stage.server.clone(), options());
        next.server.break_after(killed);
        let _killed = next.look::<ModelPool>("default").await;
        next.server.mend();
    }
    stage = Stage::with(stage.server, options());
    stage.settle::<ModelPool>("default").await;
    let binding = stage.server.get("rolebindings", NAME).unwrap();
    assert_eq!(at(&binding, "roleRef.name"), "other-host");
    assert_ne!(at(&binding, "metadata.uid"), at(&before, "metadata.uid"));
    let pool = stage.server.get("modelpools", "default").unwrap();
    assert_eq!(condition(&pool, "Accepted").0, "True");
}

#[tokio::test]
async fn a_binding_that_is_refused_for_another_reason_or_is_somebody_elses_stays() {
    let mut stage = Stage::new(given(&json!({})));
    stage.settle::<ModelPool>("default").await;
    let before = stage.server.get("rolebindings", NAME).unwrap();
    let mut next = Stage::with(
        stage.server.clone(),
        OperatorOptions { host_role: "other-host".to_owned(), ..options() },
    );
    next.server.fail("PATCH rolebindings", 403, "attempting to grant RBAC permissions not currently held");
    next.look::<ModelPool>("default").await.unwrap();
    assert_eq!(next.server.get("rolebindings", NAME), Some(before));
    next.server.patch("rolebindings", NAME, &json!({"metadata": {"ownerReferences": null}}));
    next.settle::<ModelPool>("default").await;
    let pool = next.server.get("modelpools", "default").unwrap();
    assert!(condition(&pool, "Accepted").2.contains("cannot change roleRef"));
}

#[tokio::test]
async fn pods_that_do_not_become_what_the_pool_says_are_told_while_others_answer() {
    let mut stage = Stage::new(given(&json!({"replicas": 2})));
    stage.settle::<ModelPool>("default").await;
    let progressing =
        |stage: &Stage| condition(&stage.server.get("modelpools", "default").unwrap(), "Progressing");
    assert_eq!(progressing(&stage).0, "True");
    let stuck = "ReplicaSet \"default-pool-2\" has timed out progressing.";
    let said = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": stuck}]);
    stage.server.patch(
        "deployments",
        NAME,
        &json!({"status": {"replicas": 3, "readyReplicas": 2, "conditions": said}}),
    );
    let full = "0/2 nodes are available: 2 Insufficient memory.";
    stage.server.put("pods", &json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "default-pool-2-x", "labels": {"vespid.dev/pool": "default"}},
        "status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": full}]},
    }));
    stage.settle::<ModelPool>("default").await;
    let told = format!("{stuck}: pod default-pool-2-x: {full}");
    assert_eq!(progressing(&stage), ("False".to_owned(), "Stuck".to_owned(), told));
    let pool = stage.server.get("modelpools", "default").unwrap();
    assert_eq!(condition(&pool, "Ready").0, "True");
    stage.server.patch("deployments", NAME, &json!({"status": {"conditions": []}}));
    stage.settle::<ModelPool>("default").await;
    assert_eq!(progressing(&stage).0, "True");
}

#[tokio::test]
async fn what_the_cluster_does_not_serve_is_told_and_the_rest_is_there() {
    let server = given(&full());
    server.without("horizontalpodautoscalers").without("poddisruptionbudgets");
    let mut stage = Stage::new(server);
    stage.settle::<ModelPool>("default").await;
    let pool = stage.server.get("modelpools", "default").unwrap();
    let (status, reason, message) = condition(&pool, "Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Refused"));
    assert_eq!(
        message,
        "the cluster does not serve PodDisruptionBudget of policy/v1; the cluster does not serve HorizontalPodAutoscaler of autoscaling/v2"
    );
    assert!(stage.server.get("deployments", NAME).is_some());
}

#[tokio::test]
async fn what_the_cluster_refuses_is_told_in_its_words() {
    let mut stage = Stage::new(given(&json!({})));
    stage.server.fail("PATCH deployments", 422, "spec.template.spec.containers[0].image: Required value");
    stage.look::<ModelPool>("default").await.unwrap();
    let pool = stage.server.get("modelpools", "default").unwrap();
    assert_eq!(
        condition(&pool, "Accepted").2,
        format!("Deployment {NAME}: spec.template.spec.containers[0].image: Required value")
    );
    assert!(stage.server.get("services", NAME).is_some());
    stage.settle::<ModelPool>("default").await;
    let pool = stage.server.get("modelpools", "default").unwrap();
    assert_eq!(condition(&pool, "Accepted").0, "True", "it is tried again");
}

#[tokio::test]
async fn an_error_or_a_conflict_says_nothing_of_what_was_not_done() {
    for (code, conflict) in [(500, false), (409, true)] {
        let mut stage = Stage::new(given(&full()));
        stage.server.fail("PATCH deployments", code, "not now");
        let error = stage.look::<ModelPool>("default").await.unwrap_err();
        assert_eq!(error.is_conflict(), conflict, "{error}");
        assert_eq!(stage.server.get("modelpools", "default").unwrap()["status"], Value::Null);
        let mut whole = Stage::new(given(&full()));
        whole.settle::<ModelPool>("default").await;
        stage.settle::<ModelPool>("default").await;
        assert_eq!(stage.server.snapshot(), whole.server.snapshot());
    }
}

#[tokio::test]
async fn what_keeps_pods_from_being_ready_is_told() {
    let mut stage = Stage::new(given(&json!({})));
    stage.settle::<ModelPool>("default").await;
    stage.server.patch("deployments", NAME, &json!({"status": {"replicas": 1}}));
    stage.server.put("pods", &json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "default-pool-1", "labels": {"vespid.dev/pool": "default"}},
        "status": {"containerStatuses": [{
            "name": "vespid", "image": "x", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
            "lastState": {"terminated": {"exitCode": 1, "message": "starting\nerror: --packages: no such host\n"}},
        }]},
    }));
    stage.settle::<ModelPool>("default").await;
    let ready = |stage: &Stage| condition(&stage.server.get("modelpools", "default").unwrap(), "Ready");
    let (status, reason, message) = ready(&stage);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "PodsNotReady"));
    assert_eq!(
        message,
        "none of 1 pod answers: pod default-pool-1: CrashLoopBackOff: error: --packages: no such host"
    );
    stage.server.patch("deployments", NAME, &json!({"status": {"replicas": 2, "readyReplicas": 1}}));
    stage.settle::<ModelPool>("default").await;
    assert_eq!(ready(&stage), ("True".to_owned(), "Serving".to_owned(), "1 of 2 pods answer".to_owned()));
}

#[tokio::test]
async fn a_pool_counts_its_models() {
    let server = given(&json!({}));
    for (name, pool) in [("a", "default"), ("b", "other"), ("c", "default")] {
        server.put(
            "models",
            &json!({
                "apiVersion": "vespid.dev/v1alpha1", "kind": "Model", "metadata": {"name": name},
                "spec": {"pool": pool, "versions": [{"version": 1, "package": {"store": "s3://models"}}]},
            }),
        );
    }
    let mut stage = Stage::new(server);
    stage.settle::<ModelPool>("default").await;
    let pool = stage.server.get("modelpools", "default").unwrap();
    assert_eq!(
        (at(&pool, "status.models"), at(&pool, "status.selector")),
        (&json!(2), &json!("vespid.dev/pool=default"))
    );
}

#[tokio::test]
async fn with_a_pool_all_that_was_made_of_it_goes() {
    let mut stage = Stage::new(given(&full()));
    stage.settle::<ModelPool>("default").await;
    stage.server.patch(
        "modelpools",
        "default",
        &json!({"metadata": {"deletionTimestamp": "2026-01-02T00:00:00Z"}}),
    );
    let before = stage.server.requests().len();
    stage.look::<ModelPool>("default").await.unwrap();
    assert_eq!(stage.server.requests().len(), before, "nothing is made of what is on its way out");
    stage.server.delete("modelpools", "default");
    assert_eq!(stage.server.snapshot().keys().collect::<Vec<_>>(), [] as [&String; 0]);
}

#[tokio::test]
async fn an_operator_that_is_killed_anywhere_is_followed_by_one_that_ends_with_the_same() {
    killed_anywhere::<ModelPool>(&|| given(&full()), "default").await;
    killed_anywhere::<ModelPool>(&|| given(&json!({"replicas": 4})), "default").await;
}
