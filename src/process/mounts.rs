//! Where a path is mounted, and whether what is mounted there goes to and fro, by a mount table (proc(5), mount_namespaces(7)).

use std::path::{Path, PathBuf};

use super::{Error, read};
use crate::cgroup::unescape;

/// The mount that a path lies in.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it is.
    pub point: PathBuf,
    /// Gives to its peers and takes from them.
    pub shared: bool,
    /// Takes from a master.
    pub slave: bool,
}

/// The mount table of the process that has started one; None unless it is also ours, or when that can't be told.
pub fn mounts_of_parent(pid: i32) -> Option<String> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let parent = parent_of(pid).ok()??;
    let ours = namespace("self")?;
    let own = i32::try_from(std::process::id()).ok()?;
    (namespace(&parent)? == ours).then(|| read(own, "mountinfo").ok()).flatten()
}

fn parent_of(pid: i32) -> Result<Option<String>, Error> {
    let status = read(pid, "status")?;
    Ok(status.lines().find_map(|line| line.strip_prefix("PPid:")).map(|pid| pid.trim().to_owned()))
}

/// Finds the mount of a path without links in it. Where several are stacked on one point, it has what any of them has: not everybody
/// looks at the topmost.
pub fn place_of(mountinfo: &str, path: &Path) -> Option<Place> {
    let around = mountinfo.lines().filter_map(place).filter(|place| path.starts_with(&place.point));
    around.fold(None, |nearest: Option<Place>, place| match nearest {
        Some(Place { point, shared, slave }) if point == place.point => {
            Some(Place { point, shared: shared || place.shared, slave: slave || place.slave })
        }
        // both lead to the path, so that the longer one is nearer
        Some(nearest) if nearest.point.as_os_str().len() > place.point.as_os_str().len() => Some(nearest),
        _ => Some(place),
    })
}

/// `ID parent major:minor root POINT options [shared:N] [master:N] [propagate_from:N] [unbindable] - type source options`
fn place(line: &str) -> Option<Place> {
    let (mounted, _) = line.split_once(" - ")?;
    let mut fields = mounted.split(' ').skip(4);
    let point = PathBuf::from(unescape(fields.next()?));
    let tags: Vec<&str> = fields.skip(1).collect();
    let has = |tag: &str| tags.iter().any(|field| field.starts_with(tag));
    Some(Place { point, shared: has("shared:"), slave: has("master:") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &str = "\
        22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
        30 22 0:26 / /mnt rw,relatime - tmpfs tmpfs rw\n\
        31 30 0:27 / /mnt/two\\040words rw master:7 propagate_from:2 - tmpfs tmpfs rw\n\
        32 22 0:28 / /both rw shared:3 master:1 - tmpfs - rw\n\
        33 22 0:29 / /stack rw shared:4 - tmpfs tmpfs rw\n\
        34 33 0:30 / /stack rw - tmpfs tmpfs rw\n";

    fn at(path: &str) -> (String, bool, bool) {
        let Place { point, shared, slave } = place_of(TABLE, Path::new(path)).unwrap();
        (point.display().to_string(), shared, slave)
    }

    #[test]
    fn the_nearest_mount_around_a_path_counts() {
        for (path, point, shared, slave) in [
            ("/", "/", true, false),
            ("/mnt", "/mnt", false, false),
            ("/mnt/two words/deep/er", "/mnt/two words", false, true),
            ("/mnt/two", "/mnt", false, false),
            ("/mntx", "/", true, false),
            ("/both/x", "/both", true, true),
            ("/stack/x", "/stack", true, false),
        ] {
            assert_eq!(at(path), (point.to_owned(), shared, slave), "{path}");
        }
        assert_eq!(place_of("", Path::new("/")), None);
    }

    #[test]
    fn only_who_sees_our_mounts_has_our_table() {
        let own = i32::try_from(std::process::id()).unwrap();
        let table = mounts_of_parent(own).expect("who runs the tests sees what they see");
        assert!(place_of(&table, Path::new("/proc/self")).is_some_and(|place| place.point == Path::new("/proc")));
        assert_eq!(parent_of(own).unwrap().unwrap(), std::os::unix::process::parent_id().to_string());
        assert_eq!(mounts_of_parent(i32::MAX), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_what_is_found_is_around_the_path(
            lines in prop::collection::vec("([0-9 ]{0,4}|1 2 0:3 / (/[ab\\\\04]{0,3}){1,3} rw (shared:1 |master:2 )?- t s o|.{0,40})", 0..6),
            path in "(/[ab ]{1,2}){1,4}",
        ) {
            if let Some(place) = place_of(&lines.join("\n"), Path::new(&path)) {
                prop_assert!(Path::new(&path).starts_with(place.point));
            }
        }
    }
}
