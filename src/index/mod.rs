//! What exists on the engine, in memory: every List and Status is answered from here, without an engine call.
//!
//! ```text
//!   our own writes ─────────────▶ ┌───────┐
//!   events  (feed.rs) ──────────▶ │ Index │ ──▶ List, Status, Stats
//!   exits   (exits.rs, pidfd) ──▶ └───────┘
//!   listing (reconcile.rs, at each connect and every 30 s)
//! ```
//!
//! What changes in the table is told to those who follow (events.rs).
//!
//! **Invariants**: a write of ours is visible here before its RPC answers; a container never goes back from Exited to Running
//! unless the engine has really started it again; while the engine's state isn't known, readers get `Unavailable`, not a lie.

mod clock;
mod events;
mod execs;
mod exits;
mod feed;
mod health;
mod identity;
mod images;
mod intake;
mod kept;
pub mod model;
mod own_text;
mod packed;
mod reconcile;
mod resolv;
mod shelf;
mod table;
mod texts;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::watch;

use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::figures::{Histogram, Reading};
use crate::id::SandboxId;
use crate::log::Pumps;
use crate::record::Records;

pub(crate) use clock::now_ns;
pub use events::Subscription;
pub use execs::ExecExit;
use execs::ExecExits;
pub use health::Health;
pub use images::Images;
pub use own_text::OwnText;
pub use packed::Packed;
pub use table::Table;
pub use texts::Texts;

/// How long a reader waits for the index to be true before it answers `Unavailable`.
const SYNC_WAIT: Duration = Duration::from_secs(2);

/// Classes of the lag of events.
const LAG_BOUNDS: &[Duration] = &[
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// What the engine said of itself when it was last reached.
#[derive(Clone, Debug, Default)]
pub struct EngineFacts {
    /// `GET /version`.
    pub version: engine::model::Version,
    /// `GET /info`.
    pub info: engine::model::Info,
}

/// Looks up what a CNI plugin assigned to a sandbox.
pub type Addresses = Arc<dyn Fn(&SandboxId) -> Option<Vec<String>> + Send + Sync>;

/// The index. Cheap to clone.
#[derive(Clone)]
pub struct Index {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    pumps: Pumps,
    addresses: Addresses,
    /// Limits written beside the Engine, by container.
    limits: Records,
    table: RwLock<Table>,
    /// Bumped at every change of the table.
    changes: watch::Sender<u64>,
    events: events::Events,
    /// From the engine's stamp on an event to its being taken in.
    lag: Histogram,
    clock: clock::Clock,
    health: watch::Sender<Health>,
    facts: RwLock<Option<Arc<EngineFacts>>>,
    /// Docker names that writes of ours are about, and how many: their events bring no news.
    own_writes: Mutex<HashMap<String, usize>>,
    /// Ids that could not be inspected and are tried again.
    looking: Mutex<HashSet<String>>,
    exits: exits::Exits,
    execs: ExecExits,
    images: Images,
}

impl Index {
    /// An empty index; [`Index::run`] fills it and keeps it true.
    ///
    /// `addresses` gives the pod addresses that a CNI plugin assigned to a sandbox, if one did; `limits` has what was written
    /// beside the Engine.
    pub fn new(engine: Engine, pumps: Pumps, addresses: Addresses, limits: Records) -> Self {
        let inner = Inner {
            images: Images::new(engine.clone()),
            engine,
            pumps,
            addresses,
            limits,
            table: RwLock::default(),
            changes: watch::channel(0).0,
            events: events::Events::default(),
            lag: Histogram::new(LAG_BOUNDS),
            clock: clock::Clock::default(),
            health: watch::channel(Health::default()).0,
            facts: RwLock::default(),
            own_writes: Mutex::default(),
            looking: Mutex::default(),
            exits: exits::Exits::default(),
            execs: ExecExits::default(),
        };
        Index { inner: Arc::new(inner) }
    }

    /// Feeds the index until the process ends.
    pub async fn run(self) {
        feed::run(self).await;
    }

    /// What is known now, true or not.
    pub fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.inner.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the index is true, then shows it; `Unavailable` when that takes too long.
    pub async fn read(&self) -> Result<RwLockReadGuard<'_, Table>> {
        self.synced().await?;
        Ok(self.table())
    }

    /// Waits until the index is true, at most 2 s.
    pub async fn synced(&self) -> Result<()> {
        let mut health = self.inner.health.subscribe();
        let synced = health.wait_for(|health| health.synced);
        match tokio::time::timeout(SYNC_WAIT, synced).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::Unavailable(self.health().explain())),
        }
    }

    /// Waits until `found` sees what it looks for.
    pub async fn wait_for<T>(&self, mut found: impl FnMut(&Table) -> Option<T>) -> T {
        let mut changes = self.inner.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(answer) = found(&self.table()) {
                return answer;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// How true the index is.
    pub fn health(&self) -> Health {
        self.inner.health.borrow().clone()
    }

    /// From the engine's stamp on an event to its being taken in; as true as both clocks, which are one.
    pub fn event_lag(&self) -> Reading {
        self.inner.lag.read()
    }

    /// The image cache.
    pub fn images(&self) -> &Images {
        &self.inner.images
    }

    /// What the engine said of itself when it was last reached.
    pub fn facts(&self) -> Option<Arc<EngineFacts>> {
        self.inner.facts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Marks a Docker name as being written by us until the guard is dropped.
    pub fn own_write(&self, docker_name: &str) -> OwnWrite {
        *locked(&self.inner.own_writes).entry(docker_name.to_owned()).or_default() += 1;
        OwnWrite { index: self.clone(), docker_name: docker_name.to_owned() }
    }

    fn is_own_write(&self, docker_name: &str) -> bool {
        locked(&self.inner.own_writes).contains_key(docker_name)
    }

    /// Changes the table, tells what is new to those who follow, and that there is something to those who wait.
    fn change<T>(&self, change: impl FnOnce(&mut RwLockWriteGuard<'_, Table>) -> T) -> T {
        let mut table = self.inner.table.write().unwrap_or_else(PoisonError::into_inner);
        let answer = change(&mut table);
        self.inner.events.tell(&mut table, || self.stamp());
        drop(table);
        self.inner.changes.send_modify(|count| *count += 1);
        answer
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives, events about one Docker name are known to be echoes of our own write.
pub struct OwnWrite {
    index: Index,
    docker_name: String,
}

impl Drop for OwnWrite {
    fn drop(&mut self) {
        let mut names = locked(&self.index.inner.own_writes);
        if let Some(count) = names.get_mut(&self.docker_name) {
            *count -= 1;
            if *count == 0 {
                names.remove(&self.docker_name);
            }
        }
    }
}
