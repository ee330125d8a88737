//! The kernel, as `/proc` and `/sys` tell of it, and the processes that run on it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::Root;
use crate::check::facts::{Cgroups, Node};
use crate::process::running;

/// Where programs are that filter packets.
const SBIN: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

pub(super) fn look(root: Root<'_>) -> Node {
    let yes = |path: &str| root.text(path).is_some_and(|text| text == "Y");
    let filters = SBIN.iter().flat_map(|dir| ["iptables", "nft"].map(|program| root.at(dir).join(program)));
    Node {
        kernel: root.text("/proc/sys/kernel/osrelease").unwrap_or_default(),
        apparmor: yes("/sys/module/apparmor/parameters/enabled"),
        cgroups: cgroups(root),
        ip_forward: root.switch("/proc/sys/net/ipv4/ip_forward"),
        bridge_calls_iptables: root.switch("/proc/sys/net/bridge/bridge-nf-call-iptables"),
        has_packet_filter: filters.into_iter().any(|path| path.exists()),
        swap: swap(&root.text("/proc/swaps").unwrap_or_default()),
        clock_was_set: root.at("/run/systemd/timesync/synchronized").exists(),
        processes: running(&root.at("/proc")),
        inotify: (inotify_instances(root), inotify_limit(root)),
    }
}

fn cgroups(root: Root<'_>) -> Option<Cgroups> {
    if let Some(controllers) = root.text("/sys/fs/cgroup/cgroup.controllers") {
        let controllers = controllers.split_whitespace().map(str::to_owned).collect();
        return Some(Cgroups { unified: true, controllers });
    }
    // version 1: a directory for each, or for several of them
    let mounted = fs::read_dir(root.at("/sys/fs/cgroup")).ok()?.flatten();
    let names = mounted.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let controllers: BTreeSet<_> =
        names.flat_map(|name| name.split(',').map(str::to_owned).collect::<Vec<_>>()).collect();
    (!controllers.is_empty()).then_some(Cgroups { unified: false, controllers })
}

/// `/proc/swaps`: a heading, then a line for each.
fn swap(text: &str) -> Vec<String> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Descriptors of processes of our own user, whose limit they share.
fn inotify_instances(root: Root<'_>) -> usize {
    let user = rustix::process::geteuid().as_raw();
    let dirs = fs::read_dir(root.at("/proc")).into_iter().flatten().flatten();
    let ours = dirs.filter(|dir| dir.metadata().is_ok_and(|metadata| metadata.uid() == user));
    let files = ours.flat_map(|dir| fs::read_dir(dir.path().join("fd")).into_iter().flatten().flatten());
    files.filter(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == "anon_inode:inotify")).count()
}

fn inotify_limit(root: Root<'_>) -> Option<usize> {
    root.text("/proc/sys/fs/inotify/max_user_instances")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_what_stands_below_the_heading() {
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/swap.img   file\t\t4194300\t\t0\t\t-2\n";
        assert_eq!(swap(text), ["/swap.img"]);
        assert_eq!(swap("Filename Type\n"), [""; 0]);
        assert_eq!(swap(""), [""; 0]);
    }
}
