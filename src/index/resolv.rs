//! A pod's resolv.conf: the Engine's own file of the pause container is given the exact content that the pod asked for, which
//! stands in a label. Written in place, so that whoever has bound it sees it; held against the label whenever the sandbox is
//! looked at, so that neither a kill of ours in the midst of RunPodSandbox nor the Engine takes it away.

use super::Index;
use super::model::Sandbox;
use crate::error::{Error, Result};

impl Index {
    /// Writes what the pod asked for, unless it stands there; without a wish the Engine's content stays. Where the Engine makes no
    /// such file, there is none to be kept.
    pub async fn keep_resolv_conf(&self, sandbox: &Sandbox) -> Result<()> {
        let path = &sandbox.resolv_conf_path;
        let Some(wanted) = sandbox.resolv_conf.as_ref().filter(|_| !sandbox.bare) else { return Ok(()) };
        if path.is_empty() {
            let text = format!("sandbox {}: the engine made no resolv.conf to hold dns_config", sandbox.docker_name);
            return Err(Error::FailedPrecondition(text));
        }
        if tokio::fs::read(path).await.is_ok_and(|found| found == wanted.as_bytes()) {
            return Ok(());
        }
        tokio::fs::write(path, wanted).await.map_err(|error| Error::internal(format!("write {path}"), error))
    }
}
