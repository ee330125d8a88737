//! The time of what the index tells: statuses and events are stamped by one clock that never shows the same time twice and never
//! goes back, so that the kubelet, which keeps the newest of both, sees them in the order in which they were true.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch, for timestamps of readings.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The system's clock, made strictly increasing.
#[derive(Default)]
pub(super) struct Clock {
    last_ns: AtomicI64,
}

impl Clock {
    /// Nanoseconds since the epoch, later than all that was told before.
    pub(super) fn stamp(&self) -> i64 {
        self.stamp_at(now_ns())
    }

    fn stamp_at(&self, now: i64) -> i64 {
        let after = |last: i64| now.max(last.saturating_add(1));
        let told = self.last_ns.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(after(last)));
        told.map_or_else(after, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_told_twice_though_the_systems_clock_stands_still_or_goes_back() {
        let clock = Clock::default();
        let told = [1000, 1000, 7, 1001, 2000].map(|now| clock.stamp_at(now));
        assert_eq!(told, [1000, 1001, 1002, 1003, 2000]);
    }

    #[test]
    fn threads_never_share_a_time() {
        let clock = Clock::default();
        let stamps = || (0..2000).map(|_| clock.stamp()).collect::<Vec<_>>();
        let mut all = std::thread::scope(|scope| {
            let threads = [scope.spawn(stamps), scope.spawn(stamps), scope.spawn(stamps)];
            threads.map(|thread| thread.join().unwrap()).concat()
        });
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6000);
    }
}
