//! Names the type of files by their content, with Google's Magika, exactly as its Python client does by default.

mod features;
mod tables;

use features::{FEATURES, extract, few_bytes};
use tables::{BLOCK_SIZE, ContentType, EMPTY, MIN_SIZE, TARGETS, Target};
use vespid_plugin::prelude::*;

struct FileType;

impl Model for FileType {
    fn describe() -> Result<Signature> {
        Ok(Signature::new()
            .input::<[u8]>("file", [ANY])
            .output::<str>("label", [ANY])
            .output::<str>("mime_type", [ANY])
            .output::<f32>("score", [ANY]))
    }

    fn predict(request: Request) -> Result<Response> {
        let files = request.input("file")?.elements()?;
        let mut features = Vec::new();
        // A file's content type where it is known without the graph.
        let known = files.iter().map(|file| look_at(file, &mut features)).collect::<Result<Vec<_>>>()?;
        let rated = if features.is_empty() { Vec::new() } else { rate(&features)? };

        let mut rated = rated.into_iter();
        let answers = known.into_iter().map(|known| match known {
            Some(content) => Ok((content, 1.0)),
            None => rated.next().ok_or_else(|| Error::internal("the graph answered with too few rows")),
        });
        let (contents, scores): (Vec<_>, Vec<_>) = answers.collect::<Result<_>>()?;
        let labels: Vec<&str> = contents.iter().map(|content| content.label).collect();
        let mime_types: Vec<&str> = contents.iter().map(|content| content.mime_type).collect();
        Ok(Response::new()
            .output("label", Tensor::bytes(&labels, [labels.len()])?)
            .output("mime_type", Tensor::bytes(&mime_types, [labels.len()])?)
            .output("score", Tensor::new(&scores, [labels.len()])?))
    }
}

/// Adds the features of the file, or says what it is where that takes no graph. Reads its first and last block alone.
fn look_at(file: &Element<'_>, features: &mut Vec<i32>) -> Result<Option<&'static ContentType>> {
    if file.is_empty() {
        return Ok(Some(&EMPTY));
    }
    let begin = file.read(0..file.len().min(BLOCK_SIZE))?;
    if file.len() < MIN_SIZE {
        return Ok(Some(few_bytes(&begin)));
    }
    if file.len() <= BLOCK_SIZE {
        return Ok(extract(&begin, &begin, features));
    }
    let end = file.read(file.len() - BLOCK_SIZE..file.len())?;
    Ok(extract(&begin, &end, features))
}

/// The content types and scores of the files whose features these are.
fn rate(features: &[i32]) -> Result<Vec<(&'static ContentType, f32)>> {
    let input = Tensor::new(features, [features.len() / FEATURES, FEATURES])?;
    let scores = Graph::load("magika")?.compute([("bytes", input)])?;
    let scores = scores.get("target_label")?.values::<f32>()?;
    Ok(scores
        .chunks_exact(TARGETS.len())
        .filter_map(best)
        .map(|(target, score)| (target.at(score), score))
        .collect())
}

/// The first of the labels with the highest score.
fn best(scores: &[f32]) -> Option<(&'static Target, f32)> {
    TARGETS.iter().zip(scores.iter().copied()).reduce(|best, next| if next.1 > best.1 { next } else { best })
}

vespid_plugin::export!(FileType);

#[cfg(test)]
mod tests {
    use super::*;

    /// Predicts with a graph that gives each row the score for the label at its first byte's place.
    fn predict(files: &[&[u8]], score: f32) -> (Vec<String>, Vec<String>, Vec<f32>) {
        vespid_plugin::testing::graph("magika", move |inputs| {
            let rows = inputs.get("bytes")?;
            let mut scores = Vec::new();
            for row in rows.values::<i32>()?.chunks_exact(FEATURES) {
                let place = usize::try_from(row[0]).unwrap();
                scores.extend((0..TARGETS.len()).map(|target| if target == place { score } else { 0.01 }));
            }
            Ok(vec![("target_label", Tensor::new(&scores, [rows.shape()[0], TARGETS.len()])?)])
        });
        let request = Request::new().with("file", Tensor::bytes(files, [files.len()]).unwrap());
        let response = FileType::predict(request).unwrap();
        let texts = |name| response.get(name).unwrap().to_strings().unwrap();
        let scores = response.get("score").unwrap();
        assert_eq!(scores.shape(), [files.len()]);
        (texts("label"), texts("mime_type"), scores.to_vec().unwrap())
    }

    #[test]
    fn a_batch_is_answered_in_order_whether_or_not_the_graph_is_asked() {
        let long = vec![0; 5000];
        let (labels, mime_types, scores) = predict(&[b"", &long, b"hello", b"\x01.......", b"\xff"], 0.75);
        // The first two of Magika's labels are 3gp and ace.
        assert_eq!(labels, ["empty", "3gp", "txt", "ace", "unknown"]);
        assert_eq!(mime_types[0], "inode/x-empty");
        assert_eq!(mime_types[2], "text/plain");
        assert_eq!(scores, [1.0, 0.75, 1.0, 0.75, 1.0]);
    }

    #[test]
    fn no_files_are_no_answers() {
        assert_eq!(predict(&[], 1.0), (vec![], vec![], vec![]));
    }

    #[test]
    fn a_label_is_answered_from_its_threshold_on() {
        let at = |label: &str, score| {
            let target = TARGETS.iter().find(|target| target.at(1.0).label == label).unwrap();
            target.at(score).label
        };
        assert_eq!((at("python", 0.5), at("python", 0.4999)), ("python", "txt"));
        assert_eq!((at("markdown", 0.75), at("markdown", 0.7499)), ("markdown", "txt"));
        assert_eq!((at("png", 0.5), at("png", 0.4)), ("png", "unknown"));
        // As a 32-bit float, 0.95 lies below 0.95 as a 64-bit float.
        assert_eq!((at("latex", 0.95), at("latex", 0.951)), ("txt", "latex"));
    }
}
