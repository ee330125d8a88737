//! Pod networks made by CNI plugins: ADD when a sandbox starts, DEL when it ends, and what ADD gave in between.
//!
//! ```text
//!            record "adding"            record with result        record gone
//!   add() ────────●──── lo, plugins ────────●──── … ──── del() ────────●
//!                 └─ failed: DEL backwards ─▶ record gone (or kept, if that failed too, and tried again)
//! ```
//!
//! **Invariants**: DEL goes by what was saved at ADD, never by the configuration of the day; while there may be something to undo
//! there is a record of it, wherever we were killed; a sandbox's ADD and DELs come one after the other, those of different ones
//! never wait for each other, only for a collection of garbage; whether pods can be joined, and their addresses, are told without
//! a process.

mod args;
mod cache;
mod chain;
mod cidr;
mod conf_dir;
pub mod conflist;
mod convert;
mod error;
mod netns;
mod network;
mod plugin;
mod quantity;
pub mod result;
mod survey;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use crate::config::CniDirs;
use crate::figures::Timings;
use crate::id::SandboxId;
use crate::locks::Locks;
use crate::record::{self, Records};

pub use args::Verb;
pub use cidr::PodCidrs;
pub use error::{Culprit, Error, Failure, Faults};
pub use survey::Survey;

use args::Parameters;
use chain::{Absent, Chain, Progress};
use conf_dir::ConfDir;
use conflist::NetworkList;
use network::{Health, Network};
use plugin::Plugins;

/// How long all plugins of a network may take together, as in cri-dockerd; less than the kubelet waits for a sandbox.
const PLUGINS_LIMIT: Duration = Duration::from_secs(220);
/// How long they may take to undo a failed ADD, so that its error is told while the kubelet, which gives up after 240 s, still
/// listens. What isn't undone by then is left for a DEL to come.
const UNDO_LIMIT: Duration = Duration::from_secs(10);
/// DELs of one sandbox that a missing plugin fails; the next one does without it. A kubelet needs some minutes for so many, and
/// an upgrade of plugins takes less.
const ABSENCES_LIMIT: u32 = 9;
/// After a failed DEL that nobody will ask for again, the next one is tried after so long; then after twice as long each time,
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// but at least as often as this.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// A pod to be joined to the network.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The sandbox's id.
    pub container_id: String,
    /// Path of its network namespace.
    pub netns: String,
    /// The pod.
    pub pod: Pod,
}

/// What plugins may be told of a pod, known before there is a sandbox.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// Ports of the node that lead to it.
    pub port_mappings: Vec<PortMapping>,
    /// Its annotations: those on bandwidth are read.
    pub annotations: BTreeMap<String, String>,
    /// Its own DNS configuration, if it has one.
    pub dns: Option<Dns>,
}

/// How a pod resolves names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Domains that names are looked for in.
    pub searches: Vec<String>,
    /// Options of the resolver.
    pub options: Vec<String>,
}

/// A port of the node that leads to the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// On the node.
    pub host_port: u16,
    /// In the pod.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The node's address it is for; empty for all.
    pub host_ip: String,
}

/// What is kept of an attachment, from before its first plugin is called until its last DEL has succeeded.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Saved {
    list: NetworkList,
    parameters: Parameters,
    /// None when another adapter made the attachment.
    netns: Option<netns::Identity>,
    /// None while ADD is under way.
    added: Option<Added>,
    /// DELs that have failed because a plugin isn't there any more.
    #[serde(default)]
    absences: u32,
}

impl Saved {
    /// A path for plugins to find the pod's namespace at: none if another one, or none, is there now.
    fn netns_at<'a>(&self, path: Option<&'a str>) -> &'a str {
        let is_the_pods = |path: &&str| match self.netns {
            Some(namespace) => namespace.is_at(path),
            None => netns::Identity::of_pod(path).is_ok(),
        };
        path.filter(is_the_pods).unwrap_or_default()
    }
}

/// What ADD gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Added {
    result: Map<String, Value>,
    addresses: Vec<String>,
}

/// Pod networks. Cheap to clone.
#[derive(Clone)]
pub struct Cni {
    inner: Arc<Inner>,
}

struct Inner {
    dirs: CniDirs,
    conf_dir: Arc<ConfDir>,
    health: Health,
    records: Records,
    pod_cidrs: RwLock<PodCidrs>,
    /// By sandbox, of the records read or written so far. Its lock is held when a record is read into it or removed.
    addresses: RwLock<HashMap<String, Vec<String>>>,
    /// Read by each ADD and DEL while it runs, written by GC, which the specification wants alone.
    turns: tokio::sync::RwLock<()>,
    /// By sandbox: the specification wants no two of its plugins' calls at the same time.
    of_one: Locks,
    times: Times,
    /// Of the tries that nobody waits for, one at a time: while plugins fail, each pod that is tried anew leaves a sandbox more.
    retries: tokio::sync::Mutex<()>,
    calls: Calls,
}

/// What tests wait a shorter time for.
#[derive(Clone, Copy)]
struct Times {
    /// [`PLUGINS_LIMIT`].
    plugins: Duration,
    /// [`UNDO_LIMIT`].
    undo: Duration,
    /// [`FIRST_RETRY`].
    retry: Duration,
}

/// Runs of plugins, by plugin and verb.
pub type Calls = Timings<(String, Verb)>;

impl Cni {
    /// Takes a first look at the directory of configurations; nothing is run yet. The records are this room's alone.
    pub fn new(dirs: CniDirs, records: Records) -> Self {
        let times = Times { plugins: PLUGINS_LIMIT, undo: UNDO_LIMIT, retry: FIRST_RETRY };
        Cni::with_times(dirs, records, times)
    }

    fn with_times(dirs: CniDirs, records: Records, times: Times) -> Self {
        let inner = Inner {
            conf_dir: ConfDir::open(&dirs.conf),
            health: Health::default(),
            dirs,
            records,
            pod_cidrs: RwLock::default(),
            addresses: RwLock::default(),
            turns: tokio::sync::RwLock::default(),
            of_one: Locks::default(),
            times,
            retries: tokio::sync::Mutex::default(),
            calls: Calls::default(),
        };
        Cni { inner: Arc::new(inner) }
    }

    /// Watches the directory of configurations, and asks plugins for their STATUS, for as long as it is polled.
    pub async fn run(self) {
        let Inner { conf_dir, health, .. } = &*self.inner;
        tokio::join!(conf_dir.clone().run(), health.run(conf_dir.changes(), self.plugins()));
    }

    /// How long plugins have taken.
    pub fn calls(&self) -> &Calls {
        &self.inner.calls
    }

    fn plugins(&self) -> Plugins<'_> {
        Plugins { bin: &self.inner.dirs.bin, calls: &self.inner.calls }
    }

    /// Whether pods can be joined to a network now; if not, why. Costs a look for the plugins' executables, no file is read and
    /// nothing is run: what plugins say of themselves is what they said last, asked anew when that is some seconds old.
    pub fn ready(&self) -> Result<(), Error> {
        let list = self.inner.conf_dir.current()?;
        for plugin in &list.plugins {
            let missing = |source| Error::Missing { culprit: list.culprit(plugin), source: Box::new(source) };
            plugin::find(&plugin.kind, &self.inner.dirs.bin).map_err(missing)?;
        }
        self.inner.health.of(&list)
    }

    /// Why a pod's ADD would be refused before any plugin is called: nothing has been made for it yet.
    pub fn check(&self, pod: &Pod) -> Result<(), Error> {
        self.inner.conf_dir.current()?;
        args::check(pod)
    }

    /// Takes the node's pod CIDRs, for plugins that ask for `ipRanges`.
    pub fn set_pod_cidrs(&self, cidrs: PodCidrs) {
        *self.inner.pod_cidrs.write().unwrap_or_else(PoisonError::into_inner) = cidrs;
    }

    /// Lets the plugins of the network in use give up what belongs to none of these sandboxes, nor to one that there is a record
    /// of; failures are logged. ADD and DEL wait meanwhile.
    pub async fn collect_garbage(&self, mut sandboxes: Vec<String>) {
        let Ok(list) = self.inner.conf_dir.current() else { return };
        if !list.has_gc() {
            tracing::info!(
                file = list.file,
                "no garbage collection: the CNI configuration is older than 1.1.0, or has it disabled"
            );
            return;
        }
        let _alone = self.inner.turns.write().await;
        match self.inner.records.names() {
            Ok(attached) => sandboxes.extend(attached),
            Err(error) => {
                tracing::warn!(%error, "no garbage collection: records of network attachments can't be listed");
                return;
            }
        }
        sandboxes.sort_unstable();
        sandboxes.dedup();
        Network { list: &list, plugins: self.plugins() }.collect_garbage(&sandboxes).await;
    }

    /// Joins a pod to the network. `beside` is given its addresses without prefix lengths (in the plugins' order, at least one), for
    /// what is to be done while they are written down; what it gives is the answer.
    ///
    /// A failure of a plugin or of `beside` is undone. What can't be undone within some seconds is left for [`Cni::del`]; until that
    /// has been called, a second ADD of a sandbox is refused.
    pub async fn add<T, E>(
        &self,
        attachment: &Attachment,
        beside: impl AsyncFnOnce(Vec<String>) -> Result<T, E>,
    ) -> Result<Result<T, E>, Error> {
        let _turn = self.inner.turns.read().await;
        let namespace = netns::Identity::of_pod(&attachment.netns)?;
        self.attach(namespace, attachment, netns::bring_up_loopback(&attachment.netns), beside).await
    }

    /// Takes a pod out of its network, as its ADD was done, also by another adapter; if nothing is known of that there is nothing
    /// to do.
    ///
    /// `netns` is where its namespace was; if another one, or none, is there now, plugins are told that it is gone. After a
    /// failure the record stays, and the next call tries again. Only a plugin that isn't there any more is given up after some
    /// calls, since the pod could never be removed otherwise.
    pub async fn del(&self, container_id: &str, netns: Option<&str>) -> Result<(), Error> {
        let _turn = self.inner.turns.read().await;
        let _alone = self.inner.of_one.hold(container_id).await;
        let Some(mut saved) = self.known(container_id)? else { return Ok(()) };
        let netns = saved.netns_at(netns);
        let result = saved.added.as_ref().map(|added| &added.result);
        let absent = if saved.absences < ABSENCES_LIMIT { Absent::Fails } else { Absent::IsSkipped };
        match self.chain(&saved, netns, self.inner.times.plugins).del(saved.list.plugins.len(), result, absent).await {
            Ok(()) => self.forget(&saved),
            Err(error) if error.is_absent_plugin() => {
                saved.absences += 1;
                self.inner.records.save(container_id, &saved)?;
                let left = ABSENCES_LIMIT + 1 - saved.absences;
                tracing::warn!(sandbox = container_id, %error, "its network is tried to be taken down {left} more times, then without this plugin");
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the network of a sandbox that is gone down, which [`Cni::del`] has failed to do: as often as it takes, since no kubelet
    /// will ask for it. What is left at our end is found at the next start.
    pub async fn del_in_the_end(self, container_id: String) {
        let mut pause = self.inner.times.retry;
        loop {
            tokio::time::sleep(pause).await;
            pause = LAST_RETRY.min(2 * pause);
            let turn = self.inner.retries.lock().await;
            let done = self.del(&container_id, None).await;
            drop(turn);
            match done {
                Ok(()) => {
                    return tracing::info!(sandbox = container_id, "network of a sandbox that is gone taken down");
                }
                Err(error) => {
                    tracing::debug!(sandbox = container_id, %error, "network of a sandbox that is gone stays; tried again in {pause:?}");
                }
            }
        }
    }

    /// The addresses of a sandbox whose ADD has succeeded, also that of another adapter; no process and, but for the first time,
    /// no file is read.
    pub fn addresses(&self, sandbox: &SandboxId) -> Option<Vec<String>> {
        let id = sandbox.as_str();
        let known = self.inner.addresses.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if known.is_some() {
            return known;
        }
        let mut addresses = self.known_addresses();
        let saved = self.known(id).unwrap_or_else(|error| {
            tracing::warn!(sandbox = id, %error, "addresses of a sandbox not read");
            None
        });
        let found = saved?.added?.addresses;
        addresses.insert(id.to_owned(), found.clone());
        Some(found)
    }

    /// The ports of the node that lead to a sandbox, as its ADD was told, also that of another adapter.
    pub fn port_mappings(&self, sandbox: &SandboxId) -> Vec<PortMapping> {
        let saved = self.known(sandbox.as_str()).unwrap_or_default();
        saved.map(|saved| saved.parameters.port_mappings()).unwrap_or_default()
    }

    /// Whether there is a record of a sandbox: something may be left to be taken down.
    pub fn has_record(&self, container_id: &str) -> bool {
        !matches!(self.load(container_id), Ok(None))
    }

    /// The sandboxes that there is a record of.
    pub fn attached(&self) -> Vec<String> {
        self.inner.records.names().unwrap_or_else(|error| {
            tracing::warn!(%error, "records of network attachments can't be listed");
            Vec::new()
        })
    }

    async fn attach<T, E>(
        &self,
        netns: netns::Identity,
        attachment: &Attachment,
        loopback: impl Future<Output = Result<(), Error>>,
        beside: impl AsyncFnOnce(Vec<String>) -> Result<T, E>,
    ) -> Result<Result<T, E>, Error> {
        let id = &attachment.container_id;
        let _alone = self.inner.of_one.hold(id).await;
        let list = NetworkList::clone(&*self.inner.conf_dir.current()?);
        if self.load(id)?.is_some() {
            return Err(Error::Joined { container_id: id.clone() });
        }
        let pod_cidrs = self.inner.pod_cidrs.read().unwrap_or_else(PoisonError::into_inner).clone();
        let parameters = Parameters::of(attachment, &pod_cidrs)?;
        let mut saved = Saved { list, parameters, netns: Some(netns), added: None, absences: 0 };
        // no power loss leaves anything of a plugin's work but with the last one's result, which is written to last
        let record = async { self.inner.records.save_unsynced(id, &saved) };
        let (up, recorded) = tokio::join!(loopback, record);
        recorded?;
        let mut progress = Progress::default();
        let added = match up {
            Ok(()) => self.run_plugins(&mut saved, &attachment.netns, &mut progress, beside).await,
            Err(error) => Err(error),
        };
        if !matches!(added, Ok(Ok(_))) {
            self.undo(&saved, &attachment.netns, &progress).await;
        }
        added
    }

    async fn run_plugins<T, E>(
        &self,
        saved: &mut Saved,
        netns: &str,
        progress: &mut Progress,
        beside: impl AsyncFnOnce(Vec<String>) -> Result<T, E>,
    ) -> Result<Result<T, E>, Error> {
        let addresses = self.chain(saved, netns, self.inner.times.plugins).add(progress).await?;
        let result = progress.result.clone().unwrap_or_default();
        saved.added = Some(Added { result, addresses: addresses.clone() });
        let (written, done) = tokio::join!(self.save(saved, netns), beside(addresses.clone()));
        written?;
        self.known_addresses().insert(saved.parameters.container_id.clone(), addresses);
        Ok(done)
    }

    /// Undoes a failed ADD, in a short time. The ADD's error is the answer; one of this is logged, and the record stays for a DEL to
    /// come.
    async fn undo(&self, saved: &Saved, netns: &str, progress: &Progress) {
        let chain = self.chain(saved, saved.netns_at(Some(netns)), self.inner.times.undo);
        let deleted = chain.del(progress.called, progress.result.as_ref(), Absent::Fails).await;
        if let Err(error) = deleted.and_then(|()| self.forget(saved)) {
            let sandbox = &saved.parameters.container_id;
            tracing::warn!(sandbox, %error, "failed network of a sandbox not undone");
        }
    }

    fn chain<'a>(&'a self, saved: &'a Saved, netns: &'a str, limit: Duration) -> Chain<'a> {
        Chain { list: &saved.list, parameters: &saved.parameters, netns, plugins: self.plugins(), limit }
    }

    /// Writes the record to last, and beside it the cache for others, off the threads that serve requests.
    async fn save(&self, saved: &Saved, netns: &str) -> Result<(), Error> {
        let container_id = saved.parameters.container_id.clone();
        let (inner, to_record) = (self.inner.clone(), saved.clone());
        let record = spawn_blocking(move || inner.records.save(&to_record.parameters.container_id, &to_record));
        let (inner, to_cache, netns) = (self.inner.clone(), saved.clone(), netns.to_owned());
        let cache = spawn_blocking(move || cache::write(&inner.dirs.cache, &to_cache, &netns));
        let (recorded, cached) = tokio::join!(record, cache);
        if let Err(error) = cached.unwrap_or_else(|error| Err(io::Error::other(error))) {
            let dir = self.inner.dirs.cache.display();
            tracing::warn!(sandbox = container_id, %dir, %error, "CNI cache not written");
        }
        Ok(recorded.map_err(|source| Error::Unwritten { container_id, source })??)
    }

    fn forget(&self, saved: &Saved) -> Result<(), Error> {
        let id = &saved.parameters.container_id;
        if let Err(error) = cache::remove(&self.inner.dirs.cache, saved) {
            tracing::warn!(sandbox = id, %error, "CNI cache not cleaned");
        }
        let mut addresses = self.known_addresses();
        self.inner.records.remove(id)?;
        addresses.remove(id);
        Ok(())
    }

    fn load(&self, container_id: &str) -> Result<Option<Saved>, Error> {
        match self.inner.records.load(container_id) {
            // an id that a request made up was never joined to anything
            Err(record::Error::Name(_)) => Ok(None),
            loaded => Ok(loaded?),
        }
    }

    /// What there is of an attachment: our record, or else what another adapter has left.
    fn known(&self, container_id: &str) -> Result<Option<Saved>, Error> {
        let recorded = self.load(container_id)?;
        let left =
            || conflist::is_id(container_id).then(|| cache::read(&self.inner.dirs.cache, container_id)).flatten();
        Ok(recorded.or_else(left))
    }

    fn known_addresses(&self) -> RwLockWriteGuard<'_, HashMap<String, Vec<String>>> {
        self.inner.addresses.write().unwrap_or_else(PoisonError::into_inner)
    }
}
