//! The files in `/etc` of a pod in whose network the Engine has no part: there before RunPodSandbox answers, looked for again before
//! each container that mounts them, gone with the sandbox.

use tokio::task::spawn_blocking;

use crate::error::{Error, Result};
use crate::index::model::Sandbox;
use crate::service::Daemon;
use crate::translate;

impl Daemon {
    /// The directory of a sandbox's files, which are written where they are missing; None where the Engine makes them.
    pub(in crate::service) async fn keep_etc(&self, sandbox: &Sandbox) -> Result<Option<String>> {
        if !sandbox.bare {
            return Ok(None);
        }
        let (etc, id, content) = (self.etc.clone(), sandbox.id.to_string(), translate::etc::content(sandbox));
        let doing = || format!("files of sandbox {}", sandbox.docker_name);
        let kept = spawn_blocking(move || etc.keep(&id, &content)).await;
        kept.map_err(|error| Error::internal(doing(), error))?.map_err(|error| Error::internal(doing(), error))?;
        Ok(Some(self.etc.of(sandbox.id.as_str()).display().to_string()))
    }

    /// Removes the files of a sandbox that is gone. What can't be removed is tried again at the next start.
    pub(in crate::service) async fn remove_etc(&self, sandbox: &str) {
        let (etc, id) = (self.etc.clone(), sandbox.to_owned());
        let removed = spawn_blocking(move || etc.remove(&id)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(sandbox, %error, "files of a sandbox that is gone stay");
        }
    }
}
