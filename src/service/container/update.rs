//! UpdateContainerResources: new limits for a container, what is zero or empty staying as it is. The index has them before the
//! answer, since the kubelet compares at once.

use std::collections::BTreeMap;

use bollard::models::ContainerUpdateBody;

use crate::cgroup::Cgroup;
use crate::cri;
use crate::error::{Error, Result};
use crate::index::model::{Container, State};
use crate::service::{Daemon, required};
use crate::translate::resources::limits;

/// Answers UpdateContainerResources.
pub async fn update_container_resources(
    daemon: &Daemon,
    request: cri::UpdateContainerResourcesRequest,
) -> Result<cri::UpdateContainerResourcesResponse> {
    let cri::UpdateContainerResourcesRequest {
        container_id,
        linux,
        windows,
        annotations: _, // for runtimes that hook on them; Docker's has none
    } = request;
    let id = required("container_id", &container_id)?;
    if windows.is_some() {
        return Err(Error::invalid("windows", "this node runs Linux containers"));
    }
    let resources = linux.ok_or_else(|| Error::invalid("linux", "is missing"))?;
    daemon.index.synced().await?;
    let known = daemon.index.table().container(id)?;
    let _lock = daemon.locks.hold(&known.docker_name).await;
    let known = daemon.index.table().container(known.id.as_str())?;
    if known.state == State::Exited {
        return Err(Error::FailedPrecondition(format!("container {} has ended", known.docker_name)));
    }
    let node = daemon.node()?;
    let limits = limits("linux", &resources, &node)?;
    let body = limits.update_body();
    if body != ContainerUpdateBody::default() {
        let updated = daemon.engine.update(known.id.as_str(), body).await;
        updated.map_err(|error| match error.is_not_found() {
            true => Error::no_container(id),
            false => error.while_doing(format!("update container {}", known.docker_name)),
        })?;
    }
    beside_docker(&known, &limits.wishes, (limits.oom_score_adj != 0).then(|| node.oom_score(limits.oom_score_adj)))?;
    daemon.index.edit_container(&known.id, |container| {
        container.cgroup_wishes.extend(limits.wishes.clone());
        container.resources = limits.updated(&container.resources, &container.cgroup_wishes);
    });
    Ok(cri::UpdateContainerResourcesResponse {})
}

/// What the Engine can't update; a container that has ended meanwhile is left alone.
fn beside_docker(container: &Container, wishes: &BTreeMap<String, String>, oom_score: Option<i64>) -> Result<()> {
    if container.pid <= 0 {
        return Ok(());
    }
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::internal(format!("limits of container {}", container.docker_name), error)
    };
    if !wishes.is_empty() {
        match Cgroup::of_pid(container.pid).and_then(|cgroup| cgroup.write(wishes)) {
            Err(error) if !error.is_gone() => return Err(failed(error.into())),
            _ => {}
        }
    }
    if let Some(score) = oom_score {
        match std::fs::write(format!("/proc/{}/oom_score_adj", container.pid), score.to_string()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error.into())),
            _ => {}
        }
    }
    Ok(())
}
