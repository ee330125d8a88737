//! Looks at the node, and writes down what is seen. Must not judge, and must not change anything.

mod engine;
mod kubelet;
mod network;
mod node;
mod sockets;
mod state;

use std::fs;
use std::path::{Path, PathBuf};

use super::Options;
use super::facts::Facts;
use crate::config::Config;
use crate::translate::node::Network;

/// Looks at everything.
pub(super) async fn gather(config: &Config, options: &Options) -> Facts {
    let root = Root(&options.root);
    let node = node::look(root);
    let (engine, sockets) = tokio::join!(engine::ask(root, config), sockets::look(root, config, &node, options.pre));
    Facts {
        config: config.clone(),
        pre: options.pre,
        user: rustix::process::geteuid().as_raw(),
        kubelet: kubelet::look(root, &node, options.kubelet_config.as_deref()),
        network: (config.network == Network::Cni).then(|| network::look(root, config)),
        state: state::look(root, config, &node),
        engine,
        node,
        sockets,
    }
}

/// Where the node's files are.
#[derive(Clone, Copy)]
struct Root<'a>(&'a Path);

impl Root<'_> {
    /// Where an absolute path is.
    fn at(self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file's text without its last line end; what is no UTF-8 in it is replaced.
    fn text(self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = fs::read(self.at(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
    }

    /// A file with one switch in it: 0 or 1.
    fn switch(self, path: &str) -> Option<bool> {
        Some(self.text(path)? != "0")
    }
}
