//! Tests of a container's create body and of what is told back.

use super::super::node::tests::node;
use super::super::sandbox;
use super::*;
use crate::engine::model::{self, ContainerInspect};
use crate::id::ImageId;

const MIB: i64 = 1 << 20;

fn image() -> ImageFacts {
    ImageFacts {
        id: ImageId::new(format!("sha256:{}", "1".repeat(64))),
        repo_tags: vec!["nginx:1".into()],
        repo_digests: vec!["nginx@sha256:2".into()],
        size_bytes: 5,
        user: String::new(),
        stop_signal: "SIGQUIT".into(),
    }
}

fn pod() -> Sandbox {
    let labels = [(label::TYPE, label::TYPE_SANDBOX)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let inspect = ContainerInspect {
        id: "5a4d".into(),
        name: "/k8s_POD_web_default_0-1_1".into(),
        config: model::ContainerConfig { labels: labels.into_iter().collect(), ..Default::default() },
        host_config: model::HostConfig { cgroup_parent: "kubepods-pod0_1.slice".into(), ..Default::default() },
        ..Default::default()
    };
    sandbox::from_inspect(&inspect).unwrap()
}

fn config() -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: "nginx".into(), attempt: 3 }),
        image: Some(cri::ImageSpec {
            image: format!("sha256:{}", "1".repeat(64)),
            user_specified_image: "nginx:1".into(),
            ..Default::default()
        }),
        args: vec!["-g".into()],
        envs: vec![cri::KeyValue { key: "A".into(), value: b"b=c".to_vec() }],
        mounts: vec![cri::Mount { container_path: "/etc/hosts".into(), host_path: "/h".into(), ..Default::default() }],
        labels: BTreeMap::from([("io.kubernetes.container.name".to_owned(), "nginx".to_owned())]),
        annotations: BTreeMap::from([("io.kubernetes.container.hash".to_owned(), "1f".to_owned())]),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(cri::LinuxContainerResources {
                cpu_period: 100_000,
                cpu_shares: 102,
                memory_limit_in_bytes: 64 * MIB,
                oom_score_adj: 985,
                hugepage_limits: vec![cri::HugepageLimit { page_size: "2MB".into(), limit: 0 }],
                unified: [("memory.oom.group", "1"), ("memory.swap.max", "0")]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
                ..Default::default()
            }),
            security_context: Some(cri::LinuxContainerSecurityContext {
                run_as_user: Some(cri::Int64Value { value: 101 }),
                masked_paths: vec!["/proc/kcore".into()],
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

fn create(config: &cri::ContainerConfig, sandbox_config: Option<&cri::PodSandboxConfig>) -> Result<Create> {
    let request = ContainerRequest {
        config,
        sandbox_config,
        sandbox: &pod(),
        image: &image(),
        accounts: None,
        sources: &[Source::Path("/real/hosts".to_owned())],
        target: None,
        etc: Some("/state/etc/5a4d"),
        seccomp_content: None,
        log_path: "/var/log/pods/default_web_0-1/nginx/3.log",
        fingerprint: "f00d",
        created_at_ns: 7,
    };
    create_body(&request, &node())
}

#[test]
fn the_create_body_is_what_it_was() {
    let create = create(&config(), None).unwrap();
    insta::assert_json_snapshot!(serde_json::to_value(&create.body).unwrap());
}

#[test]
fn a_container_just_created_is_told_as_it_was_asked_for() {
    let config = config();
    let create = create(&config, None).unwrap();
    let container = from_inspect(&as_created("c0de", &create, &image())).unwrap();
    let status = to_status(&container);
    assert_eq!(status.metadata, config.metadata);
    assert_eq!((&status.labels, &status.annotations), (&config.labels, &config.annotations));
    assert_eq!((status.state(), status.created_at), (cri::ContainerState::ContainerCreated, 7));
    assert_eq!(status.log_path, "/var/log/pods/default_web_0-1/nginx/3.log");
    let spec = status.image.unwrap();
    assert_eq!((spec.image.as_str(), spec.user_specified_image.as_str()), ("nginx:1", "nginx:1"));
    assert_eq!((status.image_ref.as_str(), status.image_id), ("nginx@sha256:2", image().id.to_string()));
    assert_eq!(status.stop_signal, i32::from(cri::Signal::Sigquit));
    assert_eq!(status.mounts[0].host_path, "/real/hosts");
    let limits = status.resources.unwrap().linux.unwrap();
    assert_eq!((limits.memory_limit_in_bytes, limits.memory_swap_limit_in_bytes), (64 * MIB, 64 * MIB));
    assert_eq!(limits.hugepage_limits, config.linux.unwrap().resources.unwrap().hugepage_limits);
}

#[test]
fn one_that_cri_dockerd_made_is_taken_over() {
    let labels = [
        (label::TYPE, label::TYPE_CONTAINER),
        (label::SANDBOX_ID, "5a4d"),
        (label::LOG_PATH, "/var/log/pods/a/0.log"),
        ("io.kubernetes.pod.name", "web"),
        ("annotation.io.kubernetes.container.restartCount", "2"),
    ];
    let inspect = ContainerInspect {
        id: "c0de".into(),
        name: "/k8s_nginx_web_default_0-1_2".into(),
        created: "2023-11-14T22:13:20Z".into(),
        image: "sha256:1".into(),
        config: model::ContainerConfig {
            image: "nginx:1".into(),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..Default::default()
        },
        ..Default::default()
    };
    let container = from_inspect(&inspect).unwrap();
    assert_eq!((container.attempt, container.sandbox_id.as_str()), (2, "5a4d"));
    assert_eq!((container.image.open().image.as_str(), &*container.image_ref), ("nginx:1", "sha256:1"));
    assert_eq!(container.labels.to_map().into_keys().collect::<Vec<_>>(), ["io.kubernetes.pod.name"]);
    assert_eq!(container.annotations.get("io.kubernetes.container.restartCount"), Some("2"));
    assert_eq!(container.created_at_ns, 1_700_000_000_000_000_000);
}

#[test]
fn an_image_cannot_pass_for_a_container() {
    let mut foreign = as_created("c0de", &create(&config(), None).unwrap(), &image());
    foreign.name = "/nginx".into();
    assert!(from_inspect(&foreign).is_none());
}

#[test]
fn only_a_privileged_pod_has_privileged_containers() {
    let context = cri::LinuxContainerSecurityContext { privileged: true, ..Default::default() };
    let linux = cri::LinuxContainerConfig { security_context: Some(context), ..Default::default() };
    let privileged = cri::ContainerConfig { linux: Some(linux), ..config() };
    let mut pod = cri::PodSandboxConfig::default();
    let error = create(&privileged, Some(&pod)).unwrap_err().to_string();
    assert!(error.starts_with("config.linux.security_context.privileged: "), "{error}");
    let context = cri::LinuxSandboxSecurityContext { privileged: true, ..Default::default() };
    pod.linux = Some(cri::LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() });
    let host = create(&privileged, Some(&pod)).unwrap().body.host_config.unwrap();
    assert_eq!((host.privileged, host.masked_paths), (Some(true), Some(Vec::new())));
}

#[test]
fn variables_that_json_cannot_carry_are_refused_by_index() {
    for (key, value, at) in
        [("", &b""[..], "key"), ("A=B", b"", "key"), ("A", b"\xff", "value"), ("A", b"a\0b", "value")]
    {
        let envs = vec![cri::KeyValue { key: key.into(), value: value.to_vec() }];
        let error = create(&cri::ContainerConfig { envs, ..config() }, None).unwrap_err().to_string();
        assert!(error.starts_with(&format!("config.envs[0].{at}: ")), "{error}");
    }
}

/// A request as the kubelet sent it, on a node with cgroup v2; see the folder's README.
macro_rules! recorded {
    ($file:literal) => {
        include_bytes!(concat!("../../../tests/fixtures/kubelet-1.36-cgroup-v2/", $file))
    };
}

fn create_recorded(bytes: &[u8]) -> Create {
    let request: cri::CreateContainerRequest = prost::Message::decode(bytes).unwrap();
    let config = request.config.unwrap();
    let sources: Vec<Source> = config.mounts.iter().map(|mount| Source::Path(mount.host_path.clone())).collect();
    let request = ContainerRequest {
        config: &config,
        sandbox_config: request.sandbox_config.as_ref(),
        sandbox: &pod(),
        image: &image(),
        accounts: None,
        sources: &sources,
        target: None,
        etc: None,
        seccomp_content: None,
        log_path: "/var/log/pods/web/0.log",
        fingerprint: "f00d",
        created_at_ns: 7,
    };
    create_body(&request, &node()).unwrap()
}

#[test]
fn what_a_kubelet_sends_on_cgroup_v2_is_taken_whole() {
    let create = create_recorded(recorded!("create_container.pb"));
    insta::assert_json_snapshot!(serde_json::to_value(&create.body).unwrap());
    let wishes = from_inspect(&as_created("c0de", &create, &image())).unwrap().cgroup_wishes;
    let wanted = [("hugetlb.2MB.max", "0"), ("memory.oom.group", "1")];
    assert_eq!(wishes.to_map(), wanted.map(|(file, value)| (file.to_owned(), value.to_owned())).into());
}

#[test]
fn swap_that_a_kubelet_forbids_without_a_memory_limit_is_written_beside_docker() {
    let create = create_recorded(recorded!("create_container_best_effort.pb"));
    let host = create.body.host_config.as_ref().unwrap();
    assert_eq!((host.memory, host.memory_swap), (Some(0), Some(0)));
    let wishes = from_inspect(&as_created("c0de", &create, &image())).unwrap().cgroup_wishes;
    assert_eq!(wishes.get("memory.swap.max"), Some("0"));
}
