//! What a cgroup uses, in units that hold for both versions. Plain values: the files that they come from are known in `v1.rs` and
//! `v2.rs` alone.

use super::UNLIMITED;

/// What a cgroup and everything below it use.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// CPU time since the cgroup was made, nanoseconds of one core.
    pub cpu_usage_ns: u64,
    /// Memory now.
    pub memory: Memory,
    /// Swap now; None where the kernel doesn't account it.
    pub swap: Option<Swap>,
    /// Time lost for want of cpu, memory and io, where the kernel tells it: cgroup v2, with PSI on.
    pub pressure: Pressures,
}

/// Memory of a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Everything charged, page cache too.
    pub usage_bytes: u64,
    /// Usage without the page cache that the kernel would drop first (inactive file pages): what eviction looks at.
    pub working_set_bytes: u64,
    /// Anonymous memory.
    pub rss_bytes: u64,
    /// Page cache.
    pub cache_bytes: u64,
    /// Files mapped into memory.
    pub mapped_file_bytes: u64,
    /// Since the cgroup was made.
    pub page_faults: u64,
    /// Those of them that had to wait for a disk.
    pub major_page_faults: u64,
    /// The limit less the working set; None without a limit.
    pub available_bytes: Option<u64>,
}

/// Swap of a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swap {
    /// Memory that is swapped out.
    pub usage_bytes: u64,
    /// The limit less the usage; None without a limit.
    pub available_bytes: Option<u64>,
}

/// Pressure of each kind; None where the kernel doesn't tell it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pressures {
    /// Waiting for a core.
    pub cpu: Option<Pressure>,
    /// Waiting for memory.
    pub memory: Option<Pressure>,
    /// Waiting for a disk.
    pub io: Option<Pressure>,
}

/// Pressure of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pressure {
    /// While at least one task waited.
    pub some: Option<Stall>,
    /// While all tasks waited; older kernels don't tell it of cpu.
    pub full: Option<Stall>,
}

/// A line of a pressure file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// Since the cgroup was made, microseconds.
    pub total_us: u64,
    /// Percent of the last 10 s.
    pub avg10: f64,
    /// Percent of the last 60 s.
    pub avg60: f64,
    /// Percent of the last 300 s.
    pub avg300: f64,
}

/// What is told of a container beside its usage: what dashboards show, and no eviction looks at. None of the files is on
/// every kernel: what isn't there is None or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// How its CPU time was spent.
    pub cpu_times: Option<CpuTimes>,
    /// What its CPU quota did to it.
    pub throttling: Option<Throttling>,
    /// Memory that the kernel holds for it.
    pub kernel_bytes: Option<u64>,
    /// The most that it ever used.
    pub peak_bytes: Option<u64>,
    /// How often it hit its memory limit.
    pub limit_hits: Option<u64>,
    /// Memory that is kept for it under pressure; 0 for none.
    pub reserved_bytes: Option<u64>,
    /// Processes that were killed because it was out of memory.
    pub oom_kills: Option<u64>,
    /// What it read from and wrote to block devices.
    pub devices: Vec<DeviceIo>,
    /// Huge pages, for each size.
    pub huge_pages: Vec<HugePages>,
    /// Threads now.
    pub threads: Option<u64>,
    /// Threads allowed; 0 for any number.
    pub threads_max: Option<u64>,
}

/// CPU time by who spent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTimes {
    /// In programs, nanoseconds.
    pub user_ns: u64,
    /// In the kernel, nanoseconds.
    pub system_ns: u64,
}

/// What the CPU quota did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttling {
    /// Periods that have passed under a quota.
    pub periods: u64,
    /// Those of them in which it was used up.
    pub throttled_periods: u64,
    /// How long was waited for the next one, nanoseconds.
    pub throttled_ns: u64,
}

/// What went to and from a block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// Its number.
    pub major: u32,
    /// Its number below that.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Requests that read.
    pub reads: u64,
    /// Requests that wrote.
    pub writes: u64,
}

/// Huge pages of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugePages {
    /// As the kernel names it: `2MB`.
    pub size: String,
    /// In use.
    pub usage_bytes: u64,
    /// The most that ever was; cgroup v2 doesn't tell it.
    pub peak_bytes: Option<u64>,
}

/// What both versions of the memory controller count.
pub(super) struct Counters {
    pub(super) usage_bytes: u64,
    pub(super) limit_bytes: u64,
    pub(super) inactive_file_bytes: u64,
    pub(super) rss_bytes: u64,
    pub(super) cache_bytes: u64,
    pub(super) mapped_file_bytes: u64,
    pub(super) page_faults: u64,
    pub(super) major_page_faults: u64,
}

impl From<Counters> for Memory {
    fn from(counted: Counters) -> Self {
        let working_set_bytes = counted.usage_bytes.saturating_sub(counted.inactive_file_bytes);
        Memory {
            usage_bytes: counted.usage_bytes,
            working_set_bytes,
            rss_bytes: counted.rss_bytes,
            cache_bytes: counted.cache_bytes,
            mapped_file_bytes: counted.mapped_file_bytes,
            page_faults: counted.page_faults,
            major_page_faults: counted.major_page_faults,
            available_bytes: left(counted.limit_bytes, working_set_bytes),
        }
    }
}

impl Swap {
    pub(super) fn new(usage_bytes: u64, limit_bytes: u64) -> Self {
        Swap { usage_bytes, available_bytes: left(limit_bytes, usage_bytes) }
    }
}

/// What is left of a limit; None if it is none.
fn left(limit_bytes: u64, used_bytes: u64) -> Option<u64> {
    (limit_bytes < UNLIMITED).then(|| limit_bytes.saturating_sub(used_bytes))
}

impl Usage {
    /// All of them together, for cgroups that have no parent of their own: without limits and pressure, which don't add up.
    pub fn sum(all: &[Usage]) -> Usage {
        let mut sum = Usage { cpu_usage_ns: 0, memory: Memory::default(), swap: None, pressure: Pressures::default() };
        for Usage { cpu_usage_ns, memory, swap, pressure: _ } in all {
            let into = &mut sum.memory;
            let figures = [
                (&mut sum.cpu_usage_ns, *cpu_usage_ns),
                (&mut into.usage_bytes, memory.usage_bytes),
                (&mut into.working_set_bytes, memory.working_set_bytes),
                (&mut into.rss_bytes, memory.rss_bytes),
                (&mut into.cache_bytes, memory.cache_bytes),
                (&mut into.mapped_file_bytes, memory.mapped_file_bytes),
                (&mut into.page_faults, memory.page_faults),
                (&mut into.major_page_faults, memory.major_page_faults),
            ];
            for (figure, more) in figures {
                *figure = figure.saturating_add(more);
            }
            if let Some(more) = swap {
                let swap = sum.swap.get_or_insert_default();
                swap.usage_bytes = swap.usage_bytes.saturating_add(more.usage_bytes);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_has_no_limits_and_does_not_wrap() {
        let memory = Memory { usage_bytes: u64::MAX, rss_bytes: 2, available_bytes: Some(9), ..Memory::default() };
        let swap = Some(Swap::new(3, 10));
        let one = Usage { cpu_usage_ns: 5, memory, swap, pressure: Pressures::default() };
        let sum = Usage::sum(&[one.clone(), one]);
        assert_eq!((sum.cpu_usage_ns, sum.memory.usage_bytes, sum.memory.rss_bytes), (10, u64::MAX, 4));
        assert_eq!(
            (sum.memory.available_bytes, sum.swap),
            (None, Some(Swap { usage_bytes: 6, available_bytes: None }))
        );
        assert_eq!(Usage::sum(&[]).swap, None);
    }

    #[test]
    fn nothing_is_left_of_no_limit_and_never_less_than_nothing() {
        assert_eq!(Swap::new(5, 3).available_bytes, Some(0));
        assert_eq!((Swap::new(5, u64::MAX).available_bytes, Swap::new(5, UNLIMITED).available_bytes), (None, None));
    }
}
