//! A contestant that is called by CRI, with what a kubelet would send.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use dockershim::cri;

use super::operation::{Operation, Pod, masked_paths, readonly_paths};
use super::options::Options;
use super::support::client::{Cri, image_spec};
use super::support::workspace;

/// An adapter that has just been started must be ready by then.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Pods are found by it when they are to be removed.
const UID_LABEL: &str = "io.kubernetes.pod.uid";
/// Limit of ExecSync, and grace of StopContainer, in seconds.
const PATIENCE_S: i64 = 10;

/// A kubelet, as far as it is measured.
pub(crate) struct Kubelet {
    cri: Cri,
    /// As the command line has it.
    image: String,
    /// As kubelets name it once it is there.
    image_id: String,
    /// Whether it has to be removed.
    pulled: bool,
    command: Vec<String>,
    exec: Vec<String>,
    uid: String,
    log_dir: PathBuf,
}

impl Kubelet {
    /// Of the adapter at a socket; nothing is sent yet.
    pub(crate) fn new(socket: &Path, uid: &str, options: &Options) -> Kubelet {
        Kubelet {
            cri: Cri::new(socket),
            image: options.image.clone(),
            image_id: String::new(),
            pulled: false,
            command: options.command.clone(),
            exec: options.exec.clone(),
            uid: uid.to_owned(),
            log_dir: workspace::new_dir("b"),
        }
    }

    /// Waits until the adapter is ready, and pulls the image if it is missing.
    pub(crate) async fn prepare(&mut self) -> anyhow::Result<()> {
        self.wait_until_ready().await?;
        let present = self.cri.image(&self.image).await?;
        if present.is_none() {
            self.cri.pull(&self.image, None).await.context("pull")?;
            self.pulled = true;
        }
        let image = self.cri.image(&self.image).await?.with_context(|| format!("{} is not there", self.image))?;
        self.image_id = image.id;
        // what an adapter pins it needs itself
        self.pulled &= !image.pinned;
        Ok(())
    }

    async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let end = Instant::now() + READY_LIMIT;
        loop {
            let conditions = self.cri.conditions().await;
            match &conditions {
                Ok(conditions) if conditions.values().all(|(met, _)| *met) => return Ok(()),
                _ if Instant::now() > end => bail!("not ready within {READY_LIMIT:?}: {conditions:?}"),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Does an operation.
    pub(crate) async fn act(&self, operation: Operation, pod: &mut Pod) -> anyhow::Result<()> {
        let cri = &self.cri;
        match operation {
            Operation::RunPodSandbox => pod.sandbox = cri.run_pod(&self.pod(pod)).await?,
            Operation::CreateContainer => {
                pod.container = cri.create(&pod.sandbox, &self.container(pod), &self.pod(pod)).await?;
            }
            Operation::StartContainer => cri.start(&pod.container).await?,
            Operation::ExecSync => {
                let words: Vec<_> = self.exec.iter().map(String::as_str).collect();
                let code = cri.exec(&pod.container, &words, PATIENCE_S).await?.exit_code;
                ensure!(code == 0, "{words:?} exits with {code}");
            }
            Operation::ListPodSandbox => drop(cri.list_pods(cri::PodSandboxFilter::default()).await?),
            Operation::ListContainers => drop(cri.list(cri::ContainerFilter::default()).await?),
            Operation::ListContainerStats => {
                cri.runtime().list_container_stats(cri::ListContainerStatsRequest::default()).await?;
            }
            Operation::ListPodSandboxStats => {
                cri.runtime().list_pod_sandbox_stats(cri::ListPodSandboxStatsRequest::default()).await?;
            }
            Operation::ListPodSandboxMetrics => {
                cri.runtime().list_pod_sandbox_metrics(cri::ListPodSandboxMetricsRequest::default()).await?;
            }
            Operation::ListImages => drop(cri.list_images().await?),
            Operation::PodSandboxStatus => drop(cri.pod_status(&pod.sandbox).await?),
            Operation::ContainerStatus => drop(cri.status(&pod.container).await?),
            Operation::ImageStatus => drop(cri.image(&self.image).await?),
            Operation::Status => drop(cri.conditions().await?),
            Operation::StopContainer => cri.stop(&pod.container, PATIENCE_S).await?,
            Operation::RemoveContainer => cri.remove(&pod.container).await?,
            Operation::StopPodSandbox => cri.stop_pod(&pod.sandbox).await?,
            Operation::RemovePodSandbox => cri.remove_pod(&pod.sandbox).await?,
        }
        Ok(())
    }

    /// Removes all pods, and the image if it was brought in.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        let label_selector = self.uid_label();
        let filter = cri::PodSandboxFilter { label_selector, ..cri::PodSandboxFilter::default() };
        for pod in self.cri.list_pods(filter).await.context("list what is left")? {
            self.cri.stop_pod(&pod.id).await.with_context(|| format!("stop pod {}", pod.id))?;
            self.cri.remove_pod(&pod.id).await.with_context(|| format!("remove pod {}", pod.id))?;
        }
        if self.pulled {
            self.cri.remove_image(&self.image).await.with_context(|| format!("remove image {}", self.image))?;
        }
        Ok(())
    }

    fn uid_label(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(UID_LABEL.to_owned(), self.uid.clone())])
    }

    fn pod(&self, pod: &Pod) -> cri::PodSandboxConfig {
        let name = format!("bench-{}", pod.number);
        let context = cri::LinuxSandboxSecurityContext { namespace_options: Some(namespaces()), ..Default::default() };
        cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: name.clone(),
                uid: self.uid.clone(),
                namespace: "bench".to_owned(),
                attempt: 0,
            }),
            hostname: name,
            log_directory: self.log_dir.display().to_string(),
            dns_config: Some(cri::DnsConfig { servers: vec!["127.0.0.1".to_owned()], ..Default::default() }),
            labels: self.uid_label(),
            linux: Some(cri::LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() }),
            ..Default::default()
        }
    }

    fn container(&self, pod: &Pod) -> cri::ContainerConfig {
        let context = cri::LinuxContainerSecurityContext {
            namespace_options: Some(namespaces()),
            masked_paths: masked_paths(),
            readonly_paths: readonly_paths(),
            ..Default::default()
        };
        cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: format!("main-{}", pod.part), attempt: 0 }),
            image: Some(cri::ImageSpec { user_specified_image: self.image.clone(), ..image_spec(&self.image_id) }),
            command: self.command.clone(),
            labels: self.uid_label(),
            log_path: format!("{}-{}.log", pod.number, pod.part),
            linux: Some(cri::LinuxContainerConfig { security_context: Some(context), ..Default::default() }),
            ..Default::default()
        }
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
