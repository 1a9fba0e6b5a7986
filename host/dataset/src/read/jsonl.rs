//! A JSON object a line.
//!
//! Contract: a key that a line lacks, and null, are no value; keys that are not wanted are passed over. A line that is no object, or holds a value
//! of another type than is wanted, is refused, and it alone. Blank lines are no rows. Cost: one pass over the file for
//! reading, and one more before it where it is larger than a part; a batch with a bad line is read a second time line by line.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use ::arrow::array::{RecordBatch, RecordBatchOptions};
use ::arrow::compute::concat_batches;
use ::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use ::arrow::error::ArrowError;
use ::arrow::json::ReaderBuilder;
use ::arrow::json::reader::infer_json_schema_from_iterator;

use super::body::{body, failure};
use super::source::Source;
use super::text::{self, Cutter, MAX_LINE, SAMPLE};
use super::{RowStream, Wanted};
use crate::{Compression, DataError, File, Part, Place, Refused, Rows};

/// Rows in which columns are looked for.
const SAMPLE_ROWS: usize = 1000;

/// The columns that the first rows have, but for those of which a type is said.
pub(crate) async fn schema(
    place: &Place,
    file: &File,
    types: &BTreeMap<String, DataType>,
) -> Result<SchemaRef, DataError> {
    let (source, file, types) = (Source::new(place, file), file.clone(), types.clone());
    let of = source.clone();
    let found = tokio::task::spawn_blocking(move || find_schema(&of, &file, &types)).await;
    found.unwrap_or_else(|error| Err(source.broken(format!("its reader failed: {error}"))))
}

fn find_schema(
    source: &Source,
    file: &File,
    types: &BTreeMap<String, DataType>,
) -> Result<SchemaRef, DataError> {
    let packed = file.compression != Compression::None;
    let end = if packed { file.size } else { file.size.min(SAMPLE) };
    let mut lines = Lines::open(source, 0..end, file.compression)?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while rows.len() < SAMPLE_ROWS && bytes < SAMPLE {
        let line = match lines.next() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => return Err(error),
        };
        bytes += line.len() as u64;
        // One that is cut by the end of the sample, or that is none, is told when it is read.
        if let Ok(serde_json::Value::Object(mut row)) = serde_json::from_slice(line) {
            // What is said needs no guess, and may be what cannot be guessed.
            row.retain(|name, _| !types.contains_key(name));
            rows.push(serde_json::Value::Object(row));
        }
    }
    let found = infer_json_schema_from_iterator(rows.into_iter().map(Ok::<_, ArrowError>));
    let found = found.map_err(|error| {
        source.broken(format!("the types of its columns cannot be told: {error}; say them in input.types"))
    })?;
    let field = |field: &FieldRef| {
        // Of a column without values it is not known.
        let data_type = if field.data_type().is_null() { &DataType::Utf8 } else { field.data_type() };
        Field::new(field.name(), data_type.clone(), true)
    };
    let said = types.iter().map(|(name, data_type)| Field::new(name, data_type.clone(), true));
    let mut fields: Vec<Field> = found.fields().iter().map(field).chain(said).collect();
    // They are found in no order.
    fields.sort_by(|a, b| a.name().cmp(b.name()));
    if fields.is_empty() {
        return Err(source.broken("its first lines are no JSON objects".to_owned()));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Whole lines of about so many bytes each. Lines may lack columns.
pub(crate) async fn parts(
    place: &Place,
    file: &File,
    index: usize,
    _expected: &Schema,
    part_bytes: u64,
) -> Result<Vec<Part>, DataError> {
    if file.size <= part_bytes || file.compression != Compression::None {
        return Ok(vec![text::whole(index, file)]);
    }
    let (source, size, compression) = (Source::new(place, file), file.size, file.compression);
    let of = source.clone();
    let cut = tokio::task::spawn_blocking(move || {
        let mut lines = Lines::open(&of, 0..size, compression)?;
        let mut cutter = Cutter::new(index, part_bytes, 0);
        while lines.next()?.is_some() {
            cutter.record(lines.at);
        }
        Ok(cutter.end(size))
    });
    cut.await.unwrap_or_else(|error| Err(source.broken(format!("its reader failed: {error}"))))
}

/// Reads a part.
pub(crate) fn read(place: &Place, file: &File, part: &Part, wanted: Wanted, known: &Schema) -> RowStream {
    let source = Source::new(place, file);
    let columns = text::columns(&wanted, known);
    let (range, first_row) = text::range(part).unwrap_or((0..file.size, 1));
    let compression = file.compression;
    text::stream(source.clone(), move |output| {
        let mut lines = Lines::open(&source, range, compression)?;
        lines.row = first_row;
        let schema = Arc::new(Schema::new(columns));
        loop {
            let mut batch = Lined::default();
            while batch.numbers.len() < wanted.batch_rows && batch.text.len() < wanted.batch_bytes {
                let row = lines.row;
                match lines.next()? {
                    Some(line) => batch.add(row, line),
                    None => break,
                }
            }
            if batch.numbers.is_empty() {
                return Ok(());
            }
            if !output.send(batch.rows(&source.shown, &schema, &wanted)) {
                return Ok(());
            }
        }
    })
}

/// The lines of a body that are not blank.
struct Lines {
    source: Source,
    body: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    /// Where the next line begins.
    at: u64,
    /// The number of the next one that is not blank.
    row: u64,
}

impl Lines {
    fn open(
        source: &Source,
        range: std::ops::Range<u64>,
        compression: Compression,
    ) -> Result<Self, DataError> {
        let at = range.start;
        let body = body(source.clone(), range, compression).map_err(|error| failure(source, None, error))?;
        Ok(Self {
            source: source.clone(),
            body: BufReader::with_capacity(1 << 16, body),
            line: Vec::new(),
            at,
            row: 1,
        })
    }

    fn next(&mut self) -> Result<Option<&[u8]>, DataError> {
        loop {
            self.line.clear();
            let read = (&mut self.body).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut self.line);
            let read = read.map_err(|error| failure(&self.source, Some(self.row), error))?;
            if read == 0 {
                return Ok(None);
            }
            if read > MAX_LINE {
                let (file, row) = (self.source.shown.to_string(), Some(self.row));
                let reason = "the line is longer than 64 MiB".to_owned();
                return Err(DataError::Broken { file, row, column: None, reason });
            }
            if self.at == 0 && self.line.starts_with(b"\xef\xbb\xbf") {
                self.line.drain(..3);
            }
            self.at += read as u64;
            if !self.line.trim_ascii().is_empty() {
                break;
            }
        }
        self.row += 1;
        Ok(Some(self.line.trim_ascii()))
    }
}

/// Lines of a batch.
#[derive(Default)]
struct Lined {
    text: Vec<u8>,
    ends: Vec<usize>,
    numbers: Vec<u64>,
}

impl Lined {
    fn add(&mut self, row: u64, line: &[u8]) {
        self.text.extend_from_slice(line);
        self.ends.push(self.text.len());
        self.numbers.push(row);
    }

    fn rows(self, file: &Arc<str>, schema: &SchemaRef, wanted: &Wanted) -> Result<Rows, DataError> {
        let wrong = |error: ArrowError| DataError::Broken {
            file: file.to_string(),
            row: self.numbers.first().copied(),
            column: None,
            reason: error.to_string(),
        };
        let objects = objects(schema, self.lines()).map_err(wrong)?;
        let number = |index: usize| self.numbers.get(index).copied().unwrap_or_default();
        let numbers: Vec<u64> = objects.kept.into_iter().map(number).collect();
        let refused = objects.refused.into_iter().map(|(index, column, message)| Refused {
            file: Arc::clone(file),
            row: number(index),
            column,
            message,
        });
        text::finish(file, &objects.batch, &numbers, refused.collect(), wanted)
    }

    fn lines(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        let line = |index: usize| {
            let start =
                index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default();
            let end = self.ends.get(index).copied().unwrap_or_default();
            self.text.get(start..end).unwrap_or_default()
        };
        (0..self.ends.len()).map(line)
    }
}

/// What some texts hold that are to be a JSON object each.
#[derive(Clone, Debug)]
pub struct Objects {
    /// A row for each object, with the columns of the schema.
    pub batch: RecordBatch,
    /// The position of each row among the texts.
    pub kept: Vec<usize>,
    /// The others: the position of each, the column where it is one, and what is wrong.
    pub refused: Vec<(usize, Option<String>, String)>,
}

/// Reads JSON objects as rows. A text that is none, or has a value of another type than the schema, is refused alone.
///
/// # Errors
/// What arrow says of a schema that it cannot read JSON with.
pub fn objects<'a>(
    schema: &SchemaRef,
    texts: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
) -> Result<Objects, ArrowError> {
    let exact = texts.clone().all(|text| cut_short(schema, text).is_none());
    if exact && let Ok(batch) = decode(schema, texts.clone()) {
        return Ok(Objects { kept: (0..batch.num_rows()).collect(), batch, refused: Vec::new() });
    }
    let (mut batches, mut kept, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for (index, text) in texts.enumerate() {
        let decoded = match cut_short(schema, text) {
            None => decode(schema, [text].into_iter()),
            Some(_) => Err(ArrowError::JsonError(String::new())),
        };
        match decoded {
            Ok(batch) => {
                batches.push(batch);
                kept.push(index);
            }
            Err(error) => {
                let (column, message) = reason(schema, text, &error);
                refused.push((index, column, message));
            }
        }
    }
    Ok(Objects { batch: concat_batches(schema, &batches)?, kept, refused })
}

/// The rows of some lines, an object each.
fn decode<'a>(
    schema: &SchemaRef,
    lines: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Result<RecordBatch, ArrowError> {
    let other = || ArrowError::JsonError("it is not one JSON object".to_owned());
    let count = lines.len();
    if schema.fields().is_empty() {
        for line in lines {
            serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line)
                .map_err(|_| other())?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        return RecordBatch::try_new_with_options(Arc::clone(schema), Vec::new(), &options);
    }
    // Room for one more, so that a second object on a line is seen.
    let mut decoder = ReaderBuilder::new(Arc::clone(schema)).with_batch_size(count + 1).build_decoder()?;
    for (index, line) in lines.enumerate() {
        let read = decoder.decode(line)?;
        if read < line.len() || decoder.has_partial_record() || decoder.len() != index + 1 {
            return Err(other());
        }
    }
    decoder.flush()?.filter(|batch| batch.num_rows() == count).ok_or_else(other)
}

/// The column of whole numbers for which a line has another number: the decoder would take what is before the point.
fn cut_short<'a>(schema: &'a Schema, line: &[u8]) -> Option<&'a FieldRef> {
    let mut fields = schema.fields().iter().filter(|field| holds_integers(field.data_type())).peekable();
    // Few lines have such a column and such a character, and only those are looked into.
    fields.peek()?;
    if !line.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return None;
    }
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).ok()?;
    fields.find(|field| object.get(field.name()).is_some_and(has_fraction))
}

fn holds_integers(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            holds_integers(field.data_type())
        }
        data_type => data_type.is_integer(),
    }
}

fn has_fraction(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Array(values) => values.iter().any(has_fraction),
        serde_json::Value::Number(number) => {
            !number.is_i64() && !number.is_u64() && number.as_f64().is_none_or(|number| number.fract() != 0.0)
        }
        _ => false,
    }
}

/// What is wrong with a line, and the column where it is one.
fn reason(schema: &SchemaRef, line: &[u8], error: &ArrowError) -> (Option<String>, String) {
    let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line);
    let object = match object {
        Ok(object) => object,
        Err(error) => return (None, format!("it is not one JSON object: {error}")),
    };
    for field in schema.fields() {
        let Some(value) = object.get(field.name()) else { continue };
        let alone = serde_json::json!({ field.name(): value }).to_string();
        let only = Arc::new(Schema::new(vec![Arc::clone(field)]));
        if cut_short(&only, alone.as_bytes()).is_some()
            || decode(&only, [alone.as_bytes()].into_iter()).is_err()
        {
            let message = format!("{} is no {}", text::shown(&value.to_string()), field.data_type());
            return (Some(field.name().clone()), message);
        }
    }
    (None, text::shown(&error.to_string()))
}
