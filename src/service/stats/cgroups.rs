//! The cgroups of running containers, kept from one reading to the next: so that `/proc/<pid>/cgroup` is read once in a
//! container's life, and the rate of its CPU time can be told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cgroup::{Cgroup, Error, Usage};
use crate::id::ContainerId;
use crate::index::model::{Container, State};

/// Over less than this a rate says more about the moment than about the container.
const WINDOW: Duration = Duration::from_secs(1);

/// What is kept of running containers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Cgroups {
    known: Arc<Mutex<HashMap<ContainerId, Known>>>,
}

/// One start of a container.
struct Known {
    pid: i32,
    cgroup: Arc<Cgroup>,
    sample: Option<Sample>,
}

/// What a container uses, and since when it was known how much CPU time it takes.
pub(super) struct Reading {
    /// As the kernel counts.
    pub(super) usage: Usage,
    /// CPU time per time, in billionths of a core; None until it was read twice.
    pub(super) usage_nano_cores: Option<u64>,
}

/// Whether a container has a process, and with it something to be read.
pub(super) fn runs(container: &Container) -> bool {
    container.state == State::Running && container.pid > 0
}

impl Cgroups {
    /// Reads what a container uses. Blocks, though not for long; no lock is held while files are read.
    pub(super) fn read(&self, container: &Container) -> Result<Reading, Error> {
        let cgroup = self.cgroup(container)?;
        let at = Instant::now();
        let usage = cgroup.usage()?;
        Ok(Reading { usage_nano_cores: self.rate(container, at, usage.cpu_usage_ns), usage })
    }

    /// Forgets all containers but those that `keep` wants.
    pub(super) fn retain(&self, keep: impl Fn(&ContainerId) -> bool) {
        self.known().retain(|id, _| keep(id));
    }

    fn cgroup(&self, container: &Container) -> Result<Arc<Cgroup>, Error> {
        if let Some(known) = self.known().get(&container.id).filter(|known| known.pid == container.pid) {
            return Ok(known.cgroup.clone());
        }
        let cgroup = Arc::new(Cgroup::of_pid(container.pid)?);
        let known = Known { pid: container.pid, cgroup: cgroup.clone(), sample: None };
        self.known().insert(container.id.clone(), known);
        Ok(cgroup)
    }

    fn rate(&self, container: &Container, at: Instant, cpu_usage_ns: u64) -> Option<u64> {
        let mut known = self.known();
        let known = known.get_mut(&container.id).filter(|known| known.pid == container.pid)?;
        let sample = Sample::after(known.sample, at, cpu_usage_ns);
        known.sample = Some(sample);
        sample.nano_cores
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ContainerId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// CPU time at the end of the last whole window, and the rate within that window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at: Instant,
    cpu_usage_ns: u64,
    nano_cores: Option<u64>,
}

impl Sample {
    /// The sample to be kept once this has been read: the last one until its window is over. A counter that goes back
    /// begins anew.
    fn after(last: Option<Sample>, at: Instant, cpu_usage_ns: u64) -> Sample {
        let used = last.and_then(|last| Some((last, cpu_usage_ns.checked_sub(last.cpu_usage_ns)?)));
        let Some((last, used_ns)) = used else { return Sample { at, cpu_usage_ns, nano_cores: None } };
        let passed = at.saturating_duration_since(last.at);
        if passed < WINDOW {
            return last;
        }
        let rate = u128::from(used_ns) * Duration::from_secs(1).as_nanos() / passed.as_nanos();
        Sample { at, cpu_usage_ns, nano_cores: Some(u64::try_from(rate).unwrap_or(u64::MAX)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CORE_NS: u64 = 1_000_000_000;

    #[test]
    fn a_rate_is_told_from_the_second_reading_on() {
        let start = Instant::now();
        let first = Sample::after(None, start, 5 * CORE_NS);
        assert_eq!(first.nano_cores, None);
        let second = Sample::after(Some(first), start + Duration::from_secs(10), 10 * CORE_NS);
        assert_eq!(second.nano_cores, Some(CORE_NS / 2));
        let idle = Sample::after(Some(second), start + Duration::from_secs(20), 10 * CORE_NS);
        assert_eq!(idle.nano_cores, Some(0));
    }

    #[test]
    fn a_reading_within_the_window_repeats_the_last_rate_and_does_not_shorten_the_next() {
        let start = Instant::now();
        let first = Sample { at: start, cpu_usage_ns: 0, nano_cores: Some(7) };
        let soon = Sample::after(Some(first), start + Duration::from_millis(5), CORE_NS);
        assert_eq!(soon, first);
        let later = Sample::after(Some(soon), start + Duration::from_secs(2), CORE_NS);
        assert_eq!(later.nano_cores, Some(CORE_NS / 2));
    }

    #[test]
    fn a_counter_that_goes_back_begins_anew() {
        let start = Instant::now();
        let first = Sample { at: start, cpu_usage_ns: CORE_NS, nano_cores: Some(7) };
        let next = Sample::after(Some(first), start + Duration::from_secs(1), 5);
        assert_eq!((next.cpu_usage_ns, next.nano_cores), (5, None));
    }

    proptest! {
        #[test]
        fn no_counter_and_no_clock_overflows(
            before in any::<u64>(), now in any::<u64>(), earlier_ms in 0u64..5000, later_ms in 0u64..u64::from(u32::MAX),
        ) {
            let start = Instant::now();
            let at = |ms| start + Duration::from_millis(ms);
            let last = Sample { at: at(earlier_ms), cpu_usage_ns: before, nano_cores: None };
            let next = Sample::after(Some(last), at(later_ms), now);
            if let Some(rate) = next.nano_cores {
                prop_assert!(rate <= now - before);
            }
        }
    }
}
