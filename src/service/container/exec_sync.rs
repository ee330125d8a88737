//! ExecSync: a command in a running container, its output and exit code; what exec probes and lifecycle hooks are made of.
//!
//! ```text
//! create ─▶ start ─▶ output … until both streams end, or the process has ended and no more comes ─▶ exit code (exec_die event)
//!                       └─ time is up ─▶ the process and its group are killed ─▶ DeadlineExceeded
//! ```
//!
//! No lock is taken. The Engine ends the output only when its last holder closes it: a child left in the background must not
//! hang a probe, so the process's own end counts too.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::{Instant, sleep, timeout};

use super::running;
use crate::cri;
use crate::engine::{self, ExecOptions, Output, Stream};
use crate::error::{Error, Result};
use crate::id::ExecId;
use crate::index::ExecExit;
use crate::service::{Daemon, required};

/// Of each stream; the rest is read and dropped.
const MAX_OUTPUT_BYTES: usize = 16 << 20;
/// How long what the process has left in the pipes may take to be read once it has ended: whoever else holds them may go on.
const LINGER: Duration = Duration::from_millis(250);
/// How long a process may take to come to be when its time is up already.
const START_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(20);

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
    let doing = || format!("exec in container {}", container.docker_name());
    let options = ExecOptions { command: &cmd, tty: false, stdin: false, stdout: true, stderr: true };
    let exec = match daemon.engine.create_exec(container.id.as_str(), options).await {
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
                what: format!("{cmd:?} in container {}", container.docker_name()),
                after: limit,
            })
        }
    }
}

/// Starts the process and stays with it to its end.
async fn run(daemon: &Daemon, exec: &ExecId, doing: String) -> Result<cri::ExecSyncResponse> {
    let failed = |error: engine::Error| error.while_doing(doing.clone());
    let mut exit = daemon.index.exec_exit(exec);
    let mut streams = daemon.engine.start_exec(exec, false).await.map_err(failed)?;
    let mut collected = Collected::default();
    let exit_code = match collected.until_end(&mut streams.output, &mut exit).await.map_err(failed)? {
        Some(code) => code,
        None => {
            exit.is_near();
            exit.code().await.map_err(failed)?
        }
    };
    Ok(cri::ExecSyncResponse { stdout: collected.stdout, stderr: collected.stderr, exit_code })
}

/// Output so far.
#[derive(Default)]
struct Collected {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Collected {
    /// Reads until the output ends (None) or the process has and what it left is read (its exit code).
    async fn until_end(&mut self, output: &mut Output, exit: &mut ExecExit) -> Result<Option<i32>, engine::Error> {
        // asked for once: each chunk would otherwise set its timers anew, and one that prints for ever would never be asked after
        let mut ended = pin!(exit.code());
        let code = loop {
            tokio::select! {
                chunk = output.next() => match chunk? {
                    Some((stream, bytes)) => self.take(stream, &bytes),
                    None => return Ok(None),
                },
                code = &mut ended => break code?,
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

/// Ends the exec's process and its group: the Engine has no call for it. One that is still being started is waited for.
async fn kill(daemon: &Daemon, exec: &ExecId) {
    let end = Instant::now() + START_LIMIT;
    let pid = loop {
        match daemon.engine.inspect_exec(exec).await {
            Ok(inspect) if inspect.running && inspect.pid > 1 => break Pid::from_raw(inspect.pid),
            Ok(inspect) if inspect.exit_code.is_some() && !inspect.running => return,
            Ok(_) if Instant::now() < end => sleep(LOOK).await,
            Ok(_) => break None,
            Err(error) => {
                tracing::warn!(%exec, %error, "a process that overran its time can't be found");
                return;
            }
        }
    };
    let Some(pid) = pid else {
        return tracing::warn!(%exec, "a process that overran its time has not come to be");
    };
    // runc makes it the leader of a group of its own
    let killed = kill_process_group(pid, Signal::KILL).or_else(|_| kill_process(pid, Signal::KILL));
    if let Err(error) = killed {
        tracing::debug!(%exec, %error, "a process that overran its time has ended by itself");
    }
}
