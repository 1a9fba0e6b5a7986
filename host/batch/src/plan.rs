//! What a job is to do, decided once and written beside its output: `_vespid/manifest.json`.
//!
//! Contract: whoever comes first plans, and everyone works by what stands there: which files, as they were, divided into which parts;
//! which version of the model, by its digest; and all that the job left open. A job that differs in what its output depends on is
//! refused ([`BatchError::OtherJob`]); what does not matter to it (how many rows may fail) may change between runs.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::convert::IpcSchemaEncoder;
use arrow::ipc::writer::DictionaryTracker;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use vespid_dataset::{Dataset, DatasetOptions, File, Filter, Format, Part, Writer};
use vespid_serving::{Predictor, ReadyModel};
use vespid_types::{Digest, ModelName, ModelRef, Version};

use crate::BatchError;
use crate::answer::{Answerer, for_jobs};
use crate::layout::Layout;
use crate::mapping::{Columns, Mapping, MappingOptions, dataset_types};
use crate::places;
use crate::probe;
use crate::spec::JobSpec;

/// Bytes of a text file, or of an Arrow file's batches, that make a part.
const PART_BYTES: u64 = 64 << 20;

/// Rows of a call where the graph makes no batches, and a plugin has many rows all the same.
const ROWS_PER_CALL: u32 = 64;

/// As it stands in the store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The job, with all that was left open filled in.
    pub(crate) job: JobSpec,
    pub(crate) model: ModelIdentity,
    /// Milliseconds since 1970.
    pub(crate) planned: u64,
    input: Files,
    pub(crate) parts: Vec<Part>,
}

/// Which model answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Its name.
    pub name: ModelName,
    /// The version.
    pub version: Version,
    /// What its package holds.
    pub digest: Digest,
}

#[derive(Debug, Serialize, Deserialize)]
struct Files {
    format: Format,
    partitions: Vec<String>,
    /// Arrow's schema, as Arrow writes it, in base64.
    schema: String,
    files: Vec<File>,
}

/// All that is needed to work at the parts.
pub(crate) struct Plan {
    pub(crate) manifest: Manifest,
    pub(crate) dataset: Dataset,
    pub(crate) filter: Option<Filter>,
    pub(crate) mapping: Mapping,
    pub(crate) layout: Layout,
    pub(crate) format: Format,
}

impl Plan {
    /// The plan that stands in the output, or a new one.
    ///
    /// # Errors
    /// What of the job does not fit the model or the files, before any row is read; [`BatchError::OtherJob`].
    pub(crate) async fn make(
        job: &JobSpec,
        model: &ReadyModel,
        predictor: &Predictor,
    ) -> Result<Self, BatchError> {
        let layout = Layout::new(places::place(&job.output.url)?);
        let identity = identity(model);
        if let Some(manifest) = read(&layout).await? {
            return Self::again(job, &identity, manifest, model, layout);
        }
        layout.is_free().await?;
        let filter = job.input.filter.as_deref().map(Filter::parse).transpose()?;
        let patterns =
            job.input.url.as_slice().iter().map(|url| places::pattern(url)).collect::<Result<_, _>>()?;
        let options = DatasetOptions { format: job.input.format, types: dataset_types(&job.input.types)? };
        let dataset = Dataset::open(patterns, &options).await?;
        if let Some(filter) = &filter {
            filter.check(dataset.schema())?;
        }
        let mut planned = complete(job, &identity, &dataset);
        let (mapping, format) = mapping(&planned, model, &dataset)?;
        let parts = dataset.parts(filter.as_ref(), PART_BYTES).await?;
        if planned.rows_per_call.is_none() {
            let of_graph = of_graph(model);
            let sample = match mapping.batched {
                true => probe::sample(&dataset, &parts, &mapping, filter.as_ref()).await,
                false => None,
            };
            planned.rows_per_call = Some(match sample {
                Some(rows) => {
                    let asked = ModelRef { name: identity.name.clone(), version: Some(identity.version) };
                    let answerer =
                        Answerer::new(predictor.clone(), asked, mapping.clone(), for_jobs(1, usize::MAX));
                    probe::rows_per_call(&answerer, &rows, of_graph).await
                }
                None => of_graph,
            });
        }
        let input = Files {
            format: dataset.format(),
            partitions: dataset.partitions().to_vec(),
            schema: STANDARD.encode(encode(dataset.schema())),
            files: dataset.files().to_vec(),
        };
        let manifest = Manifest { job: planned, model: identity.clone(), planned: now(), input, parts };
        let text = serde_json::to_vec(&manifest).map_err(|error| BatchError::Internal(error.to_string()))?;
        if !layout.manifest().put_new(text.into()).await? {
            // Another worker was quicker: its plan is everyone's.
            let theirs = read(&layout).await?;
            let theirs =
                theirs.ok_or_else(|| BatchError::Internal("the manifest is there and is not".to_owned()))?;
            return Self::again(job, &identity, theirs, model, layout);
        }
        Ok(Self { manifest, dataset, filter, mapping, layout, format })
    }

    /// Goes on with what was planned before.
    fn again(
        job: &JobSpec,
        identity: &ModelIdentity,
        mut manifest: Manifest,
        model: &ReadyModel,
        layout: Layout,
    ) -> Result<Self, BatchError> {
        let differs = differences(job, identity, &manifest)?;
        if !differs.is_empty() {
            return Err(BatchError::OtherJob { output: layout.root.shown.to_string(), differs });
        }
        manifest.job.max_errors = job.max_errors;
        let job = &manifest.job;
        let patterns =
            job.input.url.as_slice().iter().map(|url| places::pattern(url)).collect::<Result<_, _>>()?;
        let Files { format, partitions, schema, files } = &manifest.input;
        let damaged = |reason: String| BatchError::File { file: layout.manifest().shown.to_string(), reason };
        let schema = STANDARD.decode(schema).map_err(|error| damaged(error.to_string()))?;
        let schema = decode(&schema).map_err(damaged)?;
        let dataset = Dataset::of_files(patterns, files.clone(), *format, schema, partitions.clone());
        let filter = job.input.filter.as_deref().map(Filter::parse).transpose()?;
        let (mapping, format) = mapping(job, model, &dataset)?;
        Ok(Self { dataset, filter, mapping, layout, format, manifest })
    }

    /// Rows of one call.
    pub(crate) fn rows_per_call(&self) -> usize {
        if self.mapping.batched {
            self.manifest.job.rows_per_call.unwrap_or(ROWS_PER_CALL) as usize
        } else {
            1
        }
    }
}

fn identity(model: &ReadyModel) -> ModelIdentity {
    ModelIdentity { name: model.name().clone(), version: model.version(), digest: model.digest() }
}

/// The job with what it left open.
fn complete(job: &JobSpec, identity: &ModelIdentity, dataset: &Dataset) -> JobSpec {
    let mut job = job.clone();
    job.model = identity.name.to_string();
    job.version = Some(identity.version);
    job.output.format.get_or_insert(match dataset.format() {
        Format::Files => Format::Parquet,
        format => format,
    });
    job
}

/// As many rows as a batch of the model's graphs takes.
fn of_graph(model: &ReadyModel) -> u32 {
    let graphs = model.manifest().graphs.iter().filter_map(|graph| graph.batching.max_rows);
    let rows = graphs.filter(|rows| *rows > 1).min().and_then(|rows| u32::try_from(rows).ok());
    rows.unwrap_or(ROWS_PER_CALL)
}

fn mapping(job: &JobSpec, model: &ReadyModel, dataset: &Dataset) -> Result<(Mapping, Format), BatchError> {
    let format = job.output.format.unwrap_or(Format::Parquet);
    let columns =
        Columns { schema: dataset.schema(), format: dataset.format(), partitions: dataset.partitions() };
    let mapping = Mapping::plan(MappingOptions {
        choices: job.into(),
        signature: model.signature(),
        columns,
        output: format,
    })?;
    Writer::check(format, &mapping.schema)?;
    Ok((mapping, format))
}

async fn read(layout: &Layout) -> Result<Option<Manifest>, BatchError> {
    let place = layout.manifest();
    let Some(text) = place.get().await? else { return Ok(None) };
    let manifest = serde_json::from_slice(&text);
    manifest
        .map(Some)
        .map_err(|error| BatchError::File { file: place.shown.to_string(), reason: error.to_string() })
}

/// What differs between a job and one that was planned, of what the output depends on. What the job leaves open is as planned.
fn differences(
    job: &JobSpec,
    identity: &ModelIdentity,
    manifest: &Manifest,
) -> Result<Vec<String>, BatchError> {
    let internal = |error: serde_json::Error| BatchError::Internal(error.to_string());
    let mut asked = job.clone();
    let planned = &manifest.job;
    // The model is compared by its identity, whatever it was found by.
    asked.model.clone_from(&planned.model);
    asked.version = asked.version.or(planned.version);
    asked.output.format = asked.output.format.or(planned.output.format);
    asked.rows_per_call = asked.rows_per_call.or(planned.rows_per_call);
    // The output may be reached by another name, and how many rows may fail is free to change.
    asked.output.url.clone_from(&planned.output.url);
    asked.max_errors = planned.max_errors;
    let (asked, there) = (
        serde_json::to_value((&asked, identity)).map_err(internal)?,
        serde_json::to_value((planned, &manifest.model)).map_err(internal)?,
    );
    let mut differs = Vec::new();
    compare("", &asked, &there, &mut differs);
    Ok(differs)
}

fn compare(field: &str, asked: &serde_json::Value, there: &serde_json::Value, differs: &mut Vec<String>) {
    use serde_json::Value::{Array, Null, Object};
    match (asked, there) {
        (Object(a), Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let name = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
                compare(&name, a.get(key).unwrap_or(&Null), b.get(key).unwrap_or(&Null), differs);
            }
        }
        (Array(a), Array(b)) if field.is_empty() => {
            a.iter().zip(b).for_each(|(a, b)| compare("", a, b, differs));
        }
        (a, b) if a != b => differs.push(format!("{field} is {a}, and there {b}")),
        _ => {}
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn encode(schema: &Schema) -> Vec<u8> {
    // It numbers the dictionaries, and without it a schema that has one is a panic.
    let mut dictionaries = DictionaryTracker::new(false);
    let mut encoder = IpcSchemaEncoder::new().with_dictionary_tracker(&mut dictionaries);
    let encoded = encoder.schema_to_fb(schema);
    encoded.finished_data().to_vec()
}

fn decode(bytes: &[u8]) -> Result<SchemaRef, String> {
    let schema = arrow::ipc::root_as_schema(bytes).map_err(|error| error.to_string())?;
    let schema = arrow::ipc::convert::try_fb_to_schema(schema).map_err(|error| error.to_string())?;
    Ok(Arc::new(schema))
}
