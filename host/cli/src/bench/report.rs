//! The report, for people and for scripts.

pub(super) mod json;
pub(super) mod table;

use super::Run;
use super::subject::Subject;

impl Run {
    /// Requests a second that succeeded.
    fn requests_per_second(&self) -> f64 {
        let seconds = self.measured.elapsed.as_secs_f64();
        if seconds > 0.0 { self.measured.record.succeeded() as f64 / seconds } else { 0.0 }
    }

    /// The same in rows, where the inputs are a batch.
    fn rows_per_second(&self, subject: &Subject) -> Option<f64> {
        subject.rows.map(|rows| self.requests_per_second() * rows as f64)
    }
}
