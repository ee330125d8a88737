//! ImageFsInfo: where images and writable layers are and what they take. The kubelet asks at its start, where an error ends it, and
//! every 10 s: always answered from memory, with one look at the file system.
//!
//! What the kubelet acts on (image garbage collection, eviction) is the capacity and free space of the file system that is named
//! here, which it looks up itself; the bytes are what its summary shows. Images take what all their layers take, each counted once:
//! from the sizes that the Engine notes beside its layers, read in the background; with the containerd image store, which has no
//! such notes, by a call that does nothing but that (and is as seldom). Until there is such a figure it is the sum of the images'
//! sizes, in which shared layers count for each image. Inodes of images are all those in use on the file system: nobody counts
//! them for each, and the kubelet looks at the free ones. Layers and images are on one file system.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use crate::cgroup::disk::{self, Size};
use crate::cri;
use crate::engine::Engine;
use crate::engine::feature::Feature;
use crate::error::Result;
use crate::service::stats::store::Store;
use crate::service::{Daemon, now_ns};
use crate::translate::stats::file_system;

/// How old the bytes of images may become.
const INTERVAL: Duration = Duration::from_secs(60);

/// What images take, as far as it is known. Cheap to clone.
#[derive(Clone, Default)]
pub struct ImageBytes {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    bytes: Option<u64>,
    /// When it was last looked for; None for never.
    begun: Option<Instant>,
}

impl ImageBytes {
    /// The last figure; looks for a new one in the background when it has become old.
    fn get(&self, store: &Store, engine: &Engine) -> Option<u64> {
        let mut state = self.state();
        if state.begun.is_none_or(|begun| begun.elapsed() >= INTERVAL) {
            state.begun = Some(Instant::now());
            let (this, store, engine) = (self.clone(), store.clone(), engine.clone());
            tokio::spawn(async move {
                let found = look(store, &engine).await;
                let mut state = this.state();
                state.bytes = found.or(state.bytes);
            });
        }
        state.bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn look(store: Store, engine: &Engine) -> Option<u64> {
    if !store.is_containerd {
        return spawn_blocking(move || store.noted_bytes()).await.ok().flatten();
    }
    if !engine.api().is_some_and(|api| api.has(Feature::DiskUsageOfImages)) {
        return None;
    }
    match engine.image_disk_usage().await {
        Ok(usage) => Some(usage.layers_size),
        Err(error) => {
            tracing::debug!(%error, "what images take is not known");
            None
        }
    }
}

/// Answers ImageFsInfo.
pub async fn image_fs_info(daemon: &Daemon, request: cri::ImageFsInfoRequest) -> Result<cri::ImageFsInfoResponse> {
    let cri::ImageFsInfoRequest {} = request;
    let facts = daemon.index.facts();
    let store = Store::new(facts.as_deref().map(|facts| &facts.info));
    let (layers, snapshotter) = daemon.stats.layers.sum();
    let directory = store.directory(snapshotter);
    let bytes = daemon.image_bytes.get(&store, &daemon.engine).unwrap_or_else(|| sum_of_sizes(daemon));
    let counted = disk::file_system(&directory).ok();
    let inodes = counted.map(|counted| counted.inodes.saturating_sub(counted.inodes_free));
    let place = directory.display().to_string();
    let usage = |size| file_system(now_ns(), &place, size);
    let mut images = usage(Size { bytes, inodes: inodes.unwrap_or_default() });
    // where nobody can count, 0 would be a lie
    images.inodes_used = images.inodes_used.filter(|_| inodes.is_some());
    Ok(cri::ImageFsInfoResponse { image_filesystems: vec![images], container_filesystems: vec![usage(layers)] })
}

fn sum_of_sizes(daemon: &Daemon) -> u64 {
    daemon.index.images().all().iter().fold(0, |sum, image| sum.saturating_add(image.size_bytes))
}
