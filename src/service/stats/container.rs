//! ContainerStats and ListContainerStats, from cgroup files. The kubelet lists every 10 s (eviction), and for each scrape of its own.
//!
//! Only running containers have stats. The list leaves others out, and those that end meanwhile; asked for one of them by
//! id, we refuse: figures of zero would be taken for figures. Sizes of writable layers are those last measured (`layers.rs`).

use std::sync::Arc;

use super::cgroups::runs;
use super::{Stats, read_each};
use crate::cgroup;
use crate::cri;
use crate::error::{Error, Result};
use crate::index::model::Container;
use crate::service::{Daemon, required};
use crate::translate::filter;
use crate::translate::stats;

/// Answers ContainerStats. Unknown, and ended while it was read: NotFound; not running: FailedPrecondition.
pub async fn container_stats(
    daemon: &Daemon,
    request: cri::ContainerStatsRequest,
) -> Result<cri::ContainerStatsResponse> {
    let cri::ContainerStatsRequest { container_id } = request;
    let id = required("container_id", &container_id)?;
    daemon.index.synced().await?;
    let container = daemon.index.table().container(id)?;
    if !runs(&container) {
        let reason = format!("container {} has no stats: it isn't running", container.id);
        return Err(Error::FailedPrecondition(reason));
    }
    daemon.want_layers([&*container].into_iter());
    let read = read_each(&daemon.stats, vec![container.clone()], |kept, container| Some(read_one(kept, container)));
    match read.await?.pop() {
        Some(Ok(stats)) => Ok(cri::ContainerStatsResponse { stats: Some(stats) }),
        Some(Err(error)) if !error.is_gone() => {
            Err(Error::internal(format!("read the cgroup of container {}", container.id), error))
        }
        _ => Err(Error::no_container(id)),
    }
}

/// Answers ListContainerStats.
pub async fn list_container_stats(
    daemon: &Daemon,
    request: cri::ListContainerStatsRequest,
) -> Result<cri::ListContainerStatsResponse> {
    let cri::ListContainerStatsRequest { filter } = request;
    daemon.index.synced().await?;
    let asked = {
        let table = daemon.index.table();
        daemon.stats.forget_ended(&table);
        let running = table.containers().filter(|container| runs(container));
        let asked = running.filter(|container| filter::container_stats_matches(filter.as_ref(), container));
        asked.cloned().collect::<Vec<Arc<Container>>>()
    };
    daemon.want_layers(asked.iter().map(|container| &**container));
    let stats =
        read_each(&daemon.stats, asked, |kept, container| left_out(container, read_one(kept, container))).await?;
    Ok(cri::ListContainerStatsResponse { stats })
}

/// One container of a list: whatever is wrong with it must not cost the kubelet the figures of all others.
pub(super) fn left_out<T>(container: &Container, read: Result<T, cgroup::Error>) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(error) if error.is_gone() => None,
        Err(error) => {
            tracing::warn!(container = %container.id, %error, "container left out of stats");
            None
        }
    }
}

fn read_one(kept: &Stats, container: &Container) -> Result<cri::ContainerStats, cgroup::Error> {
    let reading = kept.cgroups.read(container)?;
    Ok(stats::container_stats(container, &reading, kept.layers.of(&container.id).as_deref()))
}
