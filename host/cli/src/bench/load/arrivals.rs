//! The times at which the requests of an open loop are to be sent.

use std::time::Duration;

use super::Limit;
use crate::bench::Arrivals;

/// The times from the beginning of a run, in order, computed as they are needed.
pub(super) struct Times {
    rate: f64,
    arrivals: Arrivals,
    limit: Limit,
    random: fastrand::Rng,
    /// How many there were so far.
    count: u64,
    /// Of random arrivals, the last one's in seconds.
    last: f64,
}

impl Times {
    pub(super) fn new(rate: f64, arrivals: Arrivals, limit: Limit, seed: u64) -> Self {
        Self { rate, arrivals, limit, random: fastrand::Rng::with_seed(seed), count: 0, last: 0.0 }
    }
}

impl Iterator for Times {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if matches!(self.limit, Limit::Requests(number) if self.count >= number) {
            return None;
        }
        let seconds = match self.arrivals {
            // From the count, so that errors do not add up.
            Arrivals::Constant => self.count as f64 / self.rate,
            Arrivals::Poisson => {
                // `f64` is below 1: the logarithm is finite.
                self.last -= (1.0 - self.random.f64()).ln() / self.rate;
                self.last
            }
        };
        self.count += 1;
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        match self.limit {
            Limit::Duration(duration) if time >= duration => None,
            _ => Some(time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_are_equally_far_apart() {
        let times = Times::new(4.0, Arrivals::Constant, Limit::Duration(Duration::from_secs(1)), 0);
        assert_eq!(times.map(|time| time.as_millis()).collect::<Vec<_>>(), [0, 250, 500, 750]);
        let times = Times::new(0.5, Arrivals::Constant, Limit::Requests(3), 0);
        assert_eq!(times.map(|time| time.as_secs()).collect::<Vec<_>>(), [0, 2, 4]);
    }

    #[test]
    fn random_arrivals_have_the_rate_and_the_spread_of_chance() {
        let times =
            |seed| Times::new(1000.0, Arrivals::Poisson, Limit::Duration(Duration::from_secs(20)), seed);
        let all: Vec<f64> = times(5).map(|time| time.as_secs_f64()).collect();
        assert!(all.is_sorted() && (19_000..21_000).contains(&all.len()), "{}", all.len());
        let gaps: Vec<f64> = all.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((0.9..1.1).contains(&(deviation / mean)), "an exponential's deviation is its mean");
        assert!(times(5).eq(times(5)) && !times(5).eq(times(6)));
        assert_eq!(Times::new(9.0, Arrivals::Poisson, Limit::Requests(7), 1).count(), 7);
    }
}
