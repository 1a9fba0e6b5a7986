//! Signatures, and the policy that asks for them.

use std::fs;

use vespid_tests::built::{self, package};
use vespid_tests::cli::{self, Outcome};
use vespid_tests::registry::{Registry, User, digest};

/// A user with two pairs of keys and a policy that trusts the first.
fn user(registry: &Registry) -> User {
    let user = User::default();
    fs::create_dir(user.path("keys")).unwrap();
    for name in ["keys/team", "keys/other"] {
        let made = user.runs(&["keygen", "--output", name]);
        assert!(made.expect(0).stdout.contains(&format!("{name}.pub")), "{}", made.stdout);
    }
    let policy =
        format!("[[rule]]\npattern = \"{}/models/*\"\nkeys = [\"keys/team.pub\"]\n", registry.host());
    user.write("trust.toml", policy);
    user
}

#[test]
fn what_is_not_signed_by_a_trusted_key_is_refused() {
    let registry = Registry::start();
    let user = user(&registry);
    let reference = registry.reference("models/iris:1");
    let pull = || user.runs(&["pull", &reference, "--trust", "trust.toml", "--output", "p.tar"]);
    let pushed = user.pushes(&package("iris"), &reference, &[]);
    let unsigned = pull();
    let expected = "it is not signed; a signature by one of these keys is wanted: keys/team.pub";
    assert!(unsigned.expect(1).stderr.contains(expected), "{}", unsigned.stderr);
    assert!(unsigned.stderr.contains(&pushed) && !user.path("p.tar").exists(), "{}", unsigned.stderr);

    assert_eq!(user.pushes(&package("iris"), &reference, &["--sign", "keys/other.key"]), pushed);
    let by_another = pull();
    let expected = "it has 1 signature(s), and none is by one of these keys: keys/team.pub";
    assert!(by_another.expect(1).stderr.contains(expected), "{}", by_another.stderr);

    // Beside the other one.
    user.pushes(&package("iris"), &reference, &["--sign", "keys/team.key"]);
    assert_eq!(digest(pull().expect(0)), pushed);
    let uploads = registry.uploads();
    user.pushes(&package("iris"), &reference, &["--sign", "keys/team.key"]);
    assert_eq!(registry.uploads(), uploads, "what is signed by a key is not signed by it again");
    // Both are there.
    let trusts_other = fs::read_to_string(user.path("trust.toml")).unwrap().replace("team", "other");
    user.write("other.toml", trusts_other);
    user.runs(&["pull", &reference, "--trust", "other.toml", "--output", "q.tar"]).expect(0);
}

#[test]
fn a_signature_is_of_one_artifact_and_one_place_in_the_policy() {
    let registry = Registry::start();
    let user = user(&registry);
    let signed =
        user.pushes(&package("iris"), &registry.reference("models/iris:1"), &["--sign", "keys/team.key"]);
    // Somebody puts the signature of one artifact beside another one.
    let other = user.pushes(&package("iris-native"), &registry.reference("models/iris:2"), &[]);
    let tag = |digest: &str| digest.replace(':', "-") + ".sig";
    let url = |name: &str| format!("http://{}/v2/models/iris/manifests/{name}", registry.host());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let stolen = vespid_tests::http::send("GET", &url(&tag(&signed)), &[("accept", kind)], &[]);
    assert_eq!(stolen.status, 200, "{stolen}");
    let put = vespid_tests::http::send("PUT", &url(&tag(&other)), &[("content-type", kind)], &stolen.body);
    assert_eq!(put.status, 201, "{put}");
    let pulled = user.runs(&["pull", &registry.reference("models/iris:2"), "--trust", "trust.toml"]);
    assert!(pulled.expect(1).stderr.contains("it has 1 signature(s), and none is by"), "{}", pulled.stderr);

    // No rule is about this place.
    user.pushes(&package("iris"), &registry.reference("elsewhere/iris:1"), &["--sign", "keys/team.key"]);
    let pulled = user.runs(&["pull", &registry.reference("elsewhere/iris:1"), "--trust", "trust.toml"]);
    let expected = format!("no rule of trust.toml matches {}/elsewhere/iris", registry.host());
    assert!(pulled.expect(1).stderr.contains(&expected), "{}", pulled.stderr);
}

/// Cosign without the public services that it asks by default.
fn cosign(user: &User, arguments: &[&str]) -> Outcome {
    let mut command = built::cosign();
    command
        .args(arguments)
        .arg("--allow-insecure-registry")
        .envs(user.variables())
        .current_dir(user.path("."));
    cli::run(command)
}

#[test]
fn signatures_are_cosign_s_both_ways() {
    let registry = Registry::start();
    let user = user(&registry);
    let reference = registry.reference("models/iris:1");
    let bare = reference.strip_prefix("oci://").unwrap();
    let digest = user.pushes(&package("iris"), &reference, &["--sign", "keys/team.key"]);
    let verify = |key: &str| cosign(&user, &["verify", "--insecure-ignore-tlog=true", "--key", key, bare]);
    let verified = verify("keys/team.pub");
    assert!(verified.expect(0).stdout.contains(&digest), "{}", verified.stdout);
    assert_ne!(verify("keys/other.pub").code, 0);
    // With the key that Vespid has written, and beside the signature that is there.
    cosign(&user, &["sign", "--tlog-upload=false", "--yes", "--key", "keys/other.key", bare]).expect(0);
    let trusts_other = fs::read_to_string(user.path("trust.toml")).unwrap().replace("team", "other");
    user.write("other.toml", trusts_other);
    for policy in ["trust.toml", "other.toml"] {
        let pulled = user.runs(&["pull", &reference, "--trust", policy, "--output", "p.tar"]);
        pulled.expect(0);
    }
    // And with a key of its own.
    let mut generate = built::cosign();
    generate.arg("generate-key-pair").envs(user.variables()).current_dir(user.path("keys"));
    cli::run(generate).expect(0);
    user.pushes(&package("iris"), &reference, &["--sign", "keys/cosign.key"]);
    for key in ["keys/cosign.pub", "keys/team.pub", "keys/other.pub"] {
        verify(key).expect(0);
    }
}

#[test]
fn keys_and_policies_that_are_wrong_are_told() {
    let registry = Registry::start();
    let user = user(&registry);
    let target = registry.reference("models/iris:1");
    let iris = package("iris").display().to_string();
    user.write("bad.toml", "[[rule]]\npatern = 'r/*'\nkeys = []\n");
    for (variables, arguments, expected) in [
        (
            &[("COSIGN_PASSWORD", "wrong")][..],
            &["push", &iris, &target, "--sign", "keys/team.key"][..],
            "COSIGN_PASSWORD is wrong",
        ),
        (&[], &["push", &iris, &target, "--sign", "keys/team.pub"], "it is no private key"),
        (&[], &["push", &iris, &target, "--sign", "keys/none.key"], "key keys/none.key: "),
        (&[], &["pull", &target, "--trust", "bad.toml"], "patern"),
        (&[], &["pull", &target, "--trust", "none.toml"], "trust policy none.toml: "),
        (&[], &["keygen", "--output", "keys/team"], "keys/team.key"),
    ] {
        let outcome = user.runs_with(variables, arguments);
        assert!(outcome.expect(1).stderr.contains(expected), "{arguments:?}: {}", outcome.stderr);
    }
    assert_eq!(registry.uploads(), 0, "a key that cannot be read is told before anything is sent");
}
