//! CNI pods whose network namespace the Engine leaves alone: the files in their containers' `/etc`, what holds over restarts of both
//! sides, and what is left when they are gone. The plugin is a few lines of shell: it gives addresses and makes no interface.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dockershim::cri;
use futures_util::future::join_all;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::lab::{Case, Pod, Stage, eventually, runtime_ready, sleeper, texts, trials, words};
use crate::support::engine::Options;
use crate::support::shim::Shim;

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = trials![Stage::Own(Options::default());
        the_files_of_a_pod_hold_what_was_asked,
        a_pod_that_asks_for_no_dns_has_the_nodes,
        a_pod_of_ipv6_alone_is_one,
        a_host_network_pod_has_the_engines_files,
        roots_and_mounts_of_a_containers_own_are_respected,
        a_pod_is_what_it_was_made_whatever_the_flag_says_later,
        files_of_pods_that_are_gone_go_too,
        pods_at_once_wait_for_a_slow_plugin_together,
    ];
    all.extend(trials![Stage::Own(Options { live_restore: true, ..Options::default() });
        pods_outlive_an_engine_that_restores_them,
        pods_outlive_an_engine_that_is_killed,
    ]);
    all
}

/// What a container shows of its network.
const LOOK: &str = "cat /etc/resolv.conf /etc/hosts /etc/hostname; hostname; readlink /proc/self/ns/net";
const ADDRESSES: [&str; 2] = ["198.18.255.7", "fd00:5a4d::7"];
const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
                     ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// A dockershim in cni mode in the place of the case's own, and its plugin.
struct Node {
    shim: Shim,
    /// Seconds that the plugin takes.
    delay: PathBuf,
}

impl Node {
    async fn start(case: &mut Case, flags: &[&str]) -> Node {
        let dir = case.dir.clone();
        let (conf, bin, delay) = (dir.join("net.d"), dir.join("bin"), dir.join("delay"));
        std::fs::create_dir_all(&conf).unwrap();
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(&delay, "0").unwrap();
        let config = json!({"cniVersion": "1.0.0", "name": "bare", "plugins": [{"type": "giver"}]});
        std::fs::write(conf.join("10-bare.conflist"), config.to_string()).unwrap();
        let [v4, v6] = ADDRESSES;
        let result = json!({
            "cniVersion": "1.0.0",
            "ips": [{"address": format!("{v4}/24")}, {"address": format!("{v6}/64")}],
        });
        let script = format!(
            "#!/bin/sh\ncat >/dev/null\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\nsleep $(cat {})\necho '{result}'\n",
            delay.display()
        );
        write_program(&bin.join("giver"), &script);
        case.lab.shim.stop();
        let own = [
            format!("--cni-conf-dir={}", conf.display()),
            format!("--cni-bin-dir={}", bin.display()),
            format!("--cni-cache-dir={}", dir.join("cache").display()),
        ];
        let flags: Vec<&str> = own.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        let shim = Shim::start_with(case.lab.proxy.as_ref().unwrap().socket(), &flags);
        case.cri = shim.cri();
        runtime_ready(&case.cri, true).await;
        Node { shim, delay }
    }

    /// The directory of the pods' files.
    fn etc(&self) -> PathBuf {
        let flag = self.shim.arguments().iter().find_map(|flag| flag.strip_prefix("--root-directory=")).unwrap();
        Path::new(flag).join("etc")
    }

    fn sandboxes(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.etc()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn write_program(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn inspect(case: &Case, id: &str) -> Value {
    case.lab.engine.docker.get(&format!("/containers/{id}/json"))
}

fn dns() -> cri::DnsConfig {
    cri::DnsConfig {
        servers: words(&["198.18.255.1", "fd00::1", "198.18.255.2", "198.18.255.3"]),
        searches: words(&["bare.svc.cluster.local", "cluster.local"]),
        options: words(&["ndots:5", "edns0"]),
    }
}

async fn the_files_of_a_pod_hold_what_was_asked(mut case: Case) {
    let node = Node::start(&mut case, &[]).await;
    // brings the pause image in
    let first = case.run_pod("first").await;
    case.cri.remove_pod(&first.id).await.unwrap();
    let mut config = cri::PodSandboxConfig { dns_config: Some(dns()), ..case.pod("asked") };
    config.linux.as_mut().unwrap().sysctls =
        texts(&[("net.ipv4.tcp_syncookies", "0"), ("kernel.shm_rmid_forced", "1"), ("net/ipv4/tcp_fin_timeout", "17")]);
    let proxy = case.lab.proxy.as_ref().unwrap();
    proxy.take();
    let pod = case.run(config).await;
    let main = case.start(&pod, &sleeper("main")).await;
    let calls = proxy.take();
    // create, start, inspect; create; start, inspect; and what may fall into it: a heartbeat, a reconcile
    assert!(calls.values().sum::<usize>() <= 6 + 2, "{calls:?}");

    let pause = inspect(&case, &pod.id);
    assert_eq!((&pause["Config"]["NetworkDisabled"], &pause["ResolvConfPath"]), (&json!(true), &json!("")));
    let status = case.cri.pod_status(&pod.id).await.unwrap();
    let network = status.network.unwrap();
    assert_eq!((network.ip.as_str(), network.additional_ips[0].ip.as_str()), (ADDRESSES[0], ADDRESSES[1]));
    let [v4, v6] = ADDRESSES;
    let resolv_conf = "nameserver 198.18.255.1\nnameserver fd00::1\nnameserver 198.18.255.2\nnameserver 198.18.255.3\n\
                       search bare.svc.cluster.local cluster.local\noptions ndots:5 edns0\n";
    let expected = format!("{resolv_conf}{HOSTS}{v4}\tasked\n{v6}\tasked\nasked\nasked\n");
    let look = case.output(&main, LOOK).await;
    assert!(look.starts_with(&expected), "{look}");
    assert!(case.output(&main, "ip addr show lo").await.contains("UP"));
    let sysctls = "cd /proc/sys; cat net/ipv4/tcp_syncookies kernel/shm_rmid_forced net/ipv4/tcp_fin_timeout \
                   net/ipv4/ip_unprivileged_port_start";
    assert_eq!(case.output(&main, sysctls).await, "0\n1\n17\n0\n");
    // as if the Engine had made them
    assert!(case.cri.status(&main).await.unwrap().mounts.is_empty());

    node.shim.kill();
    node.shim.start_again();
    runtime_ready(&case.cri, true).await;
    let second = case.start(&pod, &sleeper("second")).await;
    assert_eq!(case.output(&second, LOOK).await, look);
    assert!(case.cri.status(&main).await.unwrap().mounts.is_empty());
    // one container's change is all containers'
    case.output(&second, "echo 198.18.255.9 added >> /etc/hosts").await;
    assert!(case.output(&main, "cat /etc/hosts").await.ends_with("added\n"));

    assert_eq!(node.sandboxes(), std::slice::from_ref(&pod.id));
    case.cri.remove_pod(&pod.id).await.unwrap();
    assert!(node.sandboxes().is_empty());
}

async fn a_pod_that_asks_for_no_dns_has_the_nodes(mut case: Case) {
    let _node = Node::start(&mut case, &[]).await;
    let nodes = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    for (name, asked, expected) in [("none", None, nodes.as_str()), ("empty", Some(cri::DnsConfig::default()), "")] {
        let pod = case.run(cri::PodSandboxConfig { dns_config: asked, ..case.pod(name) }).await;
        let id = case.start(&pod, &sleeper("main")).await;
        assert_eq!(case.output(&id, "cat /etc/resolv.conf").await, expected, "{name}");
        case.cri.remove_pod(&pod.id).await.unwrap();
    }
}

async fn a_pod_of_ipv6_alone_is_one(mut case: Case) {
    let _node = Node::start(&mut case, &[]).await;
    let [_, v6] = ADDRESSES;
    let result = json!({"cniVersion": "1.0.0", "ips": [{"address": format!("{v6}/64")}]});
    write_program(&case.dir.join("bin/giver"), &format!("#!/bin/sh\ncat >/dev/null\necho '{result}'\n"));
    let pod = case.run_pod("six").await;
    let network = case.cri.pod_status(&pod.id).await.unwrap().network.unwrap();
    assert_eq!((network.ip.as_str(), network.additional_ips.as_slice()), (v6, [].as_slice()));
    let id = case.start(&pod, &sleeper("main")).await;
    assert_eq!(case.output(&id, "cat /etc/hosts").await, format!("{HOSTS}{v6}\tsix\n"));
    case.cri.remove_pod(&pod.id).await.unwrap();
}

async fn a_host_network_pod_has_the_engines_files(mut case: Case) {
    let node = Node::start(&mut case, &[]).await;
    let host = cri::NamespaceOption { network: cri::NamespaceMode::Node.into(), ..Default::default() };
    let context = cri::LinuxSandboxSecurityContext {
        namespace_options: Some(host.clone()),
        ..cri::LinuxSandboxSecurityContext::default()
    };
    let mut config = cri::PodSandboxConfig { dns_config: Some(dns()), hostname: String::new(), ..case.pod("host") };
    config.linux.as_mut().unwrap().security_context = Some(context);
    let pod = case.run(config).await;
    let mut main = sleeper("main");
    main.linux.as_mut().unwrap().security_context =
        Some(cri::LinuxContainerSecurityContext { namespace_options: Some(host), ..Default::default() });
    let id = case.start(&pod, &main).await;
    assert!(
        case.output(&id, "cat /etc/resolv.conf").await.starts_with("nameserver 198.18.255.1\nnameserver fd00::1\n")
    );
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(case.output(&id, "hostname").await, own);
    assert_ne!(inspect(&case, &pod.id)["Config"]["NetworkDisabled"], json!(true));
    assert!(node.sandboxes().is_empty());
    case.cri.remove_pod(&pod.id).await.unwrap();
}

async fn roots_and_mounts_of_a_containers_own_are_respected(mut case: Case) {
    let _node = Node::start(&mut case, &[]).await;
    let mut config = case.pod("own");
    config.linux.as_mut().unwrap().security_context =
        Some(cri::LinuxSandboxSecurityContext { privileged: true, readonly_rootfs: true, ..Default::default() });
    let pod = case.run(config).await;
    let with = |name: &str, context| {
        let mut container = sleeper(name);
        container.linux.as_mut().unwrap().security_context = Some(context);
        container
    };
    let readonly = cri::LinuxContainerSecurityContext { readonly_rootfs: true, ..Default::default() };
    let readonly = case.start(&pod, &with("readonly", readonly)).await;
    let answer = case.cri.exec(&readonly, &["/bin/sh", "-c", "echo x >> /etc/hosts"], 10).await.unwrap();
    assert_ne!(answer.exit_code, 0, "a read-only root has read-only files");
    let privileged = cri::LinuxContainerSecurityContext { privileged: true, ..Default::default() };
    let privileged = case.start(&pod, &with("privileged", privileged)).await;
    case.output(&privileged, "echo 198.18.255.9 added >> /etc/hosts").await;

    // as the kubelet does
    let hosts = case.dir.join("etc-hosts");
    std::fs::write(&hosts, "# Kubernetes-managed hosts file.\n").unwrap();
    let mut managed = sleeper("managed");
    managed.mounts = vec![cri::Mount {
        container_path: "/etc/hosts".to_owned(),
        host_path: hosts.display().to_string(),
        ..Default::default()
    }];
    let managed = case.start(&pod, &managed).await;
    assert_eq!(case.output(&managed, "cat /etc/hosts /etc/hostname").await, "# Kubernetes-managed hosts file.\nown\n");
    assert_eq!(case.cri.status(&managed).await.unwrap().mounts.len(), 1);
    case.cri.remove_pod(&pod.id).await.unwrap();
}

async fn a_pod_is_what_it_was_made_whatever_the_flag_says_later(mut case: Case) {
    let mut node = Node::start(&mut case, &["--sandbox-network=engine"]).await;
    let pod = case.run(cri::PodSandboxConfig { dns_config: Some(dns()), ..case.pod("engines") }).await;
    let before = case.start(&pod, &sleeper("before")).await;
    assert_ne!(inspect(&case, &pod.id)["Config"]["NetworkDisabled"], json!(true));
    node.shim.stop();
    node.shim.exchange_flag("--sandbox-network=engine", "--sandbox-network=bare");
    node.shim.start_again();
    runtime_ready(&case.cri, true).await;
    let after = case.start(&pod, &sleeper("after")).await;
    let look = case.output(&after, LOOK).await;
    assert_eq!(look, case.output(&before, LOOK).await);
    assert!(look.contains("nameserver 198.18.255.3\n"), "{look}");
    assert!(node.sandboxes().is_empty());
    case.cri.remove_pod(&pod.id).await.unwrap();
}

async fn files_of_pods_that_are_gone_go_too(mut case: Case) {
    let node = Node::start(&mut case, &[]).await;
    let (stays, goes) = (case.run_pod("stays").await, case.run_pod("goes").await);
    assert_eq!(node.sandboxes().len(), 2);
    node.shim.kill();
    case.lab.engine.docker.json("DELETE", &format!("/containers/{}?force=1", goes.id), &Value::Null);
    std::fs::create_dir(node.etc().join(".5a4d.0")).unwrap();
    node.shim.start_again();
    let cleaned = || async { (node.sandboxes() == [stays.id.clone()]).then_some(()) };
    eventually("what is left of the other pod goes", Duration::from_secs(20), cleaned).await;
    // a pod whose network fails leaves nothing
    write_program(&case.dir.join("bin/giver"), "#!/bin/sh\necho '{\"code\": 7, \"msg\": \"none left\"}'; exit 1\n");
    let error = case.cri.run_pod(&case.pod("fails")).await.unwrap_err();
    assert!(error.message().contains("none left"), "{}", error.message());
    assert_eq!(node.sandboxes(), std::slice::from_ref(&stays.id));
    write_program(&case.dir.join("bin/giver"), "#!/bin/sh\nexit 0\n");
    case.cri.remove_pod(&stays.id).await.unwrap();
    assert!(node.sandboxes().is_empty());
}

async fn pods_outlive_an_engine_that_restores_them(case: Case) {
    outlives(case, true).await;
}

async fn pods_outlive_an_engine_that_is_killed(case: Case) {
    outlives(case, false).await;
}

/// The namespace stays, and containers can still join it.
async fn outlives(mut case: Case, politely: bool) {
    let _node = Node::start(&mut case, &[]).await;
    let pod = case.run(cri::PodSandboxConfig { dns_config: Some(dns()), ..case.pod("outlives") }).await;
    let before = case.start(&pod, &sleeper("before")).await;
    let look = case.output(&before, LOOK).await;
    if politely {
        case.lab.engine.stop_dockerd();
    } else {
        case.lab.engine.kill_dockerd();
    }
    runtime_ready(&case.cri, false).await;
    case.lab.engine.start_dockerd();
    runtime_ready(&case.cri, true).await;
    assert_eq!(case.cri.pod_status(&pod.id).await.unwrap().state(), cri::PodSandboxState::SandboxReady);
    assert_eq!(case.output(&before, LOOK).await, look);
    let after = case.start(&pod, &sleeper("after")).await;
    assert_eq!(case.output(&after, LOOK).await, look);
    let again = case.run_pod("again").await;
    case.start(&again, &sleeper("main")).await;
    for pod in [&pod, &again] {
        case.cri.remove_pod(&pod.id).await.unwrap();
    }
}

/// Pods at once.
const MANY: usize = 50;
/// How long the plugin takes for each of them.
const SLOW: Duration = Duration::from_secs(3);

/// What they cost the engine is measured with a quick plugin: beyond that, all of them wait for a slow one once, and reads not at all.
async fn pods_at_once_wait_for_a_slow_plugin_together(mut case: Case) {
    let node = Node::start(&mut case, &[]).await;
    // brings the pause image in
    let first = case.run_pod("first").await;
    let (quick, _) = run_many(&case, &first, "quick").await;
    std::fs::write(&node.delay, SLOW.as_secs().to_string()).unwrap();
    let (slow, reads) = run_many(&case, &first, "slow").await;
    // one after the other they would wait fifty times as long; what else runs on the machine takes its part of both
    assert!(slow < 2 * quick + 4 * SLOW, "{MANY} pods: {quick:?} with a quick plugin, {slow:?} with a slow one");
    assert!(slow >= SLOW, "the plugin was slow");
    // a single read may meet a machine that is busy with something else
    let (median, late) = (reads[reads.len() / 2], reads[reads.len() * 9 / 10]);
    assert!(median < Duration::from_millis(100) && late < SLOW / 2, "reads: median {median:?}, late {late:?}");
    case.cri.remove_pod(&first.id).await.unwrap();
}

/// Runs many pods and removes them: how long until all ran, and what reads took meanwhile, sorted.
async fn run_many(case: &Case, known: &Pod, name: &str) -> (Duration, Vec<Duration>) {
    let configs: Vec<_> = (0..MANY).map(|number| case.pod(&format!("{name}-{number}"))).collect();
    let begin = Instant::now();
    let mut running = Box::pin(join_all(configs.iter().map(|config| case.cri.run_pod(config))));
    let mut reads = Vec::new();
    let pods = loop {
        tokio::select! {
            pods = &mut running => break pods,
            took = read(case, known) => reads.push(took),
        }
    };
    let took = begin.elapsed();
    let pods: Vec<String> = pods.into_iter().collect::<Result<_, _>>().unwrap();
    for removed in join_all(pods.iter().map(|id| case.cri.remove_pod(id))).await {
        removed.unwrap();
    }
    reads.sort_unstable();
    (took, reads)
}

async fn read(case: &Case, known: &Pod) -> Duration {
    let begin = Instant::now();
    case.cri.list_pods(cri::PodSandboxFilter::default()).await.unwrap();
    case.cri.pod_status(&known.id).await.unwrap();
    case.cri.conditions().await.unwrap();
    let took = begin.elapsed();
    tokio::time::sleep(Duration::from_millis(50)).await;
    took
}
