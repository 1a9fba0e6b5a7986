//! Against what Pillow and the PyTorch pipeline said, which `compare.py --record` wrote into expected.json.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::decode::{Image, MAX_PIXELS, decode};
use crate::prepare::square;

/// How far a JPEG's pixel may be from libjpeg-turbo's.
const LEVELS: u8 = 6;

fn folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").unwrap().into()
}

fn expected(key: &str) -> Value {
    let text = fs::read(folder().join("expected.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap()[key].clone()
}

fn case(name: &str) -> Vec<u8> {
    fs::read(folder().join("cases").join(name)).unwrap()
}

/// All files of `cases`.
fn cases() -> BTreeMap<String, Vec<u8>> {
    let names = fs::read_dir(folder().join("cases")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let cases: BTreeMap<_, _> = names.map(|name| (name.clone(), case(&name))).collect();
    assert!(cases.len() >= 20);
    cases
}

fn fnv(bytes: &[u8]) -> String {
    let add = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, add))
}

fn numbers(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap().try_into().unwrap()).collect()
}

#[test]
fn every_kind_of_file_is_decoded_as_pillow_decodes_it() {
    let expected = expected("images");
    assert_eq!(expected.as_object().unwrap().len(), cases().len());
    for (name, file) in cases() {
        let expected = &expected[&name];
        let image = decode(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!([image.width, image.height], *numbers(&expected["size"]), "{name}");
        if name.ends_with(".png") {
            assert_eq!(fnv(&image.pixels), expected["fnv"], "{name}");
            continue;
        }
        for sample in expected["samples"].as_array().unwrap() {
            let [x, y, expected @ ..] = &numbers(sample)[..] else { panic!("{sample}") };
            let pixel = &image.pixels[(y * image.width + x) * 3..][..3];
            let close =
                |(got, expected): (&u8, &usize)| usize::from(*got).abs_diff(*expected) <= LEVELS.into();
            assert!(pixel.iter().zip(expected).all(close), "{name} at {x}, {y}: {pixel:?}, not {expected:?}");
        }
    }
}

#[test]
fn an_image_is_resized_and_cut_as_pillow_does_it_to_the_bit() {
    for expected in expected("squares").as_array().unwrap() {
        let [width, height] = numbers(&expected["size"])[..] else { panic!("{expected}") };
        let value = |x: usize, y: usize, channel: usize| x * x / 3 + y * 11 + x * y % 251 * 7 + channel * 53;
        let pixels = (0..width * height * 3).map(|i| value(i / 3 % width, i / 3 / width, i % 3) as u8);
        let square = square(&Image { width, height, pixels: pixels.collect() });
        assert_eq!(square.len(), 3 * SIDE * SIDE);
        assert_eq!(fnv(&square), expected["fnv"], "{width} × {height}");
    }
}

#[test]
fn the_graph_sees_planes_of_colour_around_zero() {
    let image = Image { width: 3, height: 2, pixels: [0, 127, 255].repeat(6) };
    let mut planes = vec![9.0];
    prepare(&image, &mut planes);
    assert_eq!(planes.len(), 1 + 3 * SIDE * SIDE);
    for (plane, value) in planes[1..].chunks_exact(SIDE * SIDE).zip([-127.0 / 128.0, 0.0, 1.0]) {
        assert!(plane.iter().all(|&got| got == value));
    }
}

#[test]
fn thin_images_cost_no_more_than_others() {
    for (width, height) in [(1, 1 << 20), (1 << 20, 1)] {
        let square = square(&Image { width, height, pixels: vec![200; width * height * 3] });
        assert!(square.len() == 3 * SIDE * SIDE && square.iter().all(|&value| value == 200));
    }
}

fn refusal(file: &[u8]) -> String {
    let error = decode(file).err().unwrap();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    error.message().to_owned()
}

#[test]
fn what_is_no_image_is_refused() {
    assert_eq!(refusal(b""), "it is empty; send the bytes of a PNG or JPEG file");
    let message = refusal(b"GIF89a\x01\x00\x01\x00");
    assert_eq!(message, r#"it is neither a PNG nor a JPEG file: it begins with "GIF89a\x01\x00""#);
    assert!(refusal(b"\xff\xd8\xff").starts_with("this JPEG file cannot be decoded: "));
    assert!(refusal(b"\x89PNG\r\n\x1a\n").starts_with("this PNG file cannot be decoded: "));
}

/// The file with other dimensions in its header.
fn resized(name: &str, width: u32, height: u32) -> Vec<u8> {
    let mut file = case(name);
    if name.ends_with(".png") {
        file[16..20].copy_from_slice(&width.to_be_bytes());
        file[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = file[12..29].iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0xedb8_8320))
        });
        file[29..33].copy_from_slice(&(!crc).to_be_bytes());
    } else {
        // Its frame: behind the marker and the length are the depth, the height and the width.
        let frame = file.windows(2).position(|pair| pair == [0xff, 0xc0] || pair == [0xff, 0xc2]).unwrap();
        file[frame + 5..frame + 7].copy_from_slice(&u16::try_from(height).unwrap().to_be_bytes());
        file[frame + 7..frame + 9].copy_from_slice(&u16::try_from(width).unwrap().to_be_bytes());
    }
    file
}

#[test]
fn dimensions_are_refused_by_the_header_alone() {
    for name in
        ["rgb.png", "grey-1.png", "rgba-16-interlaced.png", "baseline-420.jpg", "progressive-422-exif.jpg"]
    {
        for (width, height) in [(4097, 4096), (65535, 65535), (65535, 257)] {
            let message = refusal(&resized(name, width, height));
            let expected = format!("it is {width} × {height} pixels, more than the limit of {MAX_PIXELS}");
            assert!(message.starts_with(&expected), "{name}: {message}");
        }
        assert!(refusal(&resized(name, 100, 0)).contains("cannot be decoded"), "{name}");
        assert!(refusal(&resized(name, 0, 100)).contains("cannot be decoded"), "{name}");
    }
    refusal(&resized("rgb.png", u32::MAX, u32::MAX));
}

/// What may lack at the end of a file: that of a PNG is behind its pixels, and a JPEG's last pixels may need no bits.
const TAIL: usize = 32;

#[test]
fn a_file_that_is_cut_off_is_refused() {
    for (name, file) in cases() {
        let whole = file.len() - TAIL;
        for length in (0..whole).step_by(331).chain(whole - 8..whole) {
            let cut = decode(&file[..length]);
            let refused = cut.as_ref().err().is_some_and(|error| error.code() == Code::InvalidArgument);
            assert!(refused, "{name}: {length} of {} bytes", file.len());
        }
    }
}

#[test]
fn a_damaged_file_is_refused_or_decoded() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let (mut decoded, mut refused) = (0, 0);
    for (name, file) in cases() {
        for number in 0..24 {
            let mut file = file.clone();
            // Half of them in the header, where there is more to break.
            let end = if number % 2 == 0 { file.len().min(600) } else { file.len() };
            for _ in 0..=random(3) {
                let place = random(end);
                file[place] = random(256) as u8;
            }
            match decode(&file) {
                Ok(image) => {
                    assert_eq!(image.pixels.len(), image.width * image.height * 3, "{name}");
                    decoded += 1;
                }
                Err(error) => {
                    assert_eq!(error.code(), Code::InvalidArgument, "{name}: {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(decoded > 30 && refused > 80, "{decoded} decoded, {refused} refused");
}

/// Lets the graph find class 7 likeliest in white, 3 in black, and the first of the others after them.
fn graph() {
    vespid_plugin::testing::graph("efficientnet-lite0", |inputs| {
        let images = inputs.get("images")?;
        let [count, 3, SIDE, SIDE] = images.shape() else { panic!("{images:?}") };
        assert!(*count <= BATCH);
        let mut logits = vec![0f32; count * LABELS.len()];
        let rows = logits.chunks_exact_mut(LABELS.len());
        for (row, image) in rows.zip(images.values::<f32>()?.chunks_exact(3 * SIDE * SIDE)) {
            row[if image[0] > 0.0 { 7 } else { 3 }] = 5.0;
        }
        Ok(vec![("logits", Tensor::new(&logits, [*count, LABELS.len()])?)])
    });
}

/// A PNG of one grey pixel, whose data is stored as it is.
fn pixel(grey: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, 1, 1);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[grey]).unwrap();
    out
}

fn request(files: &[Vec<u8>]) -> Request {
    Request::new().with("image", Tensor::bytes(files, [files.len()]).unwrap())
}

#[test]
fn images_are_answered_in_order_however_many_there_are() {
    graph();
    let white = |place: usize| place.is_multiple_of(3);
    for count in [0, 1, BATCH, BATCH + 1, 3 * BATCH - 1] {
        let files: Vec<_> = (0..count).map(|place| pixel(if white(place) { 255 } else { 0 })).collect();
        let response = ImageClassify::predict(request(&files)).unwrap();
        for name in ["label", "index", "probability"] {
            assert_eq!(response.get(name).unwrap().shape(), [count, TOP_K], "{name}");
        }
        let index = response.get("index").unwrap().to_vec::<i32>().unwrap();
        let labels = response.get("label").unwrap().to_strings().unwrap();
        let probability = response.get("probability").unwrap().to_vec::<f32>().unwrap();
        for (place, index) in index.chunks_exact(TOP_K).enumerate() {
            let expected = if white(place) { [7, 0, 1, 2, 3] } else { [3, 0, 1, 2, 4] };
            assert_eq!(index, expected);
            assert_eq!(
                labels[place * TOP_K],
                if white(place) { "cock" } else { "tiger shark, Galeocerdo cuvieri" }
            );
            let sum = 5f64.exp() + 999.0;
            let expected = [5f64.exp() / sum, 1.0 / sum];
            for (got, expected) in probability[place * TOP_K..].iter().zip(expected) {
                assert!((f64::from(*got) - expected).abs() < 1e-7, "{got}");
            }
        }
    }
}

#[test]
fn the_caller_says_how_many_classes_and_the_manifest_where_the_caller_does_not() {
    graph();
    let shape = |request| {
        let response = ImageClassify::predict(request)?;
        Ok::<_, Error>(response.get("label").unwrap().shape().to_vec())
    };
    let with = |k: Parameter| shape(request(&[pixel(0)]).with_parameter("top_k", k));
    assert_eq!(with(Parameter::Integer(1)).unwrap(), [1, 1]);
    assert_eq!(with(Parameter::Integer(1000)).unwrap(), [1, 1000]);
    let wrong = [0, -1, 1001, i64::MIN, i64::MAX].map(Parameter::Integer);
    for k in wrong.into_iter().chain([Parameter::Number(3.0), Parameter::Text("3".into()), true.into()]) {
        let error = with(k).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.message(), "the parameter 'top_k' is a whole number from 1 to 1000");
    }
    vespid_plugin::testing::config("top_k", "2");
    assert_eq!(shape(request(&[pixel(0)])).unwrap(), [1, 2]);
    vespid_plugin::testing::config("top_k", "0");
    let error = shape(request(&[pixel(0)])).unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Internal, "[config] top_k = 0 is not from 1 to 1000"));
}

#[test]
fn a_malformed_image_is_named_by_its_place() {
    graph();
    let mut files = vec![pixel(0); 12];
    files[10] = b"hello".to_vec();
    let error = ImageClassify::predict(request(&files)).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let message = r#"input 'image', element 10: it is neither a PNG nor a JPEG file: it begins with "hello""#;
    assert_eq!(error.message(), message);
}

#[test]
fn the_softmax_is_that_of_logits_of_any_size() {
    let mut logits = vec![-1e30; LABELS.len()];
    logits[4] = 1000.0;
    logits[2] = 1000.0;
    let classes: Vec<_> = rank(&logits).take(3).map(|class| (class.index, class.probability)).collect();
    assert_eq!(classes, [(2, 0.5), (4, 0.5), (0, 0.0)]);
}
