//! Resizes an image as Pillow does with `BICUBIC`: to the bit.
//!
//! Why by hand: that takes Pillow's own order (the rows first, rounded to bytes, then the columns), its weights with 22
//! bits behind the point, and its filter, which widens when an image shrinks. `fast_image_resize` has the same filter and
//! weights of fewer bits. What is written here costs as much as the pixels that it reads, times the filter's width.

use std::ops::Range;

/// A side of the image: of how many pixels it is, of how many it becomes, and which of these are kept.
pub(crate) struct Axis {
    pub(crate) length: u64,
    pub(crate) resized: u64,
    pub(crate) kept: Range<u64>,
}

/// What a new pixel is made of: old ones from `first` on, each with its weight.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

impl Taps {
    fn end(&self) -> usize {
        self.first + self.weights.len()
    }
}

/// The bits of a weight behind the point. Pillow leaves 8 for the value and 2 for what the filter overshoots.
const BITS: u32 = 32 - 8 - 2;
/// Half, so that cutting the bits off rounds.
const HALF: i32 = 1 << (BITS - 1);
/// How far the filter reaches to either side, in pixels of the coarser image.
const REACH: f64 = 2.0;

/// The part of the resized image that is kept; three bytes a pixel, in and out.
pub(crate) fn bicubic(pixels: &[u8], width: &Axis, height: &Axis) -> Vec<u8> {
    let (columns, rows) = (taps(width), taps(height));
    // No other rows are looked at.
    let first = rows.iter().map(|taps| taps.first).min().unwrap_or(0);
    let end = rows.iter().map(Taps::end).max().unwrap_or(0);
    let row_length = width.length as usize * 3;
    let narrow_length = columns.len() * 3;
    let mut narrow = Vec::with_capacity((end - first) * narrow_length);
    for row in pixels.chunks_exact(row_length).take(end).skip(first) {
        horizontally(row, &columns, &mut narrow);
    }
    let narrow: Vec<&[u8]> = narrow.chunks_exact(narrow_length).collect();
    let mut out = Vec::with_capacity(rows.len() * narrow_length);
    for Taps { first: row, weights } in &rows {
        let rows = narrow.get(row - first..).unwrap_or_default();
        vertically(rows, weights, narrow_length, &mut out);
    }
    out
}

fn horizontally(row: &[u8], columns: &[Taps], out: &mut Vec<u8>) {
    for Taps { first, weights } in columns {
        let pixels = row.get(first * 3..).unwrap_or_default();
        let mut sums = [HALF; 3];
        for (pixel, weight) in pixels.chunks_exact(3).zip(weights) {
            sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += i32::from(value) * weight);
        }
        out.extend(sums.map(byte));
    }
}

fn vertically(rows: &[&[u8]], weights: &[i32], length: usize, out: &mut Vec<u8>) {
    let mut sums = vec![HALF; length];
    for (row, weight) in rows.iter().zip(weights) {
        sums.iter_mut().zip(*row).for_each(|(sum, &value)| *sum += i32::from(value) * weight);
    }
    out.extend(sums.into_iter().map(byte));
}

/// Of a sum with [`BITS`] behind the point, the byte that is nearest.
fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// What each pixel that is kept is made of. Pillow's `precompute_coeffs`, operation by operation.
fn taps(axis: &Axis) -> Vec<Taps> {
    let scale = axis.length as f64 / axis.resized as f64;
    // A filter narrower than a pixel would miss some.
    let stretch = scale.max(1.0);
    let reach = REACH * stretch;
    let taps = |place: u64| {
        let center = (place as f64 + 0.5) * scale;
        // Towards zero, as C converts.
        let first = (center - reach + 0.5).max(0.0) as u64;
        let end = ((center + reach + 0.5) as u64).min(axis.length);
        let weights = (first..end).map(|pixel| filter((pixel as f64 - center + 0.5) * (1.0 / stretch)));
        let mut weights: Vec<f64> = weights.collect();
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        Taps { first: first as usize, weights: weights.into_iter().map(fixed).collect() }
    };
    axis.kept.clone().map(taps).collect()
}

/// The weight with [`BITS`] behind the point; halves are rounded away from zero.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << BITS);
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

/// Keys' cubic with a = -0.5.
fn filter(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
