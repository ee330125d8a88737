//! The contestant that is Docker itself: the engine calls that an operation is made of, over the pooled transport that dockershim
//! has too (`dockershim::engine`). The create bodies say no more than what makes a container as cheap as the kubelet's: above all no
//! seccomp filter, which alone takes some 20 ms of each start and exec. What an adapter takes beyond this is its own.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use dockershim::engine::model::ExecInspect;
use dockershim::engine::{Engine, ExecOptions, Timeouts};
use dockershim::pause;

use super::operation::{Operation, Pod, masked_paths, readonly_paths};
use super::options::Options;

/// Containers are found by these when they are listed or to be removed; the value is the run's uid.
const POD_LABEL: &str = "io.dockershim.bench.pod";
const CONTAINER_LABEL: &str = "io.dockershim.bench.container";
/// Limit of an inspect.
const INSPECT_LIMIT: Duration = Duration::from_secs(20);
/// Grace of a stop, in seconds.
const GRACE_S: i32 = 10;

/// An engine, called directly.
pub(crate) struct Floor {
    engine: Engine,
    image: String,
    /// Whether the pause image has to be removed.
    loaded: bool,
    command: Vec<String>,
    exec: Vec<String>,
    uid: String,
    /// Whether its pods are on the Engine's own bridge.
    bridge: bool,
}

impl Floor {
    /// Of the engine at a socket; nothing is sent yet.
    pub(crate) fn new(socket: &Path, uid: &str, options: &Options) -> anyhow::Result<Floor> {
        Ok(Floor {
            engine: Engine::new(socket.to_owned(), Timeouts::default())?,
            image: options.image.clone(),
            loaded: false,
            command: options.command.clone(),
            exec: options.exec.clone(),
            uid: uid.to_owned(),
            bridge: options.cni.is_none(),
        })
    }

    /// Agrees on an API version and sees that both images are there.
    pub(crate) async fn prepare(&mut self) -> anyhow::Result<()> {
        self.engine.negotiate().await?;
        if self.engine.inspect_image(pause::reference()).await.is_err() {
            self.engine.load_image(pause::archive()).await.context("load the pause image")?;
            self.loaded = true;
        }
        self.engine.inspect_image(&self.image).await.with_context(|| format!("image {}", self.image))?;
        Ok(())
    }

    /// Whether a few calls can do an operation: statistics take Docker a second for each container, and a Status it has none.
    pub(crate) fn takes(operation: Operation) -> bool {
        !matches!(
            operation,
            Operation::ListContainerStats
                | Operation::ListPodSandboxStats
                | Operation::ListPodSandboxMetrics
                | Operation::Status
        )
    }

    /// Does an operation.
    pub(crate) async fn act(&self, operation: Operation, pod: &mut Pod) -> anyhow::Result<()> {
        let engine = &self.engine;
        match operation {
            Operation::RunPodSandbox => {
                pod.sandbox = engine.create(&self.name(pod, "pod"), self.pause_body()).await?;
                self.start(&pod.sandbox).await?;
            }
            Operation::CreateContainer => {
                pod.container =
                    engine.create(&self.name(pod, &format!("main-{}", pod.part)), self.container_body(pod)).await?;
            }
            Operation::StartContainer => self.start(&pod.container).await?,
            Operation::ExecSync => self.exec(&pod.container).await?,
            Operation::ListPodSandbox => drop(engine.list(&self.filter(POD_LABEL)).await?),
            Operation::ListContainers => drop(engine.list(&self.filter(CONTAINER_LABEL)).await?),
            Operation::ListImages => drop(engine.list_images().await?),
            Operation::PodSandboxStatus => drop(engine.inspect(&pod.sandbox, INSPECT_LIMIT).await?),
            Operation::ContainerStatus => drop(engine.inspect(&pod.container, INSPECT_LIMIT).await?),
            Operation::ImageStatus => drop(engine.inspect_image(&self.image).await?),
            Operation::StopContainer => engine.stop(&pod.container, GRACE_S).await?,
            Operation::RemoveContainer => engine.remove(&pod.container).await?,
            Operation::StopPodSandbox => engine.stop(&pod.sandbox, GRACE_S).await?,
            Operation::RemovePodSandbox => engine.remove(&pod.sandbox).await?,
            Operation::ListContainerStats
            | Operation::ListPodSandboxStats
            | Operation::ListPodSandboxMetrics
            | Operation::Status => {}
        }
        Ok(())
    }

    async fn start(&self, id: &str) -> anyhow::Result<()> {
        self.engine.start(id).await?;
        self.engine.inspect(id, INSPECT_LIMIT).await?;
        Ok(())
    }

    async fn exec(&self, container: &str) -> anyhow::Result<()> {
        let options = ExecOptions { command: &self.exec, tty: false, stdin: false, stdout: true, stderr: true };
        let exec = self.engine.create_exec(container, options).await?;
        let mut streams = self.engine.start_exec(&exec, false).await?;
        while streams.output.next().await?.is_some() {}
        // the output can end before the exit code is known
        let code = loop {
            let ExecInspect { running, exit_code, .. } = self.engine.inspect_exec(&exec).await?;
            if !running {
                break exit_code;
            }
        };
        ensure!(code == Some(0), "{:?} exits with {code:?}", self.exec);
        Ok(())
    }

    /// Removes all containers, and the pause image if it was brought in.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        for label in [CONTAINER_LABEL, POD_LABEL] {
            for container in self.engine.list(&self.filter(label)).await.context("list what is left")? {
                let removed = self.engine.remove(&container.id).await;
                removed.with_context(|| format!("remove container {}", container.id))?;
            }
        }
        if self.loaded {
            self.engine.remove_image(pause::reference()).await.context("remove the pause image")?;
        }
        Ok(())
    }

    fn name(&self, pod: &Pod, part: &str) -> String {
        format!("{}-{}-{part}", self.uid, pod.number)
    }

    fn filter(&self, label: &str) -> String {
        format!("{label}={}", self.uid)
    }

    /// On the engine's own bridge or without a network, its IPC namespace open to the pod's containers, without a log.
    fn pause_body(&self) -> ContainerCreateBody {
        ContainerCreateBody {
            image: Some(pause::reference().to_owned()),
            labels: Some(HashMap::from([(POD_LABEL.to_owned(), self.uid.clone())])),
            host_config: Some(HostConfig {
                network_mode: self.bridge.then(|| "bridge".to_owned()),
                ipc_mode: Some("shareable".to_owned()),
                log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
                security_opt: unconfined(),
                ..HostConfig::default()
            }),
            network_disabled: Some(!self.bridge),
            ..ContainerCreateBody::default()
        }
    }

    /// In the pod's network and IPC namespaces.
    fn container_body(&self, pod: &Pod) -> ContainerCreateBody {
        let joined = Some(format!("container:{}", pod.sandbox));
        ContainerCreateBody {
            image: Some(self.image.clone()),
            entrypoint: Some(self.command.clone()),
            labels: Some(HashMap::from([(CONTAINER_LABEL.to_owned(), self.uid.clone())])),
            host_config: Some(HostConfig {
                network_mode: joined.clone(),
                ipc_mode: joined,
                security_opt: unconfined(),
                masked_paths: Some(masked_paths()),
                readonly_paths: Some(readonly_paths()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }
}

/// What CRI means where a request has no seccomp profile.
fn unconfined() -> Option<Vec<String>> {
    Some(vec!["seccomp=unconfined".to_owned()])
}
