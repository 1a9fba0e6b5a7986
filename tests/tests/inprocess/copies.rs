//! How many bytes of tensors are copied between a request's body and its answer, to the byte.
//!
//! What is counted: every copy of a tensor's data that the host makes, those into and out of a guest's memory among them
//! (`vespid_types::note_copy`). What crosses: `4n` floats for each of `iris`'s inputs, `3n` for its probabilities.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use vespid_nn::Backends;
use vespid_nn::onnxruntime::OnnxRuntime;
use vespid_tests::built;
use vespid_types::copied_bytes;

use crate::{Answer, Host, body};

const ROWS: usize = 512;
/// Of `iris`'s input and of the graph's.
const INPUT: usize = ROWS * 4 * 4;
/// Of the graph's output.
const PROBABILITIES: usize = ROWS * 3 * 4;

fn backends() -> [Backends; 2] {
    let library = OnnxRuntime::open(built::onnxruntime().as_ref()).unwrap();
    [Backends::embedded(), Backends::embedded().with_onnxruntime(Arc::new(library))]
}

/// Flowers, one like the other.
fn flowers() -> Vec<u8> {
    [5.1_f32, 3.5, 1.4, 0.2].map(f32::to_le_bytes).concat().repeat(ROWS)
}

/// The answer, and the bytes that were copied for it.
async fn counted(host: &Host, model: &str, head: usize, body: impl Into<Body>) -> (Answer, usize) {
    let before = copied_bytes();
    let answer = host.infer(model, head, body.into()).await;
    (answer, usize::try_from(copied_bytes() - before).unwrap())
}

/// The body in the frames in which a socket gives it.
fn frames(body: &[u8], size: usize) -> Body {
    let frames: Vec<_> =
        body.chunks(size).map(|frame| Ok::<_, std::io::Error>(Bytes::copy_from_slice(frame))).collect();
    Body::from_stream(futures_util::stream::iter(frames))
}

#[tokio::test]
async fn a_native_graph_gets_the_body_s_bytes_and_gives_the_backend_s() {
    for backends in backends() {
        let host = Host::with(backends, &["iris-native"]).await;
        let ask = |alignment| body("measurements", "FP32", &[ROWS, 4], &flowers(), alignment);

        let (head, whole) = ask(16);
        let (answer, copied) = counted(&host, "iris-native", head, whole.clone()).await;
        assert_eq!(answer.tensors().len(), PROBABILITIES);
        assert_eq!(copied, 0, "nothing is copied");

        // In several frames: they are joined once, and so that the tensor lies well.
        let (head, whole) = ask(7);
        let (answer, copied) = counted(&host, "iris-native", head, frames(&whole, 1000)).await;
        assert_eq!(answer.tensors().len(), PROBABILITIES);
        assert_eq!(copied, whole.len(), "the frames of the body");

        // In one frame, where the tensor lies badly: a backend takes no such memory.
        let (answer, copied) = counted(&host, "iris-native", head, whole).await;
        assert_eq!(answer.tensors().len(), PROBABILITIES);
        assert_eq!(copied, INPUT, "the tensor, to a place where floats may lie");
    }
}

#[tokio::test]
async fn a_plugin_that_passes_its_input_on_copies_nothing() {
    let host = Host::with(Backends::embedded(), &["empty"]).await;
    let data = flowers();
    let (head, whole) = body("input", "FP32", &[ROWS * 4], &data, 7);
    let (answer, copied) = counted(&host, "empty", head, whole).await;
    assert_eq!(answer.tensors(), data);
    assert_eq!(copied, 0);
}

#[tokio::test]
async fn a_model_that_calls_another_hands_its_tensors_over() {
    let host = Host::with(Backends::embedded(), &["empty", "relay"]).await;
    let data = flowers();
    let (head, whole) = body("input", "FP32", &[ROWS * 4], &data, 7);
    let (answer, copied) = counted(&host, "relay", head, whole).await;
    assert_eq!(answer.tensors(), data);
    assert_eq!(copied, 0, "nothing, neither on the way to the other model nor back");
}

#[tokio::test]
async fn what_is_handed_on_to_two_models_is_shared() {
    let host = Host::with(Backends::embedded(), &["file-type", "file-describe"]).await;
    // It knows files of a few bytes without its graph.
    let file = |text: &[u8]| [&u32::try_from(text.len()).unwrap().to_le_bytes(), text].concat();
    let data = [file(b"hello"), file(b"world")].concat();
    let (head, whole) = body("file", "BYTES", &[2], &data, 7);
    let (answer, copied) = counted(&host, "file-describe", head, whole).await;
    let (label, mime_type, content) = (2 * (4 + 3), 2 * (4 + 10), 2 * 4);
    assert_eq!(answer.tensors().len(), label + mime_type + content);
    // file-type reads both and writes three outputs, of which the third are two scores; the caller reads one of them and
    // writes one of its own.
    assert_eq!(copied, (5 + 5) + (label + mime_type + 2 * 4) + mime_type + content);
}

#[tokio::test]
async fn a_plugin_that_works_on_both_sides_of_its_graph_copies_what_it_reads_and_writes_once() {
    for backends in backends() {
        let host = Host::with(backends, &["iris"]).await;
        let (head, whole) = body("measurements", "FP32", &[ROWS, 4], &flowers(), 7);
        let (answer, copied) = counted(&host, "iris", head, whole).await;
        // A length and the name, for each row.
        let species = ROWS * (4 + "setosa".len());
        assert_eq!(answer.tensors().len(), species + PROBABILITIES);
        let (read, written) = (INPUT + PROBABILITIES, INPUT + species);
        assert_eq!(copied, read + written);
    }
}
