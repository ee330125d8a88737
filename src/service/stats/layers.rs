//! Sizes of writable layers: measured one after the other on a thread of lowest priority, while replies tell the last ones.
//!
//! ```text
//!   start, stats, metrics ──want──▶ due? ──▶ thread: measure ─▶ rest ─▶ next that is due ─▶ … ─▶ none is due: it ends
//!                                                  │
//!   replies ◀────────────────── last size ◀────────┘
//! ```
//!
//! A walk through a large layer keeps a disk busy for long. So one is under way at a time; each is followed by a rest of nine
//! times its length (10 s at most), and its layer is due again after a hundred times of it, 10 s at the least. Nobody asks: nothing is measured.
//! What is asked for in one call takes nothing away from what is known of other containers.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use rustix::thread::gettid;

use super::store;
use crate::cgroup::disk;
use crate::id::ContainerId;
use crate::index::model::Container;
use crate::process;
use crate::service::now_ns;
use crate::translate::stats::WritableLayer;

/// As often as the kubelet looks.
const INTERVAL: Duration = Duration::from_secs(10);
/// How much longer than a measurement the time to the next one of the same layer is.
const SELDOM: u32 = 100;
/// How much longer than a measurement the rest after it is.
const REST: u32 = 9;
/// A new container waits no longer than this for a large one's rest.
const REST_LIMIT: Duration = Duration::from_secs(10);
/// The lowest priority (nice) there is.
const LOWEST: i32 = 19;

/// What is known of writable layers. Cheap to clone.
#[derive(Clone, Default)]
pub(in crate::service) struct Layers {
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    known: HashMap<ContainerId, Layer>,
    /// A thread is measuring.
    working: bool,
    /// Where the Engine's snapshotter is, as the last layer told.
    snapshotter: Option<PathBuf>,
}

/// One start of a container.
struct Layer {
    pid: i32,
    due: Instant,
    measured: Option<Arc<WritableLayer>>,
}

impl Layers {
    /// Has the layers of these containers measured if that is due. `store` is where the Engine's own storage driver keeps layers,
    /// `root` its data.
    pub(in crate::service) fn want<'a>(
        &self,
        containers: impl Iterator<Item = &'a Container>,
        root: &Path,
        store: &Path,
    ) {
        let now = Instant::now();
        let mut table = self.table();
        let mut is_due = false;
        for container in containers {
            let layer = table.known.entry(container.id.clone()).or_insert(Layer {
                pid: container.pid,
                due: now,
                measured: None,
            });
            if layer.pid != container.pid {
                *layer = Layer { pid: container.pid, due: now, measured: layer.measured.take() };
            }
            is_due |= layer.due <= now;
        }
        if !is_due || table.working {
            return;
        }
        let (layers, root, store) = (self.clone(), root.to_owned(), store.to_owned());
        let thread = std::thread::Builder::new().name("layers".to_owned());
        match thread.spawn(move || layers.measure_all(&root, &store)) {
            Ok(_detached) => table.working = true,
            Err(error) => tracing::warn!(%error, "no thread to measure writable layers"),
        }
    }

    /// The size of a container's layer when it was last measured.
    pub(super) fn of(&self, id: &ContainerId) -> Option<Arc<WritableLayer>> {
        self.table().known.get(id)?.measured.clone()
    }

    /// All together, and where the Engine's snapshotter keeps them.
    pub(in crate::service) fn sum(&self) -> (disk::Size, Option<PathBuf>) {
        let table = self.table();
        let mut sum = disk::Size::default();
        for layer in table.known.values().filter_map(|layer| layer.measured.as_ref()) {
            sum.bytes = sum.bytes.saturating_add(layer.size.bytes);
            sum.inodes = sum.inodes.saturating_add(layer.size.inodes);
        }
        (sum, table.snapshotter.clone())
    }

    /// Forgets all containers but those that `keep` wants.
    pub(super) fn retain(&self, keep: impl Fn(&ContainerId) -> bool) {
        self.table().known.retain(|id, _| keep(id));
    }

    /// The thread: measures until nothing is due.
    fn measure_all(&self, root: &Path, store: &Path) {
        if let Err(error) = setpriority_process(Some(gettid()), LOWEST) {
            tracing::debug!(%error, "writable layers are measured at our own priority");
        }
        while let Some((id, pid)) = self.next_due() {
            let begun = Instant::now();
            let measured = measure(pid, root, store);
            let cost = begun.elapsed();
            self.put(&id, pid, measured, cost);
            std::thread::sleep((cost * REST).min(REST_LIMIT));
        }
    }

    /// What has been due longest; None lets the thread end.
    fn next_due(&self) -> Option<(ContainerId, i32)> {
        let mut table = self.table();
        let now = Instant::now();
        let due = table.known.iter().filter(|(_, layer)| layer.due <= now).min_by_key(|(_, layer)| layer.due);
        let next = due.map(|(id, layer)| (id.clone(), layer.pid));
        table.working = next.is_some();
        next
    }

    fn put(&self, id: &ContainerId, pid: i32, measured: io::Result<Option<Measured>>, cost: Duration) {
        let mut table = self.table();
        if let Ok(Some(Measured { snapshotter: Some(snapshotter), .. })) = &measured {
            table.snapshotter = Some(snapshotter.clone());
        }
        // it may have been forgotten or started anew meanwhile
        let Some(layer) = table.known.get_mut(id).filter(|layer| layer.pid == pid) else { return };
        layer.due = Instant::now() + INTERVAL.max(cost * SELDOM);
        match measured {
            Ok(Some(measured)) => layer.measured = Some(Arc::new(measured.layer)),
            Ok(None) => {}
            Err(error) => tracing::debug!(container = %id, %error, "the writable layer can't be measured"),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Measured {
    layer: WritableLayer,
    snapshotter: Option<PathBuf>,
}

/// None for a container whose root is no overlay: what other storage drivers keep can't be told from the image.
fn measure(pid: i32, root: &Path, store: &Path) -> io::Result<Option<Measured>> {
    let Some(upper) = process::upper_directory(pid).map_err(io::Error::other)? else { return Ok(None) };
    let upper = store.join(upper);
    let snapshotter = store::snapshotter_of(&upper);
    let size = disk::measure(&upper)?;
    let place = snapshotter.as_deref().unwrap_or(root).display().to_string();
    Ok(Some(Measured { layer: WritableLayer { timestamp_ns: now_ns(), size, store: place }, snapshotter }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(due: &[(&str, Instant)]) -> Layers {
        let layers = Layers::default();
        let known = due.iter().map(|(id, due)| (ContainerId::new(*id), Layer { pid: 7, due: *due, measured: None }));
        layers.table().known.extend(known);
        layers
    }

    fn measured(bytes: u64) -> io::Result<Option<Measured>> {
        let size = disk::Size { bytes, inodes: 1 };
        let layer = WritableLayer { timestamp_ns: 1, size, store: "/var/lib/docker".to_owned() };
        Ok(Some(Measured { layer, snapshotter: None }))
    }

    #[test]
    fn what_has_been_due_longest_is_next_and_the_thread_ends_when_nothing_is() {
        let now = Instant::now();
        let layers = layers(&[("a", now), ("b", now - Duration::from_millis(5)), ("c", now + Duration::from_secs(60))]);
        for wanted in ["b", "a"] {
            let (id, pid) = layers.next_due().unwrap();
            assert_eq!(id.as_str(), wanted);
            layers.put(&id, pid, measured(1), Duration::from_millis(1));
        }
        assert!(layers.table().working);
        assert_eq!(layers.next_due(), None);
        assert!(!layers.table().working);
    }

    #[test]
    fn a_layer_that_takes_long_is_measured_seldom() {
        let now = Instant::now();
        let layers = layers(&[("a", now)]);
        let id = ContainerId::new("a");
        layers.put(&id, 7, measured(1), Duration::from_secs(2));
        assert!(layers.table().known[&id].due >= now + Duration::from_secs(200));
        layers.put(&id, 7, measured(1), Duration::ZERO);
        assert!(layers.table().known[&id].due <= Instant::now() + INTERVAL);
    }

    #[test]
    fn a_failure_keeps_the_last_size_and_another_start_does_not_take_it() {
        let layers = layers(&[("a", Instant::now())]);
        let id = ContainerId::new("a");
        layers.put(&id, 7, measured(5), Duration::ZERO);
        layers.put(&id, 7, Err(io::Error::other("gone")), Duration::ZERO);
        layers.put(&id, 8, measured(9), Duration::ZERO);
        assert_eq!(layers.of(&id).unwrap().size.bytes, 5);
        assert_eq!(layers.sum().0, disk::Size { bytes: 5, inodes: 1 });
        layers.retain(|_| false);
        assert_eq!(layers.of(&id), None);
    }
}
