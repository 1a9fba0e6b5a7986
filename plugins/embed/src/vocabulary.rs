//! The vocabulary: tables that build.rs wrote.
//!
//! Cost: nothing to set up, and for a token some fifteen comparisons of strings, seldom more than twice that. The tables
//! are 430 kB of the component, of which a call reads the pages that its words lie in.

/// Tokens in the order of their bytes.
pub(crate) struct Table {
    /// One behind the other.
    text: &'static str,
    /// Where each begins in the text, and where the last ends.
    starts: &'static [u32],
    /// The id of each.
    ids: &'static [u16],
}

impl Table {
    /// The longest token that the word begins with: its length and its id.
    pub(crate) fn longest(&self, word: &str) -> Option<(usize, u16)> {
        let mut word = word.as_bytes();
        let mut end = self.ids.len();
        loop {
            // In the order of bytes, a token that the word begins with stands before the word, and all that stands between
            // the two begins with that token. So the last before the word is the longest, or begins with it: then what is
            // looked for is no longer than what that one and the word have in common.
            end = self.until(word, end);
            let place = end.checked_sub(1)?;
            let token = self.token(place)?;
            let common = word.iter().zip(token).take_while(|(own, other)| own == other).count();
            if common == token.len() {
                return Some((common, *self.ids.get(place)?));
            }
            word = word.get(..common).filter(|word| !word.is_empty())?;
        }
    }

    /// How many of the first `end` tokens are not greater than the word.
    fn until(&self, word: &[u8], end: usize) -> usize {
        let (mut low, mut high) = (0, end);
        while low < high {
            let middle = low.midpoint(high);
            if self.token(middle).is_some_and(|token| token <= word) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn token(&self, place: usize) -> Option<&'static [u8]> {
        let start = *self.starts.get(place)? as usize;
        let end = *self.starts.get(place + 1)? as usize;
        self.text.as_bytes().get(start..end)
    }
}

include!(concat!(env!("OUT_DIR"), "/tables.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    /// a, ab, abbey, b, bé
    static SOME: Table =
        Table { text: "aababbeybbé", starts: &[0, 1, 3, 8, 9, 12], ids: &[10, 11, 12, 13, 14] };

    #[test]
    fn the_longest_token_is_found_where_a_longer_one_parts_from_the_word() {
        for (word, found) in [
            ("abbeys", Some((5, 12))),
            ("abbot", Some((2, 11))),
            ("abz", Some((2, 11))),
            ("aa", Some((1, 10))),
            ("bés", Some((3, 14))),
            // Its first byte is that of the token's last character.
            ("bè", Some((1, 13))),
            ("c", None),
            ("é", None),
            ("Z", None),
            ("", None),
        ] {
            assert_eq!(SOME.longest(word), found, "{word}");
        }
    }

    #[test]
    fn each_token_of_the_vocabulary_is_found_by_its_own_text() {
        for table in [&WORDS, &RESTS] {
            for place in 0..table.ids.len() {
                let token = std::str::from_utf8(table.token(place).unwrap()).unwrap();
                assert_eq!(table.longest(token), Some((token.len(), table.ids[place])), "{token}");
            }
        }
        assert_eq!(WORDS.ids.len() + RESTS.ids.len(), 30522);
    }
}
