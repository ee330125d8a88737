//! A container: CreateContainer's configuration into Docker's create body; the way back is in `told.rs`. Pure.

mod told;

use std::collections::BTreeMap;

use bollard::models::{ContainerCreateBody, HostConfig};
use serde::{Deserialize, Serialize};

use super::account::{self, Accounts};
use super::image::{ImageFacts, ImageName, parse};
use super::label::{self, write};
use super::mount::{Source, Volume};
use super::name;
use super::node::{self, Create, Node};
use super::resources::limits;
use super::sandbox::{is_privileged, refuse_windows};
use super::{device, etc, mount, namespace, security, signal};
use crate::cri;
use crate::error::{Error, Result};
use crate::index::model::Sandbox;

pub use told::{as_created, from_inspect, to_item, to_status, wishes};

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
    /// The image's users and groups, when [`must_know_accounts`] wants them.
    pub accounts: Option<&'a Accounts>,
    /// What the mounts are made of, one each.
    pub sources: &'a [Source],
    /// The container of the pod whose processes it is to see, where it asks for one ([`super::namespace::target_of`]).
    pub target: Option<&'a str>,
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
    /// Image volumes by their place in the container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    volumes: BTreeMap<String, Volume>,
}

/// Whether the image's users and groups must be known to keep the policy of supplementary groups.
pub fn must_know_accounts(config: &cri::ContainerConfig, image: &ImageFacts) -> Result<bool> {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let none = cri::LinuxContainerSecurityContext::default();
    let context = context.unwrap_or(&none);
    let user = asked_user(context)?.unwrap_or_else(|| image.user.clone());
    Ok(account::must_be_known(account::policy(CONTEXT, context.supplemental_groups_policy)?, &user))
}

fn asked_user(context: &cri::LinuxContainerSecurityContext) -> Result<Option<String>> {
    security::user(CONTEXT, context.run_as_user.as_ref(), context.run_as_group.as_ref(), &context.run_as_username)
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
    let mount::Mounts { mounts: mut all, binds, volumes } = mount::mounts(mounts, request.sources, node)?;
    if let Some(dir) = request.etc {
        all.extend(etc::mounts(dir, mounts, host.readonly_rootfs.unwrap_or_default(), node)?);
    }
    host.mounts = Some(all);
    host.binds = (!binds.is_empty()).then_some(binds);
    host.devices = Some(device::mappings(devices)?);
    host.device_requests = Some(device::requests(cdi_devices, node)?);
    let record = ImageRecord { volumes, ..image_record(image.as_ref(), request.image) };
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
        reference: facts.reference(),
        volumes: BTreeMap::new(),
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
        run_as_user: _, // `asked_user`, likewise the next two
        run_as_group: _,
        run_as_username: _,
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
    let user = asked_user(context.unwrap_or(&none))?;
    let privileged = *privileged;
    // as it is sent again, and not as the sandbox was made: a debug container may be privileged in a pod that never was
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
        request.target,
    )?;
    let policy = account::policy(CONTEXT, *supplemental_groups_policy)?;
    let (user, groups) = identity(user, security::groups(CONTEXT, supplemental_groups)?, policy, request);
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
        group_add: Some(groups),
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

/// Docker's user and additional groups, by the image's accounts where these must be known.
fn identity(
    user: Option<String>,
    groups: Vec<String>,
    policy: cri::SupplementalGroupsPolicy,
    request: &ContainerRequest<'_>,
) -> (Option<String>, Vec<String>) {
    let Some(accounts) = request.accounts else { return (user, groups) };
    let said = user.unwrap_or_else(|| request.image.user.clone());
    let (user, groups) = account::keep(policy, &said, groups, accounts);
    ((!user.is_empty()).then_some(user), groups)
}

#[cfg(test)]
mod tests;
