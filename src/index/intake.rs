//! Taking in what an inspect, or for want of one a listing, says: processes are watched, logs followed, old views refused.

use std::time::Duration;

use tokio::time::timeout;

use super::model::{Container, Sandbox, State};
use super::{Index, Packed, identity};
use crate::engine::model::{ContainerConfig, ContainerInspect, ContainerState, ContainerSummary, HostConfig};
use crate::id::ContainerId;
use crate::log::LogPath;
use crate::translate::{self, state};

/// How long a log may take to be opened before it isn't waited for.
const OPEN_LIMIT: Duration = Duration::from_secs(2);

impl Index {
    /// Takes in what an inspect says: a running container is watched and its log followed; one that has ended gets its log's end.
    pub async fn take_in(&self, inspect: &ContainerInspect) {
        if let Some(sandbox) = translate::sandbox::from_inspect(inspect) {
            if sandbox.ready
                && let Err(error) = self.keep_resolv_conf(&sandbox).await
            {
                tracing::warn!(sandbox = sandbox.docker_name, %error, "resolv.conf can't be kept");
            }
            self.put_sandbox(sandbox);
        } else if let Some(mut container) = translate::container::from_inspect(inspect) {
            self.keep_beside_docker(&mut container);
            self.take_in_container(container, inspect).await;
        } else if self.table().has(&inspect.id) {
            tracing::warn!(id = inspect.id, name = inspect.name, "has been renamed and is no longer ours");
            self.remove(&inspect.id);
        }
    }

    async fn take_in_container(&self, container: Container, inspect: &ContainerInspect) {
        match container.state {
            State::Exited if self.has_ended(&container) => {}
            State::Exited if has_run(inspect) => {
                let id = container.id.clone();
                self.change(|table| table.put_container(as_running(container)));
                self.container_found_ended(&id, inspect.clone());
            }
            State::Running => {
                self.follow_log(&container).await;
                let id = container.id.clone();
                if !self.put_container(container) {
                    // an old view: the end of its log is known already, or comes by the way of its exit
                    self.container_ended(&id, None);
                }
            }
            _ => {
                self.put_container(container);
            }
        }
    }

    /// Takes over what the Engine doesn't tell: what has been written beside it since the container was made, and whose its
    /// process is.
    pub(super) fn keep_beside_docker(&self, container: &mut Container) {
        let known = self.table().container(container.id.as_str());
        match known {
            Ok(known) => container.keep_beside_docker(&known),
            Err(_) => self.recall_limits(container),
        }
        if container.user.is_none() && container.state == State::Running {
            container.user = identity::of_process(container.pid).as_ref().map(Packed::new);
        }
    }

    /// Puts a sandbox in and watches its process.
    pub fn put_sandbox(&self, mut sandbox: Sandbox) {
        if sandbox.needs_cni {
            match (self.inner.addresses)(&sandbox.id) {
                Some(ips) => sandbox.ips = ips,
                // another adapter made it, and its network with it
                None if sandbox.fingerprint.is_empty() => {}
                // left by a RunPodSandbox that did not come to its end
                None => sandbox.ready = false,
            }
        }
        let watch = sandbox.ready.then_some((sandbox.id.clone(), sandbox.pid));
        let put = self.change(|table| table.put_sandbox(sandbox));
        if let (true, Some((id, pid))) = (put, watch) {
            self.watch_process(id.as_str(), pid);
        }
    }

    /// Puts a container in and watches its process; tells whether it was news.
    pub fn put_container(&self, container: Container) -> bool {
        let watch = (container.state == State::Running).then_some((container.id.clone(), container.pid));
        let put = self.change(|table| table.put_container(container));
        if let (true, Some((id, pid))) = (put, watch) {
            self.watch_process(id.as_str(), pid);
        }
        put
    }

    /// Changes one container in place, if it is still there.
    pub fn edit_container(&self, id: &ContainerId, edit: impl FnOnce(&mut Container)) {
        self.change(|table| {
            if let Ok(known) = table.container(id.as_str()) {
                let mut container = (*known).clone();
                edit(&mut container);
                table.put_container(container);
            }
        });
    }

    /// Drops what is gone, a sandbox or a container.
    pub fn remove(&self, id: &str) {
        let (sandbox, container) = self.change(|table| (table.drop_sandbox(id), table.drop_container(id)));
        self.forget_exit(id);
        self.forget_limits(id);
        if let Some(sandbox) = sandbox {
            tracing::debug!(sandbox = %sandbox.id, "gone");
        }
        if let Some(container) = container {
            self.forget_log(&container.id);
        }
    }

    /// Ends following a container's log, without waiting for a disk that may hang.
    fn forget_log(&self, id: &ContainerId) {
        let (pumps, id) = (self.inner.pumps.clone(), id.clone());
        tokio::spawn(async move { pumps.forget(&id).await });
    }

    /// Starts to follow a container's log, if it has one; waits a while until it is there.
    pub(super) async fn follow_log(&self, container: &Container) {
        if container.log_path.is_empty() || container.spool_path.is_empty() {
            return;
        }
        let (log, spool) = (container.log_path(), container.spool_path().into());
        let followed = match LogPath::from_joined(&log) {
            Ok(path) => timeout(OPEN_LIMIT, self.inner.pumps.follow(&container.id, spool, path)).await,
            Err(error) => Ok(Err(error)),
        };
        match followed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(container = %container.id, log, %error, "log can't be followed");
            }
            // a disk that hangs must not hold up the index; the pump goes on by itself
            Err(_) => tracing::warn!(container = %container.id, log, "log not opened in time"),
        }
        if self.table().is_gone(container.id.as_str()) {
            self.forget_log(&container.id);
        }
    }

    /// Takes in what a listing alone tells, since the inspect failed.
    pub(super) fn take_listed(&self, item: &ContainerSummary) {
        let listed = as_listed(item);
        let is_known = self.table().has(&item.id);
        let created_at_ns = |ours: i64| if ours > 0 { ours } else { item.created.saturating_mul(1_000_000_000) };
        match (translate::sandbox::from_inspect(&listed), translate::container::from_inspect(&listed)) {
            (Some(sandbox), _) if is_known && !sandbox.ready => self.sandbox_ended(&item.id),
            (_, Some(container)) if is_known && container.state != State::Running => {
                self.container_ended(&container.id, None);
            }
            (Some(mut sandbox), _) if !is_known => {
                sandbox.created_at_ns = created_at_ns(sandbox.created_at_ns);
                self.put_sandbox(sandbox);
            }
            (_, Some(mut container)) if !is_known => {
                container.created_at_ns = created_at_ns(container.created_at_ns);
                self.put_container(container);
            }
            _ => {}
        }
    }

    /// Whether the end of this run is known.
    pub(super) fn has_ended(&self, seen: &Container) -> bool {
        let is_known = |known: &Container| known.state == State::Exited && known.started_at_ns == seen.started_at_ns;
        self.table().container(seen.id.as_str()).is_ok_and(|known| is_known(&known))
    }
}

/// Whether a container ever had a process, so that it has a log.
fn has_run(inspect: &ContainerInspect) -> bool {
    translate::time::parse_ns(&inspect.state.started_at) > 0
}

/// A container that ended before it was looked at counts as running until its log is whole.
fn as_running(mut ended: Container) -> Container {
    (ended.state, ended.finished_at_ns, ended.exit_code) = (State::Running, 0, 0);
    ended.reason = "";
    ended.message.clear();
    ended
}

/// A listing's item as an inspect that knows little. An ending without its exit code isn't told as one.
fn as_listed(item: &ContainerSummary) -> ContainerInspect {
    let running = state::state(&item.state, false) == State::Running;
    let status = if item.state == "exited" { String::new() } else { item.state.clone() };
    let network_mode = item.host_config.network_mode.clone();
    ContainerInspect {
        id: item.id.clone(),
        name: item.own_name().unwrap_or_default().to_owned(),
        image: item.image_id.clone(),
        state: ContainerState { status, running, ..ContainerState::default() },
        config: ContainerConfig {
            image: item.image.clone(),
            labels: item.labels.clone(),
            ..ContainerConfig::default()
        },
        host_config: HostConfig { network_mode, ..HostConfig::default() },
        ..ContainerInspect::default()
    }
}
