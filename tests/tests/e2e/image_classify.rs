//! The classifier of images, against what its reference in PyTorch and Pillow says.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;
use serde_json::{Value, json};
use vespid_tests::built::repository;
use vespid_tests::http::Answer;
use vespid_tests::oip::{numbers, output, request};
use vespid_tests::server::Server;

const CLASSES: usize = 1000;
const PATH: &str = "/v2/models/image-classify/infer";

/// Of a PNG the pixels are the reference's, so that rounding alone is left; of a JPEG the decoders differ a little.
const PNG_TOLERANCE: f64 = 1e-5;
const JPEG_TOLERANCE: f64 = 0.03;

/// An entry of `plugins/image-classify/expected.json`, which `compare.py --record` writes.
#[derive(Deserialize)]
struct Expected {
    index: Vec<usize>,
    probability: Vec<f64>,
}

/// The images of `plugins/image-classify/cases` and what is expected of them, by name.
fn cases() -> Vec<(String, Vec<u8>, Expected)> {
    let folder = repository("plugins/image-classify");
    let text = fs::read(folder.join("expected.json")).unwrap();
    let images = serde_json::from_slice::<Value>(&text).unwrap()["images"].take();
    let images: BTreeMap<String, Expected> = serde_json::from_value(images).unwrap();
    assert!(images.len() > 15, "there are images of all kinds");
    let read = |name: &str| fs::read(folder.join("cases").join(name)).unwrap();
    images.into_iter().map(|(name, expected)| (name.clone(), read(&name), expected)).collect()
}

fn ask_raw(server: &Server, image: &[u8]) -> Answer {
    server.send("POST", PATH, &[("content-type", "application/octet-stream")], image)
}

/// Asks about all images at once, in Triton's binary layout.
fn ask(server: &Server, images: &[&[u8]], top_k: &Value) -> Answer {
    let element = |image: &&[u8]| [&u32::try_from(image.len()).unwrap().to_le_bytes(), *image].concat();
    let data: Vec<u8> = images.iter().flat_map(element).collect();
    let size = json!({"binary_data_size": data.len()});
    let input = json!({"name": "image", "datatype": "BYTES", "shape": [images.len()], "parameters": size});
    let head = serde_json::to_vec(&json!({"inputs": [input], "parameters": {"top_k": top_k}})).unwrap();
    let length = head.len().to_string();
    server.send("POST", PATH, &[("inference-header-content-length", &length)], &[head, data].concat())
}

#[test]
fn images_of_all_kinds_are_classified_as_the_reference_does() {
    let server = Server::with(&["image-classify"]);
    let cases = cases();
    let files: Vec<&[u8]> = cases.iter().map(|(_, file, _)| file.as_slice()).collect();
    let answer = ask(&server, &files, &json!(CLASSES));
    let [index, probability] = ["index", "probability"].map(|name| output(&answer, name));
    assert_eq!(probability["shape"], json!([cases.len(), CLASSES]));
    let [index, probability] = [index, probability].map(|output| numbers(&output["data"]));
    let rows = index.chunks(CLASSES).zip(probability.chunks(CLASSES));
    for ((name, _, expected), (index, probability)) in cases.iter().zip(rows) {
        assert!(probability.is_sorted_by(|a, b| a >= b), "{name}: the likeliest is the first");
        assert!((probability.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{name}");
        assert_eq!(index[0] as usize, expected.index[0], "{name}");
        let tolerance = if name.ends_with(".png") { PNG_TOLERANCE } else { JPEG_TOLERANCE };
        for (class, expected) in expected.index.iter().zip(&expected.probability) {
            let place = index.iter().position(|&index| index as usize == *class).unwrap();
            let got = probability[place];
            assert!((got - expected).abs() <= tolerance, "{name}: class {class} has {got}, not {expected}");
        }
    }
}

#[test]
fn one_image_alone_is_classified_as_among_others() {
    let server = Server::with(&["image-classify"]);
    for (name, file, expected) in cases() {
        let answer = ask_raw(&server, &file);
        assert_eq!(output(&answer, "index")["shape"], json!([1, 5]), "{name}");
        assert_eq!(numbers(&output(&answer, "index")["data"])[0] as usize, expected.index[0], "{name}");
    }
    let (_, cat, _) = cases().swap_remove(0);
    let answer = ask_raw(&server, &cat);
    assert_eq!(output(&answer, "label")["data"][0], "Egyptian cat");
    let answer = ask(&server, &[&cat, &cat], &json!(2));
    let cats = json!(["Egyptian cat", "tiger cat", "Egyptian cat", "tiger cat"]);
    assert_eq!(output(&answer, "label")["data"], cats);
    assert_eq!(output(&answer, "label")["shape"], json!([2, 2]));
    let none = server.infer("image-classify", &request("image", "BYTES", &[0], json!([])));
    assert_eq!(output(&none, "probability")["shape"], json!([0, 5]));
}

#[test]
fn what_cannot_be_classified_is_the_caller_s_mistake_and_named() {
    let server = Server::with(&["image-classify"]);
    let (_, image, _) = cases().swap_remove(0);
    let refused = |images: &[&[u8]], message: &str| {
        ask(&server, images, &json!(1)).assert_error(400, message);
    };
    refused(&[&image, b"hello"], "input 'image', element 1: it is neither a PNG nor a JPEG file");
    refused(&[&image, &image, b""], "input 'image', element 2: it is empty");
    refused(&[&image[..image.len() / 2]], "input 'image', element 0: this JPEG file cannot be decoded");
    refused(&[&bomb()], "element 0: it is 65535 × 65535 pixels, more than the limit of 16777216");
    for top_k in [json!(0), json!(CLASSES + 1), json!(1.5), json!("5"), json!(true)] {
        let message = "the parameter 'top_k' is a whole number from 1 to 1000";
        ask(&server, &[&image], &top_k).assert_error(400, message);
    }
    assert_eq!(output(&ask_raw(&server, &image), "label")["data"][0], "Egyptian cat");
}

/// The beginning of a PNG that says that it is 65535 × 65535 pixels of 16-bit colours and alpha: 32 GiB.
fn bomb() -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\xff\xff\0\0\xff\xff\x10\x06\0\0\0".to_vec();
    let crc = png[12..].iter().fold(!0u32, |crc, &byte| {
        let step = |crc: u32, _| (crc >> 1) ^ ((crc & 1) * 0xedb8_8320);
        (0..8).fold(crc ^ u32::from(byte), step)
    });
    png.extend((!crc).to_be_bytes());
    png
}
