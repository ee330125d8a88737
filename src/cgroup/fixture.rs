//! A directory that looks like a cgroup, for tests of whatever reads or writes one. Removed when dropped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of files.
pub(super) struct Tree(PathBuf);

impl Tree {
    /// Makes a directory with these files (name, content) in it.
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let tree = Tree(std::env::temp_dir().join(format!("dockershim-cgroup-{}-{number}", std::process::id())));
        std::fs::create_dir(&tree.0).unwrap();
        for (name, content) in files {
            std::fs::write(tree.0.join(name), content).unwrap();
        }
        tree
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What a file holds; None when it isn't there.
    pub(super) fn content(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.0.join(name)).ok()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
