//! What containers and pods use, in CRI's terms. Pure. `attributes` and `linux` are always there: the kubelet doesn't ask whether.

use crate::cgroup::disk::Size;
use crate::cgroup::{Memory, Pressure, Stall, Swap, Usage};
use crate::cri;
use crate::index::model::{Container, Sandbox};
use crate::process::Interface;

/// The interface that a pod's network is judged by.
const DEFAULT_INTERFACE: &str = "eth0";

/// One reading of a cgroup.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When, nanoseconds since the epoch.
    pub timestamp_ns: i64,
    /// As the kernel counts.
    pub usage: Usage,
    /// CPU time per time, in billionths of a core; None until it was read twice.
    pub usage_nano_cores: Option<u64>,
}

/// One measurement of what a container has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritableLayer {
    /// When, nanoseconds since the epoch.
    pub timestamp_ns: i64,
    /// How much.
    pub size: Size,
    /// Where the Engine keeps such layers: what the node's capacity is looked up by.
    pub store: String,
}

/// What of a pod is not in its cgroup.
#[derive(Clone, Debug, Default)]
pub struct PodFigures {
    /// None for a pod on the host's network.
    pub interfaces: Option<Vec<Interface>>,
    /// Those of all its containers, and the pause process.
    pub processes: u64,
    /// Its containers.
    pub containers: Vec<cri::ContainerStats>,
}

/// ContainerStats of a container.
pub fn container_stats(container: &Container, reading: &Reading, layer: Option<&WritableLayer>) -> cri::ContainerStats {
    cri::ContainerStats {
        attributes: Some(cri::ContainerAttributes {
            id: container.id.as_str().to_owned(),
            metadata: Some(container.metadata()),
            labels: container.labels.to_map(),
            annotations: container.annotations.to_map(),
        }),
        cpu: Some(cpu(reading)),
        memory: Some(memory(reading)),
        writable_layer: layer.map(|layer| file_system(layer.timestamp_ns, &layer.store, layer.size)),
        swap: reading.usage.swap.as_ref().map(|swap| swapped(reading.timestamp_ns, swap)),
        io: io(reading),
    }
}

/// PodSandboxStats of a sandbox.
pub fn sandbox_stats(sandbox: &Sandbox, reading: &Reading, figures: PodFigures) -> cri::PodSandboxStats {
    let PodFigures { interfaces, processes, containers } = figures;
    let timestamp = reading.timestamp_ns;
    cri::PodSandboxStats {
        attributes: Some(cri::PodSandboxAttributes {
            id: sandbox.id.as_str().to_owned(),
            metadata: Some(sandbox.metadata.clone()),
            labels: sandbox.labels.to_map(),
            annotations: sandbox.annotations.to_map(),
        }),
        linux: Some(cri::LinuxPodSandboxStats {
            cpu: Some(cpu(reading)),
            memory: Some(memory(reading)),
            network: interfaces.map(|interfaces| network(timestamp, &interfaces)),
            process: Some(cri::ProcessUsage { timestamp, process_count: number(processes) }),
            containers,
            io: io(reading),
        }),
        windows: None,
    }
}

/// What is used of a file system.
pub fn file_system(timestamp: i64, mountpoint: &str, size: Size) -> cri::FilesystemUsage {
    cri::FilesystemUsage {
        timestamp,
        fs_id: Some(cri::FilesystemIdentifier { mountpoint: mountpoint.to_owned() }),
        used_bytes: number(size.bytes),
        inodes_used: number(size.inodes),
    }
}

fn cpu(reading: &Reading) -> cri::CpuUsage {
    cri::CpuUsage {
        timestamp: reading.timestamp_ns,
        usage_core_nano_seconds: number(reading.usage.cpu_usage_ns),
        usage_nano_cores: reading.usage_nano_cores.and_then(number),
        psi: reading.usage.pressure.cpu.as_ref().map(pressure),
    }
}

fn memory(reading: &Reading) -> cri::MemoryUsage {
    let Memory { usage_bytes, working_set_bytes, rss_bytes, page_faults, .. } = reading.usage.memory;
    cri::MemoryUsage {
        timestamp: reading.timestamp_ns,
        working_set_bytes: number(working_set_bytes),
        available_bytes: reading.usage.memory.available_bytes.and_then(number),
        usage_bytes: number(usage_bytes),
        rss_bytes: number(rss_bytes),
        page_faults: number(page_faults),
        major_page_faults: number(reading.usage.memory.major_page_faults),
        psi: reading.usage.pressure.memory.as_ref().map(pressure),
    }
}

fn swapped(timestamp: i64, swap: &Swap) -> cri::SwapUsage {
    cri::SwapUsage {
        timestamp,
        swap_available_bytes: swap.available_bytes.and_then(number),
        swap_usage_bytes: number(swap.usage_bytes),
    }
}

/// CRI has nothing but pressure to tell of io.
fn io(reading: &Reading) -> Option<cri::IoUsage> {
    let psi = reading.usage.pressure.io.as_ref().map(pressure)?;
    Some(cri::IoUsage { timestamp: reading.timestamp_ns, psi: Some(psi) })
}

/// The total stays in the kernel's microseconds, as other runtimes and cAdvisor hand it on.
fn pressure(pressure: &Pressure) -> cri::PsiStats {
    let data = |Stall { total_us, avg10, avg60, avg300 }: Stall| cri::PsiData { total: total_us, avg10, avg60, avg300 };
    cri::PsiStats { full: pressure.full.map(data), some: pressure.some.map(data) }
}

/// All interfaces; the default one is `eth0`, or the first where there is none of that name.
fn network(timestamp: i64, all: &[Interface]) -> cri::NetworkUsage {
    let usage = |interface: &Interface| cri::NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: number(interface.rx_bytes),
        rx_errors: number(interface.rx_errors),
        tx_bytes: number(interface.tx_bytes),
        tx_errors: number(interface.tx_errors),
    };
    let default = all.iter().find(|interface| interface.name == DEFAULT_INTERFACE).or_else(|| all.first());
    cri::NetworkUsage { timestamp, default_interface: default.map(usage), interfaces: all.iter().map(usage).collect() }
}

/// A figure that is known, as proto3 tells it from one that isn't.
fn number(value: u64) -> Option<cri::UInt64Value> {
    Some(cri::UInt64Value { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Pressures;

    fn reading() -> Reading {
        let memory = Memory { usage_bytes: 3, working_set_bytes: 2, rss_bytes: 1, page_faults: 9, ..Memory::default() };
        let usage = Usage { cpu_usage_ns: 5, memory, swap: None, pressure: Pressures::default() };
        Reading { timestamp_ns: 77, usage, usage_nano_cores: None }
    }

    #[test]
    fn a_figure_that_is_unknown_is_left_out_and_a_zero_is_told() {
        let wanted = cri::MemoryUsage {
            timestamp: 77,
            usage_bytes: number(3),
            working_set_bytes: number(2),
            rss_bytes: number(1),
            page_faults: number(9),
            major_page_faults: number(0),
            ..cri::MemoryUsage::default()
        };
        assert_eq!(memory(&reading()), wanted);
        let mut limited = reading();
        limited.usage.memory.available_bytes = Some(5);
        assert_eq!(memory(&limited), cri::MemoryUsage { available_bytes: number(5), ..wanted });
        assert_eq!(io(&reading()), None);
    }

    #[test]
    fn pressure_is_told_of_each_kind_that_the_kernel_tells() {
        let some = Some(Stall { total_us: 7, avg10: 1.5, ..Stall::default() });
        let mut pressed = reading();
        pressed.usage.pressure.io = Some(Pressure { some, full: None });
        let psi = io(&pressed).unwrap().psi.unwrap();
        assert_eq!((psi.full, psi.some.unwrap().total), (None, 7));
        assert_eq!(cpu(&pressed).psi, None);
    }

    #[test]
    fn the_default_interface_is_eth0_wherever_it_stands() {
        let named = |name: &str| Interface { name: name.to_owned(), rx_bytes: 4, ..Interface::default() };
        let usage = network(1, &[named("net1"), named("eth0")]);
        assert_eq!((usage.default_interface.unwrap().name.as_str(), usage.interfaces.len()), ("eth0", 2));
        assert_eq!(network(1, &[named("net1")]).default_interface.unwrap().name, "net1");
        assert_eq!(network(1, &[]).default_interface, None);
    }
}
