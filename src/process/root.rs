//! Where a container's own files are on the node: the upper directory of the overlay that is its root. The Engine's inspect tells
//! it only with its own storage drivers, the container's mount table always.

use std::path::PathBuf;

use super::{Error, read};
use crate::cgroup::unescape;

/// Finds the upper directory; None when the root is no overlay. It is relative (to where the Engine keeps its layers) when the
/// options of the mount would have been too long.
pub fn upper_directory(pid: i32) -> Result<Option<PathBuf>, Error> {
    Ok(upper_of(&read(pid, "mountinfo")?))
}

/// Reads it from a mount table (proc(5)): the first mount at `/` is what the container was started with.
pub fn upper_of(mountinfo: &str) -> Option<PathBuf> {
    let root = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some("/"))?;
    let (_, filesystem) = root.split_once(" - ")?;
    let mut fields = filesystem.split(' ');
    let (kind, options) = (fields.next()?, fields.nth(1)?);
    let upper = options.split(',').find_map(|option| option.strip_prefix("upperdir="))?;
    (kind == "overlay").then(|| PathBuf::from(unescape(upper)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn root(filesystem: &str) -> String {
        format!("600 500 0:45 / /proc rw - proc proc rw\n612 500 0:52 / / rw,relatime master:9 - {filesystem}\n")
    }

    #[test]
    fn the_upper_directory_of_either_image_store_is_found() {
        let graph = root("overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/var/lib/docker/overlay2/ab/diff,workdir=/w");
        assert_eq!(upper_of(&graph), Some("/var/lib/docker/overlay2/ab/diff".into()));
        let snapshot = root("overlay overlay rw,upperdir=/data\\040disk/snapshots/7/fs,index=off");
        assert_eq!(upper_of(&snapshot), Some("/data disk/snapshots/7/fs".into()));
    }

    #[test]
    fn another_kind_of_root_has_none() {
        for filesystem in ["btrfs /dev/sda rw,subvol=/x", "overlay overlay ro,lowerdir=/a:/b", "tmpfs t rw,upperdir=/x"]
        {
            assert_eq!(upper_of(&root(filesystem)), None);
        }
        assert_eq!(upper_of(""), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "(?s)(1 2 0:3 / / rw - overlay o )?.{0,120}") {
            upper_of(&text);
        }
    }
}
