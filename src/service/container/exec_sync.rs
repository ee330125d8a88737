//! ExecSync: a command in a running container, its output and exit code; what exec probes and lifecycle hooks are made of.
//!
//! ```text
//! create ─▶ start ─▶ output … until both streams end, or the process has ended and no more comes ─▶ exit code (exec_die event)
//!                       └─ time is up ─▶ the process and its group are killed ─▶ DeadlineExceeded
//! ```
//!
//! No lock is taken. The Engine ends the output only when its last holder closes it: a child left in the background must not
//! hang a probe, so the process's own end counts too.

use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::sync::oneshot::Receiver;
use tokio::time::timeout;

use super::running;
use crate::cri;
use crate::engine::{Output, Stream};
use crate::error::{Error, Result};
use crate::id::ExecId;
use crate::service::{Daemon, required};

/// Of each stream; the rest is read and dropped.
const MAX_OUTPUT_BYTES: usize = 16 << 20;
/// How long to wait for more output once the process has ended.
const LINGER: Duration = Duration::from_millis(100);
/// How long the exit's event may lag behind the end of the output before the Engine is asked.
const EXIT_LAG: Duration = Duration::from_millis(100);
/// Between two looks at an exec whose event doesn't come.
const BACKSTOP: Duration = Duration::from_secs(2);

/// Answers ExecSync. A timeout of 0 s is none.
pub async fn exec_sync(daemon: &Daemon, request: cri::ExecSyncRequest) -> Result<cri::ExecSyncResponse> {
    let cri::ExecSyncRequest { container_id, cmd, timeout: timeout_s } = request;
    let id = required("container_id", &container_id)?;
    if cmd.is_empty() {
        return Err(Error::invalid("cmd", "is empty"));
    }
    let wrong = |_| Error::invalid("timeout", format!("{timeout_s} s is below 0"));
    let limit = Duration::from_secs(u64::try_from(timeout_s).map_err(wrong)?);
    daemon.index.synced().await?;
    let container = running(daemon, id)?;
    let doing = || format!("exec in container {}", container.docker_name);
    let exec = match daemon.engine.create_exec(container.id.as_str(), &cmd).await {
        Err(error) if error.is_not_found() => return Err(Error::no_container(id)),
        created => created.map_err(|error| error.while_doing(doing()))?,
    };
    let running = run(daemon, &exec, doing());
    if limit.is_zero() {
        return running.await;
    }
    match timeout(limit, running).await {
        Ok(answer) => answer,
        Err(_) => {
            kill(daemon, &exec).await;
            Err(Error::DeadlineExceeded {
                what: format!("{cmd:?} in container {}", container.docker_name),
                after: limit,
            })
        }
    }
}

/// Starts the process and stays with it to its end.
async fn run(daemon: &Daemon, exec: &ExecId, doing: String) -> Result<cri::ExecSyncResponse> {
    let mut exited = daemon.index.execs().expect(exec);
    let mut output = daemon.engine.start_exec(exec).await.map_err(|error| error.while_doing(doing.clone()))?;
    let mut collected = Collected::default();
    let told = collected.until_end(&mut output, &mut exited).await.map_err(|error| error.while_doing(doing.clone()))?;
    let exit_code = match told {
        Some(code) => code,
        None => exit_code(daemon, exec, exited, doing).await?,
    };
    Ok(cri::ExecSyncResponse { stdout: collected.stdout, stderr: collected.stderr, exit_code })
}

/// The exit code after the output's end: by event, or from the Engine when none comes (a command that could not run has none).
async fn exit_code(daemon: &Daemon, exec: &ExecId, mut exited: Receiver<i32>, doing: String) -> Result<i32> {
    let mut patience = EXIT_LAG;
    loop {
        match timeout(patience, &mut exited).await {
            Ok(Ok(code)) => return Ok(code),
            // the event stream broke: no event will come
            Ok(Err(_)) => exited = daemon.index.execs().expect(exec),
            Err(_) => {}
        }
        let inspect = daemon.engine.inspect_exec(exec).await.map_err(|error| error.while_doing(doing.clone()))?;
        match inspect.exit_code {
            Some(code) if !inspect.running => return Ok(code),
            _ => patience = BACKSTOP,
        }
    }
}

/// Output so far.
#[derive(Default)]
struct Collected {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Collected {
    /// Reads until the output ends (None) or the process has and nothing more comes (its exit code).
    async fn until_end(
        &mut self,
        output: &mut Output,
        exited: &mut Receiver<i32>,
    ) -> Result<Option<i32>, crate::engine::Error> {
        let code = loop {
            tokio::select! {
                chunk = output.next() => match chunk? {
                    Some((stream, bytes)) => self.take(stream, &bytes),
                    None => return Ok(None),
                },
                Ok(code) = &mut *exited => break code,
            }
        };
        while let Ok(Some((stream, bytes))) = timeout(LINGER, output.next()).await.unwrap_or(Ok(None)) {
            self.take(stream, &bytes);
        }
        Ok(Some(code))
    }

    fn take(&mut self, stream: Stream, bytes: &Bytes) {
        let into = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = MAX_OUTPUT_BYTES - into.len();
        into.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Ends the exec's process and its group: the Engine has no call for it.
async fn kill(daemon: &Daemon, exec: &ExecId) {
    let pid = match daemon.engine.inspect_exec(exec).await {
        Ok(inspect) if inspect.running => Pid::from_raw(inspect.pid).filter(|pid| pid.as_raw_nonzero().get() > 1),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%exec, %error, "a process that overran its time can't be found");
            None
        }
    };
    let Some(pid) = pid else { return };
    // runc makes it the leader of a group of its own
    let killed = kill_process_group(pid, Signal::KILL).or_else(|_| kill_process(pid, Signal::KILL));
    if let Err(error) = killed {
        tracing::debug!(%exec, %error, "a process that overran its time has ended by itself");
    }
}
