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
use crate::engine::{self, Output, Stream};
use crate::error::{Error, Result};
use crate::id::ExecId;
use crate::service::{Daemon, required};

/// Of each stream; the rest is read and dropped.
const MAX_OUTPUT_BYTES: usize = 16 << 20;
/// How long what the process has left in the pipes may take to be read once it has ended: whoever else holds them may go on.
const LINGER: Duration = Duration::from_millis(250);
/// How long the exit's event may lag behind the end of the output before the Engine is asked.
const EXIT_LAG: Duration = Duration::from_millis(100);
/// How long an event is trusted to come before the Engine is asked.
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
    let failed = |error: engine::Error| error.while_doing(doing.clone());
    let mut exit = Exit { daemon, exec, told: daemon.index.execs().expect(exec), patience: BACKSTOP };
    let mut output = daemon.engine.start_exec(exec).await.map_err(failed)?;
    let mut collected = Collected::default();
    let exit_code = match collected.until_end(&mut output, &mut exit).await.map_err(failed)? {
        Some(code) => code,
        None => {
            // the event may lag a little behind; a command that could not be run has none
            exit.patience = EXIT_LAG;
            exit.code().await.map_err(failed)?
        }
    };
    Ok(cri::ExecSyncResponse { stdout: collected.stdout, stderr: collected.stderr, exit_code })
}

/// The exit code to come: by event, and from the Engine when none comes.
struct Exit<'a> {
    daemon: &'a Daemon,
    exec: &'a ExecId,
    told: Receiver<i32>,
    /// How long the event is waited for before the Engine is asked.
    patience: Duration,
}

impl Exit<'_> {
    /// Waits for it. Safe to drop while waiting.
    async fn code(&mut self) -> Result<i32, engine::Error> {
        loop {
            match timeout(self.patience, &mut self.told).await {
                Ok(Ok(code)) => return Ok(code),
                // the event stream broke: the next one may tell
                Ok(Err(_)) => self.told = self.daemon.index.execs().expect(self.exec),
                Err(_) => {}
            }
            let inspect = self.daemon.engine.inspect_exec(self.exec).await?;
            match inspect.exit_code {
                Some(code) if !inspect.running => return Ok(code),
                _ => self.patience = BACKSTOP,
            }
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
    /// Reads until the output ends (None) or the process has and what it left is read (its exit code).
    async fn until_end(&mut self, output: &mut Output, exit: &mut Exit<'_>) -> Result<Option<i32>, engine::Error> {
        let code = loop {
            tokio::select! {
                chunk = output.next() => match chunk? {
                    Some((stream, bytes)) => self.take(stream, &bytes),
                    None => return Ok(None),
                },
                code = exit.code() => break code?,
            }
        };
        let _ = timeout(LINGER, async {
            while let Ok(Some((stream, bytes))) = output.next().await {
                self.take(stream, &bytes);
            }
        })
        .await;
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
