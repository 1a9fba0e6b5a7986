//! Says what files are, and of pictures what is in them, by asking two other models.
//!
//! Contract: `file-type` is asked about all files at once, and `image-classify` about the pictures among them at once. Cost: the
//! files are handed on, and nothing is copied; where only some are pictures, those are copied once.

use vespid_plugin::prelude::*;

/// What `image-classify` can decode.
const PICTURES: [&str; 2] = ["image/jpeg", "image/png"];

struct FileDescribe;

impl Model for FileDescribe {
    fn describe() -> Result<Signature> {
        Ok(Signature::new()
            .input::<[u8]>("file", [ANY])
            .output::<str>("type", [ANY])
            .output::<str>("mime_type", [ANY])
            .output::<str>("content", [ANY]))
    }

    fn predict(mut request: Request) -> Result<Response> {
        let files = request.take("file")?;
        let mut types = infer("file-type", [("file", files.share()?)])?;
        let mime_types = types.get("mime_type")?.to_strings()?;
        let pictures: Vec<bool> = mime_types.iter().map(|own| PICTURES.contains(&own.as_str())).collect();
        let mut seen = look_at(files, &pictures)?.into_iter();
        let content = |is_picture: &bool| is_picture.then(|| seen.next()).flatten().unwrap_or_default();
        let contents: Vec<String> = pictures.iter().map(content).collect();
        Ok(Response::new()
            .output("type", types.take("label")?)
            .output("mime_type", types.take("mime_type")?)
            .output("content", Tensor::bytes(&contents, [contents.len()])?))
    }
}

/// What is in each of the pictures, in their order.
fn look_at(files: Tensor, pictures: &[bool]) -> Result<Vec<String>> {
    let images = match pictures.iter().filter(|is_picture| **is_picture).count() {
        0 => return Ok(Vec::new()),
        all if all == pictures.len() => files,
        _ => pick(&files, pictures)?,
    };
    let answer = infer("image-classify", [("image", images)])?;
    let labels = answer.get("label")?;
    // The likeliest class stands first in the row of each picture.
    let [_, classes] = labels.shape() else {
        return Err(Error::internal(format!("image-classify answered {labels:?}")));
    };
    Ok(labels.to_strings()?.into_iter().step_by(*classes).collect())
}

fn pick(files: &Tensor, pictures: &[bool]) -> Result<Tensor> {
    let elements = files.elements()?.into_iter().zip(pictures).filter(|(_, is_picture)| **is_picture);
    let picked = elements.map(|(file, _)| file.to_vec()).collect::<Result<Vec<_>>>()?;
    Tensor::bytes(&picked, [picked.len()])
}

vespid_plugin::export!(FileDescribe);

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the other models: a file is of the type that its text says, and a picture shows what its text says.
    fn describe(files: &[&str]) -> (Vec<String>, Vec<String>) {
        vespid_plugin::testing::model("file-type", |inputs| {
            let files = inputs.get("file")?.to_strings()?;
            let types: Vec<&str> = files
                .iter()
                .map(|file| if file.starts_with("a ") { "image/png" } else { "text/plain" })
                .collect();
            let types = || Tensor::bytes(&types, [types.len()]);
            Ok(vec![("label", types()?), ("mime_type", types()?)])
        });
        vespid_plugin::testing::model("image-classify", |inputs| {
            let images = inputs.get("image")?.to_strings()?;
            assert!(!images.is_empty() && images.iter().all(|image| image.starts_with("a ")), "{images:?}");
            let labels: Vec<&str> = images.iter().flat_map(|image| [image.as_str(), "nothing"]).collect();
            Ok(vec![("label", Tensor::bytes(&labels, [images.len(), 2])?)])
        });
        let request = Request::new().with("file", Tensor::bytes(files, [files.len()]).unwrap());
        let response = FileDescribe::predict(request).unwrap();
        let texts = |name| response.get(name).unwrap().to_strings().unwrap();
        (texts("mime_type"), texts("content"))
    }

    #[test]
    fn pictures_alone_are_looked_at_and_keep_their_places() {
        let (types, contents) = describe(&["text", "a cat", "more text", "a dog"]);
        assert_eq!(types, ["text/plain", "image/png", "text/plain", "image/png"]);
        assert_eq!(contents, ["", "a cat", "", "a dog"]);
        assert_eq!(describe(&["a cat", "a dog"]).1, ["a cat", "a dog"]);
        assert_eq!(describe(&["text"]).1, [""]);
        assert!(describe(&[]).1.is_empty());
    }
}
