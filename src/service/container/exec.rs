//! Exec: checks what is asked for and tells where the client may get it. The process is started when the client comes.

use super::{running, wants};
use crate::cri;
use crate::error::{Error, Result};
use crate::service::{Daemon, required};
use crate::stream::{Exec, Grant, Wants};

/// Answers Exec with a URL that is good once.
pub async fn exec(daemon: &Daemon, request: cri::ExecRequest) -> Result<cri::ExecResponse> {
    let cri::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr } = request;
    let id = required("container_id", &container_id)?;
    if cmd.is_empty() {
        return Err(Error::invalid("cmd", "is empty"));
    }
    if tty && stderr {
        return Err(Error::invalid("stderr", "a terminal has one output, which is stdout"));
    }
    let wants = wants(Wants { tty, stdin, stdout, stderr })?;
    daemon.index.synced().await?;
    let container = running(daemon, id)?.id.clone();
    Ok(cri::ExecResponse { url: daemon.streams.url(Grant::Exec(Exec { container, command: cmd, wants }))? })
}
