use super::*;

const FULL: &str = r#"
    [model]
    name = "file-type"
    version = "1"
    plugin = "file_type.wasm"
    [[graph]]
    name = "magika"
    file = "model.onnx"
    encoding = "onnx"
    device = "cpu"
    backend = "onnxruntime"
    provider = "cpu"
    threads = 2
    instances = 3
    batching = { queue_limit = 8, max_rows = 32, preferred_rows = 16, max_delay = "2ms" }
    [[input]]
    name = "file"
    datatype = "BYTES"
    shape = [-1]
    [[output]]
    name = "label"
    datatype = "BYTES"
    shape = [-1]
    [limits]
    memory = "64MiB"
    timeout = "1s"
    [instances]
    warm = 4
    max_calls = 100
    snapshot = true
    [grants]
    models = ["iris"]
    http = ["api.example.com", "http://*.internal:8080"]
    env = ["API_URL"]
    folder = "assets"
    [config]
    threshold = 0.5
    mode = "high"
    [labels]
    label = "labels.txt"
"#;

#[test]
fn a_full_manifest_is_read() {
    let manifest = Manifest::parse(FULL).unwrap();
    assert_eq!(manifest.name.as_str(), "file-type");
    assert_eq!(manifest.limits.memory, ByteSize::mib(64));
    assert_eq!(manifest.limits.timeout, Duration::from_secs(1));
    let graph = &manifest.graphs[0];
    assert_eq!((graph.backend, graph.provider), (Some(BackendName::Onnxruntime), Some(Provider::Cpu)));
    assert_eq!((graph.threads.map(NonZero::get), graph.instances.get()), (Some(2), 3));
    let Batching { queue_limit, max_rows, preferred_rows, max_delay } = graph.batching;
    assert_eq!((queue_limit, max_rows, preferred_rows), (8, Some(32), Some(16)));
    assert_eq!(max_delay, Duration::from_millis(2));
    let Instances { warm, max_calls, snapshot } = manifest.instances;
    assert_eq!((warm, max_calls.get(), snapshot), (4, 100, true));
    let asked: Vec<_> = manifest.grants.list().iter().map(|(key, value)| format!("{key} {value}")).collect();
    let expected = [
        "models iris",
        "http http://*.internal:8080",
        "http https://api.example.com",
        "env API_URL",
        "folder assets",
    ];
    assert_eq!(asked, expected);
    assert_eq!(manifest.config["threshold"], "0.5");
    assert_eq!(manifest.labels["label"].to_string(), "labels.txt");
    assert_eq!(manifest.files().count(), 3);
}

#[test]
fn sources_are_pinned_and_no_files_of_the_package() {
    let pinned = format!("oci://r.example/m:1@sha256:{}", "0a".repeat(32));
    let text = |plugin: &str, graph: &str| {
        format!(
            "[model]\nname = 'a'\nversion = '1'\nplugin = 'p.wasm'\n{plugin}\n[[graph]]\nname = 'g'\n\
             file = 'g.onnx'\nencoding = 'onnx'\n{graph}\n"
        )
    };
    let good = text(&format!("plugin_source = '{pinned}'"), &format!("source = '{pinned}'"));
    let manifest = Manifest::parse(&good).unwrap();
    assert_eq!(manifest.plugin_source.as_ref().unwrap().to_string(), pinned);
    assert_eq!(manifest.graphs[0].source, manifest.plugin_source);
    assert_eq!(manifest.files().count(), 2);
    for (text, expected) in [
        (
            text("plugin_source = 'oci://r.example/m:1'", ""),
            "model.plugin_source: oci://r.example/m:1 is not pinned",
        ),
        (text("", "source = 'oci://r.example/m'"), "graph 'g': source: oci://r.example/m is not pinned"),
        (text("", "source = 'r.example/m'"), "'r.example/m' is not a reference to a registry"),
        (good.replace("plugin = 'p.wasm'\n", ""), "name its file in model.plugin"),
    ] {
        let error = Manifest::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn weights_are_a_file_of_the_package() {
    let text = "[model]\nname = 'a'\nversion = '1'\n[[graph]]\nname = 'g'\nfile = 'g.xml'\nweights = 'g.bin'\n\
                encoding = 'openvino'\n";
    let manifest = Manifest::parse(text).unwrap();
    let files: Vec<_> = manifest.files().map(|(field, file)| format!("{field}: {file}")).collect();
    assert_eq!(files, ["graph 'g': g.xml", "graph 'g': weights: g.bin"]);
}

#[test]
fn what_is_wrong_is_named() {
    let minimal = "[model]\nname = 'a'\nversion = '1'\n";
    let graph = "[[graph]]\nname = 'g'\nfile = 'g.onnx'\nencoding = 'onnx'\n";
    let plugin = format!("{minimal}plugin = 'p.wasm'\n");
    let many: Vec<_> = (0..65).map(|number| format!("V{number}")).collect();
    for (text, expected) in [
        (minimal.to_owned(), "exactly one [[graph]]"),
        (format!("{minimal}{graph}{graph}"), "'g' is used twice"),
        (format!("{minimal}{graph}device = 'npu'\n"), "'npu' is not a device"),
        (format!("{minimal}{graph}batching = {{ max_row = 1 }}\n"), "max_row"),
        (format!("{minimal}{graph}batching = {{ max_rows = 0 }}\n"), "batching.max_rows: use 1"),
        (format!("{minimal}{graph}batching = {{ preferred_rows = 4 }}\n"), "give batching.max_delay too"),
        (
            format!("{minimal}{graph}batching = {{ max_rows = 2, preferred_rows = 4, max_delay = '1ms' }}\n"),
            "use 1 to batching.max_rows",
        ),
        (
            format!("{minimal}{graph}batching = {{ max_rows = 1, max_delay = '1ms' }}\n"),
            "batching.max_rows of more than 1",
        ),
        (format!("{minimal}{graph}batching = {{ max_delay = '1m' }}\n"), "use at most 10s"),
        (format!("{minimal}{graph}threads = 0\n"), "threads"),
        (format!("{minimal}{graph}instances = 65\n"), "instances: use 1 to 64"),
        (format!("{minimal}{graph}backend = 'tensorflow'\n"), "tensorflow"),
        (format!("{minimal}{graph}provider = 'rocm'\n"), "rocm"),
        (format!("{minimal}{graph}weights = 'g.bin'\n"), "weights is for encoding 'openvino'"),
        (format!("{minimal}{}", graph.replace("'onnx'", "'openvino'")), "name it with `weights`"),
        (format!("{minimal}{graph}weights = '../g.bin'\n"), "plain relative path"),
        (format!("{minimal}{graph}[instances]\nwarm = 1\n"), "about a plugin's"),
        (format!("{minimal}plugin = 'p.wasm'\n[instances]\nwarm = 5000\n"), "instances.warm"),
        (format!("{minimal}{graph}[grants]\n"), "about what a plugin reaches"),
        (format!("{plugin}[grants]\nfiles = ['a']\n"), "files"),
        (format!("{plugin}[grants]\nhttp = ['a/b']\n"), "without a path"),
        (format!("{plugin}[grants]\nenv = ['A-B']\n"), "grants.env 'A-B'"),
        (format!("{plugin}[grants]\nsecrets = ['']\n"), "grants.secrets ''"),
        (format!("{plugin}[grants]\nfolder = '..'\n"), "plain relative path"),
        (format!("{plugin}[grants]\nenv = {many:?}\n"), "grants.env has 65 entries"),
        (
            format!("{plugin}[instances]\nsnapshot = true\n[grants]\nsecrets = ['a']\n"),
            "instances.snapshot keeps on disk",
        ),
        (format!("{minimal}{graph}[limits]\nmemory = '8GiB'\n"), "limits.memory"),
        (format!("{minimal}{graph}[limits]\ntimeout = '0s'\n"), "limits.timeout"),
        (format!("{minimal}{graph}[model2]\n"), "model2"),
        (format!("{minimal}{graph}[config]\na = [1]\n"), "a string, a number or a boolean"),
        ("[model]\nname = 'a/b'\nversion = '1'\n".to_owned(), "not a model name"),
        ("[model]\nname = 'a'\nversion = '1.0'\n".to_owned(), "not a version"),
        (format!("{minimal}plugin = '../p.wasm'\n"), "plain relative path"),
    ] {
        let error = Manifest::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
