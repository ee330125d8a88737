//! Container logs: from Docker's json-file, the spool, to the CRI file that the kubelet asked for.
//!
//! ```text
//!   dockerd ──▶ X-json.log(.1 .2 …) ──▶ Spool ──▶ convert ──▶ Replay, Output ──▶ log_path
//!                    │                  spool.rs  json_file.rs   output.rs       path.rs
//!                    │                            line.rs
//!                    │                  └── one Transfer, the blocking half (transfer.rs) ─┘
//!                    └─ watch.rs ──▶ Looker, on Lanes: threads for all (looker.rs, lanes.rs) ◀──▶ Pump, one task for each (pump.rs)
//! ```
//!
//! How far a log has come is kept on disk (position.rs). Docker's own file stays as it is, so `docker logs` works.
//!
//! **Invariants**: after the death of this process at any instruction every line is in the log once, a torn last one is cut and
//! written again; a line is never written before those before it; nothing here asks the engine, and Docker's files are only
//! read. One slow or full disk stops the logs on it and nothing else.

mod counters;
mod error;
pub mod json_file;
mod lanes;
pub mod line;
mod looker;
mod output;
mod path;
mod position;
mod pump;
mod spool;
#[cfg(test)]
mod tests;
mod transfer;
mod watch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::figures::Reading;
use crate::id::ContainerId;
use crate::record::Records;
use counters::Counters;
use lanes::Lanes;
use position::Position;
use pump::{Command, Start};
use watch::Watcher;

pub use counters::{Counts, LAG_BOUNDS};
pub use error::Error;
pub use path::LogPath;

/// Commands that may wait for one pump.
const COMMANDS: usize = 4;

/// How long the removal of a container waits for its log: a disk that doesn't answer must not hold it up.
const DISCARD_LIMIT: Duration = Duration::from_secs(2);

/// What is at a container's log path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A file of CRI lines, written by a pump.
    Cri,
    /// A link to Docker's json-file.
    Docker,
}

/// How a drain has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Everything is in the log, which is closed.
    Done,
    /// Not yet; it goes on by itself.
    TimedOut,
    /// Nobody follows this container, so there is nothing to wait for.
    NotFollowed,
}

/// The pumps of all containers. Cheap to clone.
#[derive(Clone)]
pub struct Pumps {
    inner: Arc<Inner>,
}

struct Inner {
    positions: Records,
    format: Format,
    counters: Arc<Counters>,
    lanes: Arc<Lanes>,
    /// A pump that has ended is known by its closed channel, until it is taken out.
    pumps: Mutex<HashMap<ContainerId, mpsc::Sender<Command>>>,
    watcher: OnceLock<Option<Arc<Watcher>>>,
}

impl Pumps {
    /// No pumps yet. `positions` keeps how far each log has come, by the container's id.
    pub fn new(positions: Records, format: Format) -> Self {
        let (pumps, watcher, counters, lanes) = (Mutex::default(), OnceLock::new(), Arc::default(), Arc::default());
        Pumps { inner: Arc::new(Inner { positions, format, counters, lanes, pumps, watcher }) }
    }

    /// What has been counted.
    pub fn counts(&self) -> Counts {
        self.inner.counters.read()
    }

    /// From Docker's stamp on the first line of each written batch to the write.
    pub fn lag(&self) -> Reading {
        self.inner.counters.lag()
    }

    /// How many logs are followed.
    pub fn followed(&self) -> usize {
        self.pumps().values().filter(|pump| !pump.is_closed()).count()
    }

    /// Finds out whether a log can be put into its place, before the container is started.
    pub async fn prepare(&self, path: &LogPath) -> Result<(), Error> {
        let (path, format) = (path.clone(), self.inner.format);
        let prepared = tokio::task::spawn_blocking(move || match format {
            Format::Cri => path.open().map(drop),
            Format::Docker => path.make_parent(),
        });
        prepared.await.unwrap_or(Ok(()))
    }

    /// Follows a container's spool (Docker's json-file, which may not be there yet) into its log, from where it was left; does
    /// nothing while it is followed already. The log is there when this has come back; when it can't be opened, that is tried
    /// again until it can. With [`Format::Docker`] the log is a link to the spool, unless it has been followed before.
    pub async fn follow(&self, id: &ContainerId, spool: PathBuf, path: LogPath) -> Result<(), Error> {
        if self.inner.format == Format::Docker && self.link(id, &spool, &path).await? {
            return Ok(());
        }
        loop {
            let (opened, answer) = oneshot::channel();
            match self.join_or_insert(id) {
                Ok(commands) => {
                    let start = Start {
                        id: id.clone(),
                        spool,
                        path,
                        records: self.inner.positions.clone(),
                        watcher: self.watcher(),
                        counters: self.inner.counters.clone(),
                        lanes: self.inner.lanes.clone(),
                    };
                    // weakly: a pump ends when nobody is left who could tell it to
                    let (inner, followed) = (Arc::downgrade(&self.inner), id.clone());
                    tokio::spawn(async move {
                        pump::run(start, opened, commands).await;
                        if let Some(inner) = inner.upgrade() {
                            Pumps { inner }.take_out(&followed);
                        }
                    });
                    return answer.await.unwrap_or_else(|_| Err(Error::NotFollowed(id.clone())));
                }
                // one that ends instead of answering leaves its place
                Err(pump) => {
                    if let Some(ready) = ask(&pump, Command::Ready).await {
                        return ready;
                    }
                }
            }
        }
    }

    /// Puts a link into the log's place; false when lines of our own are in there already.
    async fn link(&self, id: &ContainerId, spool: &Path, path: &LogPath) -> Result<bool, Error> {
        let (positions, id) = (self.inner.positions.clone(), id.clone());
        let (spool, path) = (spool.to_owned(), path.clone());
        let linked = tokio::task::spawn_blocking(move || match positions.load::<Position>(id.as_str()) {
            Ok(Some(_)) => Ok(false),
            _ => path.link(&spool).map(|()| true),
        });
        linked.await.unwrap_or(Ok(false))
    }

    /// Puts a link to the spool into the place of a container's log, whatever has been written there, and drops its position: another
    /// adapter goes on.
    pub async fn hand_back(&self, id: &ContainerId, spool: PathBuf, path: LogPath) -> Result<(), Error> {
        let linked = tokio::task::spawn_blocking(move || path.link(&spool)).await;
        linked.unwrap_or_else(|_| Err(Error::NotFollowed(id.clone())))?;
        self.forget(id).await;
        Ok(())
    }

    /// Waits until all of the spool is in the log, then ends following; to be called when the container's process has ended.
    pub async fn drain(&self, id: &ContainerId, limit: Duration) -> Drained {
        let Some(pump) = self.pump(id) else { return Drained::NotFollowed };
        match tokio::time::timeout(limit, ask(&pump, Command::Drain)).await {
            Ok(Some(())) => Drained::Done,
            Ok(None) => Drained::NotFollowed,
            Err(_) => {
                self.inner.counters.drained_late();
                Drained::TimedOut
            }
        }
    }

    /// Goes on in the file that is at the log's path now, made when there is none: the file that was there before, under whatever
    /// name, gets no more lines once this has come back.
    pub async fn reopen(&self, id: &ContainerId) -> Result<(), Error> {
        let answer = match self.pump(id) {
            Some(pump) => ask(&pump, Command::Reopen).await,
            None => None,
        };
        let why = match self.inner.format {
            Format::Cri => Error::NotFollowed,
            Format::Docker => Error::Linked,
        };
        answer.unwrap_or_else(|| Err(why(id.clone())))
    }

    /// The container has been removed: ends following and removes its log, file or link; what the kubelet has rotated is the
    /// kubelet's. Whatever fails is told and left; a removal that takes long goes on by itself.
    pub async fn discard(&self, id: &ContainerId, log_path: &str) {
        let (pumps, id, path) = (self.clone(), id.clone(), LogPath::from_joined(log_path));
        let removing = tokio::spawn(async move {
            pumps.forget(&id).await;
            let removed = tokio::task::spawn_blocking(move || path.and_then(|path| path.remove())).await;
            if let Ok(Err(error)) = removed {
                tracing::warn!(container = %id, %error, "the log is left behind");
            }
        });
        if tokio::time::timeout(DISCARD_LIMIT, removing).await.is_err() {
            tracing::warn!(log = log_path, "the log's removal takes long; it is not waited for");
        }
    }

    /// The container is gone: ends following at once and drops its position. The log itself stays.
    pub async fn forget(&self, id: &ContainerId) {
        let pump = self.pumps().remove(id);
        if let Some(pump) = pump {
            ask(&pump, Command::Stop).await;
        }
        let (positions, name) = (self.inner.positions.clone(), id.clone());
        let removed = tokio::task::spawn_blocking(move || positions.remove(name.as_str())).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(container = %id, %error, "the log's position is left behind");
        }
    }

    /// The containers whose log has a position.
    pub fn positions(&self) -> Vec<String> {
        self.inner.positions.names().unwrap_or_else(|error| {
            tracing::warn!(%error, "positions of logs can't be listed");
            Vec::new()
        })
    }

    /// The running pump's channel, or the receiving end of a new one in its place.
    fn join_or_insert(&self, id: &ContainerId) -> Result<mpsc::Receiver<Command>, mpsc::Sender<Command>> {
        let mut pumps = self.pumps();
        if let Some(pump) = pumps.get(id).filter(|pump| !pump.is_closed()) {
            return Err(pump.clone());
        }
        let (commands, receiver) = mpsc::channel(COMMANDS);
        pumps.insert(id.clone(), commands);
        Ok(receiver)
    }

    /// A pump has ended; another may have its place already.
    fn take_out(&self, id: &ContainerId) {
        let mut pumps = self.pumps();
        if pumps.get(id).is_some_and(mpsc::Sender::is_closed) {
            pumps.remove(id);
        }
    }

    fn pump(&self, id: &ContainerId) -> Option<mpsc::Sender<Command>> {
        self.pumps().get(id).filter(|pump| !pump.is_closed()).cloned()
    }

    fn pumps(&self) -> MutexGuard<'_, HashMap<ContainerId, mpsc::Sender<Command>>> {
        self.inner.pumps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watcher(&self) -> Option<Arc<Watcher>> {
        let start = || {
            let told = |error| tracing::warn!(%error, "no inotify to be had; logs are looked at each second");
            Watcher::start().map_err(told).ok()
        };
        self.inner.watcher.get_or_init(start).clone()
    }
}

/// Sends a command and waits for its answer; None when the pump ends without one.
async fn ask<T>(pump: &mpsc::Sender<Command>, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
    let (sender, answer) = oneshot::channel();
    pump.send(command(sender)).await.ok()?;
    answer.await.ok()
}
