//! What CreateContainer must find on the node: sources of mounts, devices, profiles, files of a cgroup, another container. The Engine
//! would miss most of it only when the container starts, and then without the name of the field.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::cgroup::Cgroup;
use crate::cri;
use crate::engine::feature::Feature;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::index::model::{Sandbox, State};
use crate::process;
use crate::service::Daemon;
use crate::translate::mount::{IMAGE_FAILURE, Source, image_of};
use crate::translate::namespace::target_of;
use crate::translate::node::Node;
use crate::translate::resources::field_of_wish;
use crate::translate::security::is_loaded;

/// The kernel's list of AppArmor profiles; only there where securityfs is mounted.
pub(super) const APPARMOR_PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// What mounts are made of, one each. Links in a host path are resolved here: the Engine would not. A path that is missing is the
/// kubelet's to make.
pub(super) async fn sources(daemon: &Daemon, mounts: &[cri::Mount], node: &Node) -> Result<Vec<Source>> {
    let mut sources = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.iter().enumerate() {
        let at = format!("config.mounts[{index}]");
        sources.push(match image_of(mount) {
            Some(_) if !node.api.has(Feature::ImageMount) => Source::NoImage,
            Some(image) => image_source(daemon, &at, image, &mount.image_sub_path).await?,
            None => Source::Path(resolved(&format!("{at}.host_path"), &mount.host_path).await?),
        });
    }
    Ok(sources)
}

async fn resolved(field: &str, path: &str) -> Result<String> {
    if !path.starts_with('/') {
        return Err(Error::invalid(field, format!("{path:?} is not an absolute path")));
    }
    let resolved = tokio::fs::canonicalize(path).await;
    let resolved = resolved.map_err(|error| Error::invalid(field, format!("{path}: {error}")))?;
    let text = resolved.into_os_string().into_string();
    text.map_err(|path| Error::invalid(field, format!("{} is not UTF-8", path.display())))
}

/// The kubelet has pulled the image, but nobody has seen whether the sub-path is in it.
async fn image_source(daemon: &Daemon, at: &str, image: &cri::ImageSpec, sub_path: &str) -> Result<Source> {
    let field = format!("{IMAGE_FAILURE}: {at}.image");
    let name = daemon.image_of(&field, Some(image.clone()))?;
    let Some(facts) = daemon.image_named(&format!("{field}.image"), &name).await? else {
        return Err(Error::invalid(field, format!("{name:?} is not on this node")));
    };
    if !sub_path.is_empty() && !daemon.image_has(&facts, &format!("/{sub_path}")).await? {
        let field = format!("{IMAGE_FAILURE}: {at}.image_sub_path");
        return Err(Error::invalid(field, format!("there is no {sub_path:?} in the image")));
    }
    Ok(Source::Image(facts))
}

/// A mount can only propagate what that of its source does; the Engine would look when the container starts. Where the runtime, by whose
/// side the sandbox's process `pid` is, sees other mounts than we do, the Engine has the word.
pub(super) fn check_propagation(mounts: &[cri::Mount], sources: &[Source], pid: i32) -> Result<()> {
    let asked = mounts.iter().zip(sources).enumerate().filter_map(|(index, (mount, source))| match source {
        Source::Path(path) if mount.propagation() != cri::MountPropagation::PropagationPrivate => {
            Some((index, mount.propagation(), path))
        }
        _ => None,
    });
    let mut asked = asked.peekable();
    let mountinfo = if asked.peek().is_some() { process::mounts_of_parent(pid) } else { None };
    let Some(mountinfo) = mountinfo else { return Ok(()) };
    for (index, propagation, path) in asked {
        let Some(place) = process::place_of(&mountinfo, Path::new(path)) else { continue };
        let (can, wanted) = match propagation {
            cri::MountPropagation::PropagationBidirectional => (place.shared, "a shared mount"),
            _ => (place.shared || place.slave, "a shared mount or a slave of one"),
        };
        if !can {
            let point = place.point.display();
            let reason = format!("{path} is mounted on {point}, which is not {wanted} (mount --make-rshared {point})");
            return Err(Error::invalid(format!("config.mounts[{index}].propagation"), reason));
        }
    }
    Ok(())
}

/// The container whose processes are to be seen: one of the same pod, as a whole id. Docker would join any that it knows by id or name.
pub(super) fn target(
    daemon: &Daemon,
    context: Option<&cri::LinuxContainerSecurityContext>,
    sandbox: &Sandbox,
) -> Result<Option<ContainerId>> {
    let Some(asked) = target_of(context) else { return Ok(None) };
    let wrong = |why: &str| {
        Error::invalid("config.linux.security_context.namespace_options.target_id", format!("{asked:?} {why}"))
    };
    let found = daemon.index.table().container(asked).ok().filter(|found| found.sandbox_id == sandbox.id);
    match found {
        None => Err(wrong("is no container of this pod")),
        Some(ended) if ended.state == State::Exited => Err(wrong("has ended")),
        Some(found) => Ok(Some(found.id.clone())),
    }
}

/// Devices as they are on the node: each a device, or a directory of them.
pub(super) async fn check_devices(devices: &[cri::Device]) -> Result<()> {
    for (index, cri::Device { container_path: _, host_path, permissions: _ }) in devices.iter().enumerate() {
        let field = format!("config.devices[{index}].host_path");
        let found = tokio::fs::metadata(host_path).await;
        let kind = found.map_err(|error| Error::invalid(&field, format!("{host_path:?}: {error}")))?.file_type();
        if !(kind.is_char_device() || kind.is_block_device() || kind.is_dir()) {
            return Err(Error::invalid(field, format!("{host_path:?} is neither a device nor a directory of them")));
        }
    }
    Ok(())
}

/// A profile that isn't in the kernel's list can't hold. Where that can't be read, the Engine has the word.
pub(super) fn check_apparmor(field: &str, name: Option<&str>, node: &Node, list: &str) -> Result<()> {
    let Some(name) = name.filter(|_| node.apparmor) else { return Ok(()) };
    match std::fs::read_to_string(list) {
        Ok(profiles) if !is_loaded(&profiles, name) => {
            Err(Error::invalid(field, format!("profile {name:?} is not loaded (apparmor_parser -r loads it)")))
        }
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::debug!(%error, "{list} can't be read");
            Ok(())
        }
    }
}

/// Wishes that this kernel has files for, as they are in the cgroup of a process that has the container's controllers.
pub(super) fn check_wishes(at: &str, wishes: &BTreeMap<String, String>, pid: i32) -> Result<()> {
    if wishes.is_empty() || pid <= 0 {
        return Ok(());
    }
    match Cgroup::of_pid(pid) {
        Ok(cgroup) => match cgroup.lacking(wishes) {
            Some((file, error)) => Err(Error::invalid(field_of_wish(at, file), error.to_string())),
            None => Ok(()),
        },
        Err(error) if error.is_gone() => Ok(()),
        Err(error) => Err(Error::internal("look at the cgroup", error)),
    }
}
