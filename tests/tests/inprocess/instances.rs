//! Instances that are kept between calls, and host calls that move much.

use std::time::Duration;

use vespid_nn::Backends;
use vespid_serving::PluginUsage;
use vespid_tests::archive::Archive;
use vespid_types::copied_bytes;

use crate::{Host, body};

const COUNT: i32 = 0;
const FAIL: i32 = 1;
const TRAP: i32 = 2;
const KEEP_A_TENSOR: i32 = 3;
const LOOP: i32 = 4;

/// The number of the call in its instance, or the status of the failure.
async fn call(host: &Host, kind: i32) -> Result<i32, u16> {
    let (head, body) = body("kind", "INT32", &[1], &kind.to_le_bytes(), 16);
    let answer = host.infer("stateful", head, body.into()).await;
    if answer.status != 200 {
        return Err(answer.status);
    }
    Ok(i32::from_le_bytes(answer.tensors().try_into().unwrap()))
}

async fn calls<const N: usize>(host: &Host, kinds: [i32; N]) -> [Result<i32, u16>; N] {
    let mut answers = [Ok(0); N];
    for (answer, kind) in answers.iter_mut().zip(kinds) {
        *answer = call(host, kind).await;
    }
    answers
}

#[tokio::test]
async fn an_instance_is_kept_until_its_calls_are_up_and_ended_by_what_ends_a_call() {
    let host = Host::with(Backends::embedded(), &["stateful"]).await;
    // The instance that described the model is kept: its description counts as a call, and as no request.
    assert_eq!(calls(&host, [COUNT, COUNT]).await, [Ok(1001), Ok(1002)]);
    assert_eq!(
        calls(&host, [COUNT, FAIL, COUNT]).await,
        [Ok(1), Err(400), Ok(3)],
        "an error of its own ends none"
    );
    for (kind, ended) in [(TRAP, Err(500)), (KEEP_A_TENSOR, Ok(2)), (LOOP, Err(504))] {
        assert_eq!(calls(&host, [COUNT, kind, COUNT]).await, [Ok(1), ended, Ok(1)], "{kind}");
        // Out of the way of the next kind.
        assert_eq!(calls(&host, [COUNT, COUNT]).await, [Ok(2), Ok(3)]);
    }
    let PluginUsage { cpu, fresh, warm, retired } = host.statistics("stateful").plugin.unwrap();
    assert_eq!((fresh, warm), (7, 13));
    assert_eq!(retired, 8, "each instance has ended, the one that described the model too");
    assert!(cpu > Duration::from_millis(100), "{cpu:?}: one looped until its deadline");
}

#[tokio::test]
async fn instances_begin_where_the_description_ended_where_the_manifest_says_so() {
    let package = |instances: &str| Archive::built("stateful").manifest("warm = 2\nmax_calls = 3", instances);
    let fresh = Host::with(Backends::embedded(), &[]).await;
    fresh.push("stateful", package("warm = 0").to_tar()).await.unwrap();
    assert_eq!(calls(&fresh, [COUNT, COUNT]).await, [Ok(1), Ok(1)]);
    fresh.push("stateful", package("snapshot = true").version("2").to_tar()).await.unwrap();
    // Described once for the snapshot: what was in memory then is in that of each call.
    assert_eq!(calls(&fresh, [COUNT, COUNT, TRAP, COUNT]).await, [Ok(1001), Ok(1001), Err(500), Ok(1001)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_beyond_the_kept_instances_get_fresh_ones() {
    let host = std::sync::Arc::new(Host::with(Backends::embedded(), &["stateful"]).await);
    let looping: Vec<_> = (0..6)
        .map(|_| {
            let host = std::sync::Arc::clone(&host);
            tokio::spawn(async move { call(&host, LOOP).await })
        })
        .collect();
    let answers = futures_util::future::join_all((0..6).map(|_| call(&host, COUNT))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    for caller in looping {
        assert_eq!(caller.await.unwrap(), Err(504));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kept_instances_give_way_to_calls_that_wait() {
    // The one that described the model is kept, and takes up all the room there is.
    let host = Host::with_room(1, Backends::embedded(), &["stateful", "empty"]).await;
    for _ in 0..50 {
        let (head, whole) = body("input", "FP32", &[1], &[0; 4], 16);
        let other = host.infer("empty", head, whole.into());
        let (own, also, other) = tokio::join!(call(&host, COUNT), call(&host, COUNT), other);
        assert!(own.is_ok() && also.is_ok(), "{own:?} {also:?}");
        assert_eq!(other.status, 200);
    }
}

#[tokio::test]
async fn a_host_call_moves_as_much_as_the_memory_limit_allows() {
    let host = Host::with(Backends::embedded(), &["large"]).await;
    // Wasmtime's default is 128 MiB.
    let mut data = vec![7; 130 << 20];
    data[1 << 20] = 8;
    let (head, whole) = body("input", "UINT8", &[data.len()], &data, 16);
    let before = copied_bytes();
    let answer = host.infer("large", head, whole.into()).await;
    assert!(answer.tensors() == data);
    assert_eq!(copied_bytes() - before, 2 * data.len() as u64, "read once, written once");

    let data = vec![0; 260 << 20];
    let (head, whole) = body("input", "UINT8", &[data.len()], &data, 16);
    let answer = host.infer("large", head, whole.into()).await;
    let text = String::from_utf8_lossy(&answer.body);
    assert!(answer.status == 500 && text.contains("memory limit of 512.0 MiB"), "{text}");
}
