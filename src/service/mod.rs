//! The verbs: one file per RPC, orchestration only. A verb checks, asks engine, network and index in order, and builds the reply.
//!
//! **Invariants**: a verb that changes something runs in a task of its own ([`detached`]), because the server drops a handler at
//! its client's deadline; no lock is held while a container's stop is waited for.

mod batches;
pub mod container;
pub mod image;
pub mod leftovers;
mod names;
pub mod node;
mod probe;
pub mod sandbox;
pub mod stats;
mod steps;
mod subject;

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tracing::Instrument;

use crate::cni::Cni;
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::etc::Etc;
use crate::figures::{Failures, Timings};
use crate::index::Index;
pub(crate) use crate::index::now_ns;
use crate::locks::Locks;
use crate::log::Pumps;
use crate::record::Records;
use crate::stream::Streams;
use crate::translate::security::seccomp_profile;
pub use batches::Replies;
use batches::in_batches;
pub use subject::Subject;
use subject::{Known, is_about};

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
    /// Files in `/etc` of pods in whose network the Engine has no part.
    pub etc: Etc,
    /// Exec, attach and port-forward.
    pub streams: Streams,
    /// What pods may use in all, by sandbox.
    pod_resources: Records,
    /// One lock per Docker name: a sandbox's for Run, Stop, Remove and creates in it, a container's for Start, Update, Remove.
    locks: Locks,
    /// Ports of the node that pods on their way will hold.
    host_ports: sandbox::Claims,
    /// What is known of what running containers use.
    stats: stats::Stats,
    /// What images take.
    image_bytes: image::ImageBytes,
    /// Users and groups of images.
    accounts: probe::SeenAccounts,
    /// What images have by a path, and what not.
    image_paths: probe::SeenPaths,
    /// Image pulls under way.
    pulls: image::Pulls,
    /// How long RPCs take.
    pub rpcs: Timings<&'static str>,
    /// The last ones that failed.
    pub failures: Failures,
    /// What the kubelet has told of the node.
    told: node::Told,
    /// When we were started, in nanoseconds since the epoch.
    started_at_ns: i64,
    /// Raises OOM scores below it.
    oom_score_floor: Option<i64>,
}

/// What is kept on disk of pods.
pub struct Kept {
    /// Files in `/etc` of pods in whose network the Engine has no part.
    pub etc: Etc,
    /// What pods may use in all, by sandbox.
    pub pod_resources: Records,
}

impl Daemon {
    /// Puts the handles together; what the kubelet has told an earlier process of ours counts more than the configuration.
    pub fn new(
        config: Config,
        engine: Engine,
        index: Index,
        pumps: Pumps,
        cni: Cni,
        streams: Streams,
        kept: Kept,
    ) -> Arc<Self> {
        let Kept { etc, pod_resources } = kept;
        let told = node::Told::open(&config.state_dir);
        told.pod_cidrs().into_iter().for_each(|cidrs| cni.set_pod_cidrs(cidrs));
        let oom_score_floor = node::oom_score_floor(config.restrict_oom);
        Arc::new(Daemon {
            config,
            engine,
            index,
            pumps,
            cni,
            etc,
            streams,
            pod_resources,
            locks: Locks::default(),
            host_ports: sandbox::Claims::default(),
            stats: stats::Stats::default(),
            image_bytes: image::ImageBytes::default(),
            accounts: probe::SeenAccounts::default(),
            image_paths: probe::SeenPaths::default(),
            pulls: image::Pulls::default(),
            rpcs: Timings::default(),
            failures: Failures::default(),
            told,
            started_at_ns: now_ns(),
            oom_score_floor,
        })
    }
}

/// Runs a verb to its end even if its caller goes away.
pub fn detached<T: Send + 'static>(
    verb: impl Future<Output = Result<T>> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send {
    // boxed, since each of the futures around it would have room for it twice: 150 KiB for a CreateContainer
    let verb = Box::pin(verb);
    async move {
        let subject = Subject::current();
        match tokio::spawn(async move { subject.of(verb).await }.in_current_span()).await {
            Ok(result) => result,
            Err(panicked) => Err(Error::internal("the verb's task", panicked)),
        }
    }
}

/// Tells an equal request from a different one: the first 32 hexadecimal digits of its SHA-256.
fn fingerprint(request: &impl prost::Message) -> String {
    let digest = Sha256::digest(request.encode_to_vec());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// A required id of a request: `pod_sandbox_id` or `container_id`. What is logged on the request's behalf carries it from now on.
fn required<'a>(field: &str, id: &'a str) -> Result<&'a str> {
    if id.is_empty() {
        return Err(Error::invalid(field, "is empty"));
    }
    is_about(if field == "container_id" { Known::Container } else { Known::Sandbox }, id);
    Ok(id)
}

/// Of a seccomp profile: the Engine's own has 20 KiB.
const MOST_SECCOMP_BYTES: u64 = 1 << 20;

/// The content of a localhost seccomp profile, which the Engine wants whole; `field` names it in the request.
fn read_seccomp(field: &str, file: Option<&str>) -> Result<Option<String>> {
    let Some(path) = file else { return Ok(None) };
    let wrong = |reason: String| Error::invalid(field, reason);
    if !path.starts_with('/') {
        return Err(wrong(format!("{path:?} is not an absolute path")));
    }
    let content = read_file(path).map_err(|error| wrong(format!("{path} can't be read: {error}")))?;
    let profile = content.ok_or_else(|| wrong(format!("{path} has more than {MOST_SECCOMP_BYTES} bytes")))?;
    seccomp_profile(&profile).map(Some).map_err(|reason| wrong(format!("{path} {reason}")))
}

/// A file's text; None when there is too much of it. A pipe in its place must not hold anybody up.
fn read_file(path: &str) -> std::io::Result<Option<String>> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    file.take(MOST_SECCOMP_BYTES + 1).read_to_string(&mut text)?;
    Ok((u64::try_from(text.len()).unwrap_or(u64::MAX) <= MOST_SECCOMP_BYTES).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_verb_is_held_once() {
        let state = [0_u8; 8 << 10];
        let verb = async move {
            std::future::ready(()).await;
            Ok(state.len())
        };
        let detached = detached(verb);
        assert!(size_of_val(&detached) < 1 << 10, "{} bytes", size_of_val(&detached));
    }

    #[test]
    fn a_seccomp_profile_is_a_file_of_bounded_size() {
        let dir = std::env::temp_dir().join(format!("dockershim-seccomp-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = |name: &str| dir.join(name).display().to_string();
        let whole = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;
        std::fs::write(path("good"), whole).unwrap();
        std::fs::write(path("huge"), format!("{whole}{}", " ".repeat(10 << 20))).unwrap();
        std::fs::write(path("text"), "no profile").unwrap();
        std::fs::write(path("bytes"), b"\xff\xfe").unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let read = |name: &str| read_seccomp("field", Some(&path(name)));
        assert_eq!(read("good").unwrap().as_deref(), Some(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#));
        for bad in ["huge", "text", "bytes", "pipe", "missing", "."] {
            assert!(read(bad).unwrap_err().to_string().starts_with("field: "), "{bad}");
        }
        assert!(read_seccomp("field", Some("relative")).is_err() && read_seccomp("field", None).unwrap().is_none());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
