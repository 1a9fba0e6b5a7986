//! The files of a dataset, and the parts that they are divided into.

mod listing;
mod partitions;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use self::listing::Found;
use self::partitions::Partitioned;
use crate::{Compression, DataError, Filter, Format, Pattern, Place, RowStream, Wanted, read};

/// Files whose parts are found at once.
const FILES_AT_ONCE: usize = 8;

/// A file, as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// The position of the pattern that found it.
    pub input: usize,
    /// Its path in the store.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Its entity tag, or else the time that it was modified.
    pub stamp: String,
    /// When it was modified: microseconds since 1970.
    #[serde(default)]
    pub modified: i64,
    /// Of text files.
    #[serde(default)]
    pub compression: Compression,
    /// The values that its folders are named by (`year=2026/month=11/`), in the order of [`Dataset::partitions`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<String>,
}

/// What is read as a whole, and makes one file of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The position of the file in the dataset; of the first one for [`Slice::Files`].
    pub file: usize,
    /// Which of it.
    pub slice: Slice,
    /// Rows before any filter, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Bytes of the file, about.
    pub bytes: u64,
}

/// What a part is of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slice {
    /// All of it.
    Whole,
    /// A row group of Parquet.
    RowGroup {
        /// Its position.
        index: usize,
        /// The number of its first row, from 1.
        first_row: u64,
    },
    /// Record batches of an Arrow file.
    Batches {
        /// The position of the first.
        start: usize,
        /// The position behind the last.
        end: usize,
        /// The number of the first row, from 1.
        first_row: u64,
    },
    /// Whole lines of a text file.
    Bytes {
        /// The first byte.
        start: u64,
        /// The byte behind the last.
        end: u64,
        /// The number of the first row, from 1.
        first_row: u64,
    },
    /// This file and those that follow it, a row each.
    Files {
        /// How many.
        count: usize,
    },
}

/// What is said of files beside where they are.
#[derive(Clone, Debug, Default)]
pub struct DatasetOptions {
    /// Their format; what their names say where it is none.
    pub format: Option<Format>,
    /// Types of columns of text formats, in the place of what is found.
    pub types: BTreeMap<String, DataType>,
}

/// Files of one format.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) files: Vec<File>,
    pub(crate) format: Format,
    /// The columns of the first file, and behind them those of the folders' names (as text).
    pub(crate) schema: SchemaRef,
    pub(crate) partitions: Vec<String>,
}

impl Dataset {
    /// Looks for files, and reads the columns of the first one.
    ///
    /// # Errors
    /// [`DataError::Nothing`] where a pattern finds none, [`DataError::Setting`] where their formats differ or are not known.
    pub async fn open(patterns: Vec<Pattern>, options: &DatasetOptions) -> Result<Self, DataError> {
        let Found { files, format, partitions } = listing::find(&patterns, options.format).await?;
        let mut dataset = Self { patterns, files, format, schema: Arc::new(Schema::empty()), partitions };
        let Some(first) = dataset.files.first() else { return Ok(dataset) };
        let place = dataset.place(first);
        let data = match format {
            Format::Parquet => read::parquet::schema(&place, first).await?,
            Format::Arrow => read::arrow::schema(&place, first).await?,
            Format::Csv => read::csv::schema(&place, first, &options.types).await?,
            Format::Jsonl => read::jsonl::schema(&place, first, &options.types).await?,
            Format::Files => read::files::schema(),
        };
        dataset.schema = Arc::new(dataset.with_partitions(&data, options)?);
        Ok(dataset)
    }

    fn with_partitions(&self, data: &Schema, options: &DatasetOptions) -> Result<Schema, DataError> {
        let mut fields: Vec<FieldRef> = data.fields().iter().map(Arc::clone).collect();
        let mut names = HashSet::new();
        if let Some(twice) = fields.iter().find(|field| !names.insert(field.name())) {
            let reason = format!("the files have two columns named '{}': rename one of them", twice.name());
            return Err(DataError::Setting { field: "input.url", reason });
        }
        for name in &self.partitions {
            if data.field_with_name(name).is_ok() {
                let reason =
                    format!("the column '{name}' is in the files, and in the names of their folders");
                return Err(DataError::Setting { field: "input.url", reason });
            }
            let data_type = options.types.get(name).cloned().unwrap_or(DataType::Utf8);
            fields.push(Arc::new(Field::new(name, data_type, true)));
        }
        Ok(Schema::new_with_metadata(fields, data.metadata().clone()))
    }

    /// The same dataset again, of files found before: for a job that goes on.
    #[must_use]
    pub fn of_files(
        patterns: Vec<Pattern>,
        files: Vec<File>,
        format: Format,
        schema: SchemaRef,
        partitions: Vec<String>,
    ) -> Self {
        Self { patterns, files, format, schema, partitions }
    }

    /// The files, in the order of their patterns and paths.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The format of all of them.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The columns of the first file, then those that its folders' names give.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns that folders' names give.
    #[must_use]
    pub fn partitions(&self) -> &[String] {
        &self.partitions
    }

    /// Divides the files into parts: a row group of Parquet each, record batches of Arrow and lines of text of about
    /// `part_bytes`, so many small files together where each file is a row. Files of which a filter's partitions or statistics show
    /// that no row is wanted have no part.
    ///
    /// # Errors
    /// What is wrong with a file, among it a column of another type than in the first.
    pub async fn parts(&self, filter: Option<&Filter>, part_bytes: u64) -> Result<Vec<Part>, DataError> {
        if self.format == Format::Files {
            return Ok(read::files::parts(&self.files, part_bytes));
        }
        let data = self.data_schema();
        let split = filter.map(|filter| self.split(filter));
        let (of_folders, of_data) = split.map(|split| (split.these, split.others)).unwrap_or_default();
        let (of_folders, of_data) = (of_folders.as_ref(), of_data.as_ref());
        let of_file = |index: usize, file: &File| {
            let (place, file, data) = (self.place(file), file.clone(), &data);
            async move {
                if !self.may_have_rows(of_folders, &file)? {
                    return Ok(Vec::new());
                }
                match self.format {
                    Format::Parquet => read::parquet::parts(&place, &file, index, data, of_data).await,
                    Format::Arrow => {
                        read::arrow::parts(&place, &file, index, data, of_data, part_bytes).await
                    }
                    Format::Csv => read::csv::parts(&place, &file, index, data, part_bytes).await,
                    Format::Jsonl | Format::Files => {
                        read::jsonl::parts(&place, &file, index, data, part_bytes).await
                    }
                }
            }
        };
        let files: Vec<_> = self.files.iter().enumerate().map(|(index, file)| of_file(index, file)).collect();
        let parts: Vec<Vec<Part>> = stream::iter(files).buffered(FILES_AT_ONCE).try_collect().await?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Reads a part. Within a tokio runtime; reading goes no further than one batch ahead of who takes them.
    #[must_use]
    pub fn read(&self, part: &Part, wanted: Wanted) -> RowStream {
        let Some(file) = self.files.get(part.file).cloned() else {
            let reason = format!("there is no file {}", part.file);
            return stream::once(async { Err(DataError::Setting { field: "part", reason }) }).boxed();
        };
        if self.format == Format::Files {
            let count = match part.slice {
                Slice::Files { count } => count,
                _ => 1,
            };
            let files = self.files.iter().skip(part.file).take(count);
            let files = files.map(|file| (self.place(file), self.name(file), file.clone())).collect();
            return read::files::read(files, wanted);
        }
        let (place, known) = (self.place(&file), self.data_schema());
        let open = |wanted: Wanted| {
            let (place, file, part) = (place.clone(), file.clone(), part.clone());
            match self.format {
                Format::Parquet => read::parquet::read(place, file, part, wanted),
                Format::Arrow => read::arrow::read(place, file, part, wanted),
                Format::Csv => read::csv::read(&place, file, part, wanted, &known),
                Format::Jsonl | Format::Files => read::jsonl::read(&place, &file, &part, wanted, &known),
            }
        };
        if self.partitions.is_empty() {
            return open(wanted);
        }
        let partitioned = Partitioned::new(self, &file, wanted);
        let rows = open(partitioned.data.clone());
        rows.map(move |rows| partitioned.complete(rows?)).boxed()
    }

    /// Where a file is.
    pub(crate) fn place(&self, file: &File) -> Place {
        let folder = self.patterns.get(file.input).map(|pattern| &pattern.place);
        // It was found by that pattern.
        let path = object_store::path::Path::parse(&file.path).unwrap_or_default();
        match folder {
            Some(folder) => folder.found(path),
            None => Place {
                store: Arc::new(object_store::memory::InMemory::new()),
                path,
                shown: file.path.as_str().into(),
                local: None,
            },
        }
    }

    /// A file's path from the folder that is looked through, or its name.
    fn name(&self, file: &File) -> String {
        let folder = self.patterns.get(file.input).map(|pattern| &pattern.place);
        let path = object_store::path::Path::parse(&file.path).unwrap_or_default();
        let below = folder.and_then(|folder| folder.below(&path)).filter(|name| !name.is_empty());
        below.unwrap_or_else(|| path.filename().unwrap_or_default().to_owned())
    }

    /// The columns that are in the files.
    fn data_schema(&self) -> Schema {
        let in_files = |field: &&FieldRef| !self.partitions.contains(field.name());
        Schema::new(self.schema.fields().iter().filter(in_files).map(Arc::clone).collect::<Vec<_>>())
    }
}
