//! Two things measured in turn, so that what slows the machine down for a while slows both.
//!
//! Contract: a side is a closure that does so many calls and says how long they took. Both are run until they take about
//! the plan's time, which warms them up, and then once each in every round; which of the two goes first alternates. The
//! number of calls is a multiple of a unit, so that where calls differ, both sides make the same ones. The ratio is taken
//! round by round.

use std::fmt;
use std::time::Duration;

/// How often and how long.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    /// Of one side in one round, about.
    pub(crate) time: Duration,
    /// Calls are made in multiples of it.
    pub(crate) unit: u64,
}

impl Plan {
    /// The same with another unit.
    pub(crate) fn in_units_of(self, unit: u64) -> Self {
        Self { unit, ..self }
    }
}

/// Does so many calls; how long they took.
pub(crate) type Side<'a> = &'a mut dyn FnMut(u64) -> Duration;

/// What came out: seconds a call, by rounds.
pub(crate) struct Compared {
    one: Vec<f64>,
    other: Vec<f64>,
    /// Calls that the second side made in all rounds, those of the warm-up left out.
    pub(crate) calls: u64,
}

/// A median and the quartiles around it.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    low: f64,
    pub(crate) median: f64,
    high: f64,
}

/// Measures two sides; `begin` is called between the warm-up and the first round.
pub(crate) fn compare(plan: &Plan, one: Side<'_>, other: Side<'_>, begin: impl FnOnce()) -> Compared {
    let calls = [calls(plan, one), calls(plan, other)];
    begin();
    let mut compared = Compared { one: Vec::new(), other: Vec::new(), calls: 0 };
    for round in 0..plan.rounds {
        let first = round.is_multiple_of(2);
        if first {
            compared.one.push(each(one, calls[0]));
        }
        compared.other.push(each(other, calls[1]));
        if !first {
            compared.one.push(each(one, calls[0]));
        }
        compared.calls += calls[1];
    }
    compared
}

/// How many calls take about the plan's time.
fn calls(plan: &Plan, side: Side<'_>) -> u64 {
    let mut units = 1;
    loop {
        let took = side(units * plan.unit);
        if took * 2 >= plan.time {
            let fitting = units as f64 * plan.time.as_secs_f64() / took.as_secs_f64();
            return (fitting as u64).max(1) * plan.unit;
        }
        units *= 2;
    }
}

fn each(side: Side<'_>, calls: u64) -> f64 {
    side(calls).as_secs_f64() / calls as f64
}

impl Compared {
    /// Seconds a call of the first side.
    pub(crate) fn one(&self) -> Spread {
        Spread::of(self.one.clone())
    }

    /// Seconds a call of the second side.
    pub(crate) fn other(&self) -> Spread {
        Spread::of(self.other.clone())
    }

    /// The second side's time by the first one's.
    pub(crate) fn times(&self) -> Spread {
        Spread::of(self.other.iter().zip(&self.one).map(|(other, one)| other / one).collect())
    }

    /// How many calls the second side makes while the first makes one.
    pub(crate) fn throughput(&self) -> Spread {
        Spread::of(self.one.iter().zip(&self.other).map(|(one, other)| one / other).collect())
    }
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let place = part * (values.len() - 1) as f64;
            let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Self { low: at(0.25), median: at(0.5), high: at(0.75) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ({:.3}-{:.3})", self.median, self.low, self.high)
    }
}

/// Seconds, in the unit that suits them.
pub(crate) fn time(seconds: f64) -> String {
    match seconds.abs() {
        ..1e-3 => format!("{:.1} us", seconds * 1e6),
        ..1.0 => format!("{:.3} ms", seconds * 1e3),
        _ => format!("{seconds:.3} s"),
    }
}
