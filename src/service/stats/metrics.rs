//! ListMetricDescriptors and ListPodSandboxMetrics: what the kubelet serves as `/metrics/cadvisor` with
//! `PodAndContainerStatsFromCRI`. It asks for the descriptors once, at its start, and for the metrics at each scrape.
//!
//! More files are read than for stats, and every open file of every process is looked at, as cAdvisor does.

use std::collections::HashMap;

use super::container::left_out;
use super::sandbox::{Pod, containers, pods};
use super::store::Store;
use super::{Stats, read_each};
use crate::cgroup::{self, disk};
use crate::cri;
use crate::error::Result;
use crate::index::model::Container;
use crate::metrics::family;
use crate::metrics::pod::{self, ContainerFigures, DeviceNames};
use crate::process::{self, OpenFiles};
use crate::service::{Daemon, now_ns};

/// Answers ListMetricDescriptors.
pub fn list_metric_descriptors(request: cri::ListMetricDescriptorsRequest) -> cri::ListMetricDescriptorsResponse {
    let cri::ListMetricDescriptorsRequest {} = request;
    let descriptors = family::ALL.iter().map(|family| family.descriptor()).collect();
    cri::ListMetricDescriptorsResponse { descriptors }
}

/// Answers ListPodSandboxMetrics.
pub async fn list_pod_sandbox_metrics(
    daemon: &Daemon,
    request: cri::ListPodSandboxMetricsRequest,
) -> Result<cri::ListPodSandboxMetricsResponse> {
    let cri::ListPodSandboxMetricsRequest {} = request;
    daemon.index.synced().await?;
    let pods = {
        let table = daemon.index.table();
        daemon.stats.forget_ended(&table);
        pods(&table, |_| true)
    };
    daemon.want_layers(containers(&pods));
    let facts = daemon.index.facts();
    let store = Store::new(facts.as_deref().map(|facts| &facts.info)).directory(daemon.stats.layers.sum().1);
    let pod_metrics = read_each(&daemon.stats, pods, move |kept, pod| {
        let file_system = disk::file_system(&store).ok();
        Some(read_pod(kept, pod, file_system))
    });
    Ok(cri::ListPodSandboxMetricsResponse { pod_metrics: pod_metrics.await? })
}

fn read_pod(kept: &Stats, pod: &Pod, file_system: Option<disk::FileSystem>) -> cri::PodSandboxMetrics {
    let timestamp_ns = now_ns();
    let interfaces = pod.interfaces().unwrap_or_default();
    let metrics_of = |container: &Container| {
        let figures = left_out(container, read_one(kept, container, file_system))?;
        let devices = device_names(kept, &figures);
        let metrics = pod::container(&pod.sandbox, container, &figures, &devices);
        Some(cri::ContainerMetrics { container_id: container.id.as_str().to_owned(), metrics })
    };
    cri::PodSandboxMetrics {
        pod_sandbox_id: pod.sandbox.id.as_str().to_owned(),
        metrics: pod::network(&pod.sandbox, &interfaces, timestamp_ns),
        container_metrics: pod.containers.iter().filter_map(|container| metrics_of(container)).collect(),
    }
}

fn read_one(
    kept: &Stats,
    container: &Container,
    file_system: Option<disk::FileSystem>,
) -> Result<ContainerFigures, cgroup::Error> {
    let reading = kept.cgroups.read(container)?;
    let cgroup = kept.cgroups.of(container.id.as_str(), container.pid)?;
    let processes = cgroup.processes()?;
    let mut detail = cgroup.detail()?;
    if let (true, Some(file_system)) = (detail.devices.is_empty(), file_system) {
        // counters begin at zero: else the first reads and writes would not be seen as an increase
        let (major, minor) = file_system.device;
        detail.devices.push(cgroup::DeviceIo { major, minor, ..cgroup::DeviceIo::default() });
    }
    let mut open = OpenFiles::default();
    for OpenFiles { descriptors, sockets } in processes.iter().filter_map(|pid| process::open_files(*pid).ok()) {
        open.descriptors += descriptors;
        open.sockets += sockets;
    }
    Ok(ContainerFigures {
        timestamp_ns: reading.timestamp_ns,
        usage: reading.usage,
        detail,
        processes: u64::try_from(processes.len()).unwrap_or(0),
        open,
        open_files_limit: process::open_files_limit(container.pid).ok().flatten(),
        layer: kept.layers.of(&container.id).map(|layer| layer.size),
        file_system,
    })
}

/// Names of the devices that figures are told of, each looked up once in the life of the process.
fn device_names(kept: &Stats, figures: &ContainerFigures) -> DeviceNames {
    let io = figures.detail.devices.iter().map(|device| (device.major, device.minor));
    let numbers = io.chain(figures.file_system.map(|file_system| file_system.device));
    let mut known = kept.devices();
    numbers.fold(HashMap::new(), |mut names, number| {
        let name = known.entry(number).or_insert_with(|| disk::device_name(number));
        names.insert(number, name.clone());
        names
    })
}
