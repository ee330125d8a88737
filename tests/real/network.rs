//! A pod's surroundings: bridge and host network, ports, DNS, sysctls, shared namespaces.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use dockershim::cri;
use libtest_mimic::Trial;

use crate::lab::{Case, Stage, eventually, runtime_ready, sh, sleeper, texts, trials, words};
use crate::support::engine::Options;
use crate::support::shim::Shim;

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = trials![Stage::Shared;
        containers_of_a_pod_share_its_address_and_loopback,
        pods_reach_each_other,
        a_host_port_leads_into_the_pod,
        host_ports_of_every_protocol_are_published,
        a_host_port_is_held_by_one_pod,
        resolv_conf_is_what_the_pod_asked_for,
        hostname_and_hosts_name_the_pod,
        sysctls_hold_in_the_pod,
        a_host_network_pod_is_on_the_host,
        a_host_pid_container_sees_the_host,
        a_shared_pid_namespace_is_reaped_by_the_pause_program,
        pid_namespaces_are_apart_unless_asked,
        ipc_is_shared_in_the_pod,
    ];
    all.extend(trials![Stage::Own(Options { daemon_json: IPV6, ..Options::default() });
        a_pod_has_both_families_where_the_engine_has_both]);
    all.extend(trials![Stage::Own(Options::default()); a_cni_pod_has_the_plugins_address_and_gives_it_back]);
    all
}

/// Of an engine whose bridge has both families.
const IPV6: &str = r#"{"ipv6": true, "fixed-cidr-v6": "fd00:5a4d:6::/64"}"#;

fn namespaces(network: cri::NamespaceMode, pid: cri::NamespaceMode) -> cri::NamespaceOption {
    let ipc = if network == cri::NamespaceMode::Node { network } else { cri::NamespaceMode::Pod };
    cri::NamespaceOption { network: network.into(), pid: pid.into(), ipc: ipc.into(), ..Default::default() }
}

/// A pod's configuration with these namespaces.
fn pod_in(case: &Case, name: &str, options: &cri::NamespaceOption) -> cri::PodSandboxConfig {
    let mut config = case.pod(name);
    config.linux.as_mut().unwrap().security_context =
        Some(cri::LinuxSandboxSecurityContext { namespace_options: Some(options.clone()), ..Default::default() });
    config
}

/// A container with the same.
fn container_in(mut config: cri::ContainerConfig, options: &cri::NamespaceOption) -> cri::ContainerConfig {
    config.linux.as_mut().unwrap().security_context =
        Some(cri::LinuxContainerSecurityContext { namespace_options: Some(options.clone()), ..Default::default() });
    config
}

/// Serves one line to all who come.
fn server(name: &str, port: u16, line: &str) -> cri::ContainerConfig {
    sh(name, &format!("exec nc -ll -p {port} -e echo {line}"))
}

async fn containers_of_a_pod_share_its_address_and_loopback(case: Case) {
    let pod = case.run_pod("shared").await;
    case.start(&pod, &server("server", 7070, "over-loopback")).await;
    let client = case.start(&pod, &sleeper("client")).await;
    let answer = || async {
        let answer = case.cri.exec(&client, &["/bin/sh", "-c", "nc 127.0.0.1 7070 </dev/null"], 5).await.ok()?;
        (answer.stdout == b"over-loopback\n").then_some(())
    };
    eventually("the neighbour answers", Duration::from_secs(10), answer).await;
    let ip = case.cri.pod_status(&pod.id).await.unwrap().network.unwrap().ip;
    assert!(case.output(&client, "cat /etc/hosts").await.contains(&format!("{ip}\tshared")));
}

async fn pods_reach_each_other(case: Case) {
    let (one, two) = (case.run_pod("one").await, case.run_pod("two").await);
    case.start(&one, &server("server", 7071, "from-the-other-pod")).await;
    let client = case.start(&two, &sleeper("client")).await;
    let ip = case.cri.pod_status(&one.id).await.unwrap().network.unwrap().ip;
    let answer = || async {
        let script = format!("nc {ip} 7071 </dev/null");
        let answer = case.cri.exec(&client, &["/bin/sh", "-c", &script], 5).await.ok()?;
        (answer.stdout == b"from-the-other-pod\n").then_some(())
    };
    eventually("the other pod answers", Duration::from_secs(10), answer).await;
}

async fn a_host_port_leads_into_the_pod(case: Case) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut config = case.pod("ports");
    config.port_mappings = vec![
        cri::PortMapping {
            protocol: cri::Protocol::Tcp.into(),
            container_port: 7072,
            host_port: free.into(),
            host_ip: "127.0.0.1".to_owned(),
        },
        cri::PortMapping { container_port: 9999, ..Default::default() },
    ];
    let pod = case.run(config).await;
    case.start(&pod, &server("server", 7072, "through-the-port")).await;
    let answer = || async {
        let mut stream = TcpStream::connect(("127.0.0.1", free)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(b"\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        (text == "through-the-port\n").then_some(())
    };
    eventually("the port answers", Duration::from_secs(10), answer).await;
}

async fn a_pod_has_both_families_where_the_engine_has_both(case: Case) {
    let pod = case.run_pod("both").await;
    let id = case.start(&pod, &sleeper("main")).await;
    let network = case.cri.pod_status(&pod.id).await.unwrap().network.unwrap();
    assert!(network.ip.starts_with("198.18."), "{network:?}");
    let [second] = network.additional_ips.as_slice() else { panic!("{network:?}") };
    assert!(second.ip.starts_with("fd00:5a4d:6:"), "{network:?}");
    let seen = case.output(&id, "ip addr show eth0").await;
    for ip in [&network.ip, &second.ip] {
        assert!(seen.contains(&format!(" {ip}/")), "{ip} of {seen}");
    }
}

/// A host port, at an address where nothing of this machine listens.
fn host_port(protocol: cri::Protocol, container_port: i32, host_port: i32) -> cri::PortMapping {
    cri::PortMapping { protocol: protocol.into(), container_port, host_port, host_ip: "127.0.0.77".to_owned() }
}

async fn host_ports_of_every_protocol_are_published(case: Case) {
    let mut config = case.pod("protocols");
    config.port_mappings = vec![
        host_port(cri::Protocol::Tcp, 53, 15_353),
        host_port(cri::Protocol::Tcp, 53, 15_354),
        host_port(cri::Protocol::Udp, 53, 15_353),
    ];
    let pod = case.run(config).await;
    let inspect = case.lab.engine.docker.get(&format!("/containers/{}/json", pod.id));
    let published = &inspect["NetworkSettings"]["Ports"];
    let of = |key: &str| -> Vec<String> {
        let one = |binding: &serde_json::Value| {
            format!("{}:{}", binding["HostIp"].as_str().unwrap(), binding["HostPort"].as_str().unwrap())
        };
        let mut all: Vec<String> = published[key].as_array().unwrap().iter().map(one).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(of("53/tcp"), ["127.0.0.77:15353", "127.0.0.77:15354"]);
    assert_eq!(of("53/udp"), ["127.0.0.77:15353"]);
}

async fn a_host_port_is_held_by_one_pod(case: Case) {
    let with = |name: &str, mapping: cri::PortMapping| cri::PodSandboxConfig {
        port_mappings: vec![mapping],
        ..case.pod(name)
    };
    let holder = case.run(with("holder", host_port(cri::Protocol::Tcp, 80, 15_380))).await;
    let everywhere = cri::PortMapping { host_ip: String::new(), ..host_port(cri::Protocol::Tcp, 81, 15_380) };
    let second = with("second", everywhere);
    let refused = case.cri.run_pod(&second).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert_eq!(refused.message(), "host port 15380/tcp is held by pod real/holder");
    let made = case.lab.engine.docker.containers().into_iter().filter(|(_, name)| name.contains(&case.uid)).count();
    assert_eq!(made, 1, "nothing was created for it");
    case.run(with("other-protocol", host_port(cri::Protocol::Udp, 80, 15_380))).await;
    case.cri.stop_pod(&holder.id).await.unwrap();
    case.run(second).await;
}

/// What the container of a new pod has.
async fn resolv_conf(
    case: &Case,
    name: &str,
    options: &cri::NamespaceOption,
    dns_config: Option<&cri::DnsConfig>,
) -> String {
    let config = cri::PodSandboxConfig { dns_config: dns_config.cloned(), ..pod_in(case, name, options) };
    let pod = case.run(config).await;
    let id = case.start(&pod, &container_in(sleeper("main"), options)).await;
    case.output(&id, "cat /etc/resolv.conf").await
}

async fn resolv_conf_is_what_the_pod_asked_for(case: Case) {
    let asked = cri::DnsConfig {
        servers: words(&["198.18.255.1", "198.18.255.2", "198.18.255.3", "fd00::1"]),
        searches: words(&["real.svc.cluster.local", "cluster.local"]),
        options: words(&["ndots:5"]),
    };
    let expected = "nameserver 198.18.255.1\nnameserver 198.18.255.2\nnameserver 198.18.255.3\nnameserver fd00::1\n\
                    search real.svc.cluster.local cluster.local\noptions ndots:5\n";
    let host = namespaces(cri::NamespaceMode::Node, cri::NamespaceMode::Pod);
    let bridge = namespaces(cri::NamespaceMode::Pod, cri::NamespaceMode::Pod);
    let empty = cri::DnsConfig::default();
    assert_eq!(resolv_conf(&case, "bridge", &bridge, Some(&asked)).await, expected);
    assert_eq!(resolv_conf(&case, "bridge-empty", &bridge, Some(&empty)).await, "");
    assert_eq!(resolv_conf(&case, "host", &host, Some(&asked)).await, expected);
    assert_eq!(resolv_conf(&case, "host-empty", &host, Some(&empty)).await, "");
    let nodes = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(resolv_conf(&case, "host-none", &host, None).await, nodes);
    // on its bridge the Engine takes out name servers that a pod can't reach: on the node's loopback, of a family that it lacks
    let unreachable = |text: &str| text.contains("nameserver 127.") || text.contains("nameserver ::1");
    let found = resolv_conf(&case, "bridge-none", &bridge, None).await;
    assert!(found.contains("nameserver ") && !unreachable(&found), "{found}");
    if !unreachable(&nodes) && !nodes.contains(':') {
        // newer engines write comments of their own, and older words of the same meaning anew
        let servers = |text: &str| {
            text.lines().filter(|line| line.starts_with("nameserver ")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(servers(&found), servers(&nodes));
    }
}

async fn hostname_and_hosts_name_the_pod(case: Case) {
    let pod = case.run_pod("named").await;
    let id = case.start(&pod, &sleeper("main")).await;
    let ip = case.cri.pod_status(&pod.id).await.unwrap().network.unwrap().ip;
    assert_eq!(case.output(&id, "hostname; cat /etc/hostname").await, "named\nnamed\n");
    let hosts = case.output(&id, "cat /etc/hosts").await;
    assert!(hosts.starts_with("127.0.0.1\tlocalhost\n") && hosts.contains(&format!("{ip}\tnamed\n")), "{hosts}");
}

async fn sysctls_hold_in_the_pod(case: Case) {
    let mut config = case.pod("sysctls");
    config.linux.as_mut().unwrap().sysctls =
        texts(&[("net.ipv4.ip_unprivileged_port_start", "80"), ("kernel.shm_rmid_forced", "1")]);
    let pod = case.run(config).await;
    let id = case.start(&pod, &sleeper("main")).await;
    let files = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
    assert_eq!(case.output(&id, files).await, "80\n1\n");
    let pod = case.run_pod("no-sysctls").await;
    let id = case.start(&pod, &sleeper("main")).await;
    let file = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    assert_eq!(case.output(&id, file).await, "0\n", "as Docker and containerd have it");
}

async fn a_host_network_pod_is_on_the_host(case: Case) {
    let options = namespaces(cri::NamespaceMode::Node, cri::NamespaceMode::Pod);
    let pod = case.run(cri::PodSandboxConfig { hostname: String::new(), ..pod_in(&case, "host", &options) }).await;
    let id = case.start(&pod, &container_in(sleeper("main"), &options)).await;
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(case.output(&id, "readlink /proc/self/ns/net").await.trim(), ours.display().to_string());
    let status = case.cri.pod_status(&pod.id).await.unwrap();
    let told = status.linux.unwrap().namespaces.unwrap().options.unwrap();
    assert_eq!(told.network(), cri::NamespaceMode::Node);
}

async fn a_host_pid_container_sees_the_host(case: Case) {
    let options = namespaces(cri::NamespaceMode::Pod, cri::NamespaceMode::Node);
    let pod = case.run(pod_in(&case, "host-pid", &options)).await;
    let id = case.start(&pod, &container_in(sleeper("main"), &options)).await;
    let ours = std::fs::read_link("/proc/self/ns/pid").unwrap();
    assert_eq!(case.output(&id, "readlink /proc/self/ns/pid").await.trim(), ours.display().to_string());
}

async fn a_shared_pid_namespace_is_reaped_by_the_pause_program(case: Case) {
    let options = namespaces(cri::NamespaceMode::Pod, cri::NamespaceMode::Pod);
    let pod = case.run(pod_in(&case, "shared-pid", &options)).await;
    let id = case.start(&pod, &container_in(sleeper("main"), &options)).await;
    let comm = case.output(&id, "cat /proc/1/comm").await;
    assert!(comm.starts_with("pause"), "{comm}");
    // orphans: their parent ends at once, and process 1 is not the container's
    for _ in 0..5 {
        case.output(&id, "(sleep 0.1 & true)").await;
    }
    let reaped = || async {
        let states = case.output(&id, "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ' || true").await;
        (states.trim() == "0").then_some(())
    };
    eventually("no zombie is left", Duration::from_secs(5), reaped).await;
}

async fn pid_namespaces_are_apart_unless_asked(case: Case) {
    let options = namespaces(cri::NamespaceMode::Pod, cri::NamespaceMode::Container);
    let pod = case.run(pod_in(&case, "apart", &options)).await;
    let first = case.start(&pod, &container_in(sleeper("first"), &options)).await;
    let second = case.start(&pod, &container_in(sleeper("second"), &options)).await;
    let place = "readlink /proc/self/ns/pid";
    assert_ne!(case.output(&first, place).await, case.output(&second, place).await);
    let target = cri::NamespaceOption {
        pid: cri::NamespaceMode::Target.into(),
        target_id: first.clone(),
        ..namespaces(cri::NamespaceMode::Pod, cri::NamespaceMode::Container)
    };
    let debugger = case.start(&pod, &container_in(sleeper("debugger"), &target)).await;
    assert_eq!(case.output(&debugger, place).await, case.output(&first, place).await);
}

async fn ipc_is_shared_in_the_pod(case: Case) {
    let pod = case.run_pod("ipc").await;
    let (first, second) = (case.start(&pod, &sleeper("first")).await, case.start(&pod, &sleeper("second")).await);
    let place = "readlink /proc/self/ns/ipc";
    assert_eq!(case.output(&first, place).await, case.output(&second, place).await);
    case.output(&first, "echo shared > /dev/shm/file").await;
    assert_eq!(case.output(&second, "cat /dev/shm/file").await, "shared\n");
}

async fn a_cni_pod_has_the_plugins_address_and_gives_it_back(mut case: Case) {
    let (conf, leases) = (case.dir.join("net.d"), case.dir.join("leases"));
    std::fs::create_dir(&conf).unwrap();
    let (bridge, subnet) = (case.lab.engine.bridge(), case.lab.engine.subnet());
    let list = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "real",
        "plugins": [{
            "type": "bridge",
            "bridge": bridge,
            "ipam": {
                "type": "host-local",
                "dataDir": leases,
                "ranges": [[{"subnet": subnet, "rangeStart": subnet.replace(".0/24", ".200"), "rangeEnd": subnet.replace(".0/24", ".220")}]],
            },
        }],
    });
    std::fs::write(conf.join("10-real.conflist"), list.to_string()).unwrap();
    case.lab.shim.stop();
    let (conf, cache) =
        (format!("--cni-conf-dir={}", conf.display()), format!("--cni-cache-dir={}", case.dir.display()));
    let shim = Shim::start_with(&case.lab.engine.socket(), &["--cni-bin-dir=/usr/lib/cni", &conf, &cache]);
    case.cri = shim.cri();
    runtime_ready(&case.cri, true).await;

    let pod = case.run_pod("cni").await;
    let ip = case.cri.pod_status(&pod.id).await.unwrap().network.unwrap().ip;
    assert_eq!(ip, subnet.replace(".0/24", ".200"));
    let id = case.start(&pod, &sleeper("main")).await;
    assert!(case.output(&id, "ip addr show eth0").await.contains(&format!("inet {ip}/24")));
    assert!(case.output(&id, "ip addr show lo").await.contains("UP"));
    let leased = || leases.join("real").join(&ip).exists();
    assert!(leased());
    case.cri.stop_pod(&pod.id).await.unwrap();
    assert!(!leased());
    case.cri.remove_pod(&pod.id).await.unwrap();
}
