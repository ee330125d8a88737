//! Limits that Docker's API has no field for: written beside the Engine when a container starts, after every update, and whenever
//! something else has written over them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::index::model::{Container, State};
use crate::process;
use crate::service::Daemon;
use crate::translate::resources::tell_wishes;

/// Between two looks whether limits still hold.
const PERIOD: Duration = Duration::from_secs(30);

/// Writes all that a container wishes for into its cgroup and tells the index what has become of it. One that has ended meanwhile
/// is left alone.
pub(super) fn write(daemon: &Daemon, container: &Container, pid: i32) -> Result<()> {
    let begun = Instant::now();
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::internal(format!("limits of container {}", container.docker_name()), error)
    };
    if let Some(score) = container.oom_score_wish {
        match std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
            Err(error) if process::has_ended(&error) => {}
            written => written.map_err(|error| failed(error.into()))?,
        }
    }
    if container.cgroup_wishes.is_empty() {
        return Ok(());
    }
    let cgroup = match Cgroup::of_pid(pid) {
        Err(error) if error.is_gone() => return Ok(()),
        cgroup => cgroup.map_err(|error| failed(error.into()))?,
    };
    let wishes = container.cgroup_wishes.to_map();
    cgroup.write(&wishes).map_err(|error| failed(error.into()))?;
    let held = cgroup.read_back(&wishes);
    daemon.index.edit_container(&container.id, |known| known.resources.edit(|resources| tell_wishes(resources, &held)));
    tracing::debug!(held = held.len(), took_us = begun.elapsed().as_micros(), "limits beside docker are written");
    Ok(())
}

/// Holds the limits of all running containers for as long as the daemon runs: from its start on, since nobody did before.
pub async fn keep_limits(daemon: Arc<Daemon>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if daemon.index.synced().await.is_err() {
            ticks.reset_after(Duration::from_secs(1));
            continue;
        }
        let wishful = |known: &&Arc<Container>| known.state == State::Running && !known.cgroup_wishes.is_empty();
        let containers: Vec<_> = daemon.index.table().containers().filter(wishful).cloned().collect();
        for container in containers {
            let _lock = daemon.locks.hold(&container.docker_name()).await;
            hold(&daemon, &container);
        }
    }
}

fn hold(daemon: &Daemon, container: &Container) {
    let Ok(now) = daemon.index.table().container(container.id.as_str()) else { return };
    if now.state != State::Running || now.pid <= 0 {
        return;
    }
    match Cgroup::of_pid(now.pid).and_then(|cgroup| cgroup.hold(&now.cgroup_wishes.to_map())) {
        Ok(true) => tracing::info!(container = %now.id, "limits that something else had changed are written again"),
        Ok(false) => {}
        Err(error) if error.is_gone() => {}
        Err(error) => tracing::warn!(container = %now.id, %error, "limits no longer hold"),
    }
}
