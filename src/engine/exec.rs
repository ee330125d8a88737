//! `/exec/…`: a process in a running container, its output without a terminal and without input.

use bollard::models::ExecConfig;
use http::Method;

use super::model::ExecInspect;
use super::{Engine, Error, Output, within};
use crate::id::ExecId;

impl Engine {
    /// `POST /containers/{id}/exec`: prepares a process. A container that doesn't run is [`Error::Conflict`].
    pub async fn create_exec(&self, container: &str, command: &[String]) -> Result<ExecId, Error> {
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..ExecConfig::default()
        };
        let call = self.docker.create_exec(container, config);
        let created = within("create exec", self.timeouts.write, async { Ok(call.await?) }).await?;
        Ok(ExecId::new(created.id))
    }

    /// `POST /exec/{id}/start`: starts it and gives its output, which ends when the last holder of both streams has closed them.
    /// A command that can't be run shows as [`Error::BadRequest`] or as an exit code of 126 or 127, by engine version.
    pub async fn start_exec(&self, exec: &ExecId) -> Result<Output, Error> {
        let path = format!("/exec/{exec}/start");
        let start = self.send(Method::POST, &path, br#"{"Detach":false,"Tty":false}"#.to_vec());
        let response = within("start exec", self.timeouts.write, start).await?;
        Ok(Output::new(response.into_body()))
    }

    /// `GET /exec/{id}/json`.
    pub async fn inspect_exec(&self, exec: &ExecId) -> Result<ExecInspect, Error> {
        self.get("inspect exec", &format!("/exec/{exec}/json"), self.timeouts.read).await
    }
}
