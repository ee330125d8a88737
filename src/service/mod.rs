//! The verbs: one file per RPC, orchestration only. A verb checks, asks engine, network and index in order, and builds the reply.
//!
//! **Invariants**: a verb that changes something runs in a task of its own ([`detached`]), because the server drops a handler at
//! its client's deadline; no lock is held while a container's stop is waited for.

mod batches;
pub mod container;
pub mod image;
pub mod leftovers;
mod locks;
mod names;
pub mod node;
pub mod sandbox;
pub mod stats;

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::cni::Cni;
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::index::Index;
pub(crate) use crate::index::now_ns;
use crate::log::Pumps;
use crate::record::Records;
use crate::stream::Streams;
pub use batches::Replies;
use batches::in_batches;
use locks::Locks;

/// What the verbs work with: handles only.
pub struct Daemon {
    /// The checked configuration.
    pub config: Config,
    /// Docker.
    pub engine: Engine,
    /// What exists.
    pub index: Index,
    /// Log files.
    pub pumps: Pumps,
    /// Pod networks.
    pub cni: Cni,
    /// Exec, attach and port-forward.
    pub streams: Streams,
    /// What pods may use in all, by sandbox.
    pod_resources: Records,
    /// One lock per Docker name: a sandbox's for Run, Stop, Remove and creates in it, a container's for Start, Update, Remove.
    locks: Locks,
    /// Cgroups of running containers.
    cgroups: stats::Cgroups,
    /// Raises OOM scores below it.
    oom_score_floor: Option<i64>,
}

impl Daemon {
    /// Puts the handles together.
    pub fn new(
        config: Config,
        engine: Engine,
        index: Index,
        pumps: Pumps,
        cni: Cni,
        streams: Streams,
        pod_resources: Records,
    ) -> Arc<Self> {
        let oom_score_floor = node::oom_score_floor(config.restrict_oom);
        Arc::new(Daemon {
            config,
            engine,
            index,
            pumps,
            cni,
            streams,
            pod_resources,
            locks: Locks::default(),
            cgroups: stats::Cgroups::default(),
            oom_score_floor,
        })
    }
}

/// Runs a verb to its end even if its caller goes away.
pub async fn detached<T: Send + 'static>(verb: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(verb).await {
        Ok(result) => result,
        Err(panicked) => Err(Error::internal("the verb's task", panicked)),
    }
}

/// Tells an equal request from a different one: the first 32 hexadecimal digits of its SHA-256.
fn fingerprint(request: &impl prost::Message) -> String {
    let digest = Sha256::digest(request.encode_to_vec());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// A required id of a request.
fn required<'a>(field: &str, id: &'a str) -> Result<&'a str> {
    if id.is_empty() { Err(Error::invalid(field, "is empty")) } else { Ok(id) }
}

/// The content of a localhost seccomp profile, which the Engine wants whole; `field` names it in the request.
fn read_seccomp(field: &str, file: Option<&str>) -> Result<Option<String>> {
    let Some(path) = file else { return Ok(None) };
    if !path.starts_with('/') {
        return Err(Error::invalid(field, format!("{path:?} is not an absolute path")));
    }
    let read = std::fs::read_to_string(path);
    let content = read.map_err(|error| Error::invalid(field, format!("{path} can't be read: {error}")))?;
    match serde_json::from_str::<serde_json::Value>(&content) {
        Ok(profile) => Ok(Some(profile.to_string())),
        Err(error) => Err(Error::invalid(field, format!("{path} is not JSON: {error}"))),
    }
}
