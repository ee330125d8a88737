//! From "its process is gone" to "EXITED in the index": the log is drained, the engine's last word is read, and only then does
//! the state change. Two things tell of an exit, the `die` event and the process's pidfd; whichever comes first is enough.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::model::State;
use super::{Index, locked};
use crate::engine::model::ContainerInspect;
use crate::id::ContainerId;
use crate::log::Drained;
use crate::translate;

/// How long the log may take to be drained before the exit is told all the same.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// How long the engine's `die` event may lag behind the process's end.
const DIE_LAG: Duration = Duration::from_millis(500);
/// How long the kernel's out-of-memory verdict may lag behind the exit.
const OOM_LAG: Duration = Duration::from_millis(200);
/// How long one inspect may take.
const INSPECT_LIMIT: Duration = Duration::from_secs(2);
/// How long after its process's end the engine may still call a container running.
const COMMIT_LIMIT: Duration = Duration::from_secs(30);
/// Between two inspects of one that hasn't been committed yet, doubled each time.
const LOOK: Duration = Duration::from_millis(50);
/// At most so long.
const LOOK_AT_MOST: Duration = Duration::from_secs(2);
/// Exit code of a process that SIGKILL ended.
const KILLED: i32 = 137;

/// Exits under way.
#[derive(Default)]
pub(super) struct Exits {
    /// Being drained and inspected: a second teller is ignored.
    ending: Mutex<HashSet<ContainerId>>,
    /// The `oom` event has named it.
    oom: Mutex<HashSet<String>>,
    /// We asked for its end, so 137 needs no second look.
    stopping: Mutex<HashSet<ContainerId>>,
    /// Whose process has a watcher, by id and pid.
    watched: Mutex<HashSet<(String, i32)>>,
}

impl Index {
    /// Notes that we asked for a container's end.
    pub fn stopping(&self, id: &ContainerId) {
        locked(&self.inner.exits.stopping).insert(id.clone());
    }

    /// Notes the `oom` event.
    pub(super) fn saw_oom(&self, id: &str) {
        if self.table().has(id) {
            locked(&self.inner.exits.oom).insert(id.to_owned());
        }
    }

    /// Whether a container's end is known and not yet told.
    pub(super) fn is_ending(&self, id: &str) -> bool {
        locked(&self.inner.exits.ending).contains(id)
    }

    /// Drops what was noted of a container that is gone.
    pub(super) fn forget_exit(&self, id: &str) {
        locked(&self.inner.exits.oom).remove(id);
        locked(&self.inner.exits.stopping).remove(id);
    }

    /// Watches a container's or pause container's process: its end is seen even if the engine's event is lost.
    ///
    /// A process that can't be watched (no descriptors left, a kernel before 5.3) is not taken for one that has ended.
    pub(super) fn watch_process(&self, id: &str, pid: i32) {
        let Some(process) = Pid::from_raw(pid) else { return };
        let watched = (id.to_owned(), pid);
        if !locked(&self.inner.exits.watched).insert(watched.clone()) {
            return;
        }
        let index = self.clone();
        tokio::spawn(async move {
            let ended = wait_for_end(process).await;
            if ended.is_ok() {
                tokio::time::sleep(DIE_LAG).await;
            }
            locked(&index.inner.exits.watched).remove(&watched);
            let (id, pid) = watched;
            match ended {
                Ok(()) => index.process_ended(&id, pid),
                Err(error) => {
                    tracing::warn!(id, pid, %error, "process can't be watched; its end is known by events alone")
                }
            }
        });
    }

    /// The process is gone, and no event has told so by now.
    fn process_ended(&self, id: &str, pid: i32) {
        let table = self.table();
        let sandbox = table.sandbox(id).is_ok_and(|known| known.ready && known.pid == pid);
        let container = table.container(id).ok().filter(|known| known.state == State::Running && known.pid == pid);
        drop(table);
        if sandbox {
            self.sandbox_ended(id);
        }
        if let Some(container) = container {
            self.container_ended(&container.id);
        }
    }

    /// The pause container has ended.
    pub fn sandbox_ended(&self, id: &str) {
        self.change(|table| {
            if let Ok(known) = table.sandbox(id) {
                let mut sandbox = (*known).clone();
                (sandbox.ready, sandbox.pid) = (false, 0);
                table.put_sandbox(sandbox);
            }
        });
    }

    /// A container has ended: drains its log, asks the engine how it ended, and makes it EXITED.
    pub fn container_ended(&self, id: &ContainerId) {
        if !locked(&self.inner.exits.ending).insert(id.clone()) {
            return;
        }
        let (index, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            index.end_container(&id).await;
            locked(&index.inner.exits.ending).remove(&id);
        });
    }

    /// One that ended as soon as it was started may not have been followed yet: its log is taken up here, then drained.
    async fn end_container(&self, id: &ContainerId) {
        let Some(mut inspect) = self.inspect_ended(id).await else { return };
        let Some(seen) = translate::container::from_inspect(&inspect) else {
            tracing::warn!(container = %id, name = inspect.name, "has been renamed and is no longer ours");
            return self.remove(id.as_str());
        };
        if !self.table().has(id.as_str()) {
            return;
        }
        self.follow_log(&seen).await;
        if self.inner.pumps.drain(id, DRAIN_LIMIT).await == Drained::TimedOut {
            tracing::warn!(container = %id, limit = ?DRAIN_LIMIT, "log not drained in time; its end comes later");
        }
        if inspect.state.exit_code == KILLED && !inspect.state.oom_killed {
            inspect.state.oom_killed = self.killed_for_memory(id).await;
        }
        if let Some(mut container) = translate::container::from_inspect(&inspect) {
            self.keep_beside_docker(&mut container);
            self.change(|table| table.put_container(container));
        }
    }

    /// Inspects until the engine has committed the exit. None when the container is gone, or only a new listing can tell.
    async fn inspect_ended(&self, id: &ContainerId) -> Option<ContainerInspect> {
        let began = tokio::time::Instant::now();
        let mut pause = LOOK;
        while began.elapsed() < COMMIT_LIMIT {
            match self.inner.engine.inspect(id.as_str(), INSPECT_LIMIT).await {
                Ok(inspect) if !inspect.state.running => return Some(inspect),
                Ok(_) => {}
                Err(error) if error.is_not_found() => {
                    self.remove(id.as_str());
                    return None;
                }
                Err(error) => tracing::debug!(container = %id, %error, "inspect after exit failed"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_AT_MOST);
        }
        tracing::warn!(container = %id, "the engine has not committed the exit");
        None
    }

    /// The engine learns of an out-of-memory kill from its own event, which may come after the exit.
    async fn killed_for_memory(&self, id: &ContainerId) -> bool {
        if locked(&self.inner.exits.stopping).contains(id) {
            return false;
        }
        let step = Duration::from_millis(20);
        let mut waited = Duration::ZERO;
        while waited < OOM_LAG {
            if locked(&self.inner.exits.oom).contains(id.as_str()) {
                return true;
            }
            tokio::time::sleep(step).await;
            waited += step;
        }
        false
    }
}

/// Waits until a process has ended; an error when it can't be watched.
async fn wait_for_end(process: Pid) -> std::io::Result<()> {
    let descriptor = match pidfd_open(process, PidfdFlags::NONBLOCK) {
        Err(Errno::SRCH) => return Ok(()),
        opened => opened?,
    };
    #[expect(deprecated, reason = "the owner of the descriptor is the AsyncFd itself; its successor is unsafe code")]
    let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
    descriptor.readable().await.map(|_| ())
}
