//! Pods' network: a CNI configuration whose plugins are there, and a kernel that forwards. Pure.

use super::facts::{Facts, Network};
use super::finding::{Check, Finding, Group, Judged, Skip};

pub(super) const GROUP: Group = Group {
    name: "network",
    checks: &[
        Check::new("NET-01", "a CNI network is configured, and its plugins are there", configured),
        Check::new("NET-02", "the node forwards packets", forwards),
        Check::new("NET-03", "CNI plugins find iptables or nft", packet_filter),
        Check::new("NET-04", "no address is held for a pod that is gone", leases),
    ],
};

/// Files that one finding names.
const NAMED: usize = 3;

impl Facts {
    /// The network of CNI that can be used.
    fn usable_network(&self) -> Result<&Network, Skip> {
        match &self.network {
            None => Err(Skip::because("pods are on Docker's own bridge (--network-plugin)")),
            Some(Err(_)) => Err(Skip::because("no CNI configuration can be used (NET-01)")),
            Some(Ok(network)) => Ok(network),
        }
    }
}

fn configured(facts: &Facts) -> Judged {
    if let Some(Err(cause)) = &facts.network {
        let next = "install a network (such as flannel or calico), or for this machine alone: dockershim --network-plugin bridge";
        return Ok(Finding::failed(cause.as_str(), next));
    }
    let survey = &facts.usable_network()?.survey;
    let seen = format!("{} ({}, CNI {}): {}", survey.network, survey.file, survey.version, survey.plugins.join(", "));
    if !survey.absent.is_empty() {
        let next = "apt-get install containernetworking-plugins, and --cni-bin-dir=/opt/cni/bin,/usr/lib/cni";
        return Ok(Finding::failed(format!("{seen}; {}", survey.absent.join("; ")), next));
    }
    if !survey.faults.is_empty() {
        let conf = facts.config.cni.conf.display();
        let cause = format!("{seen}; files before it can't be used: {}", survey.faults.join("; "));
        return Ok(Finding::warning(cause, format!("ls -l {conf}")));
    }
    Ok(Finding::ok(seen))
}

fn forwards(facts: &Facts) -> Judged {
    let persist = "/etc/sysctl.d/90-kubernetes.conf";
    if facts.node.ip_forward == Some(false) {
        return Ok(Finding::failed(
            "net.ipv4.ip_forward is 0: pods reach nothing outside of this node",
            format!("echo net.ipv4.ip_forward=1 >>{persist} && sysctl --system"),
        ));
    }
    let bridged = "packets between pods on a bridge pass by iptables, and services may not work";
    match facts.node.bridge_calls_iptables {
        Some(true) => Ok(Finding::ok("ip_forward and bridge-nf-call-iptables are 1")),
        Some(false) => Ok(Finding::warning(
            format!("net.bridge.bridge-nf-call-iptables is 0: {bridged}"),
            format!("echo net.bridge.bridge-nf-call-iptables=1 >>{persist} && sysctl --system"),
        )),
        None => Ok(Finding::warning(
            format!("the module br_netfilter isn't loaded: {bridged}"),
            "echo br_netfilter >/etc/modules-load.d/kubernetes.conf && modprobe br_netfilter",
        )),
    }
}

fn packet_filter(facts: &Facts) -> Judged {
    let survey = &facts.usable_network()?.survey;
    if !survey.filters {
        return Err(Skip::because(format!("no plugin of {} needs them", survey.network)));
    }
    if facts.node.has_packet_filter {
        return Ok(Finding::ok("there is one"));
    }
    Ok(Finding::failed(
        format!("plugins of {} run them for host ports and masquerading, and neither is installed", survey.network),
        "apt-get install iptables",
    ))
}

fn leases(facts: &Facts) -> Judged {
    let (network, containers) = (facts.usable_network()?, facts.containers()?);
    let gone = network.leases.iter().filter(|lease| !containers.iter().any(|known| known.id == lease.container));
    let gone: Vec<_> = gone.map(|lease| lease.file.display().to_string()).collect();
    if gone.is_empty() {
        return Ok(Finding::ok(format!("{} held, each for a container that is there", network.leases.len())));
    }
    let some = gone.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(" ");
    let more = if gone.len() > NAMED { " …" } else { "" };
    Ok(Finding::warning(
        format!(
            "{} of {} are held for containers that the Engine doesn't have; when all are, no pod gets one",
            gone.len(),
            network.leases.len()
        ),
        format!("unless another runtime uses this network: rm {some}{more}"),
    ))
}
