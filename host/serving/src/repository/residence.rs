//! Which versions are in memory, where there is not room for all.
//!
//! Contract: while loaded models take up more than the budget, the one that was asked longest ago goes, down to one. It
//! ends its calls first, during which it still takes up what it does; its counters go on when it is loaded again. Versions
//! that could not come back as they are stay: those loaded with something in place of what is stored, and those that keep
//! sequences. Runs in the repository's task alone. Cost: a look at each loaded version for each that goes.

use std::sync::Arc;

use bytesize::ByteSize;
use vespid_types::{Error, ErrorCode, ModelName, Result, Version};

use super::Shared;
use crate::catalog::{Entry, Idle};
use crate::model::ReadyModel;

impl Shared {
    /// The bytes that loaded models take up.
    pub(super) fn in_memory(&self) -> u64 {
        let idle: u64 = self.predictor.ready().iter().map(|model| model.idle_memory()).sum();
        self.ledger.total().saturating_add(idle)
    }

    /// Sees whether a model would fit if it were alone.
    ///
    /// # Errors
    /// `TOO_LARGE`.
    pub(super) fn check_fits(&self, model: &ReadyModel) -> Result<()> {
        let needs = ByteSize(model.memory());
        match self.memory {
            Some(budget) if needs > budget => {
                let message = format!(
                    "model '{}' version {} takes {needs} of memory, and the server's models may take {budget} \
                     together (--memory-budget)",
                    model.name(),
                    model.version()
                );
                Err(Error::new(ErrorCode::TooLarge, message))
            }
            _ => Ok(()),
        }
    }

    /// Drops what was asked longest ago until `more` bytes fit in beside what stays. `keep` stays.
    pub(super) fn make_room(&self, more: u64, keep: Option<(&ModelName, Version)>) {
        let Some(budget) = self.memory else { return };
        let mut taken = self.in_memory().saturating_add(more);
        if taken <= budget.as_u64() {
            return;
        }
        let mut loaded = self.predictor.ready();
        loaded.retain(|model| keep != Some((model.name(), model.version())) && model.can_be_loaded_again());
        loaded.sort_by_key(|model| model.used());
        for model in loaded {
            if taken <= budget.as_u64() {
                return;
            }
            // Counted before it goes: what only it has is free once its calls have ended.
            taken = taken.saturating_sub(model.own_memory());
            self.send_away(&model);
        }
    }

    fn send_away(&self, model: &Arc<ReadyModel>) {
        let idle = Idle {
            counters: Arc::clone(model.counters()),
            since: Some(model.since()),
            memory: Some(model.memory()),
        };
        tracing::debug!(model = %model.name(), version = %model.version(), "out of memory until it is asked");
        self.predictor.catalog().set(model.name(), model.version(), Entry::Idle(Arc::new(idle)));
    }
}
