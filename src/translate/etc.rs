//! The files in `/etc` of a pod in whose network the Engine has no part: what they hold, and how containers mount them. Pure.

use bollard::models::Mount;

use super::mount::{bind, parts};
use super::node::Node;
use crate::cri;
use crate::error::Result;
use crate::etc::{Content, FILES};
use crate::index::model::Sandbox;

/// As the Engine and other runtimes begin the file.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n\
                         ::1\tlocalhost ip6-localhost ip6-loopback\n\
                         fe00::0\tip6-localnet\n\
                         ff00::0\tip6-mcastprefix\n\
                         ff02::1\tip6-allnodes\n\
                         ff02::2\tip6-allrouters\n";

/// What the files of a sandbox hold.
pub fn content(sandbox: &Sandbox) -> Content {
    let own: String = sandbox.ips.iter().map(|ip| format!("{ip}\t{}\n", sandbox.hostname)).collect();
    Content {
        resolv_conf: sandbox.resolv_conf.clone(),
        hosts: format!("{LOCALHOST}{own}"),
        hostname: format!("{}\n", sandbox.hostname),
        label: sandbox.mount_label.clone(),
    }
}

/// Mounts of the files in a directory, where the container has no mount of its own; they can be written if its root can.
pub(super) fn mounts(dir: &str, own: &[cri::Mount], readonly: bool, node: &Node) -> Result<Vec<Mount>> {
    let wanted = FILES.iter().filter(|name| !own.iter().any(|mount| is_file(&mount.container_path, name)));
    let bound = wanted.map(|name| {
        let container_path = format!("/etc/{name}");
        let mount = cri::Mount { container_path, readonly, ..cri::Mount::default() };
        bind("", &format!("{dir}/{name}"), &mount, cri::MountPropagation::PropagationPrivate, node)
    });
    bound.collect()
}

/// Whether a mount that an inspect shows is one of these, of a sandbox.
pub(super) fn is_ours(source: &str, destination: &str, sandbox: &str) -> bool {
    FILES.iter().any(|name| is_file(destination, name) && source.ends_with(&format!("/{sandbox}/{name}")))
}

/// Whether a path is `/etc/name`, however it is written.
fn is_file(path: &str, name: &str) -> bool {
    parts(path).eq(["etc", name])
}

#[cfg(test)]
mod tests {
    use super::super::node::tests::node;
    use super::*;

    #[test]
    fn a_mount_of_the_pods_own_comes_first() {
        let own = |path: &str| cri::Mount { container_path: path.into(), ..cri::Mount::default() };
        let targets = |own: &[cri::Mount]| -> Vec<String> {
            let made = mounts("/state/5a4d", own, false, &node()).unwrap();
            made.into_iter().filter_map(|mount| mount.target).collect()
        };
        assert_eq!(targets(&[]), ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"]);
        assert_eq!(targets(&[own("/etc/hosts"), own("//etc/./hostname/")]), ["/etc/resolv.conf"]);
        assert_eq!(targets(&[own("/etc"), own("/etc/hosts.d"), own("/hosts")]).len(), 3);
    }

    #[test]
    fn files_are_read_only_with_a_read_only_root() {
        for readonly in [true, false] {
            let made = mounts("/state/5a4d", &[], readonly, &node()).unwrap();
            assert!(made.iter().all(|mount| mount.read_only == Some(readonly)));
            assert_eq!(made[1].source.as_deref(), Some("/state/5a4d/hosts"));
        }
    }

    #[test]
    fn our_mounts_are_told_from_the_pods() {
        assert!(is_ours("/state/5a4d/hosts", "/etc/hosts", "5a4d"));
        assert!(!is_ours("/var/lib/kubelet/pods/1/etc-hosts", "/etc/hosts", "5a4d"));
        assert!(!is_ours("/state/5a4d/hosts", "/data/hosts", "5a4d"));
        assert!(!is_ours("/state/0000/hosts", "/etc/hosts", "5a4d"));
    }
}
