//! What a test stands in: an engine with a dockershim in front, and a `Case` with a pod uid and a log directory of its own.
//! Each test has a time limit, and its pods are removed however it ends.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use dockershim::cri;
use futures_util::FutureExt;
use libtest_mimic::{Failed, Trial};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::support::client::{Cri, image_spec};
use crate::support::engine::{Engine, Options};
use crate::support::images::{self, BUSYBOX};
use crate::support::proxy::Proxy;
use crate::support::shim::Shim;
use crate::support::workspace;

/// A test on the shared lab may take so long.
const LIMIT: Duration = Duration::from_secs(90);
/// One that starts an engine of its own, so long.
const OWN_LIMIT: Duration = Duration::from_secs(180);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static SHARED: OnceLock<Arc<Lab>> = OnceLock::new();
static CASES: AtomicU32 = AtomicU32::new(1);

/// An engine with a dockershim in front. (Fields are dropped in this order.)
pub(crate) struct Lab {
    pub(crate) shim: Shim,
    /// Between the two, in a lab of a test's own.
    pub(crate) proxy: Option<Proxy>,
    pub(crate) engine: Engine,
}

impl Lab {
    fn shared() -> Arc<Lab> {
        let make = || {
            let engine = Engine::start(Options::default());
            images::load_all(&engine.docker);
            Arc::new(Lab { shim: ready_shim(&engine.socket(), &[]), proxy: None, engine })
        };
        SHARED.get_or_init(make).clone()
    }

    fn own(options: Options, flags: &[&str]) -> Arc<Lab> {
        let engine = Engine::start(options);
        images::load_all(&engine.docker);
        let proxy = Proxy::start(&engine.socket());
        Arc::new(Lab { shim: ready_shim(proxy.socket(), flags), proxy: Some(proxy), engine })
    }
}

/// A dockershim that has seen its engine: the kubelet waits for it too.
fn ready_shim(engine: &Path, flags: &[&str]) -> Shim {
    let shim = Shim::start_with(engine, &[&["--network-plugin=bridge"], flags].concat());
    let _clients_need_it = RUNTIME.enter();
    RUNTIME.block_on(runtime_ready(&shim.cri(), true));
    shim
}

/// Waits for RuntimeReady to become `wanted`; its message.
pub(crate) async fn runtime_ready(cri: &Cri, wanted: bool) -> String {
    let look = || async {
        let conditions = cri.conditions().await.ok()?;
        let (ready, message) = conditions.get("RuntimeReady")?;
        (*ready == wanted).then(|| message.clone())
    };
    eventually(&format!("RuntimeReady is {wanted}"), Duration::from_secs(20), look).await
}

/// Where a test runs.
#[derive(Clone, Copy)]
pub(crate) enum Stage {
    /// On the engine that most tests share.
    Shared,
    /// On an engine of its own, which it may stop, fill and count.
    Own(Options),
    /// The same, with a dockershim that has these flags too.
    With(&'static [&'static str]),
}

/// A test.
pub(crate) fn trial<F: Future<Output = ()> + Send + 'static>(
    name: &'static str,
    stage: Stage,
    test: impl FnOnce(Case) -> F + Send + 'static,
) -> Trial {
    Trial::test(name, move || match stage {
        Stage::Shared => run(Lab::shared(), LIMIT, test),
        Stage::Own(options) => run(Lab::own(options, &[]), OWN_LIMIT, test),
        Stage::With(flags) => run(Lab::own(Options::default(), flags), OWN_LIMIT, test),
    })
}

/// `trials![Stage::Shared; a_test, another]`: tests of this module, named after it.
macro_rules! trials {
    ($stage:expr; $($test:ident),+ $(,)?) => {
        vec![$({
            let name = concat!(module_path!(), "::", stringify!($test));
            $crate::lab::trial(name.trim_start_matches("real::"), $stage, $test)
        }),+]
    };
}
pub(crate) use trials;

fn run<F: Future<Output = ()> + Send + 'static>(
    lab: Arc<Lab>,
    limit: Duration,
    test: impl FnOnce(Case) -> F,
) -> Result<(), Failed> {
    let _clients_need_it = RUNTIME.enter();
    let case = Case::new(lab.clone());
    let (cri, uid) = (case.cri.clone(), case.uid.clone());
    // on this thread and not as a task: a test may block, which must not hold up what other tests have spawned
    let body = AssertUnwindSafe(test(case)).catch_unwind();
    let message = match RUNTIME.block_on(async { tokio::time::timeout(limit, body).await }) {
        Ok(Ok(())) => None,
        Ok(Err(panic)) => Some(panic_text(&*panic)),
        Err(_) => Some(format!("not within {limit:?}")),
    };
    let cleared = RUNTIME.block_on(clear(&cri, &uid));
    match message.or_else(|| cleared.err()) {
        None => Ok(()),
        Some(message) => Err(format!("{message}\n--- dockershim's log\n{}", lab.shim.log(60)).into()),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Removes a test's pods with all that is in them. A test that has left no dockershim running has an engine of its own, which goes.
async fn clear(cri: &Cri, uid: &str) -> Result<(), String> {
    let clearing = async {
        let Ok(pods) = cri.list_pods(by_uid(uid)).await else { return Ok(()) };
        for pod in pods {
            cri.remove_pod(&pod.id).await.map_err(|status| format!("clearing up: {}", status.message()))?;
        }
        Ok(())
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), clearing).await;
    in_time.unwrap_or_else(|_| Err("clearing up: not within 30 s".to_owned()))
}

/// Containers on the shared engine: at the end there must be none.
pub(crate) fn left_behind() -> Vec<String> {
    let Some(lab) = SHARED.get() else { return Vec::new() };
    lab.engine.docker.containers().into_iter().map(|(_, name)| name).collect()
}

/// A test's own place.
#[derive(Clone)]
pub(crate) struct Case {
    /// Its client.
    pub(crate) cri: Cri,
    /// What it runs on.
    pub(crate) lab: Arc<Lab>,
    /// Of its pods.
    pub(crate) uid: String,
    /// For its files.
    pub(crate) dir: PathBuf,
}

/// A running pod.
#[derive(Clone)]
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) config: cri::PodSandboxConfig,
}

impl Case {
    fn new(lab: Arc<Lab>) -> Case {
        let number = CASES.fetch_add(1, Ordering::Relaxed);
        let uid = format!("{:08x}-0000-4000-8000-{number:012x}", std::process::id());
        Case { cri: lab.shim.cri(), lab, uid, dir: workspace::new_dir("t") }
    }

    /// What the kubelet would ask for: a name, its labels, a log directory that exists.
    pub(crate) fn pod(&self, name: &str) -> cri::PodSandboxConfig {
        let log_directory = self.dir.join(format!("real_{name}_{}", self.uid));
        std::fs::create_dir_all(&log_directory).unwrap();
        cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: name.to_owned(),
                uid: self.uid.clone(),
                namespace: "real".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: log_directory.display().to_string(),
            labels: texts(&[
                ("io.kubernetes.pod.name", name),
                ("io.kubernetes.pod.namespace", "real"),
                ("io.kubernetes.pod.uid", &self.uid),
            ]),
            linux: Some(cri::LinuxPodSandboxConfig::default()),
            ..cri::PodSandboxConfig::default()
        }
    }

    /// Runs a pod as `pod` describes it.
    pub(crate) async fn run_pod(&self, name: &str) -> Pod {
        self.run(self.pod(name)).await
    }

    /// Runs a pod.
    pub(crate) async fn run(&self, config: cri::PodSandboxConfig) -> Pod {
        let id = self.cri.run_pod(&config).await.unwrap();
        Pod { id, config }
    }

    /// Creates a container.
    pub(crate) async fn create(&self, pod: &Pod, config: &cri::ContainerConfig) -> String {
        std::fs::create_dir_all(pod.log(config).parent().unwrap()).unwrap();
        self.cri.create(&pod.id, config, &pod.config).await.unwrap()
    }

    /// Creates and starts a container.
    pub(crate) async fn start(&self, pod: &Pod, config: &cri::ContainerConfig) -> String {
        let id = self.create(pod, config).await;
        self.cri.start(&id).await.unwrap();
        id
    }

    /// The status of a container once it has exited.
    pub(crate) async fn exited(&self, id: &str) -> cri::ContainerStatus {
        let look = || async {
            let status = self.cri.status(id).await.unwrap();
            (status.state() == cri::ContainerState::ContainerExited).then_some(status)
        };
        eventually("the container has exited", Duration::from_secs(30), look).await
    }

    /// Runs a container to its end: its status and its log's lines as (stream, tag, text).
    pub(crate) async fn run_to_end(
        &self,
        pod: &Pod,
        config: &cri::ContainerConfig,
    ) -> (cri::ContainerStatus, Vec<Line>) {
        let id = self.start(pod, config).await;
        let status = self.exited(&id).await;
        (status, lines(&std::fs::read_to_string(pod.log(config)).unwrap()))
    }

    /// What a command prints in a running container.
    pub(crate) async fn output(&self, id: &str, script: &str) -> String {
        let answer = self.cri.exec(id, &["/bin/sh", "-c", script], 20).await.unwrap();
        assert_eq!(answer.exit_code, 0, "{script}: {}", String::from_utf8_lossy(&answer.stderr));
        String::from_utf8(answer.stdout).unwrap()
    }
}

impl Pod {
    /// A container's log file.
    pub(crate) fn log(&self, config: &cri::ContainerConfig) -> PathBuf {
        PathBuf::from(&self.config.log_directory).join(&config.log_path)
    }
}

/// Removes cgroups that a test has had made, in whatever hierarchy they are; the innermost first.
pub(crate) fn remove_cgroups(made: &[&str]) {
    let trees = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    for tree in trees.chain([PathBuf::from("/sys/fs/cgroup")]) {
        for path in made {
            let _ = std::fs::remove_dir(tree.join(path));
        }
    }
}

/// A container that runs a shell script.
pub(crate) fn sh(name: &str, script: &str) -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(cri::ImageSpec { user_specified_image: BUSYBOX.to_owned(), ..image_spec(BUSYBOX) }),
        command: words(&["/bin/sh", "-c", script]),
        labels: texts(&[("io.kubernetes.container.name", name)]),
        log_path: format!("{name}/0.log"),
        linux: Some(cri::LinuxContainerConfig::default()),
        ..cri::ContainerConfig::default()
    }
}

/// A container that runs until it is stopped, and ends at once on SIGTERM.
pub(crate) fn sleeper(name: &str) -> cri::ContainerConfig {
    sh(name, "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done")
}

/// A container that ignores SIGTERM.
pub(crate) fn stubborn(name: &str) -> cri::ContainerConfig {
    sh(name, "trap '' TERM; while :; do sleep 3600; done")
}

/// A line of a CRI log: stream, tag, text.
pub(crate) type Line = (String, String, String);

/// Takes a CRI log apart; each line must be one.
pub(crate) fn lines(log: &str) -> Vec<Line> {
    let line = |line: &str| {
        let mut parts = line.splitn(4, ' ').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_else(|| panic!("not a CRI log line: {line:?}"));
        let time = next();
        assert!(time.starts_with("20") && time.contains('T') && time.len() >= 20, "not a time: {line:?}");
        (next(), next(), next())
    };
    log.lines().map(line).collect()
}

/// Filter for a test's pods.
pub(crate) fn by_uid(uid: &str) -> cri::PodSandboxFilter {
    let label_selector = texts(&[("io.kubernetes.pod.uid", uid)]);
    cri::PodSandboxFilter { label_selector, ..cri::PodSandboxFilter::default() }
}

pub(crate) fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

/// Looks again and again until there is something to see.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
