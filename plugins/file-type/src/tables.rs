//! What Magika knows: written by build.rs out of its configuration and knowledge base.

/// A type of content.
#[derive(Debug, PartialEq)]
pub(crate) struct ContentType {
    pub(crate) label: &'static str,
    pub(crate) mime_type: &'static str,
}

/// What a label of the graph means.
pub(crate) struct Target {
    /// The score from which on the label is trusted.
    threshold: f64,
    trusted: ContentType,
    /// What is answered below that: text or unknown.
    doubted: &'static ContentType,
}

impl Target {
    /// The content type to answer where the graph gave this label that score.
    pub(crate) fn at(&'static self, score: f32) -> &'static ContentType {
        if f64::from(score) >= self.threshold { &self.trusted } else { self.doubted }
    }
}

include!(concat!(env!("OUT_DIR"), "/tables.rs"));
