//! Pod networks made by Debian's plugins: traffic in both families, what outlives what at DEL, and that a failed ADD leaves nothing.
//!
//! Plugins work in a network that the test has made, and so do dockershim and the test's own clients. Where it can't have IPv6, that
//! family is left out, and the suite says so.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use dockershim::cri;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::lab::{Case, Pod, Stage, eventually, runtime_ready, sh, sleeper, texts, trials};
use crate::support::engine::Options;
use crate::support::netns::Netns;
use crate::support::shim::Shim;

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = trials![Stage::Own(Options::default());
        pods_the_host_and_host_ports_reach_each_other_in_both_families,
        a_failed_add_leaves_no_address_and_no_interface,
        what_a_failed_add_could_not_undo_is_undone_once_plugins_can,
        a_namespace_that_vanishes_during_add_leaves_nothing,
        plugins_that_get_addresses_from_themselves_are_ended,
        what_the_kubelet_told_of_the_node_outlives_a_restart,
        readiness_follows_the_configuration,
    ];
    all.extend(trials![Stage::Own(Options { live_restore: true, ..Options::default() }); a_pod_is_taken_down_whatever_is_gone_by_then]);
    all
}

/// Where Debian has them.
pub(crate) const PLUGINS: &str = "/usr/lib/cni";
/// A server's port in a pod.
pub(crate) const PORT: u16 = 7080;
const SOON: Duration = Duration::from_secs(20);
/// What pods are on; plugins make it.
const BRIDGE: &str = "pods";

/// Whether pods can have IPv6 in this network; says so if not.
fn has_ipv6() -> bool {
    let has = fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6").is_ok_and(|off| off.trim() == "0");
    if !has {
        eprintln!("left out, IPv6 is off on this machine: traffic of pods over IPv6");
    }
    has
}

/// A node whose pods have their network from plugins.
pub(crate) struct Node {
    pub(crate) case: Case,
    pub(crate) shim: Shim,
    /// Interfaces that are there without pods.
    bare: Vec<String>,
    _netns: Netns,
}

/// The names of those in the network that this thread is in.
fn interfaces() -> Vec<String> {
    let links: Vec<Value> = asked_of(&["ip", "-json", "link", "show"]);
    links.iter().map(|link| link["ifname"].as_str().unwrap().to_owned()).collect()
}

/// What a tool tells, as JSON.
fn asked_of(command: &[&str]) -> Vec<Value> {
    let told = Command::new(command[0]).args(&command[1..]).output().unwrap();
    assert!(told.status.success(), "{command:?}: {}", String::from_utf8_lossy(&told.stderr));
    serde_json::from_slice(&told.stdout).unwrap()
}

/// A plugin of a few lines.
fn script(case: &Case, name: &str, body: &str) {
    let path = case.dir.join("bin").join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Node {
    /// Puts a dockershim with CNI in place of the case's own. `more` are the plugins after the bridge.
    pub(crate) async fn new(mut case: Case, more: &[Value]) -> Node {
        case.lab.shim.stop();
        let netns = Netns::enter();
        for dir in ["net.d", "bin"] {
            fs::create_dir(case.dir.join(dir)).unwrap();
        }
        // a network is not ready while a plugin of its is missing: each test says later what this one does
        script(&case, "odd", "exit 1");
        let flag = |name: &str, dir: PathBuf| format!("--cni-{name}={}", dir.display());
        let bin = format!("{},{PLUGINS}", flag("bin-dir", case.dir.join("bin")));
        let (conf, cache) = (flag("conf-dir", case.dir.join("net.d")), flag("cache-dir", case.dir.join("cache")));
        let shim = Shim::start_with(&case.lab.engine.socket(), &[&bin, &conf, &cache]);
        case.cri = shim.cri();
        let bare = interfaces();
        let node = Node { case, shim, bare, _netns: netns };
        node.configure(more);
        runtime_ready(&node.case.cri, true).await;
        node.network_ready(true).await;
        node
    }

    pub(crate) fn conf(&self) -> PathBuf {
        self.case.dir.join("net.d/10-real.conflist")
    }

    fn configure(&self, more: &[Value]) {
        let mut ranges = vec![json!([{"subnet": "198.18.0.0/24"}])];
        if has_ipv6() {
            ranges.push(json!([{"subnet": "fd00:198:18::/64"}]));
        }
        let bridge = json!({
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": true,
            "ipam": {"type": "host-local", "dataDir": self.case.dir.join("leases"), "ranges": ranges},
        });
        let plugins: Vec<_> = std::iter::once(&bridge).chain(more).collect();
        let list = json!({"cniVersion": "1.0.0", "name": "real", "plugins": plugins});
        // replaced whole, as an installer does
        let beside = self.case.dir.join("net.d/.new");
        fs::write(&beside, list.to_string()).unwrap();
        fs::rename(beside, self.conf()).unwrap();
    }

    /// Waits for NetworkReady to become `wanted`; its message.
    async fn network_ready(&self, wanted: bool) -> String {
        let look = || async {
            let conditions = self.case.cri.conditions().await.ok()?;
            let (ready, message) = conditions.get("NetworkReady")?;
            (*ready == wanted).then(|| message.clone())
        };
        eventually(&format!("NetworkReady is {wanted}"), SOON, look).await
    }

    /// A plugin of the test's own.
    fn script(&self, name: &str, body: &str) {
        script(&self.case, name, body);
    }

    async fn addresses(&self, pod: &Pod) -> Vec<String> {
        let network = self.case.cri.pod_status(&pod.id).await.unwrap().network.unwrap();
        std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.ip)).collect()
    }

    /// Addresses that host-local has given out.
    pub(crate) fn leases(&self) -> Vec<String> {
        let names = fs::read_dir(self.case.dir.join("leases/real")).into_iter().flatten();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(|c: char| c.is_ascii_hexdigit()) && name.contains(['.', ':'])).collect()
    }

    /// Interfaces beside the bridge, and what is kept of attachments.
    pub(crate) fn left(&self) -> Vec<String> {
        let is_left = |name: &String| name != BRIDGE && !self.bare.contains(name);
        let cached = fs::read_dir(self.case.dir.join("cache/results")).into_iter().flatten();
        let cached = cached.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        interfaces().into_iter().filter(is_left).chain(cached).collect()
    }
}

/// Serves one line to all who come.
pub(crate) fn server(line: &str) -> cri::ContainerConfig {
    sh("server", &format!("exec nc -ll -p {PORT} -e echo {line}"))
}

/// What a server says.
pub(crate) fn ask(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.trim_end().to_owned()).filter(|text| !text.is_empty())
}

/// A port of the host that nobody has.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0")).unwrap().local_addr().unwrap().port()
}

async fn pods_the_host_and_host_ports_reach_each_other_in_both_families(case: Case) {
    let more = [
        json!({"type": "portmap", "capabilities": {"portMappings": true}}),
        json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}),
        json!({"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}),
        json!({"type": "firewall"}),
    ];
    let node = Node::new(case, &more).await;
    let host_port = free_port();
    let mut config = node.case.pod("one");
    config.port_mappings = vec![cri::PortMapping {
        protocol: cri::Protocol::Tcp.into(),
        container_port: PORT.into(),
        host_port: host_port.into(),
        host_ip: String::new(),
    }];
    config.annotations =
        texts(&[("kubernetes.io/ingress-bandwidth", "100M"), ("kubernetes.io/egress-bandwidth", "100M")]);
    let one = node.case.run(config).await;
    let two = node.case.run_pod("two").await;
    node.case.start(&one, &server("from-pod-one")).await;
    let client = node.case.start(&two, &sleeper("client")).await;
    assert_eq!(node.case.output(&client, "cat /proc/sys/net/core/somaxconn").await, "500\n");

    // 100 Mbit/s are 12.5 MB/s, from the pod and to it
    let shaped: Vec<Value> = asked_of(&["tc", "-json", "qdisc", "show"]);
    let rates: Vec<_> =
        shaped.iter().filter(|queue| queue["kind"] == "tbf").map(|tbf| &tbf["options"]["rate"]).collect();
    assert_eq!(rates, [&json!(12_500_000); 2], "{shaped:?}");

    let addresses = node.addresses(&one).await;
    assert_eq!(addresses.len(), if has_ipv6() { 2 } else { 1 });
    assert!(addresses[0].contains('.'), "{addresses:?}");
    for address in &addresses {
        // host to pod
        let of_pod = SocketAddr::new(address.parse().unwrap(), PORT);
        assert_eq!(eventually("the host is answered", SOON, || async { ask(of_pod) }).await, "from-pod-one");
        // pod to pod
        let between = || async {
            let script = format!("nc {address} {PORT} </dev/null");
            let answer = node.case.cri.exec(&client, &["/bin/sh", "-c", &script], 5).await.ok()?;
            (answer.stdout == b"from-pod-one\n").then_some(())
        };
        eventually("the other pod is answered", SOON, between).await;
        // the host's port, and pod to host, both at the gateway's address: portmap has none on IPv6's loopback
        let (network, _) = address.rsplit_once(['.', ':']).unwrap();
        let gateway = if address.contains('.') { format!("{network}.1") } else { format!("{network}:1") };
        let of_host = SocketAddr::new(gateway.parse().unwrap(), host_port);
        assert_eq!(eventually("the host port is answered", SOON, || async { ask(of_host) }).await, "from-pod-one");
        pod_to_host(&node, &client, SocketAddr::new(gateway.parse().unwrap(), 0)).await;
    }
    let loopback = SocketAddr::from(([127, 0, 0, 1], host_port));
    assert_eq!(eventually("the loopback port is answered", SOON, || async { ask(loopback) }).await, "from-pod-one");

    for pod in [&one, &two] {
        node.case.cri.stop_pod(&pod.id).await.unwrap();
        node.case.cri.remove_pod(&pod.id).await.unwrap();
    }
    assert_eq!((node.leases(), node.left()), (Vec::new(), Vec::new()));
    assert_eq!(ask(loopback), None);
}

async fn pod_to_host(node: &Node, client: &str, at: SocketAddr) {
    let listener = TcpListener::bind(at).unwrap();
    let at = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"from-the-host\n").unwrap());
    let script = format!("nc {} {}", at.ip(), at.port());
    let answer = || async {
        let answer = node.case.cri.exec(client, &["/bin/sh", "-c", &script], 5).await.ok()?;
        (answer.stdout == b"from-the-host\n").then_some(())
    };
    eventually("the host answers", SOON, answer).await;
    serving.join().unwrap();
}

async fn a_failed_add_leaves_no_address_and_no_interface(case: Case) {
    let node = Node::new(case, &[json!({"type": "odd"})]).await;
    let many: Vec<_> = (0..1000).map(|n| format!(r#"{{"address":"10.0.{}.{}/8"}}"#, n / 250, n % 250)).collect();
    fs::write(node.case.dir.join("many"), format!(r#"{{"cniVersion":"1.0.0","ips":[{}]}}"#, many.join(","))).unwrap();
    let cases = [
        ("echo garbage", "is not JSON"),
        ("true", "is empty"),
        ("head -c 10485760 /dev/zero", "wrote more than"),
        ("kill -9 $$", "signal: 9"),
        ("exit 3", "exit status: 3"),
        (
            r#"echo '{"cniVersion":"1.0.0","code":11,"msg":"later","details":"pool full"}'; exit 1"#,
            "later: pool full (code 11)",
        ),
        (r#"echo '{"cniVersion":"1.0.0"}'"#, "names no address"),
        (r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/99"}]}'"#, "10.1.0.5/99"),
        (r#"echo '{"cniVersion":"7.0.0","ips":[{"address":"10.1.0.5/9"}]}'"#, "7.0.0"),
    ];
    for (n, (on_add, expected)) in cases.into_iter().enumerate() {
        node.script("odd", &format!("cat >/dev/null; [ $CNI_COMMAND = ADD ] || exit 0; {on_add}"));
        let refused = node.case.cri.run_pod(&node.case.pod(&format!("odd{n}"))).await.unwrap_err();
        let message = refused.message();
        for part in ["plugin odd", "10-real.conflist", expected] {
            assert!(message.contains(part), "{on_add}: {message}");
        }
        assert_eq!((node.leases(), node.left()), (Vec::new(), Vec::new()), "{on_add}");
    }
    // strange, yet an answer
    node.script("odd", &format!("cat >/dev/null; cat {}", node.case.dir.join("many").display()));
    let pod = node.case.run_pod("many").await;
    assert_eq!(node.addresses(&pod).await.len(), 1000);
    node.case.cri.remove_pod(&pod.id).await.unwrap();
    assert_eq!((node.leases(), node.left()), (Vec::new(), Vec::new()));
}

/// As when what a plugin depends on is away for a while: nobody will ask for such a sandbox again.
async fn what_a_failed_add_could_not_undo_is_undone_once_plugins_can(case: Case) {
    let node = Node::new(case, &[json!({"type": "odd"})]).await;
    let calls = node.case.dir.join("calls");
    node.script("odd", &format!("cat >/dev/null; echo $CNI_COMMAND >>{}; exit 1", calls.display()));
    assert!(node.case.cri.run_pod(&node.case.pod("away")).await.is_err());
    assert_eq!(fs::read_to_string(&calls).unwrap(), "ADD\nDEL\n", "the answer waits for one DEL");
    assert_eq!(node.leases().len(), if has_ipv6() { 2 } else { 1 });
    assert_eq!(node.case.cri.list_pods(cri::PodSandboxFilter::default()).await.unwrap(), []);
    node.script("odd", "cat >/dev/null; exit 0");
    nothing_is_left(&node, "the addresses are given back").await;
}

/// The sandbox's process dies under the hands of the second plugin, which then fails or succeeds.
async fn a_namespace_that_vanishes_during_add_leaves_nothing(case: Case) {
    let node = Node::new(case, &[json!({"type": "odd"})]).await;
    let gone = "pid=${CNI_NETNS#/proc/}; pid=${pid%%/*}; kill -9 $pid; while [ -e $CNI_NETNS ]; do sleep 0.01; done";
    for (name, then) in
        [("fails", "exit 3"), ("succeeds", r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/9"}]}'"#)]
    {
        node.script("odd", &format!("cat >/dev/null; [ $CNI_COMMAND = ADD ] || exit 0; {gone}; {then}"));
        let ran = node.case.cri.run_pod(&node.case.pod(name)).await;
        assert_eq!(ran.is_ok(), name == "succeeds", "{ran:?}");
        if let Ok(id) = &ran {
            let dead = || async { (node.case.cri.pod_status(id).await.ok()?.state == 1).then_some(()) };
            eventually("the sandbox is not ready", SOON, dead).await;
            node.case.cri.remove_pod(id).await.unwrap();
        }
        nothing_is_left(&node, name).await;
    }
}

/// An interface goes some moments after its namespace.
async fn nothing_is_left(node: &Node, what: &str) {
    let nothing = || async { (node.leases().is_empty() && node.left().is_empty()).then_some(()) };
    eventually(&format!("{what}: nothing is left"), SOON, nothing).await;
}

/// Each call of such a plugin starts the next one: the machine would be full of them.
async fn plugins_that_get_addresses_from_themselves_are_ended(case: Case) {
    let node = Node::new(case, &[json!({"type": "ptp", "ipam": {"type": "ptp"}})]).await;
    let refused = node.case.cri.run_pod(&node.case.pod("circle")).await.unwrap_err();
    for part in ["plugin ptp", "10-real.conflist", "its own IPAM plugin"] {
        assert!(refused.message().contains(part), "{}", refused.message());
    }
    assert_eq!((node.leases(), node.left()), (Vec::new(), Vec::new()));
    let all_ended = || async { (!Command::new("pidof").arg("ptp").status().unwrap().success()).then_some(()) };
    eventually("no such process is left", SOON, all_ended).await;
}

/// It tells a pod CIDR again when that changes, not when we start.
async fn what_the_kubelet_told_of_the_node_outlives_a_restart(case: Case) {
    let odd = json!({"type": "odd", "capabilities": {"ipRanges": true}});
    let node = Node::new(case, std::slice::from_ref(&odd)).await;
    let asked = node.case.dir.join("asked");
    let script = format!(
        "cat >{}; [ $CNI_COMMAND = ADD ] || exit 0; echo '{{\"ips\":[{{\"address\":\"10.1.0.5/24\"}}]}}'",
        asked.display()
    );
    node.script("odd", &script);
    let network_config = Some(cri::NetworkConfig { pod_cidr: "10.1.0.0/24".to_owned() });
    let told = cri::UpdateRuntimeConfigRequest { runtime_config: Some(cri::RuntimeConfig { network_config }) };
    node.case.cri.runtime().update_runtime_config(told).await.unwrap();
    node.shim.kill();
    node.shim.start_again();
    runtime_ready(&node.case.cri, true).await;
    node.network_ready(true).await;
    let pod = node.case.run_pod("later").await;
    let request: Value = serde_json::from_slice(&fs::read(asked).unwrap()).unwrap();
    assert_eq!(request["runtimeConfig"]["ipRanges"], json!([[{"subnet": "10.1.0.0/24"}]]));
    node.case.cri.remove_pod(&pod.id).await.unwrap();
}

async fn readiness_follows_the_configuration(case: Case) {
    let node = Node::new(case, &[]).await;
    fs::remove_file(node.conf()).unwrap();
    let message = node.network_ready(false).await;
    assert!(message.contains(&node.case.dir.join("net.d").display().to_string()), "{message}");
    fs::write(node.conf(), r#"{"cniVersion": "1.0.0", "#).unwrap();
    let named = || async { node.network_ready(false).await.contains("10-real.conflist is not JSON").then_some(()) };
    eventually("the half-written file is named", SOON, named).await;
    node.configure(&[json!({"type": "nowhere"})]);
    let missing = || async {
        let message = node.network_ready(false).await;
        (message.contains("plugin nowhere") && message.contains(PLUGINS)).then_some(())
    };
    eventually("the missing plugin is named", SOON, missing).await;
    node.configure(&[]);
    node.network_ready(true).await;
}

async fn a_pod_is_taken_down_whatever_is_gone_by_then(case: Case) {
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let node = Node::new(case, std::slice::from_ref(&portmap)).await;
    let engine = &node.case.lab.engine;
    let (first, second) = (node.case.run_pod("first").await, node.case.run_pod("second").await);
    let ips = node.addresses(&first).await;
    assert!(ips.iter().all(|ip| node.leases().contains(ip)), "{ips:?} of {:?}", node.leases());

    // configuration gone, dockershim killed, dockerd restarted
    fs::remove_dir_all(node.case.dir.join("net.d")).unwrap();
    node.shim.kill();
    engine.stop_dockerd();
    engine.start_dockerd();
    node.shim.start_again();
    runtime_ready(&node.case.cri, true).await;
    node.network_ready(false).await;
    assert_eq!(node.addresses(&first).await, ips);
    node.case.cri.stop_pod(&first.id).await.unwrap();
    assert!(!ips.iter().any(|ip| node.leases().contains(ip)), "{:?}", node.leases());

    // the namespace too: its process is killed
    let pid = engine.docker.get(&format!("/containers/{}/json", second.id))["State"]["Pid"].to_string();
    let killed = Command::new("kill").args(["-9", &pid]).status().unwrap();
    assert!(killed.success());
    let gone = || async { (node.case.cri.pod_status(&second.id).await.ok()?.state == 1).then_some(()) };
    eventually("the sandbox is not ready", SOON, gone).await;
    node.case.cri.stop_pod(&second.id).await.unwrap();
    nothing_is_left(&node, "without its process").await;
}
