//! The CNI network: which configuration would be used, where its plugins are, and which addresses it holds.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::Root;
use crate::check::facts::{Lease, Network};
use crate::cni::Survey;
use crate::config::Config;

pub(super) fn look(root: Root<'_>, config: &Config) -> Result<Network, String> {
    let bin: Vec<PathBuf> = config.cni.bin.iter().map(|dir| root.at(dir)).collect();
    let survey = Survey::of(&root.at(&config.cni.conf), &bin).map_err(|error| error.to_string())?;
    let leases = survey.leases_dir.as_deref().map(|dir| leases(&root.at(dir))).unwrap_or_default();
    Ok(Network { survey, leases })
}

/// Files of the plugin host-local: an address's name, in it the container's id and the interface.
fn leases(dir: &Path) -> Vec<Lease> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let addresses =
        entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<IpAddr>().is_ok()));
    let lease = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        let container = text.lines().next().unwrap_or_default().trim().to_owned();
        Some(Lease { file: entry.path(), container })
    };
    addresses.filter_map(lease).collect()
}
