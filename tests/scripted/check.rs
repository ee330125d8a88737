//! `dockershim check` on a node that is a directory: all is well on it, and then each fault is planted, alone. Its Engine is scripted, its
//! dockershim is the stage's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use clap::Parser;
use dockershim::check::{self, Options, Verdict};
use dockershim::config::Config;
use dockershim::config::cli::Cli;
use serde_json::{Value, json};

use super::adapter;
use super::dockerd::{Api, BUSYBOX, DOCKER_20_10, Dockerd, info};
use super::script::Act;
use super::stage::{Stage, sandbox_name};

/// A node that lives in a directory.
struct Node {
    root: PathBuf,
    flags: Vec<String>,
    pre: bool,
    run_pod: bool,
    kubelet_config: Option<PathBuf>,
}

/// What was found, by ID.
type Found = BTreeMap<String, Value>;

const NETWORK: &str = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [
    {"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "portmap"}]}"#;
const KUBELET: &str =
    "kind: KubeletConfiguration\ncgroupDriver: cgroupfs\ncontainerRuntimeEndpoint: unix:///cri.sock\n";
const CONFIG: &str = "var/lib/kubelet/config.yaml";

impl Node {
    /// On which all is well.
    fn new(stage: &Stage, name: &str) -> Node {
        let root = stage.dir.join("nodes").join(name);
        let node = Node { root, flags: Vec::new(), pre: false, run_pod: false, kubelet_config: None };
        fs::create_dir_all(&node.root).unwrap();
        for socket in ["docker.sock", "cri.sock"] {
            symlink(stage.dir.join(socket), node.root.join(socket)).unwrap();
        }
        node.plant_kernel();
        node.plant_processes();
        node.plant("etc/cni/net.d/10-pods.conflist", NETWORK);
        for program in ["opt/cni/bin/bridge", "opt/cni/bin/host-local", "opt/cni/bin/portmap", "usr/sbin/iptables"] {
            node.plant(program, "");
            node.mode(program, 0o755);
        }
        node.plant(CONFIG, KUBELET);
        node.plant("state/lock", &std::process::id().to_string());
        node.mode("state", 0o711);
        node
    }

    fn plant_kernel(&self) {
        self.plant("proc/sys/kernel/osrelease", "6.1.0-13-amd64\n");
        self.plant("proc/sys/net/ipv4/ip_forward", "1\n");
        self.plant("proc/sys/net/bridge/bridge-nf-call-iptables", "1\n");
        self.plant("proc/sys/fs/inotify/max_user_instances", "128\n");
        self.plant("proc/swaps", "Filename Type Size Used Priority\n");
        self.plant("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n");
    }

    fn plant_processes(&self) {
        self.process(70, "chronyd", "chronyd");
        self.process(80, "kubelet", &format!("kubelet --config=/{CONFIG}"));
        let us = std::process::id();
        self.process(us, "dockershim", "dockershim");
        self.plant(&format!("proc/{us}/limits"), "Max open files  1048576  1048576  files\n");
    }

    fn process(&self, pid: u32, name: &str, command: &str) {
        self.plant(&format!("proc/{pid}/comm"), &format!("{name}\n"));
        self.plant(&format!("proc/{pid}/cmdline"), &command.replace(' ', "\0"));
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn plant(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Removes a file or a directory with all in it.
    fn uproot(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A socket on which nobody answers any more.
    fn dead_socket(&self, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(UnixListener::bind(path).unwrap());
    }

    fn flag(&mut self, flag: &str) {
        self.flags.push(flag.to_owned());
    }

    async fn check(&self) -> (Verdict, Found) {
        let places =
            ["--container-runtime-endpoint=/cri.sock", "--docker-endpoint=/docker.sock", "--root-directory=/state"];
        // one that is told again counts
        let told = |place: &&str| !self.flags.iter().any(|flag| flag.starts_with(place.split('=').next().unwrap()));
        let arguments = ["dockershim"].into_iter().chain(places.into_iter().filter(told));
        let arguments = arguments.chain(self.flags.iter().map(String::as_str));
        let config = Config::from_flags(Cli::try_parse_from(arguments).unwrap().told.flags).unwrap();
        let options = Options {
            pre: self.pre,
            json: true,
            run_pod: self.run_pod,
            kubelet_config: self.kubelet_config.clone(),
            root: self.root.clone(),
        };
        let mut out = Vec::new();
        let verdict = check::run(&config, &options, &mut out).await.unwrap();
        (verdict, found(&out))
    }
}

fn found(out: &[u8]) -> Found {
    let report: Value = serde_json::from_slice(out).unwrap();
    let checks = report["checks"].as_array().unwrap();
    checks.iter().map(|check| (check["id"].as_str().unwrap().to_owned(), check.clone())).collect()
}

/// IDs of what isn't well, worst last.
fn troubles(found: &Found) -> Vec<(&str, &str)> {
    let verdicts = found.iter().map(|(id, check)| (id.as_str(), check["verdict"].as_str().unwrap()));
    verdicts.filter(|(_, verdict)| !["ok", "skipped"].contains(verdict)).collect()
}

/// Changes a node on which all is well.
type Make = fn(&mut Node);

/// A fault: what it is, how it is made, and what the one check that sees it says.
struct Fault {
    name: &'static str,
    make: Make,
    id: &'static str,
    verdict: Verdict,
    says: &'static str,
}

const fn failure(name: &'static str, id: &'static str, says: &'static str, make: Make) -> Fault {
    Fault { name, make, id, verdict: Verdict::Failed, says }
}

const fn warning(name: &'static str, id: &'static str, says: &'static str, make: Make) -> Fault {
    Fault { name, make, id, verdict: Verdict::Warning, says }
}

/// Faults of files, processes and flags.
const FAULTS: &[Fault] = &[
    failure("no-engine", "DKR-01", "No such file", |node| node.flag("--docker-endpoint=/nobody.sock")),
    failure("dead-engine", "DKR-01", "Connection refused", |node| {
        node.dead_socket("dead.sock");
        node.flag("--docker-endpoint=/dead.sock");
    }),
    warning("other-driver", "CG-01", "told systemd (cgroupDriver in /var/lib/kubelet/config.yaml)", |node| {
        node.plant(CONFIG, &KUBELET.replace("cgroupfs", "systemd"));
    }),
    warning("other-driver-by-drop-in", "CG-01", "told systemd (cgroupDriver in /etc/kubelet.d/20.conf)", |node| {
        node.process(80, "kubelet", &format!("kubelet --config=/{CONFIG} --config-dir /etc/kubelet.d"));
        node.plant("etc/kubelet.d/10.conf", "cgroupDriver: cgroupfs\n");
        node.plant("etc/kubelet.d/20.conf", "cgroupDriver: systemd\n");
        node.plant("etc/kubelet.d/30.yaml", "cgroupDriver: cgroupfs\n");
    }),
    warning("other-driver-by-flag", "CG-01", "the kubelet's flag --cgroup-driver", |node| {
        node.process(80, "kubelet", &format!("kubelet --config /{CONFIG} --cgroup-driver systemd"));
    }),
    warning("other-driver-elsewhere", "CG-01", "told systemd (cgroupDriver in /opt/kubelet.json)", |node| {
        node.kubelet_config = Some(PathBuf::from("/opt/kubelet.json"));
        node.plant("opt/kubelet.json", r#"{"cgroupDriver": "systemd", "containerRuntimeEndpoint": "/cri.sock"}"#);
    }),
    failure("no-cgroups", "CG-02", "nothing is mounted", |node| node.uproot("sys/fs/cgroup")),
    failure("no-memory-controller", "CG-02", "no controller for memory", |node| {
        node.plant("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n");
    }),
    warning("cgroup-v1", "CG-02", "version 1", |node| {
        node.uproot("sys/fs/cgroup/cgroup.controllers");
        for controller in ["cpu,cpuacct", "cpuset", "memory", "pids"] {
            fs::create_dir_all(node.path("sys/fs/cgroup").join(controller)).unwrap();
        }
    }),
    failure("no-network", "NET-01", "it holds no .conflist, .conf or .json file", |node| {
        node.uproot("etc/cni/net.d/10-pods.conflist");
    }),
    failure("no-conf-dir", "NET-01", "No such file", |node| node.uproot("etc/cni/net.d")),
    failure("bad-network", "NET-01", "10-pods.conflist is not JSON", |node| {
        node.plant("etc/cni/net.d/10-pods.conflist", "{");
    }),
    warning("bad-file-before", "NET-01", "00-x.conf is empty", |node| node.plant("etc/cni/net.d/00-x.conf", "")),
    failure("no-plugin", "NET-01", "bridge not found in", |node| node.uproot("opt/cni/bin/bridge")),
    failure("no-ipam-plugin", "NET-01", "host-local not found in", |node| node.uproot("opt/cni/bin/host-local")),
    failure("dead-plugin", "NET-01", "portmap is not executable", |node| node.mode("opt/cni/bin/portmap", 0o644)),
    failure("no-forwarding", "NET-02", "ip_forward is 0", |node| node.plant("proc/sys/net/ipv4/ip_forward", "0\n")),
    warning("no-bridge-filter", "NET-02", "bridge-nf-call-iptables is 0", |node| {
        node.plant("proc/sys/net/bridge/bridge-nf-call-iptables", "0\n");
    }),
    warning("no-br-netfilter", "NET-02", "br_netfilter isn't loaded", |node| node.uproot("proc/sys/net/bridge")),
    failure("no-iptables", "NET-03", "neither is installed", |node| node.uproot("usr/sbin/iptables")),
    warning("held-address", "NET-04", "1 of 1 are held", |node| {
        node.plant("var/lib/cni/networks/pods/10.1.0.7", "c0ffee\r\neth0");
        node.plant("var/lib/cni/networks/pods/last_reserved_ip.0", "10.1.0.7");
    }),
    failure("no-socket", "SOCK-01", "doesn't run, or serves elsewhere", |node| node.uproot("cri.sock")),
    failure("a-file-for-a-socket", "SOCK-01", "and no socket", |node| {
        node.uproot("cri.sock");
        node.plant("cri.sock", "");
    }),
    failure("a-dead-socket", "SOCK-01", "nobody answers", |node| {
        node.uproot("cri.sock");
        node.dead_socket("cri.sock");
        node.mode("cri.sock", 0o660);
    }),
    failure("an-open-socket", "SOCK-01", "mode 0666", |node| {
        node.uproot("cri.sock");
        node.dead_socket("cri.sock");
        node.mode("cri.sock", 0o666);
    }),
    failure("a-stranger-s-socket", "SOCK-01", "it is no dockershim", |node| {
        node.uproot("cri.sock");
        adapter::serve(&node.path("cri.sock"));
        node.mode("cri.sock", 0o660);
    }),
    failure("another-adapter", "SOCK-02", "another CRI adapter for Docker 20.10.24", |node| {
        fs::create_dir_all(node.path("run")).unwrap();
        adapter::serve(&node.path("run/cri-dockerd.sock"));
    }),
    failure("a-process-of-another-adapter", "SOCK-02", "cri-dockerd runs (process 90): two", |node| {
        node.process(90, "cri-dockerd", "cri-dockerd --network-plugin=cni");
    }),
    warning("containerd-and-no-kubelet", "SOCK-02", "Found multiple CRI endpoints", |node| {
        node.dead_socket("run/containerd/containerd.sock");
        node.uproot("proc/80");
        node.uproot(CONFIG);
    }),
    failure("a-kubelet-on-containerd", "SOCK-03", "it uses unix:///run/containerd/containerd.sock", |node| {
        node.plant(CONFIG, &KUBELET.replace("/cri.sock", "/run/containerd/containerd.sock"));
    }),
    failure("a-kubelet-that-is-not-told", "SOCK-03", "it isn't told", |node| node.plant(CONFIG, "kind: Kubelet\n")),
    failure("a-kubelet-told-by-kubeadm", "SOCK-03", "/run/crio/crio.sock (the kubelet's flag", |node| {
        node.uproot("proc/80");
        let flags = "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///run/crio/crio.sock\"\n";
        node.plant("var/lib/kubelet/kubeadm-flags.env", flags);
    }),
    warning("open-streams", "SOCK-04", "can be reached from outside", |node| {
        node.flag("--streaming-bind-addr=0.0.0.0");
    }),
    warning("no-sandbox-image", "IMG-01", "No such image", |node| {
        node.flag("--pod-infra-container-image=registry.k8s.io/pause:3.10");
    }),
    warning("an-old-kernel", "SYS-01", "older than 5.3", |node| {
        node.plant("proc/sys/kernel/osrelease", "4.19.0-26-amd64\n");
    }),
    warning("apparmor-without-the-engine", "SYS-01", "has AppArmor on", |node| {
        node.plant("sys/module/apparmor/parameters/enabled", "Y\n");
    }),
    warning("no-clock", "SYS-02", "no program", |node| node.uproot("proc/70")),
    warning("few-watches", "SYS-03", "116 of 128 inotify instances", |node| {
        fs::create_dir(node.path("proc/80/fd")).unwrap();
        for fd in 0..116 {
            symlink("anon_inode:inotify", node.path("proc/80/fd").join(fd.to_string())).unwrap();
        }
        symlink("/dev/null", node.path("proc/80/fd/200")).unwrap();
    }),
    warning("few-files", "SYS-03", "may open 1024 files", |node| {
        let us = std::process::id();
        node.plant(&format!("proc/{us}/limits"), "Max open files  1024  1024  files\n");
    }),
    failure("swap", "SYS-04", "swap is on (/swap.img)", |node| {
        node.plant("proc/swaps", "Filename Type Size Used Priority\n/swap.img file 4194300 0 -2\n");
    }),
    failure("a-file-for-a-state-directory", "STATE-01", "/state is no directory", |node| {
        node.uproot("state");
        node.plant("state", "");
    }),
    failure("a-read-only-state-directory", "STATE-01", "nothing can be written in /state: Permission denied", |node| {
        node.uproot("state");
        // where not even root can make a file
        symlink("/proc/sys/kernel", node.path("state")).unwrap();
    }),
    failure("an-open-state-directory", "STATE-01", "mode 0777", |node| node.mode("state", 0o777)),
    warning("a-broken-record", "STATE-01", "1 record can't be understood", |node| {
        node.plant("state/logs/c1", "{\"spool\": ");
        node.plant("state/logs/c2", "{}");
        node.plant("state/logs/.c3.1", "");
    }),
    warning("a-dead-holder", "STATE-01", "no dockershim has", |node| node.plant("state/lock", "80\n")),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_the_node_is_seen_by_its_own_check_alone() {
    let stage = healthy_stage().await;
    for fault in FAULTS {
        let mut node = Node::new(&stage, fault.name);
        (fault.make)(&mut node);
        expect(fault, &node).await;
    }
    stage.end().await;
}

/// With a server, and an engine on which all is well.
async fn healthy_stage() -> Stage {
    let stage = Stage::new().await;
    stage.dockerd.always("GET", "/info", Act::Answer(200, info_with(&json!({}))));
    stage
}

/// What a healthy engine tells, and something that isn't so. Its data root can't be seen: the test's disk may be full.
fn info_with(other: &Value) -> Value {
    let mut told = info();
    let healthy = json!({ "LiveRestoreEnabled": true, "LoggingDriver": "json-file", "DockerRootDir": "/nowhere" });
    for more in [&healthy, other] {
        told.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    told
}

async fn expect(fault: &Fault, node: &Node) {
    let Fault { name, id, verdict, says, make: _ } = fault;
    let (worst, found) = node.check().await;
    let word = if *verdict == Verdict::Failed { "failed" } else { "warning" };
    assert_eq!(troubles(&found), [(*id, word)], "{name}: {found:#?}");
    assert_eq!(worst, *verdict, "{name}");
    let check = &found[*id];
    assert!(check["cause"].as_str().unwrap().contains(says), "{name}: {check:#}");
    assert!(!check["next"].as_str().unwrap().is_empty(), "{name}: {check:#}");
    assert_eq!(check["doc"], format!("docs/troubleshooting.md#{}", id.to_lowercase()), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_which_all_is_well_is_told_so() {
    let stage = healthy_stage().await;
    let node = Node::new(&stage, "well");
    let (worst, found) = node.check().await;
    assert_eq!((worst, troubles(&found)), (Verdict::Ok, vec![]), "{found:#?}");
    let skipped: Vec<_> = found.iter().filter(|(_, check)| check["verdict"] == "skipped").map(|(id, _)| id).collect();
    assert_eq!(skipped, ["DKR-08"], "{found:#?}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_a_fault_and_is_none_is_let_be() {
    let stage = healthy_stage().await;
    let harmless: [(&str, Make); 9] = [
        // systemd holds the socket, and would start somebody to answer
        ("socket-unit", |node| {
            node.uproot("cri.sock");
            node.dead_socket("cri.sock");
            node.mode("cri.sock", 0o660);
            fs::create_dir_all(node.path("run/systemd/system")).unwrap();
        }),
        ("swap", |node| {
            node.plant("proc/swaps", "Filename\n/swap.img file 1 0 -2\n");
            node.plant(CONFIG, &format!("{KUBELET}failSwapOn: false\n"));
        }),
        ("v1", |node| {
            node.uproot("sys/fs/cgroup/cgroup.controllers");
            fs::create_dir_all(node.path("sys/fs/cgroup/cpu,cpuset,memory,pids")).unwrap();
            node.plant(CONFIG, &format!("{KUBELET}failCgroupV1: false\n"));
        }),
        ("containerd", |node| node.dead_socket("run/containerd/containerd.sock")),
        // our socket unit has this name, too
        ("kubeadm", |node| {
            fs::create_dir_all(node.path("run")).unwrap();
            symlink(fs::read_link(node.path("cri.sock")).unwrap(), node.path("run/cri-dockerd.sock")).unwrap();
            node.plant(CONFIG, &KUBELET.replace("/cri.sock", "/var/run/cri-dockerd.sock"));
        }),
        ("other-engine", |node| {
            fs::create_dir_all(node.path("run")).unwrap();
            adapter::serve(&node.path("run/cri-dockerd.sock"));
            node.flag("--allow-other-adapter");
        }),
        ("timesyncd", |node| {
            node.uproot("proc/70");
            node.plant("run/systemd/timesync/synchronized", "");
        }),
        ("bridge", |node| {
            node.uproot("etc/cni");
            node.uproot("opt/cni");
            node.flag("--network-plugin=bridge");
        }),
        ("image", |node| node.flag(&format!("--pod-infra-container-image={BUSYBOX}"))),
    ];
    for (name, plant) in harmless {
        let mut node = Node::new(&stage, name);
        plant(&mut node);
        let (_, found) = node.check().await;
        assert_eq!(troubles(&found), [], "{name}: {found:#?}");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_the_engine_is_seen_by_its_own_check_alone() {
    let stage = healthy_stage().await;
    let faults = [
        ("DKR-05", "warning", json!({ "LiveRestoreEnabled": false }), "live-restore is off"),
        ("DKR-06", "warning", json!({ "Driver": "vfs" }), "copies the whole image"),
        ("DKR-06", "warning", json!({ "Driver": "devicemapper" }), "gone from newer Engines"),
        ("DKR-07", "failed", json!({ "SecurityOptions": ["name=seccomp", "name=rootless"] }), "rootless"),
        ("DKR-07", "failed", json!({ "SecurityOptions": ["name=seccomp", "name=userns"] }), "userns-remap is on"),
        // /proc tells that it has no room at all
        ("DKR-08", "failed", json!({ "DockerRootDir": "/full" }), "/full has 0 MiB"),
        ("DKR-09", "warning", json!({ "Plugins": { "Authorization": ["opa"] } }), "opa may refuse"),
        ("CG-01", "failed", json!({ "CgroupDriver": "none" }), "its driver is \"none\""),
        ("CG-01", "warning", json!({ "CgroupDriver": "systemd" }), "the Engine uses systemd"),
        ("SYS-01", "warning", json!({ "SecurityOptions": null }), "has no seccomp"),
    ];
    let node = Node::new(&stage, "engine");
    symlink("/proc", node.path("full")).unwrap();
    for (id, verdict, fault, says) in faults {
        stage.dockerd.as_usual("GET", "/info");
        stage.dockerd.always("GET", "/info", Act::Answer(200, info_with(&fault)));
        let (_, found) = node.check().await;
        assert_eq!(troubles(&found), [(id, verdict)], "{fault}: {found:#?}");
        assert!(found[id]["cause"].as_str().unwrap().contains(says), "{fault}: {:#}", found[id]);
    }
    // a kubelet that isn't told has another driver, if it is an old one
    node.plant(CONFIG, &KUBELET.replace("cgroupDriver: cgroupfs\n", ""));
    stage.dockerd.as_usual("GET", "/info");
    stage.dockerd.always("GET", "/info", Act::Answer(200, info_with(&json!({ "CgroupDriver": "systemd" }))));
    let (_, found) = node.check().await;
    assert_eq!(troubles(&found), [("CG-01", "warning")], "{found:#?}");
    stage.dockerd.as_usual("GET", "/info");
    stage.dockerd.always("GET", "/info", Act::Answer(200, info_with(&json!({}))));
    for path in ["/containers/json", "/info"] {
        stage.dockerd.as_usual("GET", path);
        stage.dockerd.always("GET", path, Act::refuse(500, "broken inside"));
        let (_, found) = node.check().await;
        assert_eq!(troubles(&found), [("DKR-01", "failed")], "{path}: {found:#?}");
        let cause = found["DKR-01"]["cause"].as_str().unwrap();
        assert!(cause.contains("broken inside") && cause.contains("GET /"), "{path}: {cause}");
        stage.dockerd.as_usual("GET", "/containers/json");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_of_another_age_is_told_from_one_that_does_not_answer() {
    let stage = Stage::new().await;
    let ages = [
        (Api { oldest: 12, newest: 40 }, "DKR-02", "failed", "at least 1.41 is needed"),
        (Api { oldest: 98, newest: 99 }, "DKR-02", "failed", "speaks API 1.98 and later"),
        (Api { oldest: 24, newest: 99 }, "DKR-03", "warning", "newer than any"),
    ];
    for (api, id, verdict, says) in ages {
        let mut node = Node::new(&stage, &format!("age-{}-{}", api.oldest, api.newest));
        let dockerd = Dockerd::new(node.path("other.sock"));
        let oldest = api.oldest;
        dockerd.start(api);
        if oldest <= 51 {
            dockerd.always("GET", "/info", Act::Answer(200, info_with(&json!({}))));
        }
        node.flag("--docker-endpoint=/other.sock");
        let (_, found) = node.check().await;
        assert_eq!(troubles(&found), [(id, verdict)], "{found:#?}");
        assert!(found[id]["cause"].as_str().unwrap().contains(says), "{:#}", found[id]);
        assert_eq!(found["DKR-01"]["verdict"], "ok", "{found:#?}");
    }
    let mut node = Node::new(&stage, "hangs");
    let dockerd = Dockerd::new(node.path("other.sock"));
    dockerd.start(DOCKER_20_10);
    dockerd.always("GET", "/version", Act::Hang);
    node.flag("--docker-endpoint=/other.sock");
    let (_, found) = node.check().await;
    assert_eq!(troubles(&found), [("DKR-01", "failed")], "{found:#?}");
    assert!(found["DKR-01"]["cause"].as_str().unwrap().contains("did not answer version within 5s"), "{found:#?}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_another_adapter_are_seen_with_what_is_in_their_way() {
    let stage = healthy_stage().await;
    let node = Node::new(&stage, "others");
    let labels = json!({ "io.kubernetes.docker.type": "podsandbox" });
    let id = stage.dockerd.put_on_network(&sandbox_name("old"), labels.clone(), "none");
    let (_, found) = node.check().await;
    assert_eq!(troubles(&found), [("STATE-03", "warning")], "{found:#?}");
    assert!(found["STATE-03"]["cause"].as_str().unwrap().contains("1 pod have no result"), "{found:#?}");
    // cri-dockerd's lo is no network
    node.plant(&format!("var/lib/cni/cache/results/cni-loopback-{id}-lo"), "{}");
    assert_eq!(troubles(&node.check().await.1), [("STATE-03", "warning")]);
    node.plant(&format!("var/lib/cni/cache/results/pods-{id}-eth0"), "{}");
    // the address of a pod that is there isn't held for nobody
    node.plant("var/lib/cni/networks/pods/10.1.0.7", &format!("{id}\r\neth0"));
    let (_, found) = node.check().await;
    assert_eq!(troubles(&found), [], "{found:#?}");
    assert!(found["STATE-03"]["cause"].as_str().unwrap().contains("1 pod with 1 container of another"), "{found:#?}");
    // their logs are where the engine has them by default
    stage.dockerd.as_usual("GET", "/info");
    stage.dockerd.always("GET", "/info", Act::Answer(200, info_with(&json!({ "LoggingDriver": "journald" }))));
    let (_, found) = node.check().await;
    assert_eq!(troubles(&found), [("DKR-04", "warning")], "{found:#?}");
    assert!(found["DKR-04"]["cause"].as_str().unwrap().contains("1 container of another"), "{found:#?}");
    stage.dockerd.forget(&id);
    assert_eq!(troubles(&node.check().await.1), [("NET-04", "warning")]);
    node.uproot("var/lib/cni/networks");
    stage.dockerd.put("web", labels, false);
    let (_, found) = node.check().await;
    assert_eq!(troubles(&found), [("DKR-04", "warning"), ("STATE-03", "warning")], "{found:#?}");
    assert!(found["STATE-03"]["cause"].as_str().unwrap().contains("are left alone: /web"), "{found:#?}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_dockershim_runs_nobody_is_asked_and_nothing_is_expected_of_it() {
    let stage = healthy_stage().await;
    let mut node = Node::new(&stage, "pre");
    node.pre = true;
    node.uproot("cri.sock");
    node.uproot("state");
    let (_, found) = node.check().await;
    assert_eq!(troubles(&found), [], "{found:#?}");
    // whoever asked there would learn that nobody answers
    node.dead_socket("cri.sock");
    node.mode("cri.sock", 0o660);
    assert_eq!(troubles(&node.check().await.1), []);
    node.uproot("cri.sock");
    node.plant("cri.sock", "");
    assert_eq!(troubles(&node.check().await.1), [("SOCK-01", "failed")]);
    node.uproot("cri.sock");
    node.process(90, "cri-dockerd", "cri-dockerd");
    let (_, found) = node.check().await;
    assert_eq!(troubles(&found), [("SOCK-02", "warning")], "{found:#?}");
    assert!(found["SOCK-02"]["cause"].as_str().unwrap().contains("process 90"), "{found:#?}");
    node.uproot("proc/90");
    // not yet is no failure
    node.plant(CONFIG, "kind: KubeletConfiguration\n");
    assert_eq!(troubles(&node.check().await.1), [("SOCK-03", "warning")]);
    node.plant(CONFIG, KUBELET);
    node.plant("state/lock", &std::process::id().to_string());
    node.mode("state", 0o711);
    let (_, found) = node.check().await;
    assert_eq!(troubles(&found), [("STATE-01", "warning")], "{found:#?}");
    let long = format!("--container-runtime-endpoint=/{}", "x".repeat(107));
    node.flag(&long);
    node.uproot("state");
    let (_, found) = node.check().await;
    assert!(troubles(&found).contains(&("SOCK-01", "failed")), "{found:#?}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_another_user_could_open_up_is_a_failure() {
    if !rustix::process::geteuid().is_root() {
        // nobody else can give a file away
        return;
    }
    let stage = healthy_stage().await;
    let node = Node::new(&stage, "owner");
    node.uproot("cri.sock");
    node.dead_socket("cri.sock");
    std::os::unix::fs::chown(node.path("cri.sock"), Some(12_345), None).unwrap();
    let (_, found) = node.check().await;
    assert_eq!(troubles(&found), [("SOCK-01", "failed")], "{found:#?}");
    assert!(found["SOCK-01"]["cause"].as_str().unwrap().contains("belongs to user 12345"), "{found:#?}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exact_lines_for_kubeadm_and_the_kubelet_are_told() {
    let stage = healthy_stage().await;
    let node = Node::new(&stage, "lines");
    node.dead_socket("run/containerd/containerd.sock");
    node.uproot("proc/80");
    node.uproot(CONFIG);
    let (_, found) = node.check().await;
    let next = found["SOCK-02"]["next"].as_str().unwrap();
    for line in ["nodeRegistration:", "  criSocket: unix:///cri.sock", "containerRuntimeEndpoint: unix:///cri.sock"] {
        assert!(next.lines().any(|told| told == line), "{line}: {next}");
    }
    assert!(next.contains("--container-runtime-endpoint=unix:///cri.sock"), "{next}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_fails_at_any_step_is_told_with_a_next_one_and_taken_back() {
    let stage = healthy_stage().await;
    let mut node = Node::new(&stage, "run-pod");
    node.run_pod = true;
    const START: &str = "/containers/*/start";
    let steps =
        [("RunPodSandbox", vec![], "docker run"), ("StartContainer", vec![Act::Delay(Duration::ZERO)], "journalctl")];
    for (step, before, next) in steps {
        for act in before {
            stage.dockerd.once("POST", START, act);
        }
        stage.dockerd.once("POST", START, Act::refuse(500, "no such luck"));
        let (worst, found) = node.check().await;
        assert_eq!((worst, troubles(&found)), (Verdict::Failed, vec![("POD-01", "failed")]), "{step}: {found:#?}");
        let told = |key: &str| found["POD-01"][key].as_str().unwrap().to_owned();
        assert!(told("cause").contains(step) && told("cause").contains("no such luck"), "{step}: {}", told("cause"));
        assert!(told("next").contains(next), "{step}: {}", told("next"));
        assert_eq!(stage.dockerd.names(), [""; 0], "{step}: what was made is gone");
    }
    stage.end().await;
}

/// The program itself, beside the sockets of a stage but on this machine: whatever it finds there.
fn program(stage: &Stage, arguments: &[&str]) -> Output {
    let place = |flag: &str, file: &Path| format!("--{flag}={}", file.display());
    Command::new(env!("CARGO_BIN_EXE_dockershim"))
        .arg("check")
        .arg(place("container-runtime-endpoint", &stage.dir.join("cri.sock")))
        .arg(place("docker-endpoint", &stage.dir.join("docker.sock")))
        .arg(place("root-directory", &stage.dir.join("state")))
        .arg("--network-plugin=bridge")
        .args(arguments)
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_ends_with_a_code_for_its_verdict() {
    let stage = healthy_stage().await;
    let (told, mistyped, mistold) = tokio::task::block_in_place(|| {
        (program(&stage, &["--json"]), program(&stage, &["--jason"]), program(&stage, &["--log-level=loud"]))
    });
    let report: Value = serde_json::from_slice(&told.stdout).unwrap();
    let code = match report["verdict"].as_str().unwrap() {
        "ok" => 0,
        "warning" => 2,
        _ => 1,
    };
    assert_eq!(told.status.code(), Some(code), "{report:#}");
    // our own server and engine are seen where the flags say
    let found = found(&told.stdout);
    for id in ["DKR-01", "DKR-05", "SOCK-01"] {
        assert_eq!(found[id]["verdict"], "ok", "{:#}", found[id]);
    }
    assert_eq!(mistyped.status.code(), Some(1));
    assert_eq!(mistold.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&mistold.stderr).contains("--log-level: \"loud\""));
    stage.end().await;
}
