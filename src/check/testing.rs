//! A node on which all is well, for the tests of judges whose fault can't be made.

use clap::Parser;

use super::facts::{Engine, Facts, Kubelet, Node, Sockets, StateDir};
use crate::config::Config;
use crate::config::cli::Cli;
use crate::engine::model::{Info, Version};

pub(super) fn facts() -> Facts {
    let config = Config::from_flags(Cli::parse_from(["dockershim", "--network-plugin=bridge"]).told.flags).unwrap();
    Facts {
        config,
        pre: false,
        user: 0,
        engine: Ok(Engine {
            version: Version::default(),
            info: Ok(Info::default()),
            containers: Ok(Vec::new()),
            sandbox_image: None,
            space: None,
        }),
        node: Node {
            kernel: "6.1.0".to_owned(),
            apparmor: false,
            cgroups: None,
            ip_forward: Some(true),
            bridge_calls_iptables: Some(true),
            has_packet_filter: true,
            swap: Vec::new(),
            clock_was_set: true,
            processes: Vec::new(),
            inotify: (0, None),
        },
        kubelet: Kubelet {
            path: "/var/lib/kubelet/config.yaml".into(),
            seen: false,
            unread: None,
            endpoint: None,
            cgroup_driver: None,
            fail_swap_on: None,
            fail_cgroup_v1: None,
        },
        network: None,
        sockets: Sockets { ours: Vec::new(), others: Vec::new() },
        state: StateDir {
            found: "/var/lib".into(),
            is_dir: true,
            mode: 0o711,
            owner: 0,
            unwritable: None,
            broken: Vec::new(),
            holder: None,
            cached_networks: Default::default(),
        },
    }
}
