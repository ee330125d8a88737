//! Whole attachments, with plugins that are shell scripts: each appends a line to the log at every call, then does as its test says.

use std::convert::Infallible;
use std::future::ready;
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
        self.cni_with(limit, Duration::from_secs(30))
    }

    fn cni_with(&self, plugins: Duration, undo: Duration) -> Cni {
        let dirs =
            CniDirs { conf: self.dir.path("conf"), bin: vec![self.dir.path("bin")], cache: self.dir.path("cache") };
        Cni::with_times(dirs, self.records(), Times { plugins, undo, retry: Duration::from_millis(50) })
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
            pod: Pod {
                name: "web".to_owned(),
                namespace: "shop".to_owned(),
                uid: "u1".to_owned(),
                port_mappings: Vec::new(),
                annotations: BTreeMap::new(),
                dns: None,
            },
        }
    }

    /// All of ADD but the loopback interface, since the namespace is a plain file here.
    async fn attach(&self, cni: &Cni, attachment: &Attachment) -> Result<Vec<String>, Error> {
        let Ok(addresses) = self.attach_beside(cni, attachment, Ok(()), keep).await?;
        Ok(addresses)
    }

    async fn attach_beside<T, E>(
        &self,
        cni: &Cni,
        attachment: &Attachment,
        loopback: Result<(), Error>,
        beside: impl AsyncFnOnce(Vec<String>) -> Result<T, E>,
    ) -> Result<Result<T, E>, Error> {
        let netns = netns::Identity::of_pod(&attachment.netns)?;
        cni.attach(netns, attachment, ready(loopback), beside).await
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
const ITSELF: &str = r#"echo "$request" | "$0""#;
const REFUSAL: &str = r#"echo '{"code": 11, "msg": "later", "details": "the pool is full"}'; exit 1"#;

/// Nothing beside.
async fn keep(addresses: Vec<String>) -> Result<Vec<String>, Infallible> {
    Ok(addresses)
}

fn sandbox() -> SandboxId {
    SandboxId::new("c1")
}

#[tokio::test]
async fn each_plugin_gets_the_result_of_the_one_before_and_the_last_one_counts() {
    let node = Node::with_plugins(&[("first", ADDRESS), ("second", TWO_ADDRESSES)]);
    let cni = node.cni();
    assert_eq!(node.add(&cni).await.unwrap(), ["fd00::5", "10.1.0.5"]);
    assert_eq!(cni.addresses(&sandbox()).unwrap(), ["fd00::5", "10.1.0.5"]);
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
async fn a_plugin_that_hangs_at_del_too_is_told_soon_and_left_for_a_del_to_come() {
    let node = Node::with_plugins(&[("first", ADDRESS)]);
    node.plugin("first", "sleep 60", "sleep 60");
    let cni = node.cni_with(Duration::from_secs(4), Duration::from_millis(500));
    let began = Instant::now();
    let error = node.add(&cni).await.unwrap_err().to_string();
    assert!(error.contains("failed to ADD") && error.contains("within 4s"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    assert_eq!((node.left(), cni.has_record("c1")), (vec!["c1".to_owned()], true));
    node.plugin("first", "", "");
    cni.del_in_the_end("c1".to_owned()).await;
    assert_eq!(node.left(), [""; 0]);
}

#[tokio::test]
async fn what_is_done_beside_the_record_gets_the_addresses_and_its_failure_is_undone() {
    let node = Node::with_plugins(&[("first", ADDRESS), ("second", TWO_ADDRESSES)]);
    let cni = node.cni();
    let told = async |addresses: Vec<String>| Err::<(), _>(addresses.join(" "));
    let failed = node.attach_beside(&cni, &node.attachment(), Ok(()), told).await.unwrap();
    assert_eq!(failed, Err("fd00::5 10.1.0.5".to_owned()));
    assert_eq!(node.order(), ["first ADD", "second ADD", "second DEL", "first DEL"]);
    let call = &node.calls()[2];
    assert_eq!((&call.netns, &call.request["prevResult"]["ips"][1]["address"]), (&node.netns(), &json!("10.1.0.5/16")));
    assert_eq!((node.left(), cni.addresses(&sandbox())), (Vec::new(), None));
}

#[tokio::test]
async fn without_a_loopback_no_plugin_is_called_and_nothing_is_left() {
    let node = Node::with_plugins(&[("first", ADDRESS)]);
    let cni = node.cni();
    let source = io::ErrorKind::PermissionDenied.into();
    let down = Err(Error::Netns { path: "/there".to_owned(), source });
    assert!(matches!(node.attach_beside(&cni, &node.attachment(), down, keep).await, Err(Error::Netns { .. })));
    assert_eq!((node.order(), node.left()), (Vec::new(), Vec::new()));
}

/// Each plugin looks for a trace of another one's call, as the specification forbids two of one sandbox at once.
#[tokio::test]
async fn calls_for_one_sandbox_never_overlap() {
    let node = Node::with_plugins(&[("first", ADDRESS)]);
    let busy = node.dir.path("busy").display().to_string();
    let alone = format!("mkdir {busy} || exit 1; sleep 0.3; rmdir {busy}");
    node.plugin(
        "first",
        &format!("{alone}; {ADDRESS}"),
        &format!("{alone}; [ -e {busy}.once ] || {{ >{busy}.once; exit 1; }}"),
    );
    let cni = node.cni();
    let (added, early) = tokio::join!(node.add(&cni), cni.del("c1", None));
    assert!(added.is_ok(), "{added:?}");
    assert!(early.unwrap_err().to_string().contains("exit status: 1"), "the plugin's first DEL fails on purpose");
    let netns = node.netns();
    let all = tokio::join!(cni.del("c1", Some(&netns)), cni.del("c1", None), cni.del("c1", None));
    assert!(matches!(all, (Ok(()), Ok(()), Ok(()))), "{all:?}");
    assert_eq!(node.order(), ["first ADD", "first DEL", "first DEL"]);
}

#[test]
fn a_pod_that_cannot_be_joined_is_refused_beforehand() {
    let node = Node::new();
    let pod = node.attachment().pod;
    assert!(matches!(node.cni().check(&pod), Err(Error::NoConfig { .. })));
    node.configure("10-a.conf", &json!({"name": "a", "type": "first"}));
    assert!(node.cni().check(&pod).is_ok());
    let annotations = BTreeMap::from([("kubernetes.io/egress-bandwidth".to_owned(), "fast".to_owned())]);
    assert!(matches!(node.cni().check(&Pod { annotations, ..pod.clone() }), Err(Error::Annotation { .. })));
    assert!(matches!(node.cni().check(&Pod { name: "a;b=c".to_owned(), ..pod }), Err(Error::Argument { .. })));
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
async fn what_nobody_will_ask_for_again_is_tried_until_it_is_done() {
    let node = Node::with_plugins(&[("first", REFUSAL)]);
    node.plugin("first", REFUSAL, "exit 1");
    let cni = node.cni();
    assert!(node.add(&cni).await.is_err());
    let retrying = tokio::spawn(cni.clone().del_in_the_end("c1".to_owned()));
    eventually("tried again", || node.order().len() > 3).await;
    assert_eq!((node.left(), retrying.is_finished()), (vec!["c1".to_owned()], false));
    node.plugin("first", "", "");
    eventually("taken down", || retrying.is_finished()).await;
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
async fn a_plugin_that_stays_away_is_given_up_and_the_others_do_their_part() {
    let node = Node::with_plugins(&[("first", ADDRESS), ("second", ADDRESS)]);
    node.add(&node.cni()).await.unwrap();
    std::fs::remove_file(node.dir.path("bin/second")).unwrap();
    for _ in 0..ABSENCES_LIMIT {
        // a daemon of its own each time: the count survives restarts
        assert!(node.cni().del("c1", None).await.unwrap_err().is_absent_plugin());
    }
    assert_eq!(node.order(), ["first ADD", "second ADD"]);
    node.cni().del("c1", None).await.unwrap();
    assert_eq!(node.order()[2..], ["first DEL"]);
    assert_eq!(node.left(), [""; 0]);
}

#[tokio::test]
async fn a_plugin_that_only_starts_itself_is_told_and_the_others_do_their_part() {
    let node = Node::with_plugins(&[("first", ADDRESS), ("second", "")]);
    node.plugin("second", ITSELF, ITSELF);
    let error = node.add(&node.cni()).await.unwrap_err().to_string();
    assert!(
        error.contains("plugin second (network pods, 10-pods.conflist)") && error.contains("its own IPAM"),
        "{error}"
    );
    assert_eq!(node.order().last().unwrap(), "first DEL");
    assert_eq!(node.left(), [""; 0]);
}

#[tokio::test]
async fn a_plugin_whose_ipam_plugin_stays_away_is_given_up_too() {
    let node = Node::new();
    node.configure(
        "10-pods.conflist",
        &json!({
            "cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "first", "ipam": {"type": "addresses"}}],
        }),
    );
    node.plugin("first", ADDRESS, REFUSAL);
    node.plugin("addresses", "", "");
    node.add(&node.cni()).await.unwrap();
    assert!(!node.cni().del("c1", None).await.unwrap_err().is_absent_plugin(), "it refuses, and its own is there");
    std::fs::remove_file(node.dir.path("bin/addresses")).unwrap();
    for _ in 0..ABSENCES_LIMIT {
        let error = node.cni().del("c1", None).await.unwrap_err();
        assert!(
            error.is_absent_plugin()
                && error.to_string().contains("the pool is full (code 11); its IPAM plugin addresses"),
            "{error}"
        );
    }
    node.cni().del("c1", None).await.unwrap();
    assert_eq!(node.left(), [""; 0]);
}

#[tokio::test]
async fn a_plugin_that_refuses_is_never_given_up() {
    let node = Node::with_plugins(&[("first", ADDRESS)]);
    let cni = node.cni();
    node.add(&cni).await.unwrap();
    node.plugin("first", "", REFUSAL);
    for _ in 0..ABSENCES_LIMIT + 2 {
        assert!(cni.del("c1", None).await.is_err());
    }
    assert_eq!(node.left(), ["c1", "pods-c1-eth0"]);
}

/// Makes the node's attachment one that another adapter has made: our record goes, the cache stays.
fn left_by_another_adapter(node: &Node) {
    node.records().remove("c1").unwrap();
    let loopback = json!({
        "kind": "cniCacheV1", "containerId": "c1", "config": "e30=", "ifName": "eth0", "networkName": "cni-loopback",
        "result": {"cniVersion": "0.2.0", "ip4": {"ip": "127.0.0.1/8"}},
    });
    std::fs::write(node.dir.path("cache/results/cni-loopback-c1-eth0"), loopback.to_string()).unwrap();
}

#[tokio::test]
async fn a_pod_of_another_adapter_has_its_addresses_and_is_taken_down() {
    let node = Node::with_plugins(&[("first", ADDRESS)]);
    node.add(&node.cni()).await.unwrap();
    left_by_another_adapter(&node);
    std::fs::remove_dir_all(node.dir.path("conf")).unwrap();
    let cni = node.cni();
    assert_eq!(cni.addresses(&sandbox()).unwrap(), ["10.1.0.5"]);
    assert_eq!(cni.attached(), [""; 0], "it is not ours to take down unasked");
    cni.del("c1", Some(&node.netns())).await.unwrap();
    let calls = node.calls();
    assert_eq!((calls[1].verb.as_str(), &calls[1].netns), ("DEL", &node.netns()));
    assert_eq!(calls[1].request["prevResult"]["ips"], json!([{"address": "10.1.0.5/16"}]));
    assert_eq!(node.left(), [""; 0]);
    assert_eq!(cni.addresses(&sandbox()), None);
}

#[tokio::test]
async fn another_adapters_pod_whose_namespace_is_the_nodes_by_now_is_taken_down_without_it() {
    let node = Node::with_plugins(&[("first", ADDRESS)]);
    node.add(&node.cni()).await.unwrap();
    left_by_another_adapter(&node);
    node.cni().del("c1", Some("/proc/self/ns/net")).await.unwrap();
    assert_eq!(node.calls()[1].netns, "");
}

#[tokio::test]
async fn what_another_adapter_left_broken_counts_as_nothing() {
    let node = Node::with_plugins(&[("first", ADDRESS)]);
    std::fs::create_dir_all(node.dir.path("cache/results")).unwrap();
    let whole =
        json!({"kind": "cniCacheV1", "containerId": "c1", "config": "e30=", "ifName": "eth0", "networkName": "pods"});
    let other =
        json!({"kind": "cniCacheV1", "containerId": "x-c1", "config": "", "ifName": "eth0", "networkName": "pods"});
    for content in ["", "{", "[]", "{}", &whole.to_string(), &other.to_string()] {
        std::fs::write(node.dir.path("cache/results/pods-c1-eth0"), content).unwrap();
        let cni = node.cni();
        assert_eq!(cni.addresses(&sandbox()), None, "{content}");
        cni.del("c1", None).await.unwrap();
    }
    assert_eq!(node.order(), [""; 0]);
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
async fn each_plugin_is_told_the_result_in_the_networks_version() {
    let node = Node::new();
    let plugins = json!([{"type": "first"}, {"type": "second"}, {"type": "third"}]);
    node.configure("10-pods.conflist", &json!({"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}));
    node.plugin("first", r#"echo '{"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/16"}}'"#, "");
    node.plugin("second", r#"echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.6/16"}]}'"#, "");
    node.plugin("third", r#"echo '{"cniVersion": "9.9.9", "ips": [{"address": "10.1.0.7/16"}]}'"#, "");
    let error = node.add(&node.cni()).await.unwrap_err().to_string();
    assert!(error.contains("plugin third") && error.contains("CNI version \"9.9.9\""), "{error}");
    let told = |ip: &str| json!([{"version": "4", "address": ip}]);
    let calls = node.calls();
    for (call, ip) in [(1, "10.1.0.5/16"), (2, "10.1.0.6/16"), (3, "10.1.0.6/16")] {
        assert_eq!(calls[call].request["prevResult"]["ips"], told(ip));
        assert_eq!(calls[call].request["prevResult"]["cniVersion"], "0.4.0");
    }
    assert_eq!(node.order()[3..], ["third DEL", "second DEL", "first DEL"]);
}

/// A network of one plugin whose version has STATUS and GC, and which answers them as told.
fn node_of_today(on_status: &str, on_gc: &str) -> Node {
    let node = Node::new();
    let list = json!({"cniVersion": "1.1.0", "name": "pods", "plugins": [{"type": "first"}, {"type": "second"}]});
    node.configure("10-pods.conflist", &list);
    for name in ["first", "second"] {
        let path = node.plugin(name, ADDRESS, "");
        let script = std::fs::read_to_string(&path).unwrap();
        let cases = format!("case $CNI_COMMAND in STATUS) {on_status} ;; GC) {on_gc} ;; ADD)");
        std::fs::write(path, script.replace("case $CNI_COMMAND in ADD)", &cases)).unwrap();
    }
    node
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not {what}");
}

#[tokio::test]
async fn readiness_is_what_plugins_said_and_waits_for_none() {
    let refusal = r#"echo '{"code": 50, "msg": "the agent is away"}'; exit 1"#;
    let node = node_of_today(refusal, ":");
    let cni = node.cni();
    let reason = || cni.ready().map_or_else(|error| error.to_string(), |()| "ready".to_owned());
    assert_eq!(reason(), "the plugins of network pods (10-pods.conflist) have not answered STATUS yet");
    let running = tokio::spawn(cni.clone().run());
    let told = "CNI plugin first (network pods, 10-pods.conflist) failed to STATUS: the agent is away (code 50)";
    eventually(told, || reason() == told).await;
    // another configuration is asked at once
    node.configure(
        "05-older.conflist",
        &json!({"cniVersion": "1.0.0", "name": "older", "plugins": [{"type": "first"}]}),
    );
    eventually("ready without STATUS", || reason() == "ready").await;
    std::fs::remove_file(node.dir.path("conf/05-older.conflist")).unwrap();
    eventually(told, || reason() == told).await;
    let (asked, began) = (node.order().len(), Instant::now());
    for _ in 0..50 {
        assert_eq!(reason(), told);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let most = asked + 1 + usize::try_from(began.elapsed().as_secs() / 10).unwrap();
    assert!(node.order().len() <= most, "a plugin was run for each question: {:?}", node.order());
    running.abort();
}

#[tokio::test]
async fn a_plugin_that_hangs_at_status_delays_no_answer() {
    let node = node_of_today("sleep 60", ":");
    let cni = node.cni();
    let running = tokio::spawn(cni.clone().run());
    eventually("asked", || !node.order().is_empty()).await;
    let began = Instant::now();
    assert!(matches!(cni.ready(), Err(Error::Unanswered { .. })));
    assert!(began.elapsed() < Duration::from_millis(500));
    running.abort();
}

#[tokio::test]
async fn garbage_is_collected_by_every_plugin_with_what_is_valid() {
    let node = node_of_today(":", "exit 1");
    let cni = node.cni();
    node.add(&cni).await.unwrap();
    cni.collect_garbage(vec!["c0".to_owned(), "c1".to_owned()]).await;
    assert_eq!(node.order()[2..], ["first GC", "second GC"]);
    let attachment = |id: &str| json!({"containerID": id, "ifname": "eth0"});
    for call in &node.calls()[2..] {
        assert_eq!(call.request["cni.dev/valid-attachments"], json!([attachment("c0"), attachment("c1")]));
        assert_eq!(call.request.get("prevResult"), None);
    }
}

#[tokio::test]
async fn no_garbage_is_collected_where_it_is_unknown_or_unwanted() {
    for keys in [json!({"cniVersion": "1.0.0"}), json!({"cniVersion": "1.1.0", "disableGC": true})] {
        let node = node_of_today(":", ":");
        let mut list = keys;
        list["name"] = "pods".into();
        list["plugins"] = json!([{"type": "first"}]);
        node.configure("10-pods.conflist", &list);
        node.cni().collect_garbage(Vec::new()).await;
        assert_eq!(node.order(), [""; 0]);
    }
}

#[tokio::test]
async fn the_cache_is_as_cnis_library_writes_it() {
    use base64::Engine;
    let node = Node::with_plugins(&[("first", ADDRESS)]);
    let cni = node.cni();
    cni.set_pod_cidrs(PodCidrs::parse("10.1.0.0/24").unwrap());
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
    let refused = node.cni().add(&attachment, keep).await;
    assert!(matches!(refused, Err(Error::HostNetns { .. })), "{refused:?}");
    let gone = Attachment { netns: node.dir.path("gone").display().to_string(), ..attachment };
    let gone = node.cni().add(&gone, keep).await;
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
