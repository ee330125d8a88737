//! A container: CreateContainer's configuration into Docker's create body, and an inspect of it back into what the index keeps
//! and CRI tells. Pure.

use std::collections::BTreeMap;

use bollard::models::{ContainerCreateBody, HostConfig};
use serde::{Deserialize, Serialize};

use super::image::{ImageFacts, ImageName, parse};
use super::label::{self, write};
use super::name::{self, Name};
use super::node::{self, Create, Node};
use super::resources::{self, limits};
use super::sandbox::{created_at_ns, is_privileged, refuse_windows};
use super::{device, etc, filter, mount, namespace, security, signal, state};
use crate::cri;
use crate::engine::model::{self, ContainerInspect, MountPoint};
use crate::error::{Error, Result};
use crate::id::{ContainerId, ImageId, SandboxId};
use crate::index::model::{Container, Sandbox};

const CONTEXT: &str = "config.linux.security_context";

/// CreateContainer's request and what goes into the body beside it.
pub struct ContainerRequest<'a> {
    /// The container's configuration.
    pub config: &'a cri::ContainerConfig,
    /// The pod's, sent again.
    pub sandbox_config: Option<&'a cri::PodSandboxConfig>,
    /// The pod's sandbox.
    pub sandbox: &'a Sandbox,
    /// The image that the configuration names.
    pub image: &'a ImageFacts,
    /// Host paths of the mounts, links resolved, one each.
    pub sources: &'a [String],
    /// Where the pod's files of `/etc` are; None where the Engine makes them.
    pub etc: Option<&'a str>,
    /// Of the file that a localhost seccomp profile names.
    pub seccomp_content: Option<&'a str>,
    /// Where the CRI log will be; empty for none.
    pub log_path: &'a str,
    /// Of the whole request.
    pub fingerprint: &'a str,
    /// Now, nanoseconds since the epoch.
    pub created_at_ns: i64,
}

/// The image as it is to be told back, kept in a label: the Engine keeps only its id.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ImageRecord {
    name: String,
    user_specified: String,
    runtime_handler: String,
    reference: String,
}

/// The create request of a container.
pub fn create_body(request: &ContainerRequest<'_>, node: &Node) -> Result<Create> {
    let cri::ContainerConfig {
        metadata,
        image,
        command,
        args,
        working_dir,
        envs,
        mounts,
        devices,
        labels,
        annotations,
        log_path: _, // joined with the pod's directory by the caller
        stdin,
        stdin_once,
        tty,
        linux,
        windows,
        cdi_devices,
        stop_signal,
    } = request.config;
    let metadata = metadata.as_ref().ok_or_else(|| Error::invalid("config.metadata", "is missing"))?;
    let name = name::container_name(metadata, &request.sandbox.metadata)?;
    refuse_windows(windows.is_some())?;
    let none = cri::LinuxContainerConfig::default();
    let cri::LinuxContainerConfig { resources, security_context } = linux.as_ref().unwrap_or(&none);
    let (user, mut host) = secured(security_context.as_ref(), request, node)?;
    let limits = limits("config.linux.resources", &resources.clone().unwrap_or_default(), node)?;
    limits.apply(&mut host, node);
    let mount::Mounts { mounts: mut all, binds } = mount::mounts(mounts, request.sources, node)?;
    if let Some(dir) = request.etc {
        all.extend(etc::mounts(dir, mounts, host.readonly_rootfs.unwrap_or_default(), node)?);
    }
    host.mounts = Some(all);
    host.binds = (!binds.is_empty()).then_some(binds);
    host.devices = Some(device::mappings(devices)?);
    host.device_requests = Some(device::requests(cdi_devices, node)?);
    let record = image_record(image.as_ref(), request.image);
    let internal = internal_labels(request, &record, &limits.wishes)?;
    let given = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let body = ContainerCreateBody {
        image: Some(request.image.id.to_string()),
        entrypoint: given(command),
        cmd: given(args),
        env: Some(environment(envs)?),
        working_dir: (!working_dir.is_empty()).then(|| working_dir.clone()),
        labels: Some(write(labels, annotations, &internal)?),
        user,
        tty: Some(*tty),
        open_stdin: Some(*stdin),
        stdin_once: Some(*stdin_once),
        stop_signal: signal::to_docker(*stop_signal)?,
        healthcheck: node::no_health_check(),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    };
    Ok(Create { name, body })
}

/// Docker's labels beside the kubelet's.
fn internal_labels(
    request: &ContainerRequest<'_>,
    image: &ImageRecord,
    wishes: &BTreeMap<String, String>,
) -> Result<Vec<(&'static str, String)>> {
    let json = |error| Error::internal("record a container's label", error);
    Ok(vec![
        (label::TYPE, label::TYPE_CONTAINER.to_owned()),
        (label::SANDBOX_ID, request.sandbox.id.to_string()),
        (label::LOG_PATH, request.log_path.to_owned()),
        (label::FINGERPRINT, request.fingerprint.to_owned()),
        (label::CREATED, request.created_at_ns.to_string()),
        (label::IMAGE, serde_json::to_string(image).map_err(json)?),
        // also when there are none: an image's label of that name must not count
        (label::WISHES, serde_json::to_string(wishes).map_err(json)?),
    ])
}

/// The kubelet names an image by its id: then the name that people know is told.
fn image_record(spec: Option<&cri::ImageSpec>, facts: &ImageFacts) -> ImageRecord {
    let none = cri::ImageSpec::default();
    let cri::ImageSpec {
        image,
        annotations: _, // choose nothing on Docker
        user_specified_image,
        runtime_handler,
        image_ref: _, // of image volumes
    } = spec.unwrap_or(&none);
    let name = match parse("config.image.image", image) {
        Ok(ImageName::Id(_)) => facts.repo_tags.first().unwrap_or(image),
        _ => image,
    };
    ImageRecord {
        name: name.clone(),
        user_specified: user_specified_image.clone(),
        runtime_handler: runtime_handler.clone(),
        reference: facts.repo_digests.first().map_or_else(|| facts.id.to_string(), Clone::clone),
    }
}

/// `KEY=value`; JSON carries text only.
fn environment(envs: &[cri::KeyValue]) -> Result<Vec<String>> {
    let one = |(index, cri::KeyValue { key, value }): (usize, &cri::KeyValue)| {
        let at = |field: &str| format!("config.envs[{index}].{field}");
        if key.is_empty() || key.contains(['=', '\0']) {
            return Err(Error::invalid(at("key"), format!("{key:?} can't be a variable's name")));
        }
        match std::str::from_utf8(value) {
            Ok(value) if !value.contains('\0') => Ok(format!("{key}={value}")),
            _ => Err(Error::invalid(
                at("value"),
                format!("of {key} is not UTF-8 without NUL, and Docker takes nothing else"),
            )),
        }
    };
    envs.iter().enumerate().map(one).collect()
}

/// The security context's part: Docker's user, and a host configuration with everything else.
fn secured(
    context: Option<&cri::LinuxContainerSecurityContext>,
    request: &ContainerRequest<'_>,
    node: &Node,
) -> Result<(Option<String>, HostConfig)> {
    let none = cri::LinuxContainerSecurityContext::default();
    let cri::LinuxContainerSecurityContext {
        capabilities,
        privileged,
        namespace_options,
        selinux_options,
        run_as_user,
        run_as_group,
        run_as_username,
        readonly_rootfs,
        supplemental_groups,
        supplemental_groups_policy,
        no_new_privs,
        masked_paths,
        readonly_paths,
        seccomp,
        apparmor,
        #[expect(deprecated, reason = "the kubelet still sends it beside its successor")]
        apparmor_profile,
        #[expect(deprecated, reason = "old clients still send it")]
        seccomp_profile_path,
    } = context.unwrap_or(&none);
    let privileged = *privileged;
    if privileged && !is_privileged(request.sandbox_config) {
        return Err(Error::invalid(format!("{CONTEXT}.privileged"), "is set, and the pod's sandbox is not privileged"));
    }
    let options = namespace::options(&format!("{CONTEXT}.namespace_options"), namespace_options.as_ref())?;
    let sandbox = request.sandbox;
    let modes = namespace::of_container(
        &format!("{CONTEXT}.namespace_options"),
        &options,
        &sandbox.namespaces,
        sandbox.id.as_str(),
    )?;
    let user = security::user(CONTEXT, run_as_user.as_ref(), run_as_group.as_ref(), run_as_username)?;
    security::groups_policy(CONTEXT, *supplemental_groups_policy, user.as_deref())?;
    let (cap_add, cap_drop) = security::capabilities(CONTEXT, capabilities.as_ref())?;
    let content = request.seccomp_content;
    let asked = security::Seccomp { profile: seccomp.as_ref(), deprecated: seccomp_profile_path, content, privileged };
    let mut security_opt = security::selinux(selinux_options.as_ref());
    security_opt.extend(security::seccomp(CONTEXT, &asked, node)?);
    security_opt.extend(security::apparmor(CONTEXT, apparmor.as_ref(), apparmor_profile, privileged, node)?);
    security_opt.push(security::no_new_privileges(*no_new_privs));
    // an empty list is a list: procMount Unmasked. Privileged containers see everything
    let paths = |list: &[String]| Some(if privileged { Vec::new() } else { list.to_vec() });
    let host = HostConfig {
        network_mode: Some(format!("container:{}", sandbox.id)),
        pid_mode: modes.pid,
        ipc_mode: modes.ipc,
        uts_mode: modes.uts,
        userns_mode: modes.userns,
        cgroupns_mode: Some(node.cgroupns(privileged)),
        cgroup_parent: (!sandbox.cgroup_parent.is_empty()).then(|| sandbox.cgroup_parent.clone()),
        cap_add: Some(cap_add),
        cap_drop: Some(cap_drop),
        privileged: Some(privileged),
        group_add: Some(security::groups(CONTEXT, supplemental_groups)?),
        readonly_rootfs: Some(*readonly_rootfs),
        security_opt: Some(security_opt),
        masked_paths: paths(masked_paths),
        readonly_paths: paths(readonly_paths),
        runtime: (!sandbox.docker_runtime.is_empty()).then(|| sandbox.docker_runtime.clone()),
        log_config: Some(node::spool(node.log)),
        ..node::pinned()
    };
    Ok((user, host))
}

/// What an inspect of a container just created will say, as far as it is read: saves asking.
pub fn as_created(id: &str, create: &Create, image: &ImageFacts) -> ContainerInspect {
    let Create { name, body } = create;
    let host = body.host_config.clone().unwrap_or_default();
    let bind = |mount: &bollard::models::Mount| MountPoint {
        kind: mount.typ.map_or_else(String::new, |kind| kind.to_string()),
        source: mount.source.clone().unwrap_or_default(),
        destination: mount.target.clone().unwrap_or_default(),
        rw: !mount.read_only.unwrap_or_default(),
        propagation: mount
            .bind_options
            .as_ref()
            .and_then(|o| o.propagation)
            .map_or_else(String::new, |p| p.to_string()),
    };
    ContainerInspect {
        id: id.to_owned(),
        name: format!("/{name}"),
        image: body.image.clone().unwrap_or_default(),
        state: model::ContainerState { status: "created".to_owned(), ..Default::default() },
        config: model::ContainerConfig {
            image: body.image.clone().unwrap_or_default(),
            labels: body.labels.clone().unwrap_or_default().into_iter().collect(),
            user: body.user.clone().unwrap_or_default(),
            tty: body.tty.unwrap_or_default(),
            open_stdin: body.open_stdin.unwrap_or_default(),
            stdin_once: body.stdin_once.unwrap_or_default(),
            stop_signal: body.stop_signal.clone().unwrap_or_else(|| image.stop_signal.clone()),
            ..model::ContainerConfig::default()
        },
        mounts: host.mounts.iter().flatten().map(bind).collect(),
        host_config: model::HostConfig {
            cgroup_parent: host.cgroup_parent.unwrap_or_default(),
            cpu_period: host.cpu_period.unwrap_or_default(),
            cpu_quota: host.cpu_quota.unwrap_or_default(),
            cpu_shares: host.cpu_shares.unwrap_or_default(),
            memory: host.memory.unwrap_or_default(),
            memory_swap: host.memory_swap.unwrap_or_default(),
            cpuset_cpus: host.cpuset_cpus.unwrap_or_default(),
            cpuset_mems: host.cpuset_mems.unwrap_or_default(),
            oom_score_adj: host.oom_score_adj.unwrap_or_default(),
            ..Default::default()
        },
        ..ContainerInspect::default()
    }
}

/// What the index keeps of a container; None when it isn't one of ours.
pub fn from_inspect(inspect: &ContainerInspect) -> Option<Container> {
    let docker_name = inspect.name.strip_prefix('/').unwrap_or(&inspect.name);
    let Name::Container { name, attempt, pod: _ } = name::parse(docker_name)? else { return None };
    let labels = &inspect.config.labels;
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
    if label(label::TYPE) != label::TYPE_CONTAINER || label(label::SANDBOX_ID).is_empty() {
        return None;
    }
    let created_at_ns = created_at_ns(inspect);
    let life = state::life(inspect, created_at_ns);
    let told = label::read(labels);
    let wishes: BTreeMap<String, String> = serde_json::from_str(&label(label::WISHES)).unwrap_or_default();
    let (image, image_ref) = image_told(&label(label::IMAGE), inspect);
    Some(Container {
        id: ContainerId::new(inspect.id.as_str()),
        sandbox_id: SandboxId::new(label(label::SANDBOX_ID)),
        docker_name: docker_name.to_owned(),
        metadata: cri::ContainerMetadata { name, attempt },
        labels: told.labels,
        annotations: told.annotations,
        image,
        image_ref,
        image_id: ImageId::new(inspect.image.as_str()),
        state: life.state,
        created_at_ns,
        started_at_ns: life.started_at_ns,
        finished_at_ns: life.finished_at_ns,
        exit_code: life.exit_code,
        reason: life.reason,
        message: life.message,
        pid: inspect.state.pid,
        mounts: mount::told(&inspect.mounts, &label(label::SANDBOX_ID)),
        log_path: label(label::LOG_PATH),
        spool_path: inspect.log_path.clone(),
        resources: resources::told(&inspect.host_config, &wishes),
        cgroup_wishes: wishes,
        stop_signal: signal::from_docker(&inspect.config.stop_signal),
        fingerprint: label(label::FINGERPRINT),
    })
}

/// From our label, or what the Engine knows of one that another adapter made.
fn image_told(record: &str, inspect: &ContainerInspect) -> (cri::ImageSpec, String) {
    let record: ImageRecord = serde_json::from_str(record).unwrap_or_default();
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    let spec = cri::ImageSpec {
        image: or(record.name, &inspect.config.image),
        user_specified_image: record.user_specified,
        runtime_handler: record.runtime_handler,
        ..cri::ImageSpec::default()
    };
    (spec, or(record.reference, &inspect.image))
}

/// As ListContainers tells it.
pub fn to_item(container: &Container) -> cri::Container {
    cri::Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.sandbox_id.to_string(),
        metadata: Some(container.metadata.clone()),
        image: Some(container.image.clone()),
        image_ref: container.image_ref.clone(),
        state: filter::to_cri(container.state).into(),
        created_at: container.created_at_ns,
        labels: container.labels.clone(),
        annotations: container.annotations.clone(),
        image_id: container.image_id.to_string(),
    }
}

/// As ContainerStatus tells it.
pub fn to_status(container: &Container) -> cri::ContainerStatus {
    cri::ContainerStatus {
        id: container.id.to_string(),
        metadata: Some(container.metadata.clone()),
        state: filter::to_cri(container.state).into(),
        created_at: container.created_at_ns,
        started_at: container.started_at_ns,
        finished_at: container.finished_at_ns,
        exit_code: container.exit_code,
        image: Some(container.image.clone()),
        image_ref: container.image_ref.clone(),
        reason: container.reason.clone(),
        message: container.message.clone(),
        labels: container.labels.clone(),
        annotations: container.annotations.clone(),
        mounts: container.mounts.clone(),
        log_path: container.log_path.clone(),
        resources: Some(cri::ContainerResources { linux: Some(container.resources.clone()), windows: None }),
        image_id: container.image_id.to_string(),
        // told once supplemental groups are
        user: None,
        stop_signal: container.stop_signal.into(),
    }
}

#[cfg(test)]
mod tests;
