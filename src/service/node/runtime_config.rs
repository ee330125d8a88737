//! RuntimeConfig and UpdateRuntimeConfig: the cgroup driver told to the kubelet, the pod CIDR told by it.

use crate::cri;
use crate::error::{Error, Result};
use crate::service::Daemon;
use crate::translate::node::CgroupDriver;

/// Answers RuntimeConfig from the engine's `/info`; `Unavailable` when the engine has never been reached, and isn't within 2 s.
pub async fn runtime_config(daemon: &Daemon, request: cri::RuntimeConfigRequest) -> Result<cri::RuntimeConfigResponse> {
    let cri::RuntimeConfigRequest {} = request;
    if daemon.index.facts().is_none() {
        daemon.index.synced().await?;
    }
    let driver = match daemon.node()?.cgroup_driver {
        CgroupDriver::Systemd => cri::CgroupDriver::Systemd,
        CgroupDriver::Cgroupfs => cri::CgroupDriver::Cgroupfs,
    };
    let linux = Some(cri::LinuxRuntimeConfiguration { cgroup_driver: driver.into() });
    Ok(cri::RuntimeConfigResponse { linux })
}

/// Takes the node's pod CIDR, for CNI plugins that want it (`ipRanges`). An empty one changes nothing.
pub fn update_runtime_config(
    daemon: &Daemon,
    request: cri::UpdateRuntimeConfigRequest,
) -> Result<cri::UpdateRuntimeConfigResponse> {
    let cri::UpdateRuntimeConfigRequest { runtime_config } = request;
    let network = runtime_config.and_then(|cri::RuntimeConfig { network_config }| network_config);
    if let Some(cri::NetworkConfig { pod_cidr }) = network
        && !pod_cidr.is_empty()
    {
        for cidr in pod_cidr.split(',') {
            check_cidr(cidr)?;
        }
        tracing::info!(pod_cidr, "pod CIDR told by the kubelet");
        daemon.cni.set_pod_cidr(&pod_cidr);
    }
    Ok(cri::UpdateRuntimeConfigResponse {})
}

fn check_cidr(text: &str) -> Result<()> {
    let wrong = || Error::invalid("runtime_config.network_config.pod_cidr", format!("{text:?} is not a CIDR"));
    let (address, length) = text.trim().split_once('/').ok_or_else(wrong)?;
    let address: std::net::IpAddr = address.parse().map_err(|_| wrong())?;
    let length: u8 = length.parse().map_err(|_| wrong())?;
    if length > if address.is_ipv4() { 32 } else { 128 } { Err(wrong()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cidrs_are_taken_for_cidrs() {
        for good in ["10.1.0.0/24", "fd00::/64", " 10.0.0.0/8"] {
            assert!(check_cidr(good).is_ok(), "{good}");
        }
        for bad in ["10.1.0.0", "10.1.0.0/33", "x/8", "fd00::/129", "/"] {
            assert!(check_cidr(bad).is_err(), "{bad}");
        }
    }
}
