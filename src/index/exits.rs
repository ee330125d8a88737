//! From "its process is gone" to "EXITED in the index": the log is drained, how it ended is learnt, and only then does the state
//! change.
//!
//! ```text
//!   die event ─▶ its exit code and time ─┐
//!                                        ├─▶ log drained ─▶ out of memory? ─▶ EXITED ─▶ the engine's record has the last word
//!   pidfd, listing ─▶ inspect ───────────┘
//! ```
//!
//! Whichever comes first is enough. The event says all that matters, and the engine holds a container locked while it clears up
//! after it, so that an inspect is answered some 20 to 100 ms later: nobody waits for that but those whom no event told.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::model::{Container, Exit, State};
use super::table::Table;
use super::{Index, locked, now_ns};
use crate::cgroup::{self, OomKills};
use crate::engine::model::{ContainerInspect, ContainerState};
use crate::id::ContainerId;
use crate::log::Drained;
use crate::translate::{self, state, time};

/// How long the log may take to be drained before the exit is told all the same.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// How long the engine's `die` event may lag behind the process's end.
const DIE_LAG: Duration = Duration::from_millis(500);
/// How long after the word of an exit the engine may still tell that memory was wanting: on a busy machine both come late.
const OOM_LAG: Duration = Duration::from_millis(200);
/// Between two looks whether it has.
const OOM_LOOK: Duration = Duration::from_millis(20);
/// Between two looks whether all ends have been told.
const ENDS_LOOK: Duration = Duration::from_millis(5);
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
    /// Being drained: a second teller is ignored, but for the event's word.
    ending: Mutex<HashMap<ContainerId, watch::Sender<Option<Exit>>>>,
    /// Whether it was killed for want of memory: by the `oom` event, or by what its cgroup counted when its process had ended.
    oom: Mutex<HashMap<String, bool>>,
    /// We asked for its end, so 137 needs no waiting for an `oom` event.
    stopping: Mutex<HashSet<ContainerId>>,
    /// Whose process has a watcher, by id and pid.
    watched: Mutex<HashSet<(String, i32)>>,
}

/// While it lives, a container's end is known and not yet told.
struct Ending {
    index: Index,
    id: ContainerId,
    told: watch::Receiver<Option<Exit>>,
}

impl Ending {
    /// What the engine's event tells, once it has come.
    async fn exit(&mut self) -> Exit {
        match self.told.wait_for(Option::is_some).await.map(|exit| *exit) {
            Ok(Some(exit)) => exit,
            // its sender lives as long as it does
            _ => std::future::pending().await,
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        locked(&self.index.inner.exits.ending).remove(&self.id);
    }
}

impl Index {
    /// Notes that we asked for a container's end.
    pub fn stopping(&self, id: &ContainerId) {
        locked(&self.inner.exits.stopping).insert(id.clone());
    }

    /// Notes the `oom` event.
    pub(super) fn saw_oom(&self, id: &str) {
        if self.table().has(id) {
            locked(&self.inner.exits.oom).insert(id.to_owned(), true);
        }
    }

    /// Whether a container's end is known and not yet told.
    pub(super) fn is_ending(&self, id: &str) -> bool {
        locked(&self.inner.exits.ending).contains_key(id)
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
            let kills = OomKills::of_pid(pid);
            let ended = wait_for_end(process).await;
            if ended.is_ok() {
                index.note_oom_kills(&watched.0, kills.and_then(|kills| kills.count()));
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
            self.container_ended(&container.id, None);
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

    /// A container has ended, as the engine's event tells or, with None, as somebody else has found out.
    pub fn container_ended(&self, id: &ContainerId, exit: Option<Exit>) {
        if let Some(ending) = self.begin_ending(id, exit) {
            let index = self.clone();
            tokio::spawn(async move { index.end_container(ending).await });
        }
    }

    /// A container has been found ended, with the engine's record of it.
    pub(super) fn container_found_ended(&self, id: &ContainerId, record: ContainerInspect) {
        let ContainerState { exit_code, finished_at, .. } = &record.state;
        let exit = Exit { code: *exit_code, at_ns: time::parse_ns(finished_at) };
        // whoever waits for a record has this one's word
        if let Some(ending) = self.begin_ending(id, Some(exit)) {
            let index = self.clone();
            tokio::spawn(async move { index.end_as_recorded(ending, record).await });
        }
    }

    /// Waits until of the ends that are known all but so many have been told; false when logs can't be drained, which are not
    /// waited for.
    pub(super) async fn ends_told(&self, but: usize) -> bool {
        let end = tokio::time::Instant::now() + DRAIN_LIMIT;
        while locked(&self.inner.exits.ending).len() > but {
            if tokio::time::Instant::now() > end {
                return false;
            }
            tokio::time::sleep(ENDS_LOOK).await;
        }
        true
    }

    /// None when it is under way; then the event's word is passed on.
    fn begin_ending(&self, id: &ContainerId, exit: Option<Exit>) -> Option<Ending> {
        match locked(&self.inner.exits.ending).entry(id.clone()) {
            Entry::Occupied(ending) => {
                if exit.is_some() {
                    ending.get().send_replace(exit);
                }
                None
            }
            Entry::Vacant(place) => {
                let (sender, told) = watch::channel(exit);
                place.insert(sender);
                Some(Ending { index: self.clone(), id: id.clone(), told })
            }
        }
    }

    /// Makes it EXITED by the event's word or the engine's record, whichever is there first; the record then has the last word.
    async fn end_container(&self, mut ending: Ending) {
        let id = ending.id.clone();
        let run_ns = self.table().container(id.as_str()).map_or(0, |known| known.started_at_ns);
        let mut record = pin!(self.inspect_ended(&id, run_ns));
        let (mut seen, mut verdict) = (None, None);
        tokio::select! {
            biased;
            exit = ending.exit() => verdict = self.end_as_told(&id, exit).await,
            inspect = &mut record => seen = Some(inspect),
        }
        // what has been told is no longer under way
        let ending = verdict.is_none().then_some(ending);
        let inspect = match seen {
            Some(inspect) => inspect,
            None => record.await,
        };
        drop(ending);
        match (inspect, verdict) {
            (Some(inspect), Some(oom_killed)) if time::parse_ns(&inspect.state.started_at) == run_ns => {
                self.put_record(inspect, oom_killed);
            }
            // not told yet, or a later run that has ended as well
            (Some(inspect), _) => self.take_in(&inspect).await,
            (None, _) => {}
        }
    }

    /// Makes a container EXITED by the event's word alone, and says whether it was killed for want of memory. None when the table
    /// doesn't have the run that the event is about, so that only the engine's record can tell.
    async fn end_as_told(&self, id: &ContainerId, exit: Exit) -> Option<bool> {
        let known = run_until(&self.table(), id, exit)?;
        self.drain_log(&known).await;
        let oom_killed = self.killed_for_memory(id, exit.code, OOM_LAG).await;
        self.change(|table| {
            if let Some(known) = run_until(table, id, exit) {
                table.put_container(state::ended(known, exit, oom_killed));
            }
        });
        Some(oom_killed)
    }

    /// Makes a container EXITED by the engine's record, unless the event has done so meanwhile.
    async fn end_as_recorded(&self, ending: Ending, record: ContainerInspect) {
        let Some(seen) = translate::container::from_inspect(&record) else { return };
        if !self.has_ended(&seen) {
            self.drain_log(&seen).await;
            let ago_ns = u64::try_from(now_ns().saturating_sub(seen.finished_at_ns)).unwrap_or_default();
            let lag = OOM_LAG.saturating_sub(Duration::from_nanos(ago_ns));
            let oom_killed = record.state.oom_killed || self.killed_for_memory(&ending.id, seen.exit_code, lag).await;
            self.put_record(record, oom_killed);
        }
    }

    /// Takes over the engine's record of an end, but for what the kernel has told of its cause.
    fn put_record(&self, mut record: ContainerInspect, oom_killed: bool) {
        record.state.oom_killed |= oom_killed;
        if let Some(mut container) = translate::container::from_inspect(&record) {
            self.keep_beside_docker(&mut container);
            self.change(|table| table.put_container(container));
        }
    }

    /// One that ended as soon as it was started may not have been followed yet: its log is taken up here, then drained.
    async fn drain_log(&self, container: &Container) {
        let end = tokio::time::Instant::now() + DRAIN_LIMIT;
        self.follow_log(container).await;
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        if self.inner.pumps.drain(&container.id, left).await == Drained::TimedOut {
            tracing::warn!(container = %container.id, limit = ?DRAIN_LIMIT, "log not drained in time; its end comes later");
        }
    }

    /// Inspects until the engine has committed the end of a run, which is named by its start if that is known. None when the
    /// container is gone or runs again, or only a new listing can tell.
    async fn inspect_ended(&self, id: &ContainerId, run_ns: i64) -> Option<ContainerInspect> {
        let began = tokio::time::Instant::now();
        let mut pause = LOOK;
        while began.elapsed() < COMMIT_LIMIT {
            match self.inner.engine.inspect(id.as_str(), INSPECT_LIMIT).await {
                Ok(inspect) if !inspect.state.running => return Some(inspect),
                // somebody else has started it again
                Ok(inspect) if run_ns > 0 && time::parse_ns(&inspect.state.started_at) > run_ns => {
                    self.take_in(&inspect).await;
                    return None;
                }
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

    /// The kernel's verdict on a process that has just ended: the cgroup is still there, since the runtime hasn't reaped it yet.
    fn note_oom_kills(&self, id: &str, count: Result<u64, cgroup::Error>) {
        match count {
            Ok(count) if self.table().container(id).is_ok() => {
                // kills in a cgroup below it are the engine's to tell on cgroup v1
                *locked(&self.inner.exits.oom).entry(id.to_owned()).or_default() |= count > 0;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(id, %error, "whether memory was wanting is left to the engine's event"),
        }
    }

    /// Whether a container was killed for want of memory. Without the kernel's verdict that is known by an event of the engine,
    /// which may still come within `lag`.
    async fn killed_for_memory(&self, id: &ContainerId, exit_code: i32, lag: Duration) -> bool {
        let end = tokio::time::Instant::now() + lag;
        loop {
            if let Some(verdict) = locked(&self.inner.exits.oom).remove(id.as_str()) {
                return verdict;
            }
            let asked_for = locked(&self.inner.exits.stopping).contains(id);
            if exit_code != KILLED || asked_for || tokio::time::Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(OOM_LOOK).await;
        }
    }
}

/// The container whose run an event tells the end of; not one that a listing alone has told of, nor a later run.
fn run_until(table: &Table, id: &ContainerId, exit: Exit) -> Option<Container> {
    let known = table.container(id.as_str()).ok()?;
    let is_its_end = known.state == State::Running && (1..=exit.at_ns).contains(&known.started_at_ns);
    is_its_end.then(|| (*known).clone())
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
