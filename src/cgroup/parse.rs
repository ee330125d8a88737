//! What the kernel writes about cgroups, read from text: `/proc/<pid>/cgroup`, `/proc/self/mountinfo` and the files of one cgroup.
//! Pure: no files here, so that any kernel's text can be a test.

use std::path::{Component, Path, PathBuf};

/// One line of `/proc/<pid>/cgroup`: where a process is in one hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership<'a> {
    /// Comma-separated v1 controllers, empty for the v2 hierarchy, `name=…` for one without controllers.
    controllers: &'a str,
    /// From the hierarchy's root, as our cgroup namespace shows it.
    pub path: &'a str,
}

impl<'a> Membership<'a> {
    /// Whether this is the v2 hierarchy.
    pub fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    /// The v1 controllers of the hierarchy; those mounted together (`cpu,cpuacct`) are one line.
    pub fn legacy_controllers(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.controllers.split(',').filter(|name| !name.is_empty() && !name.starts_with("name="))
    }

    /// The v2 kernel's word for a cgroup that was removed under a process that has not been reaped yet.
    pub fn is_deleted(&self) -> bool {
        self.path.ends_with(" (deleted)")
    }

    /// The path without what a container has made within its own cgroup: systemd or a nested engine as its first process
    /// moves itself one level down, and yet the container's figures and limits are those of the whole.
    pub fn container_path(&self) -> &'a str {
        let (mut end, mut cut) = (0, self.path.len());
        for part in self.path.split('/') {
            end += part.len();
            if names_container(part) {
                cut = end;
            }
            end += 1;
        }
        &self.path[..cut]
    }

    /// Whether [`Membership::container_path`] is the cgroup of a container.
    pub fn is_of_container(&self) -> bool {
        self.container_path().rsplit('/').next().is_some_and(names_container)
    }
}

/// Docker calls a container's cgroup `<id>` (cgroupfs) or `docker-<id>.scope` (systemd).
pub fn names_container(part: &str) -> bool {
    let scope = part.strip_prefix("docker-").and_then(|rest| rest.strip_suffix(".scope"));
    let id = scope.unwrap_or(part);
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Reads `/proc/<pid>/cgroup`; lines of another form are passed over.
pub fn memberships(text: &str) -> impl Iterator<Item = Membership<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        path.starts_with('/').then_some(Membership { controllers, path })
    })
}

/// A cgroup hierarchy, or a part of one, as it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// v1 controllers (and other options); None for the v2 hierarchy.
    controllers: Option<Vec<String>>,
    /// Which cgroup of the hierarchy is at the mount point: not `/` when a part of it was bind-mounted.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// Whether it is the v2 hierarchy.
    pub fn is_unified(&self) -> bool {
        self.controllers.is_none()
    }

    /// Whether it is the v1 hierarchy of a controller.
    pub fn has_legacy(&self, controller: &str) -> bool {
        self.controllers.as_ref().is_some_and(|all| all.iter().any(|name| name == controller))
    }

    /// The directory of a cgroup; None when it lies outside of what is mounted.
    pub fn directory(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        below.components().all(|part| matches!(part, Component::Normal(_))).then(|| self.point.join(below))
    }
}

/// Reads the cgroup hierarchies from `/proc/self/mountinfo` (proc(5)); other mounts and lines of another form are passed over.
pub fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (mounted, filesystem) = line.split_once(" - ")?;
    let mut filesystem = filesystem.split(' ');
    let controllers = match filesystem.next()? {
        "cgroup2" => None,
        "cgroup" => Some(filesystem.nth(1)?.split(',').map(str::to_owned).collect()),
        _ => return None,
    };
    let mut fields = mounted.split(' ').skip(3);
    let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
    Some(Mount { controllers, root: root.into(), point: point.into() })
}

/// Space, tab, newline and backslash stand in mountinfo as `\` and three octal digits.
pub(crate) fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(u8::is_ascii);
        match code {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

/// The number that a file holds alone. `max` is the largest one, as v1 says "no limit" with a number near it.
pub fn number(text: &str) -> Option<u64> {
    match text.trim_ascii() {
        "max" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }
}

/// One value of a file of `key value` lines.
pub fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).and_then(number)
}

/// The size that a directory of `/sys/kernel/mm/hugepages` is about (`hugepages-2048kB`).
pub fn huge_page_kib(directory: &str) -> Option<u64> {
    directory.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
}

/// What cgroup files call that size: `64KB`, `2MB`, `1GB`.
pub fn huge_page_name(kib: u64) -> String {
    match kib {
        0..1024 => format!("{kib}KB"),
        1024..1_048_576 => format!("{}MB", kib / 1024),
        _ => format!("{}GB", kib / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn only(text: &str) -> Membership<'_> {
        let all: Vec<_> = memberships(text).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0]
    }

    #[test]
    fn v1_controllers_mounted_together_share_a_path() {
        let line = only("4:cpu,cpuacct:/kubepods/burstable/pod1/a:b\n");
        assert_eq!(line.legacy_controllers().collect::<Vec<_>>(), ["cpu", "cpuacct"]);
        assert_eq!(line.path, "/kubepods/burstable/pod1/a:b");
        assert!(!line.is_unified());
    }

    #[test]
    fn the_v2_line_has_no_controllers_and_a_named_hierarchy_none_of_ours() {
        let unified = only("0::/system.slice/docker.service\n");
        assert!(unified.is_unified());
        assert_eq!(unified.legacy_controllers().count(), 0);
        let named = only("9:name=systemd:/x\n");
        assert!(!named.is_unified());
        assert_eq!(named.legacy_controllers().count(), 0);
    }

    #[test]
    fn lines_of_another_form_are_passed_over() {
        assert_eq!(memberships("\n:\n::\n1:cpu\n1:cpu:relative\n").count(), 0);
    }

    #[test]
    fn a_removed_cgroup_is_told_from_a_living_one() {
        assert!(only("0::/docker/x (deleted)").is_deleted());
        assert!(!only("0::/docker/x").is_deleted());
    }

    #[test]
    fn what_a_container_made_below_its_cgroup_is_cut_off() {
        let cases = [
            (format!("/kubepods/pod1/{ID}/init"), format!("/kubepods/pod1/{ID}")),
            (format!("/kubepods.slice/docker-{ID}.scope/init.scope"), format!("/kubepods.slice/docker-{ID}.scope")),
            (format!("/docker/{ID}/kubepods/{ID}/a/b"), format!("/docker/{ID}/kubepods/{ID}")),
            ("/user.slice/session-1.scope".to_owned(), "/user.slice/session-1.scope".to_owned()),
            ("/".to_owned(), "/".to_owned()),
        ];
        for (path, wanted) in cases {
            let line = format!("0::{path}");
            assert_eq!(only(&line).container_path(), wanted);
            assert_eq!(only(&line).is_of_container(), path.contains(ID));
        }
    }

    #[test]
    fn hierarchies_are_found_among_other_mounts() {
        let all = mounts(concat!(
            "22 27 0:21 / /proc rw,relatime - proc proc rw\n",
            "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n",
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n",
            "35 31 0:32 /docker/a /sys/fs/cgroup/memory rw,nosuid master:2 shared:3 - cgroup cgroup rw,memory\n",
            "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n",
            "42 31 0:39 / /broken",
        ));
        assert_eq!(all.len(), 3);
        assert!(all[0].has_legacy("cpu") && all[0].has_legacy("cpuacct") && !all[0].has_legacy("memory"));
        assert!(all[1].has_legacy("memory") && !all[1].is_unified());
        assert!(all[2].is_unified() && !all[2].has_legacy("memory"));
        assert_eq!(all[0].directory("/kubepods/x"), Some("/sys/fs/cgroup/cpu,cpuacct/kubepods/x".into()));
    }

    #[test]
    fn a_mounted_part_of_a_hierarchy_shows_only_what_is_in_it() {
        let part = mount("35 31 0:32 /docker/a /cg rw - cgroup cgroup rw,memory").unwrap();
        assert_eq!(part.directory("/docker/a/kubepods/x"), Some("/cg/kubepods/x".into()));
        assert_eq!(part.directory("/docker/ab"), None);
        assert_eq!(part.directory("/docker"), None);
    }

    #[test]
    fn a_cgroup_outside_of_our_namespace_is_found_only_through_a_mount_that_reaches_it() {
        let inside = mount("35 31 0:32 / /cg rw - cgroup2 cgroup2 rw").unwrap();
        assert_eq!(inside.directory("/../kubepods/x"), None);
        assert_eq!(inside.directory("/a/../../etc"), None);
        let whole = mount("35 31 0:32 /../.. /host rw - cgroup2 cgroup2 rw").unwrap();
        assert_eq!(whole.directory("/../../kubepods/x"), Some("/host/kubepods/x".into()));
    }

    #[test]
    fn escaped_characters_of_mountinfo_are_read() {
        let odd = mount(r"1 2 0:3 /a\040b /c\134d\011e rw - cgroup2 cgroup2 rw").unwrap();
        assert_eq!(odd.directory("/a b/x"), Some("/c\\d\te/x".into()));
        assert_eq!(unescape(r"a\b\777\04"), r"a\b\777\04");
    }

    #[test]
    fn numbers_and_keys_are_read_whole() {
        assert_eq!(number("4096\n"), Some(4096));
        assert_eq!(number("max\n"), Some(u64::MAX));
        assert_eq!(number("18446744073709551615"), Some(u64::MAX));
        assert_eq!(number("18446744073709551616"), None);
        assert_eq!((number(""), number("-1"), number("1 2")), (None, None, None));
        let stat = "file 3\ninactive_file 2\nactive_file 1\nodd\nodd x\n";
        assert_eq!(value(stat, "file"), Some(3));
        assert_eq!(value(stat, "inactive_file"), Some(2));
        assert_eq!((value(stat, "odd"), value(stat, "anon")), (None, None));
    }

    #[test]
    fn huge_pages_are_named_as_in_cgroup_files() {
        let names = ["hugepages-64kB", "hugepages-2048kB", "hugepages-1048576kB", "hugepages-x", "other"];
        let named: Vec<_> = names.into_iter().filter_map(huge_page_kib).map(huge_page_name).collect();
        assert_eq!(named, ["64KB", "2MB", "1GB"]);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "(?s).{0,200}", path in "(?s).{0,60}") {
            for line in memberships(&text) {
                prop_assert!(line.path.starts_with(line.container_path()));
            }
            for mount in mounts(&text) {
                mount.directory(&path);
            }
            number(&text);
            value(&text, &path);
            unescape(&text);
        }

        #[test]
        fn nothing_outside_of_a_mount_is_ever_named(
            root in "/[a.]{0,3}(/[a.]{1,3}){0,2}",
            path in "(/[a.]{1,3}){1,5}",
        ) {
            let mount = mount(&format!("1 2 0:3 {root} /point rw - cgroup2 c rw")).unwrap();
            if let Some(found) = mount.directory(&path) {
                prop_assert!(found.starts_with("/point"));
                prop_assert!(found.components().all(|part| part != Component::ParentDir));
            }
        }
    }
}
