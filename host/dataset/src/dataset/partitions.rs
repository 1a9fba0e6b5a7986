//! Columns that folders' names give, as Hive writes them: `year=2026/month=11/`.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, FieldRef, Schema};

use super::{Dataset, File};
use crate::filter::Split;
use crate::{DataError, Filter, Origin, Rows, Wanted};

/// What stands for no value.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The keys and values of a path's folders.
pub(super) fn of(path: &str) -> Vec<(String, String)> {
    let folders = path.rsplit_once('/').map(|(folders, _)| folders).unwrap_or_default();
    let pair = |folder: &str| {
        let (key, value) = folder.split_once('=')?;
        Some((key.to_owned(), decoded(value)))
    };
    folders.split('/').filter_map(pair).collect()
}

/// Without the percent signs that stand for other characters.
fn decoded(value: &str) -> String {
    let plus_as_it_is = value.replace('+', "%2B");
    let pairs = format!("v={}", plus_as_it_is.replace('&', "%26"));
    let parsed = url::form_urlencoded::parse(pairs.as_bytes()).next();
    parsed.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

impl Dataset {
    /// A filter's conditions about folders' names, about the files' own columns, and about both.
    pub(super) fn split(&self, filter: &Filter) -> Split {
        filter.split(|column| self.partitions.iter().any(|partition| partition == column))
    }

    /// Whether a filter of folders' names lets a file through.
    pub(super) fn may_have_rows(&self, filter: Option<&Filter>, file: &File) -> Result<bool, DataError> {
        let Some(filter) = filter else { return Ok(true) };
        let fields: Vec<FieldRef> = self.partition_fields().collect();
        let columns = fields.iter().map(|field| self.values(file, field, 1)).collect::<Result<_, _>>()?;
        let row =
            RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| broken(&error))?;
        Ok(filter.evaluate(&row)?.true_count() > 0)
    }

    fn partition_fields(&self) -> impl Iterator<Item = FieldRef> + '_ {
        let fields = self.schema.fields().iter();
        fields.filter(|field| self.partitions.contains(field.name())).map(Arc::clone)
    }

    /// The value of a folder's name, so many times.
    fn values(&self, file: &File, field: &FieldRef, rows: usize) -> Result<ArrayRef, DataError> {
        let position = self.partitions.iter().position(|name| name == field.name());
        let value =
            position.and_then(|position| file.partitions.get(position)).filter(|value| *value != NULL);
        let Some(value) = value else { return Ok(new_null_array(field.data_type(), rows)) };
        let text: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows)));
        if *field.data_type() == DataType::Utf8 {
            return Ok(text);
        }
        let values = cast(&text, field.data_type()).map_err(|error| broken(&error))?;
        if values.null_count() > 0 {
            let reason = format!("the folder's name says '{value}', which is no {}", field.data_type());
            let (file, column) = (self.place(file).shown.to_string(), Some(field.name().clone()));
            return Err(DataError::Broken { file, row: None, column, reason });
        }
        Ok(values)
    }
}

fn broken(error: &arrow::error::ArrowError) -> DataError {
    DataError::Setting { field: "input.url", reason: error.to_string() }
}

/// How the rows of a file get the columns of its folders' names.
pub(super) struct Partitioned {
    dataset: Dataset,
    file: File,
    wanted: Vec<FieldRef>,
    /// What is wanted of the file itself.
    pub(super) data: Wanted,
    /// Where columns of both are compared.
    filter: Option<Filter>,
}

impl Partitioned {
    pub(super) fn new(dataset: &Dataset, file: &File, wanted: Wanted) -> Self {
        let own = |field: &&FieldRef| !dataset.partitions.contains(field.name());
        let mut columns: Vec<FieldRef> = wanted.columns.iter().filter(own).map(Arc::clone).collect();
        // The file is read because its folders' names are wanted.
        let split = wanted.filter.as_ref().map(|filter| dataset.split(filter));
        let (pushed, filter) = split.map(|split| (split.others, split.both)).unwrap_or_default();
        let there: HashSet<String> = columns.iter().map(|field| field.name().clone()).collect();
        let compared = filter.as_ref().map(Filter::columns).unwrap_or_default();
        let fields = dataset.schema.fields().iter().filter(own);
        columns.extend(
            fields.filter(|f| compared.contains(f.name()) && !there.contains(f.name())).map(Arc::clone),
        );
        if columns.is_empty() {
            // One that tells how many rows there are.
            columns.extend(dataset.schema.fields().iter().find(own).map(Arc::clone));
        }
        let data = Wanted { columns, filter: pushed, ..wanted };
        let mut dataset = dataset.clone();
        // Of all files it is about one.
        dataset.files = Vec::new();
        Self { dataset, file: file.clone(), wanted: wanted.columns, data, filter }
    }

    /// The rows with all that is wanted of them.
    pub(super) fn complete(&self, rows: Rows) -> Result<Rows, DataError> {
        let Rows { batch, origin, refused } = rows;
        let count = batch.num_rows();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let (mut fields, mut columns) = (batch.schema_ref().fields().to_vec(), batch.columns().to_vec());
        for field in self.dataset.partition_fields() {
            columns.push(self.dataset.values(&self.file, &field, count)?);
            fields.push(field);
        }
        let all = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options);
        let mut all = all.map_err(|error| broken(&error))?;
        let mut origin = origin;
        if let Some(filter) = &self.filter {
            let mask = filter.evaluate(&all)?;
            all = filter_record_batch(&all, &mask).map_err(|error| broken(&error))?;
            if let Origin::File { rows, .. } = &mut origin {
                let mut keep = mask.iter().map(|keep| keep == Some(true));
                rows.retain(|_| keep.next().unwrap_or_default());
            }
        }
        let position =
            |field: &FieldRef| all.schema_ref().index_of(field.name()).map_err(|error| broken(&error));
        let order = self.wanted.iter().map(position).collect::<Result<Vec<_>, _>>()?;
        let batch = all.project(&order).map_err(|error| broken(&error))?;
        Ok(Rows { batch, origin, refused })
    }
}
