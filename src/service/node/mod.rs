//! Verbs about the node itself, and what the translation must know of it.

mod figures;
pub mod runtime_config;
pub mod status;
mod told;
pub mod version;

use std::time::Duration;

use crate::cgroup;
use crate::config::RestrictOom;
use crate::error::{Error, Result};
use crate::translate::node::{CgroupDriver, Node};

use super::Daemon;
pub(super) use told::Told;

/// The score that lower ones are raised to, if any.
pub(super) fn oom_score_floor(restrict: RestrictOom) -> Option<i64> {
    match restrict {
        RestrictOom::Auto => cgroup::oom::oom_score_floor(),
        RestrictOom::Always => cgroup::oom::own_score(),
        RestrictOom::Never => None,
    }
}

impl Daemon {
    /// What the translation must know of node and engine; `Unavailable` until the engine has been reached once.
    pub fn node(&self) -> Result<Node> {
        let known = self.index.facts().zip(self.engine.api());
        let (facts, api) = known.ok_or_else(|| Error::Unavailable(self.index.health().explain()))?;
        let info = &facts.info;
        Ok(Node {
            api,
            cgroup_driver: cgroup_driver(&info.cgroup_driver)?,
            cgroup_v2: info.cgroup_version == "2",
            oom_score_floor: self.oom_score_floor,
            apparmor: info.security_options.iter().any(|option| option.contains("apparmor")),
            selinux: info.security_options.iter().any(|option| option.contains("selinux")),
            seccomp: info.security_options.iter().any(|option| option.contains("seccomp")),
            cdi: !info.cdi_spec_dirs.is_empty(),
            runtimes: info.runtimes.keys().cloned().collect(),
            log: self.config.log_spool,
        })
    }

    /// Limit of one inspect that an RPC waits for.
    pub(super) const INSPECT_LIMIT: Duration = Duration::from_secs(10);
}

/// A rootless engine has no driver, and is out of scope.
pub(super) fn cgroup_driver(text: &str) -> Result<CgroupDriver> {
    match text {
        "systemd" => Ok(CgroupDriver::Systemd),
        "cgroupfs" => Ok(CgroupDriver::Cgroupfs),
        other => Err(Error::FailedPrecondition(format!(
            "docker engine has cgroup driver {other:?}; only cgroupfs and systemd can run pods (is it rootless?)"
        ))),
    }
}
