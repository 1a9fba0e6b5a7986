//! Names what is in a picture, with EfficientNet-Lite0 and as its reference pipeline in PyTorch and Pillow does it.
//!
//! Contract: `image` holds PNG and JPEG files, of which each is decoded ([`decode`]), cut and resized to what the graph
//! sees ([`prepare`]), and answered with its likeliest classes, the likeliest first. One that cannot be decoded is the
//! caller's mistake, and the message names it by its place. Cost: one image is decoded at a time, and the graph computes
//! [`BATCH`] of them at once, so that memory does not grow with their number. Left out: other formats, animations past
//! their first picture, colour profiles, and EXIF's orientation, which the reference ignores too.

mod decode;
mod labels;
mod prepare;
mod resample;

use labels::LABELS;
use prepare::{SIDE, prepare};
use vespid_plugin::prelude::*;

/// How many images the graph sees at once: 0.6 MB each, here and with the host.
const BATCH: usize = 8;
/// How many classes are answered where neither the request nor `[config]` says it.
const TOP_K: usize = 5;

/// The model.
pub struct ImageClassify;

impl Model for ImageClassify {
    fn describe() -> Result<Signature> {
        Ok(Signature::new()
            .input::<[u8]>("image", [ANY])
            .output::<str>("label", [ANY, ANY])
            .output::<i32>("index", [ANY, ANY])
            .output::<f32>("probability", [ANY, ANY]))
    }

    fn predict(request: Request) -> Result<Response> {
        let k = top_k(&request)?;
        let files = request.input("image")?.elements()?;
        let mut likeliest = Vec::with_capacity(files.len() * k);
        for (number, batch) in files.chunks(BATCH).enumerate() {
            let logits = compute(batch, number * BATCH)?;
            for logits in logits.chunks_exact(LABELS.len()) {
                likeliest.extend(rank(logits).take(k));
            }
        }
        let labels: Vec<&str> = likeliest.iter().map(|class| class.label).collect();
        let indexes: Vec<i32> = likeliest.iter().map(|class| class.index).collect();
        let probabilities: Vec<f32> = likeliest.iter().map(|class| class.probability).collect();
        let shape = [files.len(), k];
        Ok(Response::new()
            .output("label", Tensor::bytes(&labels, shape)?)
            .output("index", Tensor::new(&indexes, shape)?)
            .output("probability", Tensor::new(&probabilities, shape)?))
    }
}

/// How many classes the caller wants of each image.
fn top_k(request: &Request) -> Result<usize> {
    let fits = |k: &usize| (1..=LABELS.len()).contains(k);
    match request.parameter("top_k") {
        Some(Parameter::Integer(k)) => usize::try_from(*k).ok().filter(fits),
        Some(_) => None,
        None => {
            let k = config_as("top_k")?.unwrap_or(TOP_K);
            let range = || Error::internal(format!("[config] top_k = {k} is not from 1 to {}", LABELS.len()));
            return Some(k).filter(fits).ok_or_else(range);
        }
    }
    .ok_or_else(|| {
        Error::invalid(format!("the parameter 'top_k' is a whole number from 1 to {}", LABELS.len()))
    })
}

/// The logits of the files, of which the first is `first` in the request: a row of classes each.
fn compute(files: &[Element<'_>], first: usize) -> Result<Vec<f32>> {
    let mut pixels = Vec::with_capacity(files.len() * 3 * SIDE * SIDE);
    for (place, file) in files.iter().enumerate() {
        let image = decode::decode(&file.to_vec()?)
            .map_err(|error| error.context(format_args!("input 'image', element {}", first + place)))?;
        prepare(&image, &mut pixels);
    }
    let input = Tensor::new(&pixels, [files.len(), 3, SIDE, SIDE])?;
    let outputs = Graph::load("efficientnet-lite0")?.compute([("images", input)])?;
    let logits = outputs.get("logits")?;
    if logits.shape() != [files.len(), LABELS.len()] {
        return Err(Error::internal(format!("the graph answered {logits:?} to {} images", files.len())));
    }
    logits.to_vec()
}

/// A class, as likely as an image is of it.
struct Class {
    label: &'static str,
    index: i32,
    probability: f32,
}

/// All classes by their probability, and those of equal probability by their index. The softmax is in double precision.
fn rank(logits: &[f32]) -> impl Iterator<Item = Class> {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = move |logit: f32| f64::from(logit - greatest).exp();
    let sum: f64 = logits.iter().map(|&logit| weight(logit)).sum();
    let mut classes: Vec<_> = (0..).zip(logits.iter().copied()).zip(LABELS).collect();
    classes.sort_by(|((_, a), _), ((_, b), _)| b.total_cmp(a));
    classes.into_iter().map(move |((index, logit), label)| Class {
        label,
        index,
        probability: (weight(logit) / sum) as f32,
    })
}

vespid_plugin::export!(ImageClassify);

#[cfg(test)]
mod tests;
