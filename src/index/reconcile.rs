//! Holds the index against the engine's own listing: everything at a connect, what differs every 30 s after it.
//! What the listing alone can't tell is inspected, a few at a time, each with a limit of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;

use super::Index;
use super::model::{Container, Sandbox, State};
use crate::engine::Error;
use crate::engine::model::{ContainerConfig, ContainerInspect, ContainerState, ContainerSummary};
use crate::id::{ContainerId, SandboxId};
use crate::log::LogPath;
use crate::translate::{self, label, state};

/// Inspects under way at once.
const PARALLEL: usize = 8;
/// How long one inspect may take; a hung container is left for the next round.
const INSPECT_LIMIT: Duration = Duration::from_secs(2);
/// Until the next try for one that could not be inspected, doubled each time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// At most so long.
const LOOK_AGAIN_AT_MOST: Duration = Duration::from_secs(30);

impl Index {
    /// Lists, and inspects what is new or has changed. With `all`, what an earlier connection told counts for nothing.
    pub(super) async fn relist(&self, all: bool) -> Result<(), Error> {
        let listed = self.inner.engine.list(label::TYPE).await?;
        self.listed();
        let listed: BTreeMap<&str, &ContainerSummary> = listed.iter().map(|item| (item.id.as_str(), item)).collect();
        let changed: Vec<&str> =
            listed.iter().filter(|(id, item)| all || self.differs(id, item)).map(|(id, _)| *id).collect();
        let gone: Vec<String> = self.known_ids().into_iter().filter(|id| !listed.contains_key(id.as_str())).collect();
        if !all {
            self.count_differences(changed.len() + gone.len());
        }
        let to_look_at = changed.into_iter().map(str::to_owned).chain(gone);
        futures_util::stream::iter(to_look_at)
            .for_each_concurrent(PARALLEL, async |id: String| {
                if let Err(error) = self.look_at(&id).await {
                    tracing::warn!(id, %error, "inspect failed; what the listing told serves until it succeeds");
                    self.take_listed(listed.get(id.as_str()).copied());
                    self.look_again(id);
                }
            })
            .await;
        Ok(())
    }

    /// Asks the engine about one container in a task of its own, and takes in what it says.
    pub(super) fn refresh(&self, id: &str) {
        let (index, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            if let Err(error) = index.look_at(&id).await {
                tracing::debug!(id, %error, "inspect after an event failed");
            }
        });
    }

    /// Asks again until the engine answers for one that could not be inspected.
    fn look_again(&self, id: String) {
        let index = self.clone();
        tokio::spawn(async move {
            let mut pause = LOOK_AGAIN;
            loop {
                tokio::time::sleep(pause).await;
                match index.look_at(&id).await {
                    Ok(()) => return,
                    Err(error) => tracing::debug!(id, %error, "inspect failed again"),
                }
                pause = (pause * 2).min(LOOK_AGAIN_AT_MOST);
            }
        });
    }

    /// Takes in what a listing alone tells, of something not known yet.
    fn take_listed(&self, item: Option<&ContainerSummary>) {
        let Some(item) = item.filter(|item| !self.known_ids().contains(&item.id)) else { return };
        let listed = as_listed(item);
        let created_at_ns = |known: i64| if known > 0 { known } else { item.created.saturating_mul(1_000_000_000) };
        if let Some(mut sandbox) = translate::sandbox::from_inspect(&listed) {
            sandbox.created_at_ns = created_at_ns(sandbox.created_at_ns);
            self.change(|table| table.put_sandbox(sandbox));
        } else if let Some(mut container) = translate::container::from_inspect(&listed) {
            container.created_at_ns = created_at_ns(container.created_at_ns);
            self.change(|table| table.put_container(container));
        }
    }

    /// Whether the index has a start already that an event tells of.
    pub(super) fn knows_start(&self, id: &str, action: &str) -> bool {
        let table = self.table();
        let sandbox = table.sandbox(id).is_ok_and(|sandbox| sandbox.ready || action == "create");
        let container = table.container(id).is_ok_and(|known| known.state == State::Running || action == "create");
        (sandbox || container) && matches!(action, "create" | "start")
    }

    async fn look_at(&self, id: &str) -> Result<(), Error> {
        match self.inner.engine.inspect(id, INSPECT_LIMIT).await {
            Ok(inspect) => self.take_in(&inspect).await,
            Err(error) if error.is_not_found() => self.remove(id),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes in what an inspect says: a running container is watched and its log followed; one that has ended gets its log's end.
    pub async fn take_in(&self, inspect: &ContainerInspect) {
        if let Some(sandbox) = translate::sandbox::from_inspect(inspect) {
            self.put_sandbox(sandbox);
        } else if let Some(container) = translate::container::from_inspect(inspect) {
            match container.state {
                State::Exited if self.is_exited(&container.id) => {}
                State::Exited if inspect_ran(inspect) => {
                    self.follow_log(&container).await;
                    let id = container.id.clone();
                    self.change(|table| table.put_container(as_running(container)));
                    self.container_ended(&id);
                }
                State::Running => {
                    self.follow_log(&container).await;
                    self.put_container(container);
                }
                _ => self.put_container(container),
            }
        }
    }

    /// Puts a sandbox in and watches its process.
    pub fn put_sandbox(&self, mut sandbox: Sandbox) {
        if sandbox.needs_cni {
            // a pod without addresses was left by a RunPodSandbox that did not come to its end
            match (self.inner.addresses)(&sandbox.id) {
                Some(ips) => sandbox.ips = ips,
                None => sandbox.ready = false,
            }
        }
        let watch = sandbox.ready.then_some((sandbox.id.clone(), sandbox.pid));
        self.change(|table| table.put_sandbox(sandbox));
        if let Some((id, pid)) = watch {
            self.watch_process(id.as_str(), pid);
        }
    }

    /// Puts a container in and watches its process.
    pub fn put_container(&self, container: Container) {
        let watch = (container.state == State::Running).then_some((container.id.clone(), container.pid));
        self.change(|table| table.put_container(container));
        if let Some((id, pid)) = watch {
            self.watch_process(id.as_str(), pid);
        }
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
        if let Some(sandbox) = sandbox {
            tracing::debug!(sandbox = %sandbox.id, "gone");
        }
        if let Some(container) = container {
            self.forget_exit(&container.id);
            let (pumps, id) = (self.inner.pumps.clone(), container.id.clone());
            tokio::spawn(async move { pumps.forget(&id).await });
        }
    }

    /// Starts to follow a container's log, if it has one.
    pub async fn follow_log(&self, container: &Container) {
        if container.log_path.is_empty() || container.spool_path.is_empty() {
            return;
        }
        let followed = match LogPath::from_joined(&container.log_path) {
            Ok(path) => self.inner.pumps.follow(&container.id, container.spool_path.clone().into(), path).await,
            Err(error) => Err(error),
        };
        if let Err(error) = followed {
            tracing::warn!(container = %container.id, log = container.log_path, %error, "log can't be followed");
        }
    }

    fn is_exited(&self, id: &ContainerId) -> bool {
        self.table().container(id.as_str()).is_ok_and(|known| known.state == State::Exited)
    }

    fn known_ids(&self) -> Vec<String> {
        let table = self.table();
        let sandboxes = table.sandboxes().map(|sandbox| SandboxId::as_str(&sandbox.id).to_owned());
        sandboxes.chain(table.containers().map(|container| container.id.as_str().to_owned())).collect()
    }

    /// Whether a listed item isn't what the index has; what a write of ours is about is left to it.
    fn differs(&self, id: &str, item: &ContainerSummary) -> bool {
        let name = item.names.iter().find_map(|name| name.strip_prefix('/').filter(|name| !name.contains('/')));
        if name.is_none_or(|name| translate::name::parse(name).is_none() || self.own_writes().contains(name)) {
            return false;
        }
        let table = self.table();
        let listed = state::state(&item.state, item.state == "running");
        match (table.sandbox(id), table.container(id)) {
            (Ok(sandbox), _) => sandbox.ready != (listed == State::Running),
            (_, Ok(container)) => container.state != listed,
            _ => true,
        }
    }

    fn count_differences(&self, count: usize) {
        if count > 0 {
            tracing::info!(count, "reconcile found differences");
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.inner.health.send_modify(|health| health.differences = health.differences.saturating_add(count));
        }
    }
}

/// A listing's item as an inspect that knows little. An ending without its exit code isn't told as one.
fn as_listed(item: &ContainerSummary) -> ContainerInspect {
    let name = item.names.iter().find(|name| name.matches('/').count() == 1);
    let running = state::state(&item.state, false) == State::Running;
    let status = if item.state == "exited" { String::new() } else { item.state.clone() };
    ContainerInspect {
        id: item.id.clone(),
        name: name.cloned().unwrap_or_default(),
        image: item.image_id.clone(),
        state: ContainerState { status, running, ..ContainerState::default() },
        config: ContainerConfig {
            image: item.image.clone(),
            labels: item.labels.clone(),
            ..ContainerConfig::default()
        },
        ..ContainerInspect::default()
    }
}

/// Whether a container ever had a process, so that it has a log.
fn inspect_ran(inspect: &ContainerInspect) -> bool {
    translate::time::parse_ns(&inspect.state.started_at) > 0
}

/// A container that ended before it was looked at counts as running until its log is whole.
fn as_running(mut ended: Container) -> Container {
    (ended.state, ended.finished_at_ns, ended.exit_code) = (State::Running, 0, 0);
    ended.reason.clear();
    ended.message.clear();
    ended
}
