//! What a pod would be joined to, for `check`: a look at configurations and plugins that starts none of them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::conf_dir::ConfDir;
use super::conflist::{NetworkList, Plugin};
use super::{Error, plugin};

/// Plugins that run iptables or nft.
const FILTERING: [&str; 2] = ["portmap", "firewall"];
/// Where the plugin host-local keeps addresses, when it isn't told otherwise.
const LEASES: &str = "/var/lib/cni/networks";

/// The network in use, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The file it comes from.
    pub file: String,
    /// Its name.
    pub network: String,
    /// The version of CNI that is spoken.
    pub version: String,
    /// Executables that it needs, IPAM's included.
    pub plugins: Vec<String>,
    /// What is wrong with some of them.
    pub absent: Vec<String>,
    /// What is wrong with files before this one.
    pub faults: Vec<String>,
    /// Its plugins run iptables or nft.
    pub filters: bool,
    /// Where host-local keeps its addresses.
    pub leases_dir: Option<PathBuf>,
}

impl Survey {
    /// Looks at a directory of configurations, and for the plugins in others.
    pub fn of(conf: &Path, bin: &[PathBuf]) -> Result<Survey, Error> {
        let conf_dir = ConfDir::open(conf);
        let list = conf_dir.current()?;
        let NetworkList { file, name, version, plugins, json: _ } = &*list;
        let mut kinds: Vec<String> = Vec::new();
        for kind in plugins.iter().flat_map(|plugin| [Some(plugin.kind.as_str()), plugin.delegate()]).flatten() {
            if !kinds.iter().any(|known| known == kind) {
                kinds.push(kind.to_owned());
            }
        }
        let filtering = |plugin: &Plugin| {
            FILTERING.contains(&plugin.kind.as_str()) || plugin.json.get("ipMasq") == Some(&Value::Bool(true))
        };
        Ok(Survey {
            file: file.clone(),
            network: name.clone(),
            version: version.clone(),
            absent: kinds.iter().filter_map(|kind| absent(kind, bin)).collect(),
            plugins: kinds,
            faults: conf_dir.faults(),
            filters: plugins.iter().any(filtering),
            leases_dir: plugins.iter().find_map(|plugin| leases_dir(name, plugin)),
        })
    }
}

fn leases_dir(network: &str, plugin: &Plugin) -> Option<PathBuf> {
    if plugin.delegate() != Some("host-local") {
        return None;
    }
    let told = plugin.json.get("ipam").and_then(|ipam| ipam.get("dataDir")).and_then(Value::as_str);
    Some(Path::new(told.filter(|dir| !dir.is_empty()).unwrap_or(LEASES)).join(network))
}

/// Why a plugin can't be run; None when it can.
fn absent(kind: &str, bin: &[PathBuf]) -> Option<String> {
    let path = match plugin::find(kind, bin) {
        Ok(path) => path,
        Err(failure) => return Some(format!("{kind} {failure}")),
    };
    let executable = path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0);
    (!executable).then(|| format!("{} is not executable", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Dir;
    use super::*;

    const LIST: &str = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [
        {"type": "bridge", "ipMasq": true, "ipam": {"type": "host-local", "dataDir": "/leases"}},
        {"type": "tuning"}, {"type": "tuning"}]}"#;

    #[test]
    fn what_is_needed_and_what_is_missing_is_told() {
        let dir = Dir::new();
        std::fs::write(dir.path("10-pods.conflist"), LIST).unwrap();
        std::fs::write(dir.path("05-bad.conf"), "{").unwrap();
        dir.script("bridge", "exit 1");
        std::fs::write(dir.path("host-local"), "").unwrap();
        let survey = Survey::of(&dir.path("."), &[dir.path(".")]).unwrap();
        assert_eq!((survey.file.as_str(), survey.network.as_str()), ("10-pods.conflist", "pods"));
        assert_eq!(survey.plugins, ["bridge", "host-local", "tuning"]);
        assert_eq!(survey.absent.len(), 2, "{:?}", survey.absent);
        assert!(survey.absent[0].ends_with("host-local is not executable"), "{:?}", survey.absent);
        assert!(survey.absent[1].starts_with("tuning not found in "), "{:?}", survey.absent);
        assert!(survey.faults[0].starts_with("05-bad.conf is not JSON"), "{:?}", survey.faults);
        assert!(survey.filters);
        assert_eq!(survey.leases_dir, Some(PathBuf::from("/leases/pods")));
    }

    #[test]
    fn a_network_without_host_local_holds_no_addresses_that_are_seen() {
        let dir = Dir::new();
        std::fs::write(dir.path("10-a.conf"), r#"{"name": "a", "type": "ptp", "ipam": {"type": "dhcp"}}"#).unwrap();
        let survey = Survey::of(&dir.path("."), &[]).unwrap();
        assert_eq!((survey.leases_dir, survey.filters), (None, false));
        assert!(Survey::of(&dir.path("none"), &[]).is_err());
    }
}
