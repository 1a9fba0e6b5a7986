//! What BERT's tokenizer makes of characters before it looks for words, as the Python package `tokenizers` does it.
//!
//! Which category a character is in depends on the age of the tables, and the reference has those of the crate
//! `unicode_categories` (Unicode 8), so they are used here too. Characters are taken apart by `unicode-normalization`,
//! whose tables are newer than the reference's: a character that these alone take apart is in no token, whole or not.

use unicode_categories::UnicodeCategories as _;
use unicode_normalization::UnicodeNormalization as _;

/// The characters without controls and accents, in lower case, with Chinese ones set apart by spaces.
pub(crate) fn normalised(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .filter(|&character| is_kept(character))
        .flat_map(set_apart)
        .nfd()
        .filter(|character| !character.is_mark_nonspacing())
        .flat_map(char::to_lowercase)
}

/// The same of a text that is ASCII.
pub(crate) fn normalised_ascii(text: &str) -> impl Iterator<Item = char> {
    let kept = |byte: &u8| !byte.is_ascii_control() || matches!(byte, b'\t' | b'\n' | b'\r');
    text.bytes().filter(kept).map(|byte| char::from(byte.to_ascii_lowercase()))
}

/// Whether the character is a word of its own.
pub(crate) fn is_punctuation(character: char) -> bool {
    if character.is_ascii() { character.is_ascii_punctuation() } else { character.is_punctuation() }
}

/// Controls and formats go, white space among them but for three. So do the replacement character and private ones.
fn is_kept(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => true,
        '\u{fffd}' => false,
        _ => !character.is_other(),
    }
}

fn set_apart(character: char) -> impl Iterator<Item = char> {
    let space = is_chinese(character).then_some(' ');
    space.into_iter().chain([character]).chain(space)
}

/// Whether BERT calls the character Chinese. Those from U+2B820 to U+2B91F would be, but are not in the reference.
fn is_chinese(character: char) -> bool {
    matches!(
        u32::from(character),
        0x3400..=0x4DBF
            | 0x4E00..=0x9FFF
            | 0xF900..=0xFAFF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0x2F800..=0x2FA1F
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_is_normalised_the_same_both_ways() {
        let text: String = (0..128u8).map(char::from).collect();
        let short: String = normalised_ascii(&text).collect();
        assert_eq!(short, normalised(&text).collect::<String>());
        assert!(short.starts_with("\t\n\r !"), "{short:?}");
        assert!(short.contains("@abc"), "{short:?}");
    }

    #[test]
    fn accents_and_controls_go_and_chinese_characters_stand_apart() {
        let normalised = |text| normalised(text).collect::<String>();
        assert_eq!(normalised("Ça\u{0}\u{200b} VÀ\u{ad}!\u{fffd}\u{e000}"), "ca va!");
        assert_eq!(normalised("İǅΣ"), "iǆσ");
        assert_eq!(normalised("a中b"), "a 中 b");
        // A compatibility ideograph is set apart, and then becomes the one that it stands for.
        assert_eq!(normalised("\u{f900}"), " 豈 ");
        assert_eq!(normalised("\u{2b820}"), "\u{2b820}");
    }
}
