//! The state directory: whether it can be used, who has it, and whether its records can be understood. Its lock is not tried: a
//! daemon that starts at this moment would find it taken.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use serde::de::IgnoredAny;

use super::Root;
use crate::check::facts::{Holder, Node, StateDir};
use crate::config::Config;
use crate::process;

/// Directories of records.
const RECORDS: [&str; 5] = ["logs", "network", "limits", "resources", "node"];
/// The name of our process.
const NAME: &str = "dockershim";

pub(super) fn look(root: Root<'_>, config: &Config, node: &Node) -> StateDir {
    let dir = &config.state_dir;
    let found = dir.ancestors().find(|place| root.at(place).exists()).unwrap_or(dir).to_owned();
    let at = root.at(&found);
    let metadata = fs::metadata(&at);
    let writable = accessat(CWD, &at, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
    StateDir {
        is_dir: metadata.as_ref().is_ok_and(fs::Metadata::is_dir),
        mode: metadata.as_ref().map(|metadata| metadata.permissions().mode() & 0o777).unwrap_or_default(),
        owner: metadata.as_ref().map(MetadataExt::uid).unwrap_or_default(),
        unwritable: writable.err().map(|error| std::io::Error::from(error).to_string()),
        broken: RECORDS.iter().flat_map(|name| broken(&root.at(dir).join(name))).collect(),
        holder: holder(root, dir, node),
        cached_networks: cached_networks(&root.at(&config.cni.cache).join("results")),
        found,
    }
}

/// Records that are no JSON.
fn broken(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    // what is being written has a leading dot
    let records =
        entries.filter(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    let understood = |path: &PathBuf| {
        let Ok(content) = fs::read(path) else { return !path.exists() };
        serde_json::from_slice::<IgnoredAny>(&content).is_ok()
    };
    records.filter(|path| !understood(path)).collect()
}

/// The process that the lock names, if it still is one of ours.
fn holder(root: Root<'_>, dir: &Path, node: &Node) -> Option<Holder> {
    let pid = root.text(dir.join("lock"))?.trim().parse().ok()?;
    node.processes.iter().find(|process| process.pid == pid && process.name == NAME)?;
    let limits = root.text(format!("/proc/{pid}/limits")).unwrap_or_default();
    Some(Holder { pid, open_files: process::soft_limit(&limits) })
}

/// Ids of the sandboxes in CNI's cache: `<network>-<id>-<interface>`. cri-dockerd's loopback is no network.
fn cached_networks(dir: &Path) -> BTreeSet<String> {
    let names =
        fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let networks = names.filter(|name| !name.starts_with("cni-loopback-"));
    networks.filter_map(|name| Some(name.rsplit('-').nth(1)?.to_owned())).collect()
}
