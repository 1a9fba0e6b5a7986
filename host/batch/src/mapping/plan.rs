//! The check of a job's columns against the model, before any row is read.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use vespid_dataset::Format;
use vespid_types::{Datatype, Extent, Signature, TensorSpec};

use super::types::{column_type, converts, leaf, nested, with_leaf};
use super::{Input, Mapping, Output};
use crate::BatchError;
use crate::spec::{JobSpec, Keep, KeepWord, OneOrMore};

/// The column of files' contents, which is not kept unless it is named.
const CONTENT: &str = "content";

/// More columns than a list is spread over in CSV.
const MAX_SPREAD: u64 = 4096;

/// What a mapping is made for.
#[derive(Clone, Copy, Debug)]
pub struct MappingOptions<'a> {
    /// What is asked for.
    pub choices: Choices<'a>,
    /// The model's.
    pub signature: &'a Signature,
    /// The columns that there are.
    pub columns: Columns<'a>,
    /// The format that is written.
    pub output: Format,
}

/// Which columns are which inputs and outputs, as a job or a stream has it.
#[derive(Clone, Copy, Debug)]
pub struct Choices<'a> {
    /// The columns of each input; that of its name where it is not here.
    pub inputs: &'a BTreeMap<String, OneOrMore>,
    /// The outputs that are written, and their columns; all of them where it is empty.
    pub outputs: &'a BTreeMap<String, String>,
    /// Outputs of datatype BYTES that are written as bytes.
    pub binary: &'a [String],
    /// The columns that are written beside the outputs.
    pub keep: Option<&'a Keep>,
    /// Whether a call takes many rows.
    pub batched: Option<bool>,
}

impl<'a> From<&'a JobSpec> for Choices<'a> {
    fn from(job: &'a JobSpec) -> Self {
        let JobSpec { inputs, outputs, binary, keep, batched, .. } = job;
        Self { inputs, outputs, binary, keep: keep.as_ref(), batched: *batched }
    }
}

/// The columns that there are.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// Their names and types.
    pub schema: &'a Schema,
    /// What they are read from.
    pub format: Format,
    /// Those that come from folders' names.
    pub partitions: &'a [String],
}

impl Mapping {
    /// Finds the column of each input and the type of each column that is written.
    ///
    /// # Errors
    /// [`BatchError::Job`] with the input, output or column that does not fit.
    pub fn plan(options: MappingOptions<'_>) -> Result<Self, BatchError> {
        let MappingOptions { choices, signature, columns, output } = options;
        let batched = choices.batched.unwrap_or_else(|| takes_rows(signature));
        let mut reading = Reading { columns, wanted: Vec::new() };
        for input in choices.inputs.keys() {
            known(&signature.inputs, input, "input", "inputs")?;
        }
        let mut inputs = Vec::new();
        for spec in &signature.inputs {
            if let Some(input) = reading.input(spec, choices.inputs.get(&spec.name), batched)? {
                inputs.push(input);
            }
        }
        let kept = reading.kept(choices.keep)?;
        let outputs = written(choices, signature, batched, output)?;
        let mut fields: Vec<FieldRef> =
            kept.iter().filter_map(|index| reading.wanted.get(*index)).map(Arc::clone).collect();
        for (output, column) in &outputs {
            fields.extend(output.fields(column)?);
        }
        distinct(&fields)?;
        Ok(Self {
            wanted: reading.wanted,
            schema: Arc::new(Schema::new(fields)),
            batched,
            inputs,
            outputs: outputs.into_iter().map(|(output, _)| output).collect(),
            kept,
        })
    }
}

/// Whether all tensors have a first dimension of any extent: then it is taken for one of rows.
fn takes_rows(signature: &Signature) -> bool {
    let mut tensors = signature.inputs.iter().chain(&signature.outputs);
    tensors.all(|spec| spec.shape.first() == Some(&Extent::Any))
}

/// The shape of one row of a tensor.
fn row_shape(spec: &TensorSpec, batched: bool, field: &str) -> Result<Vec<Extent>, BatchError> {
    match (batched, &spec.shape[..]) {
        (false, shape) => Ok(shape.to_vec()),
        (true, [Extent::Any, shape @ ..]) => Ok(shape.to_vec()),
        (true, _) => {
            let reason = format!("'{}' has no first dimension of any extent: use batched: false", spec.name);
            Err(BatchError::job(field, reason))
        }
    }
}

fn known(specs: &[TensorSpec], name: &str, what: &str, field: &str) -> Result<(), BatchError> {
    if specs.iter().any(|spec| spec.name == *name) {
        return Ok(());
    }
    let names: Vec<_> = specs.iter().map(|spec| format!("'{}'", spec.name)).collect();
    Err(BatchError::job(
        format!("{field}.{name}"),
        format!("the model has no such {what}; it has {}", names.join(", ")),
    ))
}

struct Reading<'a> {
    columns: Columns<'a>,
    wanted: Vec<FieldRef>,
}

impl Reading<'_> {
    fn input(
        &mut self,
        spec: &TensorSpec,
        columns: Option<&OneOrMore>,
        batched: bool,
    ) -> Result<Option<Input>, BatchError> {
        let field = format!("inputs.{}", spec.name);
        let shape = row_shape(spec, batched, &field)?;
        if spec.datatype == Datatype::Bf16 {
            return Err(BatchError::job(field, "columns cannot hold BF16"));
        }
        let (names, stacked) = match columns {
            Some(OneOrMore::One(name)) => (std::slice::from_ref(name), false),
            Some(OneOrMore::More(names)) => (&names[..], true),
            None if spec.optional && self.columns.schema.column_with_name(&spec.name).is_none() => {
                return Ok(None);
            }
            None => (std::slice::from_ref(&spec.name), false),
        };
        let of_column = match (stacked, &shape[..]) {
            (false, shape) => shape,
            (true, [extent, rest @ ..]) if fits(*extent, names.len()) => rest,
            (true, _) => {
                let reason =
                    format!("{} columns do not make a tensor of shape {}", names.len(), shown(&shape));
                return Err(BatchError::job(field, reason));
            }
        };
        let positions = names.iter().map(|name| self.column(name, spec, of_column, &field));
        let positions = positions.collect::<Result<_, BatchError>>()?;
        let (name, datatype) = (spec.name.clone(), spec.datatype);
        Ok(Some(Input { name, datatype, columns: positions, stacked, shape }))
    }

    /// The position of a column that becomes a tensor, or a part of one.
    fn column(
        &mut self,
        name: &str,
        spec: &TensorSpec,
        shape: &[Extent],
        field: &str,
    ) -> Result<usize, BatchError> {
        let Ok(found) = self.columns.schema.field_with_name(name) else {
            let there: Vec<_> =
                self.columns.schema.fields().iter().map(|field| format!("'{}'", field.name())).collect();
            let reason = format!("there is no column '{name}'; there are {}", there.join(", "));
            return Err(BatchError::job(field, reason));
        };
        let format = self.columns.format;
        let (values, depth) = leaf(found.data_type());
        // What a sample of JSON looks like may be narrower than what comes: what the model takes decides.
        let values = match (format, values.is_numeric() || values.is_null(), json_type(spec.datatype)) {
            (Format::Jsonl, true, Some(wider)) => wider,
            _ => values.clone(),
        };
        let flat = shape.iter().all(|extent| *extent == Extent::Fixed(1));
        // Folders' names are text, and stand for values.
        let text_is_values =
            format == Format::Csv || self.columns.partitions.iter().any(|partition| partition == name);
        let right = (depth == shape.len() || (depth == 0 && flat))
            && converts(&values, spec.datatype, text_is_values);
        let lengths_fit =
            lengths(found.data_type()).zip(shape).all(|(length, extent)| match (length, extent) {
                (Some(length), Extent::Fixed(extent)) => length == *extent,
                _ => true,
            });
        if !right || !lengths_fit {
            let hint = match (depth, shape) {
                (0, [Extent::Fixed(count)]) if *count > 1 => {
                    format!("; name the {count} columns of its values in a list, or a column of lists")
                }
                _ => String::new(),
            };
            let reason = format!(
                "column '{name}' is {}; the model takes {} of shape {} a row{hint}",
                found.data_type(),
                spec.datatype,
                shown(shape)
            );
            return Err(BatchError::job(field, reason));
        }
        Ok(self.want(name, with_leaf(found.data_type(), &values)))
    }

    fn want(&mut self, name: &str, data_type: DataType) -> usize {
        if let Some(index) = self.wanted.iter().position(|field| field.name() == name) {
            return index;
        }
        self.wanted.push(Arc::new(Field::new(name, data_type, true)));
        self.wanted.len() - 1
    }

    fn kept(&mut self, keep: Option<&Keep>) -> Result<Vec<usize>, BatchError> {
        let schema = self.columns.schema;
        let names: Vec<String> = match keep {
            Some(Keep::Word(KeepWord::None)) => Vec::new(),
            Some(Keep::Columns(names)) => names.clone(),
            Some(Keep::Word(KeepWord::All)) | None => {
                let left_out =
                    |name: &str| keep.is_none() && self.columns.format == Format::Files && name == CONTENT;
                let names = schema.fields().iter().map(|field| field.name().clone());
                names.filter(|name| !left_out(name)).collect()
            }
        };
        let position = |name: &String| match schema.field_with_name(name) {
            Ok(field) => Ok(self.want(name, field.data_type().clone())),
            Err(_) => Err(BatchError::job("keep", format!("there is no column '{name}'"))),
        };
        names.iter().map(position).collect()
    }
}

/// The columns that JSON objects have to have for a model's inputs, of the types that these take.
///
/// # Errors
/// [`BatchError::Job`] where an input's shape has no dimension of rows and `batched` says so.
pub fn object_columns(choices: Choices<'_>, signature: &Signature) -> Result<Schema, BatchError> {
    let batched = choices.batched.unwrap_or_else(|| takes_rows(signature));
    let mut fields: Vec<Field> = Vec::new();
    for spec in &signature.inputs {
        let shape = row_shape(spec, batched, &format!("inputs.{}", spec.name))?;
        let (names, shape) = match choices.inputs.get(&spec.name) {
            None => (std::slice::from_ref(&spec.name), &shape[..]),
            Some(OneOrMore::One(name)) => (std::slice::from_ref(name), &shape[..]),
            Some(OneOrMore::More(names)) => (&names[..], shape.get(1..).unwrap_or_default()),
        };
        let leaf = match spec.datatype {
            Datatype::Bool => DataType::Boolean,
            Datatype::Bytes => DataType::Utf8,
            datatype => json_type(datatype).unwrap_or(DataType::Float64),
        };
        // A value for a list of one is taken as well, and that is decided by the first: here it is a list.
        let any: Vec<Extent> = shape.iter().map(|_| Extent::Any).collect();
        for name in names {
            if !fields.iter().any(|field| field.name() == name) {
                fields.push(Field::new(name, nested(leaf.clone(), &any), true));
            }
        }
    }
    Ok(Schema::new(fields))
}

/// What JSON's numbers are read as, so that no row is refused for being unlike the first ones.
fn json_type(datatype: Datatype) -> Option<DataType> {
    match datatype {
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => Some(DataType::Float64),
        Datatype::Uint64 => Some(DataType::UInt64),
        Datatype::Bool | Datatype::Bytes => None,
        _ => Some(DataType::Int64),
    }
}

/// The lengths of the lists in a type, outermost first, where it says them.
fn lengths(data_type: &DataType) -> impl Iterator<Item = Option<u64>> {
    std::iter::successors(Some(data_type), |data_type| match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Some(item.data_type())
        }
        _ => None,
    })
    .map(|data_type| match data_type {
        DataType::FixedSizeList(_, length) => u64::try_from(*length).ok(),
        _ => None,
    })
}

fn fits(extent: Extent, count: usize) -> bool {
    match extent {
        Extent::Any => true,
        Extent::Fixed(extent) => extent == count as u64,
    }
}

fn shown(shape: &[Extent]) -> String {
    format!("{:?}", shape.iter().map(|extent| extent.to_signed()).collect::<Vec<_>>())
}

/// The outputs that are written, each with its column.
fn written(
    choices: Choices<'_>,
    signature: &Signature,
    batched: bool,
    format: Format,
) -> Result<Vec<(Output, String)>, BatchError> {
    for output in choices.outputs.keys() {
        known(&signature.outputs, output, "output", "outputs")?;
    }
    for output in choices.binary {
        known(&signature.outputs, output, "output", "binary")?;
    }
    let column = |spec: &TensorSpec| match choices.outputs {
        outputs if outputs.is_empty() => Some(spec.name.clone()),
        outputs => outputs.get(&spec.name).cloned(),
    };
    let mut outputs = Vec::new();
    for spec in &signature.outputs {
        let Some(column) = column(spec) else { continue };
        let field = format!("outputs.{}", spec.name);
        let shape = row_shape(spec, batched, &field)?;
        let spread = spread(&shape, format).map_err(|reason| BatchError::job(&field, reason))?;
        let binary = choices.binary.contains(&spec.name);
        let (name, datatype) = (spec.name.clone(), spec.datatype);
        outputs.push((Output { name, datatype, shape, binary, spread }, column));
    }
    Ok(outputs)
}

/// How many columns a list makes in a format that has none.
fn spread(shape: &[Extent], format: Format) -> Result<Option<usize>, String> {
    if format != Format::Csv || shape.is_empty() {
        return Ok(None);
    }
    let extents = shape.iter().map(|extent| match extent {
        Extent::Fixed(extent) => Some(*extent),
        Extent::Any => None,
    });
    let count = extents.into_iter().try_fold(1_u64, |product, extent| product.checked_mul(extent?));
    match count {
        Some(count) if count <= MAX_SPREAD => Ok(usize::try_from(count).ok()),
        _ => Err(format!(
            "CSV has no lists, and shape {} does not make up to {MAX_SPREAD} columns: write jsonl, parquet or arrow, or leave \
             this output out",
            shown(shape)
        )),
    }
}

impl Output {
    /// The fields of its columns.
    fn fields(&self, column: &str) -> Result<Vec<FieldRef>, BatchError> {
        let leaf = column_type(self.datatype, self.binary).ok_or_else(|| {
            BatchError::job(
                format!("outputs.{}", self.name),
                "columns cannot hold BF16: leave this output out",
            )
        })?;
        Ok(match self.spread {
            Some(count) => (0..count)
                .map(|index| Arc::new(Field::new(format!("{column}_{index}"), leaf.clone(), false)))
                .collect(),
            None => vec![Arc::new(Field::new(column, nested(leaf, &self.shape), false))],
        })
    }
}

fn distinct(fields: &[FieldRef]) -> Result<(), BatchError> {
    let mut names = HashSet::new();
    match fields.iter().find(|field| !names.insert(field.name())) {
        None => Ok(()),
        Some(field) => {
            let reason = format!(
                "two columns would be named '{}': give an output another column's name, or keep fewer columns (keep)",
                field.name()
            );
            Err(BatchError::job("outputs", reason))
        }
    }
}

/// The types of a job's text columns as a dataset takes them.
pub(crate) fn dataset_types(
    types: &BTreeMap<String, Datatype>,
) -> Result<BTreeMap<String, DataType>, BatchError> {
    let column = |(column, datatype): (&String, &Datatype)| match column_type(*datatype, false) {
        Some(data_type) => Ok((column.clone(), data_type)),
        None => Err(BatchError::job(format!("input.types.{column}"), "columns cannot hold BF16")),
    };
    types.iter().map(column).collect()
}
