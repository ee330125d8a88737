//! UpdateContainerResources: new limits for a container, what is zero or empty staying as it is. Two engine calls: update, and an
//! inspect of what holds then.
//!
//! An update makes the runtime write the whole cgroup, so that everything beside Docker is written again after it. The index has
//! what was read back before the answer, since the kubelet compares at once.

use bollard::models::ContainerUpdateBody;

use super::{found, limits};
use crate::cri;
use crate::engine;
use crate::error::{Error, Result};
use crate::index::model::{Container, State};
use crate::service::{Daemon, required};
use crate::translate::resources;

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
    let asked = linux.ok_or_else(|| Error::invalid("linux", "is missing"))?;
    daemon.index.synced().await?;
    let known = daemon.index.table().container(id)?;
    let _lock = daemon.locks.hold(&known.docker_name()).await;
    let known = daemon.index.table().container(known.id.as_str())?;
    if known.state == State::Exited {
        return Err(Error::FailedPrecondition(format!("container {} has ended", known.docker_name())));
    }
    let node = daemon.node()?;
    let limits = resources::limits("linux", &asked, &node)?;
    let mut updated = (*known).clone();
    updated.cgroup_wishes = limits.wishes_on_top_of(&known.cgroup_wishes.to_map()).into();
    if limits.oom_score_adj != 0 {
        updated.oom_score_wish = Some(node.oom_score(limits.oom_score_adj));
    }
    found::check_wishes("linux", &limits.wishes, known.pid)?;
    let body = limits.update_body();
    if body != ContainerUpdateBody::default() {
        update(daemon, &known, body).await?;
    }
    if known.pid > 0 {
        limits::write(daemon, &updated, known.pid)?;
    }
    keep(daemon, &known, &updated)?;
    Ok(cri::UpdateContainerResourcesResponse {})
}

/// Docker's part. What holds then is asked for: the Engine has the last word on what an update comes to.
async fn update(daemon: &Daemon, container: &Container, body: ContainerUpdateBody) -> Result<()> {
    let failed = |error: engine::Error| match error.is_not_found() {
        true => Error::no_container(container.id.as_str()),
        false => error.while_doing(format!("update container {}", container.docker_name())),
    };
    daemon.engine.update(container.id.as_str(), body).await.map_err(failed)?;
    let inspect = daemon.engine.inspect(container.id.as_str(), Daemon::INSPECT_LIMIT).await.map_err(failed)?;
    daemon.index.take_in(&inspect).await;
    Ok(())
}

/// What was written beside the Engine is kept for our next start, and told.
fn keep(daemon: &Daemon, known: &Container, updated: &Container) -> Result<()> {
    if (&updated.cgroup_wishes, updated.oom_score_wish) != (&known.cgroup_wishes, known.oom_score_wish) {
        let kept = daemon.index.keep_limits(updated);
        kept.map_err(|error| Error::internal(format!("keep limits of container {}", known.docker_name()), error))?;
    }
    daemon.index.edit_container(&known.id, |container| {
        container.cgroup_wishes.clone_from(&updated.cgroup_wishes);
        container.oom_score_wish = updated.oom_score_wish;
        let is_down = container.pid <= 0;
        container.resources.edit(|limits| {
            limits.oom_score_adj = updated.oom_score_wish.unwrap_or(limits.oom_score_adj);
            if is_down {
                resources::tell_wishes(limits, &updated.cgroup_wishes.to_map());
            }
        });
    });
    Ok(())
}
