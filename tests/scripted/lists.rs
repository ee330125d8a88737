//! The Stream* twins of lists: the same items, and no more memory for many of them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use dockershim::cri;
use serde_json::{Value, json};
use tonic::{Response, Status, Streaming};

use super::client::Cri;
use super::dockerd::{BUSYBOX, DOCKER_20_10, Dockerd};
use super::stage::{Stage, eventually};

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

/// So many pods, and ended containers of each.
const PODS: usize = 1000;
const RESTARTS: usize = 20;
/// What all may cost while they are streamed, and what of it streaming may, in MiB. Not counted are the pages of the program itself,
/// which is larger unoptimized.
const MOST_MIB: u64 = 32;
const MORE_MIB: u64 = 4;

/// A pod of many that a kubelet has; its containers have five mounts and a log path.
struct Pod {
    name: String,
    uid: String,
}

impl Pod {
    fn new(number: usize) -> Pod {
        let uid = format!("{number:08x}-2f4b-4a1e-9d3c-5b7e{number:08x}");
        Pod { name: format!("web-6d4cf56db6-{number:05}"), uid }
    }

    fn put(&self, dockerd: &Dockerd) {
        let Pod { name, uid } = self;
        let labels = json!({ "io.kubernetes.docker.type": "podsandbox" });
        let sandbox = dockerd.put(&format!("k8s_POD_{name}_default_{uid}_0"), labels, false);
        for number in 0..RESTARTS {
            dockerd.put_ended(&format!("k8s_main_{name}_default_{uid}_{number}"), self.restarted(&sandbox, number));
        }
    }

    /// A container of it, as it is after so many restarts.
    fn restarted(&self, sandbox: &str, number: usize) -> Value {
        let Pod { name, uid } = self;
        let mount = |from: &str, to: &str| {
            let source = format!("/var/lib/kubelet/pods/{uid}/{from}");
            json!({ "Type": "bind", "Source": source, "Destination": to, "RW": true, "Propagation": "rprivate" })
        };
        json!({
            "Image": BUSYBOX,
            "Labels": {
                "io.kubernetes.docker.type": "container",
                "io.kubernetes.sandbox.id": sandbox,
                "io.kubernetes.container.name": "main",
                "io.kubernetes.container.logpath": format!("/var/log/pods/default_{name}_{uid}/main/{number}.log"),
                "io.kubernetes.pod.name": name,
                "io.kubernetes.pod.namespace": "default",
                "io.kubernetes.pod.uid": uid,
                "annotation.io.kubernetes.container.hash": &uid[..8],
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
                mount("volumes/kubernetes.io~configmap/settings", "/etc/web"),
                mount("volumes/kubernetes.io~empty-dir/cache", "/var/cache/web"),
                mount("etc-hosts", "/etc/hosts"),
                mount(&format!("containers/main/{:08x}", number * 0x0101_4925), "/dev/termination-log"),
            ],
        })
    }
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
    for number in 0..PODS {
        Pod::new(number).put(&dockerd);
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
    assert_eq!((containers, pods, images > 0), (PODS * RESTARTS, PODS, true));
    assert_eq!((stats.0, pod_stats.0, metrics.0), (0, 0, 0), "only what runs has figures");
    let peak = program.memory_mib("VmHWM");
    let figures = format!("{before} MiB before, {most} MiB meanwhile, {peak} MiB with the program at any time");
    eprintln!("{} ended containers: {figures}", PODS * RESTARTS);
    let began = Instant::now();
    let listed = cri.list(cri::ContainerFilter::default()).await.unwrap().len();
    eprintln!("listed {listed} in {:?}, then {} MiB", began.elapsed(), program.memory_mib("RssAnon"));
    assert!(most <= MOST_MIB && most.saturating_sub(before) <= MORE_MIB, "{figures}");
    drop(program);
    std::fs::remove_dir_all(&dir).unwrap();
}
