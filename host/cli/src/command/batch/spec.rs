//! The job that the command line and a job file make together.

use std::path::Path;

use clap::Args;
use vespid_batch::{InputSpec, JobSpec, Keep, KeepWord, MaxErrors, OneOrMore, OutputSpec};
use vespid_dataset::Format;
use vespid_types::{Datatype, Version};

use crate::failure::{Failure, Hint};

/// What a job says; each goes before what the job file has.
#[derive(Debug, Args)]
#[command(next_help_heading = "The job")]
pub(crate) struct SpecArgs {
    /// The model: a folder, a package that `vespid build` wrote, oci://..., or with --store a name
    #[arg(long, value_name = "NAME|PACKAGE")]
    model: Option<String>,
    /// The version of the model
    #[arg(long, value_name = "N")]
    version: Option<Version>,
    /// What is read: files, folders or globs, as paths, s3://, gs:// or az://; repeatable
    #[arg(long, value_name = "URL", num_args = 1..)]
    input: Vec<String>,
    /// The format of what is read: parquet, csv, jsonl, arrow, or files, of which each is a row [default: by the names]
    #[arg(long, value_name = "FORMAT")]
    input_format: Option<Format>,
    /// Which rows are read: a condition as after WHERE in SQL
    #[arg(long = "where", value_name = "CONDITION")]
    filter: Option<String>,
    /// The type of a column of CSV or JSON Lines, such as age=INT64; repeatable
    #[arg(long = "type", value_name = "COLUMN=DATATYPE", value_parser = pair::<Datatype>)]
    types: Vec<(String, Datatype)>,
    /// The column of an input of the model, or several that make one tensor; repeatable [default: the column of its name]
    #[arg(long = "map", value_name = "INPUT=COLUMN[,COLUMN...]", value_parser = pair::<String>)]
    inputs: Vec<(String, String)>,
    /// An output of the model that is written, and its column; repeatable [default: all of them]
    #[arg(long = "write", value_name = "OUTPUT[=COLUMN]")]
    outputs: Vec<String>,
    /// An output of datatype BYTES that is no text; repeatable
    #[arg(long, value_name = "OUTPUT")]
    binary: Vec<String>,
    /// The columns that are written beside the outputs: all, none, or their names [default: all]
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    keep: Vec<String>,
    /// The folder that is written, as a path, s3://, gs:// or az://
    #[arg(long, value_name = "URL")]
    output: Option<String>,
    /// The format of what is written: parquet, csv, jsonl or arrow [default: that of the input]
    #[arg(long, value_name = "FORMAT")]
    output_format: Option<Format>,
    /// How many rows may fail, or what part of them, before the job does [default: 0]
    #[arg(long, value_name = "N|P%")]
    max_errors: Option<MaxErrors>,
    /// Rows of one call of the model [default: those of a batch of its graph]
    #[arg(long, value_name = "N")]
    rows_per_call: Option<u32>,
    /// Whether the first dimension of the model's tensors is one of rows [default: where each tensor's is of any extent]
    #[arg(long, value_name = "true|false")]
    batched: Option<bool>,
}

fn pair<T: std::str::FromStr>(text: &str) -> Result<(String, T), String>
where
    T::Err: std::fmt::Display,
{
    let (name, value) = text.split_once('=').ok_or_else(|| format!("'{text}' has no ="))?;
    let value = value.parse().map_err(|error: T::Err| error.to_string())?;
    Ok((name.to_owned(), value))
}

impl SpecArgs {
    /// The job, checked as far as it can be without its model and files.
    pub(super) fn job(&self, file: Option<&Path>) -> anyhow::Result<JobSpec> {
        let mut job = match file {
            Some(file) => {
                let shown = file.display().to_string();
                let text = std::fs::read_to_string(file).hint(
                    format!("{shown} cannot be read"),
                    "name a file with a job, or give all on the command line",
                )?;
                JobSpec::from_yaml(&shown, &text)?
            }
            None => self.bare()?,
        };
        self.over(&mut job);
        job.check()?;
        Ok(job)
    }

    fn bare(&self) -> Result<JobSpec, Failure> {
        let missing = |option: &str| {
            Failure::usage(format!("{option} is missing"))
                .hint("give it, or name a file with the job; --help has examples")
        };
        if self.input.is_empty() {
            return Err(missing("--input"));
        }
        Ok(JobSpec {
            model: self.model.clone().ok_or_else(|| missing("--model"))?,
            version: None,
            input: InputSpec {
                url: OneOrMore::More(Vec::new()),
                format: None,
                filter: None,
                types: Default::default(),
            },
            inputs: Default::default(),
            outputs: Default::default(),
            binary: Vec::new(),
            keep: None,
            output: OutputSpec { url: self.output.clone().ok_or_else(|| missing("--output"))?, format: None },
            max_errors: MaxErrors::default(),
            rows_per_call: None,
            batched: None,
        })
    }

    fn over(&self, job: &mut JobSpec) {
        fn set<T: Clone>(field: &mut T, said: Option<&T>) {
            if let Some(said) = said {
                field.clone_from(said);
            }
        }
        fn set_some<T: Clone>(field: &mut Option<T>, said: Option<&T>) {
            if said.is_some() {
                *field = said.cloned();
            }
        }
        set(&mut job.model, self.model.as_ref());
        set_some(&mut job.version, self.version.as_ref());
        if !self.input.is_empty() {
            job.input.url = OneOrMore::More(self.input.clone());
        }
        set_some(&mut job.input.format, self.input_format.as_ref());
        set_some(&mut job.input.filter, self.filter.as_ref());
        job.input.types.extend(self.types.iter().cloned());
        for (input, columns) in &self.inputs {
            let columns = match columns.split_once(',') {
                None => OneOrMore::One(columns.clone()),
                Some(_) => OneOrMore::More(columns.split(',').map(str::to_owned).collect()),
            };
            job.inputs.insert(input.clone(), columns);
        }
        for output in &self.outputs {
            let (output, column) = output.split_once('=').unwrap_or((output, output));
            job.outputs.insert(output.to_owned(), column.to_owned());
        }
        job.binary.extend(self.binary.iter().cloned());
        match &self.keep[..] {
            [] => {}
            [word] if word == "all" => job.keep = Some(Keep::Word(KeepWord::All)),
            [word] if word == "none" => job.keep = Some(Keep::Word(KeepWord::None)),
            columns => job.keep = Some(Keep::Columns(columns.to_vec())),
        }
        set(&mut job.output.url, self.output.as_ref());
        set_some(&mut job.output.format, self.output_format.as_ref());
        set(&mut job.max_errors, self.max_errors.as_ref());
        set_some(&mut job.rows_per_call, self.rows_per_call.as_ref());
        set_some(&mut job.batched, self.batched.as_ref());
    }
}
