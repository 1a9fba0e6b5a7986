//! Classes in place of an output's values, with labels from the package.

use serde_json::{Value, json};
use vespid_tests::archive::Archive;
use vespid_tests::oip::{output, request};
use vespid_tests::server::Server;

const LABELS: &str = "setosa\nversicolor\nvirginica\n";

/// `iris-native` with the names of its classes.
fn labelled(output: &str) -> Archive {
    let table = format!("[labels]\n{output} = \"labels.txt\"\n\n[limits]");
    Archive::built("iris-native").manifest("[limits]", &table).file("labels.txt", LABELS)
}

fn flowers(classes: u64) -> Value {
    let rows = vec![5.1, 3.5, 1.4, 0.2, 6.3, 3.3, 6.0, 2.5];
    let mut request = request("measurements", "FP32", &[2, 4], rows);
    request["outputs"] = json!([{"name": "probabilities", "parameters": {"classification": classes}}]);
    request
}

#[test]
fn the_greatest_values_come_with_their_labels() {
    let server = Server::with(&["iris-native", "iris"]);
    let package = labelled("probabilities").version("2").to_tar();
    assert_eq!(server.upload("iris-native", "2", &package).status, 201);

    let answer = server.infer("iris-native", &flowers(2));
    let classes = output(&answer, "probabilities");
    assert_eq!((&classes["datatype"], &classes["shape"]), (&json!("BYTES"), &json!([2, 2])), "{answer}");
    let texts: Vec<&str> =
        classes["data"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert!(texts[0].ends_with(":0:setosa") && texts[2].ends_with(":2:virginica"), "{texts:?}");
    let values: Vec<f64> = texts.iter().map(|text| text[..8].parse().unwrap()).collect();
    assert!(values[0] > values[1] && values[2] > values[3], "{texts:?}");
    assert!(texts.iter().all(|text| text.as_bytes()[8] == b':'), "six decimals: {texts:?}");

    // Without labels, more than there are, and none.
    let answer = server.post("/v2/models/iris-native/versions/1/infer", &flowers(9));
    assert_eq!(output(&answer, "probabilities")["shape"], json!([2, 3]));
    assert!(output(&answer, "probabilities")["data"][0].as_str().unwrap().ends_with(":0"), "{answer}");
    let answer = server.infer("iris-native", &flowers(0));
    assert_eq!(output(&answer, "probabilities")["datatype"], "FP32");

    let mut texts = flowers(1);
    texts["outputs"][0]["name"] = json!("species");
    server.infer("iris", &texts).assert_error(400, "output 'species': parameters.classification: BYTES");
}

#[test]
fn labels_that_are_no_good_are_refused_at_the_upload() {
    let server = Server::with(&[]);
    let upload = |package: Archive| server.upload("iris-native", "1", &package.to_tar());
    upload(labelled("species"))
        .assert_error(400, "[labels] names output 'species', which the model does not have");
    upload(labelled("probabilities").without("labels.txt")).assert_error(400, "labels.txt");
    upload(labelled("probabilities").file("labels.txt", b"\xff".as_slice()))
        .assert_error(400, "is not UTF-8");
    assert_eq!(upload(labelled("probabilities")).status, 201);
}
