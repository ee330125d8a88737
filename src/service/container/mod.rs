//! Verbs about containers.

mod create;
mod exec_sync;
mod list;
mod remove;
mod reopen_log;
mod start;
mod stop;
mod update;

pub use create::create_container;
pub use exec_sync::exec_sync;
pub use list::{container_status, list_containers};
pub use remove::remove_container;
pub use reopen_log::reopen_container_log;
pub use start::start_container;
pub use stop::stop_container;
pub use update::update_container_resources;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::index::model::{Container, State};
use crate::service::Daemon;

/// A container that must be running for what is asked.
fn running(daemon: &Daemon, id: &str) -> Result<Arc<Container>> {
    let container = daemon.index.table().container(id)?;
    if container.state == State::Running {
        return Ok(container);
    }
    Err(Error::FailedPrecondition(format!("container {} is not running", container.docker_name)))
}
