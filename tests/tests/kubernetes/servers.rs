//! What these tests stand on: the cluster, its node of processes, and the server of custom resources.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use vespid_tests::kubernetes::{Cluster, Extensions, Kubelet};
use vespid_tests::{built, http, wait};

const NAMESPACE: &str = "/api/v1/namespaces/default";

/// Two processes that answer, and take their time to end; and a service of them.
const SITE: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: site}
spec:
  replicas: 2
  selector: {matchLabels: {app: site}}
  template:
    metadata: {labels: {app: site}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: site
          image: none
          command: [python3, -m, http.server]
          args: ["8000", --bind, 0.0.0.0]
          ports: [{name: http, containerPort: 8000}]
          readinessProbe: {httpGet: {path: /, port: http}}
          lifecycle: {preStop: {sleep: {seconds: 2}}}
---
apiVersion: v1
kind: Service
metadata: {name: site}
spec:
  selector: {app: site}
  ports: [{name: api, port: 8080, targetPort: http}]
"#;

/// One that asks the service by its name.
const VISITOR: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: visitor}
spec:
  restartPolicy: Never
  containers:
    - name: visitor
      image: none
      command: [python3, -c, "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).status)"]
      args: ["http://site.default.svc:8080/"]
"#;

/// One that writes down what it was given, and what its account may do.
const WRITER: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: green, file.yaml: "listen: 0.0.0.0:80, data: /data/x"}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {word: sesame}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: default, namespace: default}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: writer}
spec:
  template:
    metadata: {annotations: {index: "7"}}
    spec:
      restartPolicy: Never
      volumes:
        - {name: config, configMap: {name: settings}}
        - {name: data, emptyDir: {}}
      containers:
        - name: writer
          image: none
          command: [sh, -c]
          args:
            - |
              echo "$(COLOR) $(WORD) $(INDEX) $(NAME) $IP "'$(NOBODY)' > /data/x
              cat /data/x /etc/writer/file.yaml
              echo
              $KUBECTL get configmap settings --output=name
              $KUBECTL get secret hidden --output=name
              exit 3
          env:
            - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
            - {name: WORD, valueFrom: {secretKeyRef: {name: hidden, key: word}}}
            - {name: INDEX, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['index']"}}}
            - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
            - {name: KUBECTL, value: KUBECTL_HERE}
          volumeMounts: [{name: config, mountPath: /etc/writer}, {name: data, mountPath: /data}]
  backoffLimit: 0
"#;

fn list(cluster: &Cluster, path: &str) -> Vec<Value> {
    cluster.api().get(path).json()["items"].as_array().unwrap().clone()
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// The endpoints of the slice, where there are so many and all have these conditions.
fn endpoints(cluster: &Cluster, count: usize, conditions: &Value) -> Option<Vec<Value>> {
    let slice = cluster.api().get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/site").json();
    let endpoints = slice["endpoints"].as_array()?.clone();
    let are = endpoints.iter().all(|endpoint| endpoint["conditions"] == *conditions);
    assert!(slice["ports"].as_array()?.iter().all(|port| port["name"] == "api" && port["port"] == 8000));
    (endpoints.len() == count && are).then_some(endpoints)
}

#[test]
fn processes_of_a_deployment_come_and_go() {
    let mut cluster = Cluster::start();
    cluster.serve_endpoint_slices();
    let kubelet = Kubelet::start(&cluster);
    cluster.apply(SITE);
    cluster.kubectl(&["wait", "deployment/site", "--for=condition=Available", "--timeout=60s"]);
    let ready = json!({"ready": true, "serving": true, "terminating": false});
    let endpoints_of_two = wait::until("the slice has both", || endpoints(&cluster, 2, &ready));
    let pods = list(&cluster, &format!("{NAMESPACE}/pods"));
    let addresses: Vec<&Value> = pods.iter().map(|pod| &pod["status"]["podIP"]).collect();
    assert!(addresses[0] != addresses[1], "{addresses:?}");
    assert!(endpoints_of_two.iter().all(|endpoint| addresses.contains(&&endpoint["addresses"][0])));
    cluster.apply(VISITOR);
    wait::until("the visitor is through", || {
        let pod = cluster.api().get(&format!("{NAMESPACE}/pods/visitor")).json();
        (pod["status"]["phase"] == "Succeeded").then_some(())
    });
    assert_eq!(kubelet.log("visitor"), "200\n");
    cluster.kubectl(&["delete", "pod/visitor", "--timeout=60s"]);
    // What crashes is started again, what is lost is replaced, also by a server that was killed meanwhile.
    let (first, second) = (name(&pods[0]), name(&pods[1]));
    kubelet.kill(&first);
    wait::until("it is started again", || {
        let pod = cluster.api().get(&format!("{NAMESPACE}/pods/{first}")).json();
        let container = &pod["status"]["containerStatuses"][0];
        (container["restartCount"] == 1 && container["ready"] == true).then_some(())
    });
    cluster.restart_api_server();
    kubelet.lose(&second);
    wait::until("another one replaces it", || {
        let endpoints = endpoints(&cluster, 2, &ready)?;
        endpoints.iter().all(|endpoint| endpoint["targetRef"]["name"] != second.as_str()).then_some(())
    });
    let address = pods[0]["status"]["podIP"].as_str().unwrap().to_owned();
    cluster.kubectl(&["delete", "deployment/site", "--timeout=60s"]);
    let leaving = json!({"ready": false, "serving": true, "terminating": true});
    wait::until("both are leaving", || endpoints(&cluster, 2, &leaving));
    assert_eq!(http::send("GET", &format!("http://{address}:8000/"), &[], &[]).status, 200);
    wait::until("the pods are gone", || {
        list(&cluster, &format!("{NAMESPACE}/pods")).is_empty().then_some(())
    });
    wait::until("the slice is empty", || endpoints(&cluster, 0, &leaving));
    assert!(http::try_send("GET", &format!("http://{address}:8000/"), &[], &[]).is_err());
}

#[test]
fn a_process_is_given_what_its_pod_says() {
    let cluster = Cluster::start();
    let kubelet = Kubelet::start(&cluster);
    cluster.apply(&WRITER.replace("KUBECTL_HERE", &built::kubernetes("kubectl").display().to_string()));
    cluster.kubectl(&["wait", "job/writer", "--for=condition=Failed", "--timeout=60s"]);
    let pod = list(&cluster, &format!("{NAMESPACE}/pods")).remove(0);
    let (name, status) = (name(&pod), &pod["status"]);
    assert_eq!(status["phase"], "Failed");
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    let log = kubelet.log(&name);
    let lines: Vec<&str> = log.lines().collect();
    let ip = status["podIP"].as_str().unwrap();
    assert_eq!(lines[0], format!("green sesame 7 {name} {ip} $(NOBODY)"), "{log}");
    assert!(lines[1].starts_with(&format!("listen: {ip}:80, data: /")), "{log}");
    assert!(Path::new(lines[1].rsplit(' ').next().unwrap()).starts_with("/tmp"), "{log}");
    assert_eq!(lines[2], "configmap/settings", "{log}");
    assert!(lines[3].contains("cannot get resource \"secrets\""), "{log}");
    // The same from outside.
    let may = |verb: &str, what: &str| {
        let mut command = Command::new(built::kubernetes("kubectl"));
        command.env("KUBECONFIG", cluster.kubeconfig_of("default", "default"));
        command.args(["auth", "can-i", verb, what]).status().unwrap().success()
    };
    assert!(may("get", "configmaps") && !may("get", "secrets") && !may("create", "configmaps"));
}

#[test]
fn a_current_server_refuses_what_breaks_a_rule() {
    let mut server = Extensions::start();
    let size = json!({
        "type": "object",
        "properties": {"size": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.size < 10", "message": "at most nine"}],
    });
    let schema = json!({"type": "object", "properties": {"spec": size}});
    server.create_crd(&json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "boxes.tests.dev"},
        "spec": {
            "group": "tests.dev",
            "scope": "Namespaced",
            "names": {"plural": "boxes", "singular": "box", "kind": "Box", "listKind": "BoxList"},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}},
            ],
        },
    }));
    let boxes = "/apis/tests.dev/v1/namespaces/default/boxes";
    let of = |size: u32| {
        json!({
            "apiVersion": "tests.dev/v1",
            "kind": "Box",
            "metadata": {"name": "a"},
            "spec": {"size": size},
        })
    };
    let answer = server.post(boxes, &of(10));
    assert_eq!(answer.status, 422, "{answer}");
    assert!(answer.json()["message"].as_str().unwrap().contains("at most nine"), "{answer}");
    let answer = server.post(boxes, &of(9));
    assert_eq!(answer.status, 201, "{answer}");
    let path = format!("{boxes}/a");
    let answer = server.patch_apply(&path, &of(11).to_string());
    assert!(answer.status == 409 || answer.status == 422, "{answer}");
    let answer = server.patch_apply(&path, "{apiVersion: tests.dev/v1, kind: Box, spec: {size: 9}}");
    assert_eq!(answer.status, 200, "{answer}");
}
