//! Messages of a stream.

use std::sync::LazyLock;

use bytes::Bytes;
use vespid_stream::{StreamSpec, fuzzing};
use vespid_types::Signature;

use crate::check::{caught_panics_are_fine, signature};

static MODEL: LazyLock<Signature> = LazyLock::new(|| {
    signature(
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]},{"name":"n","datatype":"INT64","shape":[-1,1]},{"name":"t","datatype":"BYTES","shape":[-1,1],"optional":true}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1,1]}]}"#,
    )
});

static STREAM: LazyLock<StreamSpec> = LazyLock::new(|| {
    let text = "model: m\nsource:\n  kafka: { brokers: 'localhost:1', topics: in, group: g }\nsink:\n  kafka: { topic: out }\n";
    StreamSpec::from_yaml("s.yaml", text).expect("a stream")
});

/// Messages at once.
const MESSAGES: usize = 12;

/// Messages of JSON, a line each: each makes a row or is refused, whatever the others are.
pub fn messages(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n').take(MESSAGES);
    let payloads: Vec<Bytes> = lines.map(Bytes::copy_from_slice).collect();
    let read = fuzzing::messages(&STREAM, &MODEL, &payloads);
    // What is wrong with a message is told of it; an error would end the stream.
    let (batch, of, refused) = read.expect("rows");
    assert_eq!(batch.num_rows(), of.len());
    let mut all: Vec<usize> = of.iter().chain(&refused).copied().collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..payloads.len()), "{of:?} and {refused:?}");
    let alone = |index: &usize| {
        payloads.get(*index).map(|payload| fuzzing::messages(&STREAM, &MODEL, std::slice::from_ref(payload)))
    };
    for (row, index) in of.iter().enumerate() {
        let (one, ..) = alone(index).expect("a message").expect("a row");
        assert_eq!(one, batch.slice(row, 1));
    }
}

/// A message of Arrow's.
pub fn ipc_message(data: &[u8]) {
    caught_panics_are_fine();
    match fuzzing::arrow(data) {
        Ok(batch) => assert!(batch.num_rows() > 0),
        Err(reason) => assert!(!reason.is_empty()),
    }
}
