//! Comma-separated values, as RFC 4180 has them, with a header.
//!
//! Contract: a column that is wanted as text keeps its text as it is; one that is wanted as something else is converted, and a row whose text
//! cannot be is refused, as is one that has another number of fields than the header. An empty field is no value, but for text.
//! Blank lines are no rows. Cost: one pass over the file for reading, and one more before it where it is larger than a part.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use ::arrow::array::{Array, ArrayRef, BinaryBuilder, RecordBatch, RecordBatchOptions, StringBuilder};
use ::arrow::compute::{CastOptions, cast_with_options};
use ::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use ::csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};

use super::body::{body, failure};
use super::source::Source;
use super::text::{self, Cutter, MAX_LINE, Output, SAMPLE};
use super::{RowStream, Wanted};
use crate::{DataError, File, Part, Place, Refused};

/// The columns that the header names, as text but for those of which another type is said.
pub(crate) async fn schema(
    place: &Place,
    file: &File,
    types: &BTreeMap<String, DataType>,
) -> Result<SchemaRef, DataError> {
    let names = header(Source::new(place, file), file.clone()).await?;
    let field = |name: String| {
        let data_type = types.get(&name).cloned().unwrap_or(DataType::Utf8);
        Field::new(name, data_type, true)
    };
    Ok(Arc::new(Schema::new(names.into_iter().map(field).collect::<Vec<_>>())))
}

/// Whole lines of about so many bytes each.
pub(crate) async fn parts(
    place: &Place,
    file: &File,
    index: usize,
    expected: &Schema,
    part_bytes: u64,
) -> Result<Vec<Part>, DataError> {
    let source = Source::new(place, file);
    let names = header(source.clone(), file.clone()).await?;
    if let Some(field) = expected.fields().iter().find(|field| !names.contains(field.name())) {
        let column = field.name().clone();
        return Err(DataError::NoColumn { file: source.shown.to_string(), column, there: names });
    }
    if file.size <= part_bytes || file.compression != crate::Compression::None {
        return Ok(vec![text::whole(index, file)]);
    }
    let (size, compression) = (file.size, file.compression);
    blocking(source, move |source| {
        let raw = body(source.clone(), 0..size, compression).map_err(|error| failure(source, None, error))?;
        let (mut reader, mut record) = (reader(raw), ByteRecord::new());
        let mut cutter = None;
        while reader.read_byte_record(&mut record).map_err(|error| broken(source, None, error))? {
            let end = reader.position().byte();
            match &mut cutter {
                None => cutter = Some(Cutter::new(index, part_bytes, end)),
                Some(cutter) => cutter.record(end),
            }
        }
        Ok(cutter.map(|cutter| cutter.end(size)).unwrap_or_default())
    })
    .await
}

/// Reads a part.
pub(crate) fn read(place: &Place, file: File, part: Part, wanted: Wanted, known: &Schema) -> RowStream {
    let source = Source::new(place, &file);
    let columns = text::columns(&wanted, known);
    text::stream(source.clone(), move |output| {
        Reading::new(source, &file, &part, wanted, columns)?.all(output)
    })
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    source: Source,
    work: impl FnOnce(&Source) -> Result<T, DataError> + Send + 'static,
) -> Result<T, DataError> {
    let of = source.clone();
    let done = tokio::task::spawn_blocking(move || work(&of)).await;
    done.unwrap_or_else(|error| Err(source.broken(format!("its reader failed: {error}"))))
}

async fn header(source: Source, file: File) -> Result<Vec<String>, DataError> {
    blocking(source, move |source| read_header(source, &file)).await
}

/// The names that the first line has.
fn read_header(source: &Source, file: &File) -> Result<Vec<String>, DataError> {
    let end = if file.compression == crate::Compression::None { file.size.min(SAMPLE) } else { file.size };
    let raw = body(source.clone(), 0..end, file.compression).map_err(|error| failure(source, None, error))?;
    let (mut reader, mut record) = (reader(raw), ByteRecord::new());
    if !reader.read_byte_record(&mut record).map_err(|error| broken(source, None, error))? {
        return Err(source.broken("it is empty, and should begin with the names of its columns".to_owned()));
    }
    let mut names: Vec<String> = Vec::new();
    for (index, name) in record.iter().enumerate() {
        let name = std::str::from_utf8(name)
            .map_err(|_| source.broken(format!("the name of column {index} is no UTF-8")))?;
        let name = name.trim_start_matches('\u{feff}');
        if name.is_empty() || names.iter().any(|other| other == name) {
            let what =
                if name.is_empty() { "has no name".to_owned() } else { format!("is a second '{name}'") };
            return Err(source.broken(format!("column {} {what} in the first line", index + 1)));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn reader<R: Read>(body: R) -> Reader<R> {
    ReaderBuilder::new().has_headers(false).flexible(true).buffer_capacity(1 << 16).from_reader(body)
}

fn broken(source: &Source, row: Option<u64>, error: ::csv::Error) -> DataError {
    match error.into_kind() {
        ErrorKind::Io(error) => failure(source, row, error),
        error => source.broken(format!("{error:?}")),
    }
}

/// A part that is being read.
struct Reading {
    source: Source,
    reader: Reader<Box<dyn Read + Send>>,
    /// The columns that are read, and the position of each in a record.
    fields: Vec<(FieldRef, usize)>,
    /// Fields of a record.
    width: usize,
    row: u64,
    wanted: Wanted,
}

impl Reading {
    fn new(
        source: Source,
        file: &File,
        part: &Part,
        wanted: Wanted,
        columns: Vec<FieldRef>,
    ) -> Result<Self, DataError> {
        let names = read_header(&source, file)?;
        let (range, first_row) = text::range(part).unwrap_or((0..file.size, 0));
        let raw =
            body(source.clone(), range, file.compression).map_err(|error| failure(&source, None, error))?;
        let position = |field: FieldRef| match names.iter().position(|name| name == field.name()) {
            Some(position) if !field.data_type().is_nested() => Ok((field, position)),
            Some(_) => Err(DataError::Setting {
                field: "input.types",
                reason: format!("column '{}': CSV has no {}", field.name(), field.data_type()),
            }),
            None => Err(DataError::NoColumn {
                file: source.shown.to_string(),
                column: field.name().clone(),
                there: names.clone(),
            }),
        };
        let fields = columns.into_iter().map(position).collect::<Result<_, _>>()?;
        // Within a file there is no byte order mark, and the parser would take one for it: a blank line comes before.
        let raw: Box<dyn Read + Send> = if first_row > 0 { Box::new(b"\n".chain(raw)) } else { raw };
        let mut reading =
            Self { reader: reader(raw), fields, width: names.len(), row: first_row.max(1), wanted, source };
        if first_row == 0 {
            // The header.
            let read = reading.reader.read_byte_record(&mut ByteRecord::new());
            read.map_err(|error| broken(&reading.source, None, error))?;
        }
        Ok(reading)
    }

    fn all(mut self, output: &Output) -> Result<(), DataError> {
        let mut record = ByteRecord::new();
        loop {
            let mut gathered = Gathered::new(&self.fields);
            while gathered.numbers.len() + gathered.refused.len() < self.wanted.batch_rows
                && gathered.bytes < self.wanted.batch_bytes
            {
                let row = self.row;
                let read = self.reader.read_byte_record(&mut record);
                if !read.map_err(|error| broken(&self.source, Some(row), error))? {
                    break;
                }
                self.row += 1;
                if record.as_slice().len() > MAX_LINE {
                    let mut error = self
                        .source
                        .broken("the row is longer than 64 MiB: is a quote not closed?".to_owned());
                    if let DataError::Broken { row: at, .. } = &mut error {
                        *at = Some(row);
                    }
                    return Err(error);
                }
                gathered.add(&self.source.shown, row, &record, self.width, &self.fields);
            }
            if gathered.numbers.is_empty() && gathered.refused.is_empty() {
                return Ok(());
            }
            let rows = gathered.rows(&self.source.shown, &self.fields, &self.wanted);
            if !output.send(rows) {
                return Ok(());
            }
        }
    }
}

/// Rows of a batch, as text.
struct Gathered {
    columns: Vec<Column>,
    numbers: Vec<u64>,
    bytes: usize,
    refused: Vec<Refused>,
}

enum Column {
    Text(StringBuilder),
    Bytes(BinaryBuilder),
}

impl Gathered {
    fn new(fields: &[(FieldRef, usize)]) -> Self {
        let column = |(field, _): &(FieldRef, usize)| match field.data_type() {
            DataType::Binary => Column::Bytes(BinaryBuilder::new()),
            _ => Column::Text(StringBuilder::new()),
        };
        let columns = fields.iter().map(column).collect();
        Self { columns, numbers: Vec::new(), bytes: 0, refused: Vec::new() }
    }

    fn refuse(&mut self, file: &Arc<str>, row: u64, column: Option<&str>, message: String) {
        let (file, column) = (Arc::clone(file), column.map(str::to_owned));
        self.refused.push(Refused { file, row, column, message });
    }

    fn add(
        &mut self,
        file: &Arc<str>,
        row: u64,
        record: &ByteRecord,
        width: usize,
        fields: &[(FieldRef, usize)],
    ) {
        if record.len() != width {
            let message = format!("{} fields where the header has {width}", record.len());
            return self.refuse(file, row, None, message);
        }
        let value = |position: usize| record.get(position).unwrap_or_default();
        let text = fields.iter().filter(|(field, _)| *field.data_type() != DataType::Binary);
        let mut not_text = text.filter(|(_, position)| std::str::from_utf8(value(*position)).is_err());
        if let Some((field, _)) = not_text.next() {
            return self.refuse(file, row, Some(field.name()), "it is no UTF-8 text".to_owned());
        }
        for (column, (field, position)) in self.columns.iter_mut().zip(fields) {
            let value = value(*position);
            self.bytes += value.len();
            match column {
                Column::Bytes(builder) => builder.append_value(value),
                Column::Text(builder) if value.is_empty() && *field.data_type() != DataType::Utf8 => {
                    builder.append_null();
                }
                Column::Text(builder) => builder.append_value(std::str::from_utf8(value).unwrap_or_default()),
            }
        }
        self.bytes += size_of::<u64>();
        self.numbers.push(row);
    }

    fn rows(
        mut self,
        file: &Arc<str>,
        fields: &[(FieldRef, usize)],
        wanted: &Wanted,
    ) -> Result<crate::Rows, DataError> {
        const LENIENT: CastOptions<'static> =
            CastOptions { safe: true, format_options: ::arrow::util::display::FormatOptions::new() };
        let wrong = |error: ::arrow::error::ArrowError| DataError::Setting {
            field: "input.types",
            reason: error.to_string(),
        };
        let mut bad = vec![false; self.numbers.len()];
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(fields.len());
        for (column, (field, _)) in std::mem::take(&mut self.columns).into_iter().zip(fields) {
            let text: ArrayRef = match column {
                Column::Bytes(mut builder) => Arc::new(builder.finish()),
                Column::Text(mut builder) => Arc::new(builder.finish()),
            };
            let values = cast_with_options(&text, field.data_type(), &LENIENT).map_err(wrong)?;
            if values.null_count() > text.null_count() {
                let numbers = self.numbers.clone();
                for (index, (number, bad)) in numbers.iter().zip(&mut bad).enumerate() {
                    if values.is_null(index) && text.is_valid(index) && !*bad {
                        *bad = true;
                        let shown =
                            ::arrow::util::display::array_value_to_string(&text, index).map_err(wrong)?;
                        let message = format!("'{}' is no {}", text::shown(&shown), field.data_type());
                        self.refuse(file, *number, Some(field.name()), message);
                    }
                }
            }
            columns.push(values);
        }
        let schema = Schema::new(fields.iter().map(|(field, _)| Arc::clone(field)).collect::<Vec<_>>());
        let options = RecordBatchOptions::new().with_row_count(Some(self.numbers.len()));
        let mut batch =
            RecordBatch::try_new_with_options(Arc::new(schema), columns, &options).map_err(wrong)?;
        if bad.contains(&true) {
            let good = (0..).zip(&bad).filter(|(_, bad)| !**bad).map(|(index, _)| index).collect();
            batch = text::keep(&batch, good).map_err(wrong)?;
            let mut bad = bad.iter();
            self.numbers.retain(|_| bad.next() == Some(&false));
        }
        text::finish(file, &batch, &self.numbers, self.refused, wanted)
    }
}
