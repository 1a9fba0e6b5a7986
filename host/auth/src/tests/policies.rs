use std::collections::BTreeMap;

use crate::testing::{PERMIT_ALL, Place, quick, until};
use crate::{Access, AccessError, Action, Denied, Identity, Kind, Principal, Resource};

fn somebody(id: &str, tenant: Option<&str>, roles: &[&str]) -> Principal {
    Principal::new(Identity {
        kind: Kind::Oidc,
        id: id.to_owned(),
        issuer: Some("https://id.example".to_owned()),
        tenant: tenant.map(str::to_owned),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
    })
}

fn start(policies: &str) -> (Place, Access) {
    let place = Place::new(policies);
    let access = place.start(
        "anonymous: true\nmodels:\n  - { match: 'acme-*', tenant: acme, labels: { tier: gold } }\n  - { match: 'other-*', tenant: other }",
    );
    (place, access)
}

fn may(access: &Access, who: &Principal, action: Action, model: &str) -> bool {
    let resource = Resource::model(model, access.model_of(model));
    let remembered = access.authorize(who, action, &resource).is_ok();
    // A decision that is remembered is the one that was made.
    assert_eq!(access.authorize(who, action, &resource).is_ok(), remembered);
    assert_eq!(access.explain(who, action, &resource).is_permitted, remembered);
    remembered
}

fn wrong(policies: &str) -> String {
    Place::new(policies).try_start("anonymous: true", quick()).err().unwrap().to_string()
}

#[tokio::test]
async fn tenants_keep_to_themselves() {
    let (_place, access) = start(
        "permit(principal, action == Vespid::Action::\"Predict\", resource)
           when { principal has tenant && resource has tenant && principal.tenant == resource.tenant };",
    );
    let (alice, bob) = (somebody("alice", Some("acme"), &[]), somebody("bob", Some("other"), &[]));
    let nobody = somebody("nobody", None, &[]);
    assert!(may(&access, &alice, Action::Predict, "acme-iris"));
    assert!(may(&access, &bob, Action::Predict, "other-iris"));
    for (who, action, model) in [
        (&alice, Action::Predict, "other-iris"),
        (&bob, Action::Predict, "acme-iris"),
        (&alice, Action::Delete, "acme-iris"),
        (&alice, Action::Predict, "iris"),
        (&nobody, Action::Predict, "acme-iris"),
        (&nobody, Action::Predict, "iris"),
        (&Principal::anonymous(), Action::Predict, "acme-iris"),
    ] {
        assert!(!may(&access, who, action, model), "{who} {action} {model}");
    }
}

#[tokio::test]
async fn tenants_and_roles_are_groups_too() {
    let (_place, access) = start(
        "permit(principal in Vespid::Tenant::\"acme\", action, resource in Vespid::Tenant::\"acme\");
         permit(principal in Vespid::Role::\"admin\", action, resource);",
    );
    let (alice, root) = (somebody("alice", Some("acme"), &["user"]), somebody("root", None, &["admin"]));
    assert!(may(&access, &alice, Action::Upload, "acme-new"));
    assert!(!may(&access, &alice, Action::Upload, "other-new"));
    assert!(may(&access, &root, Action::Upload, "other-new"));
    assert!(access.authorize(&root, Action::Admin, &Resource::Server).is_ok());
    let denied = access.authorize(&alice, Action::Admin, &Resource::Server).unwrap_err();
    assert_eq!(denied.to_string(), "you may not administer this server");
}

#[tokio::test]
async fn labels_are_tags() {
    let (_place, access) = start(
        "permit(principal, action, resource is Vespid::Model)
           when { resource.hasTag(\"tier\") && resource.getTag(\"tier\") == \"gold\" };",
    );
    let who = somebody("alice", None, &[]);
    assert!(may(&access, &who, Action::Predict, "acme-iris"));
    assert!(!may(&access, &who, Action::Predict, "other-iris"));
    let labels = BTreeMap::from([("tier".to_owned(), "silver".to_owned())]);
    let silver = Resource::Model { name: "acme-iris", tenant: Some("acme"), labels: &labels };
    assert!(access.authorize(&who, Action::Predict, &silver).is_err());
}

#[tokio::test]
async fn who_is_called_alike_is_not_the_same() {
    let (_place, access) = start("permit(principal == Vespid::ApiKey::\"alice\", action, resource);");
    let of = |kind| {
        let identity =
            Identity { kind, id: "alice".to_owned(), issuer: None, tenant: None, roles: Vec::new() };
        may(&access, &Principal::new(identity), Action::Predict, "m")
    };
    assert_eq!(Kind::ALL.map(of), [false, true, false, false]);
}

#[tokio::test]
async fn policies_ask_how_and_by_whom_somebody_is_known() {
    let (_place, access) = start(
        "permit(principal, action, resource)
           when { principal.kind == \"oidc\" && principal has issuer && principal.issuer == \"https://id.example\"
                  && principal.roles.contains(\"a\") && principal.id like \"al*\" };",
    );
    assert!(may(&access, &somebody("alice", None, &["a"]), Action::Predict, "m"));
    assert!(!may(&access, &somebody("alice", None, &[]), Action::Predict, "m"));
    assert!(!may(&access, &somebody("bob", None, &["a"]), Action::Predict, "m"));
    assert!(!may(&access, &Principal::anonymous(), Action::Predict, "m"));
}

#[tokio::test]
async fn what_is_forbidden_is_not_permitted_and_the_policies_are_named() {
    let (_place, access) = start(
        "@id(\"all\") permit(principal, action, resource);
         permit(principal, action == Vespid::Action::\"Delete\", resource);
         @id(\"gold stays\") forbid(principal, action == Vespid::Action::\"Delete\", resource)
           when { resource.hasTag(\"tier\") };",
    );
    let who = somebody("alice", None, &[]);
    assert!(!may(&access, &who, Action::Delete, "acme-iris"));
    assert!(may(&access, &who, Action::Delete, "iris"));
    let explain = |model| {
        let explanation =
            access.explain(&who, Action::Delete, &Resource::model(model, access.model_of(model)));
        (explanation.is_permitted, explanation.policies.join(", "))
    };
    assert_eq!(explain("acme-iris"), (false, "gold stays".to_owned()));
    assert_eq!(explain("iris"), (true, "all, policies.cedar:2".to_owned()));
}

#[tokio::test]
async fn a_refusal_does_not_tell_whether_there_is_a_model() {
    let (_place, access) = start("permit(principal, action == Vespid::Action::\"Upload\", resource);");
    let who = somebody("alice", None, &[]);
    let text = |name: &str| {
        let denied = access.authorize(&who, Action::Predict, &Resource::model(name, access.model_of(name)));
        denied.unwrap_err().to_string().replace(name, "NAME")
    };
    assert_eq!(text("acme-iris"), "you may not predict with model 'NAME', or there is none");
    assert_eq!(text("acme-iris"), text("nowhere"));
    let none = access.explain(&who, Action::Predict, &Resource::model("iris", access.model_of("iris")));
    assert!(!none.is_permitted && none.policies.is_empty() && none.errors.is_empty());
}

#[tokio::test]
async fn an_action_on_what_it_is_not_for_is_denied() {
    let (_place, access) = start(PERMIT_ALL);
    let who = somebody("alice", None, &[]);
    assert!(matches!(access.authorize(&who, Action::Predict, &Resource::Server), Err(Denied::Forbidden(_))));
    assert!(access.authorize(&who, Action::Upload, &Resource::Server).is_err());
    assert!(!access.explain(&who, Action::Predict, &Resource::Server).errors.is_empty());
    for action in [Action::ReadMetadata, Action::RunBatch, Action::ManageStream, Action::Admin] {
        assert!(access.authorize(&who, action, &Resource::Server).is_ok() && may(&access, &who, action, "m"));
    }
}

#[tokio::test]
async fn a_policy_that_fails_denies() {
    // It runs over for long names alone; the other policy permits all.
    let (_place, access) = start(
        "permit(principal, action, resource);
         forbid(principal, action, resource is Vespid::Model)
           when { resource.name == \"long\" && 9223372036854775807 + 1 == 0 };",
    );
    let who = somebody("alice", None, &[]);
    assert!(may(&access, &who, Action::Predict, "short"));
    assert!(!may(&access, &who, Action::Predict, "long"));
}

#[tokio::test]
async fn a_policy_that_cannot_be_used_is_refused_with_its_line() {
    let error = wrong("permit(principal, action, resource);\n\npermit(principal, action resource);\n");
    assert!(error.contains("policies.cedar:3: "), "{error}");
    let error = wrong(
        "permit(principal, action, resource);
permit(principal, action, resource)
  when { principal.tennant == \"acme\" };
permit(principal == Vespid::Usr::\"a\", action, resource);",
    );
    assert!(error.contains("policies.cedar:3: ") && error.contains("tennant"), "{error}");
    assert!(error.contains("policies.cedar:4: ") && error.contains("Vespid::Usr"), "{error}");
    let error = wrong("permit(principal, action, resource) when { principal.tenant == \"acme\" };");
    assert!(error.contains("policies.cedar:1: ") && error.contains("has"), "{error}");
    let error = wrong("permit(principal, action == Vespid::Action::\"Fly\", resource);");
    assert!(error.contains("policies.cedar:1: ") && error.contains("Fly"), "{error}");
    assert!(wrong("permit(principal == ?principal, action, resource);").contains("template"));
    let error = wrong(
        "@id(\"a\") permit(principal, action, resource); @id(\"a\") forbid(principal, action, resource);",
    );
    assert!(error.contains("the id 'a' as well"), "{error}");
}

#[tokio::test]
async fn policies_may_be_a_folder() {
    let place = Place::new("");
    let folder = place.path().join("policies");
    std::fs::create_dir(&folder).unwrap();
    let start = || {
        let text = "policies: policies\nanonymous: true";
        let config = crate::AccessConfig::parse(&place.path().join("access.yaml"), text).unwrap();
        Access::start_with(config, quick())
    };
    let error = start().err().unwrap();
    assert!(matches!(&error, AccessError::File { .. }) && error.to_string().contains(".cedar"), "{error}");
    let broken = ["e", "c", "b", "d", "a"];
    broken.iter().for_each(|name| place.write(&format!("policies/{name}.cedar"), "permit();"));
    let faults = start().err().unwrap().to_string();
    let files: Vec<&str> = faults.lines().filter_map(|line| Some(line.split_once(".cedar:1: ")?.0)).collect();
    assert!(files.len() >= 5 && files.is_sorted(), "{faults}");
    let remove = |name: &&str| std::fs::remove_file(folder.join(format!("{name}.cedar"))).unwrap();
    broken.iter().for_each(remove);
    place.write("policies/b.cedar", "permit(principal, action, resource is Vespid::Server);");
    place.write("policies/a.cedar", "permit(principal, action, resource is Vespid::Model);");
    place.write("policies/notes.txt", "nothing");
    let access = start().unwrap();
    let who = somebody("alice", None, &[]);
    assert_eq!(access.policies(), 2);
    assert!(may(&access, &who, Action::Predict, "m"));
    let server = access.explain(&who, Action::Admin, &Resource::Server);
    assert_eq!(server.policies, ["b.cedar:1"]);
    // A file more is a change, too.
    place.write("policies/c.cedar", "forbid(principal, action, resource is Vespid::Model);");
    until("it is in force", async || !may(&access, &who, Action::Predict, "m")).await;
}

#[tokio::test]
async fn policies_are_read_again_and_what_was_decided_is_forgotten() {
    let (place, access) = start(PERMIT_ALL);
    let who = somebody("alice", None, &[]);
    assert!(may(&access, &who, Action::Predict, "m"));
    assert_eq!(access.inner().1.policies.get().remembered(), 1);

    place.write("policies.cedar", "permit(principal, action, resurce);");
    until("it was tried", async || access.reload_failures() == 1).await;
    assert!(may(&access, &who, Action::Predict, "m"), "what was goes on");

    place.write("policies.cedar", "forbid(principal, action, resource);");
    until("it is in force", async || !may(&access, &who, Action::Predict, "m")).await;
    // Back again, with a failure in between: as good as new.
    place.write("policies.cedar", "permit(principal, action, resurce);");
    until("it was tried", async || access.reload_failures() == 2).await;
    place.write("policies.cedar", PERMIT_ALL);
    until("it is in force", async || may(&access, &who, Action::Predict, "m")).await;
    assert_eq!(access.reload_failures(), 2);
}

#[tokio::test]
async fn without_a_policy_nothing_is_permitted() {
    let (_place, access) = start("// Nothing yet.\n");
    assert_eq!(access.policies(), 0);
    assert!(!may(&access, &somebody("alice", Some("acme"), &["admin"]), Action::Predict, "acme-iris"));
    assert!(wrong_place().contains("nowhere.cedar"));
}

fn wrong_place() -> String {
    let config = crate::AccessConfig::parse(
        std::path::Path::new("/etc/access.yaml"),
        "policies: nowhere.cedar\nanonymous: true",
    );
    Access::start(config.unwrap()).err().unwrap().to_string()
}

/// What the documentation shows is what is taken.
#[tokio::test]
async fn the_examples_of_the_documentation_are_good() {
    let document = include_str!("../../../../docs/access.md");
    let blocks: Vec<&str> =
        document.split("```cedar\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 3, "{}", blocks.len());
    for block in &blocks {
        Place::new(block).start("anonymous: true");
    }
    Place::new(&blocks.concat()).start("anonymous: true");
    let yaml = document.split("```yaml\n# access.yaml").nth(1).and_then(|rest| rest.split("```").next());
    let path = std::path::Path::new("/etc/vespid/access.yaml");
    crate::AccessConfig::parse(path, yaml.unwrap()).unwrap();
}
