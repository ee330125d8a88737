//! Verbs about containers.

mod attach;
mod checkpoint;
mod create;
mod events;
mod exec;
mod exec_sync;
mod found;
mod limits;
mod list;
mod remove;
mod reopen_log;
mod start;
mod stop;
mod update;

pub use attach::attach;
pub use checkpoint::checkpoint_container;
pub use create::create_container;
pub use events::get_container_events;
pub use exec::exec;
pub use exec_sync::exec_sync;
pub use limits::keep_limits;
pub use list::{container_status, list_containers, stream_containers};
pub use remove::remove_container;
pub use reopen_log::reopen_container_log;
pub use start::start_container;
pub use stop::stop_container;
pub use update::update_container_resources;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::index::model::{Container, State};
use crate::service::Daemon;
use crate::stream::Wants;

/// A container that must be running for what is asked.
fn running(daemon: &Daemon, id: &str) -> Result<Arc<Container>> {
    let container = daemon.index.table().container(id)?;
    if container.state == State::Running {
        return Ok(container);
    }
    Err(Error::FailedPrecondition(format!("container {} is not running", container.docker_name())))
}

/// What a client wants of exec or attach must be something.
fn wants(wants: Wants) -> Result<Wants> {
    if wants.stdin || wants.stdout || wants.stderr {
        return Ok(wants);
    }
    Err(Error::invalid("stdin", "at least one of stdin, stdout and stderr must be asked for"))
}
