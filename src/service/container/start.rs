//! StartContainer: starts what CreateContainer made. Two engine calls: start, and an inspect for pid and log.
//!
//! A container whose log can't be written isn't started. Before it answers, the wishes of the container's cgroup are written,
//! its log is followed (the file is there) and the index has it as running. A container that runs already is a success; one that
//! has ended can't be started again. One that the Engine can't start has ended: its status tells why.

use super::limits;
use crate::cri;
use crate::engine;
use crate::engine::model::ContainerInspect;
use crate::error::{Error, Result};
use crate::index::model::{Container, State};
use crate::log::LogPath;
use crate::service::{Daemon, required};

/// Answers StartContainer.
pub async fn start_container(
    daemon: &Daemon,
    request: cri::StartContainerRequest,
) -> Result<cri::StartContainerResponse> {
    let cri::StartContainerRequest { container_id } = request;
    let id = required("container_id", &container_id)?;
    daemon.index.synced().await?;
    let known = daemon.index.table().container(id)?;
    let _lock = daemon.locks.hold(&known.docker_name()).await;
    let known = daemon.index.table().container(known.id.as_str())?;
    match known.state {
        State::Running => return Ok(cri::StartContainerResponse {}),
        State::Created | State::Unknown => {}
        State::Exited => {
            return Err(Error::FailedPrecondition(format!("container {} has ended already", known.docker_name())));
        }
    }
    prepare_log(daemon, &known).await?;
    let own = daemon.index.own_write(&known.docker_name());
    let started = daemon.engine.start(known.id.as_str()).await;
    let inspect = daemon.engine.inspect(known.id.as_str(), Daemon::INSPECT_LIMIT).await;
    drop(own);
    let wished = match &inspect {
        Ok(inspect) => seen(daemon, &known, inspect).await,
        Err(_) => {
            daemon.index.refresh(known.id.as_str());
            Ok(())
        }
    };
    let failed = |error: engine::Error| match error.is_not_found() {
        true => Error::no_container(id),
        false => error.while_doing(format!("start container {}", known.docker_name())),
    };
    started.map_err(failed)?;
    inspect.map_err(failed)?;
    wished?;
    Ok(cri::StartContainerResponse {})
}

/// A container whose log can't be put into its place is not started: the kubelet shows why, and tries again.
async fn prepare_log(daemon: &Daemon, container: &Container) -> Result<()> {
    if container.log_path.is_empty() {
        return Ok(());
    }
    let prepared = match LogPath::from_joined(&container.log_path()) {
        Ok(path) => daemon.pumps.prepare(&path).await,
        Err(error) => Err(error),
    };
    prepared.map_err(|error| {
        Error::FailedPrecondition(format!("container {} is not started: {error}", container.docker_name()))
    })
}

/// Writes the wishes and takes the container in. One whose wishes can't be written doesn't stay.
async fn seen(daemon: &Daemon, container: &Container, inspect: &ContainerInspect) -> Result<()> {
    let pid = inspect.state.pid;
    let wished = if pid > 0 { limits::write(daemon, container, pid) } else { Ok(()) };
    if wished.is_err()
        && let Err(error) = daemon.engine.kill(container.id.as_str()).await
    {
        tracing::warn!(container = %container.id, %error, "can't be killed, though its limits don't hold");
    }
    daemon.index.take_in(inspect).await;
    // so that the first statistics have the size of its writable layer
    let started = daemon.index.table().container(container.id.as_str());
    if let Ok(started) = started.as_deref()
        && started.pid > 0
    {
        daemon.want_layers([started].into_iter());
    }
    wished
}
