//! Embeds sentences with all-MiniLM-L6-v2, exactly as sentence-transformers does.
//!
//! The graph gives a vector for each token. The embedding is their mean, padding left out, scaled to length 1. The
//! response parameter `prompt_tokens` counts the tokens, with those at the ends of each text and without padding.
//!
//! Texts go to the graph in groups of equal length: those of a group are padded to one multiple of `pad_to` tokens, so that
//! less than that is wasted on each, and single texts of different callers have shapes that the host can run as
//! one. A group is split where it grows large, which bounds what the call's tensors take, whatever it asks for.

mod characters;
mod pooling;
mod tokenizer;
mod vocabulary;

use pooling::{DIMENSIONS, embed};
use tokenizer::Tokens;
use vespid_plugin::prelude::*;
use vocabulary::{MAX_TOKENS, PADDING};

/// The multiple that lengths are padded to, where the manifest does not say.
const PAD_TO: usize = 16;
/// How many tokens go to the graph at once: its answer takes 6 MB then.
const MAX_GROUP: usize = 4096;

/// The model.
pub struct Embed;

impl Model for Embed {
    fn describe() -> Result<Signature> {
        pad_to()?;
        let embedding = [ANY, DIMENSIONS as i64];
        Ok(Signature::new().input::<str>("text", [ANY]).output::<f32>("embedding", embedding))
    }

    fn predict(request: Request) -> Result<Response> {
        let pad_to = pad_to()?;
        let mut tokens = Tokens::default();
        for text in request.input("text")?.blobs()?.strings() {
            tokens.add(text.map_err(|error| error.context("input 'text'"))?);
        }
        let mut embeddings = vec![0.0; tokens.len() * DIMENSIONS];
        if tokens.len() > 0 {
            let graph = Graph::load("minilm")?;
            for group in groups(&tokens, pad_to) {
                compute(&graph, &tokens, &group, &mut embeddings)?;
            }
        }
        Ok(Response::new()
            .output("embedding", Tensor::new(&embeddings, [tokens.len(), DIMENSIONS])?)
            .parameter("prompt_tokens", tokens.total() as i64))
    }
}

fn pad_to() -> Result<usize> {
    let pad_to = config_as("pad_to")?.unwrap_or(PAD_TO);
    if (1..=MAX_TOKENS).contains(&pad_to) {
        return Ok(pad_to);
    }
    Err(Error::internal(format!("[config] pad_to = {pad_to}: it must be from 1 to {MAX_TOKENS}")))
}

/// Texts that go to the graph together.
#[derive(Debug, PartialEq)]
struct Group {
    /// How many tokens each is padded to.
    length: usize,
    /// Their places in the request.
    texts: Vec<usize>,
}

fn groups(tokens: &Tokens, pad_to: usize) -> Vec<Group> {
    let padded = |text: &usize| tokens.get(*text).len().next_multiple_of(pad_to).min(MAX_TOKENS);
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by_key(padded);
    let equal = order.chunk_by(|one, other| padded(one) == padded(other));
    let split = equal.flat_map(|texts| {
        let length = texts.first().map_or(MAX_TOKENS, padded);
        texts.chunks((MAX_GROUP / length).max(1)).map(move |texts| Group { length, texts: texts.to_vec() })
    });
    split.collect()
}

/// Puts the embeddings of a group in their places.
fn compute(graph: &Graph, tokens: &Tokens, group: &Group, embeddings: &mut [f32]) -> Result<()> {
    let shape = [group.texts.len(), group.length];
    let mut ids = Vec::with_capacity(group.texts.len() * group.length);
    let mut mask = Vec::with_capacity(ids.capacity());
    for &text in &group.texts {
        let tokens = tokens.get(text);
        let padding = group.length - tokens.len();
        ids.extend(tokens.iter().copied().map(i64::from));
        ids.extend(std::iter::repeat_n(i64::from(PADDING), padding));
        mask.extend(std::iter::repeat_n(1i64, tokens.len()));
        mask.extend(std::iter::repeat_n(0i64, padding));
    }
    let inputs = [("input_ids", Tensor::new(&ids, shape)?), ("attention_mask", Tensor::new(&mask, shape)?)];
    let states = graph.compute(inputs)?.take("last_hidden_state")?;
    let [rows, length] = shape;
    if states.shape() != [rows, length, DIMENSIONS] {
        let found = states.shape();
        return Err(Error::internal(format!(
            "the graph's last_hidden_state has shape {found:?} in place of [{rows}, {length}, {DIMENSIONS}]"
        )));
    }
    for (row, &text) in group.texts.iter().enumerate() {
        let first = row * length;
        if let Some(embedding) = embeddings.chunks_exact_mut(DIMENSIONS).nth(text) {
            embed(&states, first..first + tokens.get(text).len(), embedding)?;
        }
    }
    Ok(())
}

vespid_plugin::export!(Embed);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    type Shapes = Rc<RefCell<Vec<Vec<usize>>>>;

    /// A graph whose vector of a token is the token's id and 1, and something large for padding.
    fn graph() -> Shapes {
        let shapes = Shapes::default();
        let seen = Rc::clone(&shapes);
        vespid_plugin::testing::graph("minilm", move |inputs| {
            let (ids, mask) = (inputs.get("input_ids")?, inputs.get("attention_mask")?);
            assert_eq!(ids.shape(), mask.shape());
            seen.borrow_mut().push(ids.shape().to_vec());
            let mut states = Vec::new();
            for (&id, &mask) in ids.values::<i64>()?.iter().zip(mask.values::<i64>()?.iter()) {
                assert_eq!(mask == 0, id == 0);
                let first = if mask == 0 { 1e30 } else { id as f32 };
                states.extend([first, 1.0]);
                states.extend([0.0; DIMENSIONS - 2]);
            }
            let shape = [ids.shape()[0], ids.shape()[1], DIMENSIONS];
            Ok(vec![("last_hidden_state", Tensor::new(&states, shape)?)])
        });
        shapes
    }

    fn predict<T: AsRef<[u8]>>(texts: &[T]) -> Result<Vec<f32>> {
        let request = Request::new().with("text", Tensor::bytes(texts, [texts.len()])?);
        let response = Embed::predict(request)?;
        let embeddings = response.get("embedding").unwrap();
        assert_eq!(embeddings.shape(), [texts.len(), DIMENSIONS]);
        embeddings.to_vec()
    }

    fn assert_embeds(embedding: &[f32], text: &str) {
        let mut tokens = Tokens::default();
        tokens.add(text);
        let ids = tokens.get(0);
        let mean = ids.iter().map(|&id| f64::from(id)).sum::<f64>() / ids.len() as f64;
        let norm = mean.hypot(1.0);
        assert!((f64::from(embedding[0]) - mean / norm).abs() < 1e-6, "{text}: {}", embedding[0]);
        assert!((f64::from(embedding[1]) - 1.0 / norm).abs() < 1e-6, "{text}: {}", embedding[1]);
        assert!(embedding[2..].iter().all(|&value| value == 0.0));
    }

    #[test]
    fn each_text_gets_its_embedding_in_groups_of_equal_length() {
        let shapes = graph();
        let long = "word ".repeat(300);
        let middle = "word ".repeat(100);
        let texts = [long.as_str(), "hello world", "", &middle, "something else", &long];
        let embeddings = predict(&texts).unwrap();
        for (embedding, text) in embeddings.chunks_exact(DIMENSIONS).zip(texts) {
            assert_embeds(embedding, text);
        }
        assert_eq!(*shapes.borrow(), [[3, 16], [1, 112], [2, 256]]);
    }

    #[test]
    fn large_groups_are_split() {
        let shapes = graph();
        predict(&vec!["word ".repeat(300); 20]).unwrap();
        assert_eq!(*shapes.borrow(), [[16, 256], [4, 256]]);
    }

    #[test]
    fn lengths_are_padded_as_the_manifest_says() {
        let shapes = graph();
        vespid_plugin::testing::config("pad_to", "100");
        predict(&["a b c", &"word ".repeat(140), &"word ".repeat(220)]).unwrap();
        assert_eq!(*shapes.borrow(), [[1, 100], [1, 200], [1, 256]]);
        vespid_plugin::testing::config("pad_to", "0");
        assert!(Embed::describe().unwrap_err().message().contains("pad_to"));
        vespid_plugin::testing::config("pad_to", "x");
        assert!(Embed::describe().is_err());
    }

    #[test]
    fn no_texts_are_no_embeddings() {
        assert!(predict::<&str>(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_utf8_is_the_callers_mistake() {
        let error = predict(&[b"good".as_slice(), b"\xff"]).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains("'text'") && error.message().contains("element 1"), "{error}");
    }

    #[test]
    fn a_graph_of_another_width_is_refused() {
        vespid_plugin::testing::graph("minilm", |_| {
            Ok(vec![("last_hidden_state", Tensor::new(&[0.0f32; 16], [1, 16, 1])?)])
        });
        assert_eq!(predict(&["x"]).unwrap_err().code(), Code::Internal);
    }
}
