//! Who takes part, and the adapters and engines that are started for them. Fields are dropped in their order: an adapter goes before
//! the engine it serves.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::floor::Floor;
use super::kubelet::Kubelet;
use super::operation::{Operation, Pod};
use super::options::Options;
use super::support::engine::Engine;
use super::support::proxy::Proxy;
use super::support::{engine, workspace};

/// How this crate's own dockershim is started.
const OWN: &str = concat!(
    env!("CARGO_BIN_EXE_dockershim"),
    " --container-runtime-endpoint=unix://{cri} --docker-endpoint=unix://{docker} --root-directory={dir}/state",
    " --network-plugin=bridge --allow-other-adapter",
);

/// The name of an adapter's socket in its directory.
const CRI_SOCKET: &str = "cri.sock";

/// All that a run needs.
pub(crate) struct World {
    /// The floor first, if there is one.
    pub(crate) contestants: Vec<Contestant>,
    /// Empty when sockets were given.
    _adapters: Vec<Adapter>,
}

/// One who lives pods.
pub(crate) struct Contestant {
    /// As the table names it.
    pub(crate) name: String,
    side: Side,
    /// Where its engine calls are counted.
    proxy: Option<Proxy>,
}

enum Side {
    Floor(Floor),
    Kubelet(Kubelet),
}

impl World {
    /// Starts what has to be started.
    pub(crate) fn build(options: &Options) -> anyhow::Result<World> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let uid = format!("bench-{}-{}", std::process::id(), since_epoch.as_secs());
        if options.sockets.is_empty() { World::private(&uid, options) } else { World::given(&uid, options) }
    }

    fn given(uid: &str, options: &Options) -> anyhow::Result<World> {
        let floor = options.docker.as_deref().map(|docker| Contestant::floor(docker, uid, options)).transpose()?;
        let sockets = options.sockets.iter();
        let kubelets = sockets.map(|(name, socket)| Contestant::kubelet(name, socket, None, uid, options));
        Ok(World { contestants: floor.into_iter().chain(kubelets).collect(), _adapters: Vec::new() })
    }

    fn private(uid: &str, options: &Options) -> anyhow::Result<World> {
        let own = ("dockershim".to_owned(), OWN.to_owned());
        let (mut contestants, mut adapters) = (Vec::new(), Vec::new());
        for (name, command) in std::iter::once(&own).chain(&options.start) {
            let engine = Engine::start(engine::Options::default());
            if contestants.is_empty() {
                contestants.push(Contestant::floor(&engine.socket(), uid, options)?);
            }
            let proxy = Proxy::start(&engine.socket());
            let adapter = Adapter::start(command, &proxy, engine).with_context(|| format!("start {name}"))?;
            let socket = adapter.dir.join(CRI_SOCKET);
            contestants.push(Contestant::kubelet(name, &socket, Some(proxy), uid, options));
            adapters.push(adapter);
        }
        Ok(World { contestants, _adapters: adapters })
    }

    /// Removes what all of them made; the first failure is told when everything has been tried.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        for contestant in &self.contestants {
            let cleared = match &contestant.side {
                Side::Floor(floor) => floor.clear().await,
                Side::Kubelet(kubelet) => kubelet.clear().await,
            };
            let cleared = cleared.with_context(|| format!("{}: clear up", contestant.name));
            outcome = outcome.and(cleared);
        }
        outcome
    }
}

impl Contestant {
    fn floor(engine: &Path, uid: &str, options: &Options) -> anyhow::Result<Contestant> {
        let proxy = Proxy::start(engine);
        let floor = Floor::new(proxy.socket(), uid, options)?;
        Ok(Contestant { name: "docker".to_owned(), side: Side::Floor(floor), proxy: Some(proxy) })
    }

    fn kubelet(name: &str, socket: &Path, proxy: Option<Proxy>, uid: &str, options: &Options) -> Contestant {
        Contestant { name: name.to_owned(), side: Side::Kubelet(Kubelet::new(socket, uid, options)), proxy }
    }

    /// Whether it is what the others are compared with.
    pub(crate) fn is_floor(&self) -> bool {
        matches!(self.side, Side::Floor(_))
    }

    /// Whether an operation means anything to it.
    pub(crate) fn takes(&self, operation: Operation) -> bool {
        !self.is_floor() || Floor::takes(operation)
    }

    /// Makes ready for the first operation.
    pub(crate) async fn prepare(&mut self) -> anyhow::Result<()> {
        match &mut self.side {
            Side::Floor(floor) => floor.prepare().await,
            Side::Kubelet(kubelet) => kubelet.prepare().await,
        }
    }

    /// Does an operation to a pod.
    pub(crate) async fn act(&self, operation: Operation, pod: &mut Pod) -> anyhow::Result<()> {
        match &self.side {
            Side::Floor(floor) => floor.act(operation, pod).await,
            Side::Kubelet(kubelet) => kubelet.act(operation, pod).await,
        }
    }

    /// Engine calls since the last time of asking; None where nobody counts.
    pub(crate) fn engine_calls(&self) -> Option<usize> {
        self.proxy.as_ref().map(|proxy| proxy.take().values().sum())
    }
}

/// An adapter that was started here.
struct Adapter {
    child: Child,
    dir: PathBuf,
    _engine: Engine,
}

impl Adapter {
    /// Starts one in front of its engine, with its output in a file. It is ready some time later, or never.
    fn start(command: &str, proxy: &Proxy, engine: Engine) -> anyhow::Result<Adapter> {
        use std::os::unix::process::CommandExt;
        let dir = workspace::new_dir("a");
        let log = std::fs::File::create(dir.join("log"))?;
        let cri = dir.join(CRI_SOCKET).display().to_string();
        let docker = proxy.socket().display().to_string();
        let filled = command.replace("{cri}", &cri).replace("{docker}", &docker);
        let filled = filled.replace("{dir}", &dir.display().to_string());
        let mut words = filled.split_whitespace();
        let mut command = Command::new(words.next().context("the command is empty")?);
        command.args(words).process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Adapter { child: command.spawn()?, dir, _engine: engine })
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
