use serde_json::{Value, json};

use super::*;
use crate::testing::{NAMESPACE, Server};

fn lease(holder: &str, version: Option<&str>) -> Lease {
    serde_json::from_value(json!({
        "metadata": {"name": LEASE, "namespace": NAMESPACE, "resourceVersion": version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 4},
    }))
    .unwrap()
}

fn candidate(server: &Server, identity: &str) -> Candidate {
    Candidate::new(&server.client(), NAMESPACE, identity)
}

fn spec(server: &Server) -> Value {
    server.get("leases", LEASE).unwrap()["spec"].clone()
}

async fn held(server: &Server, identity: &str) -> Held {
    let candidate = candidate(server, identity);
    let before = server.get("leases", LEASE).map(|lease| serde_json::from_value(lease).unwrap());
    let lease = candidate.take(before).await.unwrap();
    Held { api: candidate.api, identity: candidate.identity, lease }
}

#[test]
fn a_lease_is_free_when_it_was_given_back_or_has_run_out() {
    assert_eq!(free_after(None, "a"), Duration::ZERO);
    assert_eq!(free_after(Some(&lease("", None)), "a"), Duration::ZERO);
    assert_eq!(free_after(Some(&lease("a", None)), "a"), Duration::ZERO, "it is this one's from before");
    assert_eq!(free_after(Some(&lease("b", None)), "a"), Duration::from_secs(15));
    assert!(DEADLINE < DURATION, "whoever leads gives up before another may take it");
}

#[tokio::test]
async fn of_two_that_take_it_one_is_refused() {
    let server = Server::default();
    let first = candidate(&server, "a").take(None).await.unwrap();
    assert_eq!(
        (&spec(&server)["holderIdentity"], &spec(&server)["leaseTransitions"]),
        (&json!("a"), &json!(1))
    );
    assert_eq!(code(&candidate(&server, "b").take(None).await.unwrap_err()), Some(409));
    // Both saw it run out.
    candidate(&server, "b").take(Some(first.clone())).await.unwrap();
    assert_eq!(code(&candidate(&server, "c").take(Some(first)).await.unwrap_err()), Some(409));
    assert_eq!(
        (&spec(&server)["holderIdentity"], &spec(&server)["leaseTransitions"]),
        (&json!("b"), &json!(2))
    );
}

#[tokio::test]
async fn who_leads_renews_and_notices_that_another_has_taken_it() {
    let server = Server::default();
    let mut leader = held(&server, "a").await;
    assert!(leader.renew().await.unwrap());
    // An answer that got lost: the lease is a newer one, and still this one's.
    server.put("leases", &serde_json::to_value(lease("a", None)).unwrap());
    assert!(leader.renew().await.unwrap());
    server.put("leases", &serde_json::to_value(lease("b", None)).unwrap());
    assert!(!leader.renew().await.unwrap());
    server.fail("PUT leases", 500, "etcd is away");
    assert!(leader.renew().await.is_err(), "that is no answer");
}

#[tokio::test]
async fn who_ends_gives_it_back() {
    let server = Server::default();
    held(&server, "a").await.release().await;
    assert_eq!(spec(&server)["holderIdentity"], "");
    let before: Lease = serde_json::from_value(server.get("leases", LEASE).unwrap()).unwrap();
    assert_eq!(free_after(Some(&before), "b"), Duration::ZERO);
}
