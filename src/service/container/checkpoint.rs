//! CheckpointContainer, which is refused: the reason is the Engine's.

use crate::cri;
use crate::error::{Error, Result};
use crate::service::Daemon;

/// Answers CheckpointContainer.
pub async fn checkpoint_container(
    _: &Daemon,
    request: cri::CheckpointContainerRequest,
) -> Result<cri::CheckpointContainerResponse> {
    let cri::CheckpointContainerRequest { container_id, location: _, timeout: _ } = request;
    Err(Error::Unimplemented(format!(
        "container {container_id} can't be checkpointed: the docker engine does it only with CRIU as an experimental daemon, and \
         can't restore what the archive that CRI wants holds"
    )))
}
