//! Network configurations as administrators write them: `.conflist`, and the older `.conf` and `.json` with one plugin. Pure.
//!
//! Whatever the file's form, what comes out is a list; a file that can't be used gives the reason, for the operator to read.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::Culprit;

/// Versions of the CNI specification that are spoken, oldest first.
pub(super) const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// What a file without a version is taken for, as plugins themselves do.
const UNSAID_VERSION: &str = "0.1.0";
/// The first version whose DEL is given the result of ADD.
const DEL_WITH_RESULT: &str = "0.4.0";
/// The first version that has STATUS and GC.
const STATUS_AND_GC: &str = "1.1.0";

/// A network: its plugins in the order of ADD.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct NetworkList {
    /// The file it was read from, without its directory; named in errors.
    pub(super) file: String,
    /// The network's name.
    pub(super) name: String,
    /// The version spoken with its plugins, one of [`VERSIONS`].
    pub(super) version: String,
    /// At least one.
    pub(super) plugins: Vec<Plugin>,
    /// The whole configuration, in the form of a list.
    pub(super) json: Map<String, Value>,
}

/// One plugin of a network.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plugin {
    /// The name of its executable.
    pub(super) kind: String,
    /// What it wants to be told in `runtimeConfig`.
    pub(super) capabilities: Vec<String>,
    /// Its configuration as written.
    pub(super) json: Map<String, Value>,
}

impl Plugin {
    /// The plugin that this one gets addresses from: it calls it by itself.
    pub(super) fn delegate(&self) -> Option<&str> {
        self.json.get("ipam")?.get("type")?.as_str().filter(|kind| !kind.is_empty())
    }
}

/// A list as it is kept on disk: all else is read from it again.
#[derive(Serialize, Deserialize)]
struct Stored {
    file: String,
    config: Map<String, Value>,
}

impl From<NetworkList> for Stored {
    fn from(list: NetworkList) -> Self {
        Stored { file: list.file, config: list.json }
    }
}

impl TryFrom<Stored> for NetworkList {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        of_list(&stored.file, stored.config)
    }
}

/// A file that can't be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Its name, without its directory.
    pub(super) file: String,
    /// What is wrong with it.
    pub(super) reason: String,
}

/// Whether a file of this name is a network configuration.
pub(super) fn is_config(file: &str) -> bool {
    !file.starts_with('.') && [".conflist", ".conf", ".json"].iter().any(|ending| file.ends_with(ending))
}

/// The first of the files, which come sorted by name, that can be used; those before it with what is wrong with them.
pub(super) fn choose(
    files: impl Iterator<Item = (String, Result<Vec<u8>, String>)>,
) -> (Option<NetworkList>, Vec<Fault>) {
    let mut faults = Vec::new();
    for (file, content) in files {
        match content.and_then(|content| read(&file, &content)) {
            Ok(list) => return (Some(list), faults),
            Err(reason) => faults.push(Fault { file, reason }),
        }
    }
    (None, faults)
}

/// Reads a configuration; its file's name decides the form, as it always has.
pub fn read(file: &str, content: &[u8]) -> Result<NetworkList, String> {
    if content.iter().all(u8::is_ascii_whitespace) {
        return Err("is empty".to_owned());
    }
    let json = serde_json::from_slice::<Value>(content).map_err(|error| format!("is not JSON: {error}"))?;
    let Value::Object(json) = json else { return Err("is not a JSON object".to_owned()) };
    if file.ends_with(".conflist") { of_list(file, json) } else { of_list(file, list_of_one(json)?) }
}

/// The list that a configuration with one plugin stands for.
fn list_of_one(plugin: Map<String, Value>) -> Result<Map<String, Value>, String> {
    if !plugin.contains_key("type") && plugin.contains_key("plugins") {
        return Err("has \"plugins\": the name of such a file must end in .conflist".to_owned());
    }
    let taken = ["name", "cniVersion"].into_iter().filter_map(|key| Some((key.to_owned(), plugin.get(key)?.clone())));
    let mut list: Map<String, Value> = taken.collect();
    list.insert("plugins".to_owned(), Value::Array(vec![Value::Object(plugin)]));
    Ok(list)
}

fn of_list(file: &str, json: Map<String, Value>) -> Result<NetworkList, String> {
    let name = text(&json, "name")?.ok_or("has no \"name\"")?.to_owned();
    if !is_id(&name) {
        return Err(format!("\"name\" {name:?} is not made of letters, digits, '_', '.' and '-'"));
    }
    let version = version_of(&json)?;
    let plugins = match json.get("plugins") {
        Some(Value::Array(plugins)) if !plugins.is_empty() => plugins,
        Some(Value::Array(_)) => return Err("\"plugins\" is empty".to_owned()),
        Some(_) => return Err("\"plugins\" is not a list".to_owned()),
        None => return Err("has no \"plugins\"".to_owned()),
    };
    let plugins = plugins.iter().enumerate();
    let plugins = plugins.map(|(n, plugin)| plugin_of(plugin).map_err(|reason| format!("plugins[{n}] {reason}")));
    Ok(NetworkList { file: file.to_owned(), name, version, plugins: plugins.collect::<Result<_, _>>()?, json })
}

fn plugin_of(json: &Value) -> Result<Plugin, String> {
    let json = json.as_object().ok_or("is not a JSON object")?;
    let kind = text(json, "type")?.ok_or("has no \"type\"")?.to_owned();
    if kind.is_empty() || kind == "." || kind == ".." || kind.contains(['/', '\\', '\0']) {
        return Err(format!("\"type\" {kind:?} is not the name of an executable"));
    }
    let capabilities = match json.get("capabilities") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(all)) => {
            all.iter().filter(|(_, wanted)| **wanted == Value::Bool(true)).map(|(name, _)| name.clone()).collect()
        }
        Some(_) => return Err("\"capabilities\" is not a JSON object".to_owned()),
    };
    Ok(Plugin { kind, capabilities, json: json.clone() })
}

/// The newest version that the file offers and that we speak; `cniVersions` came with 1.1.0.
fn version_of(json: &Map<String, Value>) -> Result<String, String> {
    let single = text(json, "cniVersion")?.filter(|version| !version.is_empty());
    let offered: Vec<&str> = match json.get("cniVersions") {
        None => vec![single.unwrap_or(UNSAID_VERSION)],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).chain(single).collect(),
        Some(_) => return Err("\"cniVersions\" is not a list".to_owned()),
    };
    match VERSIONS.into_iter().rev().find(|version| offered.contains(version)) {
        Some(spoken) => Ok(spoken.to_owned()),
        None => Err(format!("CNI version {} is none of {}", offered.join(", "), VERSIONS.join(", "))),
    }
}

/// A key's text; an error when it is something else.
fn text<'a>(json: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, String> {
    match json.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("\"{key}\" is not a string")),
    }
}

/// What the specification lets names of networks and containers be; they become parts of file names.
pub(super) fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.bytes().all(plain) && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

impl NetworkList {
    /// Names one of its plugins in an error.
    pub(super) fn culprit(&self, plugin: &Plugin) -> Culprit {
        Culprit { plugin: plugin.kind.clone(), network: self.name.clone(), file: self.file.clone() }
    }

    /// Whether DEL is given the result of ADD.
    pub(super) fn tells_result_at_del(&self) -> bool {
        self.speaks(DEL_WITH_RESULT)
    }

    /// Whether its plugins can be asked for their STATUS.
    pub(super) fn has_status(&self) -> bool {
        self.speaks(STATUS_AND_GC)
    }

    /// Whether its plugins can be told to collect garbage, and the administrator has nothing against it.
    pub(super) fn has_gc(&self) -> bool {
        self.speaks(STATUS_AND_GC) && self.json.get("disableGC") != Some(&Value::Bool(true))
    }

    /// Whether this version or a later one is spoken.
    fn speaks(&self, first: &str) -> bool {
        let place = |version: &str| VERSIONS.iter().position(|known| *known == version);
        place(&self.version) >= place(first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &str = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [
        {"type": "bridge", "bridge": "cni0"}, {"type": "portmap", "capabilities": {"portMappings": true, "mac": false}}]}"#;

    fn reason(file: &str, content: &str) -> String {
        read(file, content.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_list_is_read_with_its_plugins_in_order() {
        let list = read("10-pods.conflist", LIST.as_bytes()).unwrap();
        assert_eq!((list.name.as_str(), list.version.as_str()), ("pods", "1.0.0"));
        let kinds: Vec<_> = list.plugins.iter().map(|plugin| plugin.kind.as_str()).collect();
        assert_eq!(kinds, ["bridge", "portmap"]);
        assert_eq!(list.plugins[1].capabilities, ["portMappings"]);
        assert_eq!(list.plugins[0].json["bridge"], "cni0");
    }

    #[test]
    fn a_file_with_one_plugin_becomes_a_list_of_one() {
        for file in ["10-old.conf", "10-old.json"] {
            let list = read(file, br#"{"cniVersion": "0.3.1", "name": "old", "type": "bridge", "mtu": 9}"#).unwrap();
            assert_eq!((list.name.as_str(), list.version.as_str(), list.plugins.len()), ("old", "0.3.1", 1));
            assert_eq!(list.plugins[0].json["mtu"], 9);
        }
    }

    #[test]
    fn the_newest_common_version_is_spoken_and_none_means_the_oldest() {
        let version = |keys: &str| {
            let content = format!(r#"{{{keys} "name": "a", "type": "b"}}"#);
            read("a.conf", content.as_bytes()).map(|list| list.version)
        };
        assert_eq!(version("").unwrap(), "0.1.0");
        assert_eq!(version(r#""cniVersion": "","#).unwrap(), "0.1.0");
        assert_eq!(version(r#""cniVersion": "0.2.0","#).unwrap(), "0.2.0");
        assert!(version(r#""cniVersion": "2.0.0","#).unwrap_err().contains("2.0.0"));
        let list = |keys: &str| {
            let content = format!(r#"{{{keys} "name": "a", "plugins": [{{"type": "b"}}]}}"#);
            read("a.conflist", content.as_bytes()).map(|list| list.version)
        };
        assert_eq!(list(r#""cniVersions": ["1.0.0", "1.1.0", "9.9.9"], "cniVersion": "0.4.0","#).unwrap(), "1.1.0");
        assert_eq!(list(r#""cniVersions": ["9.9.9"], "cniVersion": "0.4.0","#).unwrap(), "0.4.0");
        assert!(list(r#""cniVersions": ["9.9.9"],"#).is_err());
    }

    #[test]
    fn del_is_told_the_result_from_version_0_4_on() {
        let tells = |version: &str| {
            let content = format!(r#"{{"cniVersion": "{version}", "name": "a", "type": "b"}}"#);
            read("a.conf", content.as_bytes()).unwrap().tells_result_at_del()
        };
        assert_eq!(VERSIONS.map(tells), [false, false, false, false, true, true, true]);
    }

    #[test]
    fn status_and_gc_came_with_version_1_1() {
        let list = |keys: &str| {
            let content = format!(r#"{{{keys}, "name": "a", "plugins": [{{"type": "b"}}]}}"#);
            read("a.conflist", content.as_bytes()).unwrap()
        };
        let (old, new) = (list(r#""cniVersion": "1.0.0""#), list(r#""cniVersion": "1.1.0""#));
        assert_eq!((old.has_status(), old.has_gc()), (false, false));
        assert_eq!((new.has_status(), new.has_gc()), (true, true));
        assert!(!list(r#""cniVersion": "1.1.0", "disableGC": true"#).has_gc());
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        let cases = [
            ("a.conflist", "", "is empty"),
            ("a.conflist", " \n", "is empty"),
            ("a.conflist", "{", "is not JSON"),
            ("a.conflist", "[]", "is not a JSON object"),
            ("a.conflist", r#"{"plugins": [{"type": "b"}]}"#, "has no \"name\""),
            ("a.conflist", r#"{"name": 7, "plugins": [{"type": "b"}]}"#, "\"name\" is not a string"),
            ("a.conflist", r#"{"name": "../a", "plugins": [{"type": "b"}]}"#, "../a"),
            ("a.conflist", r#"{"name": "a", "type": "b"}"#, "has no \"plugins\""),
            ("a.conflist", r#"{"name": "a", "plugins": []}"#, "\"plugins\" is empty"),
            ("a.conflist", r#"{"name": "a", "plugins": {}}"#, "\"plugins\" is not a list"),
            ("a.conflist", r#"{"name": "a", "plugins": [{"type": "b"}, {}]}"#, "plugins[1] has no \"type\""),
            ("a.conflist", r#"{"name": "a", "plugins": [{"type": "../b"}]}"#, "plugins[0] \"type\" \"../b\""),
            ("a.conf", r#"{"name": "a", "plugins": [{"type": "b"}]}"#, ".conflist"),
            ("a.conf", r#"{"name": "a", "type": "b", "capabilities": []}"#, "\"capabilities\""),
        ];
        for (file, content, expected) in cases {
            assert!(reason(file, content).contains(expected), "{content}: {}", reason(file, content));
        }
    }

    #[test]
    fn the_first_that_can_be_used_wins_and_later_ones_are_not_read() {
        let good = |name: &str| Ok(format!(r#"{{"name": "{name}", "type": "b"}}"#).into_bytes());
        let files = [
            ("1.conf".to_owned(), Err("is a riddle".to_owned())),
            ("2.conf".to_owned(), Ok(b"{".to_vec())),
            ("3.conf".to_owned(), good("third")),
            ("4.conf".to_owned(), good("fourth")),
        ];
        let mut files = files.into_iter();
        let (list, faults) = choose(&mut files);
        assert_eq!(list.unwrap().name, "third");
        let faulty: Vec<_> = faults.iter().map(|fault| fault.file.as_str()).collect();
        assert_eq!(faulty, ["1.conf", "2.conf"]);
        assert_eq!(files.next().unwrap().0, "4.conf");
    }

    #[test]
    fn only_three_endings_are_configurations() {
        for file in ["10-a.conflist", "a.conf", "a.json"] {
            assert!(is_config(file), "{file}");
        }
        for file in ["a.conf.bak", "README", ".a.conflist", "a.conflist~", "conf"] {
            assert!(!is_config(file), "{file}");
        }
    }

    #[test]
    fn a_kept_list_is_the_same_when_read_again_and_a_bad_one_is_refused() {
        let list = read("10-pods.conflist", LIST.as_bytes()).unwrap();
        let kept = serde_json::to_vec(&list).unwrap();
        assert_eq!(serde_json::from_slice::<NetworkList>(&kept).unwrap(), list);
        assert!(serde_json::from_slice::<NetworkList>(br#"{"file": "a", "config": {"name": "/"}}"#).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list_or_a_reason(content: Vec<u8>, list: bool) {
            let _ = read(if list { "a.conflist" } else { "a.conf" }, &content);
        }

        #[test]
        fn any_json_near_a_list_is_a_list_or_a_reason(
            key in "name|cniVersion|cniVersions|plugins|type|capabilities",
            value in r#"null|7|"x"|\[\]|\{\}|\[7\]|\[\{\}\]|\[\{"type": 7\}\]"#,
        ) {
            let content = format!(r#"{{"name": "a", "type": "b", "plugins": [{{"type": "b"}}], "{key}": {value}}}"#);
            for file in ["a.conflist", "a.conf"] {
                if let Ok(list) = read(file, content.as_bytes()) {
                    prop_assert!(!list.plugins.is_empty() && is_id(&list.name));
                }
            }
        }
    }
}
