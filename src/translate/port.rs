//! Host ports of a pod: for Docker's own network as bindings of the pause container, for CNI as plugin arguments. Pure.

use std::collections::{BTreeMap, HashMap};

use bollard::models::PortBinding;

use crate::cni;
use crate::cri;
use crate::engine::model;
use crate::error::{Error, Result};
use crate::index::model::HostPort;

/// One host port, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Published {
    protocol: &'static str,
    container_port: u16,
    host_port: u16,
    host_ip: String,
}

/// The mappings that publish a port: those with a host port.
fn published(mappings: &[cri::PortMapping]) -> Result<Vec<Published>> {
    let checked = mappings.iter().enumerate().map(|(index, mapping)| {
        let at = |field: &str| format!("config.port_mappings[{index}].{field}");
        let cri::PortMapping { protocol, container_port, host_port, host_ip } = mapping;
        let protocol = match cri::Protocol::try_from(*protocol) {
            Ok(cri::Protocol::Tcp) => "tcp",
            Ok(cri::Protocol::Udp) => "udp",
            Ok(cri::Protocol::Sctp) => "sctp",
            Err(_) => return Err(Error::invalid(at("protocol"), format!("{protocol} is unknown"))),
        };
        if !host_ip.is_empty() && host_ip.parse::<std::net::IpAddr>().is_err() {
            return Err(Error::invalid(at("host_ip"), format!("{host_ip:?} is not an address")));
        }
        let host_port = number(&at("host_port"), *host_port)?;
        let container_port = number(&at("container_port"), *container_port)?;
        if host_port > 0 && container_port == 0 {
            return Err(Error::invalid(at("container_port"), "is 0"));
        }
        Ok(Published { protocol, container_port, host_port, host_ip: host_ip.clone() })
    });
    let all: Vec<Published> = checked.collect::<Result<_>>()?;
    Ok(all.into_iter().filter(|mapping| mapping.host_port > 0).collect())
}

/// The ports of the node that a pod asks for, each of them once.
pub fn host_ports(mappings: &[cri::PortMapping]) -> Result<Vec<HostPort>> {
    let mut ports: Vec<HostPort> = Vec::new();
    for Published { protocol, container_port: _, host_port, host_ip } in published(mappings)? {
        let port = HostPort { protocol: protocol.to_owned(), ip: host_ip, port: host_port };
        if ports.iter().any(|earlier| earlier.overlaps(&port)) {
            return Err(Error::invalid("config.port_mappings", format!("the host port {port} is asked for twice")));
        }
        ports.push(port);
    }
    Ok(ports)
}

/// The ports of the node that an inspect tells of.
pub(super) fn told(bindings: &BTreeMap<String, Option<Vec<model::PortBinding>>>) -> Vec<HostPort> {
    let host_port = |mapping: cni::PortMapping| {
        let cni::PortMapping { host_port: port, container_port: _, protocol, host_ip: ip } = mapping;
        HostPort { protocol, ip, port }
    };
    published_by_engine(bindings).into_iter().map(host_port).collect()
}

/// The same, with where they lead to.
pub fn published_by_engine(bindings: &BTreeMap<String, Option<Vec<model::PortBinding>>>) -> Vec<cni::PortMapping> {
    let mut published = Vec::new();
    for (key, of_port) in bindings {
        let (container_port, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
        let Ok(container_port) = container_port.parse() else { continue };
        for model::PortBinding { host_ip, host_port } in of_port.iter().flatten() {
            // one that the Engine chose is nobody's wish
            if let Some(host_port) = host_port.parse().ok().filter(|port| *port > 0) {
                let (protocol, host_ip) = (protocol.to_owned(), host_ip.clone());
                published.push(cni::PortMapping { host_port, container_port, protocol, host_ip });
            }
        }
    }
    published
}

fn number(at: &str, port: i32) -> Result<u16> {
    u16::try_from(port).map_err(|_| Error::invalid(at, format!("{port} is not a port")))
}

/// As Docker's `ExposedPorts` and `PortBindings`.
pub(super) fn bindings(mappings: &[cri::PortMapping]) -> Result<HashMap<String, Option<Vec<PortBinding>>>> {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for Published { protocol, container_port, host_port, host_ip } in published(mappings)? {
        let binding = PortBinding { host_ip: Some(host_ip), host_port: Some(host_port.to_string()) };
        let of_port = bindings.entry(format!("{container_port}/{protocol}")).or_default();
        of_port.get_or_insert_default().push(binding);
    }
    Ok(bindings)
}

/// As CNI's `portMappings` capability.
pub fn cni_mappings(mappings: &[cri::PortMapping]) -> Result<Vec<cni::PortMapping>> {
    let published = published(mappings)?.into_iter().map(|mapping| cni::PortMapping {
        host_port: mapping.host_port,
        container_port: mapping.container_port,
        protocol: mapping.protocol.to_owned(),
        host_ip: mapping.host_ip,
    });
    Ok(published.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(protocol: i32, container_port: i32, host_port: i32, host_ip: &str) -> cri::PortMapping {
        cri::PortMapping { protocol, container_port, host_port, host_ip: host_ip.to_owned() }
    }

    #[test]
    fn only_host_ports_are_published() {
        let bindings = bindings(&[
            mapping(0, 80, 8080, ""),
            mapping(1, 53, 0, ""),
            mapping(0, 80, 8081, "127.0.0.1"),
            mapping(2, 80, 8080, ""),
        ])
        .unwrap();
        assert_eq!(bindings.len(), 2);
        assert_eq!(bindings["80/sctp"].as_ref().unwrap()[0].host_port.as_deref(), Some("8080"));
        let of_80 = bindings["80/tcp"].as_ref().unwrap();
        assert_eq!(of_80.iter().map(|b| b.host_port.as_deref().unwrap()).collect::<Vec<_>>(), ["8080", "8081"]);
        assert_eq!(cni_mappings(&[mapping(2, 80, 1, "")]).unwrap()[0].protocol, "sctp");
    }

    #[test]
    fn a_port_is_asked_for_once() {
        let ok = [mapping(0, 80, 8080, ""), mapping(1, 80, 8080, ""), mapping(0, 80, 8081, "")];
        assert_eq!(host_ports(&ok).unwrap().len(), 3);
        let apart = [mapping(0, 80, 8080, "127.0.0.1"), mapping(0, 80, 8080, "::1"), mapping(0, 81, 8080, "127.0.0.2")];
        assert_eq!(host_ports(&apart).unwrap().len(), 3);
        let twice = [mapping(0, 80, 0, ""), mapping(0, 80, 8080, "127.0.0.1"), mapping(0, 81, 8080, "")];
        let error = host_ports(&twice).unwrap_err().to_string();
        assert_eq!(error, "config.port_mappings: the host port 8080/tcp is asked for twice");
    }

    #[test]
    fn what_the_engine_publishes_is_told() {
        let binding = |ip: &str, port: &str| model::PortBinding { host_ip: ip.into(), host_port: port.into() };
        let bindings = BTreeMap::from([
            ("53/udp".to_owned(), Some(vec![binding("127.0.0.1", "53"), binding("", "")])),
            ("80/tcp".to_owned(), None),
        ]);
        let port = HostPort { protocol: "udp".into(), ip: "127.0.0.1".into(), port: 53 };
        assert_eq!(told(&bindings), [port]);
        assert_eq!(published_by_engine(&bindings)[0].container_port, 53);
    }

    #[test]
    fn what_is_no_port_is_refused_by_its_field() {
        for (bad, at) in [
            (mapping(0, 80, -1, ""), "config.port_mappings[0].host_port"),
            (mapping(0, 65_536, 1, ""), "config.port_mappings[0].container_port"),
            (mapping(0, 0, 1, ""), "config.port_mappings[0].container_port"),
            (mapping(9, 80, 1, ""), "config.port_mappings[0].protocol"),
            (mapping(0, 80, 1, "here"), "config.port_mappings[0].host_ip"),
        ] {
            assert!(bindings(&[bad]).unwrap_err().to_string().starts_with(at), "{at}");
        }
    }
}
