use std::num::NonZero;

use vespid_package::ModelGrants;
use vespid_resources::PackageSource;
use vespid_serving::IndexEntry;

use super::super::plan::Source;
use super::*;

fn version(number: u64) -> Version {
    number.to_string().parse().unwrap()
}

fn name(text: &str) -> ModelName {
    text.parse().unwrap()
}

fn key(number: u64) -> Key {
    (name("m"), version(number))
}

/// A model `m` with these versions, and weights for some of them.
fn wanted(versions: &[u64], weights: &[(u64, u32)], eager: bool) -> Wanted {
    let source = |number: &u64| {
        let package = PackageSource { oci: Some(format!("oci://r/m:{number}")), ..PackageSource::default() };
        (version(*number), Source { package, digest: None })
    };
    let weight = |(number, weight): &(u64, u32)| (version(*number), NonZero::new(*weight).unwrap());
    let weights = weights.iter().map(weight).collect();
    Wanted {
        versions: versions.iter().map(source).collect(),
        eager,
        traffic: Traffic { weights, ..Traffic::default() },
        grants: Ok(ModelGrants::default()),
        tenant: None,
        generation: Some(1),
    }
}

fn plan(wanted: Wanted) -> Plan {
    Plan::from([(name("m"), wanted)])
}

/// A state whose pauses are 1, 2, 4 ... seconds.
fn state() -> State {
    State::with(ExponentialBuilder::default().without_max_times().with_factor(2.0))
}

fn unknown(_: &Key) -> Option<Digest> {
    None
}

fn versions(numbers: &[u64]) -> Vec<Version> {
    numbers.iter().map(|number| version(*number)).collect()
}

fn begun(state: &mut State, now: Instant) -> Vec<(Key, Work)> {
    state.next(now).1
}

/// A state in which version 1 is loaded and answers everything.
fn serving_one(now: Instant) -> State {
    let mut state = state();
    state.adopt(plan(wanted(&[1], &[(1, 1)], true)), unknown);
    assert_eq!(begun(&mut state, now), [(key(1), Work::Load)]);
    assert_eq!(state.ended(&key(1), Outcome::Done, now), []);
    assert!(state.is_settled());
    state
}

fn indexed(number: u64, state: serving::State) -> IndexEntry {
    IndexEntry { name: name("m"), version: version(number), state, reason: "failed to load: no".to_owned() }
}

#[test]
fn a_model_that_is_new_is_listed_led_and_loaded_where_it_is_this_pods() {
    let now = Instant::now();
    for eager in [false, true] {
        let mut state = state();
        let one = wanted(&[1, 2], &[(2, 1)], eager);
        let steps = state.adopt(plan(one.clone()), unknown);
        assert_eq!(
            steps,
            [Step::List(name("m"), versions(&[1, 2])), Step::Lead(name("m"), one.traffic.clone())]
        );
        let expected = [(key(1), Work::Load), (key(2), Work::Load)];
        assert_eq!(begun(&mut state, now), if eager { &expected[..] } else { &[] });
        assert_eq!(state.is_settled(), !eager);
        // The same again is nothing new, and what was begun is not begun twice.
        assert_eq!(state.adopt(plan(one), unknown), []);
        assert_eq!(begun(&mut state, now), []);
    }
}

#[test]
fn requests_are_led_to_a_new_version_when_it_is_loaded_and_the_old_one_goes_then() {
    let now = Instant::now();
    let mut state = serving_one(now);
    let two = wanted(&[2], &[(2, 1)], true);
    assert_eq!(state.adopt(plan(two.clone()), unknown), [Step::List(name("m"), versions(&[2]))]);
    assert_eq!(begun(&mut state, now), [(key(2), Work::Load)]);
    let expected = [Step::Lead(name("m"), two.traffic.clone()), Step::Remove(name("m"), versions(&[1]))];
    assert_eq!(state.ended(&key(2), Outcome::Done, now), expected);
}

#[test]
fn weights_among_versions_that_are_there_shift_at_once() {
    let now = Instant::now();
    let mut state = serving_one(now);
    state.adopt(plan(wanted(&[1, 2], &[(1, 1)], true)), unknown);
    assert_eq!(begun(&mut state, now), [(key(2), Work::Load)]);
    // Version 2 is not led to, so that nobody waits for it.
    let heavier = wanted(&[1, 2], &[(1, 5)], true);
    assert_eq!(state.adopt(plan(heavier.clone()), unknown), [Step::Lead(name("m"), heavier.traffic)]);
    state.ended(&key(2), Outcome::Done, now);
    for weights in [&[(1, 90), (2, 10)], &[(1, 50), (2, 50)]] {
        let shifted = wanted(&[1, 2], weights, true);
        assert_eq!(state.adopt(plan(shifted.clone()), unknown), [Step::Lead(name("m"), shifted.traffic)]);
    }
}

#[test]
fn what_may_pass_is_tried_again_after_growing_pauses_and_waited_for_a_while() {
    let now = Instant::now();
    let mut state = serving_one(now);
    let two = wanted(&[2], &[(2, 1)], true);
    state.adopt(plan(two.clone()), unknown);
    let passing = || Outcome::Passing("the registry is away".to_owned());
    let mut at = now;
    for seconds in [1, 2, 4] {
        assert_eq!(begun(&mut state, at), [(key(2), Work::Load)], "{seconds}");
        assert_eq!(state.ended(&key(2), passing(), at), []);
        assert!(!state.is_settled());
        let pause = Duration::from_secs(seconds);
        assert_eq!(begun(&mut state, at + pause - Duration::from_millis(1)), []);
        at += pause;
    }
    // Others need not wait for it any longer: what the model says counts.
    assert_eq!(begun(&mut state, at), [(key(2), Work::Load)]);
    let expected = [Step::Lead(name("m"), two.traffic.clone()), Step::Remove(name("m"), versions(&[1]))];
    assert_eq!(state.ended(&key(2), passing(), at), expected);
    assert!(state.is_settled());
    assert_eq!(begun(&mut state, at + Duration::from_secs(8)), [(key(2), Work::Load)]);
    assert_eq!(state.ended(&key(2), Outcome::Done, at), []);
}

#[test]
fn what_is_wrong_for_good_is_tried_again_slowly_or_when_the_model_changes() {
    let now = Instant::now();
    let mut state = state();
    let one = wanted(&[1], &[(1, 1)], true);
    state.adopt(plan(one.clone()), unknown);
    begun(&mut state, now);
    state.ended(&key(1), Outcome::Definite("no model.toml".to_owned()), now);
    assert!(state.is_settled());
    assert_eq!(state.adopt(plan(one.clone()), unknown), []);
    assert_eq!(begun(&mut state, now + SLOWLY - Duration::from_secs(1)), []);
    let changed = Wanted { generation: Some(2), ..one };
    assert_eq!(state.adopt(plan(changed), unknown), [Step::List(name("m"), versions(&[1]))]);
    assert_eq!(begun(&mut state, now), [(key(1), Work::Load)]);
    state.ended(&key(1), Outcome::Definite("no model.toml".to_owned()), now);
    let (steps, work) = state.next(now + SLOWLY);
    assert_eq!(steps, [Step::List(name("m"), versions(&[1]))]);
    assert_eq!(work, [(key(1), Work::Load)]);
}

#[test]
fn a_version_that_did_not_load_for_whoever_asked_is_listed_again_in_time() {
    let now = Instant::now();
    let mut state = state();
    state.adopt(plan(wanted(&[1], &[(1, 1)], false)), unknown);
    state.look(&[indexed(1, serving::State::Idle)], now);
    assert!(state.held().all(|(_, held)| !held.has_failed() && !held.was_loaded()));
    state.look(&[indexed(1, serving::State::Unavailable)], now);
    assert!(state.held().all(|(_, held)| held.has_failed() && held.why() == Some("failed to load: no")));
    assert_eq!(state.next(now + SLOWLY), (vec![Step::List(name("m"), versions(&[1]))], vec![]));
    state.look(&[indexed(1, serving::State::Ready)], now);
    assert!(state.held().all(|(_, held)| held.was_loaded()));
}

#[test]
fn a_pod_that_gains_a_model_loads_it_and_one_that_loses_it_keeps_it() {
    let now = Instant::now();
    let mut state = state();
    let (mine, not_mine) = (wanted(&[1], &[(1, 1)], true), wanted(&[1], &[(1, 1)], false));
    state.adopt(plan(not_mine.clone()), unknown);
    assert_eq!(begun(&mut state, now), []);
    assert_eq!(state.adopt(plan(mine.clone()), unknown), []);
    // Before it was begun it can be left.
    state.adopt(plan(not_mine.clone()), unknown);
    assert_eq!(begun(&mut state, now), []);
    state.adopt(plan(mine), unknown);
    assert_eq!(begun(&mut state, now), [(key(1), Work::Load)]);
    state.ended(&key(1), Outcome::Done, now);
    assert_eq!(state.adopt(plan(not_mine), unknown), []);
    assert_eq!(begun(&mut state, now), []);
}

#[test]
fn what_may_be_reached_and_what_was_read_first_count_from_a_load_anew() {
    let now = Instant::now();
    let digest = |fill: char| format!("sha256:{}", String::from(fill).repeat(64)).parse::<Digest>().unwrap();
    let mut state = serving_one(now);
    let one = wanted(&[1], &[(1, 1)], true);
    let granted = Wanted { grants: Ok(ModelGrants { folder: true, ..ModelGrants::default() }), ..one };
    state.adopt(plan(granted.clone()), unknown);
    assert_eq!(begun(&mut state, now), [(key(1), Work::Renew)]);
    // What changes meanwhile is not forgotten.
    let revoked = Wanted { grants: Ok(ModelGrants::default()), ..granted };
    state.adopt(plan(revoked.clone()), unknown);
    state.ended(&key(1), Outcome::Done, now);
    assert_eq!(begun(&mut state, now), [(key(1), Work::Renew)]);
    state.ended(&key(1), Outcome::Done, now);
    assert_eq!(begun(&mut state, now), [(key(1), Work::Load)]);
    state.ended(&key(1), Outcome::Done, now);
    // The digest that this pod has read itself is no news; another one is, once.
    let pinned = |fill| {
        let mut pinned = revoked.clone();
        pinned.versions.get_mut(&version(1)).unwrap().digest = Some(digest(fill));
        plan(pinned)
    };
    let has = |_: &Key| Some(digest('a'));
    state.adopt(pinned('a'), has);
    assert_eq!(begun(&mut state, now), []);
    state.adopt(pinned('b'), has);
    assert_eq!(begun(&mut state, now), [(key(1), Work::Renew)]);
    state.ended(&key(1), Outcome::Definite("it is not there".to_owned()), now);
    state.adopt(pinned('b'), has);
    assert_eq!(begun(&mut state, now), []);
}

#[test]
fn a_model_that_is_gone_goes_with_all_that_was_left_of_it() {
    let now = Instant::now();
    let mut state = serving_one(now);
    state.adopt(plan(wanted(&[2], &[(2, 1)], true)), unknown);
    begun(&mut state, now);
    let mut steps = state.adopt(Plan::new(), unknown);
    let Some(Step::Remove(gone, mut removed)) = steps.pop() else { panic!("nothing goes") };
    removed.sort_unstable();
    assert_eq!((gone, removed), (name("m"), versions(&[1, 2])));
    // What comes of it then is nobody's.
    assert_eq!(state.ended(&key(2), Outcome::Done, now), []);
}

#[test]
fn a_version_that_comes_back_before_it_went_is_loaded_anew() {
    let now = Instant::now();
    let mut state = serving_one(now);
    state.adopt(plan(wanted(&[2], &[(2, 1)], true)), unknown);
    assert_eq!(begun(&mut state, now), [(key(2), Work::Load)]);
    state.adopt(plan(wanted(&[1, 2], &[(2, 1)], true)), unknown);
    assert_eq!(begun(&mut state, now), [(key(1), Work::Renew)]);
    state.ended(&key(1), Outcome::Done, now);
    // Nothing is removed when the other one is there.
    let led = state.ended(&key(2), Outcome::Done, now);
    assert!(matches!(&led[..], [Step::Lead(..)]), "{led:?}");
}

#[test]
fn models_are_loaded_a_few_at_once() {
    let now = Instant::now();
    let mut state = state();
    let many = (0..10).map(|number| (name(&format!("m{number}")), wanted(&[1], &[(1, 1)], true)));
    state.adopt(many.collect(), unknown);
    let first = begun(&mut state, now);
    assert_eq!(first.len(), AT_ONCE);
    assert_eq!(begun(&mut state, now), []);
    state.ended(&first[0].0, Outcome::Done, now);
    assert_eq!(begun(&mut state, now).len(), 1);
}
