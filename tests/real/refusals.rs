//! Bad input: each is refused with InvalidArgument and the field's name, and nothing is left behind. What the transport itself refuses
//! creates nothing either.

use std::collections::BTreeSet;

use dockershim::cri;
use libtest_mimic::Trial;
use tonic::{Code, Status};

use crate::lab::{Case, Stage, by_uid, sh, texts, trials, words};
use crate::support::client::image_spec;
use crate::support::images::BUSYBOX;

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Shared;
        bad_pods_are_refused_by_field,
        bad_containers_are_refused_by_field,
        bad_ids_and_numbers_are_refused_by_field,
        bad_image_references_are_refused_by_field,
        what_docker_cannot_do_is_refused_by_name,
        what_the_engine_is_too_old_for_is_refused_with_the_version_needed,
        a_message_over_the_limit_creates_nothing,
        text_that_is_not_utf8_creates_nothing,
        a_checkpoint_is_refused_with_the_reason,
    ]
}

/// It must be refused for this field.
#[track_caller]
fn refused(field: &str, answer: Result<impl std::fmt::Debug, Status>) {
    let status = answer.expect_err(field);
    assert_eq!(status.code(), Code::InvalidArgument, "{field}: {}", status.message());
    let message = status.message();
    assert!(message.starts_with(field), "{message:?} does not begin with {field:?}");
}

/// Docker's containers that belong to this test.
fn own_containers(case: &Case) -> BTreeSet<String> {
    let all = case.lab.engine.docker.containers().into_iter().map(|(_, name)| name);
    all.filter(|name| name.contains(&case.uid)).collect()
}

type SpoilPod = fn(&mut cri::PodSandboxConfig);

fn metadata(config: &mut cri::PodSandboxConfig) -> &mut cri::PodSandboxMetadata {
    config.metadata.as_mut().unwrap()
}

fn context(config: &mut cri::PodSandboxConfig) -> &mut cri::LinuxSandboxSecurityContext {
    config.linux.as_mut().unwrap().security_context.get_or_insert_default()
}

const BAD_PODS: &[(&str, SpoilPod)] = &[
    ("config.metadata", |pod| pod.metadata = None),
    ("config.metadata.name", |pod| metadata(pod).name.clear()),
    ("config.metadata.namespace", |pod| metadata(pod).namespace.clear()),
    ("config.metadata.uid", |pod| metadata(pod).uid.clear()),
    ("config.metadata.name", |pod| metadata(pod).name = "under_score".to_owned()),
    ("config.metadata.name", |pod| metadata(pod).name = "a/b".to_owned()),
    ("config.metadata.name", |pod| metadata(pod).name = "a\0b".to_owned()),
    ("config.metadata.namespace", |pod| metadata(pod).namespace = "a\nb".to_owned()),
    ("config.metadata.name", |pod| metadata(pod).name = "ünïcödé".to_owned()),
    ("config.metadata", |pod| metadata(pod).name = "x".repeat(64 << 10)),
    ("config.port_mappings[0].host_port", |pod| pod.port_mappings = vec![port(80, 65_536)]),
    ("config.port_mappings[0].host_port", |pod| pod.port_mappings = vec![port(80, -1)]),
    ("config.port_mappings[1].container_port", |pod| pod.port_mappings = vec![port(80, 0), port(0, 8080)]),
    ("config.port_mappings[0].host_ip", |pod| {
        pod.port_mappings = vec![cri::PortMapping { host_ip: "nowhere".to_owned(), ..port(80, 8080) }];
    }),
    ("config.port_mappings[0].protocol", |pod| {
        pod.port_mappings = vec![cri::PortMapping { protocol: 9, ..port(80, 8080) }];
    }),
    ("config.port_mappings", |pod| {
        pod.port_mappings =
            vec![port(80, 8080), cri::PortMapping { host_ip: "127.0.0.1".to_owned(), ..port(81, 8080) }];
    }),
    ("config.linux.sysctls", |pod| sysctl(pod, "vm.swappiness", "1")),
    ("config.linux.sysctls", |pod| sysctl(pod, "net.ipv4.ip_forward\nkernel.core_pattern", "1")),
    ("config.linux.sysctls", |pod| sysctl(pod, "net.ipv4.ip_forward", "1+kernel.core_pattern=|/x")),
    ("config.linux.sysctls", |pod| {
        context(pod).namespace_options =
            Some(cri::NamespaceOption { network: cri::NamespaceMode::Node.into(), ..Default::default() });
        sysctl(pod, "net.ipv4.ip_forward", "1");
    }),
    ("config.dns_config.servers[0]", |pod| pod.dns_config = Some(dns("1.2.3.4\nnameserver 6.6.6.6"))),
    ("config.dns_config.servers[0]", |pod| pod.dns_config = Some(dns(""))),
    ("config.labels", |pod| pod.labels.extend(texts(&[("io.kubernetes.docker.type", "container")]))),
    ("config.labels", |pod| pod.labels.extend(texts(&[("io.kubernetes.container.name", "not the sandbox")]))),
    ("config.windows", |pod| {
        pod.windows = Some(cri::WindowsPodSandboxConfig { security_context: Some(Default::default()) });
    }),
    ("config.linux.security_context.run_as_user", |pod| context(pod).run_as_user = Some(cri::Int64Value { value: -1 })),
    ("config.linux.security_context.run_as_user", |pod| {
        context(pod).run_as_user = Some(cri::Int64Value { value: i64::MAX });
    }),
    ("config.linux.security_context.namespace_options.network", |pod| {
        context(pod).namespace_options = Some(cri::NamespaceOption { network: 77, ..Default::default() });
    }),
    ("config.linux.security_context.seccomp.localhost_ref", |pod| {
        context(pod).seccomp = Some(cri::SecurityProfile {
            profile_type: cri::security_profile::ProfileType::Localhost.into(),
            localhost_ref: "relative/profile.json".to_owned(),
        });
    }),
    ("config.hostname", |pod| pod.hostname = "h".repeat(300)),
    ("config.hostname", |pod| pod.hostname = "a\n1.2.3.4\tb".to_owned()),
];

fn port(container_port: i32, host_port: i32) -> cri::PortMapping {
    cri::PortMapping { container_port, host_port, ..Default::default() }
}

fn sysctl(pod: &mut cri::PodSandboxConfig, key: &str, value: &str) {
    pod.linux.as_mut().unwrap().sysctls = texts(&[(key, value)]);
}

fn dns(server: &str) -> cri::DnsConfig {
    cri::DnsConfig { servers: words(&[server]), ..Default::default() }
}

async fn bad_pods_are_refused_by_field(case: Case) {
    let request = cri::RunPodSandboxRequest { config: None, runtime_handler: String::new() };
    refused("config", case.cri.runtime().run_pod_sandbox(request).await);
    let config = Some(case.pod("handler"));
    let request = cri::RunPodSandboxRequest { config, runtime_handler: "no-such-runtime".to_owned() };
    refused("runtime_handler", case.cri.runtime().run_pod_sandbox(request).await);
    for (field, spoil) in BAD_PODS {
        let mut config = case.pod("bad");
        spoil(&mut config);
        refused(field, case.cri.run_pod(&config).await);
    }
    assert_eq!(own_containers(&case), BTreeSet::new());
    assert!(case.cri.list_pods(by_uid(&case.uid)).await.unwrap().is_empty());
}

type SpoilContainer = fn(&mut cri::ContainerConfig);

fn resources(config: &mut cri::ContainerConfig) -> &mut cri::LinuxContainerResources {
    config.linux.as_mut().unwrap().resources.get_or_insert_default()
}

fn security(config: &mut cri::ContainerConfig) -> &mut cri::LinuxContainerSecurityContext {
    config.linux.as_mut().unwrap().security_context.get_or_insert_default()
}

fn mount(host_path: &str, container_path: &str) -> cri::Mount {
    cri::Mount { host_path: host_path.to_owned(), container_path: container_path.to_owned(), ..Default::default() }
}

const BAD_CONTAINERS: &[(&str, SpoilContainer)] = &[
    ("config.metadata", |config| config.metadata = None),
    ("config.metadata.name", |config| config.metadata.as_mut().unwrap().name.clear()),
    ("config.metadata.name", |config| config.metadata.as_mut().unwrap().name = "POD".to_owned()),
    ("config.metadata.name", |config| config.metadata.as_mut().unwrap().name = "a_b".to_owned()),
    ("config.metadata.name", |config| config.metadata.as_mut().unwrap().name = "x".repeat(64 << 10)),
    ("config.image", |config| config.image = None),
    ("config.image.image", |config| config.image = Some(image_spec(""))),
    ("config.image.image", |config| config.image = Some(image_spec("UPPER case"))),
    ("config.log_path", |config| config.log_path = "../../outside.log".to_owned()),
    ("config.log_path", |config| config.log_path = "/etc/outside.log".to_owned()),
    ("config.log_path", |config| config.log_path = "a\0b.log".to_owned()),
    ("config.log_path", |config| config.log_path = "directory/".to_owned()),
    ("config.envs[0].key", |config| config.envs = vec![env("", b"x")]),
    ("config.envs[1].key", |config| config.envs = vec![env("GOOD", b"x"), env("A=B", b"x")]),
    ("config.envs[0].value", |config| config.envs = vec![env("BYTES", b"\xff\xfe")]),
    ("config.envs[0].value", |config| config.envs = vec![env("NUL", b"a\0b")]),
    ("config.mounts[0].host_path", |config| config.mounts = vec![mount("relative", "/mnt")]),
    ("config.mounts[0].host_path", |config| config.mounts = vec![mount("/no/such/place/on/this/host", "/mnt")]),
    ("config.mounts[0].container_path", |config| config.mounts = vec![mount("/tmp", "")]),
    ("config.mounts[0].propagation", |config| {
        config.mounts = vec![cri::Mount { propagation: 9, ..mount("/tmp", "/mnt") }];
    }),
    ("config.mounts[0].recursive_read_only", |config| {
        config.mounts = vec![cri::Mount { recursive_read_only: true, ..mount("/tmp", "/mnt") }];
    }),
    ("config.mounts[0].container_path", |config| config.mounts = vec![mount("/tmp", "/")]),
    ("config.mounts[0].container_path", |config| config.mounts = vec![mount("/tmp", "..")]),
    ("config.mounts[0].container_path", |config| config.mounts = vec![mount("/tmp", "/mnt/../..")]),
    ("config.mounts[1].container_path", |config| config.mounts = vec![mount("/tmp", "/mnt"), mount("/tmp", "/mnt")]),
    ("config.devices[0].host_path", |config| config.devices = vec![cri::Device::default()]),
    ("config.devices[0].host_path", |config| config.devices = vec![device("/dev/no-such-device")]),
    ("config.devices[0].host_path", |config| config.devices = vec![device("/etc/passwd")]),
    ("config.labels", |config| config.labels.extend(texts(&[("io.kubernetes.sandbox.id", "elsewhere")]))),
    ("config.stop_signal", |config| config.stop_signal = 4711),
    ("config.linux.resources.memory_limit_in_bytes", |config| resources(config).memory_limit_in_bytes = -5),
    ("config.linux.resources.memory_limit_in_bytes", |config| resources(config).memory_limit_in_bytes = 4096),
    ("config.linux.resources.cpu_shares", |config| resources(config).cpu_shares = i64::MIN),
    ("config.linux.resources.cpu_quota", |config| resources(config).cpu_quota = -2),
    ("config.linux.resources.oom_score_adj", |config| resources(config).oom_score_adj = 1001),
    ("config.linux.resources.oom_score_adj", |config| resources(config).oom_score_adj = i64::MAX),
    ("config.linux.resources.hugepage_limits[0].page_size", |config| {
        resources(config).hugepage_limits = vec![cri::HugepageLimit { page_size: "../../x".to_owned(), limit: 0 }];
    }),
    ("config.linux.resources.unified", |config| {
        resources(config).unified = texts(&[("../cgroup.procs", "1")]);
    }),
    ("config.linux.resources.cpu_period", |config| resources(config).cpu_period = 5),
    ("config.linux.resources.cpu_quota", |config| resources(config).cpu_quota = 5),
    ("config.linux.resources.cpuset_cpus", |config| resources(config).cpuset_cpus = "zero".to_owned()),
    ("config.linux.resources.unified", |config| {
        resources(config).unified = texts(&[("memory.no_such_file", "1")]);
    }),
    ("config.linux.resources.hugepage_limits", |config| {
        resources(config).hugepage_limits = vec![cri::HugepageLimit { page_size: "3MB".to_owned(), limit: 3 << 20 }];
    }),
    ("config.linux.security_context.supplemental_groups[1]", |config| {
        security(config).supplemental_groups = vec![1, 1 << 31];
    }),
    ("config.linux.security_context.supplemental_groups_policy", |config| {
        security(config).supplemental_groups_policy = 7;
    }),
    ("config.linux.security_context.seccomp.localhost_ref", |config| {
        security(config).seccomp = Some(cri::SecurityProfile {
            profile_type: cri::security_profile::ProfileType::Localhost.into(),
            localhost_ref: "/etc/passwd".to_owned(),
        });
    }),
    ("config.linux.security_context.run_as_user", |config| {
        security(config).run_as_user = Some(cri::Int64Value { value: 1 << 40 });
    }),
    ("config.linux.security_context.run_as_group", |config| {
        security(config).run_as_group = Some(cri::Int64Value { value: 5 });
    }),
    ("config.linux.security_context.run_as_username", |config| {
        security(config).run_as_username = "a:b".to_owned();
    }),
    ("config.linux.security_context.privileged", |config| security(config).privileged = true),
    ("config.linux.security_context.seccomp.localhost_ref", |config| {
        security(config).seccomp = Some(cri::SecurityProfile {
            profile_type: cri::security_profile::ProfileType::Localhost.into(),
            localhost_ref: "/no/such/profile.json".to_owned(),
        });
    }),
    ("config.windows", |config| {
        config.windows =
            Some(cri::WindowsContainerConfig { security_context: Some(Default::default()), ..Default::default() });
    }),
];

fn device(host_path: &str) -> cri::Device {
    cri::Device { host_path: host_path.to_owned(), ..Default::default() }
}

fn env(key: &str, value: &[u8]) -> cri::KeyValue {
    cri::KeyValue { key: key.to_owned(), value: value.to_vec() }
}

async fn bad_containers_are_refused_by_field(case: Case) {
    let pod = case.run_pod("good").await;
    let before = own_containers(&case);
    let request = cri::CreateContainerRequest { pod_sandbox_id: pod.id.clone(), ..Default::default() };
    refused("config", case.cri.runtime().create_container(request).await);
    refused("pod_sandbox_id", case.cri.create("", &sh("main", "true"), &pod.config).await);
    for (field, spoil) in BAD_CONTAINERS {
        let mut config = sh("bad", "true");
        spoil(&mut config);
        refused(field, case.cri.create(&pod.id, &config, &pod.config).await);
    }
    let relative = cri::PodSandboxConfig { log_directory: "relative".to_owned(), ..pod.config.clone() };
    refused("sandbox_config.log_directory", case.cri.create(&pod.id, &sh("bad", "true"), &relative).await);
    assert_eq!(own_containers(&case), before);
    let missing = cri::ContainerConfig { image: Some(image_spec("dsh-missing:1")), ..sh("missing", "true") };
    let status = case.cri.create(&pod.id, &missing, &pod.config).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{}", status.message());
    assert_eq!(own_containers(&case), before);
}

async fn bad_ids_and_numbers_are_refused_by_field(case: Case) {
    let cri = &case.cri;
    refused("pod_sandbox_id", cri.stop_pod("").await);
    refused("pod_sandbox_id", cri.remove_pod("").await);
    refused("pod_sandbox_id", cri.pod_status("").await);
    for answer in [cri.start("").await, cri.stop("", 1).await, cri.remove("").await, cri.reopen_log("").await] {
        refused("container_id", answer);
    }
    refused("container_id", cri.status("").await);
    refused("container_id", cri.exec("", &["true"], 1).await);
    refused("container_id", cri.stats("").await);
    let pod = case.run_pod("numbers").await;
    let id = case.start(&pod, &crate::lab::sleeper("main")).await;
    refused("timeout", cri.stop(&id, -1).await);
    refused("timeout", cri.stop(&id, i64::MAX).await);
    refused("timeout", cri.exec(&id, &["true"], -1).await);
    refused("cmd", cri.exec(&id, &[], 1).await);
    let limits = cri::LinuxContainerResources { memory_limit_in_bytes: -1, ..Default::default() };
    refused("linux.memory_limit_in_bytes", cri.update(&id, limits).await);
    let request = cri::UpdateContainerResourcesRequest { container_id: id.clone(), ..Default::default() };
    refused("linux", cri.runtime().update_container_resources(request).await);
    assert_eq!(case.output(&id, "echo alive").await, "alive\n");
}

async fn bad_image_references_are_refused_by_field(case: Case) {
    let cri = &case.cri;
    let long = "x".repeat(300);
    for reference in
        ["", "UPPER", "a b", "a:b:c", "a@sha256:short", "/leading", "trailing/", "a//b", "a:", "a\0b", &long]
    {
        refused("image.image", cri.image(reference).await.map(drop));
        refused("image.image", cri.pull(reference, None).await);
        refused("image.image", cri.remove_image(reference).await);
    }
    refused("image.image", cri.pull(&"ab".repeat(32), None).await);
    refused("image", cri.images().image_status(cri::ImageStatusRequest::default()).await);
    refused("image", cri.images().pull_image(cri::PullImageRequest::default()).await);
    for auth in ["%%%", "bm8tY29sb24=", "//4="] {
        let auth = cri::AuthConfig { auth: auth.to_owned(), ..Default::default() };
        refused("auth.auth", cri.pull("127.0.0.1:1/a/b:1", Some(auth)).await);
    }
}

async fn what_docker_cannot_do_is_refused_by_name(case: Case) {
    let mut userns = case.pod("userns");
    context(&mut userns).namespace_options = Some(cri::NamespaceOption {
        userns_options: Some(cri::UserNamespace {
            mode: cri::NamespaceMode::Pod.into(),
            uids: vec![cri::IdMapping { host_id: 100_000, container_id: 0, length: 65_536 }],
            gids: vec![cri::IdMapping { host_id: 100_000, container_id: 0, length: 65_536 }],
        }),
        ..Default::default()
    });
    let refused = case.cri.run_pod(&userns).await.unwrap_err();
    assert!(refused.message().contains("userns_options"), "{}", refused.message());
    let pod = case.run_pod("ambient").await;
    let mut ambient = sh("ambient", "true");
    security(&mut ambient).capabilities =
        Some(cri::Capability { add_ambient_capabilities: words(&["NET_ADMIN"]), ..Default::default() });
    let mut idmapped = sh("idmapped", "true");
    idmapped.mounts = vec![cri::Mount {
        uid_mappings: vec![cri::IdMapping { host_id: 1, container_id: 0, length: 1 }],
        ..mount("/tmp", "/mnt")
    }];
    for (config, field) in [(ambient, "add_ambient_capabilities"), (idmapped, "uidMappings")] {
        let refused = case.cri.create(&pod.id, &config, &pod.config).await.unwrap_err();
        assert!(refused.message().contains(field), "{field}: {}", refused.message());
    }
    assert_eq!(own_containers(&case).len(), 1);
}

/// The kubelet and the conformance suite know by the code, and by the first word of the text.
async fn what_the_engine_is_too_old_for_is_refused_with_the_version_needed(case: Case) {
    let version = case.lab.engine.docker.get("/version")["ApiVersion"].as_str().unwrap().to_owned();
    let minor: u32 = version.trim_start_matches("1.").parse().unwrap();
    let pod = case.run_pod("old").await;
    let mut image = sh("image", "true");
    image.mounts = vec![cri::Mount { image: Some(image_spec(BUSYBOX)), ..mount("", "/mnt") }];
    let mut sub_path = image.clone();
    sub_path.mounts[0].image_sub_path = "bin".to_owned();
    let mut device = sh("device", "true");
    device.cdi_devices = vec![cri::CdiDevice { name: "vendor.example/class=one".to_owned() }];
    for (config, brought_by, start) in
        [(image, 48, "ImageVolumeMountFailed: "), (sub_path, 48, "ImageVolumeMountFailed: "), (device, 44, "")]
    {
        if minor >= brought_by {
            eprintln!("left out, this engine has API {version}: a refusal of what came with 1.{brought_by}");
            continue;
        }
        let refused = case.cri.create(&pod.id, &config, &pod.config).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{}", refused.message());
        let message = refused.message();
        assert!(message.starts_with(start) && message.contains(&format!("1.{brought_by}")), "{message}");
    }
    assert_eq!(own_containers(&case).len(), 1);
}

async fn a_message_over_the_limit_creates_nothing(case: Case) {
    let mut config = case.pod("huge");
    config.annotations.insert("big".to_owned(), "x".repeat((16 << 20) + 1));
    let refused = case.cri.run_pod(&config).await.unwrap_err();
    assert!([Code::OutOfRange, Code::ResourceExhausted].contains(&refused.code()), "{refused:?}");
    assert_eq!(own_containers(&case), BTreeSet::new());
    case.run_pod("next").await;
}

/// A request's bytes, whatever they are: prost would not encode what is no text.
#[derive(Clone, PartialEq, prost::Message)]
struct Bytes {
    /// Where RunPodSandboxRequest has `config`, a message with `metadata`, a message with `name`.
    #[prost(bytes = "vec", tag = "1")]
    field: Vec<u8>,
}

async fn text_that_is_not_utf8_creates_nothing(case: Case) {
    use prost::Message;
    let name = Bytes { field: b"bad \xff name".to_vec() };
    let metadata = Bytes { field: name.encode_to_vec() };
    let request = Bytes { field: metadata.encode_to_vec() };
    let channel = tonic::transport::Endpoint::from_shared(format!("unix://{}", case.lab.shim.socket().display()));
    let mut client = tonic::client::Grpc::new(channel.unwrap().connect_lazy());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/runtime.v1.RuntimeService/RunPodSandbox");
    let codec: tonic_prost::ProstCodec<Bytes, cri::RunPodSandboxResponse> = tonic_prost::ProstCodec::default();
    let refused = client.unary(tonic::Request::new(request), path, codec).await.unwrap_err();
    assert_eq!(refused.code(), Code::Internal, "{refused:?}");
    assert_eq!(own_containers(&case), BTreeSet::new());
    case.run_pod("next").await;
}

async fn a_checkpoint_is_refused_with_the_reason(case: Case) {
    let request = cri::CheckpointContainerRequest { container_id: "a".repeat(64), ..Default::default() };
    let refused = case.cri.runtime().checkpoint_container(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("can't be checkpointed"), "{}", refused.message());
}
