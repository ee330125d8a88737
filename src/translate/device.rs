//! Devices of a container, by path and by CDI name. Pure.

use bollard::models::{DeviceMapping, DeviceRequest};

use super::node::Node;
use crate::cri;
use crate::engine::feature::Feature;
use crate::error::{Error, Result};

/// What a device that says nothing of permissions is for: Docker itself would allow nothing.
const ALL: &str = "rwm";

/// As Docker's `Devices`. A directory stands for the devices in it: the Engine walks it.
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
        if !container_path.is_empty() && !container_path.starts_with('/') {
            return Err(Error::invalid(at("container_path"), format!("{container_path:?} is not an absolute path")));
        }
        let permissions = if permissions.is_empty() { ALL } else { permissions };
        Ok(DeviceMapping {
            path_on_host: Some(host_path.clone()),
            path_in_container: Some(if container_path.is_empty() { host_path } else { container_path }.clone()),
            cgroup_permissions: Some(permissions.to_owned()),
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
    if !node.cdi {
        return Err(Error::FailedPrecondition(
            "config.CDI_devices: CDI is off in this engine; Docker 25 to 28.1 have it with \"features\": {\"cdi\": true} in \
             daemon.json"
                .to_owned(),
        ));
    }
    if let Some(index) = devices.iter().position(|cri::CdiDevice { name }| !is_cdi_name(name)) {
        let reason = format!("{:?} is not a name such as vendor.com/class=device", devices[index].name);
        return Err(Error::invalid(format!("config.CDI_devices[{index}].name"), reason));
    }
    let names = devices.iter().map(|cri::CdiDevice { name }| name.clone()).collect();
    let driver = Some("cdi".to_owned());
    Ok(vec![DeviceRequest { driver, device_ids: Some(names), ..DeviceRequest::default() }])
}

/// `vendor/class=device`, none of them empty.
fn is_cdi_name(name: &str) -> bool {
    let parts = name.split_once('/').and_then(|(vendor, rest)| Some((vendor, rest.split_once('=')?)));
    parts.is_some_and(|(vendor, (class, device))| ![vendor, class, device].contains(&""))
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
        assert_eq!(mapped[0].cgroup_permissions.as_deref(), Some("rw"));
        assert_eq!(mappings(&[device("/dev/fuse", "")]).unwrap()[0].cgroup_permissions.as_deref(), Some("rwm"));
    }

    #[test]
    fn bad_devices_are_refused_by_field() {
        let relative = cri::Device { container_path: "fuse".into(), ..device("/dev/fuse", "r") };
        for (bad, at) in [
            (device("fuse", "r"), "host_path"),
            (device("/dev/fuse", "rx"), "permissions"),
            (relative, "container_path"),
        ] {
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
        let off = Node { cdi: false, ..node() };
        assert!(requests(&devices, &off).unwrap_err().to_string().contains("daemon.json"));
        for bad in ["", "gpu", "vendor.com/gpu", "vendor.com/=0", "/gpu=0", "vendor.com/gpu="] {
            let error = requests(&[cri::CdiDevice { name: bad.to_owned() }], &node()).unwrap_err().to_string();
            assert!(error.starts_with("config.CDI_devices[0].name: "), "{error}");
        }
    }
}
