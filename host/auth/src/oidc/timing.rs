//! How often and how long providers are asked.

use std::time::Duration;

/// How often and how long providers are asked, and files are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// For a connection.
    pub(crate) connect: Duration,
    /// For an answer, from beginning to end.
    pub(crate) answer: Duration,
    /// Between two looks at the keys, where the provider does not say.
    pub(crate) refresh: Duration,
    /// Where it does, between these.
    pub(crate) refresh_least: Duration,
    pub(crate) refresh_most: Duration,
    /// Between two looks at the keys because of tokens whose key is not there.
    pub(crate) unknown_key: Duration,
    /// For how long such a token waits for the look.
    pub(crate) patience: Duration,
    /// How long keys are used after the last look that succeeded.
    pub(crate) stale: Duration,
    /// Between two attempts at a provider that is down, growing from the one to the other.
    pub(crate) first_retry: Duration,
    pub(crate) longest_retry: Duration,
    /// Between two looks at the files.
    pub(crate) files: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(3),
            answer: seconds(5),
            refresh: seconds(600),
            refresh_least: seconds(60),
            refresh_most: seconds(3600),
            unknown_key: seconds(10),
            patience: seconds(5),
            stale: seconds(24 * 3600),
            first_retry: seconds(1),
            longest_retry: seconds(60),
            files: seconds(2),
        }
    }
}
