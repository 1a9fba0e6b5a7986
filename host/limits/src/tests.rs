use std::path::Path;

use super::*;

fn limits(text: &str, by: TenantsBy) -> Limits {
    Limits::new(LimitsConfig::parse(Path::new("limits.yaml"), text, by).unwrap())
}

fn name(name: &str) -> ModelName {
    name.parse().unwrap()
}

fn tenants(limits: &Limits, model: &str) -> usize {
    limits.of(&name(model)).map_or(0, |limited| limited.accounts().count() - 1)
}

#[test]
fn models_that_nothing_is_said_of_are_not_counted() {
    assert!(Limits::default().of(&name("x")).is_none());
    let limits = limits("models: [{ match: 'acme-*', concurrent: 1 }]", TenantsBy::Patterns);
    assert!(limits.of(&name("iris")).is_none());
    let one = limits.of(&name("acme-a")).unwrap();
    assert!(Arc::ptr_eq(&one, &limits.of(&name("acme-a")).unwrap()), "all versions are counted together");
    let place = one.admit(Origin::Caller, 0).unwrap();
    limits.of(&name("acme-b")).unwrap().admit(Origin::Caller, 0).unwrap();
    drop(place);
}

#[test]
fn labels_say_whose_a_model_is_and_may_change() {
    let limits = limits(
        "tenants: [{ name: a, models: ['*'], concurrent: 1 }, { name: b, rate: 1 }]",
        TenantsBy::Labels,
    );
    let x = name("x");
    assert_eq!(tenants(&limits, "x"), 0, "patterns do not count");
    limits.set_tenants([(x.clone(), "a".to_owned())]);
    assert_eq!((tenants(&limits, "x"), tenants(&limits, "y")), (1, 0));
    let place = limits.of(&x).unwrap().admit(Origin::Caller, 0).unwrap();
    assert!(limits.of(&x).unwrap().admit(Origin::Caller, 0).is_err());
    limits.set_tenants([(x.clone(), "b".to_owned())]);
    limits.of(&x).unwrap().admit(Origin::Caller, 0).unwrap();
    drop(place);
    limits.set_tenants([(x, "nobody".to_owned())]);
    assert_eq!(tenants(&limits, "x"), 0);
}

#[test]
fn only_models_that_there_are_are_told_of_and_names_that_come_to_nothing_are_forgotten() {
    let text = "{ models: [{ match: '*', uploads: 2 }], tenants: [{ name: a, models: [x], uploads: 3 }] }";
    let limits = limits(text, TenantsBy::Patterns);
    for number in 0..100 {
        // What comes to nothing is not counted.
        drop(limits.begin_upload(&name(&format!("x-{number}")), None).unwrap());
    }
    assert!(limits.all().len() < 4, "{}", limits.all().len());
    let x = name("x");
    limits.begin_upload(&x, None).unwrap().done();
    let begun = limits.begin_upload(&x, None).unwrap();
    let refused = limits.begin_upload(&x, None).err().unwrap();
    assert_eq!(refused.message(), "model 'x' is at its limit of 2 uploads an hour; try again later");
    drop(begun);
    limits.begin_upload(&x, None).unwrap().done();
    // Both are remembered, also where there is no model `x` in between.
    limits.of(&name("y"));
    assert!(limits.begin_upload(&x, None).is_err());
    let read: Vec<_> = limits
        .read(limits.of(&x).into_iter())
        .into_iter()
        .map(|one| (one.name, one.used.round(), one.refused))
        .collect();
    assert_eq!(read, [("x".to_owned(), 2.0, 2), ("a".to_owned(), 2.0, 0)]);
}
