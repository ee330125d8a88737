//! What the pumps have counted since the start of the process, over all containers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Upper bounds of the lag's classes, in milliseconds; one more class takes what is above.
pub const LAG_BOUNDS_MS: [u64; 6] = [10, 25, 50, 250, 1000, 10_000];

/// The counters. They only grow.
#[derive(Debug, Default)]
pub(super) struct Counters {
    lines: AtomicU64,
    bytes: AtomicU64,
    damaged: AtomicU64,
    gaps: AtomicU64,
    late_drains: AtomicU64,
    lag: [AtomicU64; LAG_BOUNDS_MS.len() + 1],
}

/// Their values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Lines written to CRI logs.
    pub lines: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Lines of Docker's that were no whole ones: what of them could be read was kept.
    pub damaged: u64,
    /// Times that Docker removed a file which hadn't been read to its end, or may not have been: how much was in it nobody knows.
    pub gaps: u64,
    /// Containers whose end was told before their log was whole, since that took too long.
    pub late_drains: u64,
    /// Written batches by the time from Docker's stamp on their first line to the write: one class for each of
    /// [`LAG_BOUNDS_MS`], and one above.
    pub lag: [u64; LAG_BOUNDS_MS.len() + 1],
}

impl Counters {
    /// The values now.
    pub(super) fn read(&self) -> Counts {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            lines: now(&self.lines),
            bytes: now(&self.bytes),
            damaged: now(&self.damaged),
            gaps: now(&self.gaps),
            late_drains: now(&self.late_drains),
            lag: self.lag.each_ref().map(now),
        }
    }

    pub(super) fn written(&self, lines: u64, bytes: u64) {
        add(&self.lines, lines);
        add(&self.bytes, bytes);
    }

    pub(super) fn lagged(&self, lag: Duration) {
        let class = LAG_BOUNDS_MS.iter().position(|bound| lag <= Duration::from_millis(*bound));
        add(&self.lag[class.unwrap_or(LAG_BOUNDS_MS.len())], 1);
    }

    pub(super) fn lost(&self, damaged: u64, gaps: u64) {
        add(&self.damaged, damaged);
        add(&self.gaps, gaps);
    }

    pub(super) fn drained_late(&self) {
        add(&self.late_drains, 1);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_falls_into_the_first_class_that_holds_it() {
        let counters = Counters::default();
        for ms in [0, 10, 11, 50, 51, 10_000, 10_001, 3_600_000] {
            counters.lagged(Duration::from_millis(ms));
        }
        assert_eq!(counters.read().lag, [2, 1, 1, 1, 0, 1, 2]);
    }
}
