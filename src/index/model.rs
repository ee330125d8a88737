//! What we know of one sandbox and one container: the shapes that List and Status answer from.
//! Plain values, replaced whole in the index; nothing here asks the engine.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::shelf::Shelves;
use super::{OwnText, Packed, Texts};
use crate::cri;
use crate::id::{ContainerId, ImageId, SandboxId};

/// A pod sandbox, as its pause container tells.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The pause container.
    pub id: SandboxId,
    /// Docker's name of it, without the leading `/` (`k8s_POD_…`).
    pub docker_name: String,
    /// From the name.
    pub metadata: cri::PodSandboxMetadata,
    /// As the kubelet gave them.
    pub labels: Texts,
    /// As the kubelet gave them.
    pub annotations: Texts,
    /// Nanoseconds since the epoch.
    pub created_at_ns: i64,
    /// The pause container runs and RunPodSandbox has come to its end.
    pub ready: bool,
    /// Host pid of the pause process, 0 when it doesn't run.
    pub pid: i32,
    /// Nanoseconds since the epoch, 0 when never.
    pub started_at_ns: i64,
    /// As RunPodSandbox named it; empty for the default.
    pub runtime_handler: String,
    /// Docker runtime that its containers must use too; empty for the engine's default.
    pub docker_runtime: String,
    /// Modes of the network, pid and ipc namespaces.
    pub namespaces: cri::NamespaceOption,
    /// Its network is made by a CNI plugin, not by the Engine or the host.
    pub needs_cni: bool,
    /// Pod addresses, the first one is the pod's IP; empty with host network.
    pub ips: Vec<String>,
    /// As the engine was given it.
    pub cgroup_parent: String,
    /// Ports of the node that the Engine leads to it.
    pub host_ports: Vec<HostPort>,
    /// The Engine made no network sandbox for it: resolv.conf, hosts and hostname of its containers are ours.
    pub bare: bool,
    /// As its containers have it.
    pub hostname: String,
    /// SELinux label of its files; empty where SELinux is off.
    pub mount_label: String,
    /// The Engine's resolv.conf of the pause container; empty when it made none.
    pub resolv_conf_path: String,
    /// What resolv.conf is to hold; None for what the node's does.
    pub resolv_conf: Option<String>,
    /// What it may use in all, as RunPodSandbox was told; None when that was told nothing.
    pub resources: Option<Box<PodResources>>,
    /// Tells an equal request from a different one; empty when another adapter made it.
    pub fingerprint: String,
}

impl Sandbox {
    /// Its pause process has ended.
    pub fn has_ended(&self) -> bool {
        !self.ready && self.pid == 0
    }

    /// Takes what others have too from there; its containers have its id.
    pub(super) fn share(&mut self, shelves: &mut Shelves) {
        shelves.words.share(self.id.as_mut());
        for texts in [&mut self.labels, &mut self.annotations] {
            texts.share(shelves);
        }
    }
}

/// What a pod may use in all. Nobody here enforces it: the pod's own cgroup is the kubelet's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodResources {
    /// Of the sandbox itself, beside its containers.
    pub overhead: Option<cri::LinuxContainerResources>,
    /// Of all containers together.
    pub resources: Option<cri::LinuxContainerResources>,
}

impl PodResources {
    /// What was told; None for nothing.
    pub fn told(
        overhead: Option<&cri::LinuxContainerResources>,
        resources: Option<&cri::LinuxContainerResources>,
    ) -> Option<PodResources> {
        let told = PodResources { overhead: overhead.cloned(), resources: resources.cloned() };
        (told != PodResources::default()).then_some(told)
    }
}

/// A port of the node that leads to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The node's address it is for; empty for all.
    pub ip: String,
    /// On the node.
    pub port: u16,
}

impl HostPort {
    /// Whether two of them can't be held at the same time.
    pub fn overlaps(&self, other: &HostPort) -> bool {
        let HostPort { protocol, ip, port } = self;
        *protocol == other.protocol && *port == other.port && addresses_overlap(ip, &other.ip)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostPort { protocol, ip, port } = self;
        match ip.parse() {
            Ok(ip) => write!(f, "{}/{protocol}", SocketAddr::new(ip, *port)),
            Err(_) => write!(f, "{port}/{protocol}"),
        }
    }
}

/// No address is all of both families, an unspecified one all of its own.
fn addresses_overlap(one: &str, other: &str) -> bool {
    match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) if one.is_ipv4() == other.is_ipv4() => {
            one == other || one.is_unspecified() || other.is_unspecified()
        }
        (Ok(_), Ok(_)) => false,
        _ => true,
    }
}

/// Where a container stands, in CRI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Never started.
    Created,
    /// Has a process (also when paused).
    Running,
    /// Ended, and its log is whole.
    Exited,
    /// The engine says something we don't know (being removed, dead).
    Unknown,
}

/// An application container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Docker's id.
    pub id: ContainerId,
    /// The sandbox it joined.
    pub sandbox_id: SandboxId,
    /// Docker's name, without the leading `/`, but for [`name_end`].
    pub docker_name: OwnText,
    /// From the name.
    pub name: Arc<str>,
    /// From the name.
    pub attempt: u32,
    /// As the kubelet gave them.
    pub labels: Texts,
    /// As the kubelet gave them.
    pub annotations: Texts,
    /// `image.image` and `user_specified_image` as to be reported.
    pub image: Packed<cri::ImageSpec>,
    /// The image's first digest at create, or its id.
    pub image_ref: Arc<str>,
    /// Id of the image it was made from.
    pub image_id: ImageId,
    /// Where it stands.
    pub state: State,
    /// Nanoseconds since the epoch.
    pub created_at_ns: i64,
    /// Nanoseconds since the epoch, 0 when never.
    pub started_at_ns: i64,
    /// Nanoseconds since the epoch, 0 when never.
    pub finished_at_ns: i64,
    /// 0 while it runs.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun`; empty while it runs.
    pub reason: &'static str,
    /// The engine's words on why it couldn't run.
    pub message: String,
    /// Host pid, 0 when not running.
    pub pid: i32,
    /// Bind and image mounts.
    pub mounts: Box<[Packed<cri::Mount>]>,
    /// Where the CRI log is, absolute, but for [`log_end`]; empty when none was asked for.
    pub log_path: OwnText,
    /// Docker's json-file, which the log pump reads, but for its id; empty until started.
    pub spool_path: OwnText,
    /// Limits in force.
    pub resources: Packed<cri::LinuxContainerResources>,
    /// What Docker's API can't say and we write into the cgroup after start: file name to value.
    pub cgroup_wishes: Texts,
    /// The score that an update asked for: the Engine knows the create's only.
    pub oom_score_wish: Option<i64>,
    /// Whose process it is, as the kernel told at its start; None before, and when nobody looked in time.
    pub user: Option<Packed<cri::LinuxContainerUser>>,
    /// Effective stop signal.
    pub stop_signal: cri::Signal,
    /// Tells an equal request from a different one; empty when another adapter made it, and when it has ended.
    pub fingerprint: String,
}

impl Container {
    /// Docker's name.
    pub fn docker_name(&self) -> String {
        self.docker_name.of(&name_end(self.attempt))
    }

    /// Name and number, as a reply has them.
    pub fn metadata(&self) -> cri::ContainerMetadata {
        cri::ContainerMetadata { name: self.name.to_string(), attempt: self.attempt }
    }

    /// Where its CRI log is; empty when none was asked for.
    pub fn log_path(&self) -> String {
        self.log_path.of(&log_end(self.attempt))
    }

    /// Where its spool is; empty until started.
    pub fn spool_path(&self) -> String {
        self.spool_path.of(self.id.as_str())
    }

    /// Takes over from an earlier view what the Engine can't tell: its user, and limits that were written beside it since the
    /// create.
    pub fn keep_beside_docker(&mut self, known: &Container) {
        self.user.clone_from(&known.user);
        self.oom_score_wish = known.oom_score_wish;
        self.cgroup_wishes.clone_from(&known.cgroup_wishes);
        let cri::LinuxContainerResources { unified, hugepage_limits, .. } = known.resources.open();
        self.resources.edit(|resources| {
            (resources.unified, resources.hugepage_limits) = (unified, hugepage_limits);
            resources.oom_score_adj = known.oom_score_wish.unwrap_or(resources.oom_score_adj);
        });
    }

    /// Takes what others have too from there.
    pub(super) fn share(&mut self, shelves: &mut Shelves) {
        for texts in [&mut self.labels, &mut self.annotations, &mut self.cgroup_wishes] {
            texts.share(shelves);
        }
        let Shelves { words, messages, .. } = shelves;
        for word in [self.sandbox_id.as_mut(), self.image_id.as_mut(), &mut self.image_ref, &mut self.name] {
            words.share(word);
        }
        for text in [&mut self.docker_name, &mut self.log_path, &mut self.spool_path] {
            text.share(words);
        }
        self.image.share(messages);
        self.resources.share(messages);
        for mount in &mut self.mounts {
            mount.share(messages);
        }
        if let Some(user) = &mut self.user {
            user.share(messages);
        }
    }
}

/// How Docker's name of a container ends, but for what another adapter may have added.
pub fn name_end(attempt: u32) -> String {
    format!("_{attempt}")
}

/// How the path of its log ends, as the kubelet makes it.
pub fn log_end(attempt: u32) -> String {
    format!("/{attempt}.log")
}

/// How a container's process ended, as the Engine's event or its record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// Nanoseconds since the epoch.
    pub at_ns: i64,
}

/// What can happen to a sandbox or a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It is there.
    Created,
    /// It runs.
    Started,
    /// It runs no more; a container's log is whole.
    Stopped,
    /// It is gone.
    Deleted,
}

/// Something that has happened, and the pod as it was then.
#[derive(Clone, Debug)]
pub struct Event {
    /// Of the container, or of the sandbox.
    pub id: String,
    /// What happened to it.
    pub what: Happening,
    /// Nanoseconds since the epoch; no two events have the same.
    pub at_ns: i64,
    /// The sandbox it is in, or is itself: as it was last when it is gone. None for a container that has lost its sandbox before.
    pub sandbox: Option<Arc<Sandbox>>,
    /// All containers of the sandbox.
    pub containers: Vec<Arc<Container>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: &str, ip: &str, port: u16) -> HostPort {
        HostPort { protocol: protocol.into(), ip: ip.into(), port }
    }

    #[test]
    fn a_port_of_all_addresses_takes_each_of_them() {
        let taken = |ip: &str, other: &str| port("tcp", ip, 80).overlaps(&port("tcp", other, 80));
        for (one, other) in [("", ""), ("", "10.0.0.1"), ("", "fd00::1"), ("0.0.0.0", "10.0.0.1"), ("::", "fd00::1")] {
            assert!(taken(one, other) && taken(other, one), "{one:?} {other:?}");
        }
        for (one, other) in [("10.0.0.1", "10.0.0.2"), ("0.0.0.0", "fd00::1"), ("::", "10.0.0.1")] {
            assert!(!taken(one, other) && !taken(other, one), "{one:?} {other:?}");
        }
    }

    #[test]
    fn protocols_and_numbers_are_apart() {
        assert!(!port("tcp", "", 53).overlaps(&port("udp", "", 53)));
        assert!(!port("tcp", "", 53).overlaps(&port("tcp", "", 54)));
        assert_eq!(port("tcp", "fd00::1", 53).to_string(), "[fd00::1]:53/tcp");
        assert_eq!(port("udp", "", 53).to_string(), "53/udp");
    }
}
