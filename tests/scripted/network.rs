//! CNI as far as it needs no pod's namespace: what is refused before a sandbox is made, and the collection of garbage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dockershim::cri;
use serde_json::{Value, json};
use tonic::Code;

use super::dockerd::{DOCKER_20_10, Dockerd};
use super::stage::{Stage, eventually, pod, sandbox_name};

/// Directories of CNI, removed with the test; the one plugin notes its calls.
struct Network(PathBuf);

impl Network {
    fn new() -> Network {
        static USED: AtomicU32 = AtomicU32::new(0);
        let number = USED.fetch_add(1, Ordering::Relaxed);
        let network = Network(std::env::temp_dir().join(format!("dsn-{}-{number}", std::process::id())));
        for dir in ["conf", "bin"] {
            fs::create_dir_all(network.0.join(dir)).unwrap();
        }
        let plugin = network.0.join("bin/noting");
        let calls = network.0.join("calls").display().to_string();
        fs::write(&plugin, format!("#!/bin/sh\nprintf '%s\\t%s\\n' \"$CNI_COMMAND\" \"$(cat)\" >>{calls}\n")).unwrap();
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
        network
    }

    fn configure(&self) {
        let list = json!({"cniVersion": "1.1.0", "name": "pods", "plugins": [{"type": "noting"}]});
        fs::write(self.0.join("conf/10-pods.conflist"), list.to_string()).unwrap();
    }

    async fn stage(&self, more: &[&str], prepare: impl FnOnce(&Dockerd)) -> Stage {
        let flag = |name: &str, dir: &str| format!("--cni-{name}={}", self.0.join(dir).display());
        let dirs = [flag("conf-dir", "conf"), flag("bin-dir", "bin"), flag("cache-dir", "cache")];
        let mut flags = vec!["--network-plugin=cni"];
        flags.extend(dirs.iter().map(String::as_str));
        flags.extend(more);
        Stage::with(&flags, prepare).await
    }

    /// Requests of the plugin's calls for a verb.
    fn calls(&self, verb: &str) -> Vec<Value> {
        let calls = fs::read_to_string(self.0.join("calls")).unwrap_or_default();
        let of_verb = calls.lines().filter_map(|line| line.strip_prefix(verb)?.strip_prefix('\t'));
        of_verb.map(|request| serde_json::from_str(request).unwrap()).collect()
    }

    async fn has_called(&self, verb: &str) {
        eventually(&format!("the plugin is called for {verb}"), 10, async || self.calls(verb).pop()).await;
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_cannot_be_joined_is_refused_before_anything_is_made() {
    let network = Network::new();
    let stage = network.stage(&[], |dockerd| dockerd.start(DOCKER_20_10)).await.synced().await;
    let error = stage.cri.run_pod(&pod("a")).await.unwrap_err();
    assert!(error.message().contains("network of pod default/a: no usable CNI configuration in "), "{error}");
    network.configure();
    let ready = async || stage.cri.conditions().await.unwrap()["NetworkReady"].0.then_some(());
    eventually("the configuration is seen", 10, ready).await;
    let annotations = [("kubernetes.io/ingress-bandwidth".to_owned(), "fast".to_owned())].into();
    let error = stage.cri.run_pod(&cri::PodSandboxConfig { annotations, ..pod("a") }).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("kubernetes.io/ingress-bandwidth"), "{error}");
    assert_eq!(stage.dockerd.count("POST", "/containers/create"), 0);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_collected_once_all_pods_are_known() {
    let network = Network::new();
    network.configure();
    let stage = network.stage(&["--cni-gc"], |_| {}).await;
    let there = stage.dockerd.put(&sandbox_name("a"), json!({ "io.kubernetes.docker.type": "podsandbox" }), true);
    network.has_called("STATUS").await;
    assert_eq!(network.calls("GC").len(), 0, "no pod is known yet");
    stage.dockerd.start(DOCKER_20_10);
    network.has_called("GC").await;
    let stage = stage.synced().await;
    stage.dockerd.cut_events();
    stage.dockerd.reached(2, "GET", "/events").await;
    let valid: Vec<_> = network.calls("GC").iter().map(|call| call["cni.dev/valid-attachments"].clone()).collect();
    assert_eq!(valid, [json!([{ "containerID": there, "ifname": "eth0" }])]);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_left_alone_unless_asked_for() {
    let network = Network::new();
    network.configure();
    let stage = network.stage(&[], |dockerd| dockerd.start(DOCKER_20_10)).await.synced().await;
    network.has_called("STATUS").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(network.calls("GC").len(), 0);
    stage.end().await;
}
