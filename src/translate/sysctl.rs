//! A pod's sysctls: only those that belong to a namespace of the pod's own, in a grammar that leaves nothing to be smuggled in. Pure.

use std::collections::{BTreeMap, HashMap};

use super::namespace::Options;
use crate::cri::NamespaceMode;
use crate::error::{Error, Result};

const FIELD: &str = "config.linux.sysctls";
/// What belongs to the ipc namespace, beside `fs.mqueue.`: ipc_namespaces(7).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// As Docker takes them, with dots between the parts of a name.
pub(super) fn sysctls(asked: &BTreeMap<String, String>, options: &Options) -> Result<HashMap<String, String>> {
    let mut made = HashMap::new();
    for (key, value) in asked {
        let refused = |reason: &str| Error::invalid(format!("{FIELD}[{key:?}]"), reason);
        let name = name(key).ok_or_else(|| refused("is not a sysctl's name"))?;
        let (namespace, mode) = namespace(&name, options)
            .ok_or_else(|| refused("belongs to no namespace that a pod can have of its own"))?;
        if mode == NamespaceMode::Node {
            return Err(refused(&format!("would change the node: the pod has the node's {namespace} namespace")));
        }
        if !value.chars().all(is_of_a_value) {
            return Err(refused(&format!("has the value {value:?}, with a character that no such value has")));
        }
        if made.insert(name, value.clone()).is_some() {
            return Err(refused("is there twice, with dots and with slashes"));
        }
    }
    Ok(made)
}

/// The name with dots. One whose first separator is a slash has slashes for dots, and in it a dot can't be said to Docker.
fn name(key: &str) -> Option<String> {
    let dotted = match key.find(['.', '/']) {
        Some(at) if key[at..].starts_with('/') && !key.contains('.') => key.replace('/', "."),
        _ => key.to_owned(),
    };
    let is_part = |part: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        !part.is_empty() && part.chars().all(inside)
    };
    dotted.split('.').all(is_part).then_some(dotted)
}

/// The namespace that a sysctl belongs to, and whose the pod has.
fn namespace(name: &str, options: &Options) -> Option<(&'static str, NamespaceMode)> {
    if name.starts_with("net.") {
        return Some(("network", options.network));
    }
    (IPC.contains(&name) || name.starts_with("fs.mqueue.")).then_some(("ipc", options.ipc))
}

/// Numbers, lists, ranges and words, as the kernel writes them.
fn is_of_a_value(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ' ' | '\t' | '.' | ',' | ':' | '-' | '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::namespace::options;
    use super::*;
    use crate::cri;

    fn with(network: NamespaceMode, ipc: NamespaceMode) -> Options {
        let asked = cri::NamespaceOption { network: network.into(), ipc: ipc.into(), ..Default::default() };
        options("ns", Some(&asked)).unwrap()
    }

    fn of(key: &str, value: &str, options: &Options) -> Result<HashMap<String, String>> {
        sysctls(&BTreeMap::from([(key.to_owned(), value.to_owned())]), options)
    }

    #[test]
    fn what_is_the_pods_own_is_taken() {
        let own = with(NamespaceMode::Pod, NamespaceMode::Pod);
        for (key, value, name) in [
            ("net.ipv4.ip_local_port_range", "1024\t65000", "net.ipv4.ip_local_port_range"),
            ("net/ipv4/tcp_syncookies", "0", "net.ipv4.tcp_syncookies"),
            ("net.ipv4.ip_local_reserved_ports", "80,8000-8080", "net.ipv4.ip_local_reserved_ports"),
            ("net.ipv4.tcp_congestion_control", "bbr", "net.ipv4.tcp_congestion_control"),
            ("kernel.shm_rmid_forced", "1", "kernel.shm_rmid_forced"),
            ("kernel.sem", "250 32000 100 128", "kernel.sem"),
            ("fs.mqueue.msg_max", "100", "fs.mqueue.msg_max"),
        ] {
            assert_eq!(of(key, value, &own).unwrap(), HashMap::from([(name.to_owned(), value.to_owned())]));
        }
    }

    #[test]
    fn what_is_the_nodes_is_refused() {
        let own = with(NamespaceMode::Pod, NamespaceMode::Pod);
        for key in ["vm.swappiness", "kernel.core_pattern", "kernel.hostname", "kernel.shm", "fs.file-max", "net"] {
            let error = of(key, "1", &own).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.linux.sysctls[{key:?}]: ")), "{error}");
        }
        let network = with(NamespaceMode::Node, NamespaceMode::Pod);
        assert!(of("net.ipv4.tcp_syncookies", "1", &network).unwrap_err().to_string().contains("network namespace"));
        assert!(of("kernel.msgmax", "1", &network).is_ok());
        let ipc = with(NamespaceMode::Pod, NamespaceMode::Node);
        assert!(of("fs.mqueue.msg_max", "1", &ipc).unwrap_err().to_string().contains("ipc namespace"));
    }

    #[test]
    fn nothing_is_smuggled_in() {
        let own = with(NamespaceMode::Pod, NamespaceMode::Pod);
        for key in [
            "",
            ".",
            "net.",
            "net..ipv4",
            "net./ipv4",
            "net.ipv4/../../kernel",
            "net/../kernel/core_pattern",
            "/net/ipv4",
            "net.ipv4.x=1",
            "net.ipv4.x+kernel.y",
            "net.ipv4.x\n",
            "net.ipv4.x y",
            "net.ipv4.ü",
            "net.ipv4.x\0",
        ] {
            assert!(of(key, "1", &own).is_err(), "{key:?}");
        }
        for value in ["1\n2", "1+kernel.core_pattern=|/x", "=1", "1\0", "|/bin/sh", "$(x)", "é"] {
            assert!(of("net.ipv4.x", value, &own).is_err(), "{value:?}");
        }
        let twice = ["net.ipv4.x", "net/ipv4/x"].map(|key| (key.to_owned(), "1".to_owned()));
        assert!(sysctls(&twice.into(), &own).unwrap_err().to_string().contains("twice"));
    }

    proptest! {
        #[test]
        fn a_name_that_is_taken_stays_below_its_namespace(key in "[a-z./+=\\n-]{0,12}|net[./].{0,12}|(net|kernel|\\.\\.|/|\\.){1,6}") {
            let own = with(NamespaceMode::Pod, NamespaceMode::Pod);
            if let Ok(made) = of(&key, "1", &own) {
                let path = made.keys().next().unwrap().replace('.', "/");
                prop_assert!(path.starts_with("net/") || path.starts_with("fs/mqueue/") || path.starts_with("kernel/"));
                prop_assert!(path.split('/').all(|part| !part.is_empty() && part != ".."));
            }
        }
    }
}
