//! Rewrites Magika's graph so that the embedded backend rounds as ONNX Runtime does.
//!
//! `magika-graph IN OUT` reads the graph of Magika's Python package and writes an equal one. Magika names types by
//! thresholds on a score, and its graph magnifies rounding: scores agree with those of Google's client, which runs one
//! file at a time through ONNX Runtime, only where sums and `tanh` are computed as there. Exactness is not the aim:
//! the graph as it is gives scores that are nearer to the exact ones on this backend than on ONNX Runtime.

mod error;
mod rewrite;
mod table;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use rten_onnx::onnx::ModelProto;

use crate::error::Error;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [from, to] = arguments.as_slice() else {
        eprintln!("usage: magika-graph IN OUT");
        return ExitCode::from(2);
    };
    match run(from.as_ref(), to.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Leaves a file alone that holds what would be written.
fn run(from: &Path, to: &Path) -> Result<(), Error> {
    let original = fs::read(from).map_err(|error| Error::file("read", from, &error))?;
    let rewritten = convert(&original)?;
    if fs::read(to).is_ok_and(|there| there == rewritten) {
        return Ok(());
    }
    fs::write(to, rewritten).map_err(|error| Error::file("written", to, &error))
}

fn convert(original: &[u8]) -> Result<Vec<u8>, Error> {
    let mut model = ModelProto::parse_buf(original)?;
    let graph = model.graph.as_mut().ok_or_else(|| Error::unexpected("the file holds no graph"))?;
    rewrite::rewrite(graph)?;
    Ok(model.write_buf()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The model of Magika's package, which `cargo xtask setup magika` fetches.
    pub(crate) fn original() -> Vec<u8> {
        let path = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../assets/model.onnx");
        fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}: run `cargo xtask setup magika`", path.display()))
    }

    #[test]
    fn a_file_that_is_no_model_is_refused() {
        assert!(matches!(convert(b""), Err(Error::Unexpected(_))));
        assert!(matches!(convert(b"no model"), Err(Error::Onnx(_))));
    }

    #[test]
    fn all_but_the_nodes_and_their_constants_stays() {
        let (before, after) = (original(), convert(&original()).unwrap());
        let [before, after] = [before, after].map(|bytes| ModelProto::parse_buf(&bytes).unwrap());
        assert_eq!(after.ir_version, before.ir_version);
        assert_eq!(format!("{:?}", after.opset_import), format!("{:?}", before.opset_import));
        let (before, after) = (before.graph.unwrap(), after.graph.unwrap());
        assert_eq!(format!("{:?}", after.input), format!("{:?}", before.input));
        assert_eq!(format!("{:?}", after.output), format!("{:?}", before.output));
        // 16 nodes fewer for the table, and one more for each of the two sums.
        assert_eq!((before.node.len(), after.node.len()), (95, 81));
        for tensor in &before.initializer {
            let Some(kept) = after.initializer.iter().find(|kept| kept.name == tensor.name) else { continue };
            assert_eq!((&kept.dims, kept.data_type), (&tensor.dims, tensor.data_type));
            assert_eq!(kept.raw_data, tensor.raw_data);
        }
        let same = after.node.iter().filter(|node| before.node.iter().any(|other| alike(node, other)));
        assert_eq!(same.count(), 76);
    }

    fn alike(left: &impl std::fmt::Debug, right: &impl std::fmt::Debug) -> bool {
        format!("{left:?}") == format!("{right:?}")
    }

    #[test]
    fn a_rewritten_graph_is_not_rewritten_again() {
        let error = convert(&convert(&original()).unwrap()).unwrap_err();
        assert!(matches!(error, Error::Unexpected(_)), "{error}");
    }

    #[test]
    fn a_file_that_is_there_already_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("magika-graph-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [from, to] = ["in.onnx", "out.onnx"].map(|name| folder.join(name));
        fs::write(&from, original()).unwrap();
        fs::write(&to, "stale").unwrap();
        run(&from, &to).unwrap();
        let written = fs::metadata(&to).unwrap().modified().unwrap();
        run(&from, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), written);
        assert_eq!(fs::read(&to).unwrap(), convert(&original()).unwrap());
        fs::remove_dir_all(folder).unwrap();
    }
}
