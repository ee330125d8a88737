//! cri-dockerd's checkpoints: a small file for each sandbox, `<its root directory>/sandbox/<id>`, with the pod's name and ports. It
//! finds there what a CNI plugin is told when the pod ends, and takes a file without a container for a pod that is to be ended.
//!
//! The file carries a checksum over a print of its data as a Go library makes it; with another one cri-dockerd takes it for damaged.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::cni;
use crate::record::{self, Records};

/// cri-dockerd's root directory, unless it was told another.
pub const CRI_DOCKERD_ROOT: &str = "/var/lib/cri-dockerd";

/// Where checkpoints are beneath it.
const DIR: &str = "sandbox";

/// What a checkpoint tells of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// Ports of the node that lead to the pod.
    pub port_mappings: Vec<PortMapping>,
    /// It has the node's network.
    pub host_network: bool,
}

/// A port of the node that leads to a pod, in the order of the file's fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortMapping {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// In the pod.
    pub container_port: u16,
    /// On the node.
    pub host_port: u16,
    /// The node's address it is for; empty for all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host_ip: String,
}

impl From<cni::PortMapping> for PortMapping {
    fn from(mapping: cni::PortMapping) -> Self {
        let cni::PortMapping { host_port, container_port, protocol, host_ip } = mapping;
        PortMapping { protocol, container_port, host_port, host_ip }
    }
}

#[derive(Serialize)]
struct File<'a> {
    version: &'static str,
    name: &'a str,
    namespace: &'a str,
    data: Data<'a>,
    checksum: u32,
}

#[derive(Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    port_mappings: &'a [PortMapping],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    host_network: bool,
}

/// The checkpoints beneath a root directory of cri-dockerd's, to be written.
pub struct Checkpoints(Records);

impl Checkpoints {
    /// Opens the directory, made when it isn't there. cri-dockerd must not run.
    pub fn open(root: &Path) -> Result<Self, record::Error> {
        Records::open(root.join(DIR)).map(Checkpoints)
    }

    /// Writes a sandbox's checkpoint as cri-dockerd does: whole or not at all.
    pub fn write(&self, id: &str, checkpoint: &Checkpoint) -> Result<(), record::Error> {
        let Checkpoint { name, namespace, port_mappings, host_network } = checkpoint;
        let data = Data { port_mappings, host_network: *host_network };
        self.0.save(id, &File { version: "v1", name, namespace, checksum: checksum(&data), data })
    }
}

/// Removes the checkpoint of a sandbox that is gone, where an adapter before us can have left it: beneath our own root directory,
/// which may have been the other's, and where cri-dockerd keeps them by default. One that can't be removed is told.
pub fn remove(root: &Path, id: &str) {
    // a request can name anything
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return;
    }
    for root in [root, Path::new(CRI_DOCKERD_ROOT)] {
        let path = root.join(DIR).join(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "another adapter's checkpoint of a sandbox that is gone stays");
            }
            _ => {}
        }
    }
}

/// 32-bit FNV-1a over the data as Go's go-spew prints it with `%#v`.
fn checksum(data: &Data<'_>) -> u32 {
    let fnv = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    printed(data).bytes().fold(2_166_136_261, fnv)
}

fn printed(data: &Data<'_>) -> String {
    let mapping = |mapping: &PortMapping| {
        let PortMapping { protocol, container_port, host_port, host_ip } = mapping;
        format!(
            "<*>{{Protocol:(*config.Protocol){protocol} ContainerPort:(*int32){container_port} \
             HostPort:(*int32){host_port} HostIP:(string){host_ip}}}"
        )
    };
    let mappings: Vec<String> = data.port_mappings.iter().map(mapping).collect();
    let mappings = if mappings.is_empty() { "<nil>".to_owned() } else { format!("[{}]", mappings.join(" ")) };
    let host_network = data.host_network;
    format!("(core.CheckpointData){{PortMappings:([]*config.PortMapping){mappings} HostNetwork:(bool){host_network}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(protocol: &str, container_port: u16, host_port: u16, host_ip: &str) -> PortMapping {
        PortMapping { protocol: protocol.to_owned(), container_port, host_port, host_ip: host_ip.to_owned() }
    }

    fn pod(name: &str, port_mappings: Vec<PortMapping>, host_network: bool) -> Checkpoint {
        Checkpoint { name: name.to_owned(), namespace: "tk".to_owned(), port_mappings, host_network }
    }

    /// A root directory of one test's own.
    fn with_root(name: &str, test: impl FnOnce(&Path)) {
        let root = std::env::temp_dir().join(format!("dockershim-checkpoint-{name}-{}", std::process::id()));
        test(&root);
        fs::remove_dir_all(root).unwrap();
    }

    /// Files that a cri-dockerd 0.4 has written.
    #[test]
    fn a_file_is_what_cri_dockerd_writes() {
        let both = vec![mapping("tcp", 80, 18080, ""), mapping("udp", 53, 18053, "127.0.0.1")];
        let cases = [
            (
                pod("plain", Vec::new(), false),
                r#"{"version":"v1","name":"plain","namespace":"tk","data":{},"checksum":2305795928}"#,
            ),
            (
                pod("host", Vec::new(), true),
                r#"{"version":"v1","name":"host","namespace":"tk","data":{"host_network":true},"checksum":12315789}"#,
            ),
            (
                pod("port", vec![mapping("tcp", 80, 18081, "")], false),
                r#"{"version":"v1","name":"port","namespace":"tk","data":{"port_mappings":[{"protocol":"tcp","container_port":80,"host_port":18081}]},"checksum":1303280487}"#,
            ),
            (
                pod("ports", both, false),
                r#"{"version":"v1","name":"ports","namespace":"tk","data":{"port_mappings":[{"protocol":"tcp","container_port":80,"host_port":18080},{"protocol":"udp","container_port":53,"host_port":18053,"host_ip":"127.0.0.1"}]},"checksum":2119816884}"#,
            ),
        ];
        with_root("write", |root| {
            let checkpoints = Checkpoints::open(root).unwrap();
            for (checkpoint, expected) in cases {
                checkpoints.write("0a1b", &checkpoint).unwrap();
                assert_eq!(fs::read_to_string(root.join("sandbox/0a1b")).unwrap(), expected);
            }
        });
    }

    #[test]
    fn a_checkpoint_goes_with_its_sandbox_and_no_other_file_does() {
        with_root("remove", |root| {
            let checkpoints = Checkpoints::open(root).unwrap();
            for id in ["0a1b", "2c3d"] {
                checkpoints.write(id, &pod("plain", Vec::new(), false)).unwrap();
            }
            fs::write(root.join("precious"), "").unwrap();
            for id in ["0a1b", "0a1b", "../precious", "", "."] {
                remove(root, id);
            }
            let left: Vec<_> =
                fs::read_dir(root.join("sandbox")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(left, ["2c3d"]);
            assert!(root.join("precious").exists());
        });
    }
}
