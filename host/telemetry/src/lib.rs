//! Metrics, traces and logs of a serving process.
