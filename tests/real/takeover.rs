//! A node is taken over from cri-dockerd with its pods running, and handed back. What cri-dockerd leaves is made here, by Docker's API and
//! as files, exactly as a cri-dockerd 0.4 has left it on an engine like this one; no cri-dockerd is needed.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use dockershim::cri;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::cni::{self, Node, PLUGINS, PORT, ask, free_port};
use crate::lab::{Case, Pod, Stage, by_uid, eventually, lines, runtime_ready, sh, sleeper, trials};
use crate::support::engine::Options;
use crate::support::images::BUSYBOX;
use crate::support::shim::{self, Shim};

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Own(Options::default());
        pods_on_dockers_bridge_are_taken_over_and_handed_back,
        pods_of_cni_plugins_are_taken_over_and_handed_back,
        pods_of_ours_are_handed_over_and_told_to_be_recreated,
        nothing_is_handed_over_while_dockershim_runs,
    ]
}

const SOON: Duration = Duration::from_secs(20);

/// A pod as cri-dockerd leaves it, in a cri-dockerd's root directory.
pub(crate) struct Left {
    pub(crate) pod: Pod,
    /// Runs, and counts up in its log: the second attempt.
    pub(crate) counter: String,
    /// The first attempt of it, which has ended.
    ended: String,
    /// Serves a line on `PORT`; Docker keeps its log elsewhere, so there is none for a kubelet.
    pub(crate) server: String,
    host_port: u16,
    pub(crate) checkpoint: PathBuf,
    /// As the checkpoint was written.
    written: String,
}

/// cri-dockerd, as far as it matters.
pub(crate) struct CriDockerd<'a> {
    pub(crate) case: &'a Case,
    pub(crate) root: PathBuf,
    pub(crate) network_mode: &'static str,
}

impl CriDockerd<'_> {
    /// Runs a pod with three containers; `join` makes its network.
    pub(crate) fn run_pod(&self, name: &str, join: impl FnOnce(&str, &str, &Value)) -> Left {
        let docker = &self.case.lab.engine.docker;
        let host_port = free_port();
        let mut config = self.case.pod(name);
        let meta = config.metadata.as_mut().unwrap();
        meta.attempt = 3;
        config.annotations = [("kubernetes.io/config.source".to_owned(), "api".to_owned())].into();
        let mut labels = json!(config.labels);
        labels["annotation.kubernetes.io/config.source"] = "api".into();
        labels["io.kubernetes.docker.type"] = "podsandbox".into();
        labels["io.kubernetes.container.name"] = "POD".into();
        let port = format!("{PORT}/tcp");
        let sandbox = json!({
            "Hostname": name,
            "Image": BUSYBOX,
            "Entrypoint": sleeper("pause").command,
            "Labels": labels,
            "ExposedPorts": {&port: {}},
            "HostConfig": {
                "NetworkMode": self.network_mode,
                // in every mode, also where it has no effect
                "PortBindings": {&port: [{"HostIp": "", "HostPort": host_port.to_string()}]},
                "IpcMode": "shareable",
                "CpuShares": 2,
                "SecurityOpt": ["no-new-privileges"],
                "ShmSize": 67_108_864,
                "LogConfig": {"Type": "json-file", "Config": {}},
            },
        });
        let id = self.create(&format!("k8s_POD_{name}_real_{}_3", self.case.uid), &sandbox);
        let data = json!({"port_mappings": [{"protocol": "tcp", "container_port": PORT, "host_port": host_port}]});
        let checkpoint = self.root.join("sandbox").join(&id);
        let written = checkpoint_text(name, &data, host_port);
        fs::create_dir_all(self.root.join("sandbox")).unwrap();
        fs::write(&checkpoint, &written).unwrap();
        docker.json("POST", &format!("/containers/{id}/start"), &Value::Null);
        let pid = docker.get(&format!("/containers/{id}/json"))["State"]["Pid"].to_string();
        join(&id, &pid, &json!([{"hostPort": host_port, "containerPort": PORT, "protocol": "tcp", "hostIP": ""}]));
        let pod = Pod { id, config };
        let ended = self.run_container(&pod, &sh("main", "echo first; exit 3"), 0, "json-file");
        let counter = self.run_container(&pod, &counter(), 1, "json-file");
        let server = self.run_container(&pod, &cni::server("taken-over"), 0, "none");
        Left { pod, counter, ended, server, host_port, checkpoint, written }
    }

    fn run_container(&self, pod: &Pod, config: &cri::ContainerConfig, attempt: u32, driver: &str) -> String {
        let docker = &self.case.lab.engine.docker;
        let (meta, of_pod) = (config.metadata.as_ref().unwrap(), pod.config.metadata.as_ref().unwrap());
        let log = Path::new(&pod.config.log_directory).join(&meta.name).join(format!("{attempt}.log"));
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        let joined = format!("container:{}", pod.id);
        let body = json!({
            "Image": BUSYBOX,
            "Entrypoint": config.command,
            "Labels": {
                "io.kubernetes.docker.type": "container",
                "io.kubernetes.sandbox.id": pod.id,
                "io.kubernetes.container.logpath": log,
                "io.kubernetes.container.name": meta.name,
                "annotation.io.kubernetes.container.hash": "abc",
            },
            "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": {
                "NetworkMode": joined,
                "IpcMode": joined,
                "RestartPolicy": {"Name": "no"},
                "Memory": 67_108_864,
                "MemorySwap": 67_108_864,
                "ShmSize": 67_108_864,
                "LogConfig": {"Type": driver, "Config": {}},
            },
        });
        let name = format!("k8s_{}_{}_real_{}_{attempt}", meta.name, of_pod.name, of_pod.uid);
        let id = self.create(&name, &body);
        docker.json("POST", &format!("/containers/{id}/start"), &Value::Null);
        let file = docker.get(&format!("/containers/{id}/json"))["LogPath"].as_str().unwrap().to_owned();
        if !file.is_empty() {
            std::os::unix::fs::symlink(file, log).unwrap();
        }
        id
    }

    fn create(&self, name: &str, body: &Value) -> String {
        let docker = &self.case.lab.engine.docker;
        docker.json("POST", &format!("/containers/create?name={name}"), body)["Id"].as_str().unwrap().to_owned()
    }
}

/// A checkpoint of a pod with one port, with the sum that cri-dockerd puts in.
fn checkpoint_text(name: &str, data: &Value, host_port: u16) -> String {
    let printed = format!(
        "(core.CheckpointData){{PortMappings:([]*config.PortMapping)[<*>{{Protocol:(*config.Protocol)tcp \
         ContainerPort:(*int32){PORT} HostPort:(*int32){host_port} HostIP:(string)}}] HostNetwork:(bool)false}}"
    );
    let sum = printed.bytes().fold(2_166_136_261_u32, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(16_777_619));
    let mapping = &data["port_mappings"][0];
    format!(
        r#"{{"version":"v1","name":"{name}","namespace":"real","data":{{"port_mappings":[{{"protocol":"tcp","container_port":{},"host_port":{}}}]}},"checksum":{sum}}}"#,
        mapping["container_port"], mapping["host_port"]
    )
}

/// Counts up in its log.
fn counter() -> cri::ContainerConfig {
    sh("main", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done")
}

/// What the engine says of a container's process.
pub(crate) fn process(case: &Case, id: &str) -> Value {
    let inspect = case.lab.engine.docker.get(&format!("/containers/{id}/json"));
    json!([inspect["State"]["Pid"], inspect["State"]["StartedAt"], inspect["RestartCount"]])
}

impl Left {
    pub(crate) fn log(&self) -> PathBuf {
        Path::new(&self.pod.config.log_directory).join("main/1.log")
    }

    /// Docker's own file of the counter.
    fn spool(&self, case: &Case) -> PathBuf {
        let inspect = case.lab.engine.docker.get(&format!("/containers/{}/json", self.counter));
        inspect["LogPath"].as_str().unwrap().into()
    }

    pub(crate) fn is_linked(&self, case: &Case) -> bool {
        fs::read_link(self.log()).is_ok_and(|target| target == self.spool(case))
    }

    /// Pod and containers are told as they are.
    pub(crate) async fn is_told(&self, case: &Case, address: &str) {
        let listed = case.cri.list_pods(by_uid(&case.uid)).await.unwrap();
        assert_eq!(listed.iter().map(|pod| pod.id.as_str()).collect::<Vec<_>>(), [self.pod.id.as_str()]);
        let status = case.cri.pod_status(&self.pod.id).await.unwrap();
        assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
        assert_eq!(status.metadata, self.pod.config.metadata);
        assert_eq!(
            (&status.labels, &status.annotations),
            (&self.pod.config.labels, &self.pod.config.annotations),
            "and nothing of cri-dockerd's own"
        );
        assert_eq!(status.network.unwrap().ip, address);
        let counter = case.cri.status(&self.counter).await.unwrap();
        assert_eq!(counter.state(), cri::ContainerState::ContainerRunning);
        assert_eq!(counter.metadata.unwrap().attempt, 1);
        assert_eq!(counter.annotations.get("io.kubernetes.container.hash").map(String::as_str), Some("abc"));
        assert_eq!(counter.resources.unwrap().linux.unwrap().memory_limit_in_bytes, 67_108_864);
        let ended = case.exited(&self.ended).await;
        assert_eq!((ended.exit_code, ended.metadata.unwrap().attempt), (3, 0));
        let filter = cri::ContainerFilter { pod_sandbox_id: self.pod.id.clone(), ..cri::ContainerFilter::default() };
        assert_eq!(case.cri.list(filter).await.unwrap().len(), 3);
    }

    /// Exec, statistics, the host's port, and a container more.
    pub(crate) async fn is_served(&self, case: &Case, address: &str) {
        assert_eq!(case.output(&self.counter, "echo alive").await, "alive\n");
        assert_eq!(case.output(&self.server, "echo alive").await, "alive\n");
        let stats = case.cri.stats(&self.counter).await.unwrap();
        assert!(stats.memory.unwrap().usage_bytes.unwrap().value > 0);
        assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
        let request = cri::PodSandboxStatsRequest { pod_sandbox_id: self.pod.id.clone() };
        let stats = case.cri.runtime().pod_sandbox_stats(request).await.unwrap().into_inner().stats.unwrap();
        let network = stats.linux.unwrap().network.unwrap().default_interface.unwrap();
        assert_eq!(network.name, "eth0");
        let of_pod = SocketAddr::new(address.parse().unwrap(), PORT);
        assert_eq!(eventually("the pod answers", SOON, || async { ask(of_pod) }).await, "taken-over");
        let of_host = SocketAddr::from(([127, 0, 0, 1], self.host_port));
        assert_eq!(eventually("the host's port answers", SOON, || async { ask(of_host) }).await, "taken-over");
        let more = case.start(&self.pod, &sleeper("more")).await;
        let seen = case.output(&more, &format!("nc 127.0.0.1 {PORT} </dev/null; cat /etc/hostname")).await;
        let name = &self.pod.config.metadata.as_ref().unwrap().name;
        assert_eq!(seen, format!("taken-over\n{name}\n"), "it is in the pod");
        case.cri.stop(&more, 0).await.unwrap();
        case.cri.remove(&more).await.unwrap();
    }

    /// The log is whole, in CRI's format, and goes on after a rotation; where another driver has it there is none.
    async fn log_rotates(&self, case: &Case) {
        let log = self.log();
        let rotated = log.with_extension("log.20260102-030405");
        let grown = |least: usize| {
            let log = log.clone();
            eventually("the log grows", SOON, move || {
                let text = fs::read_to_string(&log).unwrap_or_default();
                async move { (text.lines().count() >= least).then_some(()) }
            })
        };
        grown(20).await;
        fs::rename(&log, &rotated).unwrap();
        case.cri.reopen_log(&self.counter).await.unwrap();
        grown(20).await;
        let text = [&rotated, &log].map(|file| fs::read_to_string(file).unwrap()).concat();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for (number, (_, _, line)) in lines(whole).iter().enumerate() {
            assert_eq!(*line, number.to_string(), "no line is lost and none comes twice");
        }
        fs::remove_file(rotated).unwrap();
        assert!(case.cri.reopen_log(&self.server).await.is_err(), "Docker has its log elsewhere");
        let first = fs::read_to_string(log.with_file_name("0.log")).unwrap();
        assert_eq!(lines(&first)[0].2, "first");
    }

    /// Stopped and removed, it leaves nothing.
    async fn is_removed(&self, case: &Case) {
        case.cri.stop(&self.counter, 0).await.unwrap();
        case.cri.stop_pod(&self.pod.id).await.unwrap();
        assert_eq!(case.cri.pod_status(&self.pod.id).await.unwrap().state(), cri::PodSandboxState::SandboxNotready);
        case.cri.remove(&self.ended).await.unwrap();
        case.cri.remove_pod(&self.pod.id).await.unwrap();
        assert_eq!(case.lab.engine.docker.containers(), []);
        assert!(!self.checkpoint.exists(), "the checkpoint goes too");
        for name in ["0.log", "1.log"] {
            assert!(fs::symlink_metadata(self.log().with_file_name(name)).is_err(), "{name} is left");
        }
    }
}

/// Runs `dockershim release` as the shim was told: whether all was done, and what it said.
fn release(shim: &Shim, more: &[&str]) -> (bool, String) {
    let told = shim.arguments().iter().map(String::as_str);
    let ended = shim::run(&["release"].into_iter().chain(told).chain(more.iter().copied()).collect::<Vec<_>>());
    (ended.status.success(), String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap())
}

/// Hands a pod back to cri-dockerd, and takes it over again.
async fn hand_back(case: &Case, shim: &Shim, left: &Left) {
    shim.stop();
    let to = case.dir.join("cri-dockerd");
    let flag = format!("--to={}", to.display());
    let (whole, would) = release(shim, &[&flag, "--dry-run"]);
    assert!(whole && !to.exists() && !left.is_linked(case), "{would}");
    let (whole, done) = release(shim, &[&flag]);
    assert!(whole && done == would, "{done}");
    assert!(left.is_linked(case), "{done}");
    assert_eq!(fs::read_to_string(to.join("sandbox").join(&left.pod.id)).unwrap(), left.written);
    let first = fs::read_link(left.log().with_file_name("0.log")).unwrap();
    assert!(fs::read_to_string(first).unwrap().contains(r#"{"log":"first\n""#));
    assert!(!done.contains("recreate"), "cri-dockerd has made all of it itself: {done}");
    shim.start_again();
    runtime_ready(&case.cri, true).await;
}

async fn pods_on_dockers_bridge_are_taken_over_and_handed_back(case: Case) {
    let shim = &case.lab.shim;
    shim.stop();
    let theirs = CriDockerd { case: &case, root: shim.state(), network_mode: "default" };
    let left = theirs.run_pod("bridged", |_, _, _| {});
    let before = [&left.pod.id, &left.counter, &left.server].map(|id| process(&case, id));
    let inspect = case.lab.engine.docker.get(&format!("/containers/{}/json", left.pod.id));
    let address = inspect["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().unwrap().to_owned();
    assert!(left.is_linked(&case));
    shim.start_again();
    runtime_ready(&case.cri, true).await;
    for again in [true, false] {
        left.is_told(&case, &address).await;
        left.is_served(&case, &address).await;
        left.log_rotates(&case).await;
        if again {
            hand_back(&case, shim, &left).await;
        }
    }
    assert_eq!(
        [&left.pod.id, &left.counter, &left.server].map(|id| process(&case, id)),
        before,
        "nothing was restarted"
    );
    left.is_removed(&case).await;
}

async fn pods_of_cni_plugins_are_taken_over_and_handed_back(case: Case) {
    let node = Node::new(case, &[json!({"type": "portmap", "capabilities": {"portMappings": true}})]).await;
    let (case, shim) = (&node.case, &node.shim);
    shim.stop();
    let theirs = CriDockerd { case, root: shim.state(), network_mode: "none" };
    let mut address = String::new();
    let left = theirs.run_pod("plugged", |id, pid, mappings| address = join(&node, id, pid, mappings));
    let before = [&left.pod.id, &left.counter, &left.server].map(|id| process(case, id));
    shim.start_again();
    runtime_ready(&case.cri, true).await;
    for again in [true, false] {
        left.is_told(case, &address).await;
        left.is_served(case, &address).await;
        left.log_rotates(case).await;
        if again {
            hand_back(case, shim, &left).await;
        }
    }
    assert_eq!(
        [&left.pod.id, &left.counter, &left.server].map(|id| process(case, id)),
        before,
        "nothing was restarted"
    );
    left.is_removed(case).await;
    assert_eq!((node.leases(), node.left()), (Vec::new(), Vec::new()));
}

/// Joins a pod to the network as CNI's library does for cri-dockerd, its cache included; gives the pod's first address.
fn join(node: &Node, id: &str, pid: &str, mappings: &Value) -> String {
    let loopback = json!({"cniVersion": "0.2.0", "name": "cni-loopback", "plugins": [{"type": "loopback"}]});
    attach(node, &loopback.to_string(), id, pid, mappings);
    let result = attach(node, &fs::read_to_string(node.conf()).unwrap(), id, pid, mappings);
    result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned()
}

fn attach(node: &Node, list: &str, id: &str, pid: &str, mappings: &Value) -> Value {
    let config: Value = serde_json::from_str(list).unwrap();
    let meta = node.case.pod("plugged").metadata.unwrap();
    let args = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &meta.namespace),
        ("K8S_POD_NAME", &meta.name),
        ("K8S_POD_INFRA_CONTAINER_ID", id),
    ];
    let mut result = Value::Null;
    for plugin in config["plugins"].as_array().unwrap() {
        let mut request = plugin.clone();
        request["name"] = config["name"].clone();
        request["cniVersion"] = config["cniVersion"].clone();
        if !result.is_null() {
            request["prevResult"] = result;
        }
        if request.as_object_mut().unwrap().remove("capabilities").is_some() {
            request["runtimeConfig"] = json!({"portMappings": mappings});
        }
        result = run_plugin(&request, id, pid, &args.map(|(key, value)| format!("{key}={value}")).join(";"));
    }
    let cached = json!({
        "kind": "cniCacheV1",
        "containerId": id,
        "config": base64::engine::general_purpose::STANDARD.encode(list),
        "ifName": "eth0",
        "networkName": config["name"],
        "cniArgs": args,
        "capabilityArgs": {"ipRanges": [[{"subnet": ""}]], "portMappings": mappings},
        "result": result,
    });
    let results = node.case.dir.join("cache/results");
    fs::create_dir_all(&results).unwrap();
    let name = format!("{}-{id}-eth0", config["name"].as_str().unwrap());
    fs::write(results.join(name), cached.to_string()).unwrap();
    result
}

fn run_plugin(request: &Value, id: &str, pid: &str, args: &str) -> Value {
    let mut command = Command::new(Path::new(PLUGINS).join(request["type"].as_str().unwrap()));
    command.env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", id).env("CNI_NETNS", format!("/proc/{pid}/ns/net"));
    command.env("CNI_IFNAME", "eth0").env("CNI_PATH", PLUGINS).env("CNI_ARGS", args);
    let mut plugin = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    plugin.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    let answer = plugin.wait_with_output().unwrap();
    let text = String::from_utf8(answer.stdout).unwrap();
    assert!(answer.status.success(), "{request}: {text}");
    serde_json::from_str(&text).unwrap()
}

async fn pods_of_ours_are_handed_over_and_told_to_be_recreated(case: Case) {
    let node = Node::new(case, &[json!({"type": "portmap", "capabilities": {"portMappings": true}})]).await;
    let (case, shim) = (&node.case, &node.shim);
    let mut config = case.pod("ours");
    let host_port = free_port();
    config.port_mappings = vec![cri::PortMapping {
        protocol: cri::Protocol::Tcp.into(),
        container_port: PORT.into(),
        host_port: host_port.into(),
        host_ip: String::new(),
    }];
    let pod = case.run(config).await;
    let running = case.start(&pod, &counter()).await;
    let mut ended = pod.clone();
    ended.config = case.pod("ended");
    ended.id = case.cri.run_pod(&ended.config).await.unwrap();
    case.cri.stop_pod(&ended.id).await.unwrap();
    shim.stop();
    let flag = format!("--to={}", case.dir.display());
    // somebody's directory is in a log's place
    let blocked = case.dir.join("blocked");
    fs::rename(pod.log(&counter()), &blocked).unwrap();
    fs::create_dir(pod.log(&counter())).unwrap();
    let (whole, said) = release(shim, &[&flag]);
    assert!(!whole && said.contains("NOT DONE") && said.contains("main/0.log"), "{said}");
    assert!(said.contains("recreate pod real/ours"), "the rest is done all the same: {said}");
    fs::remove_dir(pod.log(&counter())).unwrap();
    let (whole, said) = release(shim, &[&flag]);
    assert!(whole, "{said}");
    let written = fs::read_to_string(case.dir.join("sandbox").join(&pod.id)).unwrap();
    let data = json!({"port_mappings": [{"container_port": PORT, "host_port": host_port}]});
    assert_eq!(written, checkpoint_text("ours", &data, host_port));
    assert!(case.dir.join("sandbox").join(&ended.id).exists());
    assert!(fs::read_link(pod.log(&counter())).unwrap().ends_with(format!("{running}-json.log")));
    let recreate: Vec<_> = said.lines().filter(|line| line.starts_with("recreate")).collect();
    assert_eq!(recreate.len(), 1, "one that has ended is recreated anyway: {said}");
    assert!(recreate[0].contains("recreate pod real/ours: ") && recreate[0].contains("resolv.conf"), "{said}");
    shim.start_again();
    runtime_ready(&case.cri, true).await;
    for id in [&pod.id, &ended.id] {
        case.cri.remove_pod(id).await.unwrap();
    }
    assert_eq!((node.leases(), node.left()), (Vec::new(), Vec::new()));
}

async fn nothing_is_handed_over_while_dockershim_runs(case: Case) {
    let pod = case.run_pod("served").await;
    case.start(&pod, &counter()).await;
    let to = case.dir.join("cri-dockerd");
    let flag = format!("--to={}", to.display());
    let (done, said) = release(&case.lab.shim, &[&flag]);
    let holder = format!("process {}", case.lab.shim.pid().unwrap());
    assert!(!done && said.contains(&holder) && said.contains("systemctl stop dockershim.socket"), "{said}");
    assert!(!to.exists() && fs::symlink_metadata(pod.log(&counter())).unwrap().is_file());
    // what would be done is told all the same
    let (done, said) = release(&case.lab.shim, &[&flag, "--dry-run"]);
    assert!(done && said.contains("pod real/served: checkpoint") && said.contains("main/0.log -> /"), "{said}");
    assert!(!to.exists());
}
