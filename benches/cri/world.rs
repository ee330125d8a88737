//! Who takes part, and the adapters and engines that are started for them. Fields are dropped in their order: an adapter goes before
//! the engine it serves.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use dockershim::pause;

use super::adapter::{Adapter, OWN};
use super::floor::Floor;
use super::kubelet::Kubelet;
use super::operation::{Operation, Pod};
use super::options::Options;
use super::support::engine::{self, Engine};
use super::support::proxy::Proxy;

/// Beside the directory of the configuration.
const CNI_FLAGS: &str = "--cni-bin-dir=/opt/cni/bin,/usr/lib/cni --cni-cache-dir={dir}/cni";

/// All that a run needs.
pub(crate) struct World {
    /// The floor first, if there is one.
    pub(crate) contestants: Vec<Contestant>,
    /// Empty when sockets were given.
    _adapters: Vec<(Adapter, Engine)>,
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
        let network = match &options.cni {
            Some(dir) => format!(" --network-plugin=cni --cni-conf-dir={} {CNI_FLAGS}", dir.display()),
            None => String::new(),
        };
        let own = ("dockershim".to_owned(), format!("{OWN}{network}"));
        let (mut contestants, mut adapters) = (Vec::new(), Vec::new());
        for (name, command) in std::iter::once(&own).chain(&options.start) {
            let is_own = adapters.is_empty();
            // other adapters have pause containers of an oom_score_adj that not every machine can give
            let engine = Engine::start(engine::Options { raises_oom_scores: !is_own, ..engine::Options::default() });
            if !is_own {
                engine.docker.load(&pause::archive());
            } else if options.stats.is_none() {
                contestants.push(Contestant::floor(&engine.socket(), uid, options)?);
            }
            let proxy = Proxy::start(&engine.socket());
            let adapter = Adapter::start(command, proxy.socket()).with_context(|| format!("start {name}"))?;
            contestants.push(Contestant::kubelet(name, &adapter.socket(), Some(proxy), uid, options));
            adapters.push((adapter, engine));
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

    /// One who is called by CRI.
    pub(crate) fn kubelet(name: &str, socket: &Path, proxy: Option<Proxy>, uid: &str, options: &Options) -> Contestant {
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
