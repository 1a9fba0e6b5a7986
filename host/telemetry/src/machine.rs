//! The machine's processors and memory, as the kernel tells them.
//!
//! Contract: the utilisation is that since the last reading, of all processors; 0 at the first. What the kernel does not
//! tell is left out. Cost: two files are read for a reading.

use std::sync::{Mutex, PoisonError};

use procfs::{Current, CurrentSI, KernelStats, Meminfo};
use prometheus::Gauge;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

pub(crate) struct Machine {
    utilization: Gauge,
    total: Gauge,
    used: Gauge,
    /// Ticks at the last reading.
    last: Mutex<Option<Ticks>>,
}

#[derive(Clone, Copy)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl Machine {
    pub(crate) fn new() -> prometheus::Result<Self> {
        Ok(Self {
            utilization: Gauge::new(
                "nv_cpu_utilization",
                "How busy the machine's processors were since the last reading, from 0 to 1.",
            )?,
            total: Gauge::new("nv_cpu_memory_total_bytes", "The machine's memory.")?,
            used: Gauge::new("nv_cpu_memory_used_bytes", "The part of it that is not available.")?,
            last: Mutex::default(),
        })
    }
}

impl Ticks {
    fn now() -> Option<Self> {
        let cpu = KernelStats::current().ok()?.total;
        // Guests' time is in the user's.
        let busy = [Some(cpu.user), Some(cpu.nice), Some(cpu.system), cpu.irq, cpu.softirq, cpu.steal];
        let busy = busy.into_iter().flatten().sum();
        Some(Self { busy, all: busy + cpu.idle + cpu.iowait.unwrap_or_default() })
    }

    fn since(self, last: Self) -> f64 {
        let all = self.all.saturating_sub(last.all);
        if all == 0 { 0.0 } else { (self.busy.saturating_sub(last.busy) as f64 / all as f64).min(1.0) }
    }
}

impl Collector for Machine {
    fn desc(&self) -> Vec<&Desc> {
        [&self.utilization, &self.total, &self.used].iter().flat_map(|gauge| gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        if let Some(now) = Ticks::now() {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
            self.utilization.set(last.map_or(0.0, |last| now.since(last)));
            families.extend(self.utilization.collect());
        }
        if let Ok(memory) = Meminfo::current() {
            let available = memory.mem_available.unwrap_or(memory.mem_free);
            self.total.set(memory.mem_total as f64);
            self.used.set(memory.mem_total.saturating_sub(available) as f64);
            families.extend([&self.total, &self.used].into_iter().flat_map(Collector::collect));
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utilisation_is_the_busy_part_of_what_went_by() {
        let last = Ticks { busy: 100, all: 1000 };
        assert_eq!(Ticks { busy: 150, all: 1200 }.since(last), 0.25);
        assert_eq!(last.since(last), 0.0);
        // The kernel's counters may go back a little.
        assert_eq!(Ticks { busy: 90, all: 1001 }.since(last), 0.0);
    }
}
