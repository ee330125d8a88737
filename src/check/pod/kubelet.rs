//! The kubelet's part: each step is one RPC (or one wait), asked with what a kubelet would send, its reply looked at as closely.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tonic::transport::Channel;

use super::super::finding::count;
use super::log_line;
use super::report::Outcome;
use crate::cri;
use crate::cri::image_service_client::ImageServiceClient;
use crate::cri::runtime_service_client::RuntimeServiceClient;
use crate::pause;
use crate::server::client::{connect, reply};

/// Limit of one RPC.
const RPC_LIMIT: Duration = Duration::from_secs(60);
/// Limit of what is waited for: conditions, the container's start, its log line.
const WAIT: Duration = Duration::from_secs(5);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

const NAMESPACE: &str = "dockershim-check";
const CONTAINER: &str = "hello";
const GREETING: &str = "hello from dockershim";
const LOG_PATH: &str = "hello_0.log";
/// What the pod is found by.
const UID_LABEL: &str = "io.kubernetes.pod.uid";

/// A kubelet with one pod.
pub(super) struct Kubelet {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    /// The pod, as its sandbox and its containers are asked for.
    pod: cri::PodSandboxConfig,
    uid: String,
    log_dir: PathBuf,
    /// Whether there may be something to remove.
    asked_for_pod: bool,
}

impl Kubelet {
    /// Connects, and makes the pod's log directory as kubelets do.
    pub(super) async fn connect(socket: &Path) -> Outcome<Self> {
        let channel = connect(socket, RPC_LIMIT).await.map_err(|cause| format!("{}: {cause}", socket.display()))?;
        let uid = format!("{}-{}", std::process::id(), crate::service::now_ns());
        let log_dir = std::env::temp_dir().join(format!("{NAMESPACE}-{uid}"));
        let made = DirBuilder::new().mode(0o700).create(&log_dir);
        made.map_err(|error| format!("make {}: {error}", log_dir.display()))?;
        let kubelet = Kubelet {
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel),
            pod: pod(&uid, &log_dir),
            uid,
            log_dir,
            asked_for_pod: false,
        };
        Ok((kubelet, socket.display().to_string()))
    }

    pub(super) async fn version(&mut self) -> Outcome<()> {
        let request = cri::VersionRequest { version: "v1".to_owned() };
        let version = reply(self.runtime.version(request)).await?;
        let cri::VersionResponse { version: _, runtime_name, runtime_version, runtime_api_version } = version;
        Ok(((), format!("{runtime_name} {runtime_version}, CRI {runtime_api_version}")))
    }

    pub(super) async fn wait_until_ready(&mut self) -> Outcome<()> {
        let since = Instant::now();
        loop {
            let response = reply(self.runtime.status(cri::StatusRequest { verbose: false })).await?;
            let conditions = response.status.unwrap_or_default().conditions;
            let bad: Vec<String> = conditions.iter().filter(|condition| !condition.status).map(told).collect();
            if bad.is_empty() {
                let names: Vec<&str> = conditions.iter().map(|condition| condition.r#type.as_str()).collect();
                return Ok(((), names.join(", ")));
            }
            if since.elapsed() > WAIT {
                return Err(bad.join("; "));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The id of the built-in image.
    pub(super) async fn pull_image(&mut self) -> Outcome<String> {
        let request = cri::PullImageRequest {
            image: Some(image(pause::reference())),
            auth: None,
            sandbox_config: Some(self.pod.clone()),
        };
        let image_ref = reply(self.images.pull_image(request)).await?.image_ref;
        Ok((image_ref, format!("{}, built in", pause::reference())))
    }

    pub(super) async fn run_pod_sandbox(&mut self) -> Outcome<String> {
        self.asked_for_pod = true;
        let request = cri::RunPodSandboxRequest { config: Some(self.pod.clone()), runtime_handler: String::new() };
        let id = reply(self.runtime.run_pod_sandbox(request)).await?.pod_sandbox_id;
        let detail = short(&id);
        Ok((id, detail))
    }

    pub(super) async fn pod_sandbox_status(&mut self, sandbox: &str) -> Outcome<()> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: sandbox.to_owned(), verbose: false };
        let status = reply(self.runtime.pod_sandbox_status(request)).await?.status.unwrap_or_default();
        let (state, ip) = (status.state(), status.network.unwrap_or_default().ip);
        if state != cri::PodSandboxState::SandboxReady {
            return Err("the sandbox is not ready".to_owned());
        }
        if ip.is_empty() { Err("the pod has no IP address".to_owned()) } else { Ok(((), ip)) }
    }

    pub(super) async fn list_pod_sandbox(&mut self, sandbox: &str) -> Outcome<()> {
        let all = reply(self.runtime.list_pod_sandbox(cri::ListPodSandboxRequest { filter: None })).await?.items;
        let ready = all.iter().any(|item| item.id == sandbox && item.state() == cri::PodSandboxState::SandboxReady);
        if ready { Ok(((), count(all.len(), "pod"))) } else { Err("the pod is not listed as ready".to_owned()) }
    }

    pub(super) async fn create_container(&mut self, sandbox: &str, image_ref: &str) -> Outcome<String> {
        let config = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: CONTAINER.to_owned(), attempt: 0 }),
            image: Some(image(image_ref)),
            command: words(&[pause::PROGRAM, "wait", GREETING]),
            log_path: LOG_PATH.to_owned(),
            labels: self.pod.labels.clone(),
            linux: Some(cri::LinuxContainerConfig {
                resources: None,
                security_context: Some(cri::LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces()),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        };
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(self.pod.clone()),
        };
        let id = reply(self.runtime.create_container(request)).await?.container_id;
        let detail = short(&id);
        Ok((id, detail))
    }

    pub(super) async fn start_container(&mut self, container: &str) -> Outcome<()> {
        let request = cri::StartContainerRequest { container_id: container.to_owned() };
        reply(self.runtime.start_container(request)).await?;
        Ok(((), String::new()))
    }

    pub(super) async fn wait_until_running(&mut self, container: &str) -> Outcome<()> {
        let since = Instant::now();
        loop {
            let request = cri::ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
            let status = reply(self.runtime.container_status(request)).await?.status.unwrap_or_default();
            match status.state() {
                cri::ContainerState::ContainerRunning => return Ok(((), "running".to_owned())),
                cri::ContainerState::ContainerExited => {
                    let cri::ContainerStatus { exit_code, reason, message, .. } = status;
                    return Err(format!("the container has ended with code {exit_code}: {reason} {message}"));
                }
                _ if since.elapsed() > WAIT => return Err(format!("the container is not running after {WAIT:?}")),
                _ => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Waits for the container's only line in its log file.
    pub(super) async fn read_log(&self) -> Outcome<()> {
        let path = self.log_dir.join(LOG_PATH);
        let since = Instant::now();
        loop {
            let read = tokio::fs::read_to_string(&path).await;
            let seen = match read {
                Ok(content) => log_line::expect(&content, GREETING),
                Err(error) => Err(format!("read {}: {error}", path.display())),
            };
            match seen {
                Ok(()) => return Ok(((), format!("{GREETING:?}"))),
                Err(cause) if since.elapsed() > WAIT => return Err(cause),
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    pub(super) async fn exec_sync_says(&mut self, container: &str) -> Outcome<()> {
        let said = self.exec_sync(container, &[pause::PROGRAM, "say", "exec works"]).await?;
        let stdout = String::from_utf8_lossy(&said.stdout);
        if said.exit_code == 0 && stdout.trim_end() == "exec works" {
            return Ok(((), format!("{:?}", stdout.trim_end())));
        }
        let stderr = String::from_utf8_lossy(&said.stderr);
        Err(format!("exit code {}, standard output {stdout:?}, standard error {stderr:?}", said.exit_code))
    }

    pub(super) async fn exec_sync_exits(&mut self, container: &str) -> Outcome<()> {
        match self.exec_sync(container, &[pause::PROGRAM, "exit", "3"]).await?.exit_code {
            3 => Ok(((), "exit code 3".to_owned())),
            other => Err(format!("exit code {other} instead of 3")),
        }
    }

    async fn exec_sync(&mut self, container: &str, command: &[&str]) -> Result<cri::ExecSyncResponse, String> {
        let request = cri::ExecSyncRequest { container_id: container.to_owned(), cmd: words(command), timeout: 10 };
        reply(self.runtime.exec_sync(request)).await
    }

    pub(super) async fn list_containers(&mut self, sandbox: &str, container: &str) -> Outcome<()> {
        let filter = cri::ContainerFilter { pod_sandbox_id: sandbox.to_owned(), ..Default::default() };
        let request = cri::ListContainersRequest { filter: Some(filter) };
        let listed = reply(self.runtime.list_containers(request)).await?.containers;
        match &listed[..] {
            [only] if only.id == container && only.state() == cri::ContainerState::ContainerRunning => {
                Ok(((), count(1, "container of the pod")))
            }
            _ => Err(format!("{} listed instead of the running one", count(listed.len(), "container"))),
        }
    }

    pub(super) async fn container_stats(&mut self, container: &str) -> Outcome<()> {
        let request = cri::ContainerStatsRequest { container_id: container.to_owned() };
        let stats = reply(self.runtime.container_stats(request)).await?.stats.unwrap_or_default();
        let cpu = stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds).ok_or("no CPU time is told")?;
        let memory = stats.memory.and_then(|memory| memory.working_set_bytes).ok_or("no working set is told")?;
        Ok(((), format!("{} KiB of memory, {} ms of CPU", memory.value / 1024, cpu.value / 1_000_000)))
    }

    pub(super) async fn stop_container(&mut self, container: &str) -> Outcome<()> {
        let request = cri::StopContainerRequest { container_id: container.to_owned(), timeout: 5 };
        reply(self.runtime.stop_container(request)).await?;
        Ok(((), String::new()))
    }

    pub(super) async fn remove_container(&mut self, container: &str) -> Outcome<()> {
        let request = cri::RemoveContainerRequest { container_id: container.to_owned() };
        reply(self.runtime.remove_container(request)).await?;
        Ok(((), String::new()))
    }

    pub(super) async fn stop_pod_sandbox(&mut self, sandbox: &str) -> Outcome<()> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: sandbox.to_owned() };
        reply(self.runtime.stop_pod_sandbox(request)).await?;
        Ok(((), String::new()))
    }

    pub(super) async fn remove_pod_sandbox(&mut self, sandbox: &str) -> Outcome<()> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: sandbox.to_owned() };
        reply(self.runtime.remove_pod_sandbox(request)).await?;
        Ok(((), String::new()))
    }

    /// Removes the log directory and what is left of the pod; how many sandboxes were left.
    pub(super) async fn clean_up(&mut self) -> Result<usize, String> {
        let removed = tokio::fs::remove_dir_all(&self.log_dir).await;
        let left = if self.asked_for_pod { self.left().await? } else { Vec::new() };
        for sandbox in &left {
            self.stop_pod_sandbox(&sandbox.id).await?;
            self.remove_pod_sandbox(&sandbox.id).await?;
        }
        removed.map_err(|error| format!("remove {}: {error}", self.log_dir.display()))?;
        Ok(left.len())
    }

    /// Our sandboxes, by the pod's uid: also one whose id we were never told.
    async fn left(&mut self) -> Result<Vec<cri::PodSandbox>, String> {
        let label_selector = BTreeMap::from([(UID_LABEL.to_owned(), self.uid.clone())]);
        let filter = Some(cri::PodSandboxFilter { label_selector, ..Default::default() });
        Ok(reply(self.runtime.list_pod_sandbox(cri::ListPodSandboxRequest { filter })).await?.items)
    }
}

fn pod(uid: &str, log_dir: &Path) -> cri::PodSandboxConfig {
    let name = format!("check-{uid}");
    let labels = [(UID_LABEL, uid), ("io.kubernetes.pod.name", &name), ("io.kubernetes.pod.namespace", NAMESPACE)];
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: name.clone(),
            uid: uid.to_owned(),
            namespace: NAMESPACE.to_owned(),
            attempt: 0,
        }),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        log_directory: log_dir.display().to_string(),
        linux: Some(cri::LinuxPodSandboxConfig {
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        hostname: name,
        ..Default::default()
    }
}

/// A pod's usual namespaces: the network and IPC are shared, processes are not.
fn namespaces() -> cri::NamespaceOption {
    cri::NamespaceOption {
        network: cri::NamespaceMode::Pod.into(),
        pid: cri::NamespaceMode::Container.into(),
        ipc: cri::NamespaceMode::Pod.into(),
        ..Default::default()
    }
}

fn image(image: &str) -> cri::ImageSpec {
    let user_specified_image = pause::reference().to_owned();
    cri::ImageSpec { image: image.to_owned(), user_specified_image, ..Default::default() }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A condition that isn't met, in one line.
fn told(condition: &cri::RuntimeCondition) -> String {
    format!("{} is false: {}: {}", condition.r#type, condition.reason, condition.message)
}

/// An id as `docker ps` shows it.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}
