//! What was seen of a node: plain values that the judges read. What can't be seen is a value, too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::finding::Skip;
use crate::config::Config;
use crate::engine;
use crate::engine::model::{ContainerSummary, Info, Version};
use crate::process::{Running, named};

/// All of it.
pub(super) struct Facts {
    /// What the daemon is told.
    pub(super) config: Config,
    /// Whether dockershim is not expected to run yet.
    pub(super) pre: bool,
    /// Who checks.
    pub(super) user: u32,
    pub(super) engine: Result<Engine, engine::Error>,
    pub(super) node: Node,
    pub(super) kubelet: Kubelet,
    /// Unless pods are on Docker's bridge; an error tells why no configuration can be used.
    pub(super) network: Option<Result<Network, String>>,
    pub(super) sockets: Sockets,
    pub(super) state: StateDir,
}

impl Facts {
    /// Whether a file's owner is root, or who checks.
    pub(super) fn trusts(&self, owner: u32) -> bool {
        owner == 0 || owner == self.user
    }

    /// The engine, if it has answered.
    pub(super) fn engine(&self) -> Result<&Engine, Skip> {
        self.engine.as_ref().map_err(|_| Skip::because("the Engine has not answered (DKR-01)"))
    }

    /// What the engine tells of itself.
    pub(super) fn info(&self) -> Result<&Info, Skip> {
        self.engine()?.info.as_ref().map_err(|_| Skip::because("the Engine has not answered GET /info (DKR-01)"))
    }

    /// Its containers that belong to pods.
    pub(super) fn containers(&self) -> Result<&[ContainerSummary], Skip> {
        let listed = self.engine()?.containers.as_ref();
        listed.map(Vec::as_slice).map_err(|_| Skip::because("the Engine has not listed containers (DKR-01)"))
    }

    /// Whether what the kubelet is not told can be known.
    pub(super) fn kubelet_is_known(&self) -> Result<(), Skip> {
        let Kubelet { seen, unread, path, .. } = &self.kubelet;
        if let Some(unread) = unread {
            return Err(Skip::because(unread.clone()));
        }
        if *seen {
            Ok(())
        } else {
            Err(Skip::because(format!(
                "no kubelet is seen: neither its process nor {} (--kubelet-config names another file)",
                path.display()
            )))
        }
    }

    /// The socket at which we are asked for a pod.
    pub(super) fn our_socket(&self) -> PathBuf {
        self.sockets.ours.first().map(|socket| socket.at.clone()).unwrap_or_default()
    }

    /// As kubeadm and the kubelet are told of us.
    pub(super) fn our_endpoint(&self) -> String {
        format!("unix://{}", self.config.own_socket().display())
    }
}

/// A Docker Engine that has answered `/version`.
pub(super) struct Engine {
    pub(super) version: Version,
    pub(super) info: Result<Info, engine::Error>,
    pub(super) containers: Result<Vec<ContainerSummary>, engine::Error>,
    /// Whether the image of sandboxes is there; None for the built-in one, which needs not be.
    pub(super) sandbox_image: Option<Result<(), engine::Error>>,
    /// Under its images and containers, where that can be seen from here.
    pub(super) space: Option<Space>,
}

/// Of a file system, for users without privileges.
#[derive(Clone, Copy)]
pub(super) struct Space {
    pub(super) total_bytes: u64,
    pub(super) available_bytes: u64,
    /// 0 when it makes them as it needs them.
    pub(super) inodes: u64,
    pub(super) inodes_available: u64,
}

/// Kernel and processes.
pub(super) struct Node {
    /// `6.1.0-13-amd64`.
    pub(super) kernel: String,
    /// Whether AppArmor is on.
    pub(super) apparmor: bool,
    pub(super) cgroups: Option<Cgroups>,
    /// None when the kernel doesn't tell.
    pub(super) ip_forward: Option<bool>,
    /// None without the module br_netfilter.
    pub(super) bridge_calls_iptables: Option<bool>,
    /// Whether a program that filters packets is where CNI plugins look for it.
    pub(super) has_packet_filter: bool,
    /// Files and partitions.
    pub(super) swap: Vec<String>,
    /// systemd's word that the clock has been set.
    pub(super) clock_was_set: bool,
    pub(super) processes: Vec<Running>,
    /// inotify instances of our user, and how many he may have.
    pub(super) inotify: (usize, Option<usize>),
}

impl Node {
    /// Whether a process of that name runs, this one not counted.
    pub(super) fn runs(&self, name: &str) -> bool {
        self.processes.iter().any(|process| process.name == name && process.pid != std::process::id())
    }

    /// The node's own process of that name.
    pub(super) fn process(&self, name: &str) -> Option<&Running> {
        named(&self.processes, name)
    }
}

/// What limits processes.
pub(super) struct Cgroups {
    pub(super) unified: bool,
    pub(super) controllers: BTreeSet<String>,
}

/// What the kubelet of this node is told.
pub(super) struct Kubelet {
    /// Where its configuration is, or should be.
    pub(super) path: PathBuf,
    /// Whether there is one: a process, or a configuration.
    pub(super) seen: bool,
    /// Why the configuration can't be read.
    pub(super) unread: Option<String>,
    pub(super) endpoint: Option<Told>,
    pub(super) cgroup_driver: Option<Told>,
    pub(super) fail_swap_on: Option<Told>,
    pub(super) fail_cgroup_v1: Option<Told>,
}

/// A value, and where it is told.
pub(super) struct Told {
    pub(super) value: String,
    pub(super) place: String,
}

/// The CNI network that pods would be joined to.
pub(super) struct Network {
    pub(super) survey: crate::cni::Survey,
    /// Addresses that its IPAM holds, each with the container it is for.
    pub(super) leases: Vec<Lease>,
}

/// An address that is held.
pub(super) struct Lease {
    pub(super) file: PathBuf,
    pub(super) container: String,
}

/// Sockets of the CRI.
pub(super) struct Sockets {
    /// Where the configuration has us serve.
    pub(super) ours: Vec<Socket>,
    /// Those of other runtimes that are there; one may turn out to be ours.
    pub(super) others: Vec<Socket>,
}

/// A place for a socket.
pub(super) struct Socket {
    /// As it is told.
    pub(super) path: PathBuf,
    /// Where it is looked for.
    pub(super) at: PathBuf,
    pub(super) file: Option<SocketFile>,
    pub(super) answer: Answer,
}

/// What is there.
pub(super) struct SocketFile {
    pub(super) is_socket: bool,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) owner: u32,
}

/// Who is behind a socket.
pub(super) enum Answer {
    /// It doesn't matter, or might start whoever systemd holds the socket for.
    NotAsked,
    /// Why there is none.
    Nobody(String),
    Runtime {
        name: String,
        version: String,
        /// It is a dockershim of this make.
        ours: bool,
    },
}

/// The state directory.
pub(super) struct StateDir {
    /// It, or the directory that it would be made in.
    pub(super) found: PathBuf,
    pub(super) is_dir: bool,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) owner: u32,
    /// Why nothing can be made in it.
    pub(super) unwritable: Option<String>,
    /// Records that can't be understood.
    pub(super) broken: Vec<PathBuf>,
    /// The dockershim that has it.
    pub(super) holder: Option<Holder>,
    /// Other pods' sandboxes whose networks are known from CNI's cache.
    pub(super) cached_networks: BTreeSet<String>,
}

/// A dockershim that runs.
pub(super) struct Holder {
    pub(super) pid: u32,
    /// Files that it may open; None when any number.
    pub(super) open_files: Option<u64>,
}

/// `/var/run` is `/run` everywhere.
pub(super) fn canonical(path: &str) -> &Path {
    let path = path.strip_prefix("unix://").unwrap_or(path);
    Path::new(path.strip_prefix("/var").filter(|rest| rest.starts_with("/run/")).unwrap_or(path))
}
