//! What lies where in a job's output.
//!
//! ```text
//! part-00000.parquet       a part's rows: there when the part is done, and not before
//! _errors/part-00000.jsonl the rows of it that failed, where some did
//! _SUCCESS                 there when all is done
//! _report.json             what came of it
//! _vespid/                 manifest.json, parts/ (what each part counted), leases/, staging/
//! ```
//! Names that begin with `_` are passed over by what reads folders of data.

use std::collections::BTreeMap;

use vespid_dataset::{Format, Place};

use crate::BatchError;

#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) root: Place,
}

const PREFIX: &str = "part-";

impl Layout {
    pub(crate) fn new(root: Place) -> Self {
        Self { root }
    }

    pub(crate) fn manifest(&self) -> Place {
        self.root.child("_vespid/manifest.json")
    }

    pub(crate) fn part(&self, part: usize, format: Format) -> Place {
        self.root.child(&format!("{PREFIX}{part:05}.{format}"))
    }

    pub(crate) fn record(&self, part: usize) -> Place {
        self.root.child(&format!("_vespid/parts/{part:05}.json"))
    }

    pub(crate) fn errors(&self, part: usize) -> Place {
        self.root.child(&format!("_errors/{PREFIX}{part:05}.jsonl"))
    }

    pub(crate) fn leases(&self) -> Place {
        self.root.child("_vespid/leases")
    }

    pub(crate) fn staging(&self) -> Place {
        self.root.child("_vespid/staging")
    }

    pub(crate) fn success(&self) -> Place {
        self.root.child("_SUCCESS")
    }

    pub(crate) fn report(&self) -> Place {
        self.root.child("_report.json")
    }

    /// The parts that are done, and the bytes of each.
    pub(crate) async fn done(&self, format: Format) -> Result<BTreeMap<usize, u64>, BatchError> {
        let suffix = format!(".{format}");
        let part = |(name, bytes): (String, u64)| {
            Some((name.strip_prefix(PREFIX)?.strip_suffix(&suffix)?.parse().ok()?, bytes))
        };
        Ok(self.root.list().await?.into_iter().filter_map(part).collect())
    }

    /// Sees that nothing is there that could be taken for this job's.
    pub(crate) async fn is_free(&self) -> Result<(), BatchError> {
        let found = self
            .root
            .list()
            .await?
            .into_iter()
            .map(|(name, _)| name)
            .find(|name| !name.starts_with("_vespid/"));
        match found {
            None => Ok(()),
            Some(name) => {
                let reason = format!(
                    "{} holds '{name}', and no job of Vespid's: name a folder that is empty or not there",
                    self.root.shown
                );
                Err(BatchError::job("output.url", reason))
            }
        }
    }
}
