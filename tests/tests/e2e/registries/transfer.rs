//! Pushing and pulling: equal bytes, nothing twice, and what happens where something goes wrong on the way.

use std::fs;
use std::path::PathBuf;

use vespid_tests::archive::Archive;
use vespid_tests::built::package;
use vespid_tests::http;
use vespid_tests::random::Random;
use vespid_tests::registry::{Line, PASSWORD, Registry, USER, User, digest};
use vespid_tests::wait;

#[test]
fn what_is_pulled_is_what_was_pushed() {
    let (registry, user) = (Registry::start(), User::default());
    let pushed = user.pushes(&package("iris"), &registry.reference("models/iris:first"), &[]);
    assert!(registry.file(&pushed).is_file(), "the manifest has the digest that was printed");

    let by_tag = user.runs(&["pull", &registry.reference("models/iris:first"), "--output", "tag.tar"]);
    by_tag.expect(0);
    let by_digest =
        user.runs(&["pull", &registry.reference(&format!("models/iris@{pushed}")), "--output", "digest.tar"]);
    by_digest.expect(0);
    assert_eq!([digest(&by_tag), digest(&by_digest)], [pushed.clone(), pushed.clone()]);
    assert!(
        by_tag.stdout.contains(&registry.reference(&format!("models/iris:first@{pushed}"))),
        "{}",
        by_tag.stdout
    );
    let expected = fs::read(package("iris")).unwrap();
    assert!(fs::read(user.path("tag.tar")).unwrap() == expected, "the package as it was built");
    assert!(fs::read(user.path("digest.tar")).unwrap() == expected);

    // As a folder, which is then a model's folder like any other.
    user.runs(&["pull", &registry.reference("models/iris:first"), "--into", "iris"]).expect(0);
    let built = Archive::built("iris");
    for file in ["model.toml", "iris.wasm", "iris.onnx"] {
        assert!(fs::read(user.path("iris").join(file)).unwrap() == built.data(file), "{file}");
    }
    let again = user.pushes(&user.path("iris"), &registry.reference("models/iris-again"), &[]);
    assert_eq!(again, pushed, "one package has one digest");
    // Without a tag it gets the version's.
    user.runs(&["pull", &registry.reference("models/iris-again:1"), "--output", "again.tar"]).expect(0);
    let full = user.runs(&["pull", &registry.reference("models/iris:first"), "--into", "iris"]);
    assert!(full.expect(1).stderr.contains("is not empty"), "{}", full.stderr);
}

#[test]
fn what_the_registry_has_is_not_sent_again() {
    let (registry, user) = (Registry::start(), User::default());
    let target = registry.reference("models/iris:1");
    let first = user.pushes(&package("iris"), &target, &[]);
    let uploads = registry.uploads();
    // The component, the graph, model.toml and the config.
    assert_eq!(uploads, 4, "{:#?}", registry.requests());
    assert_eq!(user.pushes(&package("iris"), &target, &[]), first);
    assert_eq!(registry.uploads(), uploads, "no blob is sent twice");
    // Of another version, what is different: model.toml and the config.
    user.write("iris-2.tar", Archive::built("iris").version("2").to_tar());
    let second = user.pushes(&user.path("iris-2.tar"), &registry.reference("models/iris"), &[]);
    assert_ne!(first, second);
    assert_eq!(registry.uploads(), uploads + 2);
    // The manifest comes last.
    let requests = registry.requests();
    let last = requests.iter().rposition(|request| request.contains("/blobs")).unwrap();
    let manifests: Vec<_> =
        requests.iter().filter(|request| request.starts_with("PUT /v2/models/iris/manifests")).collect();
    assert_eq!(manifests.len(), 3);
    assert!(
        requests[last + 1..].iter().any(|request| request.starts_with("PUT /v2/models/iris/manifests/2 201")),
        "{requests:#?}"
    );
}

/// A package of which one file is `size` bytes, none like the other.
fn large(user: &User, size: usize) -> PathBuf {
    let mut random = Random::new(5);
    let data: Vec<u8> =
        std::iter::repeat_with(|| random.number().to_le_bytes()).take(size / 8).flatten().collect();
    user.write("large.tar", Archive::built("iris").file(BIG, data).to_tar());
    user.path("large.tar")
}

/// The large file.
const BIG: &str = "large.bin";

const MIB: u64 = 1 << 20;
const LARGE: u64 = 32 * MIB;
/// For heads of answers, manifests and the other files.
const BESIDES: u64 = 2 * MIB;

#[test]
fn a_connection_that_is_cut_is_gone_on_with() {
    let (registry, user) = (Registry::start(), User::default());
    let package = large(&user, LARGE as usize);
    let pushed = user.pushes(&package, &registry.reference("models/large:1"), &[]);
    let line = Line::to(registry.host());
    line.cut_at(20 * MIB);
    let pulled = user.runs(&["pull", &line.reference("models/large:1"), "--output", "pulled.tar"]);
    pulled.expect(0);
    assert_eq!((digest(&pulled), line.cuts()), (pushed, 1));
    let back = line.back();
    assert!((LARGE..LARGE + BESIDES).contains(&back), "nothing came twice: {back} bytes");
    assert!(Archive::read(&user.path("pulled.tar")).data(BIG) == Archive::read(&package).data(BIG));
}

#[test]
fn a_pull_that_was_killed_is_gone_on_with() {
    let (registry, user) = (Registry::start(), User::default());
    let package = large(&user, LARGE as usize);
    user.pushes(&package, &registry.reference("models/large:1"), &[]);
    let line = Line::to(registry.host());
    line.stop_at(20 * MIB);
    let reference = line.reference("models/large:1");
    let mut pulling = user.starts(&["pull", &reference, "--output", "pulled.tar"]);
    wait::until("most of it has come", || (line.back() > 20 * MIB).then_some(()));
    // What came lies in the cache when the reader has caught up.
    let partial = user.path("cache/pulled/partial");
    let written =
        || fs::read_dir(&partial).ok()?.flatten().map(|entry| entry.metadata().unwrap().len()).max();
    wait::until("it has been written", || (written()? > 18 * MIB).then_some(()));
    pulling.kill().unwrap();
    pulling.wait().unwrap();
    assert!(!user.path("pulled.tar").exists());
    line.stop_at(u64::MAX);
    let before = line.back();
    user.runs(&["pull", &reference, "--output", "pulled.tar"]).expect(0);
    let more = line.back() - before;
    assert!(more < LARGE - 18 * MIB + BESIDES, "it went on: {more} bytes more");
    assert!(Archive::read(&user.path("pulled.tar")).data(BIG) == Archive::read(&package).data(BIG));
}

#[test]
fn what_is_not_as_its_digest_says_is_refused() {
    let (registry, user) = (Registry::start(), User::default());
    let pushed = user.pushes(&package("iris"), &registry.reference("models/iris:1"), &[]);
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(registry.file(&pushed)).unwrap()).unwrap();
    let component = manifest["layers"][0]["digest"].as_str().unwrap();
    let refused = |what: &str, expected: &str| {
        let pulled = user.runs(&["pull", &registry.reference("models/iris:1"), "--output", "p.tar"]);
        assert!(pulled.expect(1).stderr.contains(expected), "{what}: {}", pulled.stderr);
        assert!(!user.path("p.tar").exists(), "{what}");
    };
    let good = fs::read(registry.file(component)).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(registry.file(component), &bad).unwrap();
    refused("one bit", "holds other content, with the digest sha256:");
    fs::write(registry.file(component), &good[..good.len() - 1]).unwrap();
    refused("a byte less", &format!("it should be {} bytes, and is {} bytes", good.len(), good.len() - 1));
    fs::write(registry.file(component), [good.as_slice(), b"more"].concat()).unwrap();
    refused("more", &format!("it should be {} bytes", good.len()));
    fs::write(registry.file(component), &good).unwrap();
    // A manifest that is not what the digest says; and the tag, where that is all that one knows, leads elsewhere.
    let text = fs::read_to_string(registry.file(&pushed)).unwrap();
    fs::write(registry.file(&pushed), text.replace("iris.onnx", "iris.onny")).unwrap();
    let pinned = user.runs(&["pull", &registry.reference(&format!("models/iris:1@{pushed}"))]);
    pinned.expect(1);
    // The registry itself looks at manifests.
    assert!(pinned.stderr.contains(registry.host()), "{}", pinned.stderr);
    fs::write(registry.file(&pushed), text).unwrap();
    user.runs(&["pull", &registry.reference("models/iris:1"), "--output", "p.tar"]).expect(0);
}

#[test]
fn names_that_lead_out_of_a_package_are_refused() {
    let (registry, user) = (Registry::start(), User::default());
    let pushed = user.pushes(&package("iris"), &registry.reference("models/iris:1"), &[]);
    let good = fs::read_to_string(registry.file(&pushed)).unwrap();
    for title in ["../evil", "/tmp/evil", "a/../../evil", "..", "a\\\\evil"] {
        let bad = good.replace("\"iris.onnx\"", &format!("\"{title}\""));
        assert_ne!(bad, good);
        let url = format!("http://{}/v2/models/iris/manifests/evil", registry.host());
        let kind = [("content-type", "application/vnd.oci.image.manifest.v1+json")];
        let put = http::send("PUT", &url, &kind, bad.as_bytes());
        assert_eq!(put.status, 201, "{put}");
        let pulled = user.runs(&["pull", &registry.reference("models/iris:evil"), "--into", "into"]);
        assert!(pulled.expect(1).stderr.contains("is not a plain relative path"), "{}", pulled.stderr);
        assert!(!user.path("into").exists() && !user.path("evil").exists());
    }
}

#[test]
fn what_is_asked_wrongly_is_told() {
    let (registry, user) = (Registry::start(), User::default());
    let digest = user.pushes(&package("iris"), &registry.reference("models/iris:1"), &[]);
    let other = format!("sha256:{}", "0".repeat(64));
    let iris = package("iris").display().to_string();
    for (arguments, code, expected) in [
        (&["pull", "registry.example/iris"][..], 2, "write it as oci://HOST"),
        (&["pull", &registry.reference("models/iris")], 1, "names neither a tag nor a digest"),
        (&["pull", &registry.reference("models/iris:2")], 1, "the registry holds no such artifact"),
        (
            &["pull", &registry.reference(&format!("models/iris@{other}"))],
            1,
            "the registry holds no such artifact",
        ),
        (&["push", &iris, &registry.reference(&format!("m@{other}"))], 1, &digest),
        (&["push", &iris, "ftp://host/m"], 2, "use a folder, file://, s3://"),
        (&["push", &iris, "store", "--sign", "k"], 2, "--sign is for registries"),
        (&["push", &iris, "--sign", "k"], 2, "TARGET"),
    ] {
        let outcome = user.runs(arguments);
        assert!(outcome.expect(code).stderr.contains(expected), "{arguments:?}: {}", outcome.stderr);
    }
}

#[test]
fn credentials_are_docker_s() {
    let (registry, user) = (Registry::locked(), User::default());
    let (iris, target) = (package("iris").display().to_string(), registry.reference("models/iris:1"));
    let anonymous = user.runs(&["push", &iris, &target]);
    let expected = format!("`docker login {}`", registry.host());
    assert!(anonymous.expect(1).stderr.contains(&expected), "{}", anonymous.stderr);
    assert_eq!(registry.uploads(), 0);

    let auth =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{USER}:{PASSWORD}"));
    let config = |auth: &str| format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, registry.host());
    user.write("docker/config.json", config(&auth));
    let pushed = user.pushes(&package("iris"), &target, &[]);
    let pulled = user.runs(&["pull", &target, "--output", "p.tar"]);
    assert_eq!(digest(pulled.expect(0)), pushed);

    user.write("docker/config.json", config("bm9ib2R5OndpdGhvdXQ="));
    let wrong = user.runs(&["pull", &target]);
    assert!(wrong.expect(1).stderr.contains(&expected), "{}", wrong.stderr);

    // A helper: a program that is asked for them.
    let helper = format!(
        "#!/bin/sh\nread host\ntest \"$host\" = {} || exit 1\necho '{{\"Username\": \"{USER}\", \"Secret\": \"{PASSWORD}\"}}'\n",
        registry.host()
    );
    user.write("bin/docker-credential-test", helper);
    let program = user.path("bin/docker-credential-test");
    fs::set_permissions(program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    user.write("docker/config.json", format!(r#"{{"credHelpers": {{"{}": "test"}}}}"#, registry.host()));
    let path = format!("{}:{}", user.path("bin").display(), std::env::var("PATH").unwrap());
    user.runs_with(&[("PATH", &path)], &["pull", &target, "--output", "q.tar"]).expect(0);
    user.write("docker/config.json", "{");
    let broken = user.runs(&["pull", &target]);
    assert!(broken.expect(1).stderr.contains("config.json: it is not valid JSON"), "{}", broken.stderr);
}
