//! Reading parts.

pub(crate) mod arrow;
mod body;
mod columns;
pub(crate) mod csv;
pub(crate) mod files;
pub(crate) mod jsonl;
pub(crate) mod parquet;
mod rows;
mod source;
#[cfg(test)]
mod testing;
mod text;
#[cfg(test)]
mod text_more_tests;
#[cfg(test)]
mod text_tests;

use std::pin::Pin;

use ::arrow::datatypes::FieldRef;
use futures_util::Stream;

pub use self::arrow::check_stream;
pub use self::jsonl::{Objects, objects};
use crate::{DataError, Filter, Rows};

/// Rows of a part, some at a time, in order.
pub type RowStream = Pin<Box<dyn Stream<Item = Result<Rows, DataError>> + Send>>;

/// What is wanted of a part.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The columns, in this order, by name. Text formats give the type that is asked for here, and refuse rows that are not of
    /// it; columnar ones give the type that the file has, which has to be this one.
    pub columns: Vec<FieldRef>,
    /// The rows; all of them where it is none.
    pub filter: Option<Filter>,
    /// Rows at a time, at most.
    pub batch_rows: usize,
    /// Bytes at a time, about, at most; a single row may be larger.
    pub batch_bytes: usize,
}
