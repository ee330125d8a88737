//! Whole attachments, with plugins that are shell scripts: each appends a line to the log at every call, then does as its test says.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use super::testing::Dir;
use super::*;

/// One node: directories, a pod's namespace (any file will do) and what the plugins saw.
struct Node {
    dir: Dir,
}

/// One call, as its plugin saw it.
#[derive(Debug, PartialEq)]
struct Call {
    plugin: String,
    verb: String,
    netns: String,
    request: Value,
}

impl Node {
    fn new() -> Self {
        let node = Node { dir: Dir::new() };
        for name in ["conf", "bin"] {
            std::fs::create_dir(node.dir.path(name)).unwrap();
        }
        std::fs::write(node.dir.path("netns"), "").unwrap();
        node
    }

    /// A network of the named plugins, each answering ADD as told.
    fn with_plugins(plugins: &[(&str, &str)]) -> Self {
        let node = Node::new();
        let list: Vec<_> = plugins.iter().map(|(name, _)| json!({ "type": name })).collect();
        node.configure("10-pods.conflist", &json!({"cniVersion": "1.0.0", "name": "pods", "plugins": list}));
        for (name, on_add) in plugins {
            node.plugin(name, on_add, "");
        }
        node
    }

    fn configure(&self, file: &str, config: &Value) {
        std::fs::write(self.dir.path("conf").join(file), config.to_string()).unwrap();
    }

    fn plugin(&self, name: &str, on_add: &str, on_del: &str) -> PathBuf {
        let log = self.dir.path("calls");
        let body = format!(
            r#"request=$(cat)
printf '%s\t%s\t%s\t%s\n' {name} "$CNI_COMMAND" "$CNI_NETNS" "$request" >>{}
case $CNI_COMMAND in ADD) {} ;; DEL) {} ;; esac"#,
            log.display(),
            if on_add.is_empty() { ":" } else { on_add },
            if on_del.is_empty() { ":" } else { on_del },
        );
        self.dir.script(&format!("bin/{name}"), &body)
    }

    fn calls(&self) -> Vec<Call> {
        let log = std::fs::read_to_string(self.dir.path("calls")).unwrap_or_default();
        let call = |line: &str| {
            let mut fields = line.splitn(4, '\t').map(str::to_owned);
            let mut field = || fields.next().unwrap();
            let (plugin, verb, netns) = (field(), field(), field());
            Call { plugin, verb, netns, request: serde_json::from_str(&field()).unwrap() }
        };
        log.lines().map(call).collect()
    }

    /// The calls so far, as `plugin VERB`.
    fn order(&self) -> Vec<String> {
        self.calls().iter().map(|call| format!("{} {}", call.plugin, call.verb)).collect()
    }

    /// A daemon of this node, as after a restart.
    fn cni(&self) -> Cni {
        self.cni_within(Duration::from_secs(60))
    }

    fn cni_within(&self, limit: Duration) -> Cni {
        let dirs =
            CniDirs { conf: self.dir.path("conf"), bin: vec![self.dir.path("bin")], cache: self.dir.path("cache") };
        Cni::with_limit(dirs, self.records(), limit)
    }

    fn records(&self) -> Records {
        Records::open(self.dir.path("records")).unwrap()
    }

    fn netns(&self) -> String {
        self.dir.path("netns").display().to_string()
    }

    fn attachment(&self) -> Attachment {
        Attachment {
            container_id: "c1".to_owned(),
            netns: self.netns(),
            pod_name: "web".to_owned(),
            pod_namespace: "shop".to_owned(),
            pod_uid: "u1".to_owned(),
            port_mappings: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// All of ADD but the loopback interface, since the namespace is a plain file here.
    async fn attach(&self, cni: &Cni, attachment: &Attachment) -> Result<Vec<String>, Error> {
        let list = cni.inner.conf_dir.current()?;
        cni.attach(&list, netns::Identity::of_pod(&attachment.netns)?, attachment).await
    }

    async fn add(&self, cni: &Cni) -> Result<Vec<String>, Error> {
        self.attach(cni, &self.attachment()).await
    }

    /// Names of what is left of attachments: records and cache files.
    fn left(&self) -> Vec<String> {
        let mut names = self.records().names().unwrap();
        let cached = std::fs::read_dir(self.dir.path("cache/results")).into_iter().flatten();
        names.extend(cached.map(|entry| entry.unwrap().file_name().into_string().unwrap()));
        names
    }
}

const ADDRESS: &str = r#"echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/16"}]}'"#;
const TWO_ADDRESSES: &str = r#"echo '{"ips": [{"address": "fd00::5/64"}, {"address": "10.1.0.5/16"}]}'"#;
const REFUSAL: &str = r#"echo '{"code": 11, "msg": "later", "details": "the pool is full"}'; exit 1"#;

fn sandbox() -> SandboxId {
    SandboxId::new("c1")
}

#[tokio::test]
async fn each_plugin_gets_the_result_of_the_one_before_and_the_last_one_counts() {
    let node = Node::with_plugins(&[("first", ADDRESS), ("second", TWO_ADDRESSES)]);
    let cni = node.cni();
    assert_eq!(node.add(&cni).await.unwrap(), ["10.1.0.5", "fd00::5"]);
    assert_eq!(cni.addresses(&sandbox()).unwrap(), ["10.1.0.5", "fd00::5"]);
    let calls = node.calls();
    assert_eq!(node.order(), ["first ADD", "second ADD"]);
    assert_eq!(calls[0].request, json!({"cniVersion": "1.0.0", "name": "pods", "type": "first"}));
    assert_eq!(calls[1].request["prevResult"]["ips"], json!([{"address": "10.1.0.5/16"}]));
    assert_eq!(calls[1].netns, node.netns());
}

#[tokio::test]
async fn del_goes_backwards_with_the_last_result_and_leaves_nothing() {
    let node = Node::with_plugins(&[("first", ADDRESS), ("second", TWO_ADDRESSES)]);
    let cni = node.cni();
    node.add(&cni).await.unwrap();
    assert_eq!(node.left(), ["c1", "pods-c1-eth0"]);
    cni.del("c1", Some(&node.netns())).await.unwrap();
    assert_eq!(node.order()[2..], ["second DEL", "first DEL"]);
    for call in &node.calls()[2..] {
        assert_eq!(call.request["prevResult"]["ips"][0]["address"], "fd00::5/64");
        assert_eq!(call.netns, node.netns());
    }
    assert_eq!(node.left(), [""; 0]);
    assert_eq!(cni.addresses(&sandbox()), None);
    cni.del("c1", Some(&node.netns())).await.unwrap();
    assert_eq!(node.order().len(), 4);
}

#[tokio::test]
async fn del_works_after_a_restart_with_configuration_and_namespace_gone() {
    let node = Node::with_plugins(&[("first", ADDRESS)]);
    node.add(&node.cni()).await.unwrap();
    std::fs::remove_dir_all(node.dir.path("conf")).unwrap();
    std::fs::remove_file(node.dir.path("netns")).unwrap();
    let cni = node.cni();
    assert_eq!(cni.addresses(&sandbox()).unwrap(), ["10.1.0.5"]);
    cni.del("c1", Some(&node.netns())).await.unwrap();
    let calls = node.calls();
    assert_eq!((calls[1].verb.as_str(), calls[1].netns.as_str()), ("DEL", ""));
    assert_eq!(calls[1].request["name"], "pods");
    assert_eq!(node.left(), [""; 0]);
}

#[tokio::test]
async fn another_namespace_at_the_same_path_is_not_touched() {
    let node = Node::with_plugins(&[("first", ADDRESS)]);
    let cni = node.cni();
    node.add(&cni).await.unwrap();
    // beside the old one, so that it can't get the old one's inode
    std::fs::write(node.dir.path("other"), "").unwrap();
    std::fs::rename(node.dir.path("other"), node.dir.path("netns")).unwrap();
    cni.del("c1", Some(&node.netns())).await.unwrap();
    assert_eq!(node.calls()[1].netns, "");
}

#[tokio::test]
async fn a_failure_is_told_whole_and_what_was_called_is_undone_backwards() {
    let node = Node::with_plugins(&[("first", ADDRESS), ("second", REFUSAL), ("third", ADDRESS)]);
    let cni = node.cni();
    let error = node.add(&cni).await.unwrap_err().to_string();
    let expected =
        "CNI plugin second (network pods, 10-pods.conflist) failed to ADD: later: the pool is full (code 11)";
    assert_eq!(error, expected);
    assert_eq!(node.order(), ["first ADD", "second ADD", "second DEL", "first DEL"]);
    assert_eq!(node.left(), [""; 0]);
    assert_eq!(cni.addresses(&sandbox()), None);
}

#[tokio::test]
async fn a_result_without_an_address_is_undone_and_blamed_on_the_last_plugin() {
    let node = Node::with_plugins(&[("first", "echo '{}'"), ("second", "echo '{}'")]);
    let error = node.add(&node.cni()).await.unwrap_err().to_string();
    assert!(error.contains("plugin second") && error.contains("names no address"), "{error}");
    assert_eq!(node.order(), ["first ADD", "second ADD", "second DEL", "first DEL"]);
    assert_eq!(node.left(), [""; 0]);
}

#[tokio::test]
async fn garbage_and_nothing_are_no_results() {
    for on_add in ["echo garbage", "", "echo '[]'"] {
        let node = Node::with_plugins(&[("first", on_add)]);
        let error = node.add(&node.cni()).await.unwrap_err().to_string();
        assert!(error.contains("plugin first") && error.contains("its result is "), "{error}");
        assert_eq!(node.order(), ["first ADD", "first DEL"]);
    }
}

#[tokio::test]
async fn a_plugin_that_hangs_is_undone_after_the_limit() {
    let node = Node::with_plugins(&[("first", ADDRESS), ("second", "sleep 60")]);
    let began = Instant::now();
    let error = node.add(&node.cni_within(Duration::from_secs(3))).await.unwrap_err();
    assert!(matches!(&error, Error::Plugin { source, .. } if matches!(**source, Failure::Timeout { .. })), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(node.order(), ["first ADD", "second ADD", "second DEL", "first DEL"]);
    assert_eq!(node.left(), [""; 0]);
}

#[tokio::test]
async fn what_could_not_be_undone_is_left_for_a_del_to_come() {
    let node = Node::with_plugins(&[("first", REFUSAL)]);
    node.plugin("first", REFUSAL, "exit 1");
    let cni = node.cni();
    assert!(node.add(&cni).await.unwrap_err().to_string().contains("later"));
    assert_eq!(node.left(), ["c1"]);
    // a sandbox whose ADD never succeeded has no addresses, which tells the index that it isn't ready
    assert_eq!(node.cni().addresses(&sandbox()), None);
    assert!(cni.del("c1", None).await.unwrap_err().to_string().contains("failed to DEL"));
    node.plugin("first", "", "");
    cni.del("c1", None).await.unwrap();
    assert_eq!(node.left(), [""; 0]);
}

#[tokio::test]
async fn killed_between_two_plugins_leaves_a_record_that_del_goes_by() {
    let node = Node::with_plugins(&[("first", ADDRESS), ("second", "sleep 60")]);
    let cni = node.cni();
    let second_runs = async {
        while node.calls().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        added = node.add(&cni) => panic!("{added:?}"),
        () = second_runs => {}
    }
    assert_eq!(node.left(), ["c1"]);
    node.cni().del("c1", None).await.unwrap();
    assert_eq!(node.order(), ["first ADD", "second ADD", "second DEL", "first DEL"]);
    assert_eq!(node.calls()[2].request.get("prevResult"), None);
    assert_eq!(node.left(), [""; 0]);
}

#[tokio::test]
async fn del_with_a_plugin_gone_says_so_and_can_be_tried_again() {
    let node = Node::with_plugins(&[("first", ADDRESS)]);
    let cni = node.cni();
    node.add(&cni).await.unwrap();
    std::fs::remove_file(node.dir.path("bin/first")).unwrap();
    let error = cni.del("c1", None).await.unwrap_err().to_string();
    let bin = node.dir.path("bin").display().to_string();
    assert!(error.contains("plugin first") && error.contains(&format!("not found in {bin}")), "{error}");
    node.plugin("first", "", "");
    cni.del("c1", None).await.unwrap();
    assert_eq!(node.order(), ["first ADD", "first DEL"]);
}

#[tokio::test]
async fn a_second_add_is_refused_and_leaves_the_first_alone() {
    let node = Node::with_plugins(&[("first", ADDRESS)]);
    let cni = node.cni();
    node.add(&cni).await.unwrap();
    let refused = node.add(&cni).await;
    assert!(matches!(refused, Err(Error::Joined { .. })), "{refused:?}");
    assert_eq!(node.order(), ["first ADD"]);
    assert_eq!(cni.addresses(&sandbox()).unwrap(), ["10.1.0.5"]);
}

#[tokio::test]
async fn an_unknown_or_impossible_id_is_deleted_already() {
    let node = Node::new();
    for id in ["c1", "", "../c1", "a/b", "ä"] {
        node.cni().del(id, None).await.unwrap();
        assert_eq!(node.cni().addresses(&SandboxId::new(id)), None);
    }
}

#[tokio::test]
async fn before_version_0_4_del_is_not_told_the_result() {
    let node = Node::new();
    node.configure("10-old.conf", &json!({"name": "old", "type": "first"}));
    node.plugin("first", r#"echo '{"ip4": {"ip": "10.1.0.5/16"}}'"#, "");
    let cni = node.cni();
    assert_eq!(node.add(&cni).await.unwrap(), ["10.1.0.5"]);
    cni.del("c1", None).await.unwrap();
    let requests: Vec<_> = node.calls().into_iter().map(|call| call.request).collect();
    let request = json!({"cniVersion": "0.1.0", "name": "old", "type": "first"});
    assert_eq!(requests, [request.clone(), request]);
}

#[tokio::test]
async fn the_cache_is_as_cnis_library_writes_it() {
    use base64::Engine;
    let node = Node::with_plugins(&[("first", ADDRESS)]);
    let cni = node.cni();
    cni.set_pod_cidr("10.1.0.0/24");
    node.add(&cni).await.unwrap();
    let cached = std::fs::read(node.dir.path("cache/results/pods-c1-eth0")).unwrap();
    let mut cached: Value = serde_json::from_slice(&cached).unwrap();
    let config = base64::engine::general_purpose::STANDARD.decode(cached["config"].take().as_str().unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&config).unwrap()["name"], "pods");
    let expected = json!({
        "kind": "cniCacheV1",
        "containerId": "c1",
        "config": null,
        "ifName": "eth0",
        "networkName": "pods",
        "netns": node.netns(),
        "cniArgs": [
            ["IgnoreUnknown", "1"],
            ["K8S_POD_NAMESPACE", "shop"],
            ["K8S_POD_NAME", "web"],
            ["K8S_POD_INFRA_CONTAINER_ID", "c1"],
            ["K8S_POD_UID", "u1"],
        ],
        "capabilityArgs": {"ipRanges": [[{"subnet": "10.1.0.0/24"}]]},
        "result": {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/16"}]},
    });
    assert_eq!(cached, expected);
}

#[tokio::test]
async fn slow_plugins_of_many_pods_run_side_by_side() {
    let node = Node::with_plugins(&[("first", &format!("sleep 1; {ADDRESS}"))]);
    let cni = node.cni();
    let began = Instant::now();
    let attachments: Vec<_> =
        (0..20).map(|n| Attachment { container_id: format!("c{n}"), ..node.attachment() }).collect();
    let added = futures_util::future::join_all(attachments.iter().map(|pod| node.attach(&cni, pod))).await;
    assert!(added.into_iter().all(|added| added.is_ok()));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_nodes_own_network_is_never_given_to_a_plugin() {
    let node = Node::with_plugins(&[("first", ADDRESS)]);
    let attachment = Attachment { netns: "/proc/self/ns/net".to_owned(), ..node.attachment() };
    let refused = node.cni().add(&attachment).await;
    assert!(matches!(refused, Err(Error::HostNetns { .. })), "{refused:?}");
    let gone = node.cni().add(&Attachment { netns: node.dir.path("gone").display().to_string(), ..attachment }).await;
    assert!(matches!(gone, Err(Error::Netns { .. })), "{gone:?}");
    assert_eq!(node.order(), [""; 0]);
}

#[test]
fn ready_names_what_is_missing() {
    let node = Node::new();
    let reason = || node.cni().ready().map_or_else(|error| error.to_string(), |()| "ready".to_owned());
    assert!(reason().contains(&node.dir.path("conf").display().to_string()), "{}", reason());
    node.configure("10-a.conf", &json!({"name": "a", "type": "first"}));
    assert!(reason().starts_with("CNI plugin first (network a, 10-a.conf): not found in "), "{}", reason());
    node.plugin("first", "", "");
    assert_eq!(reason(), "ready");
}
