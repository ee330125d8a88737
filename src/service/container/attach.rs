//! Attach: checks what is asked for and tells where the client may get it.

use super::{running, wants};
use crate::cri;
use crate::error::Result;
use crate::service::{Daemon, required};
use crate::stream::{Attach, Grant, Wants};

/// Answers Attach with a URL that is good once.
pub async fn attach(daemon: &Daemon, request: cri::AttachRequest) -> Result<cri::AttachResponse> {
    let cri::AttachRequest { container_id, stdin, tty, stdout, stderr } = request;
    let id = required("container_id", &container_id)?;
    // `kubectl attach` asks for both of a container with a terminal, whose output is one
    let wants = wants(Wants { tty, stdin, stdout, stderr: stderr && !tty })?;
    daemon.index.synced().await?;
    let container = running(daemon, id)?.id.clone();
    Ok(cri::AttachResponse { url: daemon.streams.url(Grant::Attach(Attach { container, wants }))? })
}
