//! From a text to the ids of its tokens: BERT's WordPiece for texts in lower case.
//!
//! Contract: the ids are those of the model's tokenizer in Python (`tokenizers`, by way of sentence-transformers), for any
//! text; `tokens.json` holds this to it. Cost: a text is read no further than to the token at which it is cut.
//!
//! Why not the crate `tokenizers`: it reads its vocabulary from JSON into hash maps, which each call, in an instance of its own,
//! would pay for anew, and it brings a regular expression engine and a megabyte of code for the few rules that are here.

use std::ops::ControlFlow;

use crate::characters::{is_punctuation, normalised, normalised_ascii};
use crate::vocabulary::{BEGIN, END, MAX_TOKENS, RESTS, SPECIAL, UNKNOWN, WORDS};

/// Longer words are unknown.
const MAX_CHARACTERS: usize = 100;

/// The tokens of texts.
#[derive(Default)]
pub(crate) struct Tokens {
    /// Of one text behind the other. They take 16 bits each.
    ids: Vec<u16>,
    /// Where those of each text end.
    ends: Vec<usize>,
}

impl Tokens {
    /// Adds the tokens of a text, with those that say where it begins and ends.
    pub(crate) fn add(&mut self, text: &str) {
        let mut words = Words {
            limit: self.ids.len() + MAX_TOKENS - 1,
            ids: &mut self.ids,
            word: String::new(),
            characters: 0,
        };
        words.ids.push(BEGIN);
        // That it stops means that there is no room for more.
        let _ = words.text(text);
        let limit = words.limit;
        self.ids.truncate(limit);
        self.ids.push(END);
        self.ends.push(self.ids.len());
    }

    /// The number of texts.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The number of tokens of all texts.
    pub(crate) fn total(&self) -> usize {
        self.ids.len()
    }

    /// The tokens of a text.
    pub(crate) fn get(&self, text: usize) -> &[u16] {
        let start = text.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(text).copied().unwrap_or(start);
        self.ids.get(start..end).unwrap_or_default()
    }
}

/// Takes characters, and adds the tokens of the words that they make. Breaks once there are enough.
struct Words<'a> {
    ids: &'a mut Vec<u16>,
    /// How many ids there may be.
    limit: usize,
    /// As far as it has been read, and not beyond `MAX_CHARACTERS`.
    word: String,
    characters: usize,
}

impl Words<'_> {
    fn text(&mut self, text: &str) -> ControlFlow<()> {
        let mut rest = text;
        while let Some((before, id, behind)) = split_at_special(rest) {
            self.segment(before)?;
            self.push(id)?;
            rest = behind;
        }
        self.segment(rest)
    }

    /// What stands between special tokens.
    fn segment(&mut self, text: &str) -> ControlFlow<()> {
        if text.is_ascii() {
            normalised_ascii(text).try_for_each(|character| self.character(character))?;
        } else {
            normalised(text).try_for_each(|character| self.character(character))?;
        }
        self.end_word()
    }

    fn character(&mut self, character: char) -> ControlFlow<()> {
        if character.is_whitespace() {
            return self.end_word();
        }
        if is_punctuation(character) {
            self.end_word()?;
            self.extend_word(character);
            return self.end_word();
        }
        self.extend_word(character);
        ControlFlow::Continue(())
    }

    fn extend_word(&mut self, character: char) {
        self.characters += 1;
        if self.characters <= MAX_CHARACTERS {
            self.word.push(character);
        }
    }

    fn end_word(&mut self) -> ControlFlow<()> {
        if self.characters == 0 {
            return ControlFlow::Continue(());
        }
        let before = self.ids.len();
        if self.characters > MAX_CHARACTERS || split(&self.word, self.ids).is_none() {
            self.ids.truncate(before);
            self.ids.push(UNKNOWN);
        }
        self.word.clear();
        self.characters = 0;
        self.room()
    }

    fn push(&mut self, id: u16) -> ControlFlow<()> {
        self.ids.push(id);
        self.room()
    }

    fn room(&self) -> ControlFlow<()> {
        if self.ids.len() < self.limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// Adds the tokens that make up a word, each the longest that fits. Nothing where one does not.
fn split(word: &str, ids: &mut Vec<u16>) -> Option<()> {
    let (length, id) = WORDS.longest(word)?;
    ids.push(id);
    let mut rest = word.get(length..)?;
    while !rest.is_empty() {
        let (length, id) = RESTS.longest(rest)?;
        ids.push(id);
        rest = rest.get(length..)?;
    }
    Some(())
}

/// The text before the first special token that is written in it, that token, and the text behind.
fn split_at_special(text: &str) -> Option<(&str, u16, &str)> {
    text.match_indices('[').find_map(|(start, _)| {
        let (before, from) = text.split_at_checked(start)?;
        let (token, id) = SPECIAL.iter().find(|(token, _)| from.starts_with(token))?;
        Some((before, *id, from.strip_prefix(token)?))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    fn ids(text: &str) -> Vec<u16> {
        let mut tokens = Tokens::default();
        // Whatever is before it changes nothing.
        tokens.add("before");
        tokens.add(text);
        tokens.get(1).to_vec()
    }

    /// Checks texts against the ids that the reference gives them; how many there were.
    fn check(cases: &str) -> usize {
        let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
        for case in &cases {
            let repeat = usize::try_from(case["repeat"].as_u64().unwrap_or(1)).unwrap();
            let text = case["text"].as_str().unwrap().repeat(repeat);
            let expected: Vec<u64> =
                case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
            let ids: Vec<u64> = ids(&text).into_iter().map(u64::from).collect();
            assert_eq!(ids, expected, "{:?}, {repeat} times", case["text"]);
        }
        cases.len()
    }

    #[test]
    fn the_ids_are_those_of_the_reference() {
        assert_eq!(check(include_str!("../tokens.json")), 200);
    }

    /// Not one of every run: `compare.py --tokens FILE` writes some 80 MB: texts with each character that there is.
    #[test]
    #[ignore = "takes a file that compare.py writes, named by EMBED_TOKENS"]
    fn the_ids_are_those_of_the_reference_for_each_character() {
        let file = std::env::var_os("EMBED_TOKENS").expect("EMBED_TOKENS names the file");
        assert!(check(&std::fs::read_to_string(Path::new(&file)).unwrap()) > 10_000);
    }

    #[test]
    fn a_text_is_cut_at_its_end() {
        let long = "a ".repeat(10_000);
        let ids = ids(&long);
        assert_eq!((ids.len(), ids[0], ids[MAX_TOKENS - 1]), (MAX_TOKENS, BEGIN, END));
        // Where a word of many tokens is the last, some of them remain.
        let word = "pneumonoultramicroscopicsilicovolcanoconiosis";
        let whole = self::ids(word).len() - 2;
        let cut = self::ids(&("a ".repeat(MAX_TOKENS - 4) + word));
        assert_eq!(cut.len(), MAX_TOKENS);
        assert_eq!(cut[MAX_TOKENS - 3..MAX_TOKENS - 1], self::ids(word)[1..3]);
        assert!(whole > 2);
    }

    #[test]
    fn nothing_is_two_tokens() {
        for text in ["", " \n\t", "\u{0}\u{fffd}", "\u{301}"] {
            assert_eq!(ids(text), [BEGIN, END], "{text:?}");
        }
        assert!(Tokens::default().get(0).is_empty());
    }

    #[test]
    fn a_word_of_more_than_a_hundred_characters_is_unknown() {
        assert_ne!(ids(&"a".repeat(100))[1], UNKNOWN);
        assert_eq!(ids(&"a".repeat(101)), [BEGIN, UNKNOWN, END]);
        assert_eq!(ids(&format!("x{}", "\u{301}".repeat(1000))), ids("x"));
    }
}
