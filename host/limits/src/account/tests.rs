use std::num::NonZero;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn account(quotas: Quotas) -> Arc<Account> {
    Account::new(Scope::Model, "x", quotas)
}

fn number(number: u32) -> Option<NonZero<u32>> {
    NonZero::new(number)
}

/// The text of a refusal, and when to come again.
fn refusal(refused: Result<impl Sized>) -> (String, Option<u64>) {
    let error = refused.err().expect("it is refused");
    assert_eq!(error.code(), ErrorCode::ResourceExhausted);
    (error.message().to_owned(), error.retry_after())
}

#[test]
fn a_place_comes_back_when_its_call_is_dropped() {
    let account = account(Quotas { concurrent: number(2), ..Quotas::default() });
    let places = [account.enter().unwrap(), account.enter().unwrap()];
    let expected = "model 'x' is at its limit of 2 concurrent calls; try again later".to_owned();
    assert_eq!(refusal(account.enter()), (expected, None));
    drop(places);
    assert!(account.enter().unwrap().is_some());
    let read: Vec<_> = account.read(0).collect();
    let [LimitReading { limit: Limit::Concurrent, used: 0.0, value: 2.0, refused: 1, .. }] = read[..] else {
        panic!("{read:?}")
    };
}

#[test]
fn what_flows_back_says_when() {
    let rate = Rate { per_second: 0.5, burst: NonZero::new(2).unwrap() };
    let all =
        account(Quotas { rate: Some(rate), cpu: Some(Cpus(0.5)), uploads: number(2), ..Quotas::default() });
    (0..2).for_each(|_| all.take_call(0).unwrap());
    let (text, wait) = refusal(all.take_call(SECOND / 2));
    assert_eq!(
        (&*text, wait),
        ("model 'x' is at its limit of 0.5 calls a second (2 at once); try again later", Some(2))
    );
    (0..2).for_each(|_| all.take_upload(0).unwrap());
    let (text, wait) = refusal(all.take_upload(0));
    assert_eq!(
        (&*text, wait),
        ("model 'x' is at its limit of 2 uploads an hour; try again later", Some(1800))
    );
    all.check_cpu(0).unwrap();
    all.debit_cpu(0, Duration::from_secs(8));
    let (text, wait) = refusal(all.check_cpu(0));
    assert_eq!((&*text, wait), ("model 'x' is at its limit of 0.5 CPUs; try again later", Some(6)));
    all.check_cpu(6 * SECOND).unwrap();
    let used: Vec<_> = all.read(0).map(|read| (read.limit.as_str(), read.used, read.value)).collect();
    assert_eq!(used, [("rate", 2.0, 2.0), ("cpu", 8.0, 5.0), ("uploads", 2.0, 2.0)]);
    assert!(!all.is_at_rest(SECOND) && all.is_at_rest(4000 * SECOND));
}

#[test]
fn bytes_are_counted_while_they_are_there() {
    let account = account(Quotas { memory: Some(ByteSize::kib(100)), ..Quotas::default() });
    let kib = |kib: u64| kib * 1024;
    account.take_memory(kib(60), 0, &"model 'x' version 1").unwrap();
    let (text, _) = refusal(account.take_memory(kib(50), 0, &"model 'x' version 2"));
    assert_eq!(
        text,
        "model 'x' is at its limit of 100.0 KiB of memory: 60.0 KiB are taken, and model 'x' version 2 takes \
         50.0 KiB; try again later"
    );
    // In the place of the first.
    account.take_memory(kib(50), kib(60), &"model 'x' version 1").unwrap();
    account.give_back_memory(kib(60));
    assert_eq!(account.memory(), kib(50));
    let error = account.take_memory(kib(101), 0, &"model 'x' version 3").unwrap_err();
    assert_eq!(error.code(), ErrorCode::TooLarge, "it would not fit if it were alone: {error}");
}

#[test]
fn what_is_on_its_way_into_the_store_counts_with_what_is_there() {
    let account = account(Quotas { stored: Some(ByteSize(100)), ..Quotas::default() });
    account.set_stored(40);
    account.add_coming(40);
    let (text, _) = refusal(account.check_stored(21, &"the package of model 'x'"));
    assert!(text.contains("its limit of 100 B of packages: 80 B are taken"), "{text}");
    account.check_stored(20, &"").unwrap();
    account.take_coming(40);
    account.check_stored(60, &"").unwrap();
}

#[test]
fn nothing_is_refused_that_has_no_limit() {
    let account = account(Quotas::default());
    assert!(account.enter().unwrap().is_none());
    account.take_call(0).unwrap();
    account.take_upload(0).unwrap();
    account.debit_cpu(0, Duration::from_secs(1000));
    account.check_cpu(0).unwrap();
    account.take_memory(u64::MAX / 2, 0, &"").unwrap();
    account.check_stored(u64::MAX, &"").unwrap();
    assert_eq!(account.read(0).count(), 0);
}
