//! What the graph sees of a file: its first and its last bytes, stripped of white space. As Magika's own clients do it.

use crate::tables::{BEGIN_SIZE, ContentType, END_SIZE, MIN_SIZE, PADDING, TEXT, UNKNOWN};

/// The length of a file's features.
pub(crate) const FEATURES: usize = BEGIN_SIZE + END_SIZE;

/// Adds the features of a file that begins and ends with these windows. Gives the content type instead where there is too
/// little in the file for the graph to tell.
pub(crate) fn extract(begin: &[u8], end: &[u8], features: &mut Vec<i32>) -> Option<&'static ContentType> {
    let start = begin.iter().position(|&byte| !is_space(byte)).unwrap_or(begin.len());
    let stripped = begin.get(start..).unwrap_or_default();
    if (stripped.len() as u64) < MIN_SIZE {
        return Some(few_bytes(begin));
    }
    let used = stripped.get(..BEGIN_SIZE).unwrap_or(stripped);
    features.extend(used.iter().map(|&byte| i32::from(byte)));
    features.extend(std::iter::repeat_n(PADDING, BEGIN_SIZE - used.len()));

    let stop = end.iter().rposition(|&byte| !is_space(byte)).map_or(0, |last| last + 1);
    let stripped = end.get(..stop).unwrap_or_default();
    let used = stripped.get(stripped.len().saturating_sub(END_SIZE)..).unwrap_or_default();
    features.extend(std::iter::repeat_n(PADDING, END_SIZE - used.len()));
    features.extend(used.iter().map(|&byte| i32::from(byte)));
    None
}

/// The content type of what is too short for the graph.
pub(crate) fn few_bytes(content: &[u8]) -> &'static ContentType {
    if std::str::from_utf8(content).is_ok() { &TEXT } else { &UNKNOWN }
}

/// White space as Python's `bytes.strip` has it; Rust's `is_ascii_whitespace` leaves the vertical tab out.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(begin: &[u8], end: &[u8]) -> Vec<i32> {
        let mut features = Vec::new();
        assert_eq!(extract(begin, end, &mut features), None);
        assert_eq!(features.len(), FEATURES);
        features
    }

    fn content_type(content: &[u8]) -> &'static str {
        let mut features = Vec::new();
        let content = extract(content, content, &mut features).unwrap();
        assert!(features.is_empty());
        content.label
    }

    fn ints(bytes: &[u8]) -> Vec<i32> {
        bytes.iter().map(|&byte| i32::from(byte)).collect()
    }

    #[test]
    fn a_short_file_is_padded_inwards() {
        let content = b"\x0b \tab cd efgh\x0c\r\n";
        let features = features(content, content);
        let (begin, end) = features.split_at(BEGIN_SIZE);
        assert_eq!(begin[..13], ints(b"ab cd efgh\x0c\r\n"));
        assert!(begin[13..].iter().all(|&value| value == PADDING));
        assert!(end[..END_SIZE - 13].iter().all(|&value| value == PADDING));
        assert_eq!(end[END_SIZE - 13..], ints(b"\x0b \tab cd efgh"));
    }

    #[test]
    fn a_long_file_shows_its_first_and_last_bytes() {
        let begin: Vec<u8> = (0..4096u32).map(|i| b'a' + (i % 26) as u8).collect();
        let end: Vec<u8> = (0..4096u32).map(|i| b'A' + (i % 26) as u8).collect();
        let features = features(&begin, &end);
        assert_eq!(features[..BEGIN_SIZE], ints(&begin[..BEGIN_SIZE]));
        assert_eq!(features[BEGIN_SIZE..], ints(&end[4096 - END_SIZE..]));
    }

    #[test]
    fn exactly_the_sizes_need_no_padding() {
        let content = vec![b'x'; BEGIN_SIZE];
        assert!(features(&content, &content).iter().all(|&value| value == i32::from(b'x')));
    }

    #[test]
    fn spaces_alone_at_the_end_are_padding_alone() {
        let features = features(b"#!/bin/sh\n", &[b' '; 4096]);
        assert!(features[BEGIN_SIZE..].iter().all(|&value| value == PADDING));
    }

    #[test]
    fn other_controls_are_no_white_space() {
        assert_eq!(features(b"\x00\x1c\x1d\x1e\x1f\x85\xa0\x08", b"")[..2], [0, 0x1c]);
    }

    #[test]
    fn seven_bytes_are_too_few_and_eight_are_not() {
        assert_eq!(content_type(b"  1234567"), "txt");
        assert_eq!(content_type(b"  123456\xff"), "unknown");
        assert_eq!(content_type(&[b'\n'; 4096]), "txt");
        assert_eq!(features(b"12345678  ", b"12345678  ")[..8], ints(b"12345678"));
    }

    #[test]
    fn few_bytes_are_text_where_they_are_utf8() {
        assert_eq!(few_bytes("Grüße".as_bytes()).label, "txt");
        // The window may end within a character, which makes it no text; so it is with the official client.
        assert_eq!(few_bytes(&"ü".as_bytes()[..1]).label, "unknown");
        assert_eq!(few_bytes(b"\xed\xa0\x80").label, "unknown");
    }
}
