//! The values: from what was read of a container or of a pod's network to metrics. Seconds are whole: CRI's values are integers.

use std::collections::HashMap;

use super::family::{self, Family};
use crate::cgroup::disk::{FileSystem, Size};
use crate::cgroup::{Detail, DeviceIo, Pressure, Usage};
use crate::cri;
use crate::index::model::{Container, Sandbox};
use crate::process::{Interface, OpenFiles};

/// cAdvisor's name of the container that has a pod's network.
const POD: &str = "POD";
/// The kernel's period of a quota, and weight, where none were given.
const DEFAULT_PERIOD_US: i64 = 100_000;
const DEFAULT_SHARES: i64 = 1024;

/// What was read of a container.
#[derive(Clone, Debug)]
pub struct ContainerFigures {
    /// When, nanoseconds since the epoch.
    pub timestamp_ns: i64,
    /// What it uses.
    pub usage: Usage,
    /// What else its cgroup tells.
    pub detail: Detail,
    /// Number of its processes.
    pub processes: u64,
    /// What they hold open.
    pub open: OpenFiles,
    /// How many files its first process may open.
    pub open_files_limit: Option<u64>,
    /// Its writable layer, once measured.
    pub layer: Option<Size>,
    /// The file system of writable layers.
    pub file_system: Option<FileSystem>,
}

/// `/dev/vda` for a device's number.
pub type DeviceNames = HashMap<(u32, u32), String>;

/// Metrics with the same labels and time.
struct Metrics {
    base: [String; 5],
    timestamp_ns: i64,
    all: Vec<cri::Metric>,
}

impl Metrics {
    fn new(sandbox: &Sandbox, container: &str, id: &str, image: &str, timestamp_ns: i64) -> Self {
        let cri::PodSandboxMetadata { name, namespace, .. } = &sandbox.metadata;
        let base = [name, namespace, container, id, image].map(str::to_owned);
        Metrics { base, timestamp_ns, all: Vec::with_capacity(family::ALL.len()) }
    }

    fn add(&mut self, family: &Family, value: u64) {
        self.add_own(family, &[], value);
    }

    fn add_known(&mut self, family: &Family, value: Option<u64>) {
        if let Some(value) = value {
            self.add(family, value);
        }
    }

    fn add_own(&mut self, family: &Family, own: &[&str], value: u64) {
        self.all.push(family.value(&self.base, own, self.timestamp_ns, value));
    }
}

/// A pod's own metrics: its network, which all its containers share.
pub fn network(sandbox: &Sandbox, interfaces: &[Interface], timestamp_ns: i64) -> Vec<cri::Metric> {
    let mut metrics = Metrics::new(sandbox, POD, sandbox.id.as_str(), "", timestamp_ns);
    for interface in interfaces {
        let figures = [
            (&family::NETWORK_RECEIVE_BYTES, interface.rx_bytes),
            (&family::NETWORK_RECEIVE_ERRORS, interface.rx_errors),
            (&family::NETWORK_RECEIVE_PACKETS_DROPPED, interface.rx_dropped),
            (&family::NETWORK_RECEIVE_PACKETS, interface.rx_packets),
            (&family::NETWORK_TRANSMIT_BYTES, interface.tx_bytes),
            (&family::NETWORK_TRANSMIT_ERRORS, interface.tx_errors),
            (&family::NETWORK_TRANSMIT_PACKETS_DROPPED, interface.tx_dropped),
            (&family::NETWORK_TRANSMIT_PACKETS, interface.tx_packets),
        ];
        for (family, value) in figures {
            metrics.add_own(family, &[&interface.name], value);
        }
    }
    metrics.all
}

/// A container's metrics.
pub fn container(
    sandbox: &Sandbox,
    container: &Container,
    figures: &ContainerFigures,
    devices: &DeviceNames,
) -> Vec<cri::Metric> {
    let cri::ImageSpec { user_specified_image, image, .. } = container.image.open();
    let image = if user_specified_image.is_empty() { image } else { user_specified_image };
    let id = container.id.as_str();
    let mut metrics = Metrics::new(sandbox, &container.name, id, &image, figures.timestamp_ns);
    cpu(&mut metrics, figures);
    memory(&mut metrics, figures);
    pressure(&mut metrics, &figures.usage);
    disk(&mut metrics, figures, devices);
    processes(&mut metrics, figures);
    spec(&mut metrics, container, &figures.detail);
    metrics.add(&family::LAST_SEEN, seconds(figures.timestamp_ns));
    metrics.add(&family::START_TIME_SECONDS, seconds(container.started_at_ns));
    metrics.all
}

fn cpu(metrics: &mut Metrics, figures: &ContainerFigures) {
    metrics.add(&family::CPU_USAGE_SECONDS, whole(figures.usage.cpu_usage_ns));
    if let Some(times) = figures.detail.cpu_times {
        metrics.add(&family::CPU_USER_SECONDS, whole(times.user_ns));
        metrics.add(&family::CPU_SYSTEM_SECONDS, whole(times.system_ns));
    }
    if let Some(throttling) = figures.detail.throttling {
        metrics.add(&family::CPU_CFS_PERIODS, throttling.periods);
        metrics.add(&family::CPU_CFS_THROTTLED_PERIODS, throttling.throttled_periods);
        metrics.add(&family::CPU_CFS_THROTTLED_SECONDS, whole(throttling.throttled_ns));
    }
}

fn memory(metrics: &mut Metrics, figures: &ContainerFigures) {
    let (memory, detail) = (&figures.usage.memory, &figures.detail);
    metrics.add(&family::MEMORY_CACHE, memory.cache_bytes);
    metrics.add(&family::MEMORY_MAPPED_FILE, memory.mapped_file_bytes);
    metrics.add(&family::MEMORY_RSS, memory.rss_bytes);
    metrics.add(&family::MEMORY_USAGE_BYTES, memory.usage_bytes);
    metrics.add(&family::MEMORY_WORKING_SET_BYTES, memory.working_set_bytes);
    metrics.add(&family::MEMORY_MAX_USAGE_BYTES, detail.peak_bytes.unwrap_or(memory.usage_bytes));
    // where swap isn't accounted, cAdvisor tells zero too
    metrics.add(&family::MEMORY_SWAP, figures.usage.swap.as_ref().map_or(0, |swap| swap.usage_bytes));
    metrics.add(&family::MEMORY_KERNEL_USAGE, detail.kernel_bytes.unwrap_or(0));
    metrics.add_known(&family::MEMORY_FAILCNT, detail.limit_hits);
    metrics.add_known(&family::OOM_EVENTS, detail.oom_kills);
    // a container's cgroup and the hierarchy from it on are one: the kernel counts both together
    for scope in ["container", "hierarchy"] {
        metrics.add_own(&family::MEMORY_FAILURES, &["pgfault", scope], memory.page_faults);
        metrics.add_own(&family::MEMORY_FAILURES, &["pgmajfault", scope], memory.major_page_faults);
    }
    for pages in &detail.huge_pages {
        metrics.add_own(&family::HUGETLB_USAGE_BYTES, &[&pages.size], pages.usage_bytes);
        if let Some(peak) = pages.peak_bytes {
            metrics.add_own(&family::HUGETLB_MAX_USAGE_BYTES, &[&pages.size], peak);
        }
    }
}

fn pressure(metrics: &mut Metrics, usage: &Usage) {
    let kinds = [
        (&usage.pressure.cpu, &family::PRESSURE_CPU_WAITING, &family::PRESSURE_CPU_STALLED),
        (&usage.pressure.io, &family::PRESSURE_IO_WAITING, &family::PRESSURE_IO_STALLED),
        (&usage.pressure.memory, &family::PRESSURE_MEMORY_WAITING, &family::PRESSURE_MEMORY_STALLED),
    ];
    for (pressure, waiting, stalled) in kinds {
        let Some(Pressure { some, full }) = pressure else { continue };
        metrics.add_known(waiting, some.map(|stall| stall.total_us / 1_000_000));
        metrics.add_known(stalled, full.map(|stall| stall.total_us / 1_000_000));
    }
}

fn disk(metrics: &mut Metrics, figures: &ContainerFigures, devices: &DeviceNames) {
    let name = |number| devices.get(&number).map_or("", String::as_str);
    if let Some(file_system) = figures.file_system {
        let device = name(file_system.device);
        metrics.add_own(&family::FS_LIMIT_BYTES, &[device], file_system.total_bytes);
        metrics.add_own(&family::FS_INODES_TOTAL, &[device], file_system.inodes);
        metrics.add_own(&family::FS_INODES_FREE, &[device], file_system.inodes_free);
        if let Some(layer) = figures.layer {
            metrics.add_own(&family::FS_USAGE_BYTES, &[device], layer.bytes);
        }
    }
    for io in &figures.detail.devices {
        let DeviceIo { major, minor, read_bytes, write_bytes, reads, writes } = *io;
        let device = name((major, minor));
        metrics.add_own(&family::FS_READS_BYTES, &[device], read_bytes);
        metrics.add_own(&family::FS_WRITES_BYTES, &[device], write_bytes);
        metrics.add_own(&family::FS_READS, &[device], reads);
        metrics.add_own(&family::FS_WRITES, &[device], writes);
        let (major, minor) = (major.to_string(), minor.to_string());
        for (operation, bytes) in [("Read", read_bytes), ("Write", write_bytes)] {
            metrics.add_own(&family::BLKIO_DEVICE_USAGE, &[device, &major, &minor, operation], bytes);
        }
    }
}

fn processes(metrics: &mut Metrics, figures: &ContainerFigures) {
    metrics.add(&family::PROCESSES, figures.processes);
    metrics.add(&family::FILE_DESCRIPTORS, figures.open.descriptors);
    metrics.add(&family::SOCKETS, figures.open.sockets);
    metrics.add_known(&family::THREADS, figures.detail.threads);
    metrics.add_known(&family::THREADS_MAX, figures.detail.threads_max);
    if let Some(limit) = figures.open_files_limit {
        metrics.add_own(&family::ULIMITS_SOFT, &["max_open_files"], limit);
    }
}

fn spec(metrics: &mut Metrics, container: &Container, detail: &Detail) {
    let limits = container.resources.open();
    let given = |value: i64, default: i64| u64::try_from(if value > 0 { value } else { default }).unwrap_or(0);
    metrics.add(&family::SPEC_CPU_PERIOD, given(limits.cpu_period, DEFAULT_PERIOD_US));
    metrics.add(&family::SPEC_CPU_SHARES, given(limits.cpu_shares, DEFAULT_SHARES));
    if limits.cpu_quota > 0 {
        metrics.add(&family::SPEC_CPU_QUOTA, given(limits.cpu_quota, 0));
    }
    metrics.add(&family::SPEC_MEMORY_LIMIT_BYTES, given(limits.memory_limit_in_bytes, 0));
    metrics.add(&family::SPEC_MEMORY_SWAP_LIMIT_BYTES, given(limits.memory_swap_limit_in_bytes, 0));
    metrics.add_known(&family::SPEC_MEMORY_RESERVATION_LIMIT_BYTES, detail.reserved_bytes);
}

/// Seconds of a time in nanoseconds since the epoch.
fn seconds(at_ns: i64) -> u64 {
    u64::try_from(at_ns / 1_000_000_000).unwrap_or(0)
}

/// Whole seconds of a span in nanoseconds.
fn whole(ns: u64) -> u64 {
    ns / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{HugePages, Memory, Pressures, Stall, Swap};
    use crate::engine::model::{ContainerConfig, ContainerInspect, ContainerState};
    use crate::translate;

    fn inspect(name: &str, kind: &str) -> ContainerInspect {
        let labels = [("io.kubernetes.docker.type", kind), ("io.kubernetes.sandbox.id", "5a4d")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let config = ContainerConfig { labels, ..ContainerConfig::default() };
        let state = ContainerState {
            status: "running".to_owned(),
            running: true,
            started_at: "2026-11-01T00:00:00Z".to_owned(),
            pid: 1,
            ..ContainerState::default()
        };
        ContainerInspect { id: "5a4d".to_owned(), name: name.to_owned(), state, config, ..ContainerInspect::default() }
    }

    fn sandbox() -> Sandbox {
        translate::sandbox::from_inspect(&inspect("/k8s_POD_web_prod_u_0", "podsandbox")).unwrap()
    }

    fn main_container() -> Container {
        let mut container =
            translate::container::from_inspect(&inspect("/k8s_main_web_prod_u_0", "container")).unwrap();
        container.image.edit(|image| image.user_specified_image = "nginx:1".to_owned());
        container.started_at_ns = 3_999_999_999;
        container.resources.edit(|limits| limits.memory_limit_in_bytes = 1024);
        container
    }

    fn figures() -> ContainerFigures {
        let stall = Some(Stall { total_us: 2_500_000, ..Stall::default() });
        let pressure = Pressures { io: Some(Pressure { some: stall, full: None }), ..Pressures::default() };
        let memory = Memory { usage_bytes: 9, page_faults: 4, ..Memory::default() };
        let swap = Some(Swap { usage_bytes: 6, available_bytes: None });
        let io = DeviceIo { major: 254, minor: 1, read_bytes: 5, writes: 7, ..DeviceIo::default() };
        let pages = HugePages { size: "2MB".to_owned(), usage_bytes: 0, peak_bytes: None };
        ContainerFigures {
            timestamp_ns: 5_000_000_001,
            usage: Usage { cpu_usage_ns: 2_999_999_999, memory, swap, pressure },
            detail: Detail { devices: vec![io], huge_pages: vec![pages], ..Detail::default() },
            processes: 2,
            open: OpenFiles { descriptors: 8, sockets: 3 },
            open_files_limit: None,
            layer: Some(Size { bytes: 4096, inodes: 1 }),
            file_system: Some(FileSystem { total_bytes: 100, device: (254, 1), ..FileSystem::default() }),
        }
    }

    /// The values of a family, each with its own labels.
    fn values<'a>(metrics: &'a [cri::Metric], family: &Family) -> Vec<(&'a [String], u64)> {
        let of = metrics.iter().filter(|metric| metric.name == family.name);
        of.map(|metric| (&metric.label_values[5..], metric.value.unwrap().value)).collect()
    }

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_container_is_named_as_dashboards_know_it() {
        let metrics = container(&sandbox(), &main_container(), &figures(), &DeviceNames::new());
        for metric in &metrics {
            assert_eq!(metric.label_values[..5], texts(&["web", "prod", "main", "5a4d", "nginx:1"]));
            assert_eq!(metric.timestamp, 5_000_000_001);
        }
        let network = network(&sandbox(), &[Interface { name: "eth0".to_owned(), ..Interface::default() }], 1);
        assert_eq!(network.len(), 8);
        assert_eq!(network[0].label_values, texts(&["web", "prod", "POD", "5a4d", "", "eth0"]));
    }

    #[test]
    fn values_are_in_the_units_of_their_names() {
        let devices = DeviceNames::from([((254, 1), "/dev/vda1".to_owned())]);
        let metrics = container(&sandbox(), &main_container(), &figures(), &devices);
        let wanted = [
            (&family::CPU_USAGE_SECONDS, 2),
            (&family::PRESSURE_IO_WAITING, 2),
            (&family::MEMORY_MAX_USAGE_BYTES, 9),
            (&family::MEMORY_SWAP, 6),
            (&family::SOCKETS, 3),
            (&family::LAST_SEEN, 5),
            (&family::START_TIME_SECONDS, 3),
            (&family::SPEC_CPU_PERIOD, 100_000),
            (&family::SPEC_CPU_SHARES, 1024),
            (&family::SPEC_MEMORY_LIMIT_BYTES, 1024),
        ];
        for (family, value) in wanted {
            let none: &[String] = &[];
            assert_eq!(values(&metrics, family), [(none, value)], "{}", family.name);
        }
        let device = texts(&["/dev/vda1"]);
        assert_eq!(values(&metrics, &family::FS_USAGE_BYTES), [(&device[..], 4096)]);
        assert_eq!(values(&metrics, &family::FS_WRITES), [(&device[..], 7)]);
        let read = texts(&["/dev/vda1", "254", "1", "Read"]);
        assert_eq!(values(&metrics, &family::BLKIO_DEVICE_USAGE)[0], (&read[..], 5));
        assert_eq!(values(&metrics, &family::MEMORY_FAILURES).len(), 4);
        assert_eq!(values(&metrics, &family::HUGETLB_USAGE_BYTES), [(&texts(&["2MB"])[..], 0)]);
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_left_out() {
        let unknown = ContainerFigures { layer: None, file_system: None, detail: Detail::default(), ..figures() };
        let metrics = container(&sandbox(), &main_container(), &unknown, &DeviceNames::new());
        let absent = [
            &family::FS_USAGE_BYTES,
            &family::FS_LIMIT_BYTES,
            &family::CPU_CFS_PERIODS,
            &family::PRESSURE_IO_STALLED,
            &family::PRESSURE_CPU_WAITING,
            &family::SPEC_CPU_QUOTA,
            &family::ULIMITS_SOFT,
            &family::THREADS,
        ];
        for family in absent {
            assert!(values(&metrics, family).is_empty(), "{}", family.name);
        }
    }
}
