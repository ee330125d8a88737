//! What is measured, and on what. Pure.

use Operation::*;

/// An RPC of the CRI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    RunPodSandbox,
    CreateContainer,
    StartContainer,
    ExecSync,
    ListPodSandbox,
    ListContainers,
    ListContainerStats,
    ListPodSandboxStats,
    ListPodSandboxMetrics,
    ListImages,
    PodSandboxStatus,
    ContainerStatus,
    ImageStatus,
    Status,
    StopContainer,
    RemoveContainer,
    StopPodSandbox,
    RemovePodSandbox,
}

impl Operation {
    /// A pod's life.
    pub(crate) const LIFE: [Operation; 18] = [
        RunPodSandbox,
        CreateContainer,
        StartContainer,
        ExecSync,
        ListPodSandbox,
        ListContainers,
        ListContainerStats,
        ListPodSandboxStats,
        ListPodSandboxMetrics,
        ListImages,
        PodSandboxStatus,
        ContainerStatus,
        ImageStatus,
        Status,
        StopContainer,
        RemoveContainer,
        StopPodSandbox,
        RemovePodSandbox,
    ];

    /// How a container of a standing pod comes to be.
    pub(crate) const BIRTH: [Operation; 2] = [CreateContainer, StartContainer];

    /// What tells statistics; some adapters lack some of them.
    pub(crate) const STATS: [Operation; 3] = [ListContainerStats, ListPodSandboxStats, ListPodSandboxMetrics];

    /// Whether it changes nothing.
    pub(crate) fn reads(self) -> bool {
        match self {
            ListPodSandbox | ListContainers | ListImages => true,
            ListContainerStats | ListPodSandboxStats | ListPodSandboxMetrics => true,
            PodSandboxStatus | ContainerStatus | ImageStatus | Status => true,
            RunPodSandbox | CreateContainer | StartContainer | ExecSync => false,
            StopContainer | RemoveContainer | StopPodSandbox | RemovePodSandbox => false,
        }
    }

    /// How often it is done in a pod's life: reads are short, so that more of them are needed to tell them from noise.
    pub(crate) fn repeats(self) -> usize {
        if self.reads() { 10 } else { 1 }
    }
}

/// The pod that an operation is done to, by either way of calling.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pod {
    /// Tells it from the other pods of its contestant.
    pub(crate) number: usize,
    /// Id of its sandbox, once it runs.
    pub(crate) sandbox: String,
    /// Tells the container that is made next from the pod's others.
    pub(crate) part: usize,
    /// Id of its container, once there is one; of the last that was made.
    pub(crate) container: String,
}

impl Pod {
    pub(crate) fn new(number: usize) -> Pod {
        Pod { number, ..Pod::default() }
    }
}

/// Paths of a container that a kubelet has hidden; each is a mount, so that both ways of calling must ask for the same.
pub(crate) fn masked_paths() -> Vec<String> {
    let in_proc = "asound acpi kcore keys latency_stats timer_list timer_stats sched_debug scsi";
    let proc = in_proc.split(' ').map(|name| format!("/proc/{name}"));
    proc.chain(["/sys/firmware".to_owned()]).collect()
}

/// Paths of a container that a kubelet has made read-only.
pub(crate) fn readonly_paths() -> Vec<String> {
    "bus fs irq sys sysrq-trigger".split(' ').map(|name| format!("/proc/{name}")).collect()
}
