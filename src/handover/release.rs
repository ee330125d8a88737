//! `dockershim release`: the node's pods go back to cri-dockerd as they run.
//!
//! ```text
//! no dockershim runs? ─▶ look at all pods ─▶ a checkpoint for each sandbox ─▶ each log is a link to Docker's file ─▶ what to recreate
//! ```
//!
//! It can be run again at any time: what is done already is done once more. What can't be done for one pod is told and holds up no
//! other. Our own state stays, but for the positions of logs: dockershim may come back, and then begins them anew.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Error;
use super::checkpoint::{Checkpoint, Checkpoints};
use crate::cni::Cni;
use crate::config::Config;
use crate::cri::NamespaceMode;
use crate::engine::model::ContainerInspect;
use crate::engine::{self, Engine, Timeouts};
use crate::index::model::{Container, Sandbox};
use crate::log::{Format, LogPath, Pumps};
use crate::record::Records;
use crate::server;
use crate::translate::sandbox::pod_name;
use crate::translate::{container, label, port, sandbox};

/// How long the engine may take to tell about one container.
const INSPECT_LIMIT: Duration = Duration::from_secs(20);

/// Hands all pods over to a cri-dockerd with this root directory, and tells of each in `out`; with `dry_run` it only tells. Whether
/// all of it could be done.
pub async fn run(config: &Config, root: &Path, dry_run: bool, out: &mut dyn Write) -> Result<bool, Error> {
    let hands = if dry_run { None } else { Some(Hands::open(config, root)?) };
    let found = Found::look(config).await.map_err(|source| Error::Engine { source })?;
    let mut report = Report { out, whole: true };
    let told = tell_all(&found, hands.as_ref(), &mut report).await;
    told.map_err(|source| Error::Tell { source })?;
    Ok(report.whole)
}

async fn tell_all(found: &Found, hands: Option<&Hands>, report: &mut Report<'_>) -> io::Result<()> {
    let pod = |sandbox: &Sandbox| pod_name(Some(&sandbox.metadata));
    for (sandbox, inspect) in &found.sandboxes {
        let written = hands.map_or(Ok(()), |hands| hands.write_checkpoint(sandbox, inspect));
        report.line(&format!("pod {}: checkpoint of sandbox {}", pod(sandbox), sandbox.id), written)?;
    }
    for container in &found.containers {
        let (name, log, spool) = (container.docker_name(), container.log_path(), container.spool_path());
        let linked = match hands {
            Some(hands) => hands.link_log(container).await,
            None => Ok(()),
        };
        report.line(&format!("container {name}: log {log} -> {spool}"), linked)?;
    }
    for (sandbox, _) in found.sandboxes.iter().filter(|(sandbox, _)| sandbox.bare && !sandbox.has_ended()) {
        writeln!(
            report.out,
            "recreate pod {}: the Engine has no network sandbox for it, so containers that cri-dockerd starts there have neither \
             the pod's resolv.conf nor its hosts and hostname",
            pod(sandbox)
        )?;
    }
    Ok(())
}

/// What there is.
struct Found {
    /// In the order of the listing.
    sandboxes: Vec<(Sandbox, ContainerInspect)>,
    /// Those that have a log.
    containers: Vec<Container>,
}

impl Found {
    async fn look(config: &Config) -> Result<Found, engine::Error> {
        let engine = Engine::new(config.docker_socket.clone(), Timeouts::default())?;
        engine.negotiate().await?;
        let mut found = Found { sandboxes: Vec::new(), containers: Vec::new() };
        for listed in engine.list(label::TYPE).await? {
            let inspect = match engine.inspect(&listed.id, INSPECT_LIMIT).await {
                Ok(inspect) => inspect,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            if let Some(sandbox) = sandbox::from_inspect(&inspect) {
                found.sandboxes.push((sandbox, inspect));
            } else if let Some(container) = container::from_inspect(&inspect).filter(has_log) {
                found.containers.push(container);
            }
        }
        Ok(found)
    }
}

/// Docker's own file of it is there, and somebody wants to read it.
fn has_log(container: &Container) -> bool {
    !container.log_path.is_empty() && !container.spool_path.is_empty()
}

/// What does it. As long as they are held, no dockershim can be started.
struct Hands {
    checkpoints: Checkpoints,
    pumps: Pumps,
    cni: Cni,
    _lock: server::StateLock,
}

impl Hands {
    fn open(config: &Config, root: &Path) -> Result<Hands, Error> {
        let lock = server::claim(&config.state_dir).map_err(|source| match source {
            server::Error::StateDirTaken { path: _, holder } => Error::Running { holder },
            source => Error::State { source },
        })?;
        let records = |dir: PathBuf| Records::open(dir).map_err(|source| Error::Records { source });
        Ok(Hands {
            checkpoints: Checkpoints::open(root).map_err(|source| Error::Records { source })?,
            pumps: Pumps::new(records(config.state_dir.join("logs"))?, Format::Docker),
            cni: Cni::new(config.cni.clone(), records(config.state_dir.join("network"))?),
            _lock: lock,
        })
    }

    fn write_checkpoint(&self, sandbox: &Sandbox, inspect: &ContainerInspect) -> Result<(), String> {
        let published = port::published_by_engine(&inspect.host_config.port_bindings);
        let mappings = if published.is_empty() { self.cni.port_mappings(&sandbox.id) } else { published };
        let checkpoint = Checkpoint {
            name: sandbox.metadata.name.clone(),
            namespace: sandbox.metadata.namespace.clone(),
            port_mappings: mappings.into_iter().map(Into::into).collect(),
            host_network: sandbox.namespaces.network() == NamespaceMode::Node,
        };
        self.checkpoints.write(sandbox.id.as_str(), &checkpoint).map_err(|error| error.to_string())
    }

    async fn link_log(&self, container: &Container) -> Result<(), String> {
        let path = LogPath::from_joined(&container.log_path()).map_err(|error| error.to_string())?;
        let linked = self.pumps.hand_back(&container.id, container.spool_path().into(), path).await;
        linked.map_err(|error| error.to_string())
    }
}

struct Report<'a> {
    out: &'a mut dyn Write,
    whole: bool,
}

impl Report<'_> {
    fn line(&mut self, what: &str, done: Result<(), impl Display>) -> io::Result<()> {
        match done {
            Ok(()) => writeln!(self.out, "{what}"),
            Err(error) => {
                self.whole = false;
                writeln!(self.out, "{what}: NOT DONE: {error}")
            }
        }
    }
}
