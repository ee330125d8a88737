//! Verbs about what containers and pods use: read from their cgroups, from `/proc` and from the node's disks, never from the Engine.
//!
//! A hundred containers are some hundreds of small reads, some milliseconds in all. They don't wait for a disk, but would hold up
//! other calls on this thread; so they are a few errands to threads that may block, which costs less than one each.

mod cgroups;
mod container;
mod layers;
mod metrics;
mod sandbox;
pub(super) mod store;
mod stream;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::spawn_blocking;

use crate::error::{Error, Result};
use crate::index::Table;
use crate::index::model::Container;
use crate::metrics::pod::DeviceNames;
use crate::service::Daemon;
use cgroups::{Cgroups, is_up, runs};
use layers::Layers;
use store::Store;

pub use container::{container_stats, list_container_stats};
pub use metrics::{list_metric_descriptors, list_pod_sandbox_metrics};
pub use sandbox::{list_pod_sandbox_stats, pod_sandbox_stats};
pub use stream::{stream_container_stats, stream_pod_sandbox_metrics, stream_pod_sandbox_stats};

/// Fewer than this are not worth another thread.
const CHUNK: usize = 16;
/// More threads than this take cores from the pods that are looked at.
const THREADS: usize = 4;

/// What is kept from one reading to the next. Cheap to clone.
#[derive(Clone, Default)]
pub struct Stats {
    cgroups: Cgroups,
    pub(super) layers: Layers,
    devices: Arc<Mutex<DeviceNames>>,
}

impl Stats {
    /// Drops what is kept of containers and sandboxes that no longer run.
    fn forget_ended(&self, table: &Table) {
        let container_runs = |id: &str| table.container(id).is_ok_and(|container| runs(&container));
        self.cgroups.retain(|id| container_runs(id) || table.sandbox(id).is_ok_and(|sandbox| is_up(&sandbox)));
        self.layers.retain(|id| container_runs(id.as_str()));
    }

    fn devices(&self) -> MutexGuard<'_, DeviceNames> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Daemon {
    /// Has the writable layers of containers measured in the background, if that is due.
    pub(super) fn want_layers<'a>(&self, containers: impl Iterator<Item = &'a Container>) {
        let facts = self.index.facts();
        let store = Store::new(facts.as_deref().map(|facts| &facts.info));
        self.stats.layers.want(containers, &store.root, &store.layers());
    }
}

/// Reads each, in order, on threads that may block; None is left out.
async fn read_each<T, R>(
    kept: &Stats,
    all: Vec<T>,
    read: impl Fn(&Stats, &T) -> Option<R> + Clone + Send + 'static,
) -> Result<Vec<R>>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let chunk = all.len().div_ceil(threads).max(CHUNK);
    let mut all = all.into_iter();
    let mut errands = Vec::with_capacity(threads);
    loop {
        let part: Vec<T> = all.by_ref().take(chunk).collect();
        if part.is_empty() {
            break;
        }
        let (kept, read) = (kept.clone(), read.clone());
        errands.push(spawn_blocking(move || part.iter().filter_map(|one| read(&kept, one)).collect::<Vec<R>>()));
    }
    let mut done = Vec::new();
    for errand in errands {
        done.extend(errand.await.map_err(|panicked| Error::internal("read cgroups", panicked))?);
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_are_read_in_order_whatever_their_number() {
        for number in [0usize, 1, 15, 16, 17, 100, 1000] {
            let (kept, all) = (Stats::default(), (0..number).collect());
            let read = read_each(&kept, all, |_, one| (one % 3 != 0).then_some(*one)).await.unwrap();
            assert_eq!(read, (0..number).filter(|one| one % 3 != 0).collect::<Vec<usize>>());
        }
    }
}
