//! Outputs as a table: a row for each row of the input and a column an output, where all outputs share their first
//! dimension; otherwise a row an output.

use std::path::PathBuf;

use comfy_table::{Cell, CellAlignment, Table};
use serde_json::Value;

use crate::oip::{Output, Prediction};
use crate::ui;

/// How many values of one cell are shown.
const SHOWN: usize = 8;

/// The table of a prediction; `files` are the inputs, where the inputs were files.
pub(super) fn render(prediction: &Prediction, files: &[PathBuf]) -> Table {
    let outputs: Vec<(&Output, Vec<&Value>)> =
        prediction.outputs.iter().map(|output| (output, output.elements())).collect();
    match rows(&outputs) {
        Some(rows) if files.is_empty() || files.len() == rows => by_row(&outputs, rows, files),
        _ => by_output(&outputs),
    }
}

/// The extent of the first dimension, where all outputs have the same and the data to it.
fn rows(outputs: &[(&Output, Vec<&Value>)]) -> Option<usize> {
    let first = usize::try_from(*outputs.first()?.0.shape.first()?).ok()?;
    let fits = |(output, values): &(&Output, Vec<&Value>)| {
        let elements = output.shape.iter().try_fold(1_u64, |product, extent| product.checked_mul(*extent));
        output.shape.first() == Some(&(first as u64)) && elements == Some(values.len() as u64)
    };
    outputs.iter().all(fits).then_some(first)
}

fn by_row(outputs: &[(&Output, Vec<&Value>)], rows: usize, files: &[PathBuf]) -> Table {
    let file_header = (!files.is_empty()).then(|| "file".to_owned());
    let mut table =
        ui::table(file_header.into_iter().chain(outputs.iter().map(|(output, _)| ui::clean(&output.name))));
    for row in 0..rows {
        let file = files.get(row).map(|path| Cell::new(ui::clean(&path.display().to_string())));
        let cells = outputs.iter().map(|(output, values)| {
            let width = values.len() / rows;
            cell(output, values.get(row * width..(row + 1) * width).unwrap_or_default())
        });
        table.add_row(file.into_iter().chain(cells));
    }
    table
}

fn by_output(outputs: &[(&Output, Vec<&Value>)]) -> Table {
    let mut table = ui::table(["output", "datatype", "shape", "values"]);
    for (output, values) in outputs {
        let shape = format!("{:?}", output.shape);
        let name = Cell::new(ui::clean(&output.name));
        table.add_row([name, Cell::new(ui::clean(&output.datatype)), Cell::new(shape), cell(output, values)]);
    }
    table
}

fn cell(output: &Output, values: &[&Value]) -> Cell {
    let float = output.datatype.starts_with("FP") || output.datatype == "BF16";
    let text = |value: &Value| text(value, float);
    if let [value] = values {
        let alignment = if value.is_number() { CellAlignment::Right } else { CellAlignment::Left };
        return Cell::new(text(value)).set_alignment(alignment);
    }
    let mut texts: Vec<String> = values.iter().take(SHOWN).map(|value| text(value)).collect();
    if values.len() > SHOWN {
        texts.push(format!("... {} in all", values.len()));
    }
    Cell::new(format!("[{}]", texts.join(", ")))
}

/// A value for people: floats to four decimals. Servers write whole ones without a point.
fn text(value: &Value, float: bool) -> String {
    match value {
        Value::Number(number) if float => format!("{:.4}", number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => ui::clean(text),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(json: &str, files: &[&str]) -> Vec<String> {
        let prediction: Prediction = serde_json::from_str(json).unwrap();
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        let mut table = render(&prediction, &files);
        table.load_style(comfy_table::presets::NOTHING).force_no_tty();
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    const IRIS: &str = r#"{"outputs":[
        {"name":"species","datatype":"BYTES","shape":[2],"data":["setosa","vir\ngin"]},
        {"name":"p","datatype":"FP32","shape":[2,2],"data":[[0.999951,0.00005],[1,0.5]]}]}"#;

    #[test]
    fn outputs_are_columns() {
        assert_eq!(lines(IRIS, &[]), ["species p", r"setosa [1.0000, 0.0001]", r"vir\ngin [1.0000, 0.5000]"]);
        assert_eq!(lines(IRIS, &["a", "b"])[1], "a setosa [1.0000, 0.0001]");
    }

    #[test]
    fn outputs_of_other_extents_are_rows() {
        let json = r#"{"outputs":[{"name":"a","datatype":"INT64","shape":[2],"data":[1,2]},
            {"name":"b","datatype":"BOOL","shape":[],"data":[true]}]}"#;
        assert_eq!(
            lines(json, &[]),
            ["output datatype shape values", "a INT64 [2] [1, 2]", "b BOOL [] true"]
        );
        assert_eq!(lines(IRIS, &["only"])[0], "output datatype shape values");
    }

    #[test]
    fn long_cells_are_cut() {
        let json =
            r#"{"outputs":[{"name":"a","datatype":"INT64","shape":[1,9],"data":[1,2,3,4,5,6,7,8,9]}]}"#;
        assert_eq!(lines(json, &[])[1], "[1, 2, 3, 4, 5, 6, 7, 8, ... 9 in all]");
    }
}
