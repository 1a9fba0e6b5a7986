//! One worker a part.

use std::time::Duration;

use crate::{DataError, Place};

/// How leases are taken and held.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// A lease that has not been renewed for so long, as its observer's clock sees it, is over.
    pub expiry: Duration,
}

/// A right to write a part, renewed by a task of its own until it is dropped or given back.
pub struct Lease {}

/// What came of asking for a lease.
pub enum Taken {
    /// It is ours.
    Ours(Lease),
    /// Somebody else has it; who, as it is shown to people.
    Theirs(String),
}

impl Lease {
    /// Takes the lease `name` in `folder`, or says who has it. That of a process of this machine which has ended is over at once;
    /// another's is over when it has not been renewed for [`LeaseOptions::expiry`] - this waits for that.
    ///
    /// # Errors
    /// [`DataError::Object`].
    pub async fn take(folder: &Place, name: &str, options: &LeaseOptions) -> Result<Taken, DataError> {
        let _ = (folder, name, options);
        todo!()
    }

    /// Whether it is still ours, asked of the store: before what is written is to appear.
    ///
    /// # Errors
    /// [`DataError::Object`].
    pub async fn confirm(&self) -> Result<bool, DataError> {
        todo!()
    }

    /// Gives it back.
    pub async fn release(self) {}
}
