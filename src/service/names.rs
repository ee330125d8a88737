//! Names that the Engine says are taken although the index has nothing by them: a leftover of ours, or somebody else's.

use crate::error::{Error, Result};
use crate::service::Daemon;
use crate::translate::{container, sandbox};

impl Daemon {
    /// Removes what holds a name if it is ours and doesn't run; `conflict` is the Engine's message, told when it can't be.
    pub(super) async fn clear_name(&self, docker_name: &str, conflict: &str) -> Result<()> {
        let doing = || format!("clear the name {docker_name}");
        let holder = match self.engine.inspect(docker_name, Self::INSPECT_LIMIT).await {
            Err(error) if error.is_not_found() => return Ok(()),
            holder => holder.map_err(|error| error.while_doing(doing()))?,
        };
        let ours = sandbox::from_inspect(&holder).is_some() || container::from_inspect(&holder).is_some();
        if !ours || holder.state.running {
            return Err(Error::AlreadyExists(conflict.to_owned()));
        }
        tracing::info!(name = docker_name, id = holder.id, "a dead holder of the name is removed");
        match self.engine.remove(&holder.id).await {
            Err(error) if !error.is_not_found() => Err(error.while_doing(doing())),
            _ => {
                self.index.remove(&holder.id);
                Ok(())
            }
        }
    }
}
