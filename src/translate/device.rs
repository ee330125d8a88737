//! Devices of a container, by path and by CDI name. Pure.

use bollard::models::{DeviceMapping, DeviceRequest};

use super::node::Node;
use crate::cri;
use crate::engine::feature::Feature;
use crate::error::{Error, Result};

/// As Docker's `Devices`.
pub(super) fn mappings(devices: &[cri::Device]) -> Result<Vec<DeviceMapping>> {
    let checked = devices.iter().enumerate().map(|(index, device)| {
        let at = |field: &str| format!("config.devices[{index}].{field}");
        let cri::Device { container_path, host_path, permissions } = device;
        if !host_path.starts_with('/') {
            return Err(Error::invalid(at("host_path"), format!("{host_path:?} is not an absolute path")));
        }
        if !permissions.chars().all(|c| matches!(c, 'r' | 'w' | 'm')) {
            return Err(Error::invalid(at("permissions"), format!("{permissions:?} has other letters than r, w, m")));
        }
        Ok(DeviceMapping {
            path_on_host: Some(host_path.clone()),
            path_in_container: Some(if container_path.is_empty() { host_path } else { container_path }.clone()),
            cgroup_permissions: Some(permissions.clone()),
        })
    });
    checked.collect()
}

/// As requests of Docker's `cdi` driver.
pub(super) fn requests(devices: &[cri::CdiDevice], node: &Node) -> Result<Vec<DeviceRequest>> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    node.need("config.CDI_devices", Feature::Cdi)?;
    let names = devices.iter().map(|cri::CdiDevice { name }| name.clone()).collect();
    let driver = Some("cdi".to_owned());
    Ok(vec![DeviceRequest { driver, device_ids: Some(names), ..DeviceRequest::default() }])
}

#[cfg(test)]
mod tests {
    use super::super::node::tests::node;
    use super::*;
    use crate::engine::feature::ApiVersion;

    fn device(host_path: &str, permissions: &str) -> cri::Device {
        cri::Device { container_path: String::new(), host_path: host_path.into(), permissions: permissions.into() }
    }

    #[test]
    fn a_device_keeps_its_path_when_no_other_is_given() {
        let mapped = mappings(&[device("/dev/fuse", "rw")]).unwrap();
        assert_eq!(mapped[0].path_in_container.as_deref(), Some("/dev/fuse"));
    }

    #[test]
    fn bad_devices_are_refused_by_field() {
        for (bad, at) in [(device("fuse", "r"), "host_path"), (device("/dev/fuse", "rx"), "permissions")] {
            let error = mappings(&[bad]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.devices[0].{at}")), "{error}");
        }
    }

    #[test]
    fn cdi_names_need_an_engine_that_has_cdi() {
        let devices = [cri::CdiDevice { name: "vendor.com/gpu=0".to_owned() }];
        assert_eq!(requests(&devices, &node()).unwrap()[0].driver.as_deref(), Some("cdi"));
        let old = Node { api: ApiVersion::OLDEST, ..node() };
        assert!(requests(&devices, &old).unwrap_err().to_string().contains("config.CDI_devices"));
        assert!(requests(&[], &old).unwrap().is_empty());
    }
}
