//! Comparisons: in which type a column and a literal are compared, and the kernels that do it.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, RecordBatch, Scalar, StringArray,
    new_null_array,
};
use arrow::compute::kernels::cmp;
use arrow::compute::{CastOptions, cast, cast_with_options, ilike, like};
use arrow::datatypes::{DataType, Schema, TimeUnit};

use super::{column, type_of};

/// A literal, not yet of any column's type.
#[derive(Clone, Debug)]
pub(super) enum Literal {
    Number(String),
    Text(String),
    Boolean(bool),
    Null,
}

#[derive(Clone, Debug)]
pub(super) enum Operand {
    Column(String),
    Literal(Literal),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// `column operator with`.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) column: String,
    pub(super) operator: Operator,
    pub(super) with: Operand,
}

/// `column LIKE pattern`.
#[derive(Clone, Debug)]
pub(super) struct Like {
    pub(super) column: String,
    pub(super) pattern: String,
    pub(super) any_case: bool,
}

impl fmt::Display for Literal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(digits) => out.write_str(digits),
            Self::Text(text) => write!(out, "'{text}'"),
            Self::Boolean(value) => write!(out, "{value}"),
            Self::Null => out.write_str("NULL"),
        }
    }
}

impl Operator {
    /// What says the same with the sides exchanged.
    pub(super) fn turned(self) -> Self {
        match self {
            Self::Equal | Self::NotEqual => self,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
        }
    }
}

impl Comparison {
    pub(super) fn columns(&self) -> impl Iterator<Item = &String> {
        let other = if let Operand::Column(name) = &self.with { Some(name) } else { None };
        std::iter::once(&self.column).chain(other)
    }

    pub(super) fn check(&self, schema: &Schema) -> Result<(), String> {
        let column = type_of(schema, &self.column)?;
        match &self.with {
            Operand::Literal(literal) => plan(&self.column, column, literal).map(|_| ()),
            Operand::Column(name) => {
                let other = type_of(schema, name)?;
                let (left, right) = (plain(column), plain(other));
                if left != right || left.is_nested() {
                    return Err(format!(
                        "columns '{}' ({column}) and '{name}' ({other}) cannot be compared",
                        self.column
                    ));
                }
                Ok(())
            }
        }
    }

    pub(super) fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray, String> {
        let values = column(batch, &self.column)?;
        match &self.with {
            Operand::Literal(literal) => {
                let (in_type, literal) = plan(&self.column, values.data_type(), literal)?;
                let values = normal(values, &in_type)?;
                compare(self.operator, &values, &Scalar::new(literal))
            }
            Operand::Column(name) => {
                let other = column(batch, name)?;
                let in_type = plain(values.data_type());
                compare(self.operator, &normal(values, &in_type)?, &normal(other, &in_type)?)
            }
        }
    }

    /// The column whose bounds bound this comparison: where a literal is compared in an order that the column's own is. That of text
    /// against a number is not.
    pub(super) fn bounded_column(&self) -> Option<&str> {
        matches!(self.with, Operand::Literal(_)).then_some(self.column.as_str())
    }

    /// How `values` compare; none where they do not compare in their own order.
    pub(super) fn with_values(&self, operator: Operator, values: &ArrayRef) -> Option<BooleanArray> {
        let Operand::Literal(literal) = &self.with else { return None };
        let (in_type, scalar) = plan(&self.column, values.data_type(), literal).ok()?;
        if is_text(&plain(values.data_type())) && !is_text(&in_type) {
            return None;
        }
        compare(operator, &normal(values, &in_type).ok()?, &Scalar::new(scalar)).ok()
    }
}

impl Like {
    pub(super) fn check(&self, schema: &Schema) -> Result<(), String> {
        let data_type = type_of(schema, &self.column)?;
        if is_text(&plain(data_type)) {
            return Ok(());
        }
        Err(format!("column '{}' is {data_type}: LIKE is for text", self.column))
    }

    pub(super) fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray, String> {
        let values = column(batch, &self.column)?;
        let in_type = plain(values.data_type());
        let values = normal(values, &in_type)?;
        let pattern = Scalar::new(exactly(&text(&self.pattern), &in_type)?);
        let matched = if self.any_case { ilike(&values, &pattern) } else { like(&values, &pattern) };
        matched.map_err(|error| format!("column '{}': {error}", self.column))
    }
}

fn compare(
    operator: Operator,
    left: &dyn arrow::array::Datum,
    right: &dyn arrow::array::Datum,
) -> Result<BooleanArray, String> {
    let kernel = match operator {
        Operator::Equal => cmp::eq,
        Operator::NotEqual => cmp::neq,
        Operator::Less => cmp::lt,
        Operator::LessOrEqual => cmp::lt_eq,
        Operator::Greater => cmp::gt,
        Operator::GreaterOrEqual => cmp::gt_eq,
    };
    kernel(left, right).map_err(|error| error.to_string())
}

/// The type in which a column is compared with a literal, and the literal in it.
fn plan(name: &str, column: &DataType, literal: &Literal) -> Result<(DataType, ArrayRef), String> {
    let data_type = plain(column);
    let refused = || format!("column '{name}' is {column}: it cannot be compared with {literal}");
    if data_type.is_nested() {
        return Err(refused());
    }
    let planned = match literal {
        Literal::Null => Ok((data_type.clone(), new_null_array(&data_type, 1))),
        Literal::Boolean(value) if data_type == DataType::Boolean => {
            Ok((data_type, Arc::new(BooleanArray::from(vec![*value])) as ArrayRef))
        }
        Literal::Boolean(_) => return Err(refused()),
        Literal::Number(digits) if data_type.is_numeric() || is_text(&data_type) => number(data_type, digits),
        Literal::Number(_) => return Err(refused()),
        Literal::Text(value) => as_text(data_type, value),
    };
    let (in_type, literal) = planned.map_err(|error| format!("{}: {error}", refused()))?;
    Ok((in_type.clone(), normal(&literal, &in_type)?))
}

/// A number in the column's type where that has it exactly, else both as 64-bit floating-point numbers: text is one where it reads so.
fn number(column: DataType, digits: &str) -> Result<(DataType, ArrayRef), String> {
    let float: f64 = digits.parse().map_err(|_| format!("{digits} is no number"))?;
    if column.is_floating() {
        let in_type = if column == DataType::Float64 { DataType::Float64 } else { DataType::Float32 };
        let array: ArrayRef = Arc::new(Float64Array::from(vec![float]));
        return cast(&array, &in_type).map(|array| (in_type, array)).map_err(|error| error.to_string());
    }
    if column.is_numeric()
        && let Ok(array) = exactly(&text(digits), &column)
        && (column.is_integer()
            || cast(&array, &DataType::Float64).is_ok_and(|back| equal_float(&back, float)))
    {
        return Ok((column, array));
    }
    Ok((DataType::Float64, Arc::new(Float64Array::from(vec![float]))))
}

fn equal_float(array: &ArrayRef, value: f64) -> bool {
    let array = array.as_any().downcast_ref::<Float64Array>();
    // Decimals come back with the error of one multiplication.
    array.is_some_and(|array| {
        array.iter().flatten().any(|found| (found - value).abs() <= value.abs() * 4.0 * f64::EPSILON)
    })
}

/// Text in the column's type: what it means there has to be all that it says.
fn as_text(column: DataType, value: &str) -> Result<(DataType, ArrayRef), String> {
    /// Of `2026-11-25`.
    const DATE: usize = 10;
    let in_type = match column {
        DataType::Date32 | DataType::Date64 if value.trim().len() > DATE => {
            DataType::Timestamp(TimeUnit::Millisecond, None)
        }
        // Only the names of the zones differ: the time is UTC in each.
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(unit, Some("+00:00".into())),
        DataType::Float16 => DataType::Float32,
        other => other,
    };
    let array = exactly(&text(value), &in_type)?;
    if let DataType::Timestamp(_, zone) = &in_type {
        let finest = DataType::Timestamp(TimeUnit::Nanosecond, zone.clone());
        if let (Ok(fine), Ok(back)) = (exactly(&text(value), &finest), exactly(&array, &finest))
            && fine.as_ref() != back.as_ref()
        {
            return Err("it is finer than the column".to_owned());
        }
    }
    Ok((in_type, array))
}

fn text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

/// A cast that fails where a value cannot be had.
fn exactly(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, String> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, data_type, &options).map_err(|error| error.to_string())
}

/// The type of values behind dictionaries and views, which not every kernel takes.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, value) => plain(value),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8)
}

/// The values in the type that they are compared in; what has no value there is null, that is unknown. The kernels order floating-point
/// numbers by their bits: here there is one zero and one not-a-number, greater than any number.
fn normal(array: &ArrayRef, in_type: &DataType) -> Result<ArrayRef, String> {
    let to =
        |array: &ArrayRef, data_type: &DataType| cast(array, data_type).map_err(|error| error.to_string());
    let array = to(array, &plain(array.data_type()))?;
    let array = to(&array, in_type)?;
    if let Some(floats) = array.as_any().downcast_ref::<Float64Array>() {
        let one = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
        return Ok(Arc::new(floats.unary::<_, arrow::datatypes::Float64Type>(one)));
    }
    if let Some(floats) = array.as_any().downcast_ref::<Float32Array>() {
        let one = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 };
        return Ok(Arc::new(floats.unary::<_, arrow::datatypes::Float32Type>(one)));
    }
    Ok(array)
}
