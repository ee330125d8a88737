//! Sockets: ours, those of others that kubeadm finds instead, where the kubelet goes, and where streams are served. Pure.

use super::facts::{Answer, Facts, Socket, SocketFile, canonical};
use super::finding::{Check, Finding, Group, Judged, Skip};
use crate::server::{CRI_DOCKERD, LONGEST_PATH};

pub(super) const GROUP: Group = Group {
    name: "sockets",
    checks: &[
        Check::new("SOCK-01", "our socket answers, but not to everybody", own),
        Check::new("SOCK-02", "no other CRI socket is in the way", others),
        Check::new("SOCK-03", "the kubelet points at us", kubelet),
        Check::new("SOCK-04", "streams are served on loopback", streams),
    ],
};

/// Where a kubelet goes that is told nothing.
const KUBELET_DEFAULT: &str = "unix:///run/containerd/containerd.sock";
/// The runtime's name that Docker's adapters tell.
const RUNTIME: &str = "docker";
/// What tells why we don't answer.
const START: &str = "systemctl status dockershim.socket dockershim.service; journalctl --unit dockershim";

fn own(facts: &Facts) -> Judged {
    let judged = facts.sockets.ours.iter().map(|socket| judge_own(facts, socket));
    // the worst, and of equals the first
    let worst = judged.rev().max_by_key(|finding| finding.verdict);
    worst.ok_or_else(|| Skip::because("there is none"))
}

fn judge_own(facts: &Facts, socket: &Socket) -> Finding {
    let path = socket.path.display();
    if socket.path.as_os_str().len() > LONGEST_PATH {
        let cause = format!("{path} is longer than {LONGEST_PATH} bytes, which no socket's path can be");
        return Finding::failed(cause, "dockershim --container-runtime-endpoint=unix:///run/dockershim.sock");
    }
    let Some(SocketFile { is_socket, mode, owner }) = socket.file else {
        return if facts.pre {
            Finding::ok(format!("nothing is in its place ({path})"))
        } else {
            Finding::failed(format!("there is no {path}: dockershim doesn't run, or serves elsewhere"), START)
        };
    };
    if !is_socket {
        return Finding::failed(format!("{path} is there, and no socket"), format!("ls -l {path}"));
    }
    if !facts.trusts(owner) {
        let cause = format!("{path} belongs to user {owner}, who can do to pods what he likes");
        return Finding::failed(cause, format!("rm {path} && systemctl restart dockershim.socket dockershim.service"));
    }
    if mode & 0o007 != 0 {
        let cause = format!("{path} has mode {mode:04o}: everybody on this node can be root through it");
        return Finding::failed(cause, format!("chmod 0660 {path}"));
    }
    match &socket.answer {
        Answer::NotAsked => Finding::ok(format!("{path}, mode {mode:04o}")),
        Answer::Nobody(cause) => Finding::failed(format!("nobody answers on {path}: {cause}"), START),
        Answer::Runtime { name, version, ours: true } => {
            Finding::ok(format!("{path}, mode {mode:04o}: {name} {version}"))
        }
        Answer::Runtime { name, version, ours: false } => Finding::failed(
            format!("{name} {version} answers on {path}, and it is no dockershim of this make"),
            format!("ss --listening --processes --unix src {path}"),
        ),
    }
}

fn others(facts: &Facts) -> Judged {
    let ours = |socket: &&Socket| matches!(socket.answer, Answer::Runtime { ours: true, .. });
    let others: Vec<&Socket> = facts.sockets.others.iter().filter(|socket| !ours(socket)).collect();
    if let Some(finding) = rival(facts, &others) {
        return Ok(finding);
    }
    if others.is_empty() {
        return Ok(Finding::ok(format!("none; for kubeadm: criSocket: {}", facts.our_endpoint())));
    }
    let paths: Vec<_> = others.iter().map(|socket| socket.path.display().to_string()).collect();
    let seen = format!("{} is there too", paths.join(", "));
    if facts.kubelet.endpoint.as_ref().is_some_and(|told| is_ours(facts, &told.value)) {
        return Ok(Finding::ok(format!("{seen}; the kubelet is told of ours (criSocket: {})", facts.our_endpoint())));
    }
    let endpoint = facts.our_endpoint();
    Ok(Finding::warning(
        format!("{seen}: kubeadm takes it for the runtime, or stops with \"Found multiple CRI endpoints\""),
        format!(
            "kubeadm join --cri-socket {endpoint}, or in its configuration:\n\
             nodeRegistration:\n  criSocket: {endpoint}\n\
             and the kubelet's own, if it isn't kubeadm's:\n\
             containerRuntimeEndpoint: {endpoint}\n\
             (as a flag: --container-runtime-endpoint={endpoint})"
        ),
    ))
}

/// Another adapter for Docker, which would take our pods for its own.
fn rival(facts: &Facts, others: &[&Socket]) -> Option<Finding> {
    let stop = "systemctl disable --now cri-docker.socket cri-docker.service";
    if facts.config.allow_other_adapter {
        return None;
    }
    for socket in others {
        if let Answer::Runtime { name, version, .. } = &socket.answer
            && name == RUNTIME
        {
            let path = socket.path.display();
            let cause =
                format!("another CRI adapter for Docker {version} answers on {path}: two take each other's pods");
            return Some(Finding::failed(cause, stop));
        }
    }
    let pid = facts.node.process("cri-dockerd")?.pid;
    Some(if facts.pre {
        let cause =
            format!("cri-dockerd runs (process {pid}), and dockershim doesn't start beside it; its pods run on");
        Finding::warning(cause, stop)
    } else {
        Finding::failed(format!("cri-dockerd runs (process {pid}): two adapters take each other's pods"), stop)
    })
}

fn kubelet(facts: &Facts) -> Judged {
    let kubelet = &facts.kubelet;
    let endpoint = facts.our_endpoint();
    let cause = match &kubelet.endpoint {
        Some(told) if is_ours(facts, &told.value) => {
            return Ok(Finding::ok(format!("{} ({})", told.value, told.place)));
        }
        Some(told) => format!("it uses {} ({})", told.value, told.place),
        None => {
            facts.kubelet_is_known()?;
            format!("it isn't told, and uses {KUBELET_DEFAULT}")
        }
    };
    let next = format!(
        "containerRuntimeEndpoint: {endpoint}\nin {} (as a flag: --container-runtime-endpoint={endpoint}), then: systemctl restart kubelet",
        kubelet.path.display()
    );
    Ok(if facts.pre { Finding::warning(cause, next) } else { Finding::failed(cause, next) })
}

/// Whether an endpoint leads to us. cri-dockerd's name does when we answer there, or may be expected to.
fn is_ours(facts: &Facts, endpoint: &str) -> bool {
    let path = canonical(endpoint);
    let serves = |socket: &Socket| match socket.answer {
        Answer::Runtime { ours, .. } => ours,
        Answer::NotAsked => facts.pre || facts.node.process("cri-dockerd").is_none(),
        Answer::Nobody(_) => false,
    };
    let ours = &facts.sockets.ours;
    let taken_over = || facts.sockets.others.iter().any(|other| other.path == path && serves(other));
    ours.iter().any(|own| canonical(&own.path.to_string_lossy()) == path)
        || (path.as_os_str() == CRI_DOCKERD && taken_over())
}

fn streams(facts: &Facts) -> Judged {
    let address = facts.config.streaming;
    if address.ip().is_loopback() {
        return Ok(Finding::ok(address.ip().to_string()));
    }
    Ok(Finding::warning(
        format!(
            "{address} can be reached from outside, and exec, attach and port-forward have a token alone to protect them"
        ),
        "dockershim --streaming-bind-addr=127.0.0.1",
    ))
}
