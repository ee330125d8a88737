//! RuntimeConfig and UpdateRuntimeConfig: the cgroup driver told to the kubelet, the pod CIDR told by it.

use crate::cni::PodCidrs;
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

/// Takes the node's pod CIDR, for CNI plugins that want it (`ipRanges`): from now on, also after a restart, it counts instead of
/// `--pod-cidr`. An empty one changes nothing.
pub fn update_runtime_config(
    daemon: &Daemon,
    request: cri::UpdateRuntimeConfigRequest,
) -> Result<cri::UpdateRuntimeConfigResponse> {
    let cri::UpdateRuntimeConfigRequest { runtime_config } = request;
    let network = runtime_config.and_then(|cri::RuntimeConfig { network_config }| network_config);
    if let Some(cri::NetworkConfig { pod_cidr }) = network
        && !pod_cidr.is_empty()
    {
        let field = "runtime_config.network_config.pod_cidr";
        let cidrs = PodCidrs::parse(&pod_cidr).map_err(|reason| Error::invalid(field, reason))?;
        tracing::info!(pod_cidr, "pod CIDR told by the kubelet");
        daemon.told.keep_pod_cidrs(&pod_cidr);
        daemon.cni.set_pod_cidrs(cidrs);
    }
    Ok(cri::UpdateRuntimeConfigResponse {})
}
