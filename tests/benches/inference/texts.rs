//! What `embed` is asked about.

use vespid_types::{Datatype, NamedTensor, Shape, Tensor};

/// Sentences as search boxes and chats send them. Each has 9 to 16 tokens, which the plugin pads to 16.
const SHORT: [&str; 16] = [
    "How do I reset the password of my account?",
    "The train to Vienna leaves at half past seven.",
    "A cat sleeps on the warm roof of the car.",
    "Please send me the invoice for the last order.",
    "Which restaurants near the station are open now?",
    "It rained all night and the river rose quickly.",
    "She plays the violin in a small city orchestra.",
    "Can I return a pair of shoes without the box?",
    "The new phone has a better camera than the old.",
    "We moved the meeting to Thursday afternoon.",
    "My flight was cancelled and I need another one.",
    "Bake the bread for forty minutes until brown.",
    "The committee will vote on the budget next week.",
    "Where can I find the manual for this printer?",
    "He repaired the old clock in his grandfather's shop.",
    "Fresh snow covered the fields in the early morning.",
];

/// Single rows that are all padded to one length.
pub(crate) fn equal() -> Vec<Vec<NamedTensor>> {
    SHORT.iter().map(|text| vec![request(&[*text])]).collect()
}

/// Single rows of one to ten sentences, which are padded to many lengths: those of different callers seldom fit.
pub(crate) fn mixed() -> Vec<Vec<NamedTensor>> {
    let text = |first: usize| {
        let sentences = 1 + first * 7 % 10;
        let text: Vec<&str> = SHORT.iter().cycle().skip(first).take(sentences).copied().collect();
        vec![request(&[text.join(" ").as_str()])]
    };
    (0..SHORT.len()).map(text).collect()
}

/// One text.
pub(crate) fn short() -> &'static str {
    SHORT[0]
}

/// As many tokens as the model takes.
pub(crate) fn long() -> String {
    SHORT.join(" ").repeat(3)
}

/// The input of a request for texts.
pub(crate) fn request(texts: &[&str]) -> NamedTensor {
    bytes("text", texts)
}

/// A BYTES tensor with one dimension.
pub(crate) fn bytes<E: AsRef<[u8]>>(name: &str, elements: &[E]) -> NamedTensor {
    let tensor = Tensor::from_elements(Shape::from(&[elements.len() as u64][..]), elements).unwrap();
    assert_eq!(tensor.datatype(), Datatype::Bytes);
    NamedTensor { name: name.to_owned(), tensor }
}
