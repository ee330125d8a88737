//! `--run-pod`: does a running dockershim do its work? Asked from outside, through its CRI socket, as a kubelet would.
//!
//! ```text
//! Version ─▶ Status ─▶ PullImage ─▶ RunPodSandbox ─▶ … ─▶ RemovePodSandbox
//!                                        └─ a step failed, or Ctrl-C: everything made is removed ─┘
//! ```
//!
//! It needs no registry: the pod and its container run the built-in image. It must not touch any pod but its own.

mod kubelet;
mod log_line;
mod report;

use std::io::{self, Write};
use std::path::Path;

use super::finding::{Finding, Name};
use kubelet::Kubelet;
use report::{Report, Stop};

/// Where its steps stand in the report.
pub(super) const GROUP: &str = "pod";
/// What the steps come to.
pub(super) const CHECK: Name = Name { id: "POD-01", title: "a pod runs" };

/// Runs a pod and a container on the daemon that serves `socket`, tells each step in `out`, and removes both again.
/// An error is one of writing to `out`.
pub(super) async fn run(socket: &Path, out: &mut dyn Write) -> io::Result<Finding> {
    let mut report = Report::new(out);
    let mut kubelet = match report.step("Connect", NOT_RUNNING, Kubelet::connect(socket)).await {
        Ok(kubelet) => kubelet,
        Err(stop) => return report.end(stop),
    };
    let walked = walk(&mut report, &mut kubelet).await;
    let cleaned = kubelet.clean_up().await;
    let stop = match walked {
        Ok(()) if cleaned == Ok(0) => return report.passed(),
        Ok(()) => Stop::Failed,
        Err(stop) => stop,
    };
    report.cleaned(cleaned)?;
    report.end(stop)
}

async fn walk(report: &mut Report<'_>, kubelet: &mut Kubelet) -> Result<(), Stop> {
    report.step("Version", SEE_LOG, kubelet.version()).await?;
    report.step("Status", NOT_READY, kubelet.wait_until_ready()).await?;
    let image = report.step("PullImage", NO_IMAGE, kubelet.pull_image()).await?;
    let sandbox = report.step("RunPodSandbox", NO_POD, kubelet.run_pod_sandbox()).await?;
    report.step("PodSandboxStatus", NO_ADDRESS, kubelet.pod_sandbox_status(&sandbox)).await?;
    report.step("ListPodSandbox", SEE_LOG, kubelet.list_pod_sandbox(&sandbox)).await?;
    let container = report.step("CreateContainer", SEE_LOG, kubelet.create_container(&sandbox, &image)).await?;
    report.step("StartContainer", NO_START, kubelet.start_container(&container)).await?;
    report.step("ContainerStatus", NO_START, kubelet.wait_until_running(&container)).await?;
    report.step("read the log", NO_LOG, kubelet.read_log()).await?;
    report.step("ExecSync", NO_EXEC, kubelet.exec_sync_says(&container)).await?;
    report.step("ExecSync exit 3", NO_EXEC, kubelet.exec_sync_exits(&container)).await?;
    report.step("ListContainers", SEE_LOG, kubelet.list_containers(&sandbox, &container)).await?;
    report.step("ContainerStats", NO_STATS, kubelet.container_stats(&container)).await?;
    report.step("StopContainer", SEE_LOG, kubelet.stop_container(&container)).await?;
    report.step("RemoveContainer", SEE_LOG, kubelet.remove_container(&container)).await?;
    report.step("StopPodSandbox", NO_TEAR_DOWN, kubelet.stop_pod_sandbox(&sandbox)).await?;
    report.step("RemovePodSandbox", NO_TEAR_DOWN, kubelet.remove_pod_sandbox(&sandbox)).await
}

// What to do next, by what has failed.
const NOT_RUNNING: &str = "is dockershim running? start it, or name its socket with --container-runtime-endpoint";
const SEE_LOG: &str = "see dockershim's own log; with --log-level debug it has a line for each RPC";
const NOT_READY: &str = "RuntimeReady: is dockerd running (docker version)? NetworkReady: install a CNI plugin and its \
                         configuration, or start dockershim with --network-plugin bridge";
const NO_IMAGE: &str = "is there room on dockerd's disk (docker system df)? can it load images (docker load)?";
const NO_POD: &str = "can dockerd start a container at all (docker run)? then see dockershim's log, and dockerd's";
const NO_ADDRESS: &str =
    "the pod network gave no address: look at the CNI configuration, or at docker network inspect bridge";
const NO_START: &str = "see dockerd's own log (journalctl -u docker) for what the OCI runtime said";
const NO_LOG: &str = "do dockershim and this command see the same /tmp? the container's own lines: docker logs";
const NO_EXEC: &str = "can dockerd exec at all (docker exec)? then see dockershim's log, and dockerd's";
const NO_STATS: &str = "are cgroups mounted where dockershim runs (ls /sys/fs/cgroup)?";
const NO_TEAR_DOWN: &str = "see dockershim's log; a CNI plugin that fails to delete is named there";
