//! Pod networks made by CNI plugins: ADD when a sandbox starts, DEL when it ends, and what ADD gave in between.
//!
//! ```text
//!            record "adding"            record with result        record gone
//!   add() ────────●──── lo, plugins ────────●──── … ──── del() ────────●
//!                 └─ failed: DEL backwards ─▶ record gone (or kept, if that failed too)
//! ```
//!
//! **Invariants**: DEL goes by what was saved at ADD, never by the configuration of the day; while there may be something to undo
//! there is a record of it, wherever we were killed; no lock is held while a plugin runs; addresses are read without a process.

mod args;
mod cache;
mod chain;
mod conf_dir;
mod conflist;
mod error;
mod netns;
mod plugin;
mod quantity;
mod result;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::CniDirs;
use crate::id::SandboxId;
use crate::record::{self, Records};

pub use args::Verb;
pub use error::{Culprit, Error, Failure, Faults};

use args::Parameters;
use chain::{Chain, Progress};
use conf_dir::ConfDir;
use conflist::NetworkList;

/// How long all plugins of a network may take together, as in cri-dockerd; less than the kubelet waits for a sandbox.
const PLUGINS_LIMIT: Duration = Duration::from_secs(220);

/// A pod to be joined to the network.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The sandbox's id.
    pub container_id: String,
    /// Path of its network namespace.
    pub netns: String,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's namespace.
    pub pod_namespace: String,
    /// The pod's uid.
    pub pod_uid: String,
    /// Ports of the node that lead to the pod.
    pub port_mappings: Vec<PortMapping>,
    /// The pod's annotations: those on bandwidth are read.
    pub annotations: BTreeMap<String, String>,
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
    netns: netns::Identity,
    /// None while ADD is under way.
    added: Option<Added>,
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
    conf_dir: ConfDir,
    records: Records,
    pod_cidr: RwLock<String>,
    /// By sandbox, of the records read or written so far. Its lock is held when a record is read into it or removed.
    addresses: RwLock<HashMap<String, Vec<String>>>,
    limit: Duration,
}

impl Cni {
    /// Nothing is read or run yet. The records are this room's alone.
    pub fn new(dirs: CniDirs, records: Records) -> Self {
        Cni::with_limit(dirs, records, PLUGINS_LIMIT)
    }

    fn with_limit(dirs: CniDirs, records: Records, limit: Duration) -> Self {
        let conf_dir = ConfDir::new(dirs.conf.clone());
        let inner = Inner { dirs, conf_dir, records, pod_cidr: RwLock::default(), addresses: RwLock::default(), limit };
        Cni { inner: Arc::new(inner) }
    }

    /// Whether pods can be joined to a network now; if not, why. Costs a look at the directory of configurations.
    pub fn ready(&self) -> Result<(), Error> {
        let list = self.inner.conf_dir.current()?;
        for plugin in &list.plugins {
            let missing = |source| Error::Missing { culprit: list.culprit(plugin), source: Box::new(source) };
            plugin::find(&plugin.kind, &self.inner.dirs.bin).map_err(missing)?;
        }
        Ok(())
    }

    /// Takes the node's pod CIDR, or several with commas, for plugins that ask for `ipRanges`.
    pub fn set_pod_cidr(&self, cidr: &str) {
        cidr.clone_into(&mut self.inner.pod_cidr.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Joins a pod to the network, and gives its addresses without prefix lengths: IPv4 first, at least one.
    ///
    /// A failure of a plugin is undone; what could not be undone is left for [`Cni::del`]. Until that has been called, a second
    /// ADD of a sandbox is refused.
    pub async fn add(&self, attachment: &Attachment) -> Result<Vec<String>, Error> {
        let list = self.inner.conf_dir.current()?;
        let namespace = netns::Identity::of_pod(&attachment.netns)?;
        netns::bring_up_loopback(&attachment.netns).await?;
        self.attach(&list, namespace, attachment).await
    }

    /// Takes a pod out of its network, as its ADD was done; without a record of that there is nothing to do.
    ///
    /// `netns` is where its namespace was; if another one, or none, is there now, plugins are told that it is gone. After a
    /// failure (also when a plugin isn't there any more) the record stays, and the next call tries again.
    pub async fn del(&self, container_id: &str, netns: Option<&str>) -> Result<(), Error> {
        let Some(saved) = self.load(container_id)? else { return Ok(()) };
        let netns = netns.filter(|path| saved.netns.is_at(path)).unwrap_or_default();
        let result = saved.added.as_ref().map(|added| &added.result);
        self.chain(&saved, netns).del(saved.list.plugins.len(), result).await?;
        self.forget(&saved)
    }

    /// The addresses of a sandbox whose ADD has succeeded; no process and, but for the first time, no file is read.
    pub fn addresses(&self, sandbox: &SandboxId) -> Option<Vec<String>> {
        let id = sandbox.as_str();
        let known = self.inner.addresses.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if known.is_some() {
            return known;
        }
        let mut addresses = self.known_addresses();
        let saved = self.load(id).unwrap_or_else(|error| {
            tracing::warn!(sandbox = id, %error, "addresses of a sandbox not read");
            None
        });
        let found = saved?.added?.addresses;
        addresses.insert(id.to_owned(), found.clone());
        Some(found)
    }

    /// The sandboxes that there is a record of.
    pub fn attached(&self) -> Vec<String> {
        self.inner.records.names().unwrap_or_else(|error| {
            tracing::warn!(%error, "records of network attachments can't be listed");
            Vec::new()
        })
    }

    async fn attach(
        &self,
        list: &NetworkList,
        netns: netns::Identity,
        attachment: &Attachment,
    ) -> Result<Vec<String>, Error> {
        if self.load(&attachment.container_id)?.is_some() {
            return Err(Error::Joined { container_id: attachment.container_id.clone() });
        }
        let pod_cidr = self.inner.pod_cidr.read().unwrap_or_else(PoisonError::into_inner).clone();
        let parameters = Parameters::of(attachment, &pod_cidr)?;
        let mut saved = Saved { list: list.clone(), parameters, netns, added: None };
        // no power loss leaves anything of a plugin's work but with the last one's result, which is written to last
        self.inner.records.save_unsynced(&attachment.container_id, &saved)?;
        let mut progress = Progress::default();
        let added = self.run_plugins(&mut saved, &attachment.netns, &mut progress).await;
        if added.is_err() {
            self.undo(&saved, &attachment.netns, &progress).await;
        }
        added
    }

    async fn run_plugins(&self, saved: &mut Saved, netns: &str, progress: &mut Progress) -> Result<Vec<String>, Error> {
        let addresses = self.chain(saved, netns).add(progress).await?;
        let result = progress.result.clone().unwrap_or_default();
        saved.added = Some(Added { result, addresses: addresses.clone() });
        self.save(saved, netns).await?;
        self.known_addresses().insert(saved.parameters.container_id.clone(), addresses.clone());
        Ok(addresses)
    }

    /// Undoes a failed ADD. The ADD's error is the answer; one of this is logged, and the record stays for a DEL to come.
    async fn undo(&self, saved: &Saved, netns: &str, progress: &Progress) {
        let deleted = self.chain(saved, netns).del(progress.called, progress.result.as_ref()).await;
        if let Err(error) = deleted.and_then(|()| self.forget(saved)) {
            let sandbox = &saved.parameters.container_id;
            tracing::warn!(sandbox, %error, "failed network of a sandbox not undone");
        }
    }

    fn chain<'a>(&'a self, saved: &'a Saved, netns: &'a str) -> Chain<'a> {
        let (bin, limit) = (&self.inner.dirs.bin, self.inner.limit);
        Chain { list: &saved.list, parameters: &saved.parameters, netns, bin, limit }
    }

    /// Writes the record to last, and the cache for others, off the threads that serve requests.
    async fn save(&self, saved: &Saved, netns: &str) -> Result<(), Error> {
        let (inner, saved, netns) = (self.inner.clone(), saved.clone(), netns.to_owned());
        let container_id = saved.parameters.container_id.clone();
        let write = move || {
            inner.records.save(&saved.parameters.container_id, &saved)?;
            if let Err(error) = cache::write(&inner.dirs.cache, &saved, &netns) {
                let dir = inner.dirs.cache.display();
                tracing::warn!(sandbox = saved.parameters.container_id, %dir, %error, "CNI cache not written");
            }
            Ok(())
        };
        let written = tokio::task::spawn_blocking(write).await;
        written.unwrap_or_else(|source| Err(Error::Unwritten { container_id, source }))
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

    fn known_addresses(&self) -> RwLockWriteGuard<'_, HashMap<String, Vec<String>>> {
        self.inner.addresses.write().unwrap_or_else(PoisonError::into_inner)
    }
}
