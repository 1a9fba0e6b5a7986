use std::num::NonZero;

use bytesize::ByteSize;
use vespid_types::Error;

use super::super::Scope;
use super::super::config::{Quotas, Rate};
use super::*;

fn concurrent(calls: u32) -> Quotas {
    Quotas { concurrent: NonZero::new(calls), ..Quotas::default() }
}

fn limited(own: Quotas, tenant: Option<&Arc<Account>>) -> Arc<Limited> {
    Arc::new(Limited::new(Account::new(Scope::Model, "x", own), tenant.cloned(), true))
}

fn tenant(quotas: Quotas) -> Arc<Account> {
    Account::new(Scope::Tenant, "acme", quotas)
}

fn version(number: u64) -> Version {
    number.to_string().parse().unwrap()
}

fn message(refused: Result<impl Sized>) -> String {
    refused.err().map(|error: Error| error.message().to_owned()).expect("it is refused")
}

#[test]
fn what_the_tenant_refuses_is_not_the_model_s() {
    let rate = Rate { per_second: 0.001, burst: NonZero::new(3).unwrap() };
    let acme = tenant(concurrent(1));
    let x = limited(Quotas { rate: Some(rate), ..concurrent(2) }, Some(&acme));
    let y = limited(Quotas::default(), Some(&acme));
    let place = x.admit(Origin::Caller, 0).unwrap();
    for _ in 0..9 {
        let refused = message(x.admit(Origin::Caller, 0));
        assert_eq!(refused, "tenant 'acme' is at its limit of 1 concurrent calls; try again later");
    }
    assert!(y.admit(Origin::Caller, 0).is_err(), "they count together");
    drop(place);
    // Neither a place nor a call of its second was lost.
    drop(x.admit(Origin::Caller, 0).unwrap());
    drop(x.admit(Origin::Caller, 0).unwrap());
    assert!(message(x.admit(Origin::Caller, 0)).contains("0.001 calls a second"));
    drop(y.admit(Origin::Caller, 0).unwrap());
}

#[test]
fn a_tenant_s_rate_gives_the_model_s_back() {
    let rate = |burst| Some(Rate { per_second: 0.001, burst: NonZero::new(burst).unwrap() });
    let acme = tenant(Quotas { rate: rate(1), ..Quotas::default() });
    let x = limited(Quotas { rate: rate(2), ..Quotas::default() }, Some(&acme));
    x.check(0).unwrap();
    drop(x.admit(Origin::Caller, 0).unwrap());
    assert!(message(x.admit(Origin::Caller, 0)).contains("tenant 'acme'"));
    assert!(message(x.check(0)).contains("tenant 'acme'"));
    x.set_tenant(None);
    drop(x.admit(Origin::Caller, 0).unwrap());
    assert!(message(x.admit(Origin::Caller, 0)).contains("model 'x'"));
}

#[test]
fn a_call_of_a_plugin_counts_for_the_model_and_a_copy_for_nobody() {
    let acme = tenant(concurrent(1));
    let x = limited(concurrent(2), Some(&acme));
    let caller = x.admit(Origin::Caller, 0).unwrap();
    let plugin = x.admit(Origin::Plugin, 0).unwrap();
    assert!(message(x.admit(Origin::Plugin, 0)).contains("model 'x' is at its limit of 2"));
    let copy = x.admit(Origin::Copy, 0).unwrap();
    drop((caller, plugin, copy));
    assert!(x.own().read(0).all(|read| read.used == 0.0) && acme.read(0).all(|read| read.used == 0.0));
}

#[test]
fn what_is_loaded_goes_with_the_model_to_another_tenant() {
    let quotas = Quotas { memory: Some(ByteSize(100)), ..Quotas::default() };
    let (one, other) = (tenant(quotas), tenant(quotas));
    let x = limited(Quotas::default(), Some(&one));
    let held = x.hold(version(1), 60, 0, 0).unwrap();
    x.set_tenant(Some(Arc::clone(&other)));
    assert_eq!((one.memory(), other.memory()), (0, 60));
    drop(held);
    assert_eq!((other.memory(), x.own().memory()), (0, 0));
}

#[test]
fn a_version_without_room_is_not_loaded_again_to_find_out() {
    let quotas = Quotas { memory: Some(ByteSize(100)), ..Quotas::default() };
    let acme = tenant(quotas);
    let (x, y) = (limited(Quotas::default(), Some(&acme)), limited(Quotas::default(), Some(&acme)));
    let held = y.hold(version(1), 90, 0, 0).unwrap();
    x.check_load(version(1), 0, 0, 0).unwrap();
    assert!(x.hold(version(1), 20, 0, 0).is_err());
    assert_eq!(x.own().memory(), 0, "what the tenant refuses is not the model's");
    assert!(
        message(x.check_load(version(1), 0, 0, 1))
            .contains("tenant 'acme' is at its limit of 100 B of memory")
    );
    x.check_load(version(2), 0, 0, 1).unwrap();
    // After a while nobody knows: it may be another package.
    x.check_load(version(1), 0, 0, 11_000_000_000).unwrap();
    drop(held);
    x.check_load(version(1), 0, 0, 1).unwrap();
    // One that comes in its own place.
    let held = x.hold(version(1), 60, 0, 0).unwrap();
    let anew = x.hold(version(1), 60, held.bytes(), 0).unwrap();
    drop((held, anew));
    assert_eq!(acme.memory(), 0);
}
