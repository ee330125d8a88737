//! What the translation must know of node and engine, and what it makes. Plain values.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, RestartPolicy,
    RestartPolicyNameEnum,
};

use crate::engine::feature::{ApiVersion, Feature};
use crate::error::{Error, Result};

/// Who makes pod networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// CNI plugins.
    Cni,
    /// The Engine's own bridge.
    Bridge,
}

/// How cgroups are named and made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    /// Slices and scopes.
    Systemd,
    /// Paths.
    Cgroupfs,
}

/// The bounded json-file spool that the log pump reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Of one file.
    pub max_size_bytes: u64,
    /// Files kept, the one being written included.
    pub max_files: u32,
}

/// Node and engine.
#[derive(Clone, Debug)]
pub struct Node {
    /// API version agreed on.
    pub api: ApiVersion,
    /// The engine's.
    pub cgroup_driver: CgroupDriver,
    /// Unified hierarchy.
    pub cgroup_v2: bool,
    /// OOM scores below it are raised to it.
    pub oom_score_floor: Option<i64>,
    /// The engine applies AppArmor profiles.
    pub apparmor: bool,
    /// The engine applies SELinux labels.
    pub selinux: bool,
    /// The engine applies seccomp profiles.
    pub seccomp: bool,
    /// The engine looks for CDI devices.
    pub cdi: bool,
    /// Names of the engine's runtimes.
    pub runtimes: Vec<String>,
    /// Spool of container logs.
    pub log: LogOptions,
}

impl Node {
    /// Refuses a field that this engine is too old for.
    pub fn need(&self, field: &str, feature: Feature) -> Result<()> {
        if self.api.has(feature) {
            return Ok(());
        }
        Err(Error::Unimplemented(format!(
            "{field}: needs engine API {} or later, this engine has {}",
            feature.since(),
            self.api
        )))
    }

    /// Whether a runtime handler is one of the engine's, or its default by one of its names.
    pub fn has_handler(&self, handler: &str) -> bool {
        DEFAULT_HANDLERS.contains(&handler) || self.runtimes.iter().any(|runtime| runtime == handler)
    }

    /// An OOM score as the engine can set it.
    pub fn oom_score(&self, wanted: i64) -> i64 {
        self.oom_score_floor.map_or(wanted, |floor| wanted.max(floor))
    }

    /// The namespace of cgroups: private on the unified hierarchy, but for privileged containers; as containerd's CRI does.
    pub fn cgroupns(&self, privileged: bool) -> HostConfigCgroupnsModeEnum {
        if self.cgroup_v2 && !privileged {
            HostConfigCgroupnsModeEnum::PRIVATE
        } else {
            HostConfigCgroupnsModeEnum::HOST
        }
    }

    /// The parent cgroup as the engine's driver wants it: with systemd a slice's name alone.
    pub fn cgroup_parent(&self, parent: &str) -> Option<String> {
        let parent = match self.cgroup_driver {
            CgroupDriver::Cgroupfs => parent,
            CgroupDriver::Systemd => parent.rsplit('/').next().unwrap_or_default(),
        };
        (!parent.is_empty()).then(|| parent.to_owned())
    }
}

/// The engine's default runtime: no name, and the one that RuntimeClasses used for it.
const DEFAULT_HANDLERS: [&str; 2] = ["", "docker"];

/// What `POST /containers/create` is sent.
#[derive(Clone, Debug)]
pub struct Create {
    /// Docker's name of the container.
    pub name: String,
    /// The request's body.
    pub body: ContainerCreateBody,
}

/// Size of `/dev/shm`, as every runtime gives it.
const SHM_BYTES: i64 = 64 << 20;

/// What the daemon's configuration could put into a container, set so that it can't.
pub(super) fn pinned() -> HostConfig {
    HostConfig {
        init: Some(false),
        shm_size: Some(SHM_BYTES),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        auto_remove: Some(false),
        ..HostConfig::default()
    }
}

/// Kubernetes has probes of its own: an image's health check never runs.
pub(super) fn no_health_check() -> Option<HealthConfig> {
    Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() })
}

/// The json-file driver with every option set, so that none of the daemon's defaults apply.
pub(super) fn spool(log: LogOptions) -> HostConfigLogConfig {
    let options = [
        ("max-size", log.max_size_bytes.to_string()),
        ("max-file", log.max_files.to_string()),
        ("mode", "blocking".to_owned()),
        ("compress", "false".to_owned()),
        ("labels", String::new()),
        ("labels-regex", String::new()),
        ("env", String::new()),
        ("env-regex", String::new()),
        ("tag", String::new()),
    ];
    let config: HashMap<String, String> = options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(config) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A cgroup v2 node with a recent engine.
    pub(crate) fn node() -> Node {
        Node {
            api: ApiVersion { major: 1, minor: 48 },
            cgroup_driver: CgroupDriver::Systemd,
            cgroup_v2: true,
            oom_score_floor: None,
            apparmor: true,
            selinux: false,
            seccomp: true,
            cdi: true,
            runtimes: vec!["runc".to_owned(), "crun".to_owned()],
            log: LogOptions { max_size_bytes: 16 << 20, max_files: 4 },
        }
    }

    #[test]
    fn a_cgroup_parent_becomes_what_the_driver_takes() {
        let mut node = node();
        let path = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice";
        assert_eq!(node.cgroup_parent(path).as_deref(), Some("kubepods-burstable-pod1.slice"));
        node.cgroup_driver = CgroupDriver::Cgroupfs;
        assert_eq!(node.cgroup_parent("/kubepods/pod1").as_deref(), Some("/kubepods/pod1"));
        assert_eq!(node.cgroup_parent(""), None);
    }

    #[test]
    fn scores_are_raised_only_to_the_floor() {
        let mut node = node();
        assert_eq!(node.oom_score(-998), -998);
        node.oom_score_floor = Some(0);
        assert_eq!(node.oom_score(-998), 0);
        assert_eq!(node.oom_score(1000), 1000);
    }

    #[test]
    fn a_missing_feature_names_the_version_that_has_it() {
        let old = Node { api: ApiVersion::OLDEST, ..node() };
        let error = old.need("config.mounts[0].image", Feature::ImageMount).unwrap_err().to_string();
        assert!(error.contains("1.48") && error.contains("1.41"), "{error}");
    }
}
