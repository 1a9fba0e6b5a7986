use std::sync::Arc;

use object_store::memory::InMemory;

use super::*;

const QUICK: LeaseOptions = LeaseOptions { expiry: Duration::from_millis(200) };

fn folder() -> Place {
    Place { store: Arc::new(InMemory::new()), path: "leases".into(), shown: "leases".into(), local: None }
}

fn ours(taken: Taken) -> Lease {
    match taken {
        Taken::Ours(lease) => *lease,
        Taken::Theirs(holder) => panic!("{holder} has it"),
    }
}

async fn put(folder: &Place, generation: u64, holder: Holder, renewed: u64) {
    let state = State { holder, id: "x".to_owned(), renewed, released: false };
    object(folder, "a", generation).put(text(&state)).await.unwrap();
}

#[tokio::test]
async fn one_of_many_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Place::local(dir.path()).unwrap();
    let takes = (0..16).map(|_| {
        let folder = folder.clone();
        tokio::spawn(async move { Lease::take(&folder, "a", &QUICK).await.unwrap() })
    });
    let mut taken = Vec::new();
    for take in takes.collect::<Vec<_>>() {
        if let Taken::Ours(lease) = take.await.unwrap() {
            taken.push(lease);
        }
    }
    assert_eq!(taken.len(), 1);
    let lease = taken.pop().unwrap();
    assert!(lease.confirm().await.unwrap());
    // Another name is another lease.
    let other = ours(Lease::take(&folder, "a.1", &QUICK).await.unwrap());
    assert!(other.confirm().await.unwrap());
    assert!(
        matches!(Lease::take(&folder, "a", &QUICK).await.unwrap(), Taken::Theirs(_)),
        "it is this process's"
    );
    lease.release().await;
    let next = ours(Lease::take(&folder, "a", &QUICK).await.unwrap());
    assert_eq!(next.generation, 2);
    // What was dropped without being given back, as where the store is away.
    drop(next);
    assert_eq!(ours(Lease::take(&folder, "a", &QUICK).await.unwrap()).generation, 3);
}

#[tokio::test]
async fn that_of_a_process_that_has_ended_is_over_at_once() {
    let folder = folder();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    put(&folder, 9, Holder::of_process(child.id(), 1), 0).await;
    let began = Instant::now();
    let lease =
        ours(Lease::take(&folder, "a", &LeaseOptions { expiry: Duration::from_secs(60) }).await.unwrap());
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(lease.generation, 10);
    // The next number is found by its value.
    put(&folder, 9, Holder::elsewhere(), 0).await;
    assert!(lease.confirm().await.unwrap());
    let next = Lease::take(&folder, "a", &QUICK).await.unwrap();
    assert!(matches!(next, Taken::Theirs(holder) if holder.contains("process")));
}

#[tokio::test]
async fn that_of_another_machine_is_over_when_it_is_not_renewed() {
    let folder = folder();
    put(&folder, 1, Holder::elsewhere(), 0).await;
    let renewing = tokio::spawn({
        let folder = folder.clone();
        async move {
            for renewed in 1.. {
                tokio::time::sleep(Duration::from_millis(50)).await;
                put(&folder, 1, Holder::elsewhere(), renewed).await;
            }
        }
    });
    assert!(matches!(Lease::take(&folder, "a", &QUICK).await.unwrap(), Taken::Theirs(_)));
    renewing.abort();
    let _ = renewing.await;
    let lease = ours(Lease::take(&folder, "a", &QUICK).await.unwrap());
    assert_eq!(lease.generation, 2);
}

#[tokio::test]
async fn a_lost_lease_is_noticed() {
    let folder = folder();
    let lease = ours(Lease::take(&folder, "a", &QUICK).await.unwrap());
    tokio::time::sleep(QUICK.expiry * 2).await;
    assert!(lease.confirm().await.unwrap(), "it is renewed");
    put(&folder, 2, Holder::elsewhere(), 0).await;
    assert!(!lease.confirm().await.unwrap());
    lease.release().await;
    let state = read(&folder, "a", 2).await.unwrap().unwrap();
    assert!(!state.released, "another's is not given back");
}
