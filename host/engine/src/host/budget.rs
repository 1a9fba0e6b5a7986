//! The memory that one call may use: linear memories, tables, and the tensors that the host holds for the guest.
//!
//! Contract: what exceeds the limit is denied, and remembered, so that the trap which usually follows can be told from
//! others. Tensors of the request are the caller's and not counted; those that the guest or a graph makes are.

use wasmtime::ResourceLimiter;

/// A table's element, as the pooling allocator stores it.
const TABLE_ELEMENT: usize = size_of::<usize>();

pub(crate) struct Budget {
    limit: usize,
    used: usize,
    exceeded: bool,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), used: 0, exceeded: false }
    }

    /// Whether something was denied.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded
    }

    /// The bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Forgets a denial, before the next call.
    pub(crate) fn begin(&mut self) {
        self.exceeded = false;
    }

    /// Takes `bytes`; `false` where that would exceed the limit.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        match self.used.checked_add(bytes) {
            Some(used) if used <= self.limit => {
                self.used = used;
                true
            }
            _ => {
                self.exceeded = true;
                false
            }
        }
    }

    pub(crate) fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }
}

impl ResourceLimiter for Budget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.take(desired.saturating_sub(current)))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.take(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tensors_share_one_limit() {
        let mut budget = Budget::new(100);
        assert!(budget.memory_growing(0, 60, None).unwrap());
        assert!(budget.take(40));
        assert!(!budget.exceeded());
        assert!(!budget.memory_growing(60, 61, None).unwrap());
        assert!(budget.exceeded());
        budget.give_back(40);
        assert!(budget.memory_growing(60, 100, None).unwrap());
    }
}
