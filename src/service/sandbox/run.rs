//! RunPodSandbox: makes the pause container, its network, and answers when the sandbox is READY.
//!
//! ```text
//! create ─▶ start ─▶ inspect ─▶ the Engine's resolv.conf ─▶ CNI ADD, our own files of /etc (cni mode) ─▶ in the index as READY
//! ```
//!
//! Three engine calls, the first once all that can be told from the request, the configuration and other pods is known to fit. An
//! equal request that comes while this one runs waits for it and gets its id; a dead sandbox of the same name is removed first.
//! Whatever fails, everything made so far is undone, and the first error is the answer.

use crate::cni;
use crate::cri;
use crate::engine::Error as EngineError;
use crate::error::{Error, Result};
use crate::index::model::Sandbox;
use crate::service::steps::Steps;
use crate::service::{Daemon, Known, fingerprint, is_about, now_ns, read_seccomp};
use crate::translate::node::{Create, Network, Node};
use crate::translate::sandbox::{SandboxRequest, pod_name};
use crate::translate::security::seccomp_file;
use crate::translate::{name, port, sandbox};

/// Answers RunPodSandbox.
pub async fn run_pod_sandbox(
    daemon: &Daemon,
    request: cri::RunPodSandboxRequest,
) -> Result<cri::RunPodSandboxResponse> {
    let fingerprint = fingerprint(&request);
    let cri::RunPodSandboxRequest { config, runtime_handler } = request;
    let config = config.ok_or_else(|| Error::invalid("config", "is missing"))?;
    let metadata = config.metadata.as_ref().ok_or_else(|| Error::invalid("config.metadata", "is missing"))?;
    let docker_name = name::sandbox_name(metadata)?;
    is_about(Known::Pod, &pod_name(Some(metadata)));
    let mut steps = Steps::begin();
    daemon.index.synced().await?;
    let _lock = daemon.locks.hold(&docker_name).await;
    if let Some(id) = find_holder(daemon, &docker_name, &fingerprint).await? {
        return Ok(cri::RunPodSandboxResponse { pod_sandbox_id: id });
    }
    let _ports = super::host_ports::claim(daemon, &config)?;
    let pod = cni_pod(daemon, &config)?;
    let wanted = Wanted { config: &config, pod, runtime_handler: &runtime_handler, fingerprint: &fingerprint };
    let _own = daemon.index.own_write(&docker_name);
    steps.done("wait");
    let id = create(daemon, &wanted, &docker_name).await?;
    steps.done("create");
    match bring_up(daemon, &wanted, &id, &mut steps).await {
        Ok(sandbox) => {
            daemon.index.put_sandbox(sandbox);
            tracing::info!(sandbox = id, steps_ms = steps.told(), "pod started");
        }
        Err(error) => {
            undo(daemon, &id).await;
            return Err(error);
        }
    }
    Ok(cri::RunPodSandboxResponse { pod_sandbox_id: id })
}

/// The request, taken apart.
struct Wanted<'a> {
    config: &'a cri::PodSandboxConfig,
    /// For CNI plugins, where they make the pod's network.
    pod: Option<cni::Pod>,
    runtime_handler: &'a str,
    fingerprint: &'a str,
}

impl Wanted<'_> {
    fn create_body(&self, daemon: &Daemon, node: &Node, image: &str) -> Result<Create> {
        let context = self.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        #[expect(deprecated, reason = "old clients still send it")]
        let file = context.and_then(|context| seccomp_file(context.seccomp.as_ref(), &context.seccomp_profile_path));
        let seccomp = read_seccomp("config.linux.security_context.seccomp.localhost_ref", file)?;
        let request = SandboxRequest {
            config: self.config,
            runtime_handler: self.runtime_handler,
            image,
            network: daemon.config.network,
            bare: daemon.config.bare_sandboxes,
            seccomp_content: seccomp.as_deref(),
            fingerprint: self.fingerprint,
            created_at_ns: now_ns(),
        };
        sandbox::create_body(&request, node)
    }
}

pub(super) fn has_host_network(config: &cri::PodSandboxConfig) -> bool {
    let options = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = options.and_then(|context| context.namespace_options.as_ref());
    options.is_some_and(|options| options.network() == cri::NamespaceMode::Node)
}

/// The pod as CNI plugins are told of it, where they make its network; refused here if they can't be told.
fn cni_pod(daemon: &Daemon, config: &cri::PodSandboxConfig) -> Result<Option<cni::Pod>> {
    if daemon.config.network != Network::Cni || has_host_network(config) {
        return Ok(None);
    }
    let metadata = config.metadata.clone().unwrap_or_default();
    let pod = cni::Pod {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        port_mappings: port::cni_mappings(&config.port_mappings)?,
        annotations: config.annotations.clone(),
        dns: config.dns_config.clone().map(|cri::DnsConfig { servers, searches, options }| cni::Dns {
            servers,
            searches,
            options,
        }),
    };
    daemon.cni.check(&pod).map_err(|error| no_network(config, error))?;
    Ok(Some(pod))
}

fn no_network(config: &cri::PodSandboxConfig, error: cni::Error) -> Error {
    match error {
        cni::Error::Annotation { .. } | cni::Error::Argument { .. } => Error::invalid("config", error.to_string()),
        error => Error::internal(format!("network of pod {}", pod_name(config.metadata.as_ref())), error),
    }
}

/// Who holds the name: the result of an equal request, something dead that is cleared away, or somebody else.
async fn find_holder(daemon: &Daemon, docker_name: &str, fingerprint: &str) -> Result<Option<String>> {
    let holder = daemon.index.table().sandbox_named(docker_name);
    match holder {
        None => Ok(None),
        Some(holder) if holder.ready && holder.fingerprint == fingerprint => Ok(Some(holder.id.to_string())),
        Some(holder) if holder.ready => Err(Error::AlreadyExists(format!(
            "sandbox {} holds the name {docker_name} and was made by a different request",
            holder.id
        ))),
        Some(holder) => {
            super::remove::remove_with_containers(daemon, &holder).await?;
            Ok(None)
        }
    }
}

/// Creates the pause container; heals a pruned image and a name held by something dead, each once.
async fn create(daemon: &Daemon, wanted: &Wanted<'_>, docker_name: &str) -> Result<String> {
    let node = daemon.node()?;
    let image = daemon.sandbox_image().await?;
    let body = wanted.create_body(daemon, &node, image.id.as_str())?.body;
    let doing = || format!("create sandbox {docker_name}");
    match daemon.engine.create(docker_name, body.clone()).await {
        Ok(id) => Ok(id),
        Err(EngineError::NotFound { .. }) => {
            let image = daemon.fetch_sandbox_image().await?;
            let body = wanted.create_body(daemon, &node, image.id.as_str())?.body;
            daemon.engine.create(docker_name, body).await.map_err(|error| error.while_doing(doing()))
        }
        Err(EngineError::Conflict { message }) => {
            daemon.clear_name(docker_name, &message).await?;
            daemon.engine.create(docker_name, body).await.map_err(|error| error.while_doing(doing()))
        }
        Err(error) => Err(error.while_doing(doing())),
    }
}

/// Starts the pause container and makes its network.
async fn bring_up(daemon: &Daemon, wanted: &Wanted<'_>, id: &str, steps: &mut Steps) -> Result<Sandbox> {
    let pod = || format!("pod {}", pod_name(wanted.config.metadata.as_ref()));
    daemon.engine.start(id).await.map_err(|error| error.while_doing(format!("start sandbox of {}", pod())))?;
    steps.done("start");
    let inspect = daemon.engine.inspect(id, Daemon::INSPECT_LIMIT).await;
    let inspect = inspect.map_err(|error| error.while_doing(format!("inspect sandbox of {}", pod())))?;
    steps.done("inspect");
    let mut made = sandbox::from_inspect(&inspect).filter(|sandbox| sandbox.ready).ok_or_else(|| {
        Error::FailedPrecondition(format!("sandbox of {} ended at once: {}", pod(), inspect.state.error))
    })?;
    daemon.index.keep_resolv_conf(&made).await?;
    steps.done("files");
    if let Some(pod) = &wanted.pod {
        let attachment = cni::Attachment { container_id: id.to_owned(), netns: netns_of(made.pid), pod: pod.clone() };
        let sandbox = &mut made;
        let keep_etc = async move |addresses| {
            sandbox.ips = addresses;
            daemon.keep_etc(sandbox).await
        };
        daemon.cni.add(&attachment, keep_etc).await.map_err(|error| no_network(wanted.config, error))??;
        steps.done("network");
    }
    Ok(made)
}

/// Where the network namespace of a process is.
pub(super) fn netns_of(pid: i32) -> String {
    format!("/proc/{pid}/ns/net")
}

/// Undoes what a failed attempt has made. What can't be undone is logged: the next attempt clears the name. The network has been
/// undone where it failed; what is left of it, which no later attempt has, is taken down while nobody waits.
async fn undo(daemon: &Daemon, id: &str) {
    if daemon.cni.has_record(id) {
        tracing::warn!(sandbox = id, "network of a failed sandbox not undone; tried again until it is");
        tokio::spawn(daemon.cni.clone().del_in_the_end(id.to_owned()));
    }
    match daemon.engine.remove(id).await {
        Ok(()) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => tracing::warn!(sandbox = id, %error, "failed sandbox not removed"),
    }
    daemon.remove_etc(id).await;
    daemon.index.remove(id);
}
