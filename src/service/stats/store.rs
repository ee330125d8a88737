//! Where the Engine keeps images and what containers write.
//!
//! With its own storage drivers that is its data directory. With the containerd image store it is the directory of containerd's
//! snapshotter, which the Engine doesn't tell: the roots of running containers do (every pod has one), and before there is any,
//! the usual places are looked at.

use std::path::{Path, PathBuf};

use crate::engine::model::Info;

/// Where the Engine keeps its data while it hasn't said otherwise.
const DEFAULT_ROOT: &str = "/var/lib/docker";
/// Where containerd keeps its own, on most systems.
const CONTAINERD_ROOT: &str = "/var/lib/containerd";
/// What `GET /info` says of the containerd image store, and containerd's snapshotters are called by.
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1";

/// What the Engine said of its storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::service) struct Store {
    /// Its data.
    pub(in crate::service) root: PathBuf,
    /// `overlay2`; with the containerd image store the snapshotter's name, `overlayfs`.
    pub(in crate::service) driver: String,
    /// Whether images are containerd's.
    pub(in crate::service) is_containerd: bool,
}

impl Store {
    /// From `GET /info`, or the defaults before it has answered.
    pub(in crate::service) fn new(info: Option<&Info>) -> Store {
        let root = info.map(|info| info.docker_root_dir.as_str()).filter(|root| !root.is_empty());
        let is_snapshotter = |info: &Info| info.driver_status.iter().flatten().any(|word| word == SNAPSHOTTER);
        Store {
            root: root.unwrap_or(DEFAULT_ROOT).into(),
            driver: info.map(|info| info.driver.clone()).unwrap_or_default(),
            is_containerd: info.is_some_and(is_snapshotter),
        }
    }

    /// Where a storage driver of the Engine keeps layers.
    pub(in crate::service) fn layers(&self) -> PathBuf {
        self.root.join(&self.driver)
    }

    /// The directory whose file system has images and layers; `seen` is what a container's root told of the snapshotter.
    pub(in crate::service) fn directory(&self, seen: Option<PathBuf>) -> PathBuf {
        if !self.is_containerd {
            return self.root.clone();
        }
        let name = format!("{SNAPSHOTTER}.{}", self.driver);
        // an Engine without a containerd service starts one of its own
        let usual = [self.root.join("containerd/daemon"), CONTAINERD_ROOT.into()].map(|place| place.join(&name));
        let found = seen.or_else(|| usual.into_iter().find(|place| place.is_dir()));
        found.unwrap_or_else(|| self.root.clone())
    }

    /// Bytes of all layers of images that a storage driver of the Engine has, each counted once: the Engine notes the size of
    /// every layer in a file of its own. None when there are none of these files.
    pub(in crate::service) fn noted_bytes(&self) -> Option<u64> {
        let notes = self.root.join("image").join(&self.driver).join("layerdb/sha256");
        let size = |layer: std::fs::DirEntry| {
            let text = std::fs::read_to_string(layer.path().join("size")).ok()?;
            text.trim_ascii().parse::<u64>().ok()
        };
        let sizes = std::fs::read_dir(notes).ok()?.flatten().filter_map(size);
        Some(sizes.fold(0, u64::saturating_add))
    }
}

/// The snapshotter's directory, from a snapshot's (`…/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs`).
pub(super) fn snapshotter_of(upper: &Path) -> Option<PathBuf> {
    let is_it = |place: &&Path| place.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SNAPSHOTTER));
    upper.ancestors().find(is_it).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(driver: &str, status: &[&str]) -> Info {
        Info {
            docker_root_dir: "/data/docker".to_owned(),
            driver: driver.to_owned(),
            driver_status: vec![status.iter().map(|word| (*word).to_owned()).collect()],
            ..Info::default()
        }
    }

    #[test]
    fn a_storage_driver_keeps_all_in_the_engines_directory() {
        let store = Store::new(Some(&info("overlay2", &["Backing Filesystem", "extfs"])));
        assert_eq!(store.directory(Some("/elsewhere".into())), Path::new("/data/docker"));
        assert_eq!(store.layers(), Path::new("/data/docker/overlay2"));
        assert_eq!(Store::new(None).directory(None), Path::new(DEFAULT_ROOT));
    }

    #[test]
    fn the_snapshotter_is_where_a_containers_root_is() {
        let store = Store::new(Some(&info("overlayfs", &["driver-type", "io.containerd.snapshotter.v1"])));
        let home = "/data/containerd/io.containerd.snapshotter.v1.overlayfs";
        let seen = snapshotter_of(Path::new(&format!("{home}/snapshots/7/fs")));
        assert_eq!(store.directory(seen), Path::new(home));
        assert_eq!(snapshotter_of(Path::new("/var/lib/docker/overlay2/ab/diff")), None);
    }

    #[test]
    fn each_layer_is_counted_once_as_the_engine_notes_it() {
        let root = std::env::temp_dir().join(format!("dockershim-store-{}", std::process::id()));
        for (layer, size) in [("a", "1000"), ("b", "24\n"), ("c", "garbage")] {
            let directory = root.join("image/overlay2/layerdb/sha256").join(layer);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("size"), size).unwrap();
        }
        let store = Store { root: root.clone(), driver: "overlay2".to_owned(), is_containerd: false };
        assert_eq!(store.noted_bytes(), Some(1024));
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(store.noted_bytes(), None);
    }
}
