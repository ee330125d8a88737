//! What we know of one sandbox and one container: the shapes that List and Status answer from.
//! Plain values, replaced whole in the index; nothing here asks the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

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
    pub labels: BTreeMap<String, String>,
    /// As the kubelet gave them.
    pub annotations: BTreeMap<String, String>,
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
    /// The Engine's resolv.conf of the pause container; empty when it made none.
    pub resolv_conf_path: String,
    /// What that file is to hold; empty to leave it to the Engine.
    pub resolv_conf: String,
    /// Tells an equal request from a different one; empty when another adapter made it.
    pub fingerprint: String,
}

impl Sandbox {
    /// Its pause process has ended.
    pub fn has_ended(&self) -> bool {
        !self.ready && self.pid == 0
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
    /// Docker's name, without the leading `/`.
    pub docker_name: String,
    /// From the name.
    pub metadata: cri::ContainerMetadata,
    /// As the kubelet gave them.
    pub labels: BTreeMap<String, String>,
    /// As the kubelet gave them.
    pub annotations: BTreeMap<String, String>,
    /// `image.image` and `user_specified_image` as to be reported.
    pub image: cri::ImageSpec,
    /// The image's first digest at create, or its id.
    pub image_ref: String,
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
    pub reason: String,
    /// The engine's words on why it couldn't run.
    pub message: String,
    /// Host pid, 0 when not running.
    pub pid: i32,
    /// Bind and image mounts.
    pub mounts: Vec<cri::Mount>,
    /// Where the CRI log is, absolute; empty when none was asked for.
    pub log_path: String,
    /// Docker's json-file, which the log pump reads; empty until started.
    pub spool_path: String,
    /// Limits in force.
    pub resources: cri::LinuxContainerResources,
    /// What Docker's API can't say and we write into the cgroup after start: file name to value.
    pub cgroup_wishes: BTreeMap<String, String>,
    /// Effective stop signal.
    pub stop_signal: cri::Signal,
    /// Tells an equal request from a different one; empty when another adapter made it.
    pub fingerprint: String,
}

impl Container {
    /// Takes over from an earlier view what the Engine can't tell: limits that were written beside it since the create.
    pub fn keep_beside_docker(&mut self, known: &Container) {
        self.cgroup_wishes.clone_from(&known.cgroup_wishes);
        self.resources.unified.clone_from(&known.resources.unified);
        self.resources.hugepage_limits.clone_from(&known.resources.hugepage_limits);
        self.resources.oom_score_adj = known.resources.oom_score_adj;
    }
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
