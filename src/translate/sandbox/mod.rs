//! A pod sandbox: RunPodSandbox's configuration into the pause container's create body, and an inspect of it back into what
//! the index keeps and CRI tells. Pure.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};

use super::label::{self, write};
use super::name::{self, Name, SandboxFields};
use super::namespace::{self, Options};
use super::node::{self, Create, Network, Node};
use super::{account, dns, port, security, sysctl, time};
use crate::cri;
use crate::engine::model::ContainerInspect;
use crate::error::{Error, Result};
use crate::id::SandboxId;
use crate::index::model::{PodResources, Sandbox};

/// The pause container is the last that the kernel ends for memory, and gets the least cpu time.
const OOM_SCORE: i64 = -998;
const CPU_SHARES: i64 = 2;
/// The kernel's own limit of a host name.
const MAX_HOSTNAME_BYTES: usize = 64;

/// RunPodSandbox's request and what goes into the body beside it.
pub struct SandboxRequest<'a> {
    /// The pod's configuration.
    pub config: &'a cri::PodSandboxConfig,
    /// As requested.
    pub runtime_handler: &'a str,
    /// Id of the pause image.
    pub image: &'a str,
    /// Who makes the pod's network.
    pub network: Network,
    /// Where a CNI plugin makes the network, the Engine makes no network sandbox under it.
    pub bare: bool,
    /// Of the file that a localhost seccomp profile names.
    pub seccomp_content: Option<&'a str>,
    /// Of the whole request.
    pub fingerprint: &'a str,
    /// Now, nanoseconds since the epoch.
    pub created_at_ns: i64,
}

/// The create request of a pause container.
pub fn create_body(request: &SandboxRequest<'_>, node: &Node) -> Result<Create> {
    let cri::PodSandboxConfig {
        metadata,
        hostname,
        log_directory: _, // CreateContainer is told again
        dns_config,
        port_mappings,
        labels,
        annotations,
        linux,
        windows,
    } = request.config;
    let metadata = metadata.as_ref().ok_or_else(|| Error::invalid("config.metadata", "is missing"))?;
    refuse_windows(windows.is_some())?;
    let none = cri::LinuxPodSandboxConfig::default();
    let cri::LinuxPodSandboxConfig {
        cgroup_parent,
        security_context,
        sysctls,
        overhead, // kept and told: the pod's own cgroup is the kubelet's
        resources,
    } = linux.as_ref().unwrap_or(&none);
    let mut made = secured(security_context.as_ref(), request, node)?;
    let host_network = made.options.network == cri::NamespaceMode::Node;
    let bindings = if host_network { HashMap::new() } else { port::bindings(port_mappings)? };
    made.host.cgroup_parent = node.cgroup_parent(cgroup_parent);
    made.host.sysctls = Some(sysctl::sysctls(sysctls, &made.options)?);
    made.body.network_disabled = (request.bare && request.network == Network::Cni && !host_network).then_some(true);
    made.host.network_mode = Some(network_mode(host_network, request.network).to_owned());
    let publishes = request.network == Network::Bridge && !bindings.is_empty();
    made.body.exposed_ports = publishes.then(|| bindings.keys().cloned().collect());
    made.host.port_bindings = publishes.then_some(bindings);
    made.body.hostname = (!host_network && !hostname.is_empty()).then(|| hostname.clone());
    check_hostname(hostname)?;
    let resolv_conf = dns_config.as_ref().map(dns::resolv_conf).transpose()?;
    let resources = PodResources::told(overhead.as_ref(), resources.as_ref());
    made.body.labels = Some(write(labels, annotations, &internal_labels(request, &resolv_conf, &resources)?)?);
    made.body.host_config = Some(made.host);
    Ok(Create { name: name::sandbox_name(metadata)?, body: made.body })
}

/// Docker's labels beside the kubelet's.
fn internal_labels<'a>(
    request: &SandboxRequest<'_>,
    resolv_conf: &Option<String>,
    resources: &Option<PodResources>,
) -> Result<[(&'a str, String); 7]> {
    let json = |error| Error::internal("record a sandbox's label", error);
    Ok([
        (label::TYPE, label::TYPE_SANDBOX.to_owned()),
        (label::CONTAINER_NAME, "POD".to_owned()),
        (label::FINGERPRINT, request.fingerprint.to_owned()),
        (label::HANDLER, request.runtime_handler.to_owned()),
        (label::CREATED, request.created_at_ns.to_string()),
        (label::RESOLV_CONF, serde_json::to_string(resolv_conf).map_err(json)?),
        (label::POD_RESOURCES, serde_json::to_string(resources).map_err(json)?),
    ])
}

/// It becomes a line of files that containers read.
fn check_hostname(name: &str) -> Result<()> {
    const FIELD: &str = "config.hostname";
    if name.len() > MAX_HOSTNAME_BYTES {
        return Err(Error::invalid(FIELD, format!("has more than {MAX_HOSTNAME_BYTES} bytes")));
    }
    match name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')) {
        true => Ok(()),
        false => Err(Error::invalid(FIELD, format!("{name:?} is not a host's name"))),
    }
}

pub(super) fn refuse_windows(asked: bool) -> Result<()> {
    if asked { Err(Error::invalid("config.windows", "this node runs Linux containers")) } else { Ok(()) }
}

fn network_mode(host: bool, network: Network) -> &'static str {
    match network {
        _ if host => "host",
        Network::Cni => "none",
        Network::Bridge => "bridge",
    }
}

/// A create body on its way: what every pause container has, and the security context's part.
struct Made {
    body: ContainerCreateBody,
    host: HostConfig,
    options: Options,
}

fn secured(
    context: Option<&cri::LinuxSandboxSecurityContext>,
    request: &SandboxRequest<'_>,
    node: &Node,
) -> Result<Made> {
    const AT: &str = "config.linux.security_context";
    let none = cri::LinuxSandboxSecurityContext::default();
    let cri::LinuxSandboxSecurityContext {
        namespace_options,
        selinux_options,
        run_as_user,
        run_as_group,
        readonly_rootfs,
        supplemental_groups,
        supplemental_groups_policy,
        privileged: _, // allows its containers to be so; the pause program needs nothing
        seccomp,
        apparmor,
        #[expect(deprecated, reason = "old clients still send it")]
        seccomp_profile_path,
    } = context.unwrap_or(&none);
    let options = namespace::options(&format!("{AT}.namespace_options"), namespace_options.as_ref())?;
    let modes = namespace::of_sandbox(&options);
    let user = security::user(AT, run_as_user.as_ref(), run_as_group.as_ref(), "")?;
    // the pause program reads no files, so that no image's groups matter
    account::policy(AT, *supplemental_groups_policy)?;
    let seccomp = security::Seccomp {
        profile: seccomp.as_ref(),
        deprecated: seccomp_profile_path,
        content: request.seccomp_content,
        privileged: false,
    };
    let mut security_opt = security::selinux(selinux_options.as_ref());
    security_opt.extend(security::seccomp(AT, &seccomp, node)?);
    security_opt.extend(security::apparmor(AT, apparmor.as_ref(), "", false, node)?);
    security_opt.push(security::no_new_privileges(true));
    let host = HostConfig {
        pid_mode: modes.pid,
        ipc_mode: modes.ipc,
        uts_mode: modes.uts,
        userns_mode: modes.userns,
        cgroupns_mode: Some(node.cgroupns(false)),
        oom_score_adj: Some(node.oom_score(OOM_SCORE)),
        cpu_shares: Some(CPU_SHARES),
        group_add: Some(security::groups(AT, supplemental_groups)?),
        readonly_rootfs: Some(*readonly_rootfs),
        security_opt: Some(security_opt),
        runtime: docker_runtime(request.runtime_handler, node)?,
        // it prints nothing
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: Some(HashMap::new()) }),
        ..node::pinned()
    };
    let body = ContainerCreateBody {
        image: Some(request.image.to_owned()),
        user,
        healthcheck: node::no_health_check(),
        ..ContainerCreateBody::default()
    };
    Ok(Made { body, host, options })
}

/// The Docker runtime of a handler; None for the engine's default.
fn docker_runtime(handler: &str, node: &Node) -> Result<Option<String>> {
    if node.runtimes.iter().any(|runtime| runtime == handler) {
        return Ok(Some(handler.to_owned()));
    }
    if node.has_handler(handler) {
        return Ok(None);
    }
    let known = node.runtimes.join(", ");
    Err(Error::invalid("runtime_handler", format!("{handler:?} is not one of the engine's runtimes ({known})")))
}

/// What the index keeps of a pause container; None when it isn't one of ours.
pub fn from_inspect(inspect: &ContainerInspect) -> Option<Sandbox> {
    let docker_name = inspect.name.strip_prefix('/').unwrap_or(&inspect.name);
    let Name::Sandbox(SandboxFields { name, namespace, uid, attempt }) = name::parse(docker_name)? else { return None };
    let labels = &inspect.config.labels;
    if labels.get(label::TYPE).map(String::as_str) != Some(label::TYPE_SANDBOX) {
        return None;
    }
    let host = &inspect.host_config;
    let told = label::read(labels);
    let json = |key| labels.get(key).map_or("null", String::as_str);
    Some(Sandbox {
        id: SandboxId::new(inspect.id.as_str()),
        docker_name: docker_name.to_owned(),
        metadata: cri::PodSandboxMetadata { name, uid, namespace, attempt },
        labels: told.labels.into(),
        annotations: told.annotations.into(),
        created_at_ns: created_at_ns(inspect),
        ready: inspect.state.running,
        pid: inspect.state.pid,
        started_at_ns: time::parse_ns(&inspect.state.started_at),
        runtime_handler: labels.get(label::HANDLER).cloned().unwrap_or_else(|| handler_of(&host.runtime)),
        docker_runtime: host.runtime.clone(),
        namespaces: namespace::told(&host.network_mode, &host.pid_mode, &host.ipc_mode),
        needs_cni: host.network_mode == "none",
        ips: docker_addresses(inspect),
        host_ports: port::told(&host.port_bindings),
        bare: inspect.config.network_disabled,
        hostname: inspect.config.hostname.clone(),
        mount_label: inspect.mount_label.clone(),
        cgroup_parent: host.cgroup_parent.clone(),
        resolv_conf_path: inspect.resolv_conf_path.clone(),
        resolv_conf: serde_json::from_str(json(label::RESOLV_CONF)).unwrap_or_default(),
        resources: serde_json::from_str(json(label::POD_RESOURCES)).unwrap_or_default(),
        fingerprint: labels.get(label::FINGERPRINT).cloned().unwrap_or_default(),
    })
}

/// As our label has it; the Engine's own time of what another adapter made.
pub(super) fn created_at_ns(inspect: &ContainerInspect) -> i64 {
    let ours = inspect.config.labels.get(label::CREATED).and_then(|text| text.parse().ok());
    ours.filter(|ns| *ns > 0).unwrap_or_else(|| time::parse_ns(&inspect.created))
}

/// Another adapter keeps no handler: the engine's usual runtime stands for none.
fn handler_of(runtime: &str) -> String {
    if runtime == "runc" { String::new() } else { runtime.to_owned() }
}

/// Addresses on Docker's networks, IPv4 first.
fn docker_addresses(inspect: &ContainerInspect) -> Vec<String> {
    let networks = inspect.network_settings.networks.values();
    let (v4, v6): (Vec<&String>, Vec<&String>) =
        networks.map(|network| (&network.ip_address, &network.global_ipv6_address)).unzip();
    v4.into_iter().chain(v6).filter(|address| !address.is_empty()).cloned().collect()
}

fn state(sandbox: &Sandbox) -> cri::PodSandboxState {
    if sandbox.ready { cri::PodSandboxState::SandboxReady } else { cri::PodSandboxState::SandboxNotready }
}

/// As ListPodSandbox tells it.
pub fn to_item(sandbox: &Sandbox) -> cri::PodSandbox {
    cri::PodSandbox {
        id: sandbox.id.to_string(),
        metadata: Some(sandbox.metadata.clone()),
        state: state(sandbox).into(),
        created_at: sandbox.created_at_ns,
        labels: sandbox.labels.to_map(),
        annotations: sandbox.annotations.to_map(),
        runtime_handler: sandbox.runtime_handler.clone(),
    }
}

/// As PodSandboxStatus tells it. Without addresses there is no network: an empty one would make the kubelet recreate the pod.
pub fn to_status(sandbox: &Sandbox) -> cri::PodSandboxStatus {
    let network = sandbox.ips.split_first().map(|(ip, more)| cri::PodSandboxNetworkStatus {
        ip: ip.clone(),
        additional_ips: more.iter().map(|ip| cri::PodIp { ip: ip.clone() }).collect(),
    });
    let namespaces = cri::Namespace { options: Some(sandbox.namespaces.clone()) };
    cri::PodSandboxStatus {
        id: sandbox.id.to_string(),
        metadata: Some(sandbox.metadata.clone()),
        state: state(sandbox).into(),
        created_at: sandbox.created_at_ns,
        network,
        linux: Some(cri::LinuxPodSandboxStatus { namespaces: Some(namespaces) }),
        labels: sandbox.labels.to_map(),
        annotations: sandbox.annotations.to_map(),
        runtime_handler: sandbox.runtime_handler.clone(),
    }
}

/// `namespace/name`, for people.
pub fn pod_name(metadata: Option<&cri::PodSandboxMetadata>) -> String {
    metadata.map(|metadata| format!("{}/{}", metadata.namespace, metadata.name)).unwrap_or_default()
}

/// Whether a pod allows its containers to be privileged.
pub(super) fn is_privileged(config: Option<&cri::PodSandboxConfig>) -> bool {
    let context = config.and_then(|config| config.linux.as_ref()).and_then(|linux| linux.security_context.as_ref());
    context.is_some_and(|context| context.privileged)
}

#[cfg(test)]
mod tests;
