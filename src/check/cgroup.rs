//! Cgroups: one tree for Engine and kubelet, with the controllers that limits need. Pure.

use super::facts::{Cgroups, Facts};
use super::finding::{Check, Finding, Group, Judged};

pub(super) const GROUP: Group = Group {
    name: "cgroups",
    checks: &[
        Check::new("CG-01", "the kubelet has the Engine's cgroup driver", driver),
        Check::new("CG-02", "the cgroup controllers are there", controllers),
    ],
};

/// The driver of a kubelet that is told none.
const KUBELET_DEFAULT: &str = "cgroupfs";
/// What pods' limits are made of.
const NEEDED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

fn driver(facts: &Facts) -> Judged {
    let engines = facts.info()?.cgroup_driver.as_str();
    if !["systemd", "cgroupfs"].contains(&engines) {
        let cause = format!("the Engine makes no cgroups of a kind that the kubelet knows: its driver is {engines:?}");
        return Ok(Finding::failed(cause, "docker info --format '{{.CgroupDriver}} {{.CgroupVersion}}'"));
    }
    let kubelet = &facts.kubelet;
    let path = kubelet.path.display();
    let next = format!("cgroupDriver: {engines}\nin {path}, then: systemctl restart kubelet");
    match &kubelet.cgroup_driver {
        Some(told) if told.value == engines => Ok(Finding::ok(format!("both use {engines}"))),
        Some(told) => Ok(Finding::warning(
            format!(
                "the Engine uses {engines}, and the kubelet is told {} ({}): before Kubernetes 1.31, which asks for it, pods don't start",
                told.value, told.place
            ),
            next,
        )),
        None => {
            facts.kubelet_is_known()?;
            Ok(if engines == KUBELET_DEFAULT {
                Finding::ok(format!("both use {engines}, the kubelet by default"))
            } else {
                Finding::warning(
                    format!(
                        "the Engine uses {engines}; a kubelet before 1.31 that isn't told so uses {KUBELET_DEFAULT}"
                    ),
                    next,
                )
            })
        }
    }
}

fn controllers(facts: &Facts) -> Judged {
    let Some(Cgroups { unified, controllers }) = &facts.node.cgroups else {
        return Ok(Finding::failed("nothing is mounted at /sys/fs/cgroup", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"));
    };
    let missing: Vec<_> = NEEDED.into_iter().filter(|name| !controllers.contains(*name)).collect();
    if !missing.is_empty() {
        return Ok(Finding::failed(
            format!("no controller for {}: limits of pods can't be kept", missing.join(", ")),
            "add cgroup_enable=memory to the kernel's command line, and start the machine again",
        ));
    }
    let may_be_old = facts.kubelet.fail_cgroup_v1.as_ref().is_some_and(|told| told.value == "false");
    if *unified || may_be_old {
        return Ok(Finding::ok(if *unified { "version 2" } else { "version 1, which the kubelet is told to take" }));
    }
    Ok(Finding::warning(
        "version 1: a kubelet from 1.35 on doesn't start there unless it is told to",
        format!("failCgroupV1: false\nin {}, then: systemctl restart kubelet", facts.kubelet.path.display()),
    ))
}
