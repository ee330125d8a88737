//! What metrics there are: name, kind, labels and a sentence for each. A metric is made through its family alone, so that what
//! is listed and what is sent can't differ.

use crate::cri;

/// Labels of every metric; its own ones follow.
pub const BASE: [&str; 5] = ["pod", "namespace", "container", "id", "image"];

/// A kind of metric.
#[derive(Debug)]
pub struct Family {
    /// As Prometheus sees it.
    pub name: &'static str,
    /// What it tells, and in which unit.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: cri::MetricType,
    /// Labels beside [`BASE`].
    pub own: &'static [&'static str],
}

impl Family {
    /// As ListMetricDescriptors tells it.
    pub fn descriptor(&self) -> cri::MetricDescriptor {
        cri::MetricDescriptor {
            name: self.name.to_owned(),
            help: self.help.to_owned(),
            label_keys: BASE.iter().chain(self.own).map(|key| (*key).to_owned()).collect(),
        }
    }

    /// One value; `base` and `own` in the order of the keys.
    pub(super) fn value(&self, base: &[String; 5], own: &[&str], timestamp: i64, value: u64) -> cri::Metric {
        debug_assert_eq!(own.len(), self.own.len(), "{}", self.name);
        let mut label_values = Vec::with_capacity(base.len() + own.len());
        label_values.extend_from_slice(base);
        label_values.extend(own.iter().map(|value| (*value).to_owned()));
        cri::Metric {
            name: self.name.to_owned(),
            timestamp,
            metric_type: self.kind.into(),
            label_values,
            value: Some(cri::UInt64Value { value }),
        }
    }
}

macro_rules! families {
    ($($ident:ident $name:literal $kind:ident [$($own:literal)*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $ident: Family =
                Family { name: $name, help: $help, kind: cri::MetricType::$kind, own: &[$($own),*] };
        )*

        /// Every family, by name.
        pub static ALL: &[&Family] = &[$(&$ident),*];
    };
}

families! {
    BLKIO_DEVICE_USAGE "container_blkio_device_usage_total" Counter ["device" "major" "minor" "operation"]
        "Bytes read from or written to a block device.";
    CPU_CFS_PERIODS "container_cpu_cfs_periods_total" Counter []
        "Periods that have passed under a CPU quota.";
    CPU_CFS_THROTTLED_PERIODS "container_cpu_cfs_throttled_periods_total" Counter []
        "Periods in which the CPU quota was used up.";
    CPU_CFS_THROTTLED_SECONDS "container_cpu_cfs_throttled_seconds_total" Counter []
        "Time spent waiting for the next period of the CPU quota, in seconds.";
    CPU_SYSTEM_SECONDS "container_cpu_system_seconds_total" Counter []
        "CPU time spent in the kernel, in seconds.";
    CPU_USAGE_SECONDS "container_cpu_usage_seconds_total" Counter []
        "CPU time spent, in seconds of one core.";
    CPU_USER_SECONDS "container_cpu_user_seconds_total" Counter []
        "CPU time spent in programs, in seconds.";
    FILE_DESCRIPTORS "container_file_descriptors" Gauge []
        "Files and sockets held open by all processes.";
    FS_INODES_FREE "container_fs_inodes_free" Gauge ["device"]
        "Free inodes of the file system that has the writable layer.";
    FS_INODES_TOTAL "container_fs_inodes_total" Gauge ["device"]
        "All inodes of the file system that has the writable layer.";
    FS_LIMIT_BYTES "container_fs_limit_bytes" Gauge ["device"]
        "Size of the file system that has the writable layer, in bytes.";
    FS_READS_BYTES "container_fs_reads_bytes_total" Counter ["device"]
        "Bytes read from a block device.";
    FS_READS "container_fs_reads_total" Counter ["device"]
        "Requests that read from a block device.";
    FS_USAGE_BYTES "container_fs_usage_bytes" Gauge ["device"]
        "Blocks that the writable layer takes, in bytes; measured in the background.";
    FS_WRITES_BYTES "container_fs_writes_bytes_total" Counter ["device"]
        "Bytes written to a block device.";
    FS_WRITES "container_fs_writes_total" Counter ["device"]
        "Requests that wrote to a block device.";
    HUGETLB_MAX_USAGE_BYTES "container_hugetlb_max_usage_bytes" Gauge ["pagesize"]
        "The most bytes that ever were in huge pages of a size; cgroup v1 only.";
    HUGETLB_USAGE_BYTES "container_hugetlb_usage_bytes" Gauge ["pagesize"]
        "Bytes in huge pages of a size.";
    LAST_SEEN "container_last_seen" Gauge []
        "When this was read, in seconds since the epoch.";
    MEMORY_CACHE "container_memory_cache" Gauge []
        "Page cache, in bytes.";
    MEMORY_FAILCNT "container_memory_failcnt" Counter []
        "How often usage hit the memory limit.";
    MEMORY_FAILURES "container_memory_failures_total" Counter ["failure_type" "scope"]
        "Page faults: pgfault counts all, pgmajfault those that had to wait for a disk.";
    MEMORY_KERNEL_USAGE "container_memory_kernel_usage" Gauge []
        "Memory that the kernel holds, in bytes.";
    MEMORY_MAPPED_FILE "container_memory_mapped_file" Gauge []
        "Files mapped into memory, in bytes.";
    MEMORY_MAX_USAGE_BYTES "container_memory_max_usage_bytes" Gauge []
        "The most memory that was ever used, in bytes; before kernel 5.19, cgroup v2 knows only what is used now.";
    MEMORY_RSS "container_memory_rss" Gauge []
        "Anonymous memory, in bytes.";
    MEMORY_SWAP "container_memory_swap" Gauge []
        "Memory swapped out, in bytes.";
    MEMORY_USAGE_BYTES "container_memory_usage_bytes" Gauge []
        "Memory in use, page cache included, in bytes.";
    MEMORY_WORKING_SET_BYTES "container_memory_working_set_bytes" Gauge []
        "Memory in use without inactive page cache, in bytes: what eviction looks at.";
    NETWORK_RECEIVE_BYTES "container_network_receive_bytes_total" Counter ["interface"]
        "Bytes received.";
    NETWORK_RECEIVE_ERRORS "container_network_receive_errors_total" Counter ["interface"]
        "Packets received damaged.";
    NETWORK_RECEIVE_PACKETS_DROPPED "container_network_receive_packets_dropped_total" Counter ["interface"]
        "Packets dropped on arrival.";
    NETWORK_RECEIVE_PACKETS "container_network_receive_packets_total" Counter ["interface"]
        "Packets received.";
    NETWORK_TRANSMIT_BYTES "container_network_transmit_bytes_total" Counter ["interface"]
        "Bytes sent.";
    NETWORK_TRANSMIT_ERRORS "container_network_transmit_errors_total" Counter ["interface"]
        "Packets that could not be sent.";
    NETWORK_TRANSMIT_PACKETS_DROPPED "container_network_transmit_packets_dropped_total" Counter ["interface"]
        "Packets dropped before they were sent.";
    NETWORK_TRANSMIT_PACKETS "container_network_transmit_packets_total" Counter ["interface"]
        "Packets sent.";
    OOM_EVENTS "container_oom_events_total" Counter []
        "Processes killed because the container was out of memory.";
    PRESSURE_CPU_STALLED "container_pressure_cpu_stalled_seconds_total" Counter []
        "Time in which all tasks waited for a core, in seconds.";
    PRESSURE_CPU_WAITING "container_pressure_cpu_waiting_seconds_total" Counter []
        "Time in which a task waited for a core, in seconds.";
    PRESSURE_IO_STALLED "container_pressure_io_stalled_seconds_total" Counter []
        "Time in which all tasks waited for a disk, in seconds.";
    PRESSURE_IO_WAITING "container_pressure_io_waiting_seconds_total" Counter []
        "Time in which a task waited for a disk, in seconds.";
    PRESSURE_MEMORY_STALLED "container_pressure_memory_stalled_seconds_total" Counter []
        "Time in which all tasks waited for memory, in seconds.";
    PRESSURE_MEMORY_WAITING "container_pressure_memory_waiting_seconds_total" Counter []
        "Time in which a task waited for memory, in seconds.";
    PROCESSES "container_processes" Gauge []
        "Processes.";
    SOCKETS "container_sockets" Gauge []
        "Sockets held open by all processes.";
    SPEC_CPU_PERIOD "container_spec_cpu_period" Gauge []
        "Period of the CPU quota, in microseconds.";
    SPEC_CPU_QUOTA "container_spec_cpu_quota" Gauge []
        "CPU time allowed in each period, in microseconds; absent without a limit.";
    SPEC_CPU_SHARES "container_spec_cpu_shares" Gauge []
        "Weight when cores are contended for; 1024 is the kernel's default.";
    SPEC_MEMORY_LIMIT_BYTES "container_spec_memory_limit_bytes" Gauge []
        "Memory limit, in bytes; 0 for none.";
    SPEC_MEMORY_RESERVATION_LIMIT_BYTES "container_spec_memory_reservation_limit_bytes" Gauge []
        "Memory kept under pressure, in bytes; 0 for none.";
    SPEC_MEMORY_SWAP_LIMIT_BYTES "container_spec_memory_swap_limit_bytes" Gauge []
        "Limit of memory and swap together, in bytes; 0 for none.";
    START_TIME_SECONDS "container_start_time_seconds" Gauge []
        "When the container was started, in seconds since the epoch.";
    THREADS "container_threads" Gauge []
        "Threads.";
    THREADS_MAX "container_threads_max" Gauge []
        "Threads allowed; 0 for any number.";
    ULIMITS_SOFT "container_ulimits_soft" Gauge ["ulimit"]
        "Soft limits of the first process: max_open_files.";
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = include_str!("../../docs/metrics.md");

    #[test]
    fn names_are_sorted_and_each_stands_once() {
        assert!(ALL.is_sorted_by(|one, next| one.name < next.name));
        assert_eq!(ALL.len(), 56);
    }

    #[test]
    fn the_documented_list_is_the_real_one() {
        let row = |family: &&Family| {
            let kind = if family.kind == cri::MetricType::Counter { "counter" } else { "gauge" };
            format!("| `{}` | {kind} | {} | {} |", family.name, family.own.join(", "), family.help)
        };
        let wanted: Vec<String> = ALL.iter().map(row).collect();
        let documented: Vec<&str> = DOCS.lines().filter(|line| line.starts_with("| `container_")).collect();
        assert_eq!(documented, wanted, "docs/metrics.md should have:\n{}", wanted.join("\n"));
    }

    #[test]
    fn a_value_has_as_many_labels_as_its_descriptor() {
        let base = ["pod", "ns", "main", "id", "image"].map(str::to_owned);
        for family in ALL {
            let metric = family.value(&base, family.own, 1, 2);
            assert_eq!(metric.label_values.len(), family.descriptor().label_keys.len());
            assert!(!family.help.is_empty() && family.help.ends_with('.'));
        }
    }
}
