//! `/exec/…`: a process in a running container, and the terminals' sizes. Attaching to a container's own process is here too:
//! it is the same connection.

use bollard::models::ExecConfig;
use http::Method;

use super::hijack::Hijacked;
use super::model::ExecInspect;
use super::{Engine, Error, encode, within};
use crate::id::ExecId;

/// The Engine watches a terminal's input for keys that detach (by default ctrl-p, which it then holds back until the next key).
/// They can't be switched off, only be made such that nobody types them.
const KEYS_NOBODY_TYPES: &str =
    "ctrl-@,ctrl-^,ctrl-@,ctrl-_,ctrl-@,ctrl-^,ctrl-@,ctrl-_,ctrl-@,ctrl-^,ctrl-@,ctrl-_,ctrl-^,ctrl-^,ctrl-_,ctrl-_";

/// What a process is given.
#[derive(Clone, Debug)]
pub struct ExecOptions<'a> {
    /// Program and arguments.
    pub command: &'a [String],
    /// A terminal, with one output for both.
    pub tty: bool,
    /// A standard input.
    pub stdin: bool,
    /// Its standard output is passed on.
    pub stdout: bool,
    /// Its standard error is passed on.
    pub stderr: bool,
}

impl Engine {
    /// `POST /containers/{id}/exec`: prepares a process. A container that doesn't run is [`Error::Conflict`].
    pub async fn create_exec(&self, container: &str, options: ExecOptions<'_>) -> Result<ExecId, Error> {
        let ExecOptions { command, tty, stdin, stdout, stderr } = options;
        let config = ExecConfig {
            attach_stdin: Some(stdin),
            attach_stdout: Some(stdout),
            attach_stderr: Some(stderr),
            tty: Some(tty),
            detach_keys: tty.then(|| KEYS_NOBODY_TYPES.to_owned()),
            cmd: Some(command.to_vec()),
            ..ExecConfig::default()
        };
        let call = self.docker.create_exec(container, config);
        let created = within("create exec", self.timeouts.write, async { Ok(call.await?) }).await?;
        Ok(ExecId::new(created.id))
    }

    /// `POST /exec/{id}/start`: starts it and gives its streams; the output ends when its last holder has closed it.
    /// A command that can't be run shows as [`Error::BadRequest`] or as an exit code of 126 or 127, by engine version.
    pub async fn start_exec(&self, exec: &ExecId, tty: bool) -> Result<Hijacked, Error> {
        let path = format!("/exec/{exec}/start");
        let body = format!(r#"{{"Detach":false,"Tty":{tty}}}"#).into_bytes();
        within("start exec", self.timeouts.write, self.hijack("start exec", &path, body, tty)).await
    }

    /// `POST /containers/{id}/attach`: the streams of a container's own process, from now on. `tty` is the container's.
    pub async fn attach(&self, container: &str, tty: bool, stdin: bool) -> Result<Hijacked, Error> {
        let keys = encode(KEYS_NOBODY_TYPES);
        let path = format!("/containers/{container}/attach?stream=1&stdin={stdin}&stdout=1&stderr=1&detachKeys={keys}");
        within("attach", self.timeouts.write, self.hijack("attach", &path, Vec::new(), tty)).await
    }

    /// `GET /exec/{id}/json`.
    pub async fn inspect_exec(&self, exec: &ExecId) -> Result<ExecInspect, Error> {
        self.get("inspect exec", &format!("/exec/{exec}/json"), self.timeouts.read).await
    }

    /// `POST /exec/{id}/resize`: a terminal's size in characters. Waits for the process to have started.
    pub async fn resize_exec(&self, exec: &ExecId, width: u16, height: u16) -> Result<(), Error> {
        self.resize("resize exec", &format!("/exec/{exec}"), width, height).await
    }

    /// `POST /containers/{id}/resize`: the same of a container's own terminal.
    pub async fn resize_container(&self, container: &str, width: u16, height: u16) -> Result<(), Error> {
        self.resize("resize container", &format!("/containers/{container}"), width, height).await
    }

    async fn resize(&self, call: &'static str, of: &str, width: u16, height: u16) -> Result<(), Error> {
        let path = format!("{of}/resize?h={height}&w={width}");
        within(call, self.timeouts.write, self.send(Method::POST, &path, Vec::new())).await.map(drop)
    }
}
