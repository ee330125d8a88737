//! What the kubelet is told: by its command line, which wins, and by its configuration.
//!
//! The configuration is YAML, of which four keys are read that are scalars at the top level. A line that doesn't begin with a blank
//! can only be such a key there, so it is read as lines; a YAML library would be a dependency for this alone.

use std::fs;
use std::path::{Path, PathBuf};

use super::Root;
use crate::check::facts::{Kubelet, Node, Told};

/// Where kubeadm puts the configuration,
const CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// and the flags.
const KUBEADM_FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
/// Of files in `--config-dir`, those with this ending are read.
const DROP_IN: &str = "conf";

pub(super) fn look(root: Root<'_>, node: &Node, config: Option<&Path>) -> Kubelet {
    let process = node.process("kubelet");
    let arguments = match process {
        Some(process) => process.arguments.clone(),
        None => kubeadm_flags(&root.text(KUBEADM_FLAGS).unwrap_or_default()),
    };
    let path = config.map(Path::to_owned).or_else(|| flag(&arguments, "config").map(PathBuf::from));
    let path = path.unwrap_or_else(|| PathBuf::from(CONFIG));
    let drop_ins = flag(&arguments, "config-dir").map(|dir| drop_ins(root, Path::new(&dir))).unwrap_or_default();
    let mut files = Files::default();
    for file in std::iter::once(&path).chain(&drop_ins) {
        files.read(root, file);
    }
    let by_flag =
        |name: &str| flag(&arguments, name).map(|value| Told { value, place: format!("the kubelet's flag --{name}") });
    Kubelet {
        seen: process.is_some() || !files.texts.is_empty() || files.unread.is_some() || !arguments.is_empty(),
        endpoint: by_flag("container-runtime-endpoint").or_else(|| files.told("containerRuntimeEndpoint")),
        cgroup_driver: by_flag("cgroup-driver").or_else(|| files.told("cgroupDriver")),
        fail_swap_on: by_flag("fail-swap-on").or_else(|| files.told("failSwapOn")),
        fail_cgroup_v1: files.told("failCgroupV1"),
        unread: files.unread,
        path,
    }
}

/// Configurations, the later over the earlier.
#[derive(Default)]
struct Files {
    texts: Vec<(PathBuf, String)>,
    unread: Option<String>,
}

impl Files {
    fn read(&mut self, root: Root<'_>, path: &Path) {
        match fs::read_to_string(root.at(path)) {
            Ok(text) => self.texts.push((path.to_owned(), text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.unread = Some(format!("{}: {error}", path.display())),
        }
    }

    fn told(&self, key: &str) -> Option<Told> {
        let told = |(path, text): &(PathBuf, String)| {
            Some(Told { value: top_level(text, key)?, place: format!("{key} in {}", path.display()) })
        };
        self.texts.iter().rev().find_map(told)
    }
}

fn drop_ins(root: Root<'_>, dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.at(dir)).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| dir.join(entry.file_name())).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == DROP_IN));
    files.sort();
    files
}

/// `KUBELET_KUBEADM_ARGS="--a=b --c=d"`.
fn kubeadm_flags(text: &str) -> Vec<String> {
    let value = text.lines().find_map(|line| line.strip_prefix("KUBELET_KUBEADM_ARGS=")).unwrap_or_default();
    value.trim_matches('"').split_whitespace().map(str::to_owned).collect()
}

/// The last value of a flag, as `--name=value` or `--name value`.
fn flag(arguments: &[String], name: &str) -> Option<String> {
    let mut found = None;
    for (n, argument) in arguments.iter().enumerate() {
        let Some(rest) = argument.strip_prefix("--").and_then(|rest| rest.strip_prefix(name)) else { continue };
        match rest.strip_prefix('=') {
            Some(value) => found = Some(value.to_owned()),
            None if rest.is_empty() => found = arguments.get(n + 1).cloned(),
            None => {}
        }
    }
    found
}

/// The scalar at a key of the top level of YAML, or of JSON, which is YAML, too. None for nothing, and for what is no scalar.
fn top_level(text: &str, key: &str) -> Option<String> {
    if text.trim_start().starts_with('{') {
        return match serde_json::from_str::<serde_json::Value>(text).ok()?.get(key)? {
            serde_json::Value::String(value) => Some(value.clone()),
            serde_json::Value::Bool(value) => Some(value.to_string()),
            _ => None,
        };
    }
    let value = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_key = name.trim_end() == key || unquoted(name.trim_end()) == Some(key);
        (is_key && (value.is_empty() || value.starts_with([' ', '\t', '\r']))).then(|| value.trim())
    })?;
    let value = match unquoted(value) {
        Some(inner) => inner,
        None => value.split(" #").next().unwrap_or_default().trim_end(),
    };
    let is_scalar = !value.starts_with(['#', '{', '[', '|', '>', '&', '*', '!']);
    (is_scalar && !["", "~", "null"].contains(&value)).then(|| value.to_owned())
}

/// What stands in quotes at the beginning.
fn unquoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|first| ['"', '\''].contains(first))?;
    text[1..].split_once(quote).map(|(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_of_the_top_level_is_read_in_each_of_its_forms() {
        let key = |text: &str| top_level(text, "cgroupDriver");
        for text in [
            "kind: KubeletConfiguration\ncgroupDriver: systemd\n",
            "cgroupDriver:   systemd   # as Docker's\r\n",
            "cgroupDriver: \"systemd\" # as Docker's\n",
            "'cgroupDriver' : 'systemd'",
            "---\nauthentication:\n  cgroupDriver: cgroupfs\ncgroupDriver: systemd\n",
            r#" {"kind": "KubeletConfiguration", "cgroupDriver": "systemd"}"#,
        ] {
            assert_eq!(key(text).as_deref(), Some("systemd"), "{text}");
        }
        for text in [
            "",
            "# cgroupDriver: systemd",
            "cgroupDriver:",
            "cgroupDriver: # nothing",
            "cgroupDriver: ~",
            "cgroupDriver:systemd",
            "cgroupDriver: {a: b}",
            "  cgroupDriver: systemd",
            "cgroupDriverX: systemd",
            "{\"cgroupDriver\": 7}",
            "{",
        ] {
            assert_eq!(key(text), None, "{text}");
        }
        assert_eq!(top_level("{\"failSwapOn\": false}", "failSwapOn").as_deref(), Some("false"));
    }

    #[test]
    fn flags_are_read_in_both_forms_and_the_last_one_counts() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(flag(&words("kubelet --config=/a --config-dir=/b"), "config").as_deref(), Some("/a"));
        assert_eq!(flag(&words("kubelet --config /a --config /c"), "config").as_deref(), Some("/c"));
        assert_eq!(flag(&words("kubelet --config"), "config"), None);
        assert_eq!(kubeadm_flags("KUBELET_KUBEADM_ARGS=\"--a=b --c=d\"\n"), ["--a=b", "--c=d"]);
        assert_eq!(kubeadm_flags("OTHER=1\n"), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(cgroupDriver|'cgroupDriver')?[:'\"{} #\\na-z]{0,20}") {
            let value = top_level(&text, "cgroupDriver");
            prop_assert!(value.is_none_or(|value| !value.is_empty() && text.contains(&value)));
        }

        #[test]
        fn what_is_written_is_read(before in "[ #a-z:\\n]{0,20}", value in "[a-z/:._-]{1,20}") {
            prop_assume!(value != "null" && !before.contains("cgroupDriver") && !before.trim_start().starts_with('{'));
            for quote in ["", "'", "\""] {
                let text = format!("{before}\ncgroupDriver: {quote}{value}{quote}\nother: 1\n");
                prop_assert_eq!(top_level(&text, "cgroupDriver"), Some(value.clone()));
            }
        }
    }
}
