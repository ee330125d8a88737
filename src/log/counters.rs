//! What the pumps have counted since the start of the process, over all containers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::figures::{Histogram, Reading};

/// Upper bounds of the lag's classes; one more class takes what is above.
pub const LAG_BOUNDS: &[Duration] = &[
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(10),
];

/// The counters. They only grow.
#[derive(Debug)]
pub(super) struct Counters {
    lines: AtomicU64,
    bytes: AtomicU64,
    damaged: AtomicU64,
    gaps: AtomicU64,
    late_drains: AtomicU64,
    lag: Histogram,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            lines: AtomicU64::default(),
            bytes: AtomicU64::default(),
            damaged: AtomicU64::default(),
            gaps: AtomicU64::default(),
            late_drains: AtomicU64::default(),
            lag: Histogram::new(LAG_BOUNDS),
        }
    }
}

/// Their values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
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
    /// [`LAG_BOUNDS`], and one above.
    pub lag: Vec<u64>,
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
            lag: self.lag.read().classes,
        }
    }

    pub(super) fn lag(&self) -> Reading {
        self.lag.read()
    }

    pub(super) fn written(&self, lines: u64, bytes: u64) {
        add(&self.lines, lines);
        add(&self.bytes, bytes);
    }

    pub(super) fn lagged(&self, lag: Duration) {
        self.lag.note(lag);
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
