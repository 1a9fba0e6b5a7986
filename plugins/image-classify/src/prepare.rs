//! From the pixels of an image to what the graph sees of it.
//!
//! As torchvision's `Resize(256, BICUBIC)` and `CenterCrop(224)` do it on Pillow's images: the shorter side becomes 256
//! pixels, and of that the middle is taken. What would be cut off is not computed. The graph was trained with
//! `(pixel - 127) / 128`, which single precision holds exactly.

use std::ops::Range;

use crate::decode::Image;
use crate::resample::{self, Axis};

/// The side of the square that the graph sees.
pub(crate) const SIDE: usize = 224;
/// What the shorter side of an image becomes.
const SHORTER: u64 = 256;

/// Adds the graph's view of an image: all of its red, all of its green, all of its blue.
pub(crate) fn prepare(image: &Image, out: &mut Vec<f32>) {
    let square = square(image);
    for channel in 0..3 {
        let values = square.iter().skip(channel).step_by(3);
        out.extend(values.map(|&value| (f32::from(value) - 127.0) / 128.0));
    }
}

/// The middle of the resized image, SIDE × SIDE pixels.
pub(crate) fn square(image: &Image) -> Vec<u8> {
    let (width, height) = (image.width as u64, image.height as u64);
    let shorter = width.min(height);
    let axis = |length: u64| {
        let resized = SHORTER * length / shorter;
        Axis { length, resized, kept: middle(resized) }
    };
    resample::bicubic(&image.pixels, &axis(width), &axis(height))
}

/// Where the middle of a side begins and ends. Half a pixel is rounded as Python rounds: to the even one.
fn middle(length: u64) -> Range<u64> {
    let side = SIDE as u64;
    let around = length - side;
    let half = around / 2;
    let start = if around.is_multiple_of(2) { half } else { half + half % 2 };
    start..start + side
}
