//! One test's own place: a scripted dockerd, the real server before it, a client before that, all in one directory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::Parser;
use dockershim::config::Config;
use dockershim::config::cli::Cli;
use dockershim::{cri, server};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::client::Cri;
use super::dockerd::{BUSYBOX, DOCKER_20_10, Dockerd};

/// Where a test plays. `end` is its last line: it waits for the script's end.
pub(crate) struct Stage {
    pub(crate) dir: PathBuf,
    pub(crate) dockerd: Dockerd,
    pub(crate) cri: Cri,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<Result<(), server::Error>>>,
}

impl Stage {
    /// With an engine that has no containers yet, and a server that knows it.
    pub(crate) async fn new() -> Stage {
        Stage::with(&[], |dockerd| dockerd.start(DOCKER_20_10)).await.synced().await
    }

    /// With flags of the test's choice, and an engine that it prepares and starts.
    pub(crate) async fn with(flags: &[&str], prepare: impl FnOnce(&Dockerd)) -> Stage {
        static USED: AtomicU32 = AtomicU32::new(0);
        let number = USED.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("dss-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        // a second test of the same process finds it set
        let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_test_writer().try_init();
        let dockerd = Dockerd::new(dir.join("docker.sock"));
        prepare(&dockerd);
        let cri = Cri::new(&dir.join("cri.sock"));
        let mut stage = Stage { dir, dockerd, cri, stop: None, served: None };
        stage.serve(flags).await;
        stage
    }

    /// Starts the server.
    async fn serve(&mut self, flags: &[&str]) {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let mut arguments = vec![
            "dockershim".to_owned(),
            format!("--container-runtime-endpoint=unix://{}", path("cri.sock")),
            format!("--docker-endpoint=unix://{}", path("docker.sock")),
            format!("--root-directory={}", path("state")),
            "--network-plugin=bridge".to_owned(),
            "--allow-other-adapter".to_owned(),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let config = Config::from_flags(Cli::try_parse_from(arguments).unwrap().told.flags).unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            // an error is a dropped sender, which means the same
            let _ = stopped.await;
        };
        self.served = Some(tokio::spawn(server::run(config, server::Supervisor::default(), shutdown)));
        self.stop = Some(stop);
        eventually("the server takes connections", 20, async || self.version().await.ok()).await;
    }

    /// Waits until the server knows its engine.
    pub(crate) async fn synced(self) -> Stage {
        eventually("the server knows its engine", 10, async || self.pods().await.ok()).await;
        self
    }

    /// Ends the server and waits for the script's end.
    pub(crate) async fn end(mut self) {
        self.dockerd.played().await;
        drop(self.stop.take());
        self.served.take().unwrap().await.unwrap().unwrap();
    }

    /// Where the server listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("cri.sock")
    }

    /// A ready pod.
    pub(crate) async fn run_pod(&self, name: &str) -> String {
        self.cri.run_pod(&pod(name)).await.unwrap()
    }

    /// A running container in a new pod: both ids.
    pub(crate) async fn run_container(&self, name: &str) -> (String, String) {
        let sandbox = self.run_pod(name).await;
        let id = self.cri.create(&sandbox, &container(name), &pod(name)).await.unwrap();
        self.cri.start(&id).await.unwrap();
        (sandbox, id)
    }

    pub(crate) async fn pods(&self) -> Result<Vec<cri::PodSandbox>, tonic::Status> {
        self.cri.list_pods(cri::PodSandboxFilter::default()).await
    }

    /// Each container's state, by id.
    pub(crate) async fn containers(&self) -> Result<BTreeMap<String, cri::ContainerState>, tonic::Status> {
        let listed = self.cri.list(cri::ContainerFilter::default()).await?;
        Ok(listed.into_iter().map(|container| (container.id.clone(), container.state())).collect())
    }

    /// Waits until a container is in a state.
    pub(crate) async fn until(&self, limit_s: u64, id: &str, state: cri::ContainerState) {
        let look = async || (self.containers().await.ok()?.get(id) == Some(&state)).then_some(());
        eventually(&format!("{id} is {state:?}"), limit_s, look).await;
    }

    pub(crate) async fn version(&self) -> Result<cri::VersionResponse, tonic::Status> {
        let request = cri::VersionRequest { version: "v1".to_owned() };
        Ok(self.cri.runtime().version(request).await?.into_inner())
    }

    pub(crate) async fn image_fs(&self) -> Result<cri::ImageFsInfoResponse, tonic::Status> {
        Ok(self.cri.images().image_fs_info(cri::ImageFsInfoRequest {}).await?.into_inner())
    }

    /// Whether the runtime is ready, and what is told if it isn't.
    pub(crate) async fn ready(&self) -> (bool, String) {
        self.cri.conditions().await.unwrap().remove("RuntimeReady").unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.dockerd.end_processes();
        // what a failed test leaves in it is of no use to anybody
        let _ = std::fs::remove_dir_all(&self.dir);
        assert!(self.served.is_none() || std::thread::panicking(), "a test must come to its stage's end()");
    }
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, limit_s: u64, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(limit_s);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {limit_s} s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A pod on the engine's bridge.
pub(crate) fn pod(name: &str) -> cri::PodSandboxConfig {
    let metadata = cri::PodSandboxMetadata {
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
        namespace: "default".to_owned(),
        attempt: 0,
    };
    cri::PodSandboxConfig { metadata: Some(metadata), hostname: name.to_owned(), ..cri::PodSandboxConfig::default() }
}

/// The Docker name of its sandbox.
pub(crate) fn sandbox_name(pod: &str) -> String {
    format!("k8s_POD_{pod}_default_uid-of-{pod}_0")
}

/// A container of an image that is there.
pub(crate) fn container(name: &str) -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(super::client::image_spec(BUSYBOX)),
        ..cri::ContainerConfig::default()
    }
}
