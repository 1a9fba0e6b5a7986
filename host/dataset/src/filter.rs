//! Which rows are wanted: a condition in SQL.
//!
//! Contract: a [`Filter`] is what may stand after `WHERE` about the columns of one row: comparisons of a column with a literal or with
//! another column, `AND`, `OR`, `NOT`, `IS [NOT] NULL`, `IN`, `BETWEEN`, `LIKE` and `ILIKE`, with SQL's three-valued logic. Names of
//! columns are taken as they are written, upper and lower case apart. Cost: one pass of a vectorised kernel a comparison. Left out on
//! purpose: functions, arithmetic, subqueries - whoever needs them has a database.

mod bounds;
mod compare;
mod parse;
#[cfg(test)]
mod tests;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::kernels::boolean::{and_kleene, is_not_null, is_null, not, or_kleene};
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{DataType, Schema};

use crate::DataError;
use compare::{Comparison, Like};

/// A condition over columns, as it stands after `WHERE` in SQL.
#[derive(Clone, Debug)]
pub struct Filter {
    condition: Condition,
}

/// What a condition is made of; nothing else of SQL gets this far.
#[derive(Clone, Debug)]
enum Condition {
    /// `TRUE`, `FALSE` or `NULL`.
    Constant(Option<bool>),
    /// A column that is itself true or false.
    Column(String),
    Compare(Comparison),
    Like(Like),
    IsNull(String),
    IsNotNull(String),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

/// A condition in parts, of which all have to be true.
#[derive(Clone, Debug)]
pub(crate) struct Split {
    /// About some columns alone.
    pub(crate) these: Option<Filter>,
    /// About the others alone.
    pub(crate) others: Option<Filter>,
    /// About both.
    pub(crate) both: Option<Filter>,
}

impl Filter {
    /// Reads a condition.
    ///
    /// # Errors
    /// [`DataError::Setting`] with what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, DataError> {
        let condition = parse::condition(text).map_err(setting)?;
        Ok(Self { condition })
    }

    /// The conditions of which all have to be true: those that name only columns of which `is_one` is true, those that name none of
    /// them, and those that name both kinds.
    pub(crate) fn split(&self, is_one: impl Fn(&str) -> bool) -> Split {
        let (mut these, mut others, mut both) = (Vec::new(), Vec::new(), Vec::new());
        let mut left = vec![&self.condition];
        while let Some(condition) = left.pop() {
            if let Condition::All(all) = condition {
                left.extend(all);
                continue;
            }
            let mut names = Vec::new();
            condition.columns(&mut names);
            let ones = names.iter().filter(|name| is_one(name)).count();
            let group = match ones {
                0 => &mut others,
                count if count == names.len() => &mut these,
                _ => &mut both,
            };
            group.push(condition.clone());
        }
        let of = |all: Vec<Condition>| (!all.is_empty()).then_some(Self { condition: Condition::All(all) });
        Split { these: of(these), others: of(others), both: of(both) }
    }

    /// The columns that it names, each once.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.condition.columns(&mut names);
        names
    }

    /// Checks its columns and the types of what is compared, before any row is read.
    ///
    /// # Errors
    /// [`DataError::Setting`].
    pub fn check(&self, schema: &Schema) -> Result<(), DataError> {
        self.condition.check(schema).map_err(setting)
    }

    /// Whether each row is wanted; what SQL calls unknown is false.
    ///
    /// # Errors
    /// [`DataError::Setting`].
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray, DataError> {
        let known = self.condition.evaluate(batch).map_err(setting)?;
        Ok(if known.null_count() > 0 { prep_null_mask_filter(&known) } else { known })
    }

    /// Whether any row of each of `groups` groups of rows may be wanted, from the least and the greatest value of a column in each:
    /// null where they are not known, none where they are known for no group.
    pub(crate) fn possible(
        &self,
        groups: usize,
        bounds: &dyn Fn(&str) -> Option<(ArrayRef, ArrayRef)>,
    ) -> Vec<bool> {
        self.condition.possible(groups, bounds)
    }
}

fn setting(reason: String) -> DataError {
    DataError::Setting { field: "where", reason }
}

impl Condition {
    fn columns(&self, names: &mut Vec<String>) {
        let mut add = |name: &String| {
            if !names.contains(name) {
                names.push(name.clone());
            }
        };
        match self {
            Self::Constant(_) => {}
            Self::Column(name) | Self::IsNull(name) | Self::IsNotNull(name) => add(name),
            Self::Compare(comparison) => comparison.columns().for_each(add),
            Self::Like(like) => add(&like.column),
            Self::Not(inner) => inner.columns(names),
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.columns(names)),
        }
    }

    fn check(&self, schema: &Schema) -> Result<(), String> {
        match self {
            Self::Constant(_) => Ok(()),
            Self::Column(name) => match type_of(schema, name)? {
                DataType::Boolean => Ok(()),
                other => Err(format!("column '{name}' is {other}: a condition of its own has to be Boolean")),
            },
            Self::IsNull(name) | Self::IsNotNull(name) => type_of(schema, name).map(|_| ()),
            Self::Compare(comparison) => comparison.check(schema),
            Self::Like(like) => like.check(schema),
            Self::Not(inner) => inner.check(schema),
            Self::All(parts) | Self::Any(parts) => parts.iter().try_for_each(|part| part.check(schema)),
        }
    }

    /// True, false or null for each row.
    fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray, String> {
        let rows = batch.num_rows();
        match self {
            Self::Constant(value) => Ok(BooleanArray::from(vec![*value; rows])),
            Self::Column(name) => {
                let array = column(batch, name)?.as_any().downcast_ref::<BooleanArray>();
                array.cloned().ok_or_else(|| format!("column '{name}' is not Boolean"))
            }
            Self::IsNull(name) => is_null(column(batch, name)?).map_err(|error| error.to_string()),
            Self::IsNotNull(name) => is_not_null(column(batch, name)?).map_err(|error| error.to_string()),
            Self::Compare(comparison) => comparison.evaluate(batch),
            Self::Like(like) => like.evaluate(batch),
            Self::Not(inner) => not(&inner.evaluate(batch)?).map_err(|error| error.to_string()),
            Self::All(parts) => parts.iter().try_fold(BooleanArray::from(vec![true; rows]), |all, part| {
                and_kleene(&all, &part.evaluate(batch)?).map_err(|error| error.to_string())
            }),
            Self::Any(parts) => parts.iter().try_fold(BooleanArray::from(vec![false; rows]), |any, part| {
                or_kleene(&any, &part.evaluate(batch)?).map_err(|error| error.to_string())
            }),
        }
    }
}

fn type_of<'a>(schema: &'a Schema, name: &str) -> Result<&'a DataType, String> {
    let field = schema.field_with_name(name).map_err(|_| {
        let there: Vec<_> =
            schema.fields().iter().take(20).map(|field| format!("'{}'", field.name())).collect();
        format!("there is no column '{name}'; there are {}", there.join(", "))
    })?;
    Ok(field.data_type())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, String> {
    batch.column_by_name(name).ok_or_else(|| format!("there is no column '{name}'"))
}
