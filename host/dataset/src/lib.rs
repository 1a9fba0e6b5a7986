//! Files as rows, and rows as files: what a job reads from and writes to.
//!
//! Contract: a [`Dataset`] is a list of files of one format, found below folders and buckets; it is divided into [`Part`]s that can
//! be read apart, and each row of a part knows the file and the row number that it came from. A row that cannot be read is told
//! ([`Refused`]) beside those that can; a file that cannot be read is a [`DataError`] that names it. A [`Writer`]'s file appears
//! whole or not at all, and a [`Lease`] keeps all but one worker from a part. Cost: memory for a few batches of rows (for Parquet,
//! what is wanted of a row group as it is stored), whatever the size of the files. Left out on purpose: tensors, models, and
//! what a job is.

mod dataset;
mod documents;
mod error;
mod filter;
mod format;
mod lease;
mod place;
mod read;
mod rows;
mod stamp;
mod write;

pub use dataset::{Dataset, DatasetOptions, File, Part, Slice};
pub use error::DataError;
pub use filter::Filter;
pub use format::{Compression, Format};
pub use lease::{Lease, LeaseOptions, Taken};
pub use place::{Pattern, Place};
pub use read::{Objects, RowStream, Wanted, check_stream, objects};
pub use rows::{Origin, Refused, Rows};
pub use write::{Writer, WriterOptions, Written, to_objects};
