//! CreateContainer: makes a container in a pod's sandbox, ready to be started. One engine call; the first container of an image whose
//! users must be known, and the first with a sub-path of an image volume, take a look into the image first (`service/probe.rs`).
//!
//! An equal request finds the container that the first one made. A dead container of the same name is removed first. When the
//! create fails nothing is left behind: the Engine makes a container whole or not at all.

use std::sync::Arc;

use super::found;
use crate::cri;
use crate::engine::Error as EngineError;
use crate::error::{Error, Kind, Result};
use crate::id::ContainerId;
use crate::index::model::{Sandbox, State};
use crate::log::{self, LogPath};
use crate::service::{Daemon, fingerprint, now_ns, read_seccomp, required};
use crate::translate::container::{
    ContainerRequest, as_created, create_body, from_inspect, must_know_accounts, wishes,
};
use crate::translate::image::ImageFacts;
use crate::translate::name;
use crate::translate::node::{Create, Node};
use crate::translate::security::{apparmor_name, seccomp_file};

/// Answers CreateContainer.
pub async fn create_container(
    daemon: &Daemon,
    request: cri::CreateContainerRequest,
) -> Result<cri::CreateContainerResponse> {
    let fingerprint = fingerprint(&request);
    let cri::CreateContainerRequest { pod_sandbox_id, config, sandbox_config } = request;
    let config = config.ok_or_else(|| Error::invalid("config", "is missing"))?;
    let metadata = config.metadata.as_ref().ok_or_else(|| Error::invalid("config.metadata", "is missing"))?;
    daemon.index.synced().await?;
    let sandbox = daemon.index.table().sandbox(required("pod_sandbox_id", &pod_sandbox_id)?)?;
    let docker_name = name::container_name(metadata, &sandbox.metadata)?;
    let _lock = daemon.locks.hold(&sandbox.docker_name).await;
    let _own = daemon.index.own_write(&docker_name);
    if let Some(id) = find_holder(daemon, &docker_name, &fingerprint).await? {
        return Ok(cri::CreateContainerResponse { container_id: id });
    }
    let sandbox = ready(daemon, &sandbox)?;
    let wanted = Wanted {
        config: &config,
        sandbox_config: sandbox_config.as_ref(),
        sandbox: &sandbox,
        fingerprint: &fingerprint,
    };
    let image = image(daemon, config.image.clone()).await?;
    let create = wanted.create(daemon, &image).await?;
    let id = send(daemon, &create, &image).await?;
    if let Some(container) = from_inspect(&as_created(&id, &create, &image)) {
        daemon.index.put_container(container);
    }
    Ok(cri::CreateContainerResponse { container_id: id })
}

/// The request, taken apart.
struct Wanted<'a> {
    config: &'a cri::ContainerConfig,
    sandbox_config: Option<&'a cri::PodSandboxConfig>,
    sandbox: &'a Sandbox,
    fingerprint: &'a str,
}

impl Wanted<'_> {
    async fn create(&self, daemon: &Daemon, image: &ImageFacts) -> Result<Create> {
        let node = daemon.node()?;
        let context = self.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let seccomp = profiles(context, &node, found::APPARMOR_PROFILES)?;
        let target = found::target(daemon, context, self.sandbox)?;
        found::check_devices(&self.config.devices).await?;
        let log_path = self.log_path()?;
        let sources = found::sources(daemon, &self.config.mounts, &node).await?;
        found::check_propagation(&self.config.mounts, &sources, self.sandbox.pid)?;
        let accounts = match must_know_accounts(self.config, image)? {
            true => Some(daemon.accounts_of(image).await?),
            false => None,
        };
        let etc = daemon.keep_etc(self.sandbox).await?;
        let request = ContainerRequest {
            config: self.config,
            sandbox_config: self.sandbox_config,
            sandbox: self.sandbox,
            image,
            accounts: accounts.as_deref(),
            sources: &sources,
            target: target.as_ref().map(ContainerId::as_str),
            etc: etc.as_deref(),
            seccomp_content: seccomp.as_deref(),
            log_path: &log_path,
            fingerprint: self.fingerprint,
            created_at_ns: now_ns(),
        };
        let create = create_body(&request, &node)?;
        found::check_wishes("config.linux.resources", &wishes(&create), self.sandbox.pid)?;
        Ok(create)
    }

    /// The pod's log directory and the container's path in it; empty without one of them.
    fn log_path(&self) -> Result<String> {
        let directory = self.sandbox_config.map_or("", |config| config.log_directory.as_str());
        if directory.is_empty() || self.config.log_path.is_empty() {
            return Ok(String::new());
        }
        let path = LogPath::new(directory, &self.config.log_path).map_err(|error| match error {
            log::Error::Directory { .. } => Error::invalid("sandbox_config.log_directory", error.to_string()),
            _ => Error::invalid("config.log_path", error.to_string()),
        })?;
        Ok(path.to_string())
    }
}

/// The content of a seccomp profile; an AppArmor profile must be in the kernel's list. Privileged containers have neither.
fn profiles(context: Option<&cri::LinuxContainerSecurityContext>, node: &Node, loaded: &str) -> Result<Option<String>> {
    const AT: &str = "config.linux.security_context";
    let Some(context) = context.filter(|context| !context.privileged) else { return Ok(None) };
    #[expect(deprecated, reason = "the kubelet still sends them beside their successors, old clients alone")]
    let (apparmor, seccomp) = (&context.apparmor_profile, &context.seccomp_profile_path);
    let name = apparmor_name(context.apparmor.as_ref(), apparmor);
    found::check_apparmor(&format!("{AT}.apparmor.localhost_ref"), name, node, loaded)?;
    let file = seccomp_file(context.seccomp.as_ref(), seccomp);
    read_seccomp(&format!("{AT}.seccomp.localhost_ref"), file)
}

/// A container can only join a sandbox that is there.
fn ready(daemon: &Daemon, sandbox: &Sandbox) -> Result<Arc<Sandbox>> {
    let now = daemon.index.table().sandbox(sandbox.id.as_str())?;
    if now.ready && now.pid > 0 {
        return Ok(now);
    }
    if now.ready {
        return Err(Error::Unavailable(format!("sandbox {} can't be inspected yet; try again", now.docker_name)));
    }
    Err(Error::FailedPrecondition(format!("sandbox {} is not ready", now.docker_name)))
}

/// Who holds the name: the result of an equal request, something dead that is cleared away, or somebody else.
async fn find_holder(daemon: &Daemon, docker_name: &str, fingerprint: &str) -> Result<Option<String>> {
    let holder = daemon.index.table().container_named(docker_name);
    match holder {
        None => Ok(None),
        Some(holder) if holder.fingerprint == fingerprint && holder.state != State::Exited => {
            Ok(Some(holder.id.to_string()))
        }
        Some(holder) => match daemon.delete_unless_running(&holder).await? {
            true => Ok(None),
            false => Err(Error::AlreadyExists(format!(
                "container {} holds the name {docker_name} and was made by a different request",
                holder.id
            ))),
        },
    }
}

/// The image that the request names. The kubelet has pulled it, but it may have been pruned since.
async fn image(daemon: &Daemon, spec: Option<cri::ImageSpec>) -> Result<Arc<ImageFacts>> {
    let name = daemon.image_of("config.image", spec)?;
    let found = daemon.image_named("config.image.image", &name).await?;
    found.ok_or(Error::NotFound { kind: Kind::Image, id: name })
}

/// Creates; a name held by something dead is cleared once. An image that the cache believed to be there is looked for again.
async fn send(daemon: &Daemon, create: &Create, image: &ImageFacts) -> Result<String> {
    let doing = || format!("create container {}", create.name);
    match daemon.engine.create(&create.name, create.body.clone()).await {
        Ok(id) => Ok(id),
        Err(EngineError::Conflict { message }) => {
            daemon.clear_name(&create.name, &message).await?;
            daemon.engine.create(&create.name, create.body.clone()).await.map_err(|error| error.while_doing(doing()))
        }
        Err(error) if error.is_not_found() => {
            let there = daemon.index.images().refresh(image.id.as_str()).await;
            match there.map_err(|error| error.while_doing(doing()))? {
                None => Err(Error::NotFound { kind: Kind::Image, id: image.id.to_string() }),
                Some(_) => Err(error.while_doing(doing())),
            }
        }
        Err(error) => Err(error.while_doing(doing())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::node::tests::node;

    fn localhost(localhost_ref: &str) -> Option<cri::SecurityProfile> {
        let profile_type = cri::security_profile::ProfileType::Localhost.into();
        Some(cri::SecurityProfile { profile_type, localhost_ref: localhost_ref.to_owned() })
    }

    #[test]
    fn an_apparmor_profile_must_be_loaded_and_a_seccomp_profile_there() {
        let list = std::env::temp_dir().join(format!("dockershim-apparmor-{}", std::process::id()));
        std::fs::write(&list, "docker-default (enforce)\nheld (complain)\n").unwrap();
        let list = list.display().to_string();
        let refused = |context: cri::LinuxContainerSecurityContext, node: &Node| {
            profiles(Some(&context), node, &list).err().map(|error| error.to_string()).unwrap_or_default()
        };
        let apparmor =
            |name: &str| cri::LinuxContainerSecurityContext { apparmor: localhost(name), ..Default::default() };
        let field = "config.linux.security_context.apparmor.localhost_ref: ";
        assert!(refused(apparmor("missing"), &node()).starts_with(field));
        assert_eq!(refused(apparmor("held"), &node()), "");
        assert_eq!(refused(apparmor("missing"), &Node { apparmor: false, ..node() }), "", "nobody applies it");
        let privileged = cri::LinuxContainerSecurityContext { privileged: true, ..apparmor("missing") };
        assert_eq!(refused(privileged, &node()), "");
        let seccomp = cri::LinuxContainerSecurityContext { seccomp: localhost("/no/such/file"), ..Default::default() };
        assert!(refused(seccomp, &node()).starts_with("config.linux.security_context.seccomp.localhost_ref: "));
        std::fs::remove_file(&list).unwrap();
        assert_eq!(refused(apparmor("missing"), &node()), "", "without a list the engine has the word");
    }
}
