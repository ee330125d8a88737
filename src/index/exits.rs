//! From "its process is gone" to "EXITED in the index": the log is drained, the engine's last word is read, and only then does
//! the state change. Two things tell of an exit, the `die` event and the process's pidfd; whichever comes first is enough.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Index;
use super::model::State;
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
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Index {
    /// Notes that we asked for a container's end.
    pub fn stopping(&self, id: &ContainerId) {
        locked(&self.inner.exits.stopping).insert(id.clone());
    }

    /// Notes the `oom` event.
    pub(super) fn saw_oom(&self, id: &str) {
        locked(&self.inner.exits.oom).insert(id.to_owned());
    }

    /// Drops what was noted of a container that is gone.
    pub(super) fn forget_exit(&self, id: &ContainerId) {
        locked(&self.inner.exits.oom).remove(id.as_str());
        locked(&self.inner.exits.stopping).remove(id);
    }

    /// Watches a container's or pause container's process: its end is seen even if the engine's event is lost.
    pub(super) fn watch_process(&self, id: &str, pid: i32) {
        let (index, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            if let Some(process) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok()) {
                wait_for_end(process).await;
            }
            tokio::time::sleep(DIE_LAG).await;
            index.process_ended(&id, pid);
        });
    }

    /// The process is gone; if no event has told so by now, the engine is asked.
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
        let Some(seen) = translate::container::from_inspect(&inspect) else { return };
        self.follow_log(&seen).await;
        if self.inner.pumps.drain(id, DRAIN_LIMIT).await == Drained::TimedOut {
            tracing::warn!(container = %id, limit = ?DRAIN_LIMIT, "log not drained in time; its end comes later");
        }
        if inspect.state.exit_code == KILLED && !inspect.state.oom_killed {
            inspect.state.oom_killed = self.killed_for_memory(id).await;
        }
        if let Some(container) = translate::container::from_inspect(&inspect) {
            self.change(|table| table.put_container(container));
        }
    }

    /// Inspects until the engine has committed the exit. None when the container is gone, or only a new listing can tell.
    async fn inspect_ended(&self, id: &ContainerId) -> Option<ContainerInspect> {
        let began = tokio::time::Instant::now();
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
            tokio::time::sleep(Duration::from_millis(100)).await;
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

/// Waits until a process has ended.
async fn wait_for_end(process: OwnedFd) {
    #[expect(deprecated, reason = "the owner of the descriptor is the AsyncFd itself; its successor is unsafe code")]
    if let Ok(process) = AsyncFd::with_interest(process, Interest::READABLE) {
        let _ = process.readable().await;
    }
}
