//! The Stream* twins of lists: the same items, and no more memory for many of them.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use dockershim::cri;
use serde_json::{Value, json};
use tonic::{Response, Status, Streaming};

use super::client::Cri;
use super::dockerd::{BUSYBOX, DOCKER_20_10, Dockerd};
use super::stage::{Stage, eventually, sandbox_name};

/// What each stream gives, put together.
async fn collected<R>(mut replies: Streaming<R>) -> Vec<R> {
    let mut all = Vec::new();
    while let Some(reply) = replies.message().await.unwrap() {
        all.push(reply);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gives_what_the_list_gives() {
    let stage = Stage::new().await;
    stage.run_container("a").await;
    stage.run_container("b").await;
    let (mut runtime, mut images) = (stage.cri.runtime(), stage.cri.images());
    let pods = collected(
        runtime.stream_pod_sandboxes(cri::StreamPodSandboxesRequest { filter: None }).await.unwrap().into_inner(),
    )
    .await;
    assert_eq!(pods.into_iter().flat_map(|reply| reply.pod_sandboxes).collect::<Vec<_>>(), stage.pods().await.unwrap());
    let of_a = cri::ContainerFilter {
        id: stage.containers().await.unwrap().into_keys().next().unwrap(),
        ..Default::default()
    };
    for (filter, count) in [(cri::ContainerFilter::default(), 2), (of_a, 1)] {
        let request = cri::StreamContainersRequest { filter: Some(filter.clone()) };
        let told = collected(runtime.stream_containers(request).await.unwrap().into_inner()).await;
        let told: Vec<_> = told.into_iter().flat_map(|reply| reply.containers).collect();
        assert_eq!((told.len(), &told), (count, &stage.cri.list(filter).await.unwrap()));
    }
    let told =
        collected(images.stream_images(cri::StreamImagesRequest { filter: None }).await.unwrap().into_inner()).await;
    let told: Vec<_> = told.into_iter().flat_map(|reply| reply.images).collect();
    assert_eq!(told, stage.cri.list_images().await.unwrap());
    let none = cri::ContainerFilter { id: "f".repeat(64), ..Default::default() };
    let request = cri::StreamContainersRequest { filter: Some(none) };
    assert!(collected(runtime.stream_containers(request).await.unwrap().into_inner()).await.is_empty());
    stage.end().await;
}

/// The program in a process of its own, so that its memory can be told from the test's.
struct Program(Child);

impl Program {
    fn start(dir: &Path) -> Program {
        let path = |name: &str| dir.join(name).display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockershim"));
        command
            .arg(format!("--container-runtime-endpoint=unix://{}", path("cri.sock")))
            .arg(format!("--docker-endpoint=unix://{}", path("docker.sock")))
            .arg(format!("--root-directory={}", path("state")))
            .args(["--network-plugin=bridge", "--allow-other-adapter", "--log-level=warn"])
            .stdin(Stdio::null());
        Program(command.spawn().unwrap())
    }

    /// A line of its status, in MiB: `RssAnon` now, `VmHWM` at most so far and with all pages of files.
    fn memory_mib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// How many ended containers are listed.
const MANY: usize = 20_000;
/// What all may cost while they are streamed, and what of it streaming may, in MiB. Not counted are the pages of the program itself,
/// which is larger unoptimized.
const MOST_MIB: u64 = 34;
const MORE_MIB: u64 = 4;

/// A container of a kubelet, as it is after so many restarts.
fn restarted(sandbox: &str, number: usize) -> Value {
    let pod = "/var/lib/kubelet/pods/uid-of-a";
    let mount = |from: &str, to: &str| json!({ "Type": "bind", "Source": format!("{pod}/{from}"), "Destination": to });
    json!({
        "Image": BUSYBOX,
        "Labels": {
            "io.kubernetes.docker.type": "container",
            "io.kubernetes.sandbox.id": sandbox,
            "io.kubernetes.container.name": "main",
            "io.kubernetes.pod.name": "a",
            "io.kubernetes.pod.namespace": "default",
            "io.kubernetes.pod.uid": "uid-of-a",
            "annotation.io.kubernetes.container.hash": "1f2e3d4c",
            "annotation.io.kubernetes.container.restartCount": number.to_string(),
            "annotation.io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
            "annotation.io.kubernetes.container.terminationMessagePolicy": "File",
            "annotation.io.kubernetes.pod.terminationGracePeriod": "30",
            "io.dockershim.fingerprint": format!("{number:064x}"),
            "io.dockershim.image-spec": r#"{"name":"busybox:1","userSpecified":"busybox:1"}"#,
            "io.dockershim.cgroup": r#"{"memory.oom.group":"1","memory.swap.max":"0"}"#,
        },
        "HostConfig": { "Memory": 64 << 20, "MemorySwap": 64 << 20, "CpuShares": 102, "OomScoreAdj": 985 },
        "Mounts": [
            mount("volumes/kubernetes.io~projected/kube-api-access-x7k2p", "/var/run/secrets/kubernetes.io/serviceaccount"),
            mount("etc-hosts", "/etc/hosts"),
            mount(&format!("containers/main/{number:08x}"), "/dev/termination-log"),
        ],
    })
}

/// Takes all that a stream gives: how many items, and what the program had at most meanwhile, in MiB.
async fn taken<R>(
    program: &Program,
    replies: Result<Response<Streaming<R>>, Status>,
    items: impl Fn(&R) -> usize,
) -> (usize, u64) {
    let (mut replies, mut count, mut most) = (replies.unwrap().into_inner(), 0, 0);
    while let Some(reply) = replies.message().await.unwrap() {
        count += items(&reply);
        most = most.max(program.memory_mib("RssAnon"));
    }
    (count, most)
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_twenty_thousand_ended_containers_cost_no_memory() {
    let dir = std::env::temp_dir().join(format!("dss-many-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let dockerd = Dockerd::new(dir.join("docker.sock"));
    let sandbox = dockerd.put(&sandbox_name("a"), json!({ "io.kubernetes.docker.type": "podsandbox" }), false);
    for number in 0..MANY {
        dockerd.put_ended(&format!("k8s_main_a_default_uid-of-a_{number}"), restarted(&sandbox, number));
    }
    dockerd.start(DOCKER_20_10);
    let program = Program::start(&dir);
    let cri = Cri::new(&dir.join("cri.sock"));
    let listed = async || cri.list_pods(cri::PodSandboxFilter::default()).await.ok();
    eventually("the engine is known", 120, listed).await;
    let before = program.memory_mib("RssAnon");
    macro_rules! all_of {
        ($client:ident.$call:ident($request:ident), $items:ident) => {
            async {
                let replies = cri.$client().$call(cri::$request::default()).await;
                taken(&program, replies, |reply| reply.$items.len()).await
            }
        };
    }
    let told = tokio::join!(
        all_of!(runtime.stream_containers(StreamContainersRequest), containers),
        all_of!(runtime.stream_pod_sandboxes(StreamPodSandboxesRequest), pod_sandboxes),
        all_of!(images.stream_images(StreamImagesRequest), images),
        all_of!(runtime.stream_container_stats(StreamContainerStatsRequest), container_stats),
        all_of!(runtime.stream_pod_sandbox_stats(StreamPodSandboxStatsRequest), pod_sandbox_stats),
        all_of!(runtime.stream_pod_sandbox_metrics(StreamPodSandboxMetricsRequest), pod_sandbox_metrics),
    );
    let ((containers, most), (pods, _), (images, _), stats, pod_stats, metrics) = told;
    assert_eq!((containers, pods, images > 0), (MANY, 1, true));
    assert_eq!((stats.0, pod_stats.0, metrics.0), (0, 0, 0), "only what runs has figures");
    let peak = program.memory_mib("VmHWM");
    let figures = format!("{before} MiB before, {most} MiB meanwhile, {peak} MiB with the program at any time");
    eprintln!("{MANY} ended containers: {figures}");
    assert!(most <= MOST_MIB && most.saturating_sub(before) <= MORE_MIB, "{figures}");
    drop(program);
    std::fs::remove_dir_all(&dir).unwrap();
}
