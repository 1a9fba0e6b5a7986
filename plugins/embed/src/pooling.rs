//! From the vectors of a text's tokens to its embedding.

use std::ops::Range;

use vespid_plugin::{Result, Tensor};

/// The length of an embedding.
pub(crate) const DIMENSIONS: usize = 384;

/// How many vectors are read at once. They take 96 kB, for which the instance has room without growing its memory.
const READ: usize = 64;
/// The least length that a vector is divided by, as in PyTorch's `normalize`.
const SHORTEST: f32 = 1e-12;

/// Writes the mean of some vectors, scaled to length 1. Those that are padding are not even read.
pub(crate) fn embed(states: &Tensor, tokens: Range<usize>, embedding: &mut [f32]) -> Result<()> {
    embedding.fill(0.0);
    for start in tokens.clone().step_by(READ) {
        let end = tokens.end.min(start + READ);
        let vectors = states.range::<f32>(start * DIMENSIONS..end * DIMENSIONS)?;
        for vector in vectors.chunks_exact(DIMENSIONS) {
            embedding.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
        }
    }
    let count = tokens.len().max(1) as f32;
    embedding.iter_mut().for_each(|sum| *sum /= count);
    let norm = embedding.iter().map(|value| value * value).sum::<f32>().sqrt().max(SHORTEST);
    embedding.iter_mut().for_each(|value| *value /= norm);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokens_of_the_range_are_averaged_and_no_others() {
        let vectors: Vec<f32> = (0..200).flat_map(|token| [token as f32; DIMENSIONS]).collect();
        let states = Tensor::new(&vectors, [1, 200, DIMENSIONS]).unwrap();
        let expected = 1.0 / (DIMENSIONS as f32).sqrt();
        let mut embedding = [7.0; DIMENSIONS];
        embed(&states, 1..200, &mut embedding).unwrap();
        assert!(embedding.iter().all(|value| (value - expected).abs() < 1e-6), "{embedding:?}");
        // The vector of token 0 has no length.
        embed(&states, 0..1, &mut embedding).unwrap();
        assert_eq!(embedding, [0.0; DIMENSIONS]);
        assert!(embed(&states, 150..201, &mut embedding).is_err());
    }
}
