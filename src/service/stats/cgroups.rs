//! The cgroups of running containers and pods, kept from one reading to the next: so that `/proc/<pid>/cgroup` is read once in a
//! container's life, and the rate of its CPU time can be told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cgroup::{Cgroup, Error, Usage};
use crate::index::model::{Container, Sandbox, State};
use crate::service::now_ns;
use crate::translate::stats::Reading;

/// Over less than this a rate says more about the moment than about the container.
const WINDOW: Duration = Duration::from_secs(1);

/// What is kept of running containers and ready sandboxes. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Cgroups {
    /// By Docker's id.
    known: Arc<Mutex<HashMap<String, Known>>>,
}

/// One start of a container.
struct Known {
    pid: i32,
    cgroup: Arc<Cgroup>,
    sample: Option<Sample>,
}

/// Whether a container has a process, and with it something to be read.
pub(super) fn runs(container: &Container) -> bool {
    container.state == State::Running && container.pid > 0
}

/// Whether a sandbox has a process, and with it a pod that something can be read of.
pub(super) fn is_up(sandbox: &Sandbox) -> bool {
    sandbox.ready && sandbox.pid > 0
}

impl Cgroups {
    /// Reads what a container uses. Blocks, though not for long; no lock is held while files are read.
    pub(super) fn read(&self, container: &Container) -> Result<Reading, Error> {
        let (id, pid) = (container.id.as_str(), container.pid);
        let cgroup = self.of(id, pid)?;
        self.reading(id, pid, || cgroup.usage())
    }

    /// Reads what a pod uses: from its cgroup, if the kubelet gave it one; else it is the pause process and all the containers.
    pub(super) fn read_pod(&self, sandbox: &Sandbox, containers: &[Reading]) -> Result<Reading, Error> {
        let (id, pid) = (sandbox.id.as_str(), sandbox.pid);
        let pause = self.of(id, pid)?;
        let has_own = !sandbox.cgroup_parent.trim_matches('/').is_empty();
        let parent = has_own.then(|| pause.parent()).flatten();
        self.reading(id, pid, || match parent.map(|parent| parent.usage()) {
            // a parent may lack a controller that its containers have
            Some(read) if !matches!(read, Err(Error::Missing { .. })) => read,
            _ => {
                let mut all: Vec<Usage> = containers.iter().map(|reading| reading.usage.clone()).collect();
                all.push(pause.usage()?);
                Ok(Usage::sum(&all))
            }
        })
    }

    /// The cgroup of a container or of a sandbox's pause process.
    pub(super) fn of(&self, id: &str, pid: i32) -> Result<Arc<Cgroup>, Error> {
        if let Some(known) = self.known().get(id).filter(|known| known.pid == pid) {
            return Ok(known.cgroup.clone());
        }
        let cgroup = Arc::new(Cgroup::of_pid(pid)?);
        self.known().insert(id.to_owned(), Known { pid, cgroup: cgroup.clone(), sample: None });
        Ok(cgroup)
    }

    /// Forgets all but those ids that `keep` wants.
    pub(super) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.known().retain(|id, _| keep(id));
    }

    fn reading(&self, id: &str, pid: i32, read: impl FnOnce() -> Result<Usage, Error>) -> Result<Reading, Error> {
        let (at, timestamp_ns) = (Instant::now(), now_ns());
        let usage = read()?;
        Ok(Reading { timestamp_ns, usage_nano_cores: self.rate(id, pid, at, usage.cpu_usage_ns), usage })
    }

    fn rate(&self, id: &str, pid: i32, at: Instant, cpu_usage_ns: u64) -> Option<u64> {
        let mut known = self.known();
        let known = known.get_mut(id).filter(|known| known.pid == pid)?;
        let sample = Sample::after(known.sample, at, cpu_usage_ns);
        known.sample = Some(sample);
        sample.nano_cores
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
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
