//! ContainerStats and ListContainerStats: CPU time and memory from cgroup files. The kubelet lists every 10 s (eviction),
//! and for each scrape of its own.
//!
//! Only running containers have stats. The list leaves others out, and those that end meanwhile; asked for one of them by
//! id, we refuse, as containerd does: figures of zero would be taken for figures.
//! Sizes of writable layers are not measured, and thus not told: the kubelet then leaves them out of its summary.
//!
//! A hundred containers are four hundred small reads, some milliseconds in all. They don't wait for a disk, but would hold
//! up other calls on this thread; so all of them are one errand to a thread that may block, which costs less than one each.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::cgroups::{Cgroups, Reading, runs};
use crate::cgroup::Memory;
use crate::cri;
use crate::error::{Error, Result};
use crate::index::Table;
use crate::index::model::Container;
use crate::service::{Daemon, now_ns, required};
use crate::translate::filter;

/// Answers ContainerStats. Unknown: NotFound; not running: FailedPrecondition.
pub async fn container_stats(
    daemon: &Daemon,
    request: cri::ContainerStatsRequest,
) -> Result<cri::ContainerStatsResponse> {
    let cri::ContainerStatsRequest { container_id } = request;
    let id = required("container_id", &container_id)?;
    daemon.index.synced().await?;
    let container = daemon.index.table().container(id)?;
    let not_running =
        || Error::FailedPrecondition(format!("container {} has no stats: it isn't running", container.id));
    if !runs(&container) {
        return Err(not_running());
    }
    let (cgroups, asked) = (daemon.cgroups.clone(), container.clone());
    let read = spawn_blocking(move || stats(&cgroups, &asked)).await;
    let doing = || format!("read the cgroup of container {}", container.id);
    match read.map_err(|panicked| Error::internal(doing(), panicked))? {
        Ok(stats) => Ok(cri::ContainerStatsResponse { stats: Some(stats) }),
        Err(error) if error.is_gone() => Err(not_running()),
        Err(error) => Err(Error::internal(doing(), error)),
    }
}

/// Answers ListContainerStats.
pub async fn list_container_stats(
    daemon: &Daemon,
    request: cri::ListContainerStatsRequest,
) -> Result<cri::ListContainerStatsResponse> {
    let cri::ListContainerStatsRequest { filter } = request;
    daemon.index.synced().await?;
    let asked = running(&daemon.index.table(), &daemon.cgroups, filter.as_ref());
    let cgroups = daemon.cgroups.clone();
    let read =
        spawn_blocking(move || asked.iter().filter_map(|container| stats_or_none(&cgroups, container)).collect());
    let stats = read.await.map_err(|panicked| Error::internal("read cgroups", panicked))?;
    Ok(cri::ListContainerStatsResponse { stats })
}

/// The running containers that are asked for. What is kept of containers that no longer run, asked for or not, is dropped.
fn running(table: &Table, cgroups: &Cgroups, filter: Option<&cri::ContainerStatsFilter>) -> Vec<Arc<Container>> {
    cgroups.retain(|id| table.container(id.as_str()).is_ok_and(|known| runs(&known)));
    let running = table.containers().filter(|container| runs(container));
    running.filter(|container| filter::container_stats_matches(filter, container)).cloned().collect()
}

/// One container of a list: whatever is wrong with it must not cost the kubelet the figures of all others.
fn stats_or_none(cgroups: &Cgroups, container: &Container) -> Option<cri::ContainerStats> {
    match stats(cgroups, container) {
        Ok(stats) => Some(stats),
        Err(error) if error.is_gone() => None,
        Err(error) => {
            tracing::warn!(container = %container.id, %error, "container left out of stats");
            None
        }
    }
}

/// Reads what a container uses, and tells it in CRI's terms.
fn stats(cgroups: &Cgroups, container: &Container) -> Result<cri::ContainerStats, crate::cgroup::Error> {
    let timestamp = now_ns();
    let Reading { usage, usage_nano_cores } = cgroups.read(container)?;
    Ok(cri::ContainerStats {
        attributes: Some(cri::ContainerAttributes {
            id: container.id.as_str().to_owned(),
            metadata: Some(container.metadata.clone()),
            labels: container.labels.clone(),
            annotations: container.annotations.clone(),
        }),
        cpu: Some(cri::CpuUsage {
            timestamp,
            usage_core_nano_seconds: number(usage.cpu_usage_ns),
            usage_nano_cores: usage_nano_cores.and_then(number),
            psi: None,
        }),
        memory: Some(memory(timestamp, &usage.memory)),
        writable_layer: None,
        swap: None,
        io: None,
    })
}

fn memory(timestamp: i64, memory: &Memory) -> cri::MemoryUsage {
    let Memory { usage_bytes, working_set_bytes, rss_bytes, page_faults, major_page_faults, available_bytes } = *memory;
    cri::MemoryUsage {
        timestamp,
        working_set_bytes: number(working_set_bytes),
        available_bytes: available_bytes.and_then(number),
        usage_bytes: number(usage_bytes),
        rss_bytes: number(rss_bytes),
        page_faults: number(page_faults),
        major_page_faults: number(major_page_faults),
        psi: None,
    }
}

/// A figure that is known, as proto3 tells it from one that isn't.
fn number(value: u64) -> Option<cri::UInt64Value> {
    Some(cri::UInt64Value { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_is_unknown_is_left_out_and_a_zero_is_told() {
        let used = Memory {
            usage_bytes: 3,
            working_set_bytes: 2,
            rss_bytes: 1,
            page_faults: 9,
            major_page_faults: 0,
            available_bytes: None,
        };
        let wanted = cri::MemoryUsage {
            timestamp: 77,
            usage_bytes: number(3),
            working_set_bytes: number(2),
            rss_bytes: number(1),
            page_faults: number(9),
            major_page_faults: number(0),
            ..cri::MemoryUsage::default()
        };
        assert_eq!(memory(77, &used), wanted);
        let limited = Memory { available_bytes: Some(5), ..used };
        assert_eq!(memory(77, &limited), cri::MemoryUsage { available_bytes: number(5), ..wanted });
    }
}
