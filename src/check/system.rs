//! The system under it all: kernel, clock, limits, swap. Pure.

use super::facts::Facts;
use super::finding::{Check, Finding, Group, Judged, Skip};

pub(super) const GROUP: Group = Group {
    name: "system",
    checks: &[
        Check::new("SYS-01", "the kernel has what pods need", kernel),
        Check::new("SYS-02", "the clock is kept", clock),
        Check::new("SYS-03", "files and watches suffice", limits),
        Check::new("SYS-04", "swap is as the kubelet wants it", swap),
    ],
};

/// The first kernel that tells of a process's end by a descriptor.
const PIDFD: (u32, u32) = (5, 3);
/// Programs that keep the clock.
const KEEPERS: [&str; 6] = ["systemd-timesyncd", "chronyd", "ntpd", "ntpsec", "openntpd", "phc2sys"];
/// Each container's log takes two descriptors, each stream some.
const LEAST_FILES: u64 = 4096;

fn kernel(facts: &Facts) -> Judged {
    let release = &facts.node.kernel;
    let Some(version) = version(release) else {
        return Ok(Finding::warning(format!("the kernel's version {release:?} can't be read"), "uname -r"));
    };
    if version < PIDFD {
        let cause = format!("Linux {release} is older than 5.3: a container's end is seen late when its event is lost");
        return Ok(Finding::warning(cause, "install a newer kernel"));
    }
    let Ok(info) = facts.info() else { return Ok(Finding::ok(format!("Linux {release}"))) };
    let has = |name: &str| info.security_options.iter().any(|option| option.starts_with(&format!("name={name}")));
    if !has("seccomp") {
        return Ok(Finding::warning(
            "the Engine has no seccomp: pods that ask for a profile don't start, all others make any system call",
            "docker info --format '{{.SecurityOptions}}'",
        ));
    }
    if facts.node.apparmor && !has("apparmor") {
        return Ok(Finding::warning(
            "the kernel has AppArmor on, and the Engine can't use it: pods that ask for a profile don't start",
            "apt-get install apparmor && systemctl restart docker",
        ));
    }
    let apparmor = if has("apparmor") { ", AppArmor" } else { "" };
    Ok(Finding::ok(format!("Linux {release}, seccomp{apparmor}")))
}

/// `6.1.0-13-amd64` → 6.1.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn clock(facts: &Facts) -> Judged {
    if let Some(keeper) = KEEPERS.into_iter().find(|name| facts.node.process(name).is_some()) {
        return Ok(Finding::ok(format!("by {keeper}")));
    }
    if facts.node.clock_was_set {
        return Ok(Finding::ok("systemd has set it"));
    }
    Ok(Finding::warning(
        "no program is seen that sets it: with a wrong one certificates, leases and logs are wrong, too",
        "apt-get install systemd-timesyncd, or chrony; timedatectl",
    ))
}

fn limits(facts: &Facts) -> Judged {
    let (used, limit) = facts.node.inotify;
    // at nine tenths the next few containers or `kubectl logs -f` reach it
    if let Some(limit) = limit.filter(|limit| used.saturating_mul(10) >= limit.saturating_mul(9)) {
        return Ok(Finding::warning(
            format!("{used} of {limit} inotify instances are in use; without them logs can't be followed"),
            "echo fs.inotify.max_user_instances=8192 >>/etc/sysctl.d/90-kubernetes.conf && sysctl --system",
        ));
    }
    let holder = facts.state.holder.as_ref();
    if let Some((pid, files)) = holder.and_then(|holder| Some((holder.pid, holder.open_files?)))
        && files < LEAST_FILES
    {
        return Ok(Finding::warning(
            format!("dockershim (process {pid}) may open {files} files, enough for some {} containers", files / 4),
            "systemctl edit dockershim: LimitNOFILE=1048576 in [Service], then: systemctl restart dockershim",
        ));
    }
    let of = limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
    Ok(Finding::ok(format!("{used}{of} inotify instances in use")))
}

fn swap(facts: &Facts) -> Judged {
    let swap = &facts.node.swap;
    if swap.is_empty() {
        return Ok(Finding::ok("there is none"));
    }
    let seen = format!("swap is on ({})", swap.join(", "));
    if facts.kubelet.fail_swap_on.as_ref().is_some_and(|told| told.value == "false") {
        return Ok(Finding::ok(format!("{seen}, and the kubelet is told to take it")));
    }
    if let (None, Some(unread)) = (&facts.kubelet.fail_swap_on, &facts.kubelet.unread) {
        return Err(Skip::because(unread.clone()));
    }
    let cause = format!("{seen}: a kubelet doesn't start there unless it is told to");
    let path = facts.kubelet.path.display();
    let next = format!("swapoff --all, and remove it from /etc/fstab; or to keep it:\nfailSwapOn: false\nin {path}");
    Ok(if facts.kubelet.seen { Finding::failed(cause, next) } else { Finding::warning(cause, next) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_version_is_its_first_two_numbers() {
        assert_eq!(version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(version("5.15-generic"), Some((5, 15)));
        for text in ["", "x", "6", "six.one"] {
            assert_eq!(version(text), None, "{text}");
        }
    }
}
