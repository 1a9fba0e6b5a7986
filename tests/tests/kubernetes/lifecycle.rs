//! What becomes of pools and models, and what the parts do when others are away.

use std::time::Duration;

use serde_json::json;
use vespid_tests::archive::Archive;
use vespid_tests::{http, oip, wait};

use crate::world::{Gateway, RESOURCES, World, iris_as};

const SLEEPY: &str = "vespid.dev%2Fpool%3Dsleepy";

const OPERATOR: &str = "app.kubernetes.io%2Fcomponent%3Doperator";

#[test]
fn what_is_made_follows_what_is_asked_for() {
    let limits = json!({"models": [{"match": "few", "rate": 0.001, "burst": 2, "cpu": 100, "uploads": 1}]});
    let mut world = World::install_under(&json!({"replicas": 1}), &limits);
    let host = world.hosts(1).remove(0);
    let gateway = world.gateway();
    gateway.push("iris", "1", &Archive::built("iris"));
    let said = world.condition("models", "iris", "Ready", "True");
    let model = world.resource("models", "iris");
    assert_eq!(
        (&model["status"]["readyReplicas"], &model["status"]["versions"][0]["ready"]),
        (&json!(1), &json!(1)),
        "{said}"
    );
    assert_eq!(world.resource("modelpools", "default")["status"]["models"], 1);
    // Kinds that this release does not have are told of, and the rest is there.
    let accepted = world.condition("modelpools", "default", "Accepted", "False");
    assert!(accepted.contains("PodDisruptionBudget"), "{accepted}");
    a_pool_that_may_sleep(&world, &gateway);
    children(&world);
    limits_hold(&host.ip, &gateway);
    a_model_that_does_not_load_says_why(&world);
    the_pod_itself_refuses_uploads(&host.ip);
    the_operator_is_killed_in_between(&world);
    the_api_server_is_away(&mut world, &gateway);
    it_sleeps_and_is_woken(&world, &gateway);
}

/// A pool that has no pods when nothing was asked for ten seconds, and a model that it serves.
fn a_pool_that_may_sleep(world: &World, gateway: &Gateway) {
    let object = json!({
        "apiVersion": "vespid.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": "sleepy", "namespace": "default"},
        "spec": {"autoscaling": {"minReplicas": 0, "maxReplicas": 1, "idleSeconds": 10}}
    });
    let answer = world.cluster.api().post(&format!("{RESOURCES}/modelpools"), &object);
    assert_eq!(answer.status, 201, "{answer}");
    world.pods(SLEEPY, 1);
    gateway.push("drowsy", "1", &iris_as("drowsy", "1"));
    world.change("models", "drowsy", &json!({"spec": {"pool": "sleepy"}}));
    // The one pod of its new pool may hear of it later than the gateway does, which waits for it.
    oip::assert_setosa(&gateway.infer("drowsy", &oip::flower()).unwrap());
}

/// Its last pod goes, and a call that comes then is held until there is one again.
fn it_sleeps_and_is_woken(world: &World, gateway: &Gateway) {
    wait::until_within(Duration::from_secs(180), "the pool sleeps", || {
        world.all_pods(SLEEPY).is_empty().then_some(())
    });
    let asleep = world.condition("modelpools", "sleepy", "Ready", "False");
    assert!(asleep.contains("the next call gets it one"), "{asleep}");
    // The call that came while the pool was new may have been held, too.
    let held = || gateway.counted("vespid_gateway_holds", "outcome=\"served\",pool=\"sleepy\"");
    let before = held();
    oip::assert_setosa(&gateway.infer("drowsy", &oip::flower()).unwrap());
    assert_eq!(world.pods(SLEEPY, 1).len(), 1);
    assert_eq!(held() - before, 1.0);
}

/// One file is for gateway and pods, and each holds to its part of it.
fn limits_hold(host: &str, gateway: &Gateway) {
    gateway.push("few", "1", &iris_as("few", "1"));
    gateway.try_push("few", "2", &iris_as("few", "2")).assert_error(429, "its limit of 1 uploads an hour");
    for _ in 0..2 {
        oip::assert_setosa(&gateway.infer("few", &oip::flower()).unwrap());
    }
    let refused = gateway.infer("few", &oip::flower()).unwrap();
    refused.assert_error(429, "model 'few' is at its limit of 0.001 calls a second");
    assert!(refused.header("retry-after").is_some(), "{refused}");
    let counted = |limit: &str| {
        gateway.counted("vespid_gateway_limit_refused", &format!(r#"name="few",limit="{limit}""#))
    };
    assert_eq!((counted("rate"), counted("uploads"), counted("cpu")), (1.0, 1.0, 0.0));
    let pod = http::send("GET", &format!("http://{host}:8002/metrics"), &[], &[]).body;
    let pod = String::from_utf8(pod).unwrap();
    let value = |limit: &str| format!(r#"vespid_limit_value{{scope="model",name="few",limit="{limit}"}}"#);
    assert!(pod.contains(&value("cpu")) && pod.contains(&value("rate")), "{pod}");
    assert!(!pod.contains(&value("uploads")), "it takes none: {pod}");
}

fn children(world: &World) {
    let api = world.cluster.api();
    let deployment = api.get("/apis/apps/v1/namespaces/default/deployments/default-pool").json();
    assert_eq!(deployment["metadata"]["ownerReferences"][0]["kind"], "ModelPool", "{deployment}");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    for path in [
        "/api/v1/namespaces/default/services/default-pool",
        "/api/v1/namespaces/default/serviceaccounts/default-pool",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings/default-pool",
        "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies/default-pool",
    ] {
        assert_eq!(api.get(path).status, 200, "{path}");
    }
}

fn a_model_that_does_not_load_says_why(world: &World) {
    let object = json!({
        "apiVersion": "vespid.dev/v1alpha1", "kind": "Model", "metadata": {"name": "nowhere", "namespace": "default"},
        "spec": {"versions": [{"version": 1, "package": {"oci": "oci://127.0.0.1:1/nowhere:1"}}]}
    });
    let answer = world.cluster.api().post(&format!("{RESOURCES}/models"), &object);
    assert_eq!(answer.status, 201, "{answer}");
    wait::until("the pod says why it is not loaded", || {
        let status = world.resource("models", "nowhere")["status"].clone();
        let message = status["pods"][0]["versions"][0]["message"].as_str()?.to_owned();
        message.contains("127.0.0.1:1").then_some(())
    });
    world.condition("models", "nowhere", "Ready", "False");
    assert_eq!(world.cluster.api().delete(&format!("{RESOURCES}/models/nowhere")).status, 200);
}

/// It would be undone.
fn the_pod_itself_refuses_uploads(ip: &str) {
    let url = format!("http://{ip}:8000/v2/repository/models/other/versions/1");
    let answer = http::send("PUT", &url, &[], &Archive::built("iris").to_tar());
    answer.assert_error(403, "Model");
}

/// Whatever it was about when it was killed, the end is the same.
fn the_operator_is_killed_in_between(world: &World) {
    for pool in 0..4 {
        let name = format!("other-{pool}");
        let object = json!({
            "apiVersion": "vespid.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": name, "namespace": "default"},
            "spec": {"replicas": 0}
        });
        let answer = world.cluster.api().post(&format!("{RESOURCES}/modelpools"), &object);
        assert_eq!(answer.status, 201, "{answer}");
        let operator = &world.all_pods(OPERATOR)[0];
        world.kubelet.kill(operator["metadata"]["name"].as_str().unwrap());
        wait::until("the operator runs again", || {
            let pods = world.all_pods(OPERATOR);
            let running = &pods[0]["status"]["containerStatuses"][0];
            (running["restartCount"].as_u64()? > pool && running["state"]["running"].is_object())
                .then_some(())
        });
    }
    for pool in 0..4 {
        let deployment = format!("/apis/apps/v1/namespaces/default/deployments/other-{pool}-pool");
        let service = format!("/api/v1/namespaces/default/services/other-{pool}-pool");
        wait::until("all is made in the end", || {
            let made = [&deployment, &service].iter().all(|path| world.cluster.api().get(path).status == 200);
            let status = world.resource("modelpools", &format!("other-{pool}"))["status"].clone();
            (made && status["observedGeneration"] == 1).then_some(())
        });
        let answer = world.cluster.api().delete(&format!("{RESOURCES}/modelpools/other-{pool}"));
        assert_eq!(answer.status, 200, "{answer}");
        let gone = || [&deployment, &service].iter().all(|path| world.cluster.api().get(path).status == 404);
        wait::until("all that was made is gone", || gone().then_some(()));
    }
}

/// Calls are answered meanwhile, and what is asked for afterwards is done.
fn the_api_server_is_away(world: &mut World, gateway: &Gateway) {
    world.cluster.stop_api_server();
    for _ in 0..50 {
        oip::assert_setosa(&gateway.infer("iris", &oip::flower()).unwrap());
    }
    world.cluster.start_api_server();
    world.change("modelpools", "default", &json!({"spec": {"replicas": 2}}));
    world.hosts(2);
    gateway.push("again", "1", &iris_as("again", "1"));
    oip::assert_setosa(&gateway.infer("again", &oip::flower()).unwrap());
}
