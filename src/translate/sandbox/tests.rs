//! Tests of the pause container's create body and of what is told back.

use std::collections::BTreeMap;

use super::super::node::tests::node;
use super::*;
use crate::engine::model;

fn config() -> cri::PodSandboxConfig {
    let default_seccomp = cri::SecurityProfile::default();
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: "web".into(),
            uid: "0-1".into(),
            namespace: "default".into(),
            attempt: 1,
        }),
        hostname: "web".into(),
        log_directory: "/var/log/pods/default_web_0-1".into(),
        dns_config: Some(cri::DnsConfig { servers: vec!["10.96.0.10".into()], ..Default::default() }),
        port_mappings: vec![cri::PortMapping { container_port: 80, host_port: 8080, ..Default::default() }],
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
        annotations: BTreeMap::from([("kubernetes.io/config.source".to_owned(), "file".to_owned())]),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: "/kubepods.slice/kubepods-pod0_1.slice".into(),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                seccomp: Some(default_seccomp),
                ..Default::default()
            }),
            sysctls: BTreeMap::from([("net.ipv4.ip_local_port_range".to_owned(), "1024 65000".to_owned())]),
            ..Default::default()
        }),
        windows: None,
    }
}

fn create(config: &cri::PodSandboxConfig, handler: &str, network: Network) -> Result<Create> {
    let request = SandboxRequest {
        config,
        runtime_handler: handler,
        image: "sha256:pause",
        network,
        bare: true,
        seccomp_content: None,
        fingerprint: "f00d",
        created_at_ns: 7,
    };
    create_body(&request, &node())
}

/// What the Engine will say of it, as far as it is read.
fn inspect(create: &Create) -> ContainerInspect {
    let host = create.body.host_config.clone().unwrap();
    ContainerInspect {
        id: "id".into(),
        name: format!("/{}", create.name),
        created: "2023-11-14T22:13:20Z".into(),
        state: model::ContainerState { running: true, pid: 42, ..Default::default() },
        config: model::ContainerConfig {
            labels: create.body.labels.clone().unwrap().into_iter().collect(),
            network_disabled: create.body.network_disabled.unwrap_or_default(),
            hostname: create.body.hostname.clone().unwrap_or_default(),
            ..Default::default()
        },
        host_config: model::HostConfig {
            network_mode: host.network_mode.unwrap_or_default(),
            pid_mode: host.pid_mode.unwrap_or_default(),
            ipc_mode: host.ipc_mode.unwrap_or_default(),
            runtime: host.runtime.unwrap_or_default(),
            cgroup_parent: host.cgroup_parent.unwrap_or_default(),
            ..Default::default()
        },
        ..Default::default()
    }
}

#[test]
fn the_create_body_is_what_it_was() {
    let create = create(&config(), "", Network::Bridge).unwrap();
    insta::assert_json_snapshot!(serde_json::to_value(&create.body).unwrap());
}

#[test]
fn what_the_kubelet_gave_is_told_back() {
    let config = config();
    let sandbox = from_inspect(&inspect(&create(&config, "crun", Network::Cni).unwrap())).unwrap();
    assert!(sandbox.ready && sandbox.needs_cni && sandbox.bare);
    assert_eq!(sandbox.resolv_conf.as_deref(), Some("nameserver 10.96.0.10\n"));
    let status = to_status(&sandbox);
    assert_eq!(status.metadata, config.metadata);
    assert_eq!((status.labels, status.annotations), (config.labels, config.annotations));
    assert_eq!((status.created_at, status.runtime_handler.as_str()), (7, "crun"));
    assert_eq!(status.network, None);
}

#[test]
fn what_a_pod_may_use_in_all_is_known_again() {
    let kept = |linux: cri::LinuxPodSandboxConfig| {
        let config = cri::PodSandboxConfig { linux: Some(linux), ..config() };
        from_inspect(&inspect(&create(&config, "", Network::Bridge).unwrap())).unwrap().resources
    };
    assert_eq!(kept(cri::LinuxPodSandboxConfig::default()), None);
    let limits = |cpu_shares| Some(cri::LinuxContainerResources { cpu_shares, ..Default::default() });
    let told = PodResources { overhead: limits(5), resources: limits(512) };
    let PodResources { overhead, resources } = told.clone();
    assert_eq!(kept(cri::LinuxPodSandboxConfig { overhead, resources, ..Default::default() }), Some(Box::new(told)));
    let mut foreign = inspect(&create(&config(), "", Network::Bridge).unwrap());
    foreign.config.labels.insert(label::POD_RESOURCES.to_owned(), "{".to_owned());
    assert_eq!(from_inspect(&foreign).unwrap().resources, None);
}

#[test]
fn host_network_publishes_nothing_and_keeps_the_nodes_name() {
    let mut config = config();
    let options = cri::NamespaceOption { network: cri::NamespaceMode::Node.into(), ..Default::default() };
    let context = cri::LinuxSandboxSecurityContext { namespace_options: Some(options.clone()), ..Default::default() };
    config.linux = Some(cri::LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() });
    let create = create(&config, "", Network::Cni).unwrap();
    let host = create.body.host_config.as_ref().unwrap();
    assert_eq!(
        (host.network_mode.as_deref(), &create.body.hostname, &host.port_bindings, create.body.network_disabled),
        (Some("host"), &None, &None, None)
    );
    let told = to_status(&from_inspect(&inspect(&create)).unwrap()).linux.unwrap().namespaces.unwrap().options.unwrap();
    assert_eq!(told.network(), cri::NamespaceMode::Node);
}

#[test]
fn files_are_made_from_what_an_inspect_tells() {
    let unasked = cri::PodSandboxConfig { dns_config: None, ..config() };
    let mut told = inspect(&create(&unasked, "", Network::Cni).unwrap());
    told.mount_label = "system_u:object_r:container_file_t:s0:c1,c2".into();
    let sandbox = Sandbox { ips: vec!["10.0.0.7".into(), "fd00::7".into()], ..from_inspect(&told).unwrap() };
    let content = super::super::etc::content(&sandbox);
    assert_eq!((content.resolv_conf, content.hostname.as_str()), (None, "web\n"));
    assert!(content.hosts.starts_with("127.0.0.1\tlocalhost\n"), "{}", content.hosts);
    assert!(content.hosts.ends_with("\n10.0.0.7\tweb\nfd00::7\tweb\n"), "{}", content.hosts);
    assert_eq!(content.label, told.mount_label);
    assert!(!from_inspect(&inspect(&create(&config(), "", Network::Bridge).unwrap())).unwrap().bare);
}

#[test]
fn an_unknown_handler_is_refused_and_dockers_old_name_is_the_default() {
    let error = create(&config(), "gvisor", Network::Cni).unwrap_err().to_string();
    assert!(error.starts_with("runtime_handler: ") && error.contains("crun"), "{error}");
    let create = create(&config(), "docker", Network::Cni).unwrap();
    assert_eq!(create.body.host_config.unwrap().runtime, None);
}

#[test]
fn an_image_cannot_pass_for_a_sandbox() {
    let mut foreign = inspect(&create(&config(), "", Network::Cni).unwrap());
    foreign.name = "/web".into();
    assert!(from_inspect(&foreign).is_none());
}

#[test]
fn bad_input_is_refused_by_field() {
    let of = |config: cri::PodSandboxConfig| create(&config, "", Network::Bridge).unwrap_err().to_string();
    let long = cri::PodSandboxConfig { hostname: "x".repeat(65), ..config() };
    assert!(of(long).starts_with("config.hostname: "));
    let smuggled = cri::PodSandboxConfig { hostname: "a\n1.2.3.4\tb".into(), ..config() };
    assert!(of(smuggled).starts_with("config.hostname: "));
    let nameless = cri::PodSandboxConfig { metadata: None, ..config() };
    assert!(of(nameless).starts_with("config.metadata: "));
    let windows = cri::PodSandboxConfig { windows: Some(Default::default()), ..config() };
    assert!(of(windows).starts_with("config.windows: "));
}

#[test]
fn what_a_kubelet_sends_on_cgroup_v2_is_taken_whole() {
    let bytes: &[u8] = include_bytes!("../../../tests/fixtures/kubelet-1.36-cgroup-v2/run_pod_sandbox.pb");
    let request: cri::RunPodSandboxRequest = prost::Message::decode(bytes).unwrap();
    let create = create(&request.config.unwrap(), &request.runtime_handler, Network::Bridge).unwrap();
    insta::assert_json_snapshot!(serde_json::to_value(&create.body).unwrap());
}
